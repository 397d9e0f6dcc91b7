"""Small copies of pictures, for the views in the browser.

Shape legend: B pictures, H W their height and width, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .reports import sentence

# A view in a node is smaller than this even at high zoom.
LONGEST_SIDE = 1024
# So many pictures of a batch are shown, evenly spread.
MAX_PICTURES = 16
# So many faces of all pictures together are shown in their own pixels, where their pictures are shrunk: the largest.
MAX_PATCHES = 24
LONGEST_PATCH = 512
# What is shown of a face's surroundings, in sizes of its box.
MARGIN = 0.3


def small_copies(images_BHWC: Tensor, longest: int = LONGEST_SIDE) -> list[dict[str, str]]:
    """Saves each picture, shrunk to `longest` where it is larger, without its alpha; how the editor asks for it."""
    height, width = images_BHWC.shape[1:3]
    shrink = min(1.0, longest / max(height, width))
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    # One by one: the larger copy of a whole batch is never made.
    rgb = (core.split_alpha(image_HWC[None]).rgb_BHW3 for image_HWC in images_BHWC)
    small = (core.resize(one_1HW3, *size).clamp(0, 1) for one_1HW3 in rgb)
    return [saved for one_1HW3 in small for saved in host.preview_images(one_1HW3)]


def before_and_after(
    before_BHWC: Tensor, restored: core.RestoredImages, when_worse: core.WhenWorse, said: str
) -> dict[str, Any]:
    """The `ui` output of which the view Before and after is made; of MAX_PICTURES pictures, evenly spread.

    said: the report.
    """
    after_BHWC = restored.images_BHWC
    height, width = after_BHWC.shape[1:3]
    places = _spread(len(after_BHWC))
    faces = {place: shown_faces(restored, place, before_BHWC, when_worse) for place in places}
    if max(height, width) > LONGEST_SIDE:
        every = [(face, place) for place in places for face in faces[place]]
        for face, place in sorted(every, key=lambda entry: -_area(entry[0]["box"]))[:MAX_PATCHES]:
            face["patch"] = _patch(face["box"], before_BHWC[place], after_BHWC[place])
    pairs = [_pair(before_BHWC[place][None], after_BHWC[place][None], place + 1, faces[place]) for place in places]
    return {"codeformer_compare": [{"pairs": pairs, "total": len(after_BHWC), "report": said}]}


def frames_before_and_after(previews: Sequence[core.Preview], total: int, said: str) -> dict[str, Any]:
    """The same of a video of `total` frames."""
    pairs: list[dict[str, Any]] = []
    for one in previews:
        before_1HW3, after_1HW3 = (
            torch.from_numpy(view_HW3)[None].float() / 255 for view_HW3 in (one.before_HW3, one.after_HW3)
        )
        faces: list[dict[str, Any]] = [{"box": list(box), "state": "restored"} for box in one.boxes.values()]
        faces.sort(key=lambda face: -_area(face["box"]))
        pairs.append(_pair(before_1HW3, after_1HW3, one.number + 1, faces))
    return {"codeformer_compare": [{"pairs": pairs, "total": total, "report": said}]} if pairs else {}


def shown_faces(
    restored: core.RestoredImages, place: int, before_BHWC: Tensor, when_worse: core.WhenWorse
) -> list[dict[str, Any]]:
    """The faces of one picture, the largest first.

    Those that were restored with what was judged of them, those that were left as they were with the reason.
    """
    height, width = before_BHWC.shape[1:3]
    found: list[tuple[core.Face, dict[str, Any]]] = []
    for face, judgement in zip(restored.faces[place], restored.judgements[place], strict=True):
        shown: dict[str, Any] = {"state": "restored"}
        if judgement:
            share = judgement.shown(when_worse)
            shown = {"state": "restored" if share == 1 else "faded", "share": share, **judgement.values}
        found.append((face, shown))
    for entry in restored.skipped[place]:
        # The numbers are in the reason, where they are the reason.
        found.append((entry.face, {"state": "left", "reason": sentence(entry.kind, entry.values)}))
    boxes = [
        {"box": list(core.box_fractions(face, (height, width))), **shown}
        for face, shown in found
        if all(map(math.isfinite, face.box_xyxy))
    ]
    return sorted(boxes, key=lambda face: -_area(face["box"]))


def _spread(count: int) -> list[int]:
    """Places of at most MAX_PICTURES of them, the first and the last among them."""
    shown = min(count, MAX_PICTURES)
    return [round(index * (count - 1) / max(1, shown - 1)) for index in range(shown)]


def _pair(before_1HWC: Tensor, after_1HWC: Tensor, number: int, faces: list[dict[str, Any]]) -> dict[str, Any]:
    height, width = after_1HWC.shape[1:3]
    (before,), (after,) = small_copies(before_1HWC), small_copies(after_1HWC)
    return {"before": before, "after": after, "width": width, "height": height, "number": number, "faces": faces}


def _patch(box: Sequence[float], before_HWC: Tensor, after_HWC: Tensor) -> dict[str, Any]:
    """A face in the pixels of the pictures, and where it lies in them."""
    left, top, right, bottom = box
    across, down = MARGIN * (right - left), MARGIN * (bottom - top)
    wide = [max(0.0, left - across), max(0.0, top - down), min(1.0, right + across), min(1.0, bottom + down)]
    # Whole pixels of the smaller picture, so that both parts show the same.
    height, width = before_HWC.shape[:2]
    first_x, first_y = math.floor(wide[0] * width), math.floor(wide[1] * height)
    last_x, last_y = math.ceil(wide[2] * width), math.ceil(wide[3] * height)
    part = [first_x / width, first_y / height, last_x / width, last_y / height]
    (before,), (after,) = (
        small_copies(_cut(image_HWC, part)[None], LONGEST_PATCH) for image_HWC in (before_HWC, after_HWC)
    )
    return {"box": part, "before": before, "after": after}


def _cut(image_HWC: Tensor, part: Sequence[float]) -> Tensor:
    height, width = image_HWC.shape[:2]
    left, right = round(part[0] * width), round(part[2] * width)
    top, bottom = round(part[1] * height), round(part[3] * height)
    return image_HWC[top : max(bottom, top + 1), left : max(right, left + 1)]


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
