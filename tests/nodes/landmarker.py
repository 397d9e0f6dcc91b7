"""Weights for the host's own MediaPipe nodes that find one known face, so that they need no download.

Its detector and its mesh look at nothing: all weights of their last layers are zero, and the biases are the answer.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

POINTS, MESH_POINTS = 478, 468
# Centimetres, x and y (up) of MediaPipe's canonical face model: corners of the eyes, nose, corners of the mouth.
KNOWN_XY = {
    33: (-4.445859, 2.663991),
    133: (-1.856432, 2.585245),
    362: (1.856432, 2.585245),
    263: (4.445859, 2.663991),
    1: (0.0, -1.126865),
    61: (-2.456206, -4.342621),
    291: (2.456206, -4.342621),
}
# MediaPipe's numbers of the points around the face, and an ellipse for them, in centimetres.
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
OVAL_HALVES = (7.5, 9.2)
TOPOLOGY = ("lips", "left_eye", "right_eye", "left_eyebrow", "right_eyebrow", "irises", "nose", "tesselation")

# Of the host's networks: side of the detector's and of the mesh's input, and how much larger than a box the part of the
# picture is that the mesh sees.
DETECTOR_SIDE, MESH_SIDE, MESH_SEES = 128, 192, 1.5
# In sides of the picture. So large that the boxes of all anchors are one face in their middle.
BOX = 6.0
ANCHORS_8, VALUES = 6, 16
CHANNELS_16, CHANNELS_8, CHANNELS_MESH = 88, 96, 8


def save_landmarker(path: Path, size_hw: tuple[int, int], center_xy: tuple[float, float], centimetre: float) -> None:
    """Weights that find, in every picture of this size, one upright face. center_xy: of the face, in pixels.
    centimetre: pixels of one on the face."""
    side = max(size_hw)
    height, width = size_hw
    corner_xy = (width - side) / 2, (height - side) / 2
    across, down = ((at - corner) / side - 0.5 for at, corner in zip(center_xy, corner_xy, strict=True))
    eyes = (-1.0, 0.0, 1.0, 0.0)
    box = (across * DETECTOR_SIDE, down * DETECTOR_SIDE, BOX * DETECTOR_SIDE, BOX * DETECTOR_SIDE, *eyes)
    box_16 = torch.tensor(box + (0.0,) * (VALUES - len(box)))
    face_N3 = _face()
    in_mesh_N3 = face_N3 * torch.tensor((1.0, -1.0, 1.0)) * centimetre * MESH_SIDE / (BOX * MESH_SEES * side)
    in_mesh_N3[:, :2] += MESH_SIDE / 2
    state = {
        **_constant("detector_short.cls_16", torch.full((2,), -100.0), CHANNELS_16),
        **_constant("detector_short.cls_8", torch.full((ANCHORS_8,), 3.0), CHANNELS_8),
        **_constant("detector_short.reg_8", box_16.repeat(ANCHORS_8), CHANNELS_8),
        **_constant("mesh.head_landmarks", in_mesh_N3.flatten(), CHANNELS_MESH, 3),
        "canonical_vertices": face_N3[:MESH_POINTS].clone(),
        "procrustes_indices": torch.tensor(list(KNOWN_XY), dtype=torch.int32),
        "procrustes_weights": torch.ones(len(KNOWN_XY)),
        "topology.face_oval": torch.tensor([*zip(OVAL, OVAL[1:] + OVAL[:1], strict=True)], dtype=torch.int32),
        **{f"topology.{name}": torch.tensor([(33, 133)], dtype=torch.int32) for name in TOPOLOGY},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, path)


def _constant(name: str, values: Tensor, channels: int, kernel: int = 1) -> dict[str, Tensor]:
    """A convolution that gives the same values everywhere."""
    return {f"{name}.weight": torch.zeros(len(values), channels, kernel, kernel), f"{name}.bias": values}


def _face() -> Tensor:
    """points_N3 in centimetres, y up: the known ones, the oval, all others between them."""
    points_N3 = torch.rand(POINTS, 3, generator=torch.Generator().manual_seed(7)) * 2 - 1
    for place, number in enumerate(OVAL):
        turn = 2 * math.pi * place / len(OVAL)
        points_N3[number, :2] = torch.tensor((OVAL_HALVES[0] * math.sin(turn), OVAL_HALVES[1] * math.cos(turn)))
    for number, xy in KNOWN_XY.items():
        points_N3[number, :2] = torch.tensor(xy)
    return points_N3
