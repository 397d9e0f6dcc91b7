"""Holes in faces made new: in aligned crops as the published recipe does it, and in the faces of whole images.

Shape legend: B images, H W their height and width, C channels (1 to 4); N faces, S side of an aligned crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.batch import FaceBatch, check_same_images
from ..faces.detection import FaceDetector
from ..faces.events import Event
from ..faces.geometry import CROP_SIZE
from ..imaging import tensors as imaging
from ..imaging.gray import LUMA_RGB, is_gray
from ..models.restorer import FaceInpainter, check_task, made_by
from ..runtime import memory
from ..runtime.progress import FILLING, OnProgress, no_progress
from .align import AlignedFace
from .batches import through_network
from .crop import crop_events, cut_crops
from .inpaint_masks import (
    covered_face,
    empty_mask_event,
    hole_in_crop,
    hole_in_network_size,
    make_inpaint_masks,
    with_soft_edge,
)
from .options import PasteOptions, RestoreOptions
from .paste import paste_aligned
from .photos import EditedPhotos
from .plan import faces_of, plan
from .results import notes_of, skip_events
from .sizes import plan_sizes, require_memory

# Of the face's outline: above it there is nothing to tell whose face it was.
FACE_GONE = 0.9
# Parts of a mask below this are not worth a line.
SHARE_WORTH_SAYING = 0.005


@dataclass(frozen=True, eq=False)
class InpaintedFaces:
    """Inpainted crops.

    images_BHWC: float32 [0, 1], as many as came in and of their size, alpha kept; outside the masks unchanged to
    the last bit.
    masks_BHW: float32, 1 where a pixel was filled, else 0.
    events: what was done.
    """

    images_BHWC: Tensor
    masks_BHW: Tensor
    events: tuple[Event, ...]


@torch.no_grad()
def inpaint_aligned(
    images_BHWC: Tensor,
    *,
    restorer: FaceInpainter,
    mask_BHW: Tensor | None = None,
    white_pixels: bool = True,
    on_progress: OnProgress | None = None,
) -> InpaintedFaces:
    """Fill holes in images that are aligned faces (FFHQ template, any size).

    Colours are the network's, as published, also in a gray crop; `inpaint_photos` keeps gray images gray.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA.
    mask_BHW, white_pixels: what is to be filled, see `make_inpaint_masks`.
    on_progress: called with (stage, done, total) between batches; may raise to cancel.
    Raises ValueError naming the input and the fix.
    """
    check_task(restorer, "inpainting")
    imaging.check_layout(images_BHWC, "face crops")
    height, width = images_BHWC.shape[1:3]
    require_memory(images_BHWC, plan_sizes(height, width))
    source = imaging.split_alpha(images_BHWC, "face crops")
    holes_BHW = make_inpaint_masks(source.rgb_BHW3, mask_BHW, white_pixels)
    marked = _marked(holes_BHW)
    result_BHW3 = source.rgb_BHW3.clone(memory_format=torch.contiguous_format)
    result_BHW3[marked] = _filled(source.rgb_BHW3[marked], holes_BHW[marked], restorer, on_progress or no_progress)
    events = _filled_events(holes_BHW, marked, restorer) if marked else [empty_mask_event(mask_BHW, white_pixels)]
    events += [event for event in crop_events(source.rgb_BHW3) if marked and event.kind == "crops_resized"]
    return InpaintedFaces(imaging.merge_alpha(result_BHW3, source.alpha_BHW1), holes_BHW.float(), tuple(events))


@torch.no_grad()
def inpaint_photos(
    images_BHWC: Tensor,
    *,
    restorer: FaceInpainter,
    face_source: FaceDetector | FaceBatch,
    mask_BHW: Tensor | None = None,
    white_pixels: bool = True,
    confidence: float | None = None,
    min_face_size: float = 0.0,
    on_progress: OnProgress | None = None,
) -> EditedPhotos:
    """Fill holes in the faces of images. Pixels that are not marked stay, but for a soft edge of a few pixels.

    What lies on no face stays.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA; what is filled in a gray one is gray.
    face_source: looks for the faces; or the faces themselves, whatever confidence and min_face_size say, as a detector
    may not see a face with a hole in it.
    mask_BHW, white_pixels: see `make_inpaint_masks`.
    confidence, min_face_size: see `RestoreOptions`.
    on_progress: called with (stage, done, total) between batches; may raise to cancel.
    Raises ValueError naming the input and the fix. Nothing that was passed in is changed.
    """
    check_task(restorer, "inpainting")
    report = on_progress or no_progress
    imaging.check_layout(images_BHWC)
    if isinstance(face_source, FaceBatch):
        check_same_images(face_source, images_BHWC)
    batch, height, width = images_BHWC.shape[:3]
    # Holes, soft edges and their making, beside what pasting asks for itself.
    what = f"filling holes in {batch} x {width}x{height} pixels"
    memory.require(batch * height * width * 4 * 3, images_BHWC.device, what)
    source = imaging.split_alpha(images_BHWC)
    rgb_BHW3 = source.rgb_BHW3
    holes_BHW = make_inpaint_masks(rgb_BHW3, mask_BHW, white_pixels)
    if not bool(holes_BHW.any()):
        same_BHWC = imaging.merge_alpha(rgb_BHW3.clone(), source.alpha_BHW1)
        nobody = FaceBatch.of(rgb_BHW3, [()] * batch)
        return EditedPhotos(same_BHWC, holes_BHW.float(), nobody, (empty_mask_event(mask_BHW, white_pixels),))
    options = RestoreOptions(confidence=confidence, min_face_size=min_face_size)
    planned = plan(rgb_BHW3, face_source, options, report=report)
    holes_NSS = _crop_holes(holes_BHW, planned.aligned)
    marked = _marked(holes_NSS)
    aligned = [planned.aligned[number] for number in marked]
    faces = faces_of(face_source, rgb_BHW3, aligned)
    filled_NSS3 = _filled(cut_crops(rgb_BHW3, aligned), holes_NSS[marked], restorer, report)
    gray = {image for image in {one.image for one in aligned} if _is_gray(rgb_BHW3[image], holes_BHW[image])}
    for one, face_SS3 in zip(aligned, filled_NSS3, strict=True):
        if one.image in gray:
            face_SS3.copy_((face_SS3 @ face_SS3.new_tensor(LUMA_RGB))[..., None].expand_as(face_SS3))
    pasted = paste_aligned(
        images_BHWC,
        filled_NSS3,
        faces,
        aligned,
        options=PasteOptions(mask="box"),
        clip_mask_BHW=_soft_edges(holes_BHW, faces),
        on_progress=report,
    )
    events = planned.counts("filled", pasted.pasted_per_image)
    events += [*skip_events(planned.skipped), *planned.found_by]
    events += [
        Event("face_gone", one.image, one.face)
        for one, hole_SS in zip(aligned, holes_NSS[marked], strict=True)
        if covered_face(hole_SS) > FACE_GONE
    ]
    events += [
        # Every hole is pasted in a box, which is none of the user's choices.
        *(event for event in notes_of(pasted.events) if event.kind != "mask_box"),
        *_left_over(holes_BHW, pasted.masks_BHW, faces),
        *(made_by("filled_by", restorer) if pasted.pasted else ()),
    ]
    return EditedPhotos(pasted.images_BHWC, pasted.masks_BHW, faces, tuple(events))


def _filled_events(holes_BHW: Tensor, marked: Sequence[int], restorer: FaceInpainter) -> list[Event]:
    """How much of each crop is filled."""
    events = [Event("faces", values={"filled": len(marked)})]
    for index, hole_HW in enumerate(holes_BHW):
        if index not in marked:
            events.append(Event("nothing_marked", index))
            continue
        events.append(Event("filled_share", index, values={"share": float(hole_HW.float().mean())}))
        if covered_face(hole_in_network_size(hole_HW[None])[0]) > FACE_GONE:
            events.append(Event("face_gone", index))
    return [*events, *made_by("filled_by", restorer)]


def _filled(crops_NHW3: Tensor, holes_NHW: Tensor, restorer: FaceInpainter, report: OnProgress) -> Tensor:
    """The crops with their holes made new, RGB [0, 1]; all other pixels as they came."""

    def run(faces_N3SS: Tensor, part: slice) -> Tensor:
        return restorer.inpaint(faces_N3SS, hole_in_network_size(holes_NHW[part])[:, None].float())

    made_NHW3 = through_network(crops_NHW3, run, restorer.faces_at_once, FILLING, report)
    return torch.where(holes_NHW[..., None], made_NHW3, crops_NHW3)


def _is_gray(image_HW3: Tensor, hole_HW: Tensor) -> bool:
    """Whether the pixels outside the hole are gray; all pixels if the hole covers the image."""
    return is_gray(image_HW3 if bool(hole_HW.all()) else image_HW3[~hole_HW][None])


def _soft_edges(holes_BHW: Tensor, worked_on: FaceBatch) -> Tensor:
    """masks_BHW; empty for images in which nothing was filled."""
    soft_BHW = holes_BHW.new_zeros(holes_BHW.shape, dtype=torch.float32)
    for index, found in enumerate(worked_on.per_image):
        if found:
            soft_BHW[index] = with_soft_edge(holes_BHW[index : index + 1])[0]
    return soft_BHW


def _crop_holes(holes_BHW: Tensor, aligned: Sequence[AlignedFace]) -> Tensor:
    """holes_NSS in the aligned crop of every face."""
    crop_holes_NSS = torch.zeros((len(aligned), CROP_SIZE, CROP_SIZE), dtype=torch.bool, device=holes_BHW.device)
    for number, one in enumerate(aligned):
        crop_holes_NSS[number] = hole_in_crop(holes_BHW[one.image], one.matrix)
    return crop_holes_NSS


def _marked(holes_NHW: Tensor) -> list[int]:
    return [index for index, hole_HW in enumerate(holes_NHW) if bool(hole_HW.any())]


def _left_over(holes_BHW: Tensor, pasted_BHW: Tensor, worked_on: FaceBatch) -> list[Event]:
    """An event for each image whose mask reaches beyond its faces."""
    events: list[Event] = []
    for index, faces in enumerate(worked_on.per_image):
        hole_HW = holes_BHW[index]
        share = float((hole_HW & (pasted_BHW[index] < 0.5)).sum()) / max(1, int(hole_HW.sum()))
        if share > SHARE_WORTH_SAYING:
            events.append(Event("mask_beside_faces" if faces else "mask_without_face", index, values={"share": share}))
    return events
