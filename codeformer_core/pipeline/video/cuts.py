"""Where a new scene begins: one number for each frame."""

from __future__ import annotations

import numpy as np

from ...runtime.packages import import_for_faces

# Columns and rows of the thumbnails that are compared.
_SIZE = (16, 9)
# Difference from which on it is a cut: of the test clips, cuts have 0.3, and what moves within a scene 0.05 at most.
CUT = 0.14
# Levels of 255 added to the brightness that a difference is measured by: noise in the dark is not taken for a cut.
_FLOOR = 24.0


def thumbnail(view_HW3: np.ndarray) -> np.ndarray:
    """The frame at 16x9, float32, 0..255.

    view_HW3: uint8 RGB.
    """
    cv2 = import_for_faces("cv2")
    return cv2.resize(view_HW3, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """How much two thumbnails differ, as a part of their brightness."""
    brightness = (float(before.mean()) + float(after.mean())) / 2
    return float(np.abs(after - before).mean()) / (brightness + _FLOOR)
