"""Faces in colour: aligned crops as the published recipe does it, and the faces of whole images.

Shape legend: B images, H W their height and width, C channels (1 to 4); N faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.batch import FaceBatch, check_same_images
from ..faces.detection import FaceDetector
from ..faces.events import Event
from ..faces.parsing import FaceParser
from ..imaging import tensors as imaging
from ..imaging.gray import with_luma_of
from ..models.restorer import FaceRestorer, check_fidelity, check_task, made_by
from ..runtime.progress import COLORIZING, OnProgress, no_progress
from .batches import through_network
from .crop import crop_events, cut_crops
from .options import MaskKind, PasteOptions, RestoreOptions
from .paste import paste_aligned
from .photos import EditedPhotos
from .plan import faces_of, plan
from .results import notes_of, skip_events
from .sizes import plan_sizes, require_memory


@dataclass(frozen=True, eq=False)
class ColorizedFaces:
    """Colorized crops.

    images_BHWC: float32 [0, 1], as many as came in and of their size, alpha kept.
    events: what was done.
    """

    images_BHWC: Tensor
    events: tuple[Event, ...]


@torch.no_grad()
def colorize_aligned(
    images_BHWC: Tensor,
    *,
    restorer: FaceRestorer,
    fidelity: float = 0.0,
    chroma_only: bool = False,
    on_progress: OnProgress | None = None,
) -> ColorizedFaces:
    """Colorize images that are aligned faces (FFHQ template, any size), gray or not.

    A crop of one single colour shows no face and stays.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA.
    fidelity: 0, the published choice, .. 1 closest to the input.
    chroma_only: the crops keep their brightness; without it the result is the network's, which redraws the face.
    on_progress: called with (stage, done, total) between batches; may raise to cancel.
    Raises ValueError naming the input and the fix.
    """
    check_task(restorer, "colorization")
    check_fidelity(fidelity)
    imaging.check_layout(images_BHWC, "face crops")
    height, width = images_BHWC.shape[1:3]
    require_memory(images_BHWC, plan_sizes(height, width))
    source = imaging.split_alpha(images_BHWC, "face crops")
    result_BHW3 = source.rgb_BHW3.clone(memory_format=torch.contiguous_format)
    shown = [index for index, crop_HW3 in enumerate(source.rgb_BHW3) if not imaging.is_constant(crop_HW3)]
    coloured_NHW3 = _coloured(source.rgb_BHW3[shown], restorer, fidelity, on_progress or no_progress)
    for index, face_HW3 in zip(shown, coloured_NHW3, strict=True):
        result_BHW3[index] = with_luma_of(face_HW3, source.rgb_BHW3[index]) if chroma_only else face_HW3
    events = [Event("faces", values={"colorized": len(shown)}), *crop_events(source.rgb_BHW3)]
    events += _method(restorer, fidelity, chroma_only) if shown else []
    return ColorizedFaces(imaging.merge_alpha(result_BHW3, source.alpha_BHW1), tuple(events))


@torch.no_grad()
def colorize_photos(
    images_BHWC: Tensor,
    *,
    restorer: FaceRestorer,
    face_source: FaceDetector | FaceBatch,
    parser: FaceParser | None = None,
    fidelity: float = 0.0,
    chroma_only: bool = True,
    mask: MaskKind = "head",
    opacity: float = 1.0,
    confidence: float | None = None,
    min_face_size: float = 0.0,
    on_progress: OnProgress | None = None,
) -> EditedPhotos:
    """Colorize the faces of images; what is not a face stays as it is.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA.
    face_source: looks for the faces; or the faces themselves, whatever confidence and min_face_size say.
    parser: for the masks "face" and "head".
    fidelity: 0, the published choice, .. 1 closest to the input.
    chroma_only: the images keep their brightness, and with it every detail; without it the network's face is pasted
    whole.
    mask, opacity: see `PasteOptions`; by default a whole head gets colour.
    confidence, min_face_size: see `RestoreOptions`.
    on_progress: called with (stage, done, total) between batches; may raise to cancel.
    Raises ValueError naming the input and the fix. Nothing that was passed in is changed.
    """
    check_task(restorer, "colorization")
    check_fidelity(fidelity)
    imaging.check_layout(images_BHWC)
    if isinstance(face_source, FaceBatch):
        check_same_images(face_source, images_BHWC)
    options = RestoreOptions(confidence=confidence, min_face_size=min_face_size)
    paste = PasteOptions(mask=mask, opacity=opacity, chroma_only=chroma_only)
    report = on_progress or no_progress
    rgb_BHW3 = imaging.split_alpha(images_BHWC).rgb_BHW3
    planned = plan(rgb_BHW3, face_source, options, report=report)
    faces = faces_of(face_source, rgb_BHW3, planned.aligned)
    pasted = paste_aligned(
        images_BHWC,
        _coloured(cut_crops(rgb_BHW3, planned.aligned), restorer, fidelity, report),
        faces,
        planned.aligned,
        options=paste,
        parser=parser,
        on_progress=report,
    )
    events = planned.counts("colorized", pasted.pasted_per_image)
    events += [*skip_events(planned.skipped), *planned.found_by]
    events += _method(restorer, fidelity, chroma_only) if pasted.pasted else []
    return EditedPhotos(pasted.images_BHWC, pasted.masks_BHW, faces, (*events, *notes_of(pasted.events)))


def _coloured(crops_NHW3: Tensor, restorer: FaceRestorer, fidelity: float, report: OnProgress) -> Tensor:
    """The network's faces, of the crops' size, RGB [0, 1]."""
    return through_network(
        crops_NHW3,
        lambda faces_N3SS, _: restorer.restore(faces_N3SS, fidelity),
        restorer.faces_at_once,
        COLORIZING,
        report,
    )


def _method(restorer: FaceRestorer, fidelity: float, chroma_only: bool) -> list[Event]:
    return [
        *made_by("colorized_by", restorer),
        *([Event("fidelity", values={"fidelity": fidelity})] if restorer.uses_fidelity else []),
        Event("brightness_kept" if chroma_only else "redrawn"),
    ]
