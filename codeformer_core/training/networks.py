"""Networks to begin with: the teacher, a fresh network of a stage, one that continues from an earlier stage.

A network's fingerprint is over the numbers that give a face its codes: encoder and codebook.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from ..models.checkpoints import open_checkpoint
from ..networks.codeformer import CodeFormer, CodeFormerConfig
from ..networks.vqgan import AutoencoderConfig, VQAutoencoder, VQNetwork
from ..weights.reading import WeightsError
from . import WEIGHTS_NAME
from .engine.freezing import initialise


@dataclass(frozen=True)
class Trained:
    """A network from a file, what it was trained for, and further tasks that it learned."""

    network: VQAutoencoder | CodeFormer
    task: str
    also: tuple[str, ...] = ()


def read_network(source: Path) -> Trained:
    """A file, or a run's folder. Raises WeightsError naming the file."""
    path = source / WEIGHTS_NAME if source.is_dir() else source
    opened = open_checkpoint(path)
    checkpoint, state = opened.checkpoint, opened.state
    for key, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(
                f"{path}: {key} holds values that are not numbers; its training failed, take an earlier one"
            )
    network = checkpoint.build(state)
    if not isinstance(network, VQAutoencoder | CodeFormer):
        raise WeightsError(
            f"{path} is a {checkpoint.architecture.title}; only CodeFormers and their autoencoders are trained here: "
            "name one of these"
        )
    return Trained(network, checkpoint.task, checkpoint.also)


def read_teacher(source: Path, wanted: AutoencoderConfig) -> VQAutoencoder:
    """Stage I's network. Raises ValueError when the file is another stage's, or sizes differ (both values)."""
    teacher = read_network(source)
    if not isinstance(teacher.network, VQAutoencoder):
        raise ValueError(
            f"--teacher {source}: this is a CodeFormer (stage II or later, for {teacher.task}), whose encoder has "
            "learned from degraded faces; the teacher must be stage I's autoencoder"
        )
    _require_same(f"--teacher {source}", teacher.network.config, wanted)
    return teacher.network


def begin_from_autoencoder(source: Path, config: AutoencoderConfig) -> VQAutoencoder:
    """A trained stage I to continue from. It may have learned from faces of another size: half of it costs a quarter.

    Raises ValueError for a CodeFormer and for other sizes of the network.
    """
    start = read_network(source).network
    if not isinstance(start, VQAutoencoder):
        raise ValueError(f"--from {source}: this is a CodeFormer (stage II or later); name a trained stage I")
    # Attention is given by image size; at another size the same levels have other names.
    names = dict(zip(start.config.level_sizes, config.level_sizes, strict=False))
    attention = tuple(names.get(size, size) for size in start.config.attention_sizes)
    here = dataclasses.replace(start.config, image_size=config.image_size, attention_sizes=attention)
    _require_same(f"--from {source}", here, config)
    network = VQAutoencoder(config)
    network.load_state_dict(start.state_dict())
    return network


def begin_from_teacher(teacher: VQAutoencoder, config: CodeFormerConfig, seed: int) -> CodeFormer:
    """Encoder, codebook and generator are the teacher's; transformer and fusion are new."""
    network = CodeFormer(config)
    initialise(network, seed)
    network.load_state_dict(teacher.state_dict(), strict=False)
    return network


def begin_from_codes(source: Path, teacher: VQAutoencoder, config: CodeFormerConfig, seed: int) -> CodeFormer:
    """A trained CodeFormer (stage II) to continue from; fusion blocks that it doesn't have are new.

    Raises ValueError for stage I's network, for other sizes, and for another codebook or generator than the teacher's.
    """
    start = read_network(source).network
    if not isinstance(start, CodeFormer):
        raise ValueError(f"--from {source}: this is an autoencoder (stage I); name a trained stage II")
    _require_same_codes(source, start.config, config)
    given = start.state_dict()
    if not all(torch.equal(given[name], tensor) for name, tensor in teacher.state_dict().items() if _is_fixed(name)):
        raise ValueError(
            f"--from {source}: it was trained with another codebook and generator "
            f"({fixed_fingerprint(start)}) than the teacher's ({fixed_fingerprint(teacher)}); name the teacher "
            "it was trained with"
        )
    return _continued(start, config, seed)


def begin_from_restorer(source: Path, config: CodeFormerConfig, seed: int) -> CodeFormer:
    """A trained CodeFormer whose codes stay as they are: no teacher is needed. Fusion blocks and a pixel path that it
    doesn't have are new.

    Raises ValueError for stage I's network and for other sizes.
    """
    start = read_network(source).network
    if not isinstance(start, CodeFormer):
        raise ValueError(f"--from {source}: this is an autoencoder (stage I); name a trained CodeFormer")
    _require_same_codes(source, start.config, config)
    return _continued(start, config, seed)


def _require_same_codes(source: Path, found: CodeFormerConfig, wanted: CodeFormerConfig) -> None:
    """Everything but which sizes are fused, and whether there is a pixel path."""
    _require_same(f"--from {source}", found.autoencoder, wanted.autoencoder)
    bare_found, bare_wanted = (
        dataclasses.replace(config, fuse_sizes=(), pixel_path=None) for config in (found, wanted)
    )
    _require_same(f"--from {source}", bare_found, bare_wanted)
    if found.pixel_path is not None and wanted.pixel_path is not None:
        _require_same(f"--from {source}: pixel_path", found.pixel_path, wanted.pixel_path)


def _continued(start: CodeFormer, config: CodeFormerConfig, seed: int) -> CodeFormer:
    network = CodeFormer(config)
    initialise(network, seed)
    expected = network.state_dict()
    state = {name: tensor for name, tensor in start.state_dict().items() if name in expected}
    network.load_state_dict(state, strict=False)
    return network


def fingerprint(network: VQNetwork) -> str:
    """Of what gives a clean face its codes: encoder and codebook."""
    return _hash(
        {name: tensor for name, tensor in network.state_dict().items() if name.startswith(("encoder.", "codebook."))}
    )


def fixed_fingerprint(network: VQNetwork) -> str:
    """Of what later stages take from the teacher and leave as it is."""
    return _hash({name: tensor for name, tensor in network.state_dict().items() if _is_fixed(name)})


def _is_fixed(name: str) -> bool:
    return name.startswith(("codebook.", "generator."))


def _hash(state: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _require_same(what: str, found: object, wanted: object) -> None:
    for field in dataclasses.fields(wanted):  # pyright: ignore[reportArgumentType]
        theirs, ours = getattr(found, field.name), getattr(wanted, field.name)
        if theirs != ours:
            raise ValueError(
                f"{what}: its {field.name} is {theirs}, the configuration says {ours}; name the configuration it was "
                "trained with"
            )
