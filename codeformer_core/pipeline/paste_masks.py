"""Which part of a face is pasted: its shape as a parser sees it, an outline, a box, or single parts.

Shape legend: N faces, S side of the aligned crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..faces.contour import contour_masks
from ..faces.events import Event
from ..faces.face_mesh import NAME as FACE_MESH
from ..faces.masks import face_shape_mask
from ..faces.mesh_parsing import MESH_REGIONS, mesh_shape_masks
from ..faces.parsing import FaceParser
from ..faces.person_mask import can_find_persons, person_masks
from ..faces.regions import blurred, grown, region_masks
from ..runtime.errors import InputError
from .options import PasteOptions

# A step of 8-bit images, and a little: a crop that was saved and read again, rounded or cut off, is still unchanged.
SAME = 1.1 / 255
# Pixels of the 512 crop: closes the gaps between changed pixels in a face that was restored as a whole.
CHANGED_MARGIN = 6
# Over this part of the crop's side the mask "head" fades out at the crop's edges.
HEAD_RIM = 0.12
# From this part of the face on, the head counts as seen.
HEAD_SEEN = 0.8
# The same for the photo's own crop, whose head then bounds that of the new face: in drawings there is none.
HEAD_SEEN_IN_PHOTO = 0.5

# (faces_N3SS in [-1, 1], landmarks_N52 in pixels of the crops, photos_N3SS: the crops before, in [-1, 1], or None where
# the new faces may have other outlines) -> masks_NSS
MakeMasks = Callable[[Tensor, np.ndarray, Tensor | None], Tensor]


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

    def make(faces_N3SS: Tensor, landmarks_N52: np.ndarray, photos_N3SS: Tensor | None) -> Tensor:
        count, _, side, _ = faces_N3SS.shape
        masks_NSS = (
            plain.make(faces_N3SS, landmarks_N52, photos_N3SS) if plain.make else faces_N3SS.new_ones(count, side, side)
        )
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
            lambda faces_N3SS, _, _photos: region_masks(parser.parse(faces_N3SS), options.regions),
            Event("mask_regions", values={"regions": options.regions, "parser": parser.name}),
        )
    if options.mask == "box":
        return MaskMaker(None, Event("mask_box"))
    if options.mask == "head":
        return _head(options, parser)
    if options.mask == "face" and parser is not None and parser.name == FACE_MESH:
        return MaskMaker(
            lambda faces_N3SS, landmarks_N52, _: mesh_shape_masks(parser, faces_N3SS, landmarks_N52),
            Event("mask_mesh", values={"parser": parser.name}),
        )
    if options.mask == "face" and parser is not None:
        return MaskMaker(
            lambda faces_N3SS, _, _photos: face_shape_mask(parser.parse(faces_N3SS)),
            Event("mask_face", values={"parser": parser.name}),
        )
    return MaskMaker(_outlines, Event("mask_outline_instead" if options.mask == "face" else "mask_outline"))


def _head(options: PasteOptions, parser: FaceParser | None) -> MaskMaker:
    """The face, and whatever else of a person the crop shows."""
    face = _plain(replace(options, mask="face"), parser)
    if not can_find_persons():
        return MaskMaker(face.make, Event("mask_face_instead"))

    def make(faces_N3SS: Tensor, landmarks_N52: np.ndarray, photos_N3SS: Tensor | None) -> Tensor:
        heads_NSS = person_masks(faces_N3SS)
        faces_NSS = None if face.make is None else face.make(faces_N3SS, landmarks_N52, photos_N3SS)
        if photos_N3SS is not None and faces_NSS is not None:
            # A restorer that colours the background around a head makes it look like hair.
            in_photos_NSS = person_masks(photos_N3SS)
            heads_NSS = torch.where(
                _seen(in_photos_NSS, faces_NSS, HEAD_SEEN_IN_PHOTO), torch.minimum(heads_NSS, in_photos_NSS), heads_NSS
            )
        heads_NSS = heads_NSS * _fading_rim(faces_N3SS.shape[-1]).to(faces_N3SS.device)
        if faces_NSS is not None:
            # A face's shape ends softly, outside a bald head; it counts where no head was seen, as in drawings.
            seen_N11 = _seen(heads_NSS, faces_NSS, HEAD_SEEN)
            heads_NSS = torch.where(seen_N11, heads_NSS, torch.maximum(heads_NSS, faces_NSS))
        return heads_NSS

    return MaskMaker(make, Event("mask_head"))


def _seen(heads_NSS: Tensor, faces_NSS: Tensor, least: float) -> Tensor:
    """seen_N11: whether so much of a face lies in its head."""
    return (heads_NSS * faces_NSS).sum((1, 2), keepdim=True) >= least * faces_NSS.sum((1, 2), keepdim=True)


def _fading_rim(side: int) -> Tensor:
    """rim_SS: 1 inside, 0 at the edges: shoulders and long hair leave the crop there."""
    distance_S = torch.minimum(torch.arange(side), torch.arange(side).flip(0)) / (HEAD_RIM * side)
    ramp_S = distance_S.clamp(max=1)
    ramp_S = ramp_S.square() * (3 - 2 * ramp_S)
    return ramp_S[:, None] * ramp_S


def _outlines(faces_N3SS: Tensor, landmarks_N52: np.ndarray, _photos_N3SS: Tensor | None) -> Tensor:
    return contour_masks(landmarks_N52, faces_N3SS.shape[-1]).to(faces_N3SS.device)


def changed_mask(crop_3SS: Tensor, unchanged_3SS: Tensor) -> Tensor | None:
    """mask_SS [0, 1] of where two views of a face differ, a few pixels wider and soft; None when they do nowhere.

    Where a crop was not changed, the image's own pixels are sharper than the crop's, so they stay.
    """
    differs_SS = ((crop_3SS - unchanged_3SS).abs().amax(0) > SAME).float()
    if not bool(differs_SS.any()):
        return None
    return blurred(grown(differs_SS[None], CHANGED_MARGIN), CHANGED_MARGIN / 3)[0]
