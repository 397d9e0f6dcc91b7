"""Where a crop shows a person, with hair, ears and neck: MediaPipe's selfie segmentation, run by OpenCV.

The file, which assets/README.md describes, comes with this package. About 15 ms a face on one core.
Shape legend: B faces, S side of an aligned crop.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..runtime.packages import import_for_faces

WEIGHTS_PATH = Path(__file__).parents[1] / "assets" / "selfie_segmentation.tflite"
# Of the image that the network sees, in pixels.
_SEEN_SIDE = 256
# A mask up to here counts as background.
_UNSURE = 0.5
# The guided filter: its window in pixels, and from which variance of the image on there is an edge.
_RADIUS = 6
_EPSILON = 1e-3


def can_find_persons() -> bool:
    """Whether OpenCV reads the network's format, which it does from 4.8 on."""
    return hasattr(import_for_faces("cv2").dnn, "readNetFromTFLite")


def person_masks(faces_B3SS: Tensor) -> Tensor:
    """masks_BSS float32 [0, 1]: 1 on persons, 0 on what lies behind them.

    faces_B3SS: aligned crops, RGB in [-1, 1], gray ones too. Of drawings it makes nothing.
    Raises RuntimeError where OpenCV can't use the file.
    """
    if not len(faces_B3SS):
        return faces_B3SS.new_zeros(faces_B3SS.shape[0], *faces_B3SS.shape[2:])
    shrunk_B3ss = F.interpolate(faces_B3SS.float(), (_SEEN_SIDE, _SEEN_SIDE), mode="bilinear", antialias=True)
    seen_B3ss = ((shrunk_B3ss.cpu() + 1) / 2).clamp(0, 1)
    masks_B1ss = torch.from_numpy(_run(seen_B3ss.numpy()))
    # What is below a half is mostly background that resembles hair, and a wide edge would be a halo.
    fitted_B1ss = _along_edges(_sure(masks_B1ss), seen_B3ss.mean(1, keepdim=True))
    masks_B1SS = F.interpolate(_sure(fitted_B1ss), faces_B3SS.shape[2:], mode="bilinear", align_corners=False)
    return masks_B1SS[:, 0].to(faces_B3SS.device)


def _sure(masks_B1ss: Tensor) -> Tensor:
    return ((masks_B1ss - _UNSURE) / (1 - _UNSURE)).clamp(0, 1)


def _along_edges(masks_B1ss: Tensor, guide_B1ss: Tensor) -> Tensor:
    """A mask moved to the edges of `guide_B1ss` (guided filter: He, Sun, Tang, 2010)."""
    guide_mean, mask_mean = _mean(guide_B1ss), _mean(masks_B1ss)
    slope = (_mean(guide_B1ss * masks_B1ss) - guide_mean * mask_mean) / (
        _mean(guide_B1ss.square()) - guide_mean.square() + _EPSILON
    )
    return (_mean(slope) * guide_B1ss + _mean(mask_mean - slope * guide_mean)).clamp(0, 1)


def _mean(image_B1ss: Tensor) -> Tensor:
    return F.avg_pool2d(image_B1ss, 2 * _RADIUS + 1, 1, _RADIUS, count_include_pad=False)


def _run(seen_B3ss: np.ndarray) -> np.ndarray:
    """-> masks_B1ss. OpenCV's networks remember their input and may not be shared by threads, so each call has its own,
    which takes some milliseconds."""
    cv2 = import_for_faces("cv2")
    try:
        network = cv2.dnn.readNetFromTFLite(np.frombuffer(WEIGHTS_PATH.read_bytes(), np.uint8))
        masks: list[np.ndarray] = []
        for seen_3ss in seen_B3ss:
            network.setInput(seen_3ss[None])
            masks.append(network.forward().reshape(1, 1, _SEEN_SIDE, _SEEN_SIDE))
    except (OSError, cv2.error) as error:
        raise RuntimeError(
            f"OpenCV {cv2.__version__} cannot use {WEIGHTS_PATH}: {error}. Reinstall this package, its copy of the "
            "file may be damaged, or choose another mask"
        ) from error
    return np.concatenate(masks)
