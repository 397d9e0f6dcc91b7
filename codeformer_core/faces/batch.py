"""The faces of a batch of images as one value, and whether given images are the ones they were found in.

Shape legend: B images, H W their height and width, C channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..imaging import tensors as imaging
from ..runtime.errors import InputError
from .events import Event
from .types import Face

THUMBNAIL_SIDE = 8
# Mean difference of brightness, 0..1, from which two thumbnails show different images. Restored, colorized or
# upscaled images stay below 0.03 of theirs; frames before and after a cut lie above 0.1.
OTHER_IMAGE = 0.08


@dataclass(frozen=True, eq=False)
class FaceBatch:
    """The faces of a batch of images that all have one size.

    per_image: in pixels of the images, in their order; a face's number is its place in its image, from 1.
    image_size_hw: height and width of the images in pixels.
    thumbnails_B88: brightness of the images at 8x8, float32 [0, 1], read-only.
    """

    per_image: tuple[tuple[Face, ...], ...]
    image_size_hw: tuple[int, int]
    thumbnails_B88: np.ndarray

    @classmethod
    def of(cls, images_BHWC: Tensor, per_image: Sequence[Sequence[Face]]) -> FaceBatch:
        """The faces found in these images.

        images_BHWC: floats in [0, 1], gray, RGB or RGBA.
        per_image: one entry for each image.
        """
        assert len(images_BHWC) == len(per_image)
        height, width = images_BHWC.shape[1:3]
        return cls(tuple(map(tuple, per_image)), (height, width), thumbnails(images_BHWC))

    @property
    def count(self) -> int:
        """Over all images."""
        return sum(map(len, self.per_image))

    def with_faces(self, per_image: Sequence[Sequence[Face]]) -> FaceBatch:
        """Other faces of the same images."""
        assert len(per_image) == len(self.per_image)
        return dataclasses.replace(self, per_image=tuple(map(tuple, per_image)))

    def in_order(self) -> list[tuple[int, Face]]:
        """Every face with the index of its image: the order of crops."""
        return [(index, face) for index, faces in enumerate(self.per_image) for face in faces]


def thumbnails(images_BHWC: Tensor) -> np.ndarray:
    """Brightness of each image at 8x8, float32 (B, 8, 8), read-only; the same for an image at any size."""
    # One image at a time: other precisions are converted, and a whole batch would be there twice.
    small = [
        F.adaptive_avg_pool2d(imaging.split_alpha(image_HWC[None]).rgb_BHW3.permute(0, 3, 1, 2), THUMBNAIL_SIDE)
        for image_HWC in images_BHWC
    ]
    made_B88 = torch.cat(small).mean(1).detach().cpu().numpy()
    made_B88.setflags(write=False)
    return made_B88


def check_same_images(faces: FaceBatch, images_BHWC: Tensor) -> None:
    """Raise ValueError unless these are as many images, of the same size, as the faces were found in."""
    count, size = len(faces.per_image), faces.image_size_hw
    if len(images_BHWC) != count:
        raise InputError(
            f"the faces belong to {image_count(count)}, but {image_count(len(images_BHWC))} came with them. "
            "Give the images in which the faces were found",
            "faces_of_other_images",
        )
    if tuple(images_BHWC.shape[1:3]) != size:
        raise InputError(
            f"the faces were found in images of {size[1]}x{size[0]} pixels, but these have "
            f"{images_BHWC.shape[2]}x{images_BHWC.shape[1]}. Give the images in which the faces were found, or find "
            "them again after the step that changed the size",
            "faces_of_other_images",
        )


def unlike_images(faces: FaceBatch, images_BHWC: Tensor) -> list[Event]:
    """An event for each image that does not look like the one in which its faces were found, whatever its size.

    images_BHWC: one for each image, or one for all.
    """
    difference_B = np.abs(thumbnails(images_BHWC) - faces.thumbnails_B88).mean((1, 2))
    return [
        Event("other_image", image)
        for image, (difference, found) in enumerate(zip(difference_B, faces.per_image, strict=True))
        if difference > OTHER_IMAGE and found
    ]


def image_count(count: int) -> str:
    """ "1 image", "2 images" """
    return "1 image" if count == 1 else f"{count} images"
