"""The samples of a frame: a rectangle of them as RGB, and a change of that RGB back into them.

Nothing but the rectangle is converted, with the frame's own matrix and range, and only the difference is written back:
samples that don't change stay bit for bit what they were. Planes are seen upright, as players show them.
Shape legend: H W frame, h w rectangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...faces.geometry import Rectangle

# A frame of PyAV; its types differ from release to release.
Picture = Any

# Matrix coefficients as FFmpeg numbers them -> (Kr, Kb), ITU-T H.273 table 4.
_MATRICES = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470 BG
    6: (0.299, 0.114),  # SMPTE 170M
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
    10: (0.2627, 0.0593),
}
# Height from which on a video that doesn't say its matrix has that of HD.
_HD_HEIGHT = 720
_FULL_RANGE = 2
# Formats that are repacked into planes, without loss.
REPACKED = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "p010le": "yuv420p10le",
    "p210le": "yuv422p10le",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "pal8": "bgra",
    "monob": "gray",
    "monow": "gray",
    "ya8": "gray",
}
# Packed RGB -> bytes per pixel and the places of R, G and B.
_PACKED = {
    "rgb24": (3, (0, 1, 2)),
    "bgr24": (3, (2, 1, 0)),
    "rgba": (4, (0, 1, 2)),
    "rgb0": (4, (0, 1, 2)),
    "bgra": (4, (2, 1, 0)),
    "bgr0": (4, (2, 1, 0)),
    "argb": (4, (1, 2, 3)),
    "0rgb": (4, (1, 2, 3)),
    "abgr": (4, (3, 2, 1)),
    "0bgr": (4, (3, 2, 1)),
}


def check_format(name: str, path: Path) -> str:
    """The format in which frames of this format are worked on. Raises ValueError for those that can't be."""
    name = REPACKED.get(name, name)
    if name in _PACKED or _is_planar(name):
        return name
    raise ValueError(f"{path}: its pixel format {name} can't be worked on. Convert it to yuv420p or yuv444p first")


def _is_planar(name: str) -> bool:
    is_planar = name.startswith(("yuv4", "yuvj4", "yuva4", "gray", "gbrp", "gbrap"))
    return is_planar and not name.endswith("be") and "f" not in name.removeprefix("gbr")


def repacked(frame: Picture) -> Picture:
    """The frame in a format of planes, see `REPACKED`."""
    wanted = REPACKED.get(frame.format.name)
    return frame if wanted is None else frame.reformat(format=wanted)


