"""YuNet through OpenCV's FaceDetectorYN: small, quick, without facexlib; its weights come with this package.

Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023; the file is described in assets/README.md.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...imaging.tensors import check_images, detector_view
from ...runtime.packages import import_for_faces
from ..detection import (
    MIN_IMAGE_SIDE,
    ViewSize,
    faces_in_image,
    require_confidence,
    resized_view,
    view_size,
)
from ..selection import skip_duplicates
from ..types import Face

logger = logging.getLogger(__name__)

WEIGHTS_PATH = Path(__file__).parents[2] / "assets" / "face_detection_yunet_2023mar.onnx"
FINE_SHORTER_SIDE = 640
COARSE_SHORTER_SIDE = 320
COARSE_MIN_FACE_SIZE = 80
NMS_IOU = 0.3
CANDIDATE_LIMIT = 5000
# The first release that understands the weights of March 2023; the class itself exists since 4.5.4.
MIN_OPENCV = (4, 8)
_LOG_LEVEL_LOCK = threading.Lock()


@dataclass(frozen=True)
class YuNetDetector:
    """A `FaceDetector` on the CPU; there is no module to move.

    YuNet is made for faces of 10 to 300 pixels, so it looks twice: at 640 pixels on the shorter side, and at 320 for
    faces of at least 80 pixels there. Measured on 35 photos (portraits, groups of up to 100 faces, old photographs,
    six without a face), that separates better than any one look of 320 to 1280 pixels: where there is no face the
    best score is 0.65; the lowest of a portrait is 0.53 at 640 alone and 0.81 with both looks, the lowest of 100
    small faces 0.80. Hence 0.75 as the default confidence, which misses blurred faces in a background (0.6 to 0.7).

    Its landmarks are coarser than RetinaFace's: on composites of 9 upright faces and of 25 rotated by up to 30
    degrees the mean error is 9 % and 15 % of the eye distance; RetinaFace mobile0.25 has 7 % and 10 %.
    """

    weights_path: Path = WEIGHTS_PATH
    name: str = "yunet"
    default_confidence: float = 0.75
    module: nn.Module | None = None

    def bytes_for(self, images_BHWC: Tensor) -> int:
        return 0

    def check(self) -> None:
        """Raise now what `detect` would without OpenCV or a usable weights file."""
        self.detect(torch.zeros(1, 32, 32, 3))

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        """One list of faces per image, best score first; see `FaceDetector.detect`.

        Raises ImportError without OpenCV, RuntimeError when OpenCV is too old or cannot use the weights.
        """
        check_images(images_BHWC)
        image_size_hw = (images_BHWC.shape[1], images_BHWC.shape[2])
        confidence = require_confidence(confidence, self.default_confidence)
        if min(image_size_hw) < MIN_IMAGE_SIDE:
            return [[] for _ in images_BHWC]
        fine = view_size(*image_size_hw, FINE_SHORTER_SIDE)
        coarse = view_size(*image_size_hw, COARSE_SHORTER_SIDE)
        found: list[list[Face]] = []
        with _explained_errors(self.weights_path):
            # OpenCV's detector object remembers its input size, so each call makes its own (a few milliseconds).
            look_fine = _opencv_detector(self.weights_path, fine, confidence)
            look_coarse = _opencv_detector(self.weights_path, coarse, confidence)
            for image_HWC in images_BHWC:
                view_HWC = detector_view(image_HWC)
                faces = _faces(look_fine, view_HWC, fine)
                faces += [
                    face
                    for face in _faces(look_coarse, view_HWC, coarse)
                    if max(face.width, face.height) * coarse.factor >= COARSE_MIN_FACE_SIZE
                ]
                faces.sort(key=lambda face: -face.score)
                found.append(list(skip_duplicates(faces, iou=NMS_IOU).kept))
        return found


def _opencv_detector(weights_path: Path, size: ViewSize, confidence: float) -> Any:
    cv2 = import_for_faces("cv2")
    create = getattr(getattr(cv2, "FaceDetectorYN", None), "create", None)
    create = create or getattr(cv2, "FaceDetectorYN_create", None)
    if create is None or _release(cv2.__version__) < MIN_OPENCV:
        oldest = ".".join(map(str, MIN_OPENCV))
        raise RuntimeError(
            f"the face detector yunet needs OpenCV {oldest} or newer, and this is OpenCV {cv2.__version__}. "
            "Run pip install --upgrade opencv-python, or choose a retinaface detector"
        )
    numbers = ((size.width, size.height), confidence, NMS_IOU, CANDIDATE_LIMIT)
    with _quiet(cv2):
        try:
            # By its bytes: on Windows OpenCV opens no path with letters outside the code page.
            weights = np.frombuffer(weights_path.read_bytes(), np.uint8)
            return create("onnx", weights, np.empty(0, np.uint8), *numbers)
        except (cv2.error, TypeError) as error:  # no such overload before 4.9
            logger.debug("OpenCV %s takes no weights from memory (%s): giving the path", cv2.__version__, error)
        except OSError as error:
            reason = error.strerror or error
            raise RuntimeError(
                f"the face detector {weights_path} cannot be read: {reason}. {_fix(weights_path)}"
            ) from error
        return create(str(weights_path), "", *numbers)


@contextmanager
def _explained_errors(weights_path: Path) -> Generator[None]:
    """Errors of OpenCV, which fails to load or to run a file, name the file and the fix."""
    cv2 = import_for_faces("cv2")
    try:
        yield
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        raise RuntimeError(
            f"OpenCV {cv2.__version__} cannot use the face detector {weights_path}: {error.err.strip()}. "
            f"{_fix(weights_path)}"
        ) from error


def _fix(weights_path: Path) -> str:
    if weights_path == WEIGHTS_PATH:
        return "Reinstall this package, its copy of the file may be damaged"
    return f"Give {WEIGHTS_PATH.name}, whole and unchanged; the detector yunet comes with this package"


@contextmanager
def _quiet(cv2: Any) -> Generator[None]:
    """OpenCV 5 prints a warning about a setting of its own each time it makes a detector; errors still show."""
    logging_5 = getattr(cv2.utils, "logging", None)
    if logging_5 is None:
        yield
        return
    with _LOG_LEVEL_LOCK:
        level = logging_5.getLogLevel()
        logging_5.setLogLevel(min(level, logging_5.LOG_LEVEL_ERROR))
        try:
            yield
        finally:
            logging_5.setLogLevel(level)


def _faces(detector: Any, view_HWC: np.ndarray, size: ViewSize) -> list[Face]:
    """OpenCV's rows are x, y, width, height, ten landmark numbers, score. It names the landmarks by the
    person (right eye, left eye, nose, right and left mouth corner), which in the image is left before
    right: our order.
    """
    rows_N15 = detector.detect(resized_view(view_HWC, size))[1]
    if rows_N15 is None:
        return []
    boxes_N4 = rows_N15[:, :4].copy()
    boxes_N4[:, 2:] += boxes_N4[:, :2]
    landmarks_N52 = rows_N15[:, 4:14].reshape(-1, 5, 2)
    return faces_in_image(boxes_N4, landmarks_N52, rows_N15[:, 14], size, view_HWC.shape[:2])


def _release(version: str) -> tuple[int, int]:
    major, minor = re.findall(r"\d+", version + ".0.0")[:2]
    return int(major), int(minor)
