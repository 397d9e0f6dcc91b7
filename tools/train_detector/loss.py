"""How far the network's answers are from the targets.

Shape legend: B scenes, A cells of all grids, P cells with a face, 5 2 landmarks in x and y.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codeformer_core.faces.detectors.starter.decode import Answers
from codeformer_core.faces.geometry import box_iou

from .targets import EITHER, FACE

BOX_WEIGHT, LANDMARK_WEIGHT = 1.0, 10.0
# Landmark errors below this part of the face's size count by their square: the labels are no better than that.
_LABEL_NOISE = 0.01


@dataclass(frozen=True)
class Losses:
    """Means over the cells with a face; `total` is weighted."""

    score: Tensor
    box: Tensor
    landmarks: Tensor

    @property
    def total(self) -> Tensor:
        return self.score + BOX_WEIGHT * self.box + LANDMARK_WEIGHT * self.landmarks


def losses_of(answers: Answers, kind_BA: Tensor, boxes_BA4: Tensor, points_BA52: Tensor) -> Losses:
    """The score's aim is the overlap of the cell's own box with the true one, so that the best placed cell wins
    (quality focal loss: Li et al., "Generalized Focal Loss", 2020); the box is judged by its distance overlap (Zheng et
    al., "Distance-IoU Loss", 2020), landmarks by their distance as a part of the face's size.
    """
    is_face_BA = kind_BA == FACE
    count = is_face_BA.sum().clamp(min=1)
    boxes_P4, wanted_P4 = answers.boxes_BA4[is_face_BA], boxes_BA4[is_face_BA]
    overlap_P, distance_P = _overlap_and_distance(boxes_P4, wanted_P4)
    aims_BA = torch.zeros_like(answers.logits_BA)
    aims_BA[is_face_BA] = overlap_P.detach().clamp(0, 1)
    off_BA = (aims_BA - answers.logits_BA.detach().sigmoid()) ** 2
    entropy_BA = F.binary_cross_entropy_with_logits(answers.logits_BA, aims_BA, reduction="none")
    score = (entropy_BA * off_BA)[kind_BA != EITHER].sum() / count
    box = (1 - overlap_P + distance_P).sum() / count
    sizes_P = (wanted_P4[:, 2:] - wanted_P4[:, :2]).prod(dim=1).sqrt()
    errors_P52 = (answers.points_BA52[is_face_BA] - points_BA52[is_face_BA]) / sizes_P[:, None, None]
    zeros_P52 = torch.zeros_like(errors_P52)
    landmarks = F.smooth_l1_loss(errors_P52, zeros_P52, beta=_LABEL_NOISE, reduction="sum") / (10 * count)
    return Losses(score, box, landmarks)


def _overlap_and_distance(boxes_P4: Tensor, wanted_P4: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union; squared distance of the centres over that of the corners of both boxes together."""
    reach_P2 = torch.maximum(boxes_P4[:, 2:], wanted_P4[:, 2:]) - torch.minimum(boxes_P4[:, :2], wanted_P4[:, :2])
    apart_P2 = (boxes_P4[:, :2] + boxes_P4[:, 2:] - wanted_P4[:, :2] - wanted_P4[:, 2:]) / 2
    return box_iou(boxes_P4, wanted_P4), (apart_P2**2).sum(dim=1) / (reach_P2**2).sum(dim=1).clamp(min=1e-6)
