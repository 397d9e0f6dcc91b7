"""What a user can choose, as records: every field with its range, default, step, label and help.

Front ends build their inputs from `options_of`, so that no range is written down twice. Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..faces.choices import REGIONS, FaceSelection

MaskKind = Literal["face", "head", "outline", "box"]
# These take a parser where there is one.
MASKS_BY_PARSER: tuple[MaskKind, ...] = ("face", "head")
ColorMatch = Literal["automatic", "off", "mean-std", "low-frequency"]
WhenWorse = Literal["fade", "leave", "paste"]

# Beyond any use; larger numbers overflow the size of the result.
MAX_UPSCALE = 64.0
MAX_EDGE_SHIFT = 256.0


@dataclass(frozen=True)
class Option:
    """One choice of a user.

    default: its value if nothing is chosen.
    label: its name for people, without a capital.
    help: what happens when it changes; one or two sentences.
    minimum, maximum: both included; None where there is no limit.
    step: of a slider.
    choices: the words it can be; empty for numbers and text.
    whole: only whole numbers.
    optional: None is allowed, and stands for an automatic value.
    slider_maximum: where a slider ends, if that is before the maximum.
    fix: what to do instead of a value outside the range.
    """

    default: Any
    label: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    whole: bool = False
    optional: bool = False
    slider_maximum: float | None = None
    fix: str = ""


def _option(default: Any, label: str, help: str, **limits: Any) -> Any:
    return field(default=default, metadata={"option": Option(default, label, help, **limits)})


def options_of(record: type) -> Mapping[str, Option]:
    """The options of a record by their field names, those of records inside it left out."""
    return {each.name: each.metadata["option"] for each in dataclasses.fields(record) if "option" in each.metadata}


def check_options(record: object) -> None:
    """Raise ValueError, with the name, what is allowed and the value, for the first field outside its range."""
    for name, option in options_of(type(record)).items():
        value = getattr(record, name)
        if value is None and option.optional:
            continue
        if isinstance(option.default, bool):
            continue
        if option.choices:
            if value not in option.choices:
                raise ValueError(f"{option.label} must be one of {', '.join(option.choices)}, got {value!r}")
        else:
            _check_number(option, value)


def _check_number(option: Option, value: Any) -> None:
    if not isinstance(value, int | float) or (option.whole and value != int(value)):
        raise ValueError(f"{option.label} must be a {'whole ' if option.whole else ''}number, got {value!r}")
    low = -math.inf if option.minimum is None else option.minimum
    high = math.inf if option.maximum is None else option.maximum
    if low <= value <= high:  # NaN compares false
        return
    allowed = f"{low:g} or more" if option.maximum is None else f"from {low:g} to {high:g}"
    raise ValueError(f"{option.label} must be {allowed}, got {value}{option.fix and '; '}{option.fix}")


@dataclass(frozen=True, kw_only=True)
class PasteOptions:
    """How a face goes into its image; pixels are those of the 512 crop. Raises ValueError for values out of range."""

    mask: MaskKind = _option(
        "face",
        "mask",
        "face: the face as the parser finds it, with its hair if the parser sees hair; without a parser the outline. "
        "head: with hair, ears and neck. outline: from forehead to chin, drawn from the landmarks. box: a soft-edged "
        "box.",
        choices=get_args(MaskKind),
    )
    regions: tuple[str, ...] = ()
    """Only these parts of the face (names in `faces.regions.REGIONS`); needs a parser, and takes the mask's place."""
    grow: float = _option(
        0.0,
        "grow",
        "Moves the mask's edge outwards, or inwards if negative, in pixels of the 512 crop. A box can only shrink.",
        minimum=-MAX_EDGE_SHIFT,
        maximum=MAX_EDGE_SHIFT,
        step=1.0,
    )
    feather: float = _option(
        0.0,
        "feather",
        "Over how many pixels of the 512 crop the mask's edge fades, on top of its own softness.",
        minimum=0.0,
        maximum=MAX_EDGE_SHIFT,
        step=1.0,
    )
    opacity: float = _option(
        1.0,
        "opacity",
        "How much of the restored face shows: 1 only it, 0.5 half it and half the picture, 0 nothing.",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
    )
    color_match: ColorMatch = _option(
        "automatic",
        "color match",
        "Gives the face the colours of where it goes. low-frequency: the same light and skin tone at every place; "
        "features stay the face's. mean-std: the same mean and contrast per channel. automatic: a restored face has "
        "the light and skin tone that it had in its photo; crops that are only pasted stay.",
        choices=get_args(ColorMatch),
    )
    chroma_only: bool = _option(False, "colour only", "The image keeps its brightness and gets the face's colours.")

    def __post_init__(self) -> None:
        check_options(self)
        if unknown := [name for name in self.regions if name not in REGIONS]:
            raise ValueError(f"unknown face regions {', '.join(unknown)}: choose some of {', '.join(REGIONS)}")


