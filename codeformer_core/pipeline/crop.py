"""Aligned crops of the faces of images.

Shape legend: B images, H W their height and width, C channels (1 to 4); N faces of all images together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.batch import FaceBatch, check_same_images
from ..faces.events import Event
from ..faces.geometry import CROP_SIZE, crop_face
from ..imaging import tensors as imaging
from ..runtime import memory
from .align import AlignedFace
from .plan import faces_of, plan
from .results import skip_events


@dataclass(frozen=True, eq=False)
class CroppedFaces:
    """The crops of a batch of images.

    crops_NHW3: RGB [0, 1], 512x512, aligned to the FFHQ template, image after image.
    faces: those of the crops.
    aligned: the same, with the way from image to crop.
    events: of each image how many were cropped, why others were not, and what else is to know.
    """

    crops_NHW3: Tensor
    faces: FaceBatch
    aligned: tuple[AlignedFace, ...]
    events: tuple[Event, ...]


@torch.no_grad()
def crop_faces(images_BHWC: Tensor, faces: FaceBatch) -> CroppedFaces:
    """The aligned crop of every face. Outside its image a crop continues the outermost pixels.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA.
    faces: found in these images.
    Raises ValueError for images of another number or size than those in which the faces were found, and
    NotEnoughMemory.
    """
    imaging.check_layout(images_BHWC)
    check_same_images(faces, images_BHWC)
    rgb_BHW3 = imaging.split_alpha(images_BHWC).rgb_BHW3
    planned = plan(rgb_BHW3, faces)
    cropped = faces_of(faces, rgb_BHW3, planned.aligned)
    events = planned.counts("cropped", [len(kept) for kept in cropped.per_image])
    events += [*skip_events(planned.skipped), *planned.events]
    return CroppedFaces(cut_crops(rgb_BHW3, planned.aligned), cropped, planned.aligned, tuple(events))


def cut_crops(rgb_BHW3: Tensor, aligned: Sequence[AlignedFace]) -> Tensor:
    """crops_NHW3, RGB [0, 1], of these faces of the images. Raises NotEnoughMemory."""
    what = f"cropping {len(aligned)} faces"
    memory.require(len(aligned) * CROP_SIZE * CROP_SIZE * 3 * 4, rgb_BHW3.device, what)
    crops_NHW3 = torch.empty(len(aligned), CROP_SIZE, CROP_SIZE, 3, device=rgb_BHW3.device)
    for crop_HW3, one in zip(crops_NHW3, aligned, strict=True):
        crop_HW3.copy_(crop_face(rgb_BHW3[one.image], one.matrix).permute(1, 2, 0))
    return crops_NHW3


def crop_events(crops_NHWC: Tensor) -> list[Event]:
    """Events for aligned crops before they go through a network.

    Which of them are of one colour and show no face, as the placeholder, and whether they have another size than the
    network's.
    """
    events = [Event("blank_crop", index) for index, crop_HWC in enumerate(crops_NHWC) if imaging.is_constant(crop_HWC)]
    height, width = crops_NHWC.shape[1:3]
    if (height, width) != (CROP_SIZE, CROP_SIZE):
        events.append(Event("crops_resized", values={"width": width, "height": height, "size": CROP_SIZE}))
    return events


def placeholder_crop() -> Tensor:
    """(1, 512, 512, 3), gray: stands for the crops where a batch of images can't be empty and there is no face."""
    return torch.full((1, CROP_SIZE, CROP_SIZE, 3), 0.5)
