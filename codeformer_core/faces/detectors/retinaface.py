"""RetinaFace: facexlib's network, with our own batched steps before and after it.

Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild", 2019. The anchors, their
variances and the subtracted mean are those the published weights were trained with (facexlib's
`generate_config`).

Shape legend: B images, H W height and width, C channels, A anchors, N candidates.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...imaging.tensors import check_images, detector_view
from ...runtime import memory
from ...runtime.packages import fill_network, import_for_faces, place_of, without_module_prefix
from ..detection import (
    MIN_IMAGE_SIDE,
    ViewSize,
    faces_in_image,
    require_confidence,
    resized_view,
    view_size,
)
from ..types import Face

SHORTER_SIDE = 640
NMS_IOU = 0.4
# Anchor side lengths in view pixels, per stride of the feature map they stand on.
ANCHOR_SIDES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
CENTER_VARIANCE = 0.1
SIZE_VARIANCE = 0.2
MEAN_BGR = (104.0, 117.0, 123.0)
# Candidates kept before non-maximum suppression, best first. Reached only with a confidence near 0.
CANDIDATE_LIMIT = 5000
# Activations of resnet50 in float32 take 310 bytes per pixel of the view, those of mobile0.25 80.
BYTES_PER_PIXEL = 400
MAX_PER_PASS = 8


@dataclass(frozen=True)
class RetinaFaceDetector:
    """A `FaceDetector`. The module may be moved or cast by its owner between calls.

    default_confidence is the official 0.8. Measured with mobile0.25: the best score on six photos without a face is
    0.39, the lowest of the 34 faces of two composites 0.98.
    """

    name: str
    module: nn.Module
    default_confidence: float = 0.8

    def bytes_for(self, images_BHWC: Tensor) -> int:
        size = view_size(images_BHWC.shape[1], images_BHWC.shape[2], SHORTER_SIDE)
        return BYTES_PER_PIXEL * size.height * size.width * min(len(images_BHWC), MAX_PER_PASS)

    def detect(
        self, images_BHWC: Tensor, confidence: float | None = None, batch_size: int | None = None
    ) -> list[list[Face]]:
        """One list of faces per image, best score first; see `FaceDetector.detect`.

        batch_size: images per forward pass, fewer after an out-of-memory error; None: as many as the memory allows, at
        most 8.
        Raises RuntimeError when the network answers with non-finite numbers.
        """
        check_images(images_BHWC)
        image_size_hw = (images_BHWC.shape[1], images_BHWC.shape[2])
        confidence = require_confidence(confidence, self.default_confidence)
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}. Leave it out to have one chosen")
        if min(image_size_hw) < MIN_IMAGE_SIDE:
            return [[] for _ in images_BHWC]
        size = view_size(*image_size_hw, SHORTER_SIDE)
        if batch_size is None:
            batch_size = memory.batch_size(self.bytes_for(images_BHWC[:1]), place_of(self.module)[0], MAX_PER_PASS)
        passes = memory.in_batches(
            len(images_BHWC), batch_size, lambda part: self._detect_pass(images_BHWC[part], size, confidence)
        )
        return [faces for _, found in passes for faces in found]

    @torch.no_grad()
    def _detect_pass(self, images_BHWC: Tensor, size: ViewSize, confidence: float) -> list[list[Face]]:
        device, dtype = place_of(self.module)
        views = [torch.from_numpy(resized_view(detector_view(image_HWC), size)) for image_HWC in images_BHWC]
        views_BCHW = torch.stack(views).to(device).permute(0, 3, 1, 2).float()
        inputs_BCHW = views_BCHW - torch.tensor(MEAN_BGR, device=device).view(1, 3, 1, 1)
        offsets_BA4, scores_BA2, points_BA10 = (part.float() for part in self.module(inputs_BCHW.to(dtype)))
        if not all(bool(part.isfinite().all()) for part in (offsets_BA4, scores_BA2, points_BA10)):
            raise RuntimeError(
                f"face detector {self.name} answered with non-finite numbers ({dtype} on {device}). "
                "Run it in float32; where it does, the weights file is damaged, so download it again"
            )
        anchors_A4 = anchors(size.height, size.width).to(device)
        image_size_hw = (images_BHWC.shape[1], images_BHWC.shape[2])
        return [
            _faces(anchors_A4, offsets_A4, scores_A2[:, 1], points_A10, size, image_size_hw, confidence)
            for offsets_A4, scores_A2, points_A10 in zip(offsets_BA4, scores_BA2, points_BA10, strict=True)
        ]


def build_retinaface(state_dict: Mapping[str, Tensor], device: str | torch.device = "cpu") -> RetinaFaceDetector:
    """The detector that `state_dict` (published keys, with or without "module.") belongs to, on `device`.

    Raises ValueError naming the first keys that do not fit, ImportError when facexlib is missing or broken.
    """
    keys = without_module_prefix(state_dict).keys()
    if "body.layer4.0.conv1.weight" in keys:
        network = "resnet50"
    elif "body.stage1.0.0.weight" in keys:
        network = "mobile0.25"
    else:
        raise ValueError(
            "these weights are not a RetinaFace detector: neither 'body.layer4.0.conv1.weight' (resnet50) nor "
            f"'body.stage1.0.0.weight' (mobile0.25) is in them; the first key is {next(iter(keys), None)!r}. "
            "Give detection_Resnet50_Final.pth or detection_mobilenet0.25_Final.pth"
        )
    facexlib_retinaface = import_for_faces("facexlib.detection.retinaface")
    name = f"retinaface_{network}"
    with warnings.catch_warnings():
        # facexlib asks torchvision for its backbone in an outdated way; no user can change that
        warnings.simplefilter("ignore")
        module = facexlib_retinaface.RetinaFace(network, phase="test", device="cpu")
    fill_network(module, state_dict, name)
    return RetinaFaceDetector(name, module.eval().requires_grad_(False).to(device))


def anchors(height: int, width: int) -> Tensor:
    """anchors_A4 on the CPU: centre x, centre y, width, height in view pixels, in the network's order."""
    levels: list[Tensor] = []
    for stride, sides in ANCHOR_SIDES.items():
        center_y = (torch.arange(math.ceil(height / stride)) + 0.5) * stride
        center_x = (torch.arange(math.ceil(width / stride)) + 0.5) * stride
        y, x, side = torch.meshgrid(center_y, center_x, torch.tensor(sides, dtype=torch.float32), indexing="ij")
        levels.append(torch.stack((x, y, side, side), dim=-1).view(-1, 4))
    return torch.cat(levels)


