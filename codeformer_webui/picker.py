"""The face picker of Extras: faces are found in the host's source picture and kept or left out by a click.

What it hands on is the text of `core.apply_picks`: boxes as parts of the picture, so that they hold after an upscale.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageOps

import codeformer_core as core

from . import host, images, settings, work

# The host's own component that the source picture is put into.
SOURCE = "extras_image"
TILE = 160
EDGE = 6
KEPT, LEFT_OUT = (64, 200, 96), (128, 128, 128)
# Beside the box, as parts of its size.
MARGIN = 0.25

# What is found: per face its box as parts of the picture, its tile, whether it is kept.
Found = list[dict[str, Any]]

_source: list[Any] = []


def note_source(component: Any, **kwargs: Any) -> None:
    """For the host's callback after each component: remembers the one that holds the source picture."""
    if getattr(component, "elem_id", None) == SOURCE or kwargs.get("elem_id") == SOURCE:
        _source[:] = [component]


def build(elem_id: Callable[[str], str], use_settings: Any) -> Any:
    """Makes the picker where the caller stands; the component whose value are the picks."""
    picks = gr.Textbox("", visible=False, label="Picked faces", elem_id=elem_id("picks"))
    found = gr.State([])
    with gr.Row():
        find = gr.Button("Find faces", elem_id=elem_id("find"))
        every = gr.Button("All faces", elem_id=elem_id("every"))
    said = gr.HTML("", elem_id=elem_id("found"))
    tiles = gr.Gallery(
        [], label="Faces: a click keeps one or leaves it out", columns=6, elem_id=elem_id("tiles"), visible=False
    )
    outputs = [found, tiles, picks, said]
    every.click(_none_picked, inputs=[], outputs=outputs)
    tiles.select(_toggled_tile, inputs=[found], outputs=outputs)
    if _source:
        (source,) = _source
        find.click(_find, inputs=[source], outputs=outputs)
        source.select(_toggled_place, inputs=[found, source], outputs=outputs)
        source.change(_none_picked, inputs=[], outputs=outputs)
    return picks


def _find(image: Image.Image | None) -> tuple[Any, ...]:
    """Finds the faces of the source picture; all of them are kept."""
    if image is None:
        return _shown([], "First choose a picture.")
    try:
        image_1HWC = images.to_tensor(image)
        with host.queue_lock:
            faces, report = work.find_faces(image_1HWC, settings.wanted())
    except Exception as error:  # noqa: BLE001  # shown where the user looks
        host.log_error("faces were not found")
        return _shown([], str(error))
    found = [
        {"box": core.box_fractions(face, faces.image_size_hw), "tile": _tile(image, face), "kept": True}
        for face in faces.per_image[0]
    ]
    return _shown(found, report)


def _none_picked() -> tuple[Any, ...]:
    return _shown([], "")


def _toggled_tile(found: Found, event: gr.SelectData) -> tuple[Any, ...]:
    index = event.index[0] if isinstance(event.index, (list, tuple)) else event.index
    return _toggled(found, int(index))


def _toggled_place(found: Found, image: Image.Image | None, event: gr.SelectData) -> tuple[Any, ...]:
    """A click on the picture: the pixel that was hit, of the picture as it came."""
    if not found or image is None:
        return _shown(found, "" if not found else _count(found))
    x, y = event.index[0] / image.width, event.index[1] / image.height
    return _toggled(found, face_at(found, x, y))


def _toggled(found: Found, index: int | None) -> tuple[Any, ...]:
    if index is not None and 0 <= index < len(found):
        found = [{**each, "kept": each["kept"] != (place == index)} for place, each in enumerate(found)]
    return _shown(found, _count(found))


def face_at(found: Found, x: float, y: float) -> int | None:
    """The smallest box around a place of the picture, given in parts of its size."""
    inside = [
        ((right - left) * (bottom - top), index)
        for index, (left, top, right, bottom) in enumerate(each["box"] for each in found)
        if left <= x <= right and top <= y <= bottom
    ]
    return min(inside)[1] if inside else None


def picks_of(found: Found) -> str:
    """For `core.apply_picks`; empty where every face is kept."""
    if all(each["kept"] for each in found):
        return ""
    return json.dumps({"1": [list(each["box"]) for each in found if each["kept"]]})


def _shown(found: Found, text: str) -> tuple[Any, ...]:
    tiles = [(_framed(each["tile"], each["kept"]), f"{number}") for number, each in enumerate(found, 1)]
    # Nothing stays marked as selected, so that the same tile can be pressed again.
    gallery = gr.update(value=tiles, visible=bool(found), selected_index=None)
    return found, gallery, picks_of(found), f"<p>{text}</p>" if text else ""


def _count(found: Found) -> str:
    return f"{sum(each['kept'] for each in found)} of {len(found)} faces are worked on"


def _tile(image: Image.Image, face: core.Face) -> Image.Image:
    left, top, right, bottom = face.box_xyxy
    across, down = MARGIN * (right - left), MARGIN * (bottom - top)
    x, y = max(0, round(left - across)), max(0, round(top - down))
    end_x, end_y = min(image.width, round(right + across)), min(image.height, round(bottom + down))
    return ImageOps.fit(image.convert("RGB").crop((x, y, end_x, end_y)), (TILE, TILE))


def _framed(tile: Image.Image, kept: bool) -> Image.Image:
    """A green frame for a face that is worked on, a gray one and a pale face for one that is not."""
    if not kept:
        faded = np.asarray(ImageOps.grayscale(tile).convert("RGB")).astype(np.float32) * 0.4 + 255 * 0.6
        tile = Image.fromarray(faded.astype(np.uint8))
    return ImageOps.expand(tile, EDGE, KEPT if kept else LEFT_OUT)


__all__ = ["SOURCE", "build", "face_at", "note_source", "picks_of"]
