"""Small images with a mark that says how many faces they have, and models that are done with them in no time."""

from __future__ import annotations

import io
import math
import os
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codeformer_core.faces.geometry import TEMPLATE_XY
from codeformer_core.faces.types import Face
from codeformer_core.pipeline.bulk.options import BulkOptions
from codeformer_core.pipeline.options import PasteOptions, RestoreOptions
from codeformer_core.pipeline.restore import Models

QUICK = RestoreOptions(when_worse="paste", detail=0.0, paste=PasteOptions(mask="box", color_match="off"))
LOCAL = BulkOptions(restore=QUICK, engine="local")
SIDE = 64


def image_bytes(number: int, faces: int = 1, file_format: str = "PNG", side: int = SIDE) -> bytes:
    """An image like no other one. Its first pixel says how many faces it has, in tens: JPEG changes it a little."""
    pixels = np.full((side, side, 3), 60, np.uint8)
    pixels[1:, :, 1] = number % 251
    pixels[1:, :, 2] = number // 251 % 251
    pixels[:8, :8] = (faces * 10, 0, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, file_format, quality=95, lossless=True)
    return stream.getvalue()


def write_images(folder: Path, count: int, faces: int = 1) -> list[Path]:
    """Images in folders of a hundred."""
    paths = [folder / f"{number // 100:03d}" / f"{number:06d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(number, faces))
    return paths


def is_brighter(data: bytes) -> bool:
    """Whether a face was restored."""
    with Image.open(io.BytesIO(data)) as image:
        return int(np.asarray(image.convert("RGB"))[8:, 8:, 0].max()) > 80


class MarkDetector:
    """Finds as many faces as the first pixel says, in a grid."""

    name = "marks"
    default_confidence = 0.5
    module = None

    def bytes_for(self, images_BHWC: Tensor) -> int:
        return 0

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        return [self._found(image_HWC) for image_HWC in images_BHWC]

    def _found(self, image_HWC: Tensor) -> list[Face]:
        """In the cells of a square grid."""
        count = round(float(image_HWC[0, 0, 0]) * 25.5)
        grid = math.ceil(math.sqrt(count))
        found: list[Face] = []
        for number in range(count):
            cell = image_HWC.shape[0] / grid
            row, column = divmod(number, grid)
            points = (TEMPLATE_XY / 512 * 0.8 + 0.1 + (column, row)) * cell
            (left, top), (right, bottom) = points.min(0), points.max(0)
            landmarks = tuple((float(x), float(y)) for x, y in points)
            found.append(Face((float(left), float(top), float(right), float(bottom)), landmarks, 0.9))  # type: ignore[arg-type]
        return found


@dataclass
class Brighter:
    """A restorer that makes faces brighter."""

    seconds: float = 0.0
    name: str = "brighter"
    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = False
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False

    def faces_at_once(self) -> int:
        return 8

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        if self.seconds:
            time.sleep(self.seconds * len(faces_B3HW))
        return (faces_B3HW + 0.3).clamp(-1, 1)


@dataclass
class Ending(Brighter):
    """Ends its process at images that are wholly blue in the middle, as a crash of a driver does."""

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        if bool((faces_B3HW[:, 2, 256, 256] > 0.98).any()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().restore(faces_B3HW)


@dataclass
class Raising(Brighter):
    """Has too little memory for more than one face, and never enough for one that is wholly blue in the middle."""

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        if len(faces_B3HW) > 1 or bool((faces_B3HW[:, 2, 256, 256] > 0.98).any()):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().restore(faces_B3HW)


@dataclass(frozen=True)
class CheapModels:
    """Names its models as `BulkModels` does."""

    restorer: Brighter = field(default_factory=Brighter)
    says: str = "cheap"
    device: str = "cpu"

    def describe(self) -> dict[str, str]:
        return {"restorer": self.says}

    def load_detector(self) -> MarkDetector:
        return MarkDetector()

    def load(self) -> Models:
        return Models(self.restorer, MarkDetector())

    def on(self, device: str) -> CheapModels:
        return replace(self, device=device)


def blue_image() -> bytes:
    """Which `Ending` and `Raising` can't stand."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[..., 2] = 255
    pixels[:8, :8] = (10, 0, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
