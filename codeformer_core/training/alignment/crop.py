"""One face out of its photo: aligned, mirrored at the photo's borders, and measured.

Shape legend: H W photo, S side of the aligned face, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...faces.geometry import CROP_SIZE, Rectangle, crop_coordinates, estimate_alignment, invert, sample, scale_of
from ...faces.types import Face
from ...imaging.tensors import quantize_8bit
from ...runtime.packages import import_for_faces


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A face cut out of its photo.

    face_SSC: RGB [0, 1] in steps of 1/255.
    landmarks_52: in its pixels.
    eye_distance: in pixels of the photo.
    sharpness: variance of the Laplacian at 512 pixels, 8-bit gray.
    padding: share of its pixels outside the photo.
    """

    face_SSC: Tensor
    landmarks_52: np.ndarray
    eye_distance: float
    sharpness: float
    padding: float


def align_face(image_HWC: Tensor, face: Face, size: int) -> AlignedFace | None:
    """The aligned face; None when the face's landmarks allow no alignment.

    image_HWC: RGB [0, 1].
    """
    matrix = estimate_alignment(face)
    if matrix is None:
        return None
    matrix = _for_size(matrix, size)
    face_3SS = cut(image_HWC, matrix, size)
    face_SSC = quantize_8bit(face_3SS).permute(1, 2, 0).contiguous()
    landmarks_52 = face.landmarks_array() @ matrix[:, :2].T + matrix[:, 2]
    padding = padding_of(matrix, size, image_HWC.shape[0], image_HWC.shape[1])
    return AlignedFace(face_SSC, landmarks_52, face.eye_distance, sharpness_of(face_SSC), padding)


def padding_of(matrix: np.ndarray, size: int, height: int, width: int) -> float:
    """The share of the aligned face's pixels whose middle lies outside the photo."""
    steps_S = np.arange(size, dtype=np.float64)
    (a, b, left), (c, d, top) = invert(matrix)
    x_SS = a * steps_S + b * steps_S[:, None] + left
    y_SS = c * steps_S + d * steps_S[:, None] + top
    inside_SS = (x_SS >= -0.5) & (x_SS < width - 0.5) & (y_SS >= -0.5) & (y_SS < height - 0.5)
    return 1 - float(inside_SS.mean())


def sharpness_of(face_SSC: Tensor) -> float:
    """Variance of the Laplacian (3x3, four neighbours) of the 512 face in 8-bit gray."""
    cv2 = import_for_faces("cv2")
    levels_SSC = (face_SSC * 255).round().to(torch.uint8).numpy()
    gray_SS = cv2.cvtColor(levels_SSC, cv2.COLOR_RGB2GRAY)
    if gray_SS.shape[0] != CROP_SIZE:
        shrinks = gray_SS.shape[0] > CROP_SIZE
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        gray_SS = cv2.resize(gray_SS, (CROP_SIZE, CROP_SIZE), interpolation=interpolation)
    return float(cv2.Laplacian(gray_SS, cv2.CV_64F).var())


def _for_size(matrix: np.ndarray, size: int) -> np.ndarray:
    """Photo -> 512 crop becomes photo -> crop of `size`; pixel centres are at whole numbers, edges at halves."""
    factor = size / CROP_SIZE
    scaled = matrix * factor
    scaled[:, 2] += factor / 2 - 0.5
    return scaled


def cut(image_HWC: Tensor, matrix: np.ndarray, size: int) -> Tensor:
    """What `matrix` (photo -> S x S pixels) shows, (3, S, S) in [0, 1], mirrored beyond the photo's borders.

    Bilinear where the photo grows, averaged where it shrinks.
    """
    area_3HW, left, top = _mirrored_area(image_HWC, matrix, size)
    to_area = invert(matrix)
    to_area[:, 2] -= (left, top)
    shrinks = 1 / scale_of(matrix)
    block = max(int(shrinks), 1)
    if block > 1:
        area_3HW = F.avg_pool2d(area_3HW, block, ceil_mode=True, count_include_pad=False)
        to_area = to_area / block
        to_area[:, 2] -= 0.5 - 0.5 / block
    # What is left of the shrinking, up to twofold, by two samples per pixel and direction.
    fine = 2 if shrinks / block > 1 else 1
    to_area[:, 2] += to_area[:, :2] @ np.full(2, (1 - fine) / (2 * fine))
    to_area[:, :2] /= fine
    whole = Rectangle(0, 0, size * fine, size * fine)
    x_SS, y_SS = crop_coordinates(to_area, whole, image_HWC.device)
    face_3SS = sample(area_3HW, x_SS, y_SS)
    return F.avg_pool2d(face_3SS, fine) if fine > 1 else face_3SS


def _mirrored_area(image_HWC: Tensor, matrix: np.ndarray, size: int) -> tuple[Tensor, int, int]:
    """The part of the photo under the face, (3, H, W), mirrored beyond the photo's edges; its left and top in it."""
    # Two pixels more on every side: samples reach to their neighbours, and averaging blocks to theirs.
    reach = 2 * max(1.0, scale_of(matrix))
    low, high = -reach, size - 1 + reach
    corners = np.array([(low, low, 1), (high, low, 1), (low, high, 1), (high, high, 1)]) @ invert(matrix).T
    left, top = (int(value) - 1 for value in np.floor(corners.min(axis=0)))
    right, bottom = (int(value) + 2 for value in np.ceil(corners.max(axis=0)))
    height, width = image_HWC.shape[:2]
    if min(left, top) >= 0 and right <= width and bottom <= height:
        return image_HWC[top:bottom, left:right, :3].permute(2, 0, 1).float(), left, top
    columns_W = torch.from_numpy(_mirrored(left, right, width))
    rows_H = torch.from_numpy(_mirrored(top, bottom, height))
    area_HWC = image_HWC[rows_H][:, columns_W, :3]
    return area_HWC.permute(2, 0, 1).float(), left, top


def _mirrored(first: int, end: int, count: int) -> np.ndarray:
    """The numbers first..end, brought into 0..count by mirroring at the edges as often as needed: b a | a b c | c b."""
    folded = np.arange(first, end) % (2 * count)
    return np.where(folded < count, folded, 2 * count - 1 - folded)
