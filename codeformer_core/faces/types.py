"""What the face modules hand to each other: values only, no behaviour that needs a model.

Shape legend: H W picture height and width in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

Point = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of its picture (x right, y down, pixel centres at whole numbers).

    box_xyxy: left, top, right, bottom; may reach outside the picture.
    landmarks_xy: left eye, right eye, nose, left and right mouth corner, as seen in the picture.
    score: the detector's confidence, 0..1.
    """

    box_xyxy: tuple[float, float, float, float]
    landmarks_xy: tuple[Point, Point, Point, Point, Point]
    score: float

    def __post_init__(self) -> None:
        if len(self.box_xyxy) != 4 or len(self.landmarks_xy) != 5:
            raise ValueError(
                "a Face needs a box of 4 numbers and 5 landmarks, "
                f"got {len(self.box_xyxy)} and {len(self.landmarks_xy)}"
            )

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


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """One face on its way through the pipeline.

    picture: index in the batch. matrix: picture -> crop, float64 (2, 3), read-only.
    crop_3HW, restored_3HW: RGB [0, 1], 512x512, before and after the network.
    """

    picture: int
    face: Face
    matrix: np.ndarray
    crop_3HW: Tensor
    restored_3HW: Tensor
