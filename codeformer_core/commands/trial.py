"""A restorer's self-test: faces of a photo degraded in a known way, restored, and compared with the originals.

Shape legend: N faces, H W height and width of the photo, S side of an aligned crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..degradation import LEVELS, degrade_on_cpu, draw
from ..faces.contour import contour_masks
from ..faces.geometry import CROP_SIZE, crop_face, estimate_alignment, scale_of
from ..faces.types import Face
from ..imaging.tensors import split_alpha
from ..metrics.similarity import psnr
from ..models.restorer import FaceRestorer
from ..pipeline.aligned_faces import restore_aligned

# One of the fixed strengths of `codeformer evaluate`; the same for every face and at every run, its noise too.
LEVEL = "x16"
SEED = 1
# A face that its crop enlarges more is too soft itself to be what the others are measured by.
MAX_ENLARGED = 2.5
MAX_FACES = 4
MAX_PSNR = 100.0


@dataclass(frozen=True)
class Trial:
    """How close the faces are to the photo, PSNR in dB inside their outline: degraded, and degraded and restored.

    faces: how many.
    degraded, restored: mean PSNR, dB.
    shown_3SS3: RGB in [0, 1], the largest face: original, degraded, restored.
    """

    faces: int
    degraded: float
    restored: float
    shown_3SS3: Tensor = field(repr=False)

    def in_words(self) -> str:
        """Two lines, which say it when the restorer does harm."""
        gain = self.restored - self.degraded
        if abs(gain) < 0.05:
            verdict = "no nearer to the photo"
        elif gain > 0:
            verdict = f"{gain:.1f} dB nearer to the photo"
        else:
            verdict = f"{-gain:.1f} dB WORSE than leaving it alone"
        return (
            f"put to the test on {self.faces} face{'s' if self.faces > 1 else ''} made worse (level {LEVEL}: 16 times "
            "smaller, blur, noise, JPEG):\n"
            f"  PSNR {self.degraded:.1f} dB, restored {self.restored:.1f} dB: {verdict}"
        )


def try_restorer(image_HWC: Tensor, faces: Sequence[Face], restorer: FaceRestorer, fidelity: float) -> Trial | None:
    """Degrade the largest of the photo's faces and restore them; None when the photo shows none large enough.

    image_HWC: gray, RGB or RGBA in [0, 1].
    fidelity: as for `restore_images`.
    """
    clean_NSS3, landmarks = crops_to_try(image_HWC, faces)
    if not landmarks:
        return None
    degraded_NSS3 = torch.stack([_damaged(crop_SS3) for crop_SS3 in clean_NSS3])
    restored_NSS3 = restore_aligned(degraded_NSS3, restorer=restorer, fidelity=fidelity).images_BHWC
    masks_NSS = contour_masks(np.stack(landmarks))
    degraded, restored = (_psnr(images, clean_NSS3, masks_NSS) for images in (degraded_NSS3, restored_NSS3))
    shown_3SS3 = torch.stack((clean_NSS3[0], degraded_NSS3[0], restored_NSS3[0]))
    return Trial(len(landmarks), degraded, restored, shown_3SS3)


def crops_to_try(image_HWC: Tensor, faces: Sequence[Face]) -> tuple[Tensor, list[np.ndarray]]:
    """(crops_NSS3, each one's five landmarks in its pixels), the largest face first, of those that are large enough.

    image_HWC: gray, RGB or RGBA in [0, 1].
    """
    rgb_HW3 = split_alpha(image_HWC[None]).rgb_BHW3[0]
    crops = [rgb_HW3.new_empty((0, CROP_SIZE, CROP_SIZE, 3))]
    landmarks: list[np.ndarray] = []
    for face in sorted(faces, key=lambda face: -face.eye_distance)[:MAX_FACES]:
        matrix = estimate_alignment(face)
        if matrix is not None and scale_of(matrix) <= MAX_ENLARGED:
            crops.append(crop_face(rgb_HW3, matrix).permute(1, 2, 0)[None])
            landmarks.append(face.landmarks_array() @ matrix[:, :2].T + matrix[:, 2])
    return torch.cat(crops), landmarks


def _damaged(crop_SS3: Tensor) -> Tensor:
    levels_SS3 = (crop_SS3.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    damage = draw(LEVELS[LEVEL], CROP_SIZE, torch.Generator().manual_seed(SEED))
    return torch.from_numpy(degrade_on_cpu(levels_SS3, damage)).float() / 255


def _psnr(images_NSS3: Tensor, clean_NSS3: Tensor, masks_NSS: Tensor) -> float:
    """Mean over the faces."""
    made_N3SS, clean_N3SS = (faces.permute(0, 3, 1, 2) for faces in (images_NSS3, clean_NSS3))
    # Equal faces are infinitely near, which no mean can hold.
    return float(psnr(made_N3SS, clean_N3SS, masks_NSS).clamp(max=MAX_PSNR).mean())
