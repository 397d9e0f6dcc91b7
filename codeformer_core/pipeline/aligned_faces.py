"""Faces that are aligned crops already: no detection, no paste.

Shape legend: B images, H W height and width, C channels; N faces, S = 512.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..faces.batch import FaceBatch
from ..faces.components import ComponentBoxes
from ..faces.events import Event
from ..faces.geometry import CROP_SIZE, TEMPLATE_XY
from ..faces.landmarks import LandmarkDetector
from ..faces.types import Face
from ..imaging import tensors as imaging
from ..imaging.gray import is_gray, match_gray
from ..models.restorer import FaceRestorer, check_task, fidelity_of, restored_by, without_fidelity
from ..runtime.progress import RESTORING, OnProgress, no_progress
from .align import AlignedFace
from .batches import through_network
from .components import aligned_crops, component_boxes, component_events, placed_by, stacked
from .crop import crop_events
from .detail import PhotoDetail, detail_of
from .options import RestoreOptions
from .sizes import plan_sizes, require_memory


@dataclass(frozen=True, eq=False)
class RestoredCrops:
    """Restored crops.

    images_BHWC: float32 [0, 1], as many as came in and of their size, alpha kept.
    events: what was done.
    """

    images_BHWC: Tensor
    events: tuple[Event, ...]


@torch.no_grad()
def restore_aligned(
    images_BHWC: Tensor,
    *,
    restorer: FaceRestorer,
    faces: FaceBatch | None = None,
    landmark_detector: LandmarkDetector | None = None,
    fidelity: float | None = None,
    detail: float | None = None,
    batch_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> RestoredCrops:
    """Restore images that are aligned faces (FFHQ template, any size).

    An image of one single colour shows no face and stays.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA; alpha is kept.
    faces: those that were cropped, for a restorer that asks where their components lie; in the template's places if
    None.
    landmark_detector: finds 68 landmarks for such a restorer, in faces that bring none.
    fidelity, detail: see `RestoreOptions`.
    batch_size: faces at a time; chosen from the free memory if None.
    on_progress: called with (stage, done, total) between batches; may raise to cancel.
    Raises ValueError naming the input and the fix.
    """
    check_task(restorer, "restoration")
    options = RestoreOptions(fidelity=fidelity, detail=detail, batch_size=batch_size)
    chosen_fidelity = fidelity_of(restorer, fidelity)
    amount, _ = detail_of(detail, restorer, chosen_fidelity)
    imaging.check_layout(images_BHWC)
    require_memory(images_BHWC, plan_sizes(images_BHWC.shape[1], images_BHWC.shape[2], 1.0))
    source = imaging.split_alpha(images_BHWC)
    shown = [index for index, image_HW3 in enumerate(source.rgb_BHW3) if not imaging.is_constant(image_HW3)]
    aligned = _aligned(faces, len(images_BHWC), shown) if restorer.needs_landmarks else ()
    placed: dict[int, ComponentBoxes] = {}

    def run(faces_n3SS: Tensor, part: slice) -> Tensor:
        crops_n3SS = (faces_n3SS + 1) / 2
        boxes = component_boxes(aligned[part], crops_n3SS, landmark_detector)
        placed.update(enumerate(boxes, part.start))
        network_n3SS = restorer.restore(faces_n3SS, chosen_fidelity, stacked(boxes) if boxes else None)
        if amount == 0:
            return network_n3SS
        pairs = zip((network_n3SS + 1) / 2, crops_n3SS, strict=True)
        made = [PhotoDetail.of(crop_3SS).given_back(face_3SS, amount) for face_3SS, crop_3SS in pairs]
        return torch.stack(made) * 2 - 1

    restored_BHW3 = source.rgb_BHW3.clone(memory_format=torch.contiguous_format)
    restored_BHW3[shown] = through_network(
        source.rgb_BHW3[shown],
        run,
        lambda: options.batch_size or restorer.faces_at_once(),
        RESTORING,
        on_progress or no_progress,
    )
    for index in shown:
        if is_gray(source.rgb_BHW3[index]):
            restored_BHW3[index] = _toned(restored_BHW3[index], source.rgb_BHW3[index])
    boxes = [placed[number] for number in range(len(placed))]
    events = [
        Event("faces", values={"restored": len(shown)}),
        *crop_events(source.rgb_BHW3),
        *component_events(aligned, boxes),
        *without_fidelity(restorer),
        *restored_by(restorer, chosen_fidelity),
        *placed_by(boxes),
    ]
    return RestoredCrops(imaging.merge_alpha(restored_BHW3, source.alpha_BHW1), tuple(events))


def _aligned(faces: FaceBatch | None, count: int, shown: list[int]) -> tuple[AlignedFace, ...]:
    """The crops that show a face, with their landmarks: those of the faces that were cropped, or the template's."""
    given = () if faces is None else aligned_crops(faces, count)
    if given:
        return tuple(given[index] for index in shown)
    left_eye, right_eye, nose, left_mouth, right_mouth = ((x, y) for x, y in TEMPLATE_XY.tolist())
    face = Face((0, 0, CROP_SIZE, CROP_SIZE), (left_eye, right_eye, nose, left_mouth, right_mouth), 1.0)
    return tuple(AlignedFace(index, face, np.eye(2, 3)) for index in shown)


def _toned(face_HW3: Tensor, original_HW3: Tensor) -> Tensor:
    face_13HW, original_13HW = (image_HW3.permute(2, 0, 1)[None] for image_HW3 in (face_HW3, original_HW3))
    return match_gray(face_13HW, original_13HW)[0].permute(1, 2, 0)
