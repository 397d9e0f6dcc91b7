"""What a face detector is, and the steps before and after the network that all detectors share.

Shape legend: B images, H W height and width in pixels, C channels, N faces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from ..runtime.packages import import_for_faces
from .types import Face

# No face that can be restored fits in fewer pixels; this also keeps 1xN strips, which would be enlarged to
# gigantic views, away from the networks.
MIN_IMAGE_SIDE = 8
# A detector's view never has more pixels than sixteen 640x640 squares, whatever the image's proportions.
VIEW_PIXEL_BUDGET = 16 * 640 * 640


class FaceDetector(Protocol):
    """Finds faces and their five landmarks in images."""

    @property
    def name(self) -> str:
        """Its catalog name: retinaface_resnet50, retinaface_mobile0.25, starter_detector or yunet."""
        ...

    @property
    def default_confidence(self) -> float:
        """The score, 0..1, above which this detector calls something a face unless told otherwise."""
        ...

    @property
    def module(self) -> nn.Module | None:
        """What a host's memory manager moves; None for detectors that run in OpenCV."""
        ...

    def bytes_for(self, images_BHWC: Tensor) -> int:
        """Estimate of the memory that `detect` takes on the module's device, besides the weights."""
        ...

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        """One list of faces per image, best score first.

        images_BHWC: RGB in [0, 1], see `imaging.tensors.check_images`.
        confidence: only faces with a higher score count, 0..1; None takes `default_confidence`.
        Raises ValueError for a confidence outside [0, 1] and for images that `check_images` refuses.
        """
        ...


@dataclass(frozen=True)
class ViewSize:
    """The size at which a detector looks at an image.

    height, width: of the view, in pixels.
    factor: image pixels times this are view pixels.
    """

    height: int
    width: int
    factor: float


def view_size(height: int, width: int, shorter_side: int) -> ViewSize:
    """The official rule: the shorter side becomes `shorter_side`, up or down, both sides cut to whole pixels.

    Images so long that this would exceed VIEW_PIXEL_BUDGET get the largest view that fits.
    """
    factor = min(shorter_side / min(height, width), math.sqrt(VIEW_PIXEL_BUDGET / (height * width)))
    return ViewSize(max(1, int(height * factor)), max(1, int(width * factor)), factor)


def resized_view(view_HWC: np.ndarray, size: ViewSize) -> np.ndarray:
    """The view at `size`: area averaging when it shrinks, bilinear when it grows.

    view_HWC: uint8.
    """
    if view_HWC.shape[:2] == (size.height, size.width):
        return view_HWC
    cv2 = import_for_faces("cv2")
    interpolation = cv2.INTER_AREA if size.factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(view_HWC, (size.width, size.height), interpolation=interpolation)


def require_confidence(confidence: float | None, default: float) -> float:
    """`confidence`, or `default` for None.

    Raises ValueError outside [0, 1].
    """
    if confidence is None:
        return default
    if not 0 <= confidence <= 1:  # NaN fails this comparison as well
        raise ValueError(f"detection confidence must be within 0 and 1, got {confidence}. Try 0.5 to 0.9")
    return float(confidence)


def faces_in_image(
    boxes_N4: np.ndarray,
    landmarks_N52: np.ndarray,
    scores_N: np.ndarray,
    size: ViewSize,
    image_size_hw: tuple[int, int],
) -> list[Face]:
    """The faces in pixels of the image, best score first; of equals the upper, then the left one.

    Both axes are divided by the one resize factor, as the official code does, although the view was cut to whole pixels
    and so is up to one pixel shorter than the factor says. Boxes without an area or wholly outside the image are not
    faces and are left out.

    boxes_N4: left, top, right, bottom in pixels of the view.
    landmarks_N52: in pixels of the view.
    scores_N: 0..1.
    """
    height, width = image_size_hw
    faces: list[Face] = []
    for box, landmarks, score in zip(boxes_N4 / size.factor, landmarks_N52 / size.factor, scores_N, strict=True):
        left, top, right, bottom = (float(value) for value in box)
        has_area = right > left and bottom > top
        touches_image = right > 0 and bottom > 0 and left < width and top < height
        if has_area and touches_image:
            eye_left, eye_right, nose, mouth_left, mouth_right = ((float(x), float(y)) for x, y in landmarks)
            points = (eye_left, eye_right, nose, mouth_left, mouth_right)
            faces.append(Face((left, top, right, bottom), points, float(score)))
    return sorted(faces, key=lambda face: (-face.score, face.box_xyxy[1], face.box_xyxy[0]))
