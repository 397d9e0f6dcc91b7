"""Putting aligned crops back into pictures, or into other backgrounds.

Shape legend: B pictures, H W their height and width, C channels (1 to 4); N faces, S side of an aligned crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import images as pictures
from .. import memory
from ..canvas import Upscaler
from ..faces.colour import ColourMatch, check_colour_match, match_colour
from ..faces.compositing import paste_face, paste_matrix
from ..faces.found import Faces
from ..faces.geometry import CROP_SIZE, crop_face, estimate_alignment
from ..faces.parsing import FaceParser
from ..faces.selection import SkippedFace
from ..faces.types import Face
from ..progress import PASTING, OnProgress, no_progress
from ..results import describe_skipped, face_count
from .detect import NO_FACE_SHAPE
from .shapes import PasteShape, ShapesOf, changed_mask, choose_shapes, landmarks_in_crop

# How far the proportions of a background may be from the pictures', as a part of 1: sizes are rounded.
SAME_PROPORTIONS = 0.02


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
    """Blend every crop into its picture. What a crop did not change stays the picture's own pixels.

    background_BHWC: the pictures of `faces`, or others of their proportions at any size; one for each, or one for all.
    crops_NSSC: one for each face, in the order of `Faces.in_order`, any size (made square, 512 if it was not).
    opacity: 0..1 of the pasted face. chroma_only: the background keeps its brightness. allowed_BHW: how much of a face
    each pixel of the background may get, [0, 1], one for each picture or one for all, of any size. face_upscaler:
    enlarges crops that would be enlarged by the paste.
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
    masks_BHW = torch.zeros(canvas_BHW3.shape[:3], device=canvas_BHW3.device)
    allowed = [None] * batch if allowed_BHW is None else _fitted_masks(allowed_BHW, batch, (height, width))
    crops_N3SS, remarks = _square_crops(crops_NSSC, faces.count)
    recipe = _Recipe(scale_xy, shapes_of, colour_match, opacity, chroma_only, face_upscaler)
    report = on_progress or no_progress
    left_out = 0
    report(PASTING, 0, max(1, faces.count))
    for done, ((index, face), crop_3SS) in enumerate(zip(faces.in_order(), crops_N3SS, strict=True), 1):
        reason = _paste_one(
            recipe, face, crop_3SS, source_BHW3[index], canvas_BHW3[index], masks_BHW[index], allowed[index]
        )
        if reason:
            left_out += 1
            remarks.append(f"picture {index + 1}: {describe_skipped([SkippedFace(face, reason)])[0]}")
        report(PASTING, done, faces.count)
    images_BHWC = pictures.put_together(canvas_BHW3, alpha_BHW1)
    return PastedFaces(images_BHWC, masks_BHW, faces.count - left_out, words, tuple(remarks))


@dataclass(frozen=True)
class _Recipe:
    scale_xy: tuple[float, float]
    shapes_of: ShapesOf | None
    colour_match: ColourMatch
    opacity: float
    chroma_only: bool
    face_upscaler: Upscaler | None


def _paste_one(
    recipe: _Recipe,
    face: Face,
    crop_3SS: Tensor,
    source_HW3: Tensor,
    canvas_HW3: Tensor,
    mask_HW: Tensor,
    allowed_HW: Tensor | None,
) -> str | None:
    """Blends one crop into canvas_HW3 and notes it in mask_HW, both in place; the reason when it is left out."""
    matrix = estimate_alignment(face)
    if matrix is None:
        return NO_FACE_SHAPE
    crop_3SS = crop_3SS.to(canvas_HW3)
    shape_SS = None
    if recipe.scale_xy == (1, 1) and crop_3SS.shape[-1] == CROP_SIZE:
        shape_SS = changed_mask(crop_3SS, crop_face(source_HW3, matrix))
        if shape_SS is None:
            return "its crop came back as it went"
    if recipe.shapes_of is not None:
        landmarks_152 = landmarks_in_crop(face.landmarks_array(), matrix)[None]
        chosen_SS = recipe.shapes_of(_resized(crop_3SS, CROP_SIZE)[None] * 2 - 1, landmarks_152)[0]
        shape_SS = chosen_SS if shape_SS is None else torch.minimum(shape_SS, chosen_SS)
    if recipe.colour_match != "off":
        there_3SS = crop_face(canvas_HW3, paste_matrix(matrix, recipe.scale_xy, CROP_SIZE))
        matched_3SS = match_colour(_resized(crop_3SS, CROP_SIZE), there_3SS, shape_SS, recipe.colour_match)
        crop_3SS = (
            matched_3SS
            if crop_3SS.shape[-1] == CROP_SIZE
            else crop_3SS + _resized(matched_3SS - _resized(crop_3SS, CROP_SIZE), crop_3SS.shape[-1])
        )
    if recipe.face_upscaler is not None and max(recipe.scale_xy) > 1:
        crop_3SS = enlarged_face(crop_3SS, recipe.face_upscaler, max(recipe.scale_xy))
    touched = paste_face(
        canvas_HW3,
        mask_HW,
        crop_3SS,
        None if shape_SS is None else _resized(shape_SS[None], crop_3SS.shape[-1])[0],
        paste_matrix(matrix, recipe.scale_xy, crop_3SS.shape[-1]),
        opacity=recipe.opacity,
        allowed_HW=allowed_HW,
        chroma_only=recipe.chroma_only,
    )
    return None if touched else "it lies outside the picture"


