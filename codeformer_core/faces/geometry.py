"""Where a face lies: the similarity from image to aligned crop, and sampling along it.

Conventions: pixel centres at whole numbers; a matrix is 2x3 and maps (x, y, 1) of the image to (x, y) of the crop.
Shape legend: H W image, S crop side, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..runtime.packages import import_for_faces
from .types import Face

CROP_SIZE = 512

# Left eye, right eye, nose, left and right mouth corner in a 512 crop: the published five-point FFHQ template.
TEMPLATE_XY = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)
# (matrix, area, device) -> for each pixel of the area: x_HW and y_HW in the crop, float32
Coordinates = Callable[[np.ndarray, "Rectangle", torch.device], tuple[Tensor, Tensor]]


def boxes_of(faces: Sequence[Face]) -> Tensor:
    """The faces' boxes as float64 (N, 4)."""
    return torch.tensor([face.box_xyxy for face in faces], dtype=torch.float64).reshape(-1, 4)


def box_iou(first_N4: Tensor, second_N4: Tensor) -> Tensor:
    """Intersection over union of boxes, iou_N; 0 where neither has an area. Differentiable.

    first_N4, second_N4: left, top, right, bottom in any unit. Their shapes broadcast: one box goes with many.
    """
    shared_N2 = torch.minimum(first_N4[..., 2:], second_N4[..., 2:]) - torch.maximum(
        first_N4[..., :2], second_N4[..., :2]
    )
    shared_N = shared_N2.clamp(min=0).prod(-1)
    first_N, second_N = ((boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first_N4, second_N4))
    return shared_N / (first_N + second_N - shared_N).clamp(min=1e-9)


@dataclass(frozen=True)
class Rectangle:
    """Whole pixels: left <= x < right, top <= y < bottom."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def is_empty(self) -> bool:
        return self.width <= 0 or self.height <= 0

    def of(self, image_HWC: Tensor) -> Tensor:
        """The view of an image inside this rectangle."""
        return image_HWC[self.top : self.bottom, self.left : self.right]


def estimate_alignment(face: Face) -> np.ndarray | None:
    """The matrix image -> 512 crop, float64 (2, 3).

    None when the five points allow no similarity (all in one place, for example). Least median of squares, as
    published: it ignores one badly placed point where least squares would tilt the face.
    """
    if not np.isfinite(face.landmarks_array()).all():
        return None
    cv2 = import_for_faces("cv2")
    matrix, _ = cv2.estimateAffinePartial2D(face.landmarks_array(), TEMPLATE_XY, method=cv2.LMEDS)
    if matrix is None or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:, :2])) < 1e-9:
        return None
    return matrix


def invert(matrix: np.ndarray) -> np.ndarray:
    """The 2x3 matrix of the opposite direction."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack((linear, -linear @ matrix[:, 2:]))


def scale_of(matrix: np.ndarray) -> float:
    """By how much a similarity enlarges lengths."""
    return math.sqrt(abs(np.linalg.det(matrix[:, :2])))


def covered_rectangle(matrix: np.ndarray, crop_size: int, height: int, width: int) -> Rectangle:
    """The image's pixels that the crop's square, one pixel wider on every side, touches."""
    low, high = -1.0, float(crop_size)
    corners = np.array([(low, low, 1), (high, low, 1), (low, high, 1), (high, high, 1)]) @ invert(matrix).T
    left, top = np.floor(corners.min(axis=0)).astype(int)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 1
    return Rectangle(max(int(left), 0), max(int(top), 0), min(int(right), width), min(int(bottom), height))


def crop_coordinates(matrix: np.ndarray, area: Rectangle, device: torch.device) -> tuple[Tensor, Tensor]:
    """x_HW and y_HW in the crop for each pixel of `area`, float32."""
    columns_W = torch.arange(area.left, area.right, dtype=torch.float64)
    rows_H1 = torch.arange(area.top, area.bottom, dtype=torch.float64)[:, None]
    coordinates: list[Tensor] = []
    for per_column, per_row, offset in matrix.tolist():
        along_W, down_H1 = per_column * columns_W, per_row * rows_H1 + offset
        # The two terms cancel to a place within the crop: as float64, so that no image is too large for them.
        start = along_W[0].clone()
        coordinates.append((down_H1 + start).float().to(device) + (along_W - start).float().to(device))
    return coordinates[0], coordinates[1]


def sample(image_CHW: Tensor, x_HW: Tensor, y_HW: Tensor, *, continued: bool = False) -> Tensor:
    """Bilinear samples of an image, (C, *x.shape).

    x_HW, y_HW: where, in pixels of the image.
    continued: outside the image, its outermost pixels; otherwise zeros.
    """
    height, width = image_CHW.shape[1:]
    grid_HW2 = torch.stack(((x_HW * 2 + 1) / width - 1, (y_HW * 2 + 1) / height - 1), dim=-1)
    padding = "border" if continued else "zeros"
    return F.grid_sample(image_CHW[None], grid_HW2[None], mode="bilinear", padding_mode=padding, align_corners=False)[0]


def crop_face(image_HW3: Tensor, matrix: np.ndarray, side: int = CROP_SIZE) -> Tensor:
    """The aligned face as (3, side, side) in [0, 1]; outside the image, its outermost pixels continue.

    A face larger than about twice the crop is averaged down in blocks first, so that it does not alias.

    image_HW3: RGB in [0, 1].
    matrix: image -> 512 crop.
    side: of the crop, in pixels.
    """
    matrix = enlarged_alignment(matrix, side / CROP_SIZE)
    return sample_crop(image_HW3, matrix, int(1 / scale_of(matrix)), crop_coordinates, side=side)


def enlarged_alignment(matrix: np.ndarray, factor: float) -> np.ndarray:
    """Image -> the crop resized by `factor`. Pixels are areas: (x + 0.5) scales, not x."""
    enlarged = matrix * factor
    enlarged[:, 2] += (factor - 1) / 2
    return enlarged


def sample_crop(
    image_HW3: Tensor,
    matrix: np.ndarray,
    block: int,
    coordinates: Coordinates,
    border_rgb: tuple[int, int, int] | None = None,
    side: int = CROP_SIZE,
) -> Tensor:
    """`crop_face` with every choice made by the caller. A crop that touches no pixel of the image is gray.

    matrix: image -> crop of this side.
    block: side in pixels of the squares that are averaged before one sample per pixel is taken; none below 2.
    coordinates: maps pixels of the crop to the image, such as `crop_coordinates`.
    border_rgb: 0..255, the colour outside the image; None continues the image's outermost pixels.
    side: of the crop, in pixels.
    """
    height, width = image_HW3.shape[:2]
    border = torch.tensor(border_rgb or (127.5, 127.5, 127.5), dtype=torch.float32, device=image_HW3.device)
    border_311 = border.view(3, 1, 1) / 255
    area = covered_rectangle(matrix, side, height, width)
    if area.is_empty:
        return border_311.expand(3, side, side).clone()
    # Zeros outside, as they are sampled, become the border's colour.
    source_3HW = area.of(image_HW3).permute(2, 0, 1).float() - border_311
    to_area = invert(matrix)
    to_area[:, 2] -= (area.left, area.top)
    if block > 1:
        source_3HW = F.avg_pool2d(source_3HW, block, ceil_mode=True, count_include_pad=False)
        to_area = to_area / block
        to_area[:, 2] -= 0.5 - 0.5 / block
    whole_crop = Rectangle(0, 0, side, side)
    x_HW, y_HW = coordinates(to_area, whole_crop, image_HW3.device)
    return sample(source_3HW, x_HW, y_HW, continued=border_rgb is None) + border_311
