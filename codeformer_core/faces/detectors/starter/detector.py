"""The starter detector as a `FaceDetector`: views, passes, and faces in pixels of the image.

Shape legend: B images, H W height and width, C channels, A cells, N candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....imaging.tensors import check_images, detector_view
from ....networks.operations import set_memory_format
from ....runtime import memory
from ....runtime.packages import fill_network, place_of, without_module_prefix
from ...detection import (
    MIN_IMAGE_SIDE,
    ViewSize,
    faces_in_image,
    require_confidence,
    resized_view,
    view_size,
)
from ...types import Face
from .decode import cells, decode, is_nested, merged
from .network import STRIDES, StarterNetwork

NAME = "starter_detector"
# It is trained on faces of 11 to 290 pixels, so it looks twice: the second view shows faces that fill the image.
SHORTER_SIDES = (640, 320)
# In pixels of the first view, the longer side of the box: larger ones are left to the second.
FINE_MAX_FACE_SIZE = 400
# Candidates that overlap by more than this are one face.
MERGE_IOU = 0.4
# Candidates of one view kept before they are merged, best first. Reached only with a confidence near 0.
CANDIDATE_LIMIT = 2000
# A view in float32, its padded copy and the first activations take 60 bytes per pixel; convolutions want room besides.
BYTES_PER_PIXEL = 120
MAX_PER_PASS = 8
# A key that no RetinaFace file has.
_TELLING_KEY = "fine.0.convolution.weight"


@dataclass(frozen=True, eq=False)
class Candidates:
    """What scores above the confidence in one view of one image.

    boxes_N4, points_N52: in pixels of the view.
    scores_N: 0..1.
    weights_N: how far to trust the coordinates.
    """

    boxes_N4: np.ndarray
    points_N52: np.ndarray
    scores_N: np.ndarray
    weights_N: np.ndarray

    def only(self, is_chosen_N: np.ndarray) -> Candidates:
        return Candidates(*(part[is_chosen_N] for part in self._parts()))

    def followed_by(self, other: Candidates) -> Candidates:
        return Candidates(*(np.concatenate(pair) for pair in zip(self._parts(), other._parts(), strict=True)))

    def enlarged(self, size: ViewSize, wanted: ViewSize) -> Candidates:
        """From the view of `size` to pixels of a larger one, where errors are larger too: half the view, half the
        accuracy, a quarter of the weight."""
        by = wanted.factor / size.factor
        shift = 0.5 * (by - 1)
        return Candidates(
            self.boxes_N4 * by + shift, self.points_N52 * by + shift, self.scores_N, self.weights_N / by**2
        )

    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.boxes_N4, self.points_N52, self.scores_N, self.weights_N


@dataclass(frozen=True)
class StarterDetector:
    """A `FaceDetector`. The module may be moved or cast by its owner between calls."""

    module: nn.Module
    name: str = NAME
    default_confidence: float = 0.5

    def bytes_for(self, images_BHWC: Tensor) -> int:
        size = view_size(images_BHWC.shape[1], images_BHWC.shape[2], max(SHORTER_SIDES))
        return BYTES_PER_PIXEL * size.height * size.width * min(len(images_BHWC), MAX_PER_PASS)

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        """One list of faces per image, best score first; see `FaceDetector.detect`.

        Raises RuntimeError when the network answers with non-finite numbers.
        """
        check_images(images_BHWC)
        image_size_hw = (images_BHWC.shape[1], images_BHWC.shape[2])
        confidence = require_confidence(confidence, self.default_confidence)
        if min(image_size_hw) < MIN_IMAGE_SIDE:
            return [[] for _ in images_BHWC]
        fits = memory.batch_size(self.bytes_for(images_BHWC[:1]), place_of(self.module)[0], MAX_PER_PASS)
        passes = memory.in_batches(
            len(images_BHWC), fits, lambda part: self._detect_pass(images_BHWC[part], confidence)
        )
        return [faces for _, found in passes for faces in found]

    def _detect_pass(self, images_BHWC: Tensor, confidence: float) -> list[list[Face]]:
        image_size_hw = (images_BHWC.shape[1], images_BHWC.shape[2])
        images = [detector_view(image_HWC) for image_HWC in images_BHWC]
        sizes = [view_size(*image_size_hw, side) for side in SHORTER_SIDES]
        looks = [self._look(images, size, confidence) for size in sizes]
        fine, coarse = sizes
        found: list[list[Face]] = []
        for look_fine, look_coarse in zip(*looks, strict=True):
            is_right_N = (look_fine.boxes_N4[:, 2:] - look_fine.boxes_N4[:, :2]).max(axis=1) <= FINE_MAX_FACE_SIZE
            both = look_fine.only(is_right_N).followed_by(look_coarse.enlarged(coarse, fine))
            boxes_N4, points_N52, scores_N = merged(
                both.boxes_N4, both.points_N52, both.scores_N, both.weights_N, MERGE_IOU
            )
            is_whole_N = ~is_nested(boxes_N4)
            boxes_N4, points_N52, scores_N = boxes_N4[is_whole_N], points_N52[is_whole_N], scores_N[is_whole_N]
            # The division by the factor alone would leave faces up to the left of where they are: a resize by f maps a
            # pixel's middle x to (x + 0.5) f - 0.5.
            shift = 0.5 * (1 - fine.factor)
            found.append(faces_in_image(boxes_N4 + shift, points_N52 + shift, scores_N, fine, image_size_hw))
        return found

    @torch.no_grad()
    def _look(self, images: list[np.ndarray], size: ViewSize, confidence: float) -> list[Candidates]:
        """What each image shows, in pixels of the view."""
        device, dtype = place_of(self.module)
        views = [torch.from_numpy(resized_view(image, size)) for image in images]
        inputs_B3HW = (torch.stack(views).to(device).permute(0, 3, 1, 2).float() - 127.5) / 127.5
        # Zeros, as the convolutions themselves take what lies outside.
        right, bottom = (-size.width % max(STRIDES), -size.height % max(STRIDES))
        inputs_B3HW = F.pad(inputs_B3HW, (0, right, 0, bottom)).to(dtype=dtype, memory_format=torch.channels_last)
        answers = decode(self.module(inputs_B3HW), cells(size.height + bottom, size.width + right, device))
        rows_BA15 = torch.cat(
            (answers.boxes_BA4, answers.points_BA52.flatten(2), answers.logits_BA.sigmoid()[..., None]), dim=2
        )
        if not bool(rows_BA15.isfinite().all()):
            raise RuntimeError(
                f"face detector {self.name} answered with non-finite numbers ({dtype} on {device}). "
                "Run it in float32; where it does, the weights file is damaged, so get it again"
            )
        return [_candidates(rows_A15, confidence) for rows_A15 in rows_BA15]


def is_starter_detector(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these weights are, by their keys, those of a starter detector."""
    return _TELLING_KEY in without_module_prefix(state_dict)


def build_starter_detector(state_dict: Mapping[str, Tensor], device: str | torch.device = "cpu") -> StarterDetector:
    """The detector with these weights on `device`.

    Raises ValueError naming the first keys that do not fit.
    """
    network = StarterNetwork()
    fill_network(network, state_dict, NAME)
    # Channels last is how CPUs and GPUs convolve fastest: 1.2 to 1.5 times as fast on a CPU.
    network.to(device)
    set_memory_format(network, torch.channels_last)
    return StarterDetector(network.eval().requires_grad_(False))


def _candidates(rows_A15: Tensor, confidence: float) -> Candidates:
    """Only what scores above `confidence` leaves the device."""
    chosen_N = (rows_A15[:, 14] > confidence).nonzero().flatten()
    if len(chosen_N) > CANDIDATE_LIMIT:
        chosen_N = chosen_N[rows_A15[chosen_N, 14].topk(CANDIDATE_LIMIT).indices]
    rows_N15 = rows_A15[chosen_N].cpu().numpy().astype(np.float64)
    scores_N = rows_N15[:, 14]
    return Candidates(rows_N15[:, :4], rows_N15[:, 4:14].reshape(-1, 5, 2), scores_N, scores_N)