def _faces(
    anchors_A4: Tensor,
    offsets_A4: Tensor,
    scores_A: Tensor,
    points_A10: Tensor,
    size: ViewSize,
    image_size_hw: tuple[int, int],
    confidence: float,
) -> list[Face]:
    """The faces of one image: only candidates above `confidence` are decoded and leave the device."""
    chosen_N = (scores_A > confidence).nonzero().flatten()
    if len(chosen_N) > CANDIDATE_LIMIT:
        chosen_N = chosen_N[scores_A[chosen_N].topk(CANDIDATE_LIMIT).indices]
    anchors_N4, offsets_N4 = anchors_A4[chosen_N], offsets_A4[chosen_N]
    centers_N2, sides_N2 = anchors_N4[:, :2], anchors_N4[:, 2:]
    box_centers_N2 = centers_N2 + offsets_N4[:, :2] * CENTER_VARIANCE * sides_N2
    half_sizes_N2 = sides_N2 * torch.exp(offsets_N4[:, 2:] * SIZE_VARIANCE) / 2
    boxes_N4 = torch.cat((box_centers_N2 - half_sizes_N2, box_centers_N2 + half_sizes_N2), dim=1)
    points_N52 = points_A10[chosen_N].view(-1, 5, 2) * CENTER_VARIANCE
    landmarks_N52 = centers_N2[:, None] + points_N52 * sides_N2[:, None]
    rows = torch.cat((boxes_N4, landmarks_N52.flatten(1), scores_A[chosen_N, None]), dim=1).cpu()

    # On the CPU: there are few candidates left, and torchvision is often installed without its GPU operators.
    kept = import_for_faces("torchvision.ops").nms(rows[:, :4], rows[:, 14], NMS_IOU)
    rows_np = rows[kept].numpy()
    return faces_in_image(rows_np[:, :4], rows_np[:, 4:14].reshape(-1, 5, 2), rows_np[:, 14], size, image_size_hw)
