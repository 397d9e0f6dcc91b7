"""The face picker of Extras: faces are found in the host's source picture, and kept or left out by a click.

What it hands on is the text of `core.apply_picks`: boxes as parts of the picture, so that they hold after an upscale.
A click on a tile comes through `javascript/codeformer_pack.js`; the host's galleries don't tell of the second click on
the same picture.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable
from typing import Any

import gradio as gr
from PIL import Image, ImageOps

import codeformer_core as core

from . import host, images, settings, work

# The host's own component that the source picture is put into.
SOURCE = "extras_image"
TILE = 192
# Around the box, as parts of its size.
MARGIN = 0.25
HINT = "A click on a face, here or in the picture, leaves it out or takes it back."

# What is found: per face its box as parts of the picture, its tile as a data address, whether it is kept.
Found = list[dict[str, Any]]

_source: list[Any] = []


def note_source(component: Any, **kwargs: Any) -> None:
    """For the host's callback after each component: remembers the one that holds the source picture."""
    if getattr(component, "elem_id", None) == SOURCE or kwargs.get("elem_id") == SOURCE:
        _source[:] = [component]


def build(elem_id: Callable[[str], str]) -> Any:
    """Makes the picker where the caller stands; the component whose value are the picks."""
    hidden = {"elem_classes": ["codeformer-pack-hidden"], "show_label": False}
    picks = gr.Textbox("", label="Picked faces", elem_id=elem_id("picks"), **hidden)
    pressed = gr.Textbox("", label="Pressed face", elem_id=elem_id("pressed"), **hidden)
    found = gr.State([])
    with gr.Row():
        find = gr.Button("Find faces, to pick some", elem_id=elem_id("find"))
        every = gr.Button("All faces", elem_id=elem_id("every"))
    shown = gr.HTML("", elem_id=elem_id("found"))
    outputs = [found, picks, shown]
    quiet: Any = {"outputs": outputs, "show_progress": "hidden"}
    every.click(_nothing_picked, inputs=[], **quiet)
    pressed.input(_press_tile, inputs=[found, pressed], **quiet)
    if _source:
        (source,) = _source
        find.click(_find, inputs=[source], outputs=outputs)
        source.select(_press_place, inputs=[found, source], **quiet)
        source.change(_nothing_picked, inputs=[], **quiet)
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
    return _shown(found, f"{report}\n{HINT}" if found else report)


def _nothing_picked() -> tuple[Any, ...]:
    return _shown([], "")


def _press_tile(found: Found, pressed: str) -> tuple[Any, ...]:
    """pressed: the face's place in the list, and when it was pressed."""
    index = pressed.split(" ")[0]
    return _pressed(found, int(index) if index.isdecimal() else None)


def _press_place(found: Found, image: Image.Image | None, event: gr.SelectData) -> tuple[Any, ...]:
    """A click on the picture: the pixel that was hit, of the picture as it came."""
    if not found or image is None:
        return _shown(found, "")
    return _pressed(found, face_at(found, event.index[0] / image.width, event.index[1] / image.height))


def _pressed(found: Found, index: int | None) -> tuple[Any, ...]:
    found = [{**each, "kept": each["kept"] != (place == index)} for place, each in enumerate(found)]
    kept = sum(each["kept"] for each in found)
    return _shown(found, f"{kept} of {len(found)} faces are worked on. {HINT}" if found else "")


def face_at(found: Found, x: float, y: float) -> int | None:
    """The face with the smallest box around a place, which is given in parts of the picture's size."""
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
    """The new state, the picks, and the tiles with a text above them."""
    lines = "<br>".join(html.escape(text).splitlines())
    tiles = "".join(_button(number, each) for number, each in enumerate(found))
    return found, picks_of(found), f'<p>{lines}</p><div class="codeformer-pack-faces">{tiles}</div>' if lines else ""


def _button(place: int, face: dict[str, Any]) -> str:
    pressed = "true" if face["kept"] else "false"
    name = f"Face {place + 1}"
    return (
        f'<button type="button" class="codeformer-pack-face" data-face="{place}" aria-pressed="{pressed}" '
        f'aria-label="{name}"><img src="{face["tile"]}" alt=""><span>{place + 1}</span></button>'
    )


def _tile(image: Image.Image, face: core.Face) -> str:
    left, top, right, bottom = face.box_xyxy
    across, down = MARGIN * (right - left), MARGIN * (bottom - top)
    x, y = max(0, round(left - across)), max(0, round(top - down))
    end_x, end_y = min(image.width, round(right + across)), min(image.height, round(bottom + down))
    tile = ImageOps.fit(image.convert("RGB").crop((x, y, end_x, end_y)), (TILE, TILE))
    stream = io.BytesIO()
    tile.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
