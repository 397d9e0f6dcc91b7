"""What a painter learns from: half-sized faces, and what is taken from them, their colours or a part of them.

Shape legend: B faces, s half of a face's side; RGB in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from codeformer_core.degradation import PRESETS, Brush, draw
from codeformer_core.degradation.brush import brush_mask
from codeformer_core.degradation.cpu import degrade_on_cpu
from codeformer_core.imaging.gray import is_gray
from codeformer_core.networks.painter import half_sized, luma
from codeformer_core.networks.pixel_path import gaussian_blur

SIDE = 512
SUFFIXES = (".webp", ".png", ".jpg")
# Strokes of a brush as published, scratches, and few large strokes.
BRUSHES = (
    *[Brush(strokes=(1, 3), vertices=(8, 27), width=(30, 70))] * 2,
    Brush(strokes=(1, 4), vertices=(4, 12), width=(24, 60)),
    Brush(strokes=(2, 8), vertices=(2, 5), width=(3, 14)),
    Brush(strokes=(1, 2), vertices=(1, 4), width=(60, 130)),
)
# Half-sized faces, so half the presets' r.
DAMAGES = (
    *[replace(PRESETS["small"], downscale=(1, 6))] * 3,
    *[replace(PRESETS["large"], downscale=(2, 15))] * 3,
    replace(PRESETS["photo"], downscale=(1, 1.5)),
)
# Of the faces, where holes are learned: turned gray, so that a gray face is filled in gray.
GRAY_SHARE = 0.15


def load_faces(folder: Path, coloured: bool) -> Tensor:
    """faces_N3ss uint8, half-sized.

    coloured: leave out gray ones.
    """
    faces: list[np.ndarray] = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES):
        image = Image.open(path).convert("RGB").resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX)
        levels_ss3 = np.asarray(image)
        if not coloured or not is_gray(torch.from_numpy(levels_ss3.copy()) / 255):
            faces.append(levels_ss3)
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).contiguous()


def batches(faces_N3ss: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Forever: faces_B3ss float32, half of them mirrored."""
    while True:
        for numbers in torch.randperm(len(faces_N3ss), generator=generator).split(size):
            faces_B3ss = faces_N3ss[numbers].float() / 127.5 - 1
            mirrored = torch.rand(len(faces_B3ss), generator=generator) < 0.5
            yield torch.where(mirrored[:, None, None, None], faces_B3ss.flip(-1), faces_B3ss)


def without_colours(faces_B3ss: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """gray_B1ss: each face as another print, lens and film would have it; and how much lighter than the face, by which
    its colours grow: less light, less colour.
    """
    true_B1ss = (luma(faces_B3ss) + 1) / 2

    def draws(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((len(faces_B3ss), 1, 1, 1), generator=generator)

    gray_B1ss = true_B1ss.clamp(0, 1) ** draws(0.6, 1.7)
    gray_B1ss = ((gray_B1ss - 0.5) * draws(0.5, 1.25) + 0.5 + draws(-0.15, 0.15)).clamp(0, 1)
    light_B1ss = (gray_B1ss / true_B1ss.clamp_min(0.05)).clamp(max=1.4)
    sigma = float(0.4 + 2 * torch.rand((), generator=generator))
    if torch.rand((), generator=generator) < 0.5:
        gray_B1ss = gaussian_blur(gray_B1ss, sigma)
    grain = draws(0, 0.04) * (draws(0, 1) < 0.5)
    gray_B1ss = gray_B1ss + grain * torch.randn(gray_B1ss.shape, generator=generator)
    return (gray_B1ss.clamp(0, 1) * 2 - 1).contiguous(), light_B1ss


def some_gray(faces_B3ss: Tensor, generator: torch.Generator) -> Tensor:
    gray = torch.rand((len(faces_B3ss), 1, 1, 1), generator=generator) < GRAY_SHARE
    return torch.where(gray, luma(faces_B3ss).expand_as(faces_B3ss), faces_B3ss)


def holes(count: int, generator: torch.Generator) -> Tensor:
    """holes_B1ss bool."""
    masks: list[Tensor] = []
    for _ in range(count):
        brush = BRUSHES[int(torch.randint(len(BRUSHES), (), generator=generator))]
        drawn = draw(replace(PRESETS["inpainting"], brush=brush), SIDE, generator)
        masks.append(torch.from_numpy(brush_mask(drawn).copy()).float()[None])
    return half_sized(torch.stack(masks)) > 0.5


def grown(holes_B1ss: Tensor, pixels: int) -> Tensor:
    return F.max_pool2d(holes_B1ss.float(), 2 * pixels + 1, 1, pixels)


def damaged(faces_B3ss: Tensor, generator: torch.Generator) -> Tensor:
    """Each face with mild or heavy damage."""
    made: list[Tensor] = []
    for face_3ss in faces_B3ss:
        degradation = DAMAGES[int(torch.randint(len(DAMAGES), (), generator=generator))]
        levels_ss3 = ((face_3ss.permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
        made_ss3 = degrade_on_cpu(np.ascontiguousarray(levels_ss3), draw(degradation, SIDE // 2, generator))
        made.append(torch.from_numpy(made_ss3).permute(2, 0, 1).float() / 127.5 - 1)
    return torch.stack(made).contiguous(memory_format=torch.channels_last)
