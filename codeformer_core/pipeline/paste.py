"""Putting aligned crops back into their images, or into other backgrounds.

Shape legend: B images, H W their height and width, C channels (1 to 4); N faces, S side of an aligned crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..faces.batch import FaceBatch, image_count, unlike_images
from ..faces.events import Event, SkipKind, SkippedFace
from ..faces.geometry import CROP_SIZE, crop_face
from ..faces.parsing import FaceParser
from ..imaging import tensors as imaging
from ..runtime import memory
from ..runtime.errors import InputError
from ..runtime.progress import PASTING, OnProgress, no_progress
from .align import AlignedFace, align_face
from .background import Upscaler, reporting
from .composite import NewFace, Target, composite, paste_matrix, resized
from .options import PASTE_DEFAULTS, PasteOptions
from .paste_masks import MaskMaker, changed_mask, make_mask_maker
from .results import counts, skip_events

# How far the proportions of a background may be from the images', as a part of 1: sizes are rounded.
SAME_PROPORTIONS = 0.02
MASKS_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class PastedFaces:
    """One entry per image.

    images_BHWC: float32 [0, 1], of the background's size, alpha kept.
    masks_BHW: how much of a face shows, 0..1.
    pasted_per_image: how many faces.
    events: of each image how many were pasted, why others were not, with what mask, and what else is to know.
    """

    images_BHWC: Tensor
    masks_BHW: Tensor
    pasted_per_image: tuple[int, ...]
    events: tuple[Event, ...]

    @property
    def pasted(self) -> int:
        """How many faces in all."""
        return sum(self.pasted_per_image)


@torch.no_grad()
def paste_faces(
    background_BHWC: Tensor,
    crops_NSSC: Tensor,
    faces: FaceBatch,
    *,
    options: PasteOptions = PASTE_DEFAULTS,
    parser: FaceParser | None = None,
    clip_mask_BHW: Tensor | None = None,
    face_upscaler: Upscaler | None = None,
    on_progress: OnProgress | None = None,
) -> PastedFaces:
    """Blend every crop into its image.

    Where the background has the images' size and a crop its 512 pixels, what the crop did not change stays the
    image's own pixels.

    background_BHWC: the images of `faces`, or others of their proportions at any size; one for each, or one for all.
    crops_NSSC: one for each face, in the order of `FaceBatch.in_order`, any size (made square, 512 if it was not).
    parser: for the mask "face" and for single parts.
    clip_mask_BHW: how much of a face each pixel of the background may get, [0, 1], one for each image or one for all,
    of any size.
    face_upscaler: redraws crops that the paste would enlarge.
    Raises ValueError naming the input and the fix. Nothing that was passed in is changed.
    """
    return paste_aligned(
        background_BHWC,
        crops_NSSC,
        faces,
        [align_face(image, face) for image, face in faces.in_order()],
        options=options,
        parser=parser,
        clip_mask_BHW=clip_mask_BHW,
        face_upscaler=face_upscaler,
        on_progress=on_progress,
    )


@torch.no_grad()
def paste_aligned(
    background_BHWC: Tensor,
    crops_NSSC: Tensor,
    faces: FaceBatch,
    aligned: Sequence[AlignedFace | None],
    *,
    options: PasteOptions = PASTE_DEFAULTS,
    parser: FaceParser | None = None,
    clip_mask_BHW: Tensor | None = None,
    face_upscaler: Upscaler | None = None,
    on_progress: OnProgress | None = None,
) -> PastedFaces:
    """`paste_faces` for faces whose alignments are known.

    aligned: of each face; None for one that can't be aligned.
    """
    masks = make_mask_maker(options, parser)
    imaging.check_layout(background_BHWC, "backgrounds")
    scale_xy = _check_background(background_BHWC, faces)
    batch, (height, width) = len(faces.per_image), background_BHWC.shape[1:3]
    what = f"a result of {batch} x {width}x{height} pixels"
    memory.require(batch * height * width * 4 * 5, background_BHWC.device, what)
    source = imaging.split_alpha(background_BHWC, "backgrounds")
    source_BHW3 = source.rgb_BHW3.expand(batch, -1, -1, -1)
    alpha_BHW1 = None if source.alpha_BHW1 is None else source.alpha_BHW1.expand(batch, -1, -1, -1)
    canvas_BHW3 = source_BHW3.clone(memory_format=torch.contiguous_format)
    coverage_BHW = memory.sparse_zeros(canvas_BHW3.shape[:3], canvas_BHW3.device)
    clips = [None] * batch if clip_mask_BHW is None else imaging.fit_masks(clip_mask_BHW, batch, (height, width))
    targets = [Target(*each) for each in zip(canvas_BHW3, coverage_BHW, [scale_xy] * batch, clips, strict=True)]
    crops, events = _square_crops(crops_NSSC, faces.count)
    events += unlike_images(faces, source.rgb_BHW3)

    report = on_progress or no_progress
    report(PASTING, 0, max(1, faces.count))
    face_upscaler = reporting(face_upscaler, report)
    pieces: list[NewFace | SkipKind] = [
        "no_face_shape" if one is None else _piece(one, crop_3SS.to(canvas_BHW3), source_BHW3[one.image], scale_xy)
        for one, crop_3SS in zip(aligned, crops, strict=True)
    ]
    # An image that keeps its brightness keeps the outlines of its heads.
    photos_BHW3 = source_BHW3 if options.chroma_only and options.mask == "head" else None
    skipped: list[list[SkippedFace]] = [[] for _ in range(batch)]
    placed = zip(faces.in_order(), _with_masks(pieces, masks, photos_BHW3, scale_xy), strict=True)
    for done, ((image, face), piece) in enumerate(placed, 1):
        problem = piece if isinstance(piece, str) else composite(targets[image], piece, options, face_upscaler)
        if problem:
            skipped[image].append(SkippedFace(face, problem))
        report(PASTING, done, faces.count)
    images_BHWC = imaging.merge_alpha(canvas_BHW3, alpha_BHW1)
    given = [len(found) for found in faces.per_image]
    pasted = tuple(count - len(left_out) for count, left_out in zip(given, skipped, strict=True))
    done = [
        counts(image, given=count, pasted=shown) for image, (count, shown) in enumerate(zip(given, pasted, strict=True))
    ]
    masked = [masks.event] if any(pasted) else []
    return PastedFaces(images_BHWC, coverage_BHW, pasted, (*done, *skip_events(skipped), *events, *masked))


def _piece(one: AlignedFace, crop_3SS: Tensor, source_HW3: Tensor, scale_xy: tuple[float, float]) -> NewFace | SkipKind:
    """What is pasted of a crop, or why nothing is."""
    # At another size nothing tells what the crop was like before.
    if scale_xy != (1, 1) or crop_3SS.shape[-1] != CROP_SIZE:
        return NewFace(one, crop_3SS, None)
    changed_SS = changed_mask(crop_3SS, crop_face(source_HW3, one.matrix))
    return "crop_unchanged" if changed_SS is None else NewFace(one, crop_3SS, changed_SS)


def _with_masks(
    pieces: Sequence[NewFace | SkipKind],
    masks: MaskMaker,
    photos_BHW3: Tensor | None,
    scale_xy: tuple[float, float],
) -> list[NewFace | SkipKind]:
    """The pieces with narrower masks, made a few at a time: a parser is brought to its device only once."""
    made = list(pieces)
    wanted = [(place, piece) for place, piece in enumerate(pieces) if isinstance(piece, NewFace)] if masks.make else []
    for start in range(0, len(wanted), MASKS_AT_ONCE):
        part = wanted[start : start + MASKS_AT_ONCE]
        faces_n3SS = torch.stack([resized(piece.face_3SS, CROP_SIZE) for _, piece in part]) * 2 - 1
        landmarks_n52 = np.stack([piece.aligned.landmarks_in_crop() for _, piece in part])
        photos_n3SS = None
        if photos_BHW3 is not None:
            matrices = [paste_matrix(piece.aligned.matrix, scale_xy, CROP_SIZE) for _, piece in part]
            crops = [crop_face(photos_BHW3[p.aligned.image], m) for (_, p), m in zip(part, matrices, strict=True)]
            photos_n3SS = torch.stack(crops) * 2 - 1
        assert masks.make is not None
        for (place, piece), mask_SS in zip(part, masks.make(faces_n3SS, landmarks_n52, photos_n3SS), strict=True):
            narrower_SS = mask_SS if piece.mask_SS is None else torch.minimum(piece.mask_SS, mask_SS)
            made[place] = replace(piece, mask_SS=narrower_SS)
    return made


def _check_background(background_BHWC: Tensor, faces: FaceBatch) -> tuple[float, float]:
    """Background pixels per pixel of the images, along x and y."""
    batch, (height, width) = len(faces.per_image), faces.image_size_hw
    if len(background_BHWC) not in (1, batch):
        raise ValueError(
            f"the faces belong to {image_count(batch)}, but there are {len(background_BHWC)} backgrounds. "
            "Give one background for each image, or one for all"
        )
    across, down = background_BHWC.shape[2] / width, background_BHWC.shape[1] / height
    # Sizes are whole pixels, which counts in small images.
    rounding = 0.5 / min(background_BHWC.shape[1:3]) + 0.5 / min(height, width)
    if abs(across / down - 1) > max(SAME_PROPORTIONS, rounding):
        raise ValueError(
            f"the faces were found in images of {width}x{height} pixels; a background of "
            f"{background_BHWC.shape[2]}x{background_BHWC.shape[1]} has other proportions. "
            "Give a background that was resized as a whole, not cropped"
        )
    return across, down


def _square_crops(crops_NHWC: Tensor, count: int) -> tuple[list[Tensor], list[Event]]:
    """crops (3, S, S) in [0, 1], one for each face, and what was done to make them so."""
    if count == 0:
        return [], []
    imaging.check_images(crops_NHWC, "face crops")
    if len(crops_NHWC) != count:
        raise InputError(
            f"{count} faces but {len(crops_NHWC)} crops came. Give the faces of these crops, and keep every crop "
            "between cropping and pasting",
            "crops_of_other_faces",
        )
    height, width = crops_NHWC.shape[1:3]
    rgb_NHW3 = imaging.split_alpha(crops_NHWC, "face crops").rgb_BHW3.clamp(0, 1)
    if height == width:
        return list(rgb_NHW3.permute(0, 3, 1, 2)), []
    squared_NSS3 = imaging.resize(rgb_NHW3, CROP_SIZE, CROP_SIZE)
    stretched = Event("crops_stretched", values={"width": width, "height": height, "size": CROP_SIZE})
    return list(squared_NSS3.permute(0, 3, 1, 2)), [stretched]
