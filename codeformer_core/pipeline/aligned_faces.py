"""Faces that are aligned crops already: no detection, no paste.

Shape legend: B pictures, H W height and width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..faces.components import ComponentBoxes
from ..faces.events import Event
from ..imaging import tensors as imaging
from ..imaging.gray import is_gray, match_gray
from ..models.restorer import FaceRestorer, check_task, restored_by, without_fidelity
from ..runtime.progress import RESTORING, OnProgress, no_progress
from .align import AlignedFace
from .batches import through_network
from .components import component_events, placed_by
from .crop import crop_events
from .options import RestoreOptions
from .sizes import plan_sizes, require_memory


@torch.no_grad()
def restore_aligned(
    images_BHWC: Tensor,
    *,
    restorer: FaceRestorer,
    fidelity: float = 0.5,
    component_boxes_N44: Tensor | None = None,
    batch_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> Tensor:
    """Restore pictures that are aligned faces (FFHQ template, any size) -> images_BHWC of the same size, float32.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA; alpha is kept. fidelity: 0 best quality .. 1 closest to the input.
    component_boxes_N44: the boxes of each face's components in pixels of a 512 crop (see `faces.components`), for a
    restorer that takes them; where the template has them if None. A picture of one single colour shows no face and
    stays.
    Raises ValueError naming the input and the cure.
    """
    check_task(restorer, "restoration")
    options = RestoreOptions(fidelity=fidelity, batch_size=batch_size)
    imaging.check_layout(images_BHWC)
    require_memory(images_BHWC, plan_sizes(images_BHWC.shape[1], images_BHWC.shape[2], 1.0))
    source = imaging.split_alpha(images_BHWC)
    shown = [index for index, image_HW3 in enumerate(source.rgb_BHW3) if not imaging.is_constant(image_HW3)]
    restored_BHW3 = source.rgb_BHW3.clone(memory_format=torch.contiguous_format)
    shown_boxes_N44 = (
        component_boxes_N44[shown] if component_boxes_N44 is not None and restorer.needs_landmarks else None
    )
    restored_BHW3[shown] = through_network(
        source.rgb_BHW3[shown],
        lambda faces_B3SS, part: restorer.restore(
            faces_B3SS, options.fidelity, None if shown_boxes_N44 is None else shown_boxes_N44[part]
        ),
        lambda: options.batch_size or restorer.faces_at_once(),
        RESTORING,
        on_progress or no_progress,
    )
    for index in shown:
        if is_gray(source.rgb_BHW3[index]):
            restored_BHW3[index] = _toned(restored_BHW3[index], source.rgb_BHW3[index])
    return imaging.merge_alpha(restored_BHW3, source.alpha_BHW1)


def aligned_events(
    images_BHWC: Tensor,
    restorer: FaceRestorer,
    fidelity: float,
    aligned: Sequence[AlignedFace] = (),
    boxes: Sequence[ComponentBoxes] = (),
) -> list[Event]:
    """What there is to know of `restore_aligned` with these images.

    aligned, boxes: the faces of the images and where their components were found, where somebody looked.
    """
    of_crops = crop_events(images_BHWC)
    restored = len(images_BHWC) - sum(event.kind == "blank_crop" for event in of_crops)
    return [
        Event("faces", values={"restored": restored}),
        *of_crops,
        *component_events(aligned, boxes),
        *without_fidelity(restorer),
        *restored_by(restorer, fidelity),
        *placed_by(boxes),
    ]


def _toned(face_HW3: Tensor, original_HW3: Tensor) -> Tensor:
    face_13HW, original_13HW = (image_HW3.permute(2, 0, 1)[None] for image_HW3 in (face_HW3, original_HW3))
    return match_gray(face_13HW, original_13HW)[0].permute(1, 2, 0)
