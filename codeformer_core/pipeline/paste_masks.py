"""Which part of a face is pasted: its shape as a parser sees it, an outline, a box, or single parts.

Shape legend: N faces, S side of the aligned crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from ..faces.contour import contour_masks
from ..faces.events import Event
from ..faces.face_mesh import NAME as FACE_MESH
from ..faces.masks import face_shape_mask
from ..faces.mesh_parsing import MESH_REGIONS, mesh_shape_masks
from ..faces.parsing import FaceParser
from ..faces.regions import blurred, grown, region_masks
from ..runtime.errors import InputError
from .options import PasteOptions

# A step of 8-bit images, and a little: a crop that was saved and read again, rounded or cut off, is still unchanged.
SAME = 1.1 / 255
# Pixels of the 512 crop: closes the gaps between changed pixels in a face that was restored as a whole.
CHANGED_MARGIN = 6

# (faces_N3SS in [-1, 1], landmarks_N52 in pixels of the crops) -> masks_NSS
MakeMasks = Callable[[Tensor, np.ndarray], Tensor]


@dataclass(frozen=True)
class MaskMaker:
    """Makes the masks of a paste.

    make: None for the soft box alone, which every paste has.
    event: what it makes, for the report.
    """

    make: MakeMasks | None
    event: Event


def make_mask_maker(options: PasteOptions, parser: FaceParser | None) -> MaskMaker:
    """What makes the paste masks that `options` ask for.

    parser: tells the parts of a face apart; without one the mask "face" is the outline.
    Raises ValueError where single parts are wanted and there is no parser.
    """
    plain = _plain(options, parser)
    if options.grow == 0 and options.feather == 0:
        return plain

    def make(faces_N3SS: Tensor, landmarks_N52: np.ndarray) -> Tensor:
        count, _, side, _ = faces_N3SS.shape
        masks_NSS = plain.make(faces_N3SS, landmarks_N52) if plain.make else faces_N3SS.new_ones(count, side, side)
        # A Gaussian fades over about four sigmas; outside the crop there is no face, so a box fades, too.
        reach = math.ceil(options.feather)
        padded_NPP = F.pad(grown(masks_NSS, options.grow), (reach,) * 4)
        return blurred(padded_NPP, options.feather / 4)[:, reach : reach + side, reach : reach + side]

    return MaskMaker(make, plain.event)


def _plain(options: PasteOptions, parser: FaceParser | None) -> MaskMaker:
    if options.regions:
        names = ", ".join(options.regions)
        if parser is None:
            raise InputError(
                f"the regions {names} can only be told apart by a face parser, and there is none. Give one, whose file "
                "is parsing_parsenet.pth, or choose another mask",
                "no_parser",
            )
        if parser.name == FACE_MESH and (unseen := [name for name in options.regions if name not in MESH_REGIONS]):
            raise InputError(
                f"{parser.name} doesn't see the regions {', '.join(unseen)}, only {', '.join(MESH_REGIONS)}. Leave "
                "them out, or take the parser parsenet, whose file is parsing_parsenet.pth",
                "no_parser",
            )
        return MaskMaker(
            lambda faces_N3SS, _: region_masks(parser.parse(faces_N3SS), options.regions),
            Event("mask_regions", values={"regions": options.regions, "parser": parser.name}),
        )
    if options.mask == "box":
        return MaskMaker(None, Event("mask_box"))
    if options.mask == "face" and parser is not None and parser.name == FACE_MESH:
        return MaskMaker(
            lambda faces_N3SS, landmarks_N52: mesh_shape_masks(parser, faces_N3SS, landmarks_N52),
            Event("mask_mesh", values={"parser": parser.name}),
        )
    if options.mask == "face" and parser is not None:
        return MaskMaker(
            lambda faces_N3SS, _: face_shape_mask(parser.parse(faces_N3SS)),
            Event("mask_face", values={"parser": parser.name}),
        )
    return MaskMaker(_outlines, Event("mask_outline_instead" if options.mask == "face" else "mask_outline"))


def _outlines(faces_N3SS: Tensor, landmarks_N52: np.ndarray) -> Tensor:
    return contour_masks(landmarks_N52, faces_N3SS.shape[-1]).to(faces_N3SS.device)


def changed_mask(crop_3SS: Tensor, unchanged_3SS: Tensor) -> Tensor | None:
    """mask_SS [0, 1] of where two views of a face differ, a few pixels wider and soft; None when they do nowhere.

    Where a crop was not changed, the image's own pixels are sharper than the crop's, so they stay.
    """
    differs_SS = ((crop_3SS - unchanged_3SS).abs().amax(0) > SAME).float()
    if not bool(differs_SS.any()):
        return None
    return blurred(grown(differs_SS[None], CHANGED_MARGIN), CHANGED_MARGIN / 3)[0]
