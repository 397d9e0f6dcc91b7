"""What a user of the WebUI can choose, as flat named values: in the settings, in a panel, in a request.

Ranges, defaults and words are those of `codeformer_core`'s option records. Imports nothing of the host.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import codeformer_core as core

NAME = "CodeFormer pack"
NO_MODEL = "none"
AUTOMATIC = "automatic"
# Choice -> `RestoreOptions.detail`.
DETAILS: dict[str, float | None] = {AUTOMATIC: None, "keep": 1.0, "off": 0.0}
BEFORE_OVERLAY, AFTER_OVERLAY = "before the inpaint overlay", "after the inpaint overlay"

# Name -> the record that has the option of this name.
RECORDS: dict[str, type] = {
    "fidelity": core.RestoreOptions,
    "opacity": core.PasteOptions,
    "faces": core.RestoreOptions,
    "min_face_size": core.RestoreOptions,
    "max_face_size": core.RestoreOptions,
    "confidence": core.RestoreOptions,
    "when_worse": core.RestoreOptions,
    "mask": core.PasteOptions,
    "color_match": core.PasteOptions,
}
MODEL_NAMES = ("model", "second_model", "detector", "parser")

# Infotext and Extras' info: name -> key. Letters, digits and spaces alone survive the pasting.
KEYS = {
    "model": f"{NAME} model",
    "second_model": f"{NAME} second model",
    "fidelity": f"{NAME} fidelity",
    "opacity": f"{NAME} opacity",
    "faces": f"{NAME} faces",
    "min_face_size": f"{NAME} smallest face",
    "max_face_size": f"{NAME} largest face",
    "when_worse": f"{NAME} when worse",
    "mask": f"{NAME} mask",
    "order": f"{NAME} order",
}
COUNT_KEY = f"{NAME} restored"
FAILED_KEY = f"{NAME} failed"
# What an infotext tells only where it is not the default.
WHEN_CHANGED = ("second_model", "opacity", "faces", "min_face_size", "max_face_size", "when_worse", "mask", "order")


@dataclass(frozen=True)
class Wanted:
    """One run of the restorer over one image.

    model, second_model, detector, parser: choices of `ModelLibrary`; second_model may be NO_MODEL.
    fidelity: None for what the restorer's file recommends.
    detail: a key of DETAILS.
    confidence: of the detector; 0 for its own default.
    order: before or after the host's inpaint overlay; only for generated images.
    The others: see `RestoreOptions` and `PasteOptions`.
    """

    model: str = core.AUTO
    second_model: str = NO_MODEL
    detector: str = core.AUTO
    parser: str = core.AUTO
    fidelity: float | None = None
    opacity: float = 1.0
    faces: str = "all"
    min_face_size: float = 0.0
    max_face_size: float = 0.0
    confidence: float = 0.0
    when_worse: str = "fade"
    mask: str = "face"
    color_match: str = "automatic"
    detail: str = AUTOMATIC
    order: str = BEFORE_OVERLAY

    def with_values(self, values: Mapping[str, Any]) -> Wanted:
        """These values in place of the own ones. Raises ValueError for an unknown name and a value out of range."""
        check_names(values)
        changed = dataclasses.replace(self, **values)
        changed.restore_options()
        changed.check_words()
        return changed

    def restore_options(self, upscale: float = 1.0) -> core.RestoreOptions:
        """Raises ValueError for a value out of range."""
        if self.detail not in DETAILS:
            raise ValueError(f"detail must be one of {', '.join(DETAILS)}, got {self.detail!r}")
        numbers = {name: getattr(self, name) for name in ("opacity", "min_face_size", "max_face_size", "confidence")}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{label_of(name)} must be a number, got {value!r}")
        if isinstance(self.fidelity, bool):
            raise ValueError(f"fidelity must be a number or null, got {self.fidelity}")
        return core.RestoreOptions(
            fidelity=self.fidelity,
            upscale=upscale,
            confidence=self.confidence or None,
            min_face_size=self.min_face_size,
            max_face_size=self.max_face_size,
            faces=self.faces,  # type: ignore[arg-type]  # checked there
            detail=DETAILS[self.detail],
            when_worse=self.when_worse,  # type: ignore[arg-type]
            paste=core.PasteOptions(
                mask=self.mask,  # type: ignore[arg-type]
                opacity=self.opacity,
                color_match=self.color_match,  # type: ignore[arg-type]
            ),
        )

    def check_words(self) -> None:
        for name in MODEL_NAMES:
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name} must be the name of a model, got {getattr(self, name)!r}")
        if self.order not in (BEFORE_OVERLAY, AFTER_OVERLAY):
            raise ValueError(f"order must be {BEFORE_OVERLAY!r} or {AFTER_OVERLAY!r}, got {self.order!r}")


DEFAULTS = Wanted()
NAMES = tuple(field.name for field in dataclasses.fields(Wanted))


def check_names(values: Mapping[str, Any], allowed: tuple[str, ...] = NAMES) -> None:
    """Raise ValueError for names that are no option."""
    if unknown := sorted(set(values) - set(allowed)):
        raise ValueError(f"unknown: {', '.join(map(str, unknown))}. Known are {', '.join(allowed)}")


def option(name: str) -> Any:
    """The core's record of an option: range, step, choices, label and help."""
    return core.options_of(RECORDS[name])[name]


def label_of(name: str) -> str:
    """For people, with a capital."""
    label = option(name).label if name in RECORDS else name.replace("_", " ")
    return label[0].upper() + label[1:]


def middle_of(name: str) -> float:
    """Where a slider stands as long as its option is automatic."""
    found = option(name)
    return (found.minimum + found.maximum) / 2


def infotext_of(wanted: Wanted, restorer: str | None = None) -> dict[str, Any]:
    """Infotext keys and values of what is wanted, or was done.

    restorer: the one that ran, which "auto" leaves open.
    """
    model = wanted.model.removesuffix(core.DOWNLOAD)
    text: dict[str, Any] = {
        KEYS["model"]: restorer or model if model == core.AUTO else model,
        KEYS["fidelity"]: AUTOMATIC if wanted.fidelity is None else wanted.fidelity,
    }
    for name in WHEN_CHANGED:
        if (value := getattr(wanted, name)) != getattr(DEFAULTS, name):
            text[KEYS[name]] = value
    return text


def values_in(infotext: Mapping[str, Any]) -> dict[str, Any]:
    """The values that an infotext's keys tell, as `Wanted.with_values` takes them; nothing where it tells none.

    What is not told had its default then. Numbers that can't be read are left out.
    """
    if KEYS["model"] not in infotext:
        return {}
    values: dict[str, Any] = {}
    for name, key in KEYS.items():
        told = infotext.get(key)
        default = getattr(DEFAULTS, name)
        if told is None:
            values[name] = default
        elif name == "fidelity" or isinstance(default, float):
            values[name] = None if told == AUTOMATIC else _number(told, default)
        else:
            values[name] = str(told)
    return values


def _number(text: Any, default: float | None) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return default
