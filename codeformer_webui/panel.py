"""The controls that txt2img, img2img and Extras share, built from the core's options; and what they say.

The order of `Panel.components` is the order of a request's arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from . import models, settings
from .options import AUTOMATIC, DEFAULTS, KEYS, NAME, Wanted, check_names, label_of, middle_of, option, values_in

USE_SETTINGS, AUTOMATIC_FIDELITY = "use_settings", "automatic_fidelity"
NUMBERS = ("opacity", "min_face_size", "max_face_size")
WORDS = ("faces", "when_worse", "mask")
# Everything but the switch, in the order of the arguments.
ORDER = (
    USE_SETTINGS,
    AUTOMATIC_FIDELITY,
    "fidelity",
    "opacity",
    "faces",
    "min_face_size",
    "max_face_size",
    "model",
    "second_model",
    "when_worse",
    "mask",
)


@dataclass(frozen=True)
class Panel:
    """The controls by their names, as in ORDER."""

    controls: dict[str, Any]

    @property
    def components(self) -> list[Any]:
        return list(self.controls.values())

    def infotext_fields(self, switch: Any) -> list[tuple[Any, Callable[[Mapping[str, Any]], Any]]]:
        """For the host's pasting: each control with what an infotext says of it; None leaves it as it is."""
        return [(switch, _was_on), *((control, _told(name)) for name, control in self.controls.items())]


def build(elem_id: Callable[[str], str]) -> Panel:
    """Makes the controls where the caller stands: the strength first, the rest in an accordion."""
    made: dict[str, Any] = {}

    def slider(name: str, value: float, **more: Any) -> None:
        made[name] = gr.Slider(
            **settings.slider_range(name),
            value=value,
            label=label_of(name),
            elem_id=elem_id(name),
            tooltip=option(name).help,
            **more,
        )

    def words(name: str) -> None:
        made[name] = gr.Dropdown(
            list(option(name).choices),
            value=getattr(DEFAULTS, name),
            label=label_of(name),
            elem_id=elem_id(name),
            tooltip=option(name).help,
        )

    with gr.Row():
        made[USE_SETTINGS] = gr.Checkbox(
            True,
            label="As in the settings",
            elem_id=elem_id(USE_SETTINGS),
            tooltip=f"Settings, {NAME}. Moving anything below switches it off.",
        )
        made[AUTOMATIC_FIDELITY] = gr.Checkbox(
            True,
            label="Automatic fidelity",
            elem_id=elem_id(AUTOMATIC_FIDELITY),
            tooltip="What the model's file recommends. Moving the slider switches it off.",
        )
    with gr.Row():
        slider("fidelity", middle_of("fidelity"))
        slider("opacity", DEFAULTS.opacity)
    with gr.Accordion("Which faces, model, mask", open=False):
        with gr.Row():
            words("faces")
            words("when_worse")
            words("mask")
        with gr.Row():
            slider("min_face_size", DEFAULTS.min_face_size)
            slider("max_face_size", DEFAULTS.max_face_size)
        with gr.Row():
            made["model"] = gr.Dropdown(
                models.restorers(),
                value=DEFAULTS.model,
                label="Model",
                elem_id=elem_id("model"),
                tooltip="auto: CodeFormer, else the best of those that are here, at last the small starter that comes "
                "with the pack. An entry with (download) is fetched when it runs.",
            )
            made["second_model"] = gr.Dropdown(
                settings.with_none(),
                value=DEFAULTS.second_model,
                label="Second model, after the first",
                elem_id=elem_id("second_model"),
            )
    panel = Panel({name: made[name] for name in ORDER})
    _let_go_of_the_settings(panel)
    return panel


def wanted_from(values: Sequence[Any], names: Sequence[str] = ORDER) -> Wanted:
    """What the controls, or the arguments of a request in their place, want.

    Raises ValueError naming what is wrong.
    """
    told = dict(zip(names, values, strict=True))
    for name in (USE_SETTINGS, AUTOMATIC_FIDELITY):
        if not isinstance(told[name], bool):
            raise ValueError(f"{name} must be true or false, got {told[name]!r}. The order is: on, {', '.join(names)}")
    use_settings, automatic = told.pop(USE_SETTINGS), told.pop(AUTOMATIC_FIDELITY)
    if use_settings:
        # Where a panel has more than the settings, such as the order, it is its own.
        return settings.wanted().with_values({name: value for name, value in told.items() if name not in ORDER})
    if automatic:
        told["fidelity"] = None
    return settings.wanted().with_values(told)


def wanted_by_name(values: Mapping[str, Any], own: Mapping[str, Any]) -> Wanted:
    """What a request wants that names its values; the settings hold for the others.

    own: the panel's further names with their defaults.
    Raises ValueError naming what is wrong.
    """
    names = tuple(name for name in (*Wanted.__dataclass_fields__,) if name != "order" or "order" in own)
    check_names(values, ("enabled", *names))
    return settings.wanted().with_values({**own, **{key: value for key, value in values.items() if key != "enabled"}})


def _let_go_of_the_settings(panel: Panel) -> None:
    """A control that the user moves counts from then on."""
    switch = panel.controls[USE_SETTINGS]
    automatic = panel.controls[AUTOMATIC_FIDELITY]
    quiet = {"inputs": [], "show_progress": "hidden", "queue": False}
    for name, control in panel.controls.items():
        if name == USE_SETTINGS:
            continue
        if name == "fidelity":
            control.input(lambda: (False, False), outputs=[switch, automatic], **quiet)
        else:
            control.input(lambda: False, outputs=[switch], **quiet)


def _was_on(infotext: Mapping[str, Any]) -> Any:
    # "Restore faces" writes the same keys; its own switch is the host's.
    return (KEYS["model"] in infotext and "Face restoration" not in infotext) or None


def _told(name: str) -> Callable[[Mapping[str, Any]], Any]:
    def read(infotext: Mapping[str, Any]) -> Any:
        values = values_in(infotext)
        if not values:
            return None
        if name == USE_SETTINGS:
            return False
        if name == AUTOMATIC_FIDELITY:
            return values["fidelity"] is None
        value = values[name]
        return models.listed(value) if name == "model" else value

    return read


__all__ = ["AUTOMATIC", "ORDER", "Panel", "build", "wanted_by_name", "wanted_from"]
