"""Faces for display: boxes for the host and the editor, and images with numbered boxes.

Shape legend: B images, H W their height and width, C channels; h w height and width of a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..imaging import tensors as imaging
from ..runtime import memory
from .batch import FaceBatch
from .types import Face

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

# The longer side of a view in pixels: numbers are readable on small images, and large ones don't fill the memory.
VIEW_SIDES = (512, 1024)
FONT_SIZE = 22
LINE = 3
THIN_LINE = 2
KEPT_RGB = (64, 255, 96)
DROPPED_RGB = (208, 208, 208)
EDGE_RGB = (0, 0, 0)

Box = tuple[float, float, float, float]


def box_fractions(face: Face, image_size_hw: tuple[int, int]) -> Box:
    """Left, top, right, bottom of the box's part inside the image, as parts of its width and height, 0..1."""
    height, width = image_size_hw
    left, top, right, bottom = face.box_xyxy
    return _part(left, width), _part(top, height), _part(right, width), _part(bottom, height)


def bounding_boxes(faces: FaceBatch) -> list[list[dict[str, Any]]]:
    """The host's BOUNDING_BOX: per image a list of {x, y, width, height, label, score}.

    The first four are whole pixels inside the image, at least one wide and high.
    """
    height, width = faces.image_size_hw
    return [[_bounding_box(face, height, width) for face in found] for found in faces.per_image]


@torch.no_grad()
def draw_faces(images_BHWC: Tensor, kept: FaceBatch, dropped: Sequence[Sequence[Face]]) -> Tensor:
    """Views of the images with their faces in boxes: views_Bhw3, RGB float32 [0, 1] on the CPU.

    The kept faces have numbered boxes, the dropped ones thin light boxes with dark edges. The longer side is within
    VIEW_SIDES.

    images_BHWC: floats in [0, 1], gray, RGB or RGBA.
    dropped: per image.
    Raises ValueError for other images, NotEnoughMemory when the views don't fit. Nothing that was passed in is changed.
    """
    imaging.check_layout(images_BHWC)
    count, height, width = images_BHWC.shape[:3]
    smallest, largest = VIEW_SIDES
    factor = min(max(1.0, smallest / max(height, width)), largest / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    memory.require(count * size[0] * size[1] * 3 * 4, "cpu", f"showing {count} images")
    drawn_Bhw3 = torch.empty(count, *size, 3)
    # One at a time: resizing a whole batch takes several times its memory on the way.
    for drawn_hw3, image_HWC, numbered, others in zip(drawn_Bhw3, images_BHWC, kept.per_image, dropped, strict=True):
        view_hw3 = imaging.resize(imaging.split_alpha(image_HWC[None]).rgb_BHW3, *size)[0]
        drawn_hw3.copy_(_drawn(view_hw3, numbered, others, kept.image_size_hw))
    return drawn_Bhw3


def _drawn(view_hw3: Tensor, kept: Sequence[Face], dropped: Sequence[Face], image_size_hw: tuple[int, int]) -> Tensor:
    from PIL import Image, ImageDraw, ImageFont

    height, width = view_hw3.shape[:2]
    levels_hw3 = view_hw3.detach().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
    view = Image.fromarray(levels_hw3)
    draw = ImageDraw.Draw(view)
    font = ImageFont.load_default(FONT_SIZE)
    boxes = [_in_view(face, image_size_hw, width, height) for face in kept]
    for face in dropped:
        _box(draw, _in_view(face, image_size_hw, width, height), DROPPED_RGB, THIN_LINE)
    for box in boxes:
        _box(draw, box, KEPT_RGB, LINE)
    # Last, so that no box of a neighbour crosses a number.
    for number, box in enumerate(boxes, 1):
        _label(draw, font, str(number), box, width)
    return torch.from_numpy(np.array(view)).float() / 255


def _box(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], rgb: tuple[int, int, int], line: int) -> None:
    """A light line between two dark ones: one of them is seen on any skin."""
    draw.rectangle(box, outline=EDGE_RGB, width=line + 2)
    draw.rectangle((box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1), outline=rgb, width=line)


def _label(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    text: str,
    box: tuple[int, int, int, int],
    width: int,
) -> None:
    """A tab on the box's upper left corner, inside it where there is no room above."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    tab_width, tab_height = int(right - left) + 8, int(bottom - top) + 8
    x = max(0, min(box[0], width - tab_width))
    y = box[1] - tab_height if box[1] >= tab_height else box[1]
    draw.rectangle((x, y, x + tab_width, y + tab_height), fill=KEPT_RGB, outline=EDGE_RGB)
    draw.text((x + 4 - left, y + 4 - top), text, font=font, fill=EDGE_RGB)


def _in_view(face: Face, image_size_hw: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """Pixels of the view, at least a few apart: a frame needs room for its lines."""
    left, top, right, bottom = box_fractions(face, image_size_hw)
    x, y = round(left * (width - 1)), round(top * (height - 1))
    least = 2 * LINE + 2
    return x, y, max(round(right * (width - 1)), x + least), max(round(bottom * (height - 1)), y + least)


def _bounding_box(face: Face, height: int, width: int) -> dict[str, Any]:
    left, top, right, bottom = face.box_xyxy
    x, across = _whole(left, right, width)
    y, down = _whole(top, bottom, height)
    return {"x": x, "y": y, "width": across, "height": down, "label": "face", "score": face.score}


def _whole(start: float, end: float, size: int) -> tuple[int, int]:
    """Start and length in whole pixels inside 0..size."""
    first = min(max(round(start), 0), size - 1)
    return first, max(1, min(round(end), size) - first)


def _part(place: float, size: int) -> float:
    return min(max(place / size, 0.0), 1.0)
