"""The section of the host's settings: what holds wherever nothing else is said."""

from __future__ import annotations

from typing import Any

import gradio as gr

from . import host, models
from .options import AUTOMATIC, DEFAULTS, DETAILS, NAME, NO_MODEL, Wanted, label_of, middle_of, option

PREFIX = "codeformer_pack_"
SECTION = ("codeformer_pack", NAME)
# Options with the core's own words and ranges, in the order of the page.
SLIDERS = ("opacity", "min_face_size", "max_face_size", "confidence")
WORDS = ("faces", "when_worse", "mask", "color_match")


def register() -> None:
    """Adds the section. When the scripts load, so that it is there without a browser page and in requests, too."""
    infos = {
        "model": _dropdown(DEFAULTS.model, "Model", models.restorers, _MODEL_HELP),
        "second_model": _dropdown(NO_MODEL, "Second model, after the first", with_none, "none: one is enough"),
        "detector": _dropdown(DEFAULTS.detector, "Face detector", models.detectors, "auto: the best that is here"),
        "parser": _dropdown(DEFAULTS.parser, "Face parser", models.parsers, "finds the shape that is pasted"),
        "automatic_fidelity": host.option_info(True, "Automatic fidelity").info(
            "what the model's file recommends; the slider below has no effect then"
        ),
        "fidelity": _slider("fidelity", middle_of("fidelity")),
        **{name: _slider(name, getattr(DEFAULTS, name)) for name in SLIDERS},
        **{name: _radio(getattr(DEFAULTS, name), label_of(name), option(name)) for name in WORDS},
        "detail": host.option_info(AUTOMATIC, "Detail", gr.Radio, {"choices": list(DETAILS)}).info(
            "how much of the photo's own detail comes back where the model lost it"
        ),
        "device": host.option_info(
            models.HOST_DEVICE, "Device", gr.Radio, {"choices": [models.HOST_DEVICE, models.CPU]}
        ).info("CPU leaves the graphics memory to the pictures"),
        "keep_loaded": host.option_info(True, "Keep the models in memory").info("off: they are loaded for every run"),
        "take_over": host.option_info(False, "Do the work of the host's own CodeFormer, too").info(
            'for requests and extensions that ask for "CodeFormer"; their weight is the fidelity'
        ),
    }
    host.add_settings(SECTION, {PREFIX + name: info for name, info in infos.items()})


def get(name: str, default: Any) -> Any:
    return host.setting(PREFIX + name, default)


def wanted() -> Wanted:
    """What the settings say. Raises ValueError for what a request has put there in place of it."""
    names = ("model", "second_model", "detector", "parser", *SLIDERS, *WORDS, "detail")
    values = {name: get(name, getattr(DEFAULTS, name)) for name in names}
    values["fidelity"] = None if get("automatic_fidelity", True) else get("fidelity", None)
    return DEFAULTS.with_values(values)


def with_none() -> list[str]:
    return [NO_MODEL, *models.restorers()[1:]]


_MODEL_HELP = "auto: codeformer.pth, else the best that is here; an entry with (download) is fetched when it runs"


def slider_range(name: str) -> dict[str, Any]:
    """For gr.Slider: the option's own range and step."""
    found = option(name)
    return {"minimum": found.minimum, "maximum": found.slider_maximum or found.maximum, "step": found.step}


def _slider(name: str, default: float) -> Any:
    return host.option_info(default, label_of(name), gr.Slider, slider_range(name)).info(option(name).help)


def _radio(default: str, label: str, found: Any) -> Any:
    return host.option_info(default, label, gr.Radio, {"choices": list(found.choices)}).info(found.help)


def _dropdown(default: str, label: str, choices: Any, text: str) -> Any:
    return host.option_info(default, label, gr.Dropdown, lambda: {"choices": choices()}).info(text)
