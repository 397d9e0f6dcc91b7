"""What the nodes that find or select faces have in common: their outputs, and what the face picker in the node shows.

Shape legend: B pictures, H W their height and width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .previews import small_copies
from .sockets import BoundingBoxType, FacesType

# More would fill the host's temporary folder at every run, and nobody picks faces in them one by one.
MOST_PICTURES = 32
# Pixels of the longer side of a picture that is only known by its thumbnail.
BLURRED_SIDE = 256


def face_outputs() -> list[io.Output]:
    """Schema of what `face_values` makes."""
    return [
        FacesType.Output(display_name="FACES", tooltip="Boxes and landmarks, for Crop Faces and Select Faces."),
        BoundingBoxType.Output(
            display_name="BOUNDING_BOX", tooltip="The boxes in whole pixels, for other nodes that take boxes."
        ),
        io.Mask.Output(display_name="MASK", tooltip="The outlines of the faces, soft at their edges; 1 on a face."),
    ]


def face_values(faces: core.FaceBatch) -> tuple[core.FaceBatch, list[list[dict[str, Any]]], Tensor]:

    (masks_BHW,) = host.placed([core.face_masks(faces)])
    return faces, core.bounding_boxes(faces), masks_BHW


def picked_input() -> io.Input:
    return host.advanced(
        io.String.Input(
            "picked",
            default="",
            tooltip="Filled by the face picker in the node: the boxes of the faces to keep in each picture. Empty: all "
            "are kept. Faces are found again by their boxes; in a picture that has changed, all are kept.",
        )
    )


def picker_view(
    images_BHWC: Tensor | None,
    faces: core.FaceBatch,
    picked: Sequence[Sequence[bool]],
    changed: Sequence[int],
    selected: Sequence[Sequence[bool]] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """The `ui` part of the node's output: the first pictures and all faces that came in, with boxes as parts of the
    picture's size.

    images_BHWC: the pictures, or None where they are not at hand; their thumbnails stand for them. picked: per picture,
    for each face that came in, whether the picks keep it; selected: whether it goes on, where that is not the same.
    changed: numbers of the pictures whose picks were not found again.
    """

    size = faces.image_size_hw
    shown = _blurred(faces) if images_BHWC is None else images_BHWC
    entries = [
        {
            "image": saved,
            "width": size[1],
            "height": size[0],
            "faces": [
                {
                    "number": number,
                    "box": core.box_fractions(face, size),
                    "score": face.score,
                    "kept": is_picked,
                    "left_out": is_picked and not goes_on,
                }
                for number, (face, is_picked, goes_on) in enumerate(zip(found, picks, chosen, strict=True), 1)
            ],
        }
        # The copies are fewer than the pictures.
        for saved, found, picks, chosen in zip(
            small_copies(shown[:MOST_PICTURES]), faces.per_image, picked, selected or picked, strict=False
        )
    ]
    return {"codeformer_faces": [{"pictures": entries, "total": len(faces.per_image), "changed": list(changed)}]}


def _blurred(faces: core.FaceBatch) -> Tensor:
    """images_BHW3 of the first pictures: where it was light and dark in them, in their proportions."""
    height, width = faces.image_size_hw
    scale = BLURRED_SIDE / max(height, width)
    thumbnails_B88 = torch.tensor(faces.thumbnails_B88[:MOST_PICTURES])
    thumbnails_B883 = thumbnails_B88[..., None].expand(-1, -1, -1, 3)
    return core.resize(thumbnails_B883, max(1, round(height * scale)), max(1, round(width * scale)))
