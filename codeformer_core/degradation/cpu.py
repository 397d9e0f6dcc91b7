"""One face degraded by OpenCV, for data workers."""

from __future__ import annotations

import numpy as np
import torch

from .brush import WHITE, brush_mask
from .color import change_colors
from .draw import Drawn
from .kernels import gaussian_kernels, kernel_side
from .noise import normals
from .worn import wear


def degrade_on_cpu(clean_HW3: np.ndarray, drawn: Drawn, *, bicubic: bool = False) -> np.ndarray:
    """The degraded face, (size, size, 3) uint8 RGB.

    clean_HW3: uint8 RGB, (size, size, 3).
    drawn: the numbers for a face of this size.
    bicubic: enlarge the shrunken face so and not bilinearly, as networks are trained; for comparisons.
    Raises ValueError for other sizes and types.
    """
    import cv2

    if clean_HW3.dtype != np.uint8 or clean_HW3.shape != (drawn.size, drawn.size, 3):
        raise ValueError(
            f"the numbers were drawn for a face of shape ({drawn.size}, {drawn.size}, 3) and type uint8, got "
            f"{clean_HW3.shape} and {clean_HW3.dtype}: draw them for the face's own size"
        )
    levels = clean_HW3.astype(np.float32)
    if drawn.strokes:
        levels[brush_mask(drawn)] = WHITE
    if drawn.blur is not None:
        kernel_KK = gaussian_kernels([drawn.blur], kernel_side(drawn.size))[0]
        levels = cv2.filter2D(levels, -1, kernel_KK, borderType=cv2.BORDER_REFLECT_101)
    if drawn.is_worn:
        batch_13HW = torch.from_numpy(levels).permute(2, 0, 1)[None].contiguous()
        levels = np.ascontiguousarray(wear(batch_13HW, [drawn])[0].permute(1, 2, 0).numpy())
    if drawn.low_size is not None:
        levels = _resized(levels, drawn.low_size, cv2.INTER_LINEAR)
    if drawn.noise_sigma is not None:
        noise_N = normals(drawn.noise_seed, levels.size)
        levels = levels + np.float32(drawn.noise_sigma) * noise_N.reshape(levels.shape)
    levels = levels.clip(0, 255)
    if drawn.jpeg_quality is not None:
        levels = _through_jpeg(_rounded(levels), drawn.jpeg_quality).astype(np.float32)
    if drawn.low_size is not None:
        levels = _resized(levels, drawn.size, cv2.INTER_CUBIC if bicubic else cv2.INTER_LINEAR)
        levels = levels.clip(0, 255)  # which a bicubic filter leaves
    if drawn.colors is not None:
        levels = change_colors(torch.from_numpy(levels).permute(2, 0, 1), drawn.colors).permute(1, 2, 0).numpy()
    return _rounded(levels)


def _rounded(levels: np.ndarray) -> np.ndarray:
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def _resized(levels_HW3: np.ndarray, size: int, interpolation: int) -> np.ndarray:
    import cv2

    return cv2.resize(levels_HW3, (size, size), interpolation=interpolation)


def _through_jpeg(face_HW3: np.ndarray, quality: int) -> np.ndarray:
    import cv2

    written, data = cv2.imencode(".jpg", cv2.cvtColor(face_HW3, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert written
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert read is not None
    return cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
