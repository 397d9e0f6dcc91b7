"""The shape of a face from its five landmarks alone, for where no parser is installed.

Shape legend: N faces, S side of the aligned crop.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .geometry import CROP_SIZE, TEMPLATE_XY

# The distances from the middle between eyes and mouth at which the mask has faded to 0, in units of the face (see
# `_frame`). Chosen by eye on upright, turned and tilted portraits: ears, hairline and chin lie at five sixths of them.
HALF_WIDTH = 1.42
ABOVE = 1.72
BELOW = 1.54
# 2 would be an ellipse; a little more, and jaw and temples are in it.
EXPONENT = 2.25
# Of the way from the middle to the edge: the mask is 1 up to here.
SOLID = 0.66
# No landmark comes nearer to the edge than this; a shape that would cut one off grows.
LANDMARK_REACH = 0.6
# Of a turned face's nose offset: by how much the head's middle lies on the other side.
TURN_SHIFT = 0.9
# Of the crop's side: 0 up to the first, and no influence of the rim from the second on.
RIM = (0.02, 0.1)


def contour_masks(landmarks_N52: np.ndarray, size: int = CROP_SIZE) -> Tensor:
    """masks_NSS float32 [0, 1]: 1 on the face, from forehead to chin and from ear to ear, 0 at the crop's rim.

    They fade out over about a third of the way. A convex shape: halves of two superellipses that meet at the middle
    between eyes and mouth, as tall and as wide as eyes and mouth say, tilted with them. A turned head reaches further
    on the side that the nose points away from.

    landmarks_N52: in pixels of the crop.
    size: side of the crop in pixels.
    """
    masks = [_outline(landmarks_52, size) for landmarks_52 in landmarks_N52]
    return torch.stack(masks) if masks else torch.zeros(0, size, size)


def _outline(landmarks_52: np.ndarray, size: int) -> Tensor:
    middle_2, across_2, down_2, unit = _frame(landmarks_52)
    pixels_S = torch.arange(size, dtype=torch.float32)
    x_S, y_S1 = pixels_S - float(middle_2[0]), pixels_S[:, None] - float(middle_2[1])
    edge_SS = _edge(
        (x_S * float(across_2[0]) + y_S1 * float(across_2[1])) / unit,
        (x_S * float(down_2[0]) + y_S1 * float(down_2[1])) / unit,
    )
    points_52 = torch.from_numpy((landmarks_52 - middle_2) / unit)
    reach_5 = _edge(points_52 @ torch.from_numpy(across_2), points_52 @ torch.from_numpy(down_2))
    edge_SS /= max(1.0, float(reach_5.max()) / LANDMARK_REACH)
    rim_S = _fade((torch.minimum(pixels_S, size - 1 - pixels_S) / size - RIM[0]) / (RIM[1] - RIM[0]))
    return _fade((1 - edge_SS) / (1 - SOLID)) * rim_S * rim_S[:, None]


def _frame(landmarks_52: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The head's middle, the directions across and down the face (of length 1), and its unit in pixels.

    The unit is the eye distance of a face that looks straight ahead: turning shortens one of the distances between the
    eyes and from eyes to mouth, and nodding the other, so the longer one counts.
    """
    eyes_2, mouth_2 = landmarks_52[:2].mean(0), landmarks_52[3:].mean(0)
    down = mouth_2 - eyes_2
    template_down = np.linalg.norm(TEMPLATE_XY[3:].mean(0) - TEMPLATE_XY[:2].mean(0))
    template_across = np.linalg.norm(TEMPLATE_XY[1] - TEMPLATE_XY[0])
    unit = max(
        float(np.linalg.norm(landmarks_52[1] - landmarks_52[0])),
        float(np.linalg.norm(down) * template_across / template_down),
    )
    # Eyes and mouth in one place: whatever direction, as long as it is one.
    down_2 = down / np.linalg.norm(down) if np.linalg.norm(down) > 0 else np.array((0.0, 1.0))
    across_2 = np.array((down_2[1], -down_2[0]))
    turn = float((landmarks_52[2] - (eyes_2 + mouth_2) / 2) @ across_2)
    return (eyes_2 + mouth_2) / 2 - TURN_SHIFT * turn * across_2, across_2, down_2, max(unit, 1.0)


def _edge(across: Tensor, down: Tensor) -> Tensor:
    """How far out a place is: 0 in the middle, 1 on the edge. The two halves meet without a kink."""
    tall = torch.maximum(down / BELOW, -down / ABOVE)
    return ((across / HALF_WIDTH).abs() ** EXPONENT + tall**EXPONENT) ** (1 / EXPONENT)


def _fade(share: Tensor) -> Tensor:
    """0 below 0, 1 above 1, and between them a curve without corners."""
    share = share.clamp(0, 1)
    return share * share * (3 - 2 * share)
