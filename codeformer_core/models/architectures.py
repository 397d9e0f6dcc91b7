"""All architectures that the program knows, and which of them a state dict is one of.

A file is recognised by its keys, never by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from ..runtime.errors import InputProblem
from ..weights.metadata import CheckpointMetadata
from ..weights.reading import WeightsError
from ..weights.wrappers import inner_state_dicts, places_of
from .architecture import NO_METADATA, Architecture, Checkpoint, Config
from .codeformer.architecture import AUTOENCODER, CODEFORMER, missing_for_codeformer
from .dfdnet.architecture import DFDNET
from .painter.architecture import PAINTER
from .spandrel_models import GFPGAN, RESTOREFORMER, is_gfpgan_v1, is_restoreformer_plus_plus
from .vqfr.architecture import VQFR

# In the order in which they are asked for their keys.
ARCHITECTURES: tuple[Architecture, ...] = (CODEFORMER, AUTOENCODER, VQFR, DFDNET, PAINTER, GFPGAN, RESTOREFORMER)


def register(architecture: Architecture) -> None:
    """Make the library, and every program on top of it, know one more architecture; it is asked last.

    Raises ValueError for an id that is taken.
    """
    global ARCHITECTURES
    if any(known.id == architecture.id for known in ARCHITECTURES):
        raise ValueError(f"there is an architecture {architecture.id!r} already: give it another id")
    ARCHITECTURES = (*ARCHITECTURES, architecture)  # pyright: ignore[reportConstantRedefinition] - nobody else does


def find(architecture_id: str) -> Architecture:
    """The architecture with this id, such as "codeformer". Raises ValueError for an unknown one."""
    for architecture in ARCHITECTURES:
        if architecture.id == architecture_id:
            return architecture
    known = ", ".join(architecture.id for architecture in ARCHITECTURES)
    raise ValueError(f"there is no architecture {architecture_id!r}; known: {known}")


def find_by_config(config: Config) -> Architecture:
    """The architecture whose networks have such a config. Raises ValueError where there is none."""
    for architecture in ARCHITECTURES:
        if isinstance(config, architecture.config_types):
            return architecture
    raise ValueError(f"{type(config).__name__} is not the config of any known architecture")


def detect_architecture(
    state: Mapping[str, Tensor], source: str, metadata: CheckpointMetadata | None = None
) -> Checkpoint:
    """What a state dict holds: architecture, sizes, layout, tasks.

    state: key -> tensor, in the published layout or ours.
    source: the file, for messages.
    metadata: what its header says; None: nothing.

    Raises WeightsError with the first missing or unexpected keys, with what the file seems to be instead, or with both
    values where its metadata contradicts its shapes.
    """
    if (architecture := _detected(state)) is not None:
        return architecture.read(state, source, metadata or NO_METADATA)
    raise _other_checkpoint(state, source) or _unknown_checkpoint({"": state}, source)


def find_checkpoint(
    state_dicts: Mapping[str, dict[str, Tensor]], source: str, metadata: CheckpointMetadata | None = None
) -> tuple[Checkpoint, dict[str, Tensor]]:
    """The weights among all that a file holds, whatever lies around them and whatever their keys begin with.

    state_dicts: place in the file -> its tensors, likeliest first.
    source, metadata: as for `detect_architecture`.
    Returns what they are, and the weights.
    Raises WeightsError as `detect_architecture`, of the likeliest weights; where no architecture has such keys, with
    the places of all tensors.
    """
    refused: WeightsError | None = None
    for level in inner_state_dicts(state_dicts):
        detected = [(found, state) for state in level.values() if (found := _detected(state)) is not None]
        # A checkpoint of training may hold the autoencoder beside the restorer.
        for architecture, state in sorted(detected, key=lambda pair: not pair[0].restores_faces):
            try:
                return architecture.read(state, source, metadata or NO_METADATA), state
            except WeightsError as error:
                refused = refused or error
        others = (_other_checkpoint(state, source) for state in level.values())
        if (problem := refused or next(filter(None, others), None)) is not None:
            raise problem
    raise _unknown_checkpoint(state_dicts, source)


def _detected(state: Mapping[str, object]) -> Architecture | None:
    return next((architecture for architecture in ARCHITECTURES if architecture.detect(state)), None)


def _is_gpen(state: Mapping[str, object]) -> bool:
    """yangxy/GPEN, gpen_model.py."""
    return "ecd0.0.0.weight" in state and "final_linear.0.weight" in state


# Face restorers that are known and not supported: how they are told, their names, and the file to take instead.
_UNSUPPORTED: tuple[tuple[Callable[[Mapping[str, object]], bool], str, str], ...] = (
    (is_gfpgan_v1, "GFPGAN v1", "GFPGANv1.4.pth"),
    (is_restoreformer_plus_plus, "RestoreFormer++", "RestoreFormer.pth"),
    (_is_gpen, "GPEN", "GFPGANv1.4.pth"),
)
# A key that only this kind of checkpoint has -> what it is, and what went wrong where a front end can say more.
_OTHER_CHECKPOINTS: tuple[tuple[str, str, InputProblem | None], ...] = (
    ("stylegan_decoder.style_mlp.1.weight", "a GFPGAN checkpoint", None),
    ("BboxHead.0.conv1x1.weight", "a RetinaFace detector", "detector_weights"),
    ("module.BboxHead.0.conv1x1.weight", "a RetinaFace detector", "detector_weights"),
    ("res_0.0.conv1.conv2d.weight", "a ParseNet face parser", None),
    ("conv_first.weight", "an upscaler", "upscaler_weights"),
    ("model.diffusion_model.input_blocks.0.0.weight", "a Stable Diffusion checkpoint", None),
    ("first_stage_model.encoder.conv_in.weight", "a Stable Diffusion checkpoint", None),
)


def _other_checkpoint(state: Mapping[str, object], source: str) -> WeightsError | None:
    for fits, name, instead in _UNSUPPORTED:
        if fits(state):
            return WeightsError(f"{source}: this is {name}, which is not supported; choose {instead} instead")
    for key, what, problem in _OTHER_CHECKPOINTS:
        if key in state:
            return WeightsError(f"{source}: this is {what}, not a CodeFormer checkpoint", problem)
    return None


def _unknown_checkpoint(state_dicts: Mapping[str, Mapping[str, Tensor]], source: str) -> WeightsError:
    likeliest = next(iter(state_dicts.values()))
    first = ", ".join(sorted(likeliest)[:3]) or "none at all"
    missing = ", ".join(missing_for_codeformer(likeliest))
    return WeightsError(
        f"{source}: no known face restorer has these keys (first: {first}). Missing for a CodeFormer: {missing}. "
        f"Tensors in the file: {places_of(state_dicts)}. Choose codeformer.pth or its safetensors copy."
    )
