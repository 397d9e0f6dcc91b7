"""The self-test of the other two verbs: faces of a photo lose their colours, or parts, get them back, and are compared
with the originals.

Shape legend: N faces, S side of an aligned crop.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..degradation import PRESETS, draw
from ..degradation.brush import brush_mask
from ..faces.geometry import CROP_SIZE
from ..imaging.gray import LUMA_RGB
from ..metrics.colours import ColorShift
from ..metrics.similarity import psnr
from ..models.restorer import FaceInpainter, FaceRestorer
from ..pipeline.colorize import colorize_aligned
from ..pipeline.inpaint import inpaint_aligned

# Strokes that lie well over a face; the same at every run.
SEED = 3
# Distance from gray in CIELAB: below it a photo is a tinted print.
NEARLY_GRAY = 5.0


@dataclass(frozen=True)
class RepaintTrial:
    """What became of the faces.

    line: a sentence with the numbers.
    words: what each of the pictures is.
    shown_3SS3: RGB in [0, 1], the first face: spoilt, mended, original.
    """

    line: str
    words: tuple[str, str, str]
    shown_3SS3: Tensor = field(repr=False)


def try_colorizing(crops_NSS3: Tensor, colorizer: FaceRestorer) -> RepaintTrial:
    """crops_NSS3: aligned faces in colour, RGB in [0, 1]."""
    gray_NSS3 = (crops_NSS3 @ crops_NSS3.new_tensor(LUMA_RGB))[..., None].expand_as(crops_NSS3).clamp(0, 1)
    made_NSS3 = colorize_aligned(gray_NSS3, restorer=colorizer, chroma_only=True).images_BHWC
    gray, made = (_colour_error(images_NSS3, crops_NSS3) for images_NSS3 in (gray_NSS3, made_NSS3))
    line = (
        f"colours taken away and given back: {made:.1f} from the photo's, gray is {gray:.1f} from them (CIELAB; an "
        "attentive eye sees 2)"
        if gray > NEARLY_GRAY
        else "colorized; the photo has hardly any colours of its own to compare with"
    )
    return RepaintTrial(
        line, ("colours taken away", "colorized", "the photo"), torch.stack((gray_NSS3[0], made_NSS3[0], crops_NSS3[0]))
    )


def try_inpainting(crops_NSS3: Tensor, inpainter: FaceInpainter) -> RepaintTrial:
    """crops_NSS3: aligned faces, RGB in [0, 1]."""
    drawn = draw(PRESETS["inpainting"], CROP_SIZE, torch.Generator().manual_seed(SEED))
    hole_SS = torch.from_numpy(brush_mask(drawn).copy()).to(crops_NSS3.device)
    holes_NSS = hole_SS.expand(len(crops_NSS3), -1, -1)
    white_NSS3 = torch.where(holes_NSS[..., None], torch.ones_like(crops_NSS3), crops_NSS3)
    made_NSS3 = inpaint_aligned(white_NSS3, restorer=inpainter, mask_BHW=holes_NSS.float()).images_BHWC
    made_N3SS, clean_N3SS = (images.permute(0, 3, 1, 2) for images in (made_NSS3, crops_NSS3))
    nearness = float(psnr(made_N3SS, clean_N3SS, holes_NSS.float()).clamp(max=100).mean())
    line = f"strokes over {float(hole_SS.float().mean()):.0%} of the face filled: PSNR in them {nearness:.1f} dB"
    return RepaintTrial(
        line, ("strokes of a brush", "filled", "the photo"), torch.stack((white_NSS3[0], made_NSS3[0], crops_NSS3[0]))
    )


def _colour_error(images_NSS3: Tensor, crops_NSS3: Tensor) -> float:
    made_N3SS, clean_N3SS = (images.permute(0, 3, 1, 2).clamp(0, 1) for images in (images_NSS3, crops_NSS3))
    return float(ColorShift().measure(made_N3SS, clean_N3SS).mean())
