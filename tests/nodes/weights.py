"""Small random weights in the published layouts, so that the tests need no download."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.networks.codeformer import CodeFormer, CodeFormerConfig
from codeformer_core.networks.vqgan import AutoencoderConfig

from ..core.conftest import SMALL_CONFIG, seeded_network
from ..core.others import small_state as small_other

RESTORATION_SIZES = (32, 64)
# The published colorization checkpoint is told apart by these.
COLORIZATION_SIZES = (32, 64, 128)
# The restorers beside CodeFormer whose networks are this pack's own.
RELATIVES = ("vqfr_v1", "vqfr_v2", "dfdnet")


def small_config(fuse_sizes: tuple[int, ...] = RESTORATION_SIZES) -> CodeFormerConfig:
    return CodeFormerConfig(
        autoencoder=AutoencoderConfig(
            image_size=512,
            base_channels=32,
            channel_multipliers=(1, 1, 1, 2, 2, 3),
            residual_blocks=1,
            attention_sizes=(16,),
            codebook_size=48,
            code_channels=32,
        ),
        width=64,
        layers=2,
        heads=8,
        mlp_width=96,
        fuse_sizes=fuse_sizes,
    )


def small_state(config: CodeFormerConfig, seed: int = 7) -> dict[str, torch.Tensor]:
    """Random weights in the published layout."""
    torch.manual_seed(seed)
    return to_published(CodeFormer(config).state_dict(), config)


def save_small_codeformer(path: Path, fuse_sizes: tuple[int, ...] = RESTORATION_SIZES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"params_ema": small_state(small_config(fuse_sizes))}, path)


def save_codeformer_for_small_faces(folder: Path) -> Path:
    """A pickle of a network that takes milliseconds: its faces have 64 pixels."""
    path = folder / "small_faces.pth"
    torch.save({"params_ema": to_published(seeded_network(SMALL_CONFIG).state_dict(), SMALL_CONFIG)}, path)
    return path


def save_small_inpainter(path: Path) -> None:
    """Told apart from one for colorization, as the published checkpoint is, by the size of its codebook."""
    config = small_config(COLORIZATION_SIZES)
    config = dataclasses.replace(config, autoencoder=dataclasses.replace(config.autoencoder, codebook_size=512))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"params_ema": small_state(config)}, path)


def save_small_other(path: Path, kind: str) -> None:
    """A VQFR ("vqfr_v1", "vqfr_v2"), a DFDNet ("dfdnet") or a RestoreFormer ("restoreformer"), as a pickle or, where
    the name says so, as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = small_other(kind)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"params_ema": state}, path)


def save_small_upscaler(path: Path) -> None:
    """A Real-ESRGAN compact network that doubles pictures, in its published layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    channels = 16
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), nn.PReLU(channels)]
    for _ in range(2):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(channels)]
    layers.append(nn.Conv2d(channels, 3 * 2 * 2, 3, padding=1))
    state = {f"body.{key}": value for key, value in nn.Sequential(*layers).state_dict().items()}
    torch.save({"params": state}, path)


def save_small_relatives(folder: Path) -> list[Path]:
    paths = [folder / f"{name}.safetensors" for name in RELATIVES]
    for path, kind in zip(paths, RELATIVES, strict=True):
        save_small_other(path, kind)
    return paths
