"""What part of a face is pasted: its shape as a parser sees it, an outline, a box, or single regions.

Shape legend: N faces, S side of the aligned crop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from ..faces.contour import outline_masks
from ..faces.masks import face_shape_mask
from ..faces.parsing import FaceParser
from ..faces.regions import REGIONS, blurred, grown, region_masks

# A step of 8-bit pictures, and a little: a crop that was saved and read again, rounded or cut off, is still untouched.
SAME = 1.1 / 255
# Pixels of the 512 crop: closes the gaps between changed pixels in a face that was restored as a whole.
CHANGED_MARGIN = 6

MaskKind = Literal["face", "outline", "box"]

# (faces_N3SS in [-1, 1], landmarks_N52 in pixels of the crops) -> masks_NSS
ShapesOf = Callable[[Tensor, np.ndarray], Tensor]


@dataclass(frozen=True)
class PasteShape:
    """kind: the face's shape as the parser sees it (without one, the outline), the outline from the landmarks, or the
    soft box alone. regions: only these parts of the face (names in `REGIONS`); needs a parser.
    grow, feather: by how many pixels of the 512 crop the edge moves outwards, and over how many it fades.
    """

    kind: MaskKind = "face"
    regions: tuple[str, ...] = ()
    grow: float = 0.0
    feather: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(MaskKind):
            raise ValueError(f"mask must be 'face', 'outline' or 'box', got {self.kind!r}")
        unknown = [name for name in self.regions if name not in REGIONS]
        if unknown:
            raise ValueError(f"unknown face regions {', '.join(unknown)}. Cure: some of {', '.join(REGIONS)}")
        if not -256 <= self.grow <= 256:
            raise ValueError(f"grow must be from -256 to 256 pixels, got {self.grow}")
        if not 0 <= self.feather <= 256:
            raise ValueError(f"feather must be from 0 to 256 pixels, got {self.feather}")


def choose_shapes(shape: PasteShape, parser: FaceParser | None, parity: bool = False) -> tuple[ShapesOf | None, str]:
    """What makes the shape masks, None for the soft box alone; and how a report calls it.

    Raises ValueError where regions are wanted and there is no parser.
    """
    shapes_of, words = _plain(shape, parser, parity)
    if shape.grow == 0 and shape.feather == 0:
        return shapes_of, words

    def edged(faces_N3SS: Tensor, landmarks_N52: np.ndarray) -> Tensor:
        count, _, side, _ = faces_N3SS.shape
        plain_NSS = shapes_of(faces_N3SS, landmarks_N52) if shapes_of else faces_N3SS.new_ones(count, side, side)
        # A Gaussian fades over about four sigmas.
        return blurred(grown(plain_NSS, shape.grow), shape.feather / 4)

    return edged, words


def _plain(shape: PasteShape, parser: FaceParser | None, parity: bool) -> tuple[ShapesOf | None, str]:
    if shape.regions:
        if parser is None:
            raise ValueError(
                f"the regions {', '.join(shape.regions)} can only be told apart by a face parser, and none is at hand. "
                "Cure: put parsing_parsenet.pth into models/facedetection and, in ComfyUI, connect face_restore_model; "
                "or choose another mask"
            )
        return (
            lambda faces_N3SS, _: region_masks(parser.parse(faces_N3SS), shape.regions),
            f"{', '.join(shape.regions)} by {parser.name}",
        )
    if shape.kind == "face" and parser is not None:
        return lambda faces_N3SS, _: face_shape_mask(parser.parse(faces_N3SS)), f"face shape by {parser.name}"
    reason = " (no face parser is at hand)" if shape.kind == "face" else ""
    # The published recipe knows no shape but the parser's.
    if shape.kind == "box" or (shape.kind == "face" and parity):
        return None, f"soft box{reason}"
    return _outlines, f"outline from landmarks{reason}"


def _outlines(faces_N3SS: Tensor, landmarks_N52: np.ndarray) -> Tensor:
    return outline_masks(landmarks_N52, faces_N3SS.shape[-1]).to(faces_N3SS.device)


def landmarks_in_crop(landmarks_N2: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(N, 2): pixels of the picture -> pixels of the crop that `matrix` leads to."""
    return landmarks_N2 @ matrix[:, :2].T + matrix[:, 2]


def changed_mask(crop_3SS: Tensor, untouched_3SS: Tensor) -> Tensor | None:
    """mask_SS [0, 1] of where two views of a face differ, a few pixels wider and soft; None when they do nowhere.

    Where a crop came back as it went, the picture's own pixels are sharper than the crop's, so they stay.
    """
    differs_SS = ((crop_3SS - untouched_3SS).abs().amax(0) > SAME).float()
    if not bool(differs_SS.any()):
        return None
    return blurred(grown(differs_SS[None], CHANGED_MARGIN), CHANGED_MARGIN / 3)[0]