def enlarged_face(face_3SS: Tensor, face_upscaler: Upscaler, upscale: float) -> Tensor:
    """The face as its paste at `upscale` needs it, redrawn by the upscaler."""
    size = int(CROP_SIZE * upscale)
    enlarged_1SS3 = face_upscaler(face_3SS.permute(1, 2, 0)[None])
    return pictures.resize(enlarged_1SS3, size, size)[0].permute(2, 0, 1).to(face_3SS)


def _resized(image_CSS: Tensor, size: int) -> Tensor:
    return pictures.resize(image_CSS.permute(1, 2, 0)[None], size, size)[0].permute(2, 0, 1)


def _check_background(background_BHWC: Tensor, faces: Faces) -> tuple[float, float]:
    """Background pixels per pixel of the pictures, along x and y."""
    batch, (height, width) = len(faces.per_picture), faces.picture_size_hw
    if len(background_BHWC) not in (1, batch):
        raise ValueError(
            f"the faces belong to {batch} pictures, but there are {len(background_BHWC)} backgrounds. "
            "Cure: one background for each picture, or one for all"
        )
    across, down = background_BHWC.shape[2] / width, background_BHWC.shape[1] / height
    if abs(across / down - 1) > SAME_PROPORTIONS:
        raise ValueError(
            f"the faces were found in pictures of {width}x{height} pixels; a background of "
            f"{background_BHWC.shape[2]}x{background_BHWC.shape[1]} has other proportions. "
            "Cure: a background that was resized as a whole, not cropped"
        )
    return across, down


def _fitted_masks(masks_BHW: Tensor, batch: int, size: tuple[int, int]) -> Tensor:
    """One mask for each picture, stretched to its size."""
    if masks_BHW.ndim != 3 or len(masks_BHW) not in (1, batch):
        raise ValueError(
            f"the mask must have the shape (1 or {batch}, height, width), got {tuple(masks_BHW.shape)}. "
            "Cure: one mask for each picture, or one for all"
        )
    fitted_BHW1 = pictures.resize(masks_BHW.float()[..., None], *size).clamp(0, 1)
    return fitted_BHW1[..., 0].expand(batch, -1, -1)


def _square_crops(crops_NHWC: Tensor, count: int) -> tuple[list[Tensor], list[str]]:
    """crops (3, S, S) in [0, 1], one for each face, and what was done to make them so."""
    if count == 0:
        return [], []
    pictures.check_images(crops_NHWC, "face crops")
    if len(crops_NHWC) != count:
        raise ValueError(
            f"there are {face_count(count)} but {len(crops_NHWC)} crops. "
            "Cure: connect the FACES that came with these crops, and keep every crop in between"
        )
    height, width = crops_NHWC.shape[1:3]
    rgb_NHW3 = pictures.take_apart(crops_NHWC, "face crops").rgb_BHW3
    if height == width:
        return list(rgb_NHW3.permute(0, 3, 1, 2)), []
    squared_NSS3 = pictures.resize(rgb_NHW3, CROP_SIZE, CROP_SIZE)
    remark = f"crops of {width}x{height} pixels were stretched to {CROP_SIZE}x{CROP_SIZE}"
    return list(squared_NSS3.permute(0, 3, 1, 2)), [remark]
