"""The official recipe, faults included, to compare results with the official program.

Sizes, 8-bit steps, alignment grid, choice of faces, masks and paste are those of sczhou/CodeFormer's inference script,
as recorded in tests/golden/pipeline. One object holds all of it: `OFFICIAL`.
Shape legend: B images, H W their size (of the pasted area: what the crop covers); S side of an aligned crop.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..faces.detection import FaceDetector
from ..faces.detectors.refined import unrefined
from ..faces.events import Event, SkipKind
from ..faces.face_mesh import NAME as FACE_MESH
from ..faces.geometry import CROP_SIZE, Rectangle, covered_rectangle, invert, sample, sample_crop
from ..faces.masks import gaussian_operator, opencv_sigma
from ..faces.parsing import FaceParser
from ..faces.selection import (
    MIN_EYE_DISTANCE,
    FaceFilter,
    Selection,
    apply_filters,
    eyes_judged,
    select_faces,
    skip_faces,
    skip_large_faces,
    skip_not_finite,
    skip_small_faces,
)
from ..faces.types import Face
from ..imaging import tensors as imaging
from ..imaging.gray import match_gray
from .background import Upscaler
from .composite import NewFace, Target, enlarged_face, resized
from .judge import Judgement
from .options import PasteOptions, RestoreOptions
from .paste_masks import MaskMaker, make_mask_maker
from .recipe import Recipe
from .results import RestoredFace
from .sizes import Sizes

# Images whose shorter side is below this are enlarged, and stay so.
SHORTER_SIDE = 512
# RGB of a crop outside its image, 0..255 (published as BGR 135, 133, 132).
BORDER_RGB = (132, 133, 135)
# OpenCV up to 4.12 samples at multiples of 1/32 pixel, found from a row's and a column's part in 1/1024.
GRID = 32


class OfficialRecipe(Recipe):
    """See the module."""

    is_official = True
    keeps_gray = False

    def plan_sizes(self, height: int, width: int, upscale: float) -> Sizes:
        factor = max(SHORTER_SIDE / min(height, width), 1)
        working = round(height * factor), round(width * factor)
        return Sizes((height, width), working, (int(working[0] * upscale), int(working[1] * upscale)))

    def prepare(self, rgb_BHW3: Tensor, sizes: Sizes) -> Tensor:
        """8-bit steps, small images enlarged."""
        rgb_BHW3 = imaging.quantize_8bit(rgb_BHW3)
        return rgb_BHW3 if sizes.working == sizes.source else imaging.enlarge_8bit(rgb_BHW3, sizes.enlarged)

    @staticmethod
    def resize_background(rgb_1HW3: Tensor, size_hw: tuple[int, int], given: bool) -> Tensor:
        return imaging.resize_8bit(rgb_1HW3, *size_hw, lanczos=given)

    def detector(self, detector: FaceDetector) -> FaceDetector:
        """The detector's own landmarks, without a second look."""
        return unrefined(detector)

    def choose(
        self, faces: Sequence[Face], image_size_hw: tuple[int, int], options: RestoreOptions, enlarged: float
    ) -> Selection:
        """Duplicates are kept."""
        filters: tuple[FaceFilter, ...] = (
            skip_not_finite,
            skip_near_eyes,
            lambda rest: skip_small_faces(rest, options.min_face_size * enlarged),
            lambda rest: skip_large_faces(rest, (options.max_face_size or math.inf) * enlarged),
            lambda rest: select_faces(rest, options.faces, image_size_hw),
        )
        return apply_filters(faces, filters)

    def crop(self, image_HW3: Tensor, matrix: np.ndarray) -> Tensor:
        return crop(image_HW3, matrix)

    def finish_faces(self, faces_N3SS: Tensor) -> Tensor:
        return imaging.quantize_8bit(faces_N3SS)

    def match_gray(self, faces_N3SS: Tensor, crops_N3SS: Tensor) -> Tensor:
        return match_gray(faces_N3SS, crops_N3SS, clip=False)

    def face_to_parse(self, network_N3SS: Tensor, finished_N3SS: Tensor) -> Tensor:
        """In 8-bit steps, and gray where the image is."""
        return finished_N3SS * 2 - 1

    def mask_maker(self, options: PasteOptions, parser: FaceParser | None) -> MaskMaker:
        """For a face's shape ParseNet or the soft box; never the mesh."""
        if options.mask == "face" and (parser is None or parser.name == FACE_MESH):
            return MaskMaker(None, Event("mask_box_instead"))
        return make_mask_maker(options, parser)

    def beside_photo(
        self, restored: RestoredFace, image_HW3: Tensor, detail: tuple[float, float], options: RestoreOptions
    ) -> tuple[Tensor, Judgement | None]:
        return restored.restored_3HW, None

    def composite(
        self, target: Target, new: NewFace, options: PasteOptions, face_upscaler: Upscaler | None, upscale: float
    ) -> SkipKind | None:
        if face_upscaler is not None and upscale > 1:
            face_3SS = enlarged_face(new.face_3SS, face_upscaler, int(CROP_SIZE * upscale))
            new = dataclasses.replace(new, face_3SS=face_3SS)
        return None if paste(target, new, options.opacity, upscale) else "outside_image"

    def finish(self, canvas_BHW3: Tensor) -> None:
        """Truncated to 8 bits; the small number keeps whole levels, which float32 can miss."""
        canvas_BHW3.mul_(255).add_(1e-3).floor_().div_(255)