@dataclass(frozen=True, eq=False)
class Planes:
    """Upright views of a frame's samples.

    samples: Y, U, V, or R, G, B, or gray alone; (H, W) each, the chroma of YUV may be smaller.
    is_rgb: whether they are R, G, B.
    bits: of a sample.
    full_range: whether 0 is black and the largest value is white.
    matrix: Kr and Kb of YUV.
    """

    samples: tuple[np.ndarray, ...]
    is_rgb: bool
    bits: int
    full_range: bool
    matrix: tuple[float, float]

    @classmethod
    def of(cls, frame: Picture, rotation: int = 0) -> Planes:
        """The samples of a frame.

        frame: of a format that `check_format` passes. Views of it: what is written shows in the frame.
        rotation: degrees counter-clockwise, by which it is turned to be upright.
        """
        arrays = _upright(_arrays(frame), rotation)
        matrix = _MATRICES.get(int(frame.colorspace)) or _MATRICES[1 if frame.height >= _HD_HEIGHT else 6]
        is_rgb = frame.format.is_rgb
        full_range = is_rgb or frame.format.name.startswith("yuvj") or int(frame.color_range) == _FULL_RANGE
        if frame.format.name.startswith("gray"):
            full_range = full_range or int(frame.color_range) != 1
        return cls(arrays, is_rgb, frame.format.components[0].bits, full_range, matrix)

    @property
    def size_hw(self) -> tuple[int, int]:
        height, width = self.samples[0].shape
        return height, width

    def around(self, area: Rectangle) -> Rectangle:
        """The smallest rectangle of whole chroma samples that holds `area`."""
        (height, width), (down, across) = self.size_hw, self._steps
        return Rectangle(
            area.left // across * across,
            area.top // down * down,
            min(width, -(-area.right // across) * across),
            min(height, -(-area.bottom // down) * down),
        )

    def rgb(self, area: Rectangle) -> Tensor:
        """rgb_hw3, float32; [0, 1] but for samples beyond the nominal range.

        area: of `around`.
        """
        parts = [self._part(plane, area) for plane in self.samples]
        if self.is_rgb:
            return torch.stack(parts, -1) / self._largest
        low, scale_y, middle, scale_c = self._ranges
        luma_hw = (parts[0] - low) / scale_y
        if len(parts) == 1:
            return luma_hw[..., None].expand(-1, -1, 3).contiguous()
        height, width = luma_hw.shape
        blue_hw, red_hw = ((_enlarged(part, height, width) - middle) / scale_c for part in parts[1:])
        kr, kb = self.matrix
        red = luma_hw + 2 * (1 - kr) * red_hw
        blue = luma_hw + 2 * (1 - kb) * blue_hw
        green = (luma_hw - kr * red - kb * blue) / (1 - kr - kb)
        return torch.stack((red, green, blue), -1)

    def add(self, area: Rectangle, change_hw3: Tensor) -> None:
        """Change samples so that their RGB changes by `change_hw3`; where it is 0, they stay.

        area: of `around`.
        """
        change_hw3 = change_hw3.float().cpu()
        if self.is_rgb:
            for plane, change_hw in zip(self.samples, change_hw3.unbind(-1), strict=True):
                self._write(plane, area, change_hw * self._largest)
            return
        kr, kb = self.matrix
        red, green, blue = change_hw3.unbind(-1)
        luma_hw = kr * red + (1 - kr - kb) * green + kb * blue
        _, scale_y, _, scale_c = self._ranges
        self._write(self.samples[0], area, luma_hw * scale_y)
        if len(self.samples) == 1:
            return
        for plane, colour_hw, weight in zip(self.samples[1:], (blue, red), (kb, kr), strict=True):
            chroma_hw = (colour_hw - luma_hw) / (2 * (1 - weight)) * scale_c
            self._write(plane, area, self._reduced(chroma_hw))

    def is_gray(self, area: Rectangle) -> bool:
        """Whether a rectangle has no colour, but for what compression makes of none."""
        if self.is_rgb or len(self.samples) == 1:
            return not self.is_rgb
        middle, allowed = 128 << (self.bits - 8), 2 << (self.bits - 8)
        parts = (self._within(plane, area).astype(np.int32) for plane in self.samples[1:])
        return all(int(np.abs(part - middle).max()) <= allowed for part in parts)

    @property
    def _steps(self) -> tuple[int, int]:
        """Rows and columns of luma per chroma sample."""
        height, width = self.size_hw
        rows, columns = self.samples[-1].shape
        return -(-height // rows) if rows else 1, -(-width // columns) if columns else 1

    @property
    def _largest(self) -> int:
        return (1 << self.bits) - 1

    @property
    def _ranges(self) -> tuple[float, float, float, float]:
        """Black, white - black, no colour, and the span of colour."""
        unit = 1 << (self.bits - 8)
        if self.full_range:
            return 0.0, float(self._largest), 128.0 * unit, float(self._largest)
        return 16.0 * unit, 219.0 * unit, 128.0 * unit, 224.0 * unit

    def _within(self, plane: np.ndarray, area: Rectangle) -> np.ndarray:
        down, across = self._steps if plane.shape != self.samples[0].shape else (1, 1)
        return plane[area.top // down : -(-area.bottom // down), area.left // across : -(-area.right // across)]

    def _part(self, plane: np.ndarray, area: Rectangle) -> Tensor:
        return torch.from_numpy(self._within(plane, area).astype(np.float32))

    def _write(self, plane: np.ndarray, area: Rectangle, change: Tensor) -> None:
        part = self._within(plane, area)
        changed = np.rint(part + change.numpy()).clip(0, self._largest)
        part[:] = changed.astype(part.dtype)

    def _reduced(self, change_hw: Tensor) -> Tensor:
        """The mean over each chroma sample's pixels."""
        down, across = self._steps
        if (down, across) == (1, 1):
            return change_hw
        reduced = torch.nn.functional.avg_pool2d(
            change_hw[None, None], (down, across), ceil_mode=True, count_include_pad=False
        )
        return reduced[0, 0]


def copied(frame: Picture) -> Picture:
    """A frame of the same samples that may be written to: a decoder still needs the one that it gave."""
    made = type(frame)(frame.width, frame.height, frame.format.name)
    for old, new in zip(_rows(frame), _rows(made), strict=True):
        new[:] = old
    return _with_description(made, frame)


def turned(frame: Picture, rotation: int) -> Picture:
    """The frame turned to be upright, for files that can't say how they are turned."""
    quarter = rotation % 180 != 0
    made = type(frame)(*((frame.height, frame.width) if quarter else (frame.width, frame.height)), frame.format.name)
    for old, new in zip(_whole_samples(frame), _whole_samples(made), strict=True):
        new[:] = np.rot90(old, rotation // 90)
    return _with_description(made, frame)


def beside(left: Picture, right: Picture, rotation: int) -> Picture:
    """Two frames of one size beside each other, as players show them.

    rotation: degrees counter-clockwise, by which players turn them.
    """
    width, height = left.width, left.height
    stacked = rotation % 180 != 0
    made = type(left)(*((width, height * 2) if stacked else (width * 2, height)), left.format.name)
    # Turned counter-clockwise by 90 degrees, the lower one of two comes to the right.
    order = (left, right) if rotation in (0, 90) else (right, left)
    first, second = (_whole_samples(frame) for frame in order)
    for one, other, whole in zip(first, second, _whole_samples(made), strict=True):
        whole[:] = np.concatenate((one, other), axis=0 if stacked else 1)
    return _with_description(made, left)


def _with_description(made: Picture, frame: Picture) -> Picture:
    """The new frame with the time and the colours of another one."""
    made.pts = frame.pts
    if frame.time_base is not None:
        made.time_base = frame.time_base
    made.colorspace, made.color_range = frame.colorspace, frame.color_range
    return made


def _whole_samples(frame: Picture) -> list[np.ndarray]:
    """All planes, alpha too, with one entry for each sample or packed pixel."""
    name, rows = frame.format.name, _rows(frame)
    if name in _PACKED:
        return [rows[0].reshape(frame.height, frame.width, _PACKED[name][0])]
    return [plane.view(np.uint16) for plane in rows] if frame.format.components[0].bits > 8 else rows


def _rows(frame: Picture) -> list[np.ndarray]:
    """Each plane's rows in bytes, without their padding."""
    found: list[np.ndarray] = []
    for plane in frame.planes:
        used = _bytes_per_row(frame, plane.index if hasattr(plane, "index") else len(found))
        found.append(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, :used])
    return found


def _bytes_per_row(frame: Picture, number: int) -> int:
    name, plane = frame.format.name, frame.planes[number]
    if name in _PACKED:
        return plane.width * _PACKED[name][0]
    return plane.width * (2 if frame.format.components[0].bits > 8 else 1)


def _arrays(frame: Picture) -> tuple[np.ndarray, ...]:
    """Y, U, V or R, G, B or gray, as they are stored; without alpha."""
    name, rows = frame.format.name, _rows(frame)
    if name in _PACKED:
        size, places = _PACKED[name]
        pixels_HWC = rows[0].reshape(frame.height, frame.width, size)
        return tuple(pixels_HWC[..., place] for place in places)
    if frame.format.components[0].bits > 8:
        rows = [plane.view(np.uint16) for plane in rows]
    if name.startswith("gb"):
        green, blue, red = rows[:3]
        return red, green, blue
    return tuple(rows[:1] if name.startswith("gray") else rows[:3])


def _upright(arrays: Sequence[np.ndarray], rotation: int) -> tuple[np.ndarray, ...]:
    return tuple(np.rot90(plane, rotation // 90) for plane in arrays) if rotation else tuple(arrays)


def _enlarged(plane: Tensor, height: int, width: int) -> Tensor:
    """Chroma at the size of luma."""
    if plane.shape == (height, width):
        return plane
    down, across = -(-height // plane.shape[0]), -(-width // plane.shape[1])
    size = (plane.shape[0] * down, plane.shape[1] * across)
    enlarged = torch.nn.functional.interpolate(plane[None, None], size=size, mode="bilinear", align_corners=False)
    return enlarged[0, 0, :height, :width]
