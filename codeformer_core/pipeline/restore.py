"""Restoring the faces of images: plan, restore, composite.

Shape legend: B images, H W their height and width, C channels (1 to 4); N faces of all images together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..faces.batch import FaceBatch, check_same_images
from ..faces.choices import FaceSelection
from ..faces.events import Event
from ..faces.landmarks import LandmarkDetector
from ..faces.parsing import FaceParser
from ..imaging import tensors as imaging
from ..models.restorer import FaceRestorer, check_task, fidelity_of, restored_by, without_fidelity
from ..runtime import memory
from ..runtime.progress import RESTORING, OnProgress, no_progress
from .align import AlignedFace
from .background import Upscaler, check_background, reporting
from .components import component_boxes, component_events, placed_by, stacked
from .detail import detail_of
from .judge import judged_events
from .options import RESTORE_DEFAULTS, MaskKind, PasteOptions, RestoreOptions, WhenWorse
from .person import Person
from .plan import FaceSource, plan
from .results import OnPasted, RestoredFace, RestoredImages, skip_events
from .steps import gray_images, paste_restored, prepare, recipe_of


@dataclass(frozen=True)
class Models:
    """What restoring needs.

    detector: looks for the faces; or the faces themselves, in pixels of the images, aligned already or not.
    parser: for the paste mask "face".
    landmark_detector: finds 68 landmarks for a restorer that works part by part, in faces that bring none.
    """

    restorer: FaceRestorer
    detector: FaceSource
    parser: FaceParser | None = None
    landmark_detector: LandmarkDetector | None = None


def restore_images(
    images_BHWC: Tensor,
    *,
    restorer: FaceRestorer,
    detector: FaceSource,
    parser: FaceParser | None = None,
    landmark_detector: LandmarkDetector | None = None,
    background: Tensor | Upscaler | None = None,
    face_upscaler: Upscaler | None = None,
    fidelity: float | None = None,
    upscale: float = 1.0,
    confidence: float | None = None,
    min_face_size: float = 0.0,
    max_face_size: float = 0.0,
    faces: FaceSelection = "all",
    mask: MaskKind = "face",
    opacity: float = 1.0,
    detail: float | None = None,
    when_worse: WhenWorse = "fade",
    paste: PasteOptions | None = None,
    person: Person | None = None,
    clip_mask_BHW: Tensor | None = None,
    parity: bool = False,
    batch_size: int | None = None,
    keep_crops: bool = True,
    on_progress: OnProgress | None = None,
    on_pasted: OnPasted | None = None,
) -> RestoredImages:
    """`restore` with its options as keywords: see there, `Models` and `RestoreOptions`.

    mask, opacity: those of `PasteOptions`.
    paste: all of them, in their place.
    """
    return restore(
        images_BHWC,
        Models(restorer, detector, parser, landmark_detector),
        RestoreOptions(
            fidelity=fidelity,
            upscale=upscale,
            confidence=confidence,
            min_face_size=min_face_size,
            max_face_size=max_face_size,
            faces=faces,
            detail=detail,
            when_worse=when_worse,
            parity=parity,
            batch_size=batch_size,
            paste=paste or PasteOptions(mask=mask, opacity=opacity),
        ),
        person=person,
        clip_mask_BHW=clip_mask_BHW,
        background=background,
        face_upscaler=face_upscaler,
        keep_crops=keep_crops,
        on_progress=on_progress,
        on_pasted=on_pasted,
    )


@torch.no_grad()
def restore(
    images_BHWC: Tensor,
    models: Models,
    options: RestoreOptions = RESTORE_DEFAULTS,
    *,
    person: Person | None = None,
    background: Tensor | Upscaler | None = None,
    face_upscaler: Upscaler | None = None,
    clip_mask_BHW: Tensor | None = None,
    keep_crops: bool = True,
    on_progress: OnProgress | None = None,
    on_pasted: OnPasted | None = None,
) -> RestoredImages:
    """Restore the faces of images; what is not a face stays as it is.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA.
    person: of whom faces are restored, see `person.load_person`; anybody's if None.
    background: the enlarged images, or what enlarges images_BHW3 (their size is made to fit); bicubic if None.
    face_upscaler: redraws faces that the paste would enlarge.
    clip_mask_BHW: how much of a face each pixel may get, [0, 1], one for each image or one for all, any size.
    keep_crops: hand back every face before and after, 6 MB each.
    on_progress: called with (stage, done, total) between batches; may raise to cancel.
    on_pasted: called with each image as it stands when a face was pasted into it.
    Raises ValueError naming the input and the fix. Nothing that was passed in is changed.
    """
    check_task(models.restorer, "restoration")
    fidelity = fidelity_of(models.restorer, options.fidelity)
    imaging.check_layout(images_BHWC)
    batch = len(images_BHWC)
    if options.parity and clip_mask_BHW is not None:
        raise ValueError("parity does what the official program does, which knows no clip mask: leave out one of them")
    prepared = prepare(images_BHWC, options)
    if isinstance(models.detector, FaceBatch):
        check_same_images(models.detector, images_BHWC)
    if isinstance(background, Tensor):
        check_background(background, batch)
    clip_masks_BHW = None
    if clip_mask_BHW is not None:
        clip_masks_BHW = imaging.fit_masks(clip_mask_BHW, batch, prepared.sizes.canvas)
    report = on_progress or no_progress
    recipe = recipe_of(options)

    planned = plan(prepared.rgb_BHW3, models.detector, options, recipe, prepared.sizes, report, person)
    masks = recipe.mask_maker(options.paste, models.parser)
    gray = gray_images(prepared.rgb_BHW3, planned.aligned)
    pasted = paste_restored(
        prepared,
        planned,
        restore_faces(prepared.rgb_BHW3, planned.aligned, models, options, gray, report),
        options,
        detail_of(options.detail, models.restorer, fidelity),
        background=reporting(background, report),
        face_upscaler=reporting(face_upscaler, report),
        clip_masks_BHW=clip_masks_BHW,
        keep_crops=keep_crops,
        on_pasted=on_pasted,
    )

    unscale = 1 / prepared.sizes.enlarged
    events = planned.counts("restored", [len(done) for done in pasted.faces])
    events += [*skip_events(pasted.skipped), *pasted.enlarged, *judged_events(pasted.judged, unscale), *planned.events]
    if planned.aligned:
        events += [
            *without_fidelity(models.restorer),
            *(component_events(planned.aligned, pasted.boxes, unscale) if pasted.boxes else ()),
        ]
    if any(pasted.faces):
        events += [*restored_by(models.restorer, fidelity), *placed_by(pasted.boxes), masks.event]
        events += [Event("official_recipe")] if recipe.is_official else []
    events += planned.found_by
    return RestoredImages(
        images_BHWC=pasted.images_BHWC,
        masks_BHW=pasted.coverage_BHW,
        faces=pasted.faces,
        skipped=pasted.skipped,
        crops=pasted.crops,
        events=tuple(events),
        judgements=pasted.judgements,
    )


def restore_faces(
    rgb_BHW3: Tensor | Sequence[Tensor],
    aligned: Sequence[AlignedFace],
    models: Models,
    options: RestoreOptions,
    gray: Collection[int],
    report: OnProgress,
) -> Iterator[RestoredFace]:
    """The faces as the network makes them, with their paste masks, batch after batch.

    rgb_BHW3: the images as they are worked on, RGB [0, 1]; as a sequence they may have different sizes.
    gray: indices of the images that have no colour; their faces get none.
    """
    recipe = recipe_of(options)

    def run(part: slice) -> list[RestoredFace]:
        chosen = aligned[part]
        crops_N3HW = torch.stack([recipe.crop(rgb_BHW3[one.image], one.matrix) for one in chosen])
        return restore_crops(chosen, crops_N3HW, models, options, [one.image in gray for one in chosen])

    total = len(aligned)
    if total == 0:
        return
    report(RESTORING, 0, total)
    for part, faces in memory.in_batches(total, options.batch_size or models.restorer.faces_at_once(), run):
        yield from faces
        report(RESTORING, part.stop, total)


@torch.no_grad()
def restore_crops(
    aligned: Sequence[AlignedFace],
    crops_N3HW: Tensor,
    models: Models,
    options: RestoreOptions,
    gray: Sequence[bool],
) -> list[RestoredFace]:
    """One batch of faces as the network makes them, with their paste masks.

    aligned: the faces, of any images.
    crops_N3HW: RGB [0, 1], 512 pixels, one for each.
    gray: whether a face's image has no colour; then the face gets none.
    """
    restorer, recipe = models.restorer, recipe_of(options)
    fidelity = fidelity_of(restorer, options.fidelity)
    make_masks = recipe.mask_maker(options.paste, models.parser).make
    boxes = component_boxes(aligned, crops_N3HW, models.landmark_detector) if restorer.needs_landmarks else None
    network_N3HW = restorer.restore(crops_N3HW * 2 - 1, fidelity, stacked(boxes) if boxes else None)
    faces_N3HW = recipe.finish_faces((network_N3HW + 1) / 2)
    for index, without_colour in enumerate(gray):
        if without_colour:
            this = slice(index, index + 1)
            faces_N3HW[this] = recipe.match_gray(faces_N3HW[this], crops_N3HW[this])
    landmarks_N52 = np.stack([one.landmarks_in_crop() for one in aligned])
    parsed_N3HW = recipe.face_to_parse(network_N3HW, faces_N3HW)
    masks_NHW = make_masks(parsed_N3HW, landmarks_N52, None) if make_masks else None
    return [
        RestoredFace(
            one,
            crops_N3HW[index],
            faces_N3HW[index],
            None if masks_NHW is None else masks_NHW[index],
            boxes[index] if boxes else None,
        )
        for index, one in enumerate(aligned)
    ]