OFFICIAL = OfficialRecipe()


def skip_near_eyes(faces: Sequence[Face], min_distance: float = MIN_EYE_DISTANCE) -> Selection:
    """The official code reads its row of numbers one place too late: what it calls the eye distance is the length of
    (left eye's y - right eye's y, right eye's x - nose's x)."""

    def distance(face: Face) -> float:
        (_, left_y), (right_x, right_y), (nose_x, _) = face.landmarks_xy[:3]
        return math.hypot(left_y - right_y, right_x - nose_x)

    return skip_faces(faces, lambda face: eyes_judged(face, distance(face), min_distance))


def crop(image_HW3: Tensor, matrix: np.ndarray) -> Tensor:
    """crop_3SS: one bilinear sample per pixel, 8-bit steps, gray outside the image."""
    return imaging.quantize_8bit(sample_crop(image_HW3, matrix, 1, coordinates, BORDER_RGB))


def coordinates(matrix: np.ndarray, area: Rectangle, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each pixel of `area`: x_HW and y_HW in the crop, rounded as OpenCV 4.12 does."""
    columns_W = torch.arange(area.left, area.right, dtype=torch.float64)
    rows_H1 = torch.arange(area.top, area.bottom, dtype=torch.float64)[:, None]
    found: list[Tensor] = []
    for per_column, per_row, offset in matrix.tolist():
        along_W, down_H1 = per_column * columns_W, per_row * rows_H1 + offset
        fine = 32 * GRID
        steps_HW = (down_H1 * fine).round() + (along_W * fine).round() + GRID // 2
        found.append(((steps_HW / 32).floor() / GRID).float().to(device))
    return found[0], found[1]


def paste(target: Target, new: NewFace, opacity: float, upscale: float) -> bool:
    """Blend one face into its image, in place. Outside the crop the face is black, as far as the mask lets it show."""
    size, canvas_HW3 = new.face_3SS.shape[-1], target.canvas_HW3
    height, width = target.coverage_HW.shape
    matrix = published_paste_matrix(new.aligned.matrix, upscale, size)
    area = covered_rectangle(matrix, size, height, width)
    if area.is_empty:
        return False
    x_HW, y_HW = coordinates(matrix, area, canvas_HW3.device)
    layers_CSS = new.face_3SS if new.mask_SS is None else torch.cat((new.face_3SS, resized(new.mask_SS[None], size)))
    sampled_CHW = sample(layers_CSS.to(canvas_HW3), x_HW, y_HW)
    coverage_HW, mask_HW = published_soft_box(x_HW, y_HW, matrix, size, upscale, area, (height, width))
    face_3HW = (sampled_CHW[:3] * 255 + 0.5).floor_() / 255 * coverage_HW
    if new.mask_SS is not None:
        mask_HW = torch.minimum(mask_HW, sampled_CHW[3])
    mask_HW = mask_HW * opacity
    area.of(canvas_HW3).lerp_(face_3HW.permute(1, 2, 0), mask_HW[..., None])
    covered_HW = area.of(target.coverage_HW)
    torch.maximum(covered_HW, mask_HW, out=covered_HW)
    return True


def published_paste_matrix(matrix: np.ndarray, upscale: float, face_size: int) -> np.ndarray:
    """Enlarged image -> restored face of `face_size` pixels, from the image -> 512 crop matrix.

    Half a pixel too far to the right and below when the image is enlarged; not so with an enlarged face.
    """
    to_image = invert(matrix) * upscale
    if face_size == CROP_SIZE:
        to_image[:, 2] += 0.5 * upscale if upscale > 1 else 0
    else:
        to_image[:, :2] *= CROP_SIZE / face_size
    return invert(to_image)


def published_soft_box(
    x_HW: Tensor,
    y_HW: Tensor,
    matrix: np.ndarray,
    crop_size: int,
    upscale: float,
    area: Rectangle,
    image_size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The published box, pixel by pixel, the image's own border included: coverage_HW, mask_HW.

    Warp a square of ones, erode it by int(2 * upscale) pixels (the face is multiplied by this coverage), take its
    area, erode by 2 * edge pixels with edge = int(sqrt(area)) // 20, blur by 2 * edge + 1 taps. Erosion stops at the
    image's border and the blur is mirrored there.

    image_size: height, width.
    """
    first = int(2 * upscale)
    coverage_HW = _eroded_square(x_HW, y_HW, matrix, crop_size, area, image_size, (first,))
    edge = int(math.sqrt(float(coverage_HW.sum()))) // 20
    if edge == 0:
        return coverage_HW, coverage_HW
    mask_HW = _eroded_square(x_HW, y_HW, matrix, crop_size, area, image_size, (first, 2 * edge))
    # Mirroring at the rectangle is mirroring at the image's border, or of zeros where the rectangle ends inside it.
    for _ in range(2):
        operator = gaussian_operator(mask_HW.shape[0], 2 * edge + 1, opencv_sigma(edge)).to(mask_HW.device)
        mask_HW = (operator @ mask_HW).T
    return coverage_HW, mask_HW


def _eroded_square(
    x_HW: Tensor,
    y_HW: Tensor,
    matrix: np.ndarray,
    crop_size: int,
    area: Rectangle,
    image_size: tuple[int, int],
    kernels: tuple[int, ...],
) -> Tensor:
    """A warped square of ones, eroded by squares of `kernels` pixels one after the other.

    The smallest value within a window is that at the window's smallest or largest crop coordinate, because ones
    with zeros around them only rise and then fall. OpenCV's window of k reaches k // 2 back and k - 1 - k // 2 ahead.
    """
    behind = sum(kernel // 2 for kernel in kernels)
    ahead = sum(kernel - 1 - kernel // 2 for kernel in kernels)
    columns_W = torch.arange(area.left, area.right, device=x_HW.device)
    rows_H1 = torch.arange(area.top, area.bottom, device=x_HW.device)[:, None]
    windows = [
        (-position.clamp(max=behind).float(), (size - 1 - position).clamp(max=ahead).float())
        for position, size in ((columns_W, image_size[1]), (rows_H1, image_size[0]))
    ]
    square_HW = torch.ones_like(x_HW)
    for coordinate_HW, gradients in zip((x_HW, y_HW), matrix[:, :2].tolist(), strict=True):
        low_HW, high_HW = coordinate_HW, coordinate_HW
        for gradient, (back, forth) in zip(gradients, windows, strict=True):
            low_HW = low_HW + torch.minimum(gradient * back, gradient * forth)
            high_HW = high_HW + torch.maximum(gradient * back, gradient * forth)
        # Bilinear samples of a row of ones with zeros outside: ramps from -1 to 0 and from size - 1 to size.
        square_HW = square_HW * (low_HW + 1).clamp(0, 1) * (crop_size - high_HW).clamp(0, 1)
    return square_HW
