"""The steps of restoring that need no restorer: images as they are worked on, and restored faces put into them.

Shape legend: B images, H W their height and width, C channels (1 to 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..faces.components import ComponentBoxes
from ..faces.events import Event, SkippedFace
from ..faces.geometry import scale_of
from ..faces.types import Face
from ..imaging import tensors as imaging
from ..imaging.gray import is_gray
from ..runtime import memory
from .align import AlignedFace
from .background import Upscaler, make_canvas
from .composite import NewFace, Target
from .judge import Judgement
from .options import RESTORE_DEFAULTS, RestoreOptions
from .plan import Plan, scaled
from .recipe import USUAL, Recipe
from .reference import OFFICIAL
from .results import OnPasted, RestoredFace
from .sizes import Sizes, require_memory

# From which enlargement on a report tells of it.
WORTH_SAYING = 1.5


@dataclass(frozen=True, eq=False)
class Prepared:
    """Images as they are worked on.

    alpha_BHW1: their transparency, where they have any.
    rgb_BHW3: RGB [0, 1], at the working size.
    """

    sizes: Sizes
    alpha_BHW1: Tensor | None
    rgb_BHW3: Tensor


def prepare(images_BHWC: Tensor, options: RestoreOptions = RESTORE_DEFAULTS) -> Prepared:
    """The first step of `restore`, before any face is looked for.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA.
    Raises ValueError for other images, NotEnoughMemory for results that can't be held.
    """
    imaging.check_layout(images_BHWC)
    recipe = recipe_of(options)
    sizes = recipe.plan_sizes(images_BHWC.shape[1], images_BHWC.shape[2], options.upscale)
    require_memory(images_BHWC, sizes)
    source = imaging.split_alpha(images_BHWC)
    return Prepared(sizes, source.alpha_BHW1, recipe.prepare(source.rgb_BHW3, sizes))


def gray_images(rgb_BHW3: Tensor, aligned: Sequence[AlignedFace]) -> set[int]:
    """Of the images that have faces, the indices of those without colour."""
    return {index for index in {one.image for one in aligned} if is_gray(rgb_BHW3[index])}


@dataclass(frozen=True, eq=False)
class Pasted:
    """Images with their restored faces.

    images_BHWC, coverage_BHW, faces, skipped, crops, judgements: as `RestoredImages` has them.
    judged: of the pasted faces, each with how much of it shows.
    boxes: of the components, where the restorer asked for them.
    enlarged: faces that are much larger than a restorer's crop.
    """

    images_BHWC: Tensor
    coverage_BHW: Tensor
    faces: tuple[tuple[Face, ...], ...]
    skipped: tuple[tuple[SkippedFace, ...], ...]
    crops: tuple[RestoredFace, ...]
    judgements: tuple[tuple[Judgement | None, ...], ...]
    judged: list[tuple[AlignedFace, Judgement, float]]
    boxes: list[ComponentBoxes]
    enlarged: list[Event]


@torch.no_grad()
def paste_restored(
    prepared: Prepared,
    planned: Plan,
    faces: Iterable[RestoredFace],
    options: RestoreOptions,
    detail: tuple[float, float],
    *,
    background: Tensor | Upscaler | None = None,
    face_upscaler: Upscaler | None = None,
    clip_masks_BHW: Tensor | None = None,
    keep_crops: bool = False,
    on_pasted: OnPasted | None = None,
) -> Pasted:
    """The last step of `restore`: restored faces go into their images.

    faces: as the network made them, taken one after the other.
    detail: see `detail.detail_of`.
    background, face_upscaler, keep_crops, on_pasted: see `restore`.
    clip_masks_BHW: [0, 1], at the size of the result.
    """
    recipe, sizes, rgb_BHW3 = recipe_of(options), prepared.sizes, prepared.rgb_BHW3
    unscale = 1 / sizes.enlarged
    canvas_BHW3 = make_canvas(rgb_BHW3, background, sizes.canvas, recipe.resize_background, keep_gray=recipe.keeps_gray)
    clip_masks = [None] * len(rgb_BHW3) if clip_masks_BHW is None else clip_masks_BHW
    coverage_BHW = memory.sparse_zeros(canvas_BHW3.shape[:3], canvas_BHW3.device)
    targets = [
        Target(canvas_HW3, coverage_HW, sizes.upscale_xy, clip_mask_HW)
        for canvas_HW3, coverage_HW, clip_mask_HW in zip(canvas_BHW3, coverage_BHW, clip_masks, strict=True)
    ]
    judged: list[tuple[AlignedFace, Judgement, float]] = []
    boxes: list[ComponentBoxes] = []
    enlarged: list[Event] = []
    crops: list[RestoredFace] = []
    pasted: list[list[Face]] = [[] for _ in targets]
    judgements: list[list[Judgement | None]] = [[] for _ in targets]
    skipped = [list(left_out) for left_out in planned.skipped]
    for restored in faces:
        one = restored.aligned
        if restored.components is not None:
            boxes.append(restored.components)
        face_3SS, judgement = recipe.beside_photo(restored, rgb_BHW3[one.image], detail, options)
        shown = judgement.shown(options.when_worse) if judgement else 1.0
        if judgement and shown == 0:
            skipped[one.image].append(SkippedFace(one.face, judgement.fault, judgement.values))
            continue
        new = NewFace(one, face_3SS, restored.mask_HW, shown)
        problem = recipe.composite(targets[one.image], new, options.paste, face_upscaler, options.upscale)
        if problem is not None:
            skipped[one.image].append(SkippedFace(one.face, problem))
            continue
        if judgement:
            judged.append((one, judgement, shown))
        pasted[one.image].append(scaled(one.face, unscale))
        judgements[one.image].append(judgement)
        if on_pasted:
            on_pasted(canvas_BHW3[one.image])
        enlarged += enlarged_event(one, unscale)
        if keep_crops:
            crops.append(replace(restored, judgement=judgement))
    recipe.finish(canvas_BHW3)
    return Pasted(
        images_BHWC=imaging.merge_alpha(canvas_BHW3, prepared.alpha_BHW1),
        coverage_BHW=coverage_BHW,
        faces=tuple(map(tuple, pasted)),
        skipped=tuple(
            tuple(replace(entry, face=scaled(entry.face, unscale)) for entry in entries) for entries in skipped
        ),
        crops=tuple(crops),
        judgements=tuple(map(tuple, judgements)),
        judged=judged,
        boxes=boxes,
        enlarged=enlarged,
    )


def enlarged_event(one: AlignedFace, unscale: float) -> list[Event]:
    """What to know of a face that is much larger than a restorer's crop.

    unscale: to pixels of the image that came.
    """
    factor = 1 / scale_of(one.matrix)
    if factor < WORTH_SAYING:
        return []
    face = scaled(one.face, unscale)
    return [Event("face_enlarged", one.image, face, {"width": face.width, "factor": factor})]


def recipe_of(options: RestoreOptions) -> Recipe:
    return OFFICIAL if options.parity else USUAL
