"""What the face modules hand to each other: values only, no behaviour that needs a model.

Shape legend: H W image height and width in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of its image (x right, y down, pixel centres at whole numbers).

    box_xyxy: left, top, right, bottom; may reach outside the image.
    landmarks_xy: left eye, right eye, nose, left and right mouth corner, as seen in the image.
    score: the detector's confidence, 0..1.
    landmarks_68_xy: the usual 68 points (jaw, brows, nose, eyes, mouth) where somebody found them; else None.
    """

    box_xyxy: tuple[float, float, float, float]
    landmarks_xy: tuple[Point, Point, Point, Point, Point]
    score: float
    landmarks_68_xy: tuple[Point, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.box_xyxy) != 4 or len(self.landmarks_xy) != 5:
            raise ValueError(
                "a Face needs a box of 4 numbers and 5 landmarks, "
                f"got {len(self.box_xyxy)} and {len(self.landmarks_xy)}"
            )
        if self.landmarks_68_xy is not None and len(self.landmarks_68_xy) != 68:
            raise ValueError(f"landmarks_68_xy of a Face must be 68 points or None, got {len(self.landmarks_68_xy)}")

    @property
    def width(self) -> float:
        return self.box_xyxy[2] - self.box_xyxy[0]

    @property
    def height(self) -> float:
        return self.box_xyxy[3] - self.box_xyxy[1]

    @property
    def center_xy(self) -> Point:
        return (self.box_xyxy[0] + self.box_xyxy[2]) / 2, (self.box_xyxy[1] + self.box_xyxy[3]) / 2

    @property
    def eye_distance(self) -> float:
        """Distance between the two eyes in pixels."""
        return math.dist(self.landmarks_xy[0], self.landmarks_xy[1])

    def landmarks_array(self) -> np.ndarray:
        """The five landmarks as float64 (5, 2)."""
        return np.asarray(self.landmarks_xy, dtype=np.float64)

    def landmarks_68_array(self) -> np.ndarray | None:
        """The 68 landmarks as float64 (68, 2), or None."""
        return None if self.landmarks_68_xy is None else np.asarray(self.landmarks_68_xy, dtype=np.float64)

    def scaled(self, factor: float) -> Face:
        """The same face in its image resized by `factor`."""
        left, top, right, bottom = (value * factor for value in self.box_xyxy)
        eye_left, eye_right, nose, mouth_left, mouth_right = ((x * factor, y * factor) for x, y in self.landmarks_xy)
        return Face(
            (left, top, right, bottom),
            (eye_left, eye_right, nose, mouth_left, mouth_right),
            self.score,
            None if self.landmarks_68_xy is None else tuple((x * factor, y * factor) for x, y in self.landmarks_68_xy),
        )
