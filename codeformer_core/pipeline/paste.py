"""Putting aligned crops back into pictures, or into other backgrounds.

Shape legend: B pictures, H W their height and width, C channels (1 to 4); N faces, S side of an aligned crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..faces.batch import Faces, picture_count, unlike_pictures
from ..faces.geometry import CROP_SIZE, covered_rectangle, crop_face, estimate_alignment, scale_of
from ..faces.parsing import FaceParser
from ..faces.selection import SkippedFace
from ..faces.types import Face
from ..imaging import tensors as pictures
from ..runtime import memory
from ..runtime.progress import PASTING, OnProgress, no_progress
from .canvas import Upscaler
from .color_match import ColourMatch, check_colour_match, match_colour
from .composite import paste_face, paste_matrix
from .detect import NO_FACE_SHAPE, OUTSIDE
from .paste_masks import PasteShape, ShapesOf, changed_mask, choose_shapes, landmarks_in_crop
from .results import describe_skipped, face_count

# How far the proportions of a background may be from the pictures', as a part of 1: sizes are rounded.
SAME_PROPORTIONS = 0.02
SHAPES_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class PastedFaces:
    """images_BHWC: float32 [0, 1], of the background's size, alpha kept. masks_BHW: how much of a face shows, 0..1.

    remarks: what the user should know.
    """

    images_BHWC: Tensor
    masks_BHW: Tensor
    pasted: int
    shape: str
    remarks: tuple[str, ...]

    def summary(self) -> str:
        """How many, with what mask, then the remarks."""
        return "\n".join((f"{face_count(self.pasted)} pasted, mask: {self.shape}", *self.remarks))


@torch.no_grad()
def paste_faces(
    background_BHWC: Tensor,
    crops_NSSC: Tensor,
    faces: Faces,
    *,
    shape: PasteShape | None = None,
    parser: FaceParser | None = None,
    opacity: float = 1.0,
    colour_match: ColourMatch = "off",
    chroma_only: bool = False,
    allowed_BHW: Tensor | None = None,
    face_upscaler: Upscaler | None = None,
    on_progress: OnProgress | None = None,
) -> PastedFaces:
    """Blend every crop into its picture. Where the background has the pictures' size and a crop its 512 pixels, what
    the crop did not change stays the picture's own pixels.

    background_BHWC: the pictures of `faces`, or others of their proportions at any size; one for each, or one for all.
    crops_NSSC: one for each face, in the order of `Faces.in_order`, any size (made square, 512 if it was not).
    opacity: 0..1 of the pasted face. chroma_only: the background keeps its brightness. allowed_BHW: how much of a face
    each pixel of the background may get, [0, 1], one for each picture or one for all, of any size. face_upscaler:
    redraws crops that the paste would enlarge.
    Raises ValueError naming the input and the cure. Nothing that was passed in is changed.
    """
    check_colour_match(colour_match)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be from 0 (invisible) to 1, got {opacity}")
    shapes_of, words = choose_shapes(shape or PasteShape(), parser)
    pictures.check_layout(background_BHWC, "backgrounds")
    scale_xy = _check_background(background_BHWC, faces)
    batch, (height, width) = len(faces.per_picture), background_BHWC.shape[1:3]
    what = f"a result of {batch} x {width}x{height} pixels"
    memory.require(batch * height * width * 4 * 5, background_BHWC.device, what)
    source = pictures.take_apart(background_BHWC, "backgrounds")
    source_BHW3 = source.rgb_BHW3.expand(batch, -1, -1, -1)
    alpha_BHW1 = None if source.alpha_BHW1 is None else source.alpha_BHW1.expand(batch, -1, -1, -1)
    canvas_BHW3 = source_BHW3.clone(memory_format=torch.contiguous_format)
    masks_BHW = memory.sparse_zeros(canvas_BHW3.shape[:3], canvas_BHW3.device)
    allowed = [None] * batch if allowed_BHW is None else pictures.fitted_masks(allowed_BHW, batch, (height, width))
    crops_N3SS, remarks = _square_crops(crops_NSSC, faces.count)
    remarks += unlike_pictures(faces, source.rgb_BHW3)
    placed = [
        _placed(index, face, crop_3SS.to(canvas_BHW3), source_BHW3[index], scale_xy)
        for (index, face), crop_3SS in zip(faces.in_order(), crops_N3SS, strict=True)
    ]
    _choose_all_shapes(placed, shapes_of)
    recipe = _Recipe(scale_xy, colour_match, opacity, chroma_only, face_upscaler)
    report = on_progress or no_progress
    left_out = 0
    report(PASTING, 0, max(1, faces.count))
    for done, one in enumerate(placed, 1):
        index = one.picture
        reason = one.reason or _paste_one(recipe, one, canvas_BHW3[index], masks_BHW[index], allowed[index])
        if reason:
            left_out += 1
            remarks.append(f"picture {index + 1}: {describe_skipped([SkippedFace(one.face, reason)])[0]}")
        report(PASTING, done, faces.count)
    images_BHWC = pictures.put_together(canvas_BHW3, alpha_BHW1)
    return PastedFaces(images_BHWC, masks_BHW, faces.count - left_out, words, tuple(remarks))


@dataclass
class _Placed:
    """A crop and the way to it. reason: why it is not pasted, or None. shape_SS: of the 512 crop; None for the box."""

    picture: int
    face: Face
    crop_3SS: Tensor
    matrix: np.ndarray
    shape_SS: Tensor | None
    reason: str | None


def _placed(picture: int, face: Face, crop_3SS: Tensor, source_HW3: Tensor, scale_xy: tuple[float, float]) -> _Placed:
    matrix = estimate_alignment(face)
    if matrix is None:
        return _Placed(picture, face, crop_3SS, np.eye(2, 3), None, NO_FACE_SHAPE)
    changed_SS = None
    # At another size nothing tells what the crop was like before.
    if scale_xy == (1, 1) and crop_3SS.shape[-1] == CROP_SIZE:
        changed_SS = changed_mask(crop_3SS, crop_face(source_HW3, matrix))
        if changed_SS is None:
            return _Placed(picture, face, crop_3SS, matrix, None, "its crop came back as it went")
    return _Placed(picture, face, crop_3SS, matrix, changed_SS, None)


def _choose_all_shapes(placed: Sequence[_Placed], shapes_of: ShapesOf | None) -> None:
    """Narrows the shapes of all faces that are pasted, a few at a time: a parser is brought to its device only once."""
    wanted = [one for one in placed if one.reason is None] if shapes_of else []
    for start in range(0, len(wanted), SHAPES_AT_ONCE):
        part = wanted[start : start + SHAPES_AT_ONCE]
        faces_n3SS = torch.stack([_resized(one.crop_3SS, CROP_SIZE) for one in part]) * 2 - 1
        landmarks = [landmarks_in_crop(one.face.landmarks_array(), one.matrix) for one in part]
        assert shapes_of is not None
        for one, shape_SS in zip(part, shapes_of(faces_n3SS, np.stack(landmarks)), strict=True):
            one.shape_SS = shape_SS if one.shape_SS is None else torch.minimum(one.shape_SS, shape_SS)


@dataclass(frozen=True)
class _Recipe:
    scale_xy: tuple[float, float]
    colour_match: ColourMatch
    opacity: float
    chroma_only: bool
    face_upscaler: Upscaler | None


def _paste_one(
    recipe: _Recipe, one: _Placed, canvas_HW3: Tensor, mask_HW: Tensor, allowed_HW: Tensor | None
) -> str | None:
    """Blends one crop into canvas_HW3 and notes it in mask_HW, both in place; the reason when it is left out."""
    crop_3SS, shape_SS = one.crop_3SS, one.shape_SS
    height, width = mask_HW.shape
    if reason := _nothing_shows(recipe, one, shape_SS, allowed_HW, (height, width)):
        return reason
    size = crop_3SS.shape[-1]
    if recipe.colour_match != "off":
        there_3SS = crop_face(canvas_HW3, paste_matrix(one.matrix, recipe.scale_xy, CROP_SIZE))
        small_3SS = _resized(crop_3SS, CROP_SIZE)
        matched_3SS = match_colour(small_3SS, there_3SS, shape_SS, recipe.colour_match)
        # The change alone is resized, so that a larger crop keeps its details.
        crop_3SS = (crop_3SS + _resized(matched_3SS - small_3SS, size)).clamp(0, 1)
    enlarged = 1 / scale_of(paste_matrix(one.matrix, recipe.scale_xy, size))
    if recipe.face_upscaler is not None and enlarged > 1:
        crop_3SS = enlarged_face(crop_3SS, recipe.face_upscaler, math.ceil(size * enlarged))
    touched = paste_face(
        canvas_HW3,
        mask_HW,
        crop_3SS,
        None if shape_SS is None else _resized(shape_SS[None], crop_3SS.shape[-1])[0],
        paste_matrix(one.matrix, recipe.scale_xy, crop_3SS.shape[-1]),
        opacity=recipe.opacity,
        allowed_HW=allowed_HW,
        chroma_only=recipe.chroma_only,
    )
    return None if touched else OUTSIDE


def _nothing_shows(
    recipe: _Recipe, one: _Placed, shape_SS: Tensor | None, allowed_HW: Tensor | None, size_hw: tuple[int, int]
) -> str | None:
    """Why a paste would change nothing, in words."""
    if recipe.opacity == 0:
        return "the opacity is 0"
    if shape_SS is not None and not bool(shape_SS.any()):
        return "its mask is empty"
    area = covered_rectangle(paste_matrix(one.matrix, recipe.scale_xy, CROP_SIZE), CROP_SIZE, *size_hw)
    if allowed_HW is not None and not area.is_empty and not bool(area.of(allowed_HW[..., None]).any()):
        return "the limiting mask is black there"
    return None


def enlarged_face(face_3SS: Tensor, face_upscaler: Upscaler, size: int) -> Tensor:
    """The face redrawn by the upscaler, at `size`."""
    enlarged_1SS3 = face_upscaler(face_3SS.permute(1, 2, 0)[None])
    pictures.check_images(enlarged_1SS3, "the upscaler's faces")
    return pictures.resize(enlarged_1SS3, size, size)[0].permute(2, 0, 1).to(face_3SS)


def _resized(image_CSS: Tensor, size: int) -> Tensor:
    return pictures.resize(image_CSS.permute(1, 2, 0)[None], size, size)[0].permute(2, 0, 1)


def _check_background(background_BHWC: Tensor, faces: Faces) -> tuple[float, float]:
    """Background pixels per pixel of the pictures, along x and y."""
    batch, (height, width) = len(faces.per_picture), faces.picture_size_hw
    if len(background_BHWC) not in (1, batch):
        raise ValueError(
            f"the faces belong to {picture_count(batch)}, but there are {len(background_BHWC)} backgrounds. "
            "Cure: one background for each picture, or one for all"
        )
    across, down = background_BHWC.shape[2] / width, background_BHWC.shape[1] / height
    # Sizes are whole pixels, which counts in small pictures.
    rounding = 0.5 / min(background_BHWC.shape[1:3]) + 0.5 / min(height, width)
    if abs(across / down - 1) > max(SAME_PROPORTIONS, rounding):
        raise ValueError(
            f"the faces were found in pictures of {width}x{height} pixels; a background of "
            f"{background_BHWC.shape[2]}x{background_BHWC.shape[1]} has other proportions. "
            "Cure: a background that was resized as a whole, not cropped"
        )
    return across, down


def _square_crops(crops_NHWC: Tensor, count: int) -> tuple[list[Tensor], list[str]]:
    """crops (3, S, S) in [0, 1], one for each face, and what was done to make them so."""
    if count == 0:
        return [], []
    pictures.check_images(crops_NHWC, "face crops")
    if len(crops_NHWC) != count:
        raise ValueError(
            f"{face_count(count)} but {len(crops_NHWC)} crop{'s' * (len(crops_NHWC) != 1)} came. "
            "Cure: connect the FACES that came with these crops, and keep every crop in between"
        )
    height, width = crops_NHWC.shape[1:3]
    rgb_NHW3 = pictures.take_apart(crops_NHWC, "face crops").rgb_BHW3.clamp(0, 1)
    if height == width:
        return list(rgb_NHW3.permute(0, 3, 1, 2)), []
    squared_NSS3 = pictures.resize(rgb_NHW3, CROP_SIZE, CROP_SIZE)
    remark = f"crops of {width}x{height} pixels were stretched to {CROP_SIZE}x{CROP_SIZE}"
    return list(squared_NSS3.permute(0, 3, 1, 2)), [remark]
