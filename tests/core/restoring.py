"""Images, faces and a restorer for the tests of restoring."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

import codeformer_core as cf
from codeformer_core.faces.types import Face

from .conftest import GivenDetector, as_it_is, placed_face
from .test_geometry import waves_picture

HEIGHT, WIDTH = 140, 200
FACE = placed_face(70, 60, 20)
OTHER = placed_face(150, 80, 16, degrees=15)
SMALL = placed_face(30, 110, 8)
BOTH = (FACE, OTHER)


@dataclass
class WatchedRestorer:
    """Inverts faces and notes what it is asked; out of memory above `most` faces at a time."""

    most: int = 1000
    name: str = "watched.pth"
    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = True
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False
    at_once: int = 1
    batches: list[int] = field(default_factory=list)
    fidelities: list[float] = field(default_factory=list)

    def faces_at_once(self) -> int:
        return self.at_once

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        assert faces_B3HW.shape[1:] == (3, 512, 512) and faces_B3HW.dtype == torch.float32
        self.batches.append(len(faces_B3HW))
        self.fidelities.append(fidelity)
        if len(faces_B3HW) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return -faces_B3HW


@dataclass(frozen=True)
class UpperHalfParser:
    """Calls the upper half of every crop skin."""

    name: str = "upper half"
    module: None = None

    def parse(self, faces_B3HW: Tensor) -> Tensor:
        assert faces_B3HW.shape[1:] == (3, 512, 512)
        labels_BHW = torch.zeros((len(faces_B3HW), 512, 512), dtype=torch.uint8)
        labels_BHW[:, :256] = 1
        return labels_BHW


def finds(*per_image: tuple[Face, ...]) -> GivenDetector:
    """The same faces in every picture, or for picture i (see `pictures`) the i-th faces."""
    return GivenDetector(per_image)


def pictures(count: int = 1, channels: int = 3) -> Tensor:
    """Colourful ones (gray ones of 1 and 2 channels); the first pixel's red tells the detector which it is."""
    waves_HW3 = waves_picture(HEIGHT, WIDTH)
    batch_BHW3 = torch.stack([waves_HW3.roll(9 * index, 1) for index in range(count)])
    batch_BHW3[:, 0, 0, 0] = torch.arange(count) / 255
    colour_BHWC = batch_BHW3 if channels >= 3 else batch_BHW3[..., :1]
    if channels in (1, 3):
        return colour_BHWC.clone()
    alpha_BHW1 = torch.linspace(0, 1, WIDTH).expand(count, HEIGHT, WIDTH)[..., None]
    return torch.cat((colour_BHWC, alpha_BHW1), -1)


def restore(images_BHWC: Tensor, *faces: tuple[Face, ...], **options) -> cf.RestoredImages:
    options.setdefault("restorer", WatchedRestorer())
    options.setdefault("detector", finds(*faces or (BOTH,)))
    return cf.restore_images(images_BHWC, **as_it_is(**options))