PASTE_DEFAULTS = PasteOptions()


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """How the faces of images are restored. Raises ValueError for values out of range."""

    fidelity: float | None = _option(
        None,
        "fidelity",
        "0: cleanest faces, invented where the picture says little. 1: closest to the picture and its faults. Go up "
        "when a face no longer looks like the person. Automatic: what the restorer's file recommends, 0.5 where it "
        "says nothing. For CodeFormer and VQFR v2; other restorers know none.",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        optional=True,
    )
    upscale: float = _option(
        1.0,
        "upscale",
        "Size of the result: 1 keeps the picture's size, 2 doubles width and height (4 times the memory).",
        minimum=1.0,
        maximum=MAX_UPSCALE,
        step=0.25,
        slider_maximum=8.0,
        fix="resize the result instead",
    )
    confidence: float | None = _option(
        None,
        "confidence",
        "How sure the detector must be that something is a face. Lower finds more faces and more that are none.",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        optional=True,
    )
    min_face_size: float = _option(
        0.0,
        "smallest face",
        "Faces whose box is narrower or lower than this many pixels of the picture are left alone.",
        minimum=0.0,
        step=1.0,
        slider_maximum=4096.0,
        fix="0 keeps every face",
    )
    max_face_size: float = _option(
        0.0,
        "largest face",
        "Faces whose box is wider or higher than this many pixels of the picture are left alone. 0: none.",
        minimum=0.0,
        step=1.0,
        slider_maximum=16384.0,
        fix="0 keeps every face",
    )
    faces: FaceSelection = _option(
        "all",
        "which faces",
        "Which faces of a picture are restored: all, the largest, or the one nearest to the middle.",
        choices=get_args(FaceSelection),
    )
    detail: float | None = _option(
        None,
        "detail",
        "How much of the photo's own detail comes back where the restorer lost it: lines, hair and texture above the "
        "photo's noise. 0 none, 1 all. Automatic: as much as the fidelity, and all that is too fine for the restorer, "
        "in faces larger than 512 pixels.",
        minimum=0.0,
        maximum=1.0,
        step=0.01,
        optional=True,
    )
    when_worse: WhenWorse = _option(
        "fade",
        "when worse",
        "What happens to a face that would come out softer than it was, or as another person. fade: the worse it is, "
        "the less of it shows. leave: it stays as it was. paste: it is pasted nevertheless.",
        choices=get_args(WhenWorse),
    )
    parity: bool = _option(
        False,
        "parity",
        "Do exactly what the official CodeFormer program does, its faults and its 8-bit steps included, to compare "
        "results. Small pictures are enlarged, so the size may change.",
    )
    batch_size: int | None = _option(
        None,
        "batch size",
        "Faces at a time; chosen from the free memory if None.",
        minimum=1,
        step=1,
        whole=True,
        optional=True,
    )
    paste: PasteOptions = PASTE_DEFAULTS

    def __post_init__(self) -> None:
        check_options(self)
        unknown = [
            option.label
            for name, option in options_of(PasteOptions).items()
            if name not in ("mask", "opacity") and getattr(self.paste, name) not in (option.default, "off")
        ]
        if self.paste.regions:
            unknown.append("regions")
        if self.detail:
            unknown.append("detail")
        if self.parity and unknown:
            raise ValueError(
                f"parity does what the official program does, which knows no {', '.join(unknown)}: leave one out"
            )


RESTORE_DEFAULTS = RestoreOptions()
