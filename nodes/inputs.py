"""Inputs that several nodes have, so that they look and mean the same everywhere; and what finds the faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import codeformer_core as core
from . import host
from .sockets import FaceDetectorType, FacesType, own_faces

CONFIDENCE = (
    "How sure the detector must be that something is a face. Lower finds more faces and more that are none. 0: the "
    "detector's own default (RetinaFace 0.8, starter detector 0.5, YuNet 0.75)."
)
LEFT_ALONE = "Faces whose box is narrower or lower than this many pixels of the picture are left alone."
USUAL_REGIONS = "eyes, mouth"
MASKS = (*core.options_of(core.PasteOptions)["mask"].choices, "regions")
MASKS_BY_PARSER = (*core.MASKS_BY_PARSER, "regions")
AUTOMATIC = "automatic"
# Choice -> `RestoreOptions.detail`.
DETAILS: dict[str, float | None] = {AUTOMATIC: None, "keep": 1.0, "off": 0.0}
LEFT_OUT = "Faces whose box is narrower or lower than this many pixels of the picture are left out. 0: none."


def option_input(
    record: type,
    field: str,
    *,
    name: str | None = None,
    tooltip: str | None = None,
    default: float | str | None = None,
    maximum: float | None = None,
    slider: bool = True,
    choices: tuple[str, ...] | None = None,
    optional: bool = False,
) -> io.Input:
    """The input of an option, with its own range, step and words.

    record, field: where the option is.
    name: of the input, where workflows know it by another.
    tooltip, default, maximum, choices: instead of the option's own.
    slider: whether a number from 0 to 1 is shown as one.
    optional: for inputs that came later: prompts without them stay valid.
    """
    option = core.options_of(record)[field]
    name, tooltip = name or field, tooltip or option.help
    if option.choices:
        return io.Combo.Input(
            name, options=list(choices or option.choices), default=default, tooltip=tooltip, optional=optional
        )
    if isinstance(option.default, bool):
        return io.Boolean.Input(name, default=option.default, tooltip=tooltip, optional=optional)
    return io.Float.Input(
        name,
        default=option.default if default is None else default,
        min=option.minimum,
        max=maximum or option.slider_maximum or option.maximum,
        step=option.step,
        display_mode=io.NumberDisplay.slider if slider and option.maximum == 1 else None,
        tooltip=tooltip,
        optional=optional,
    )


# Choice -> whether that person's faces are left out.
PERSONS = {"only this person": False, "all but this person": True}


def person_inputs() -> list[io.Input]:
    """Whose faces are worked on. Optional: they came later."""
    return [
        io.Image.Input(
            "reference",
            optional=True,
            tooltip="One or more photos of a person: only faces that look like theirs are worked on. Of each photo the "
            "largest face counts.",
        ),
        io.Combo.Input(
            "person",
            options=list(PERSONS),
            optional=True,
            tooltip="What the reference photos choose: this person's faces, or everybody else's.",
        ),
        io.Float.Input(
            "person_distance",
            default=0.6,
            min=0.3,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="How far a face may be from the reference photos and still be this person. 0.6 is the usual limit; "
            "lower is stricter. The report tells the distances.",
        ),
    ]


def chosen_person(
    reference: Tensor | None, person: str, max_distance: float, detector: Callable[[], core.FaceDetector]
) -> core.Person | None:
    """The person of `person_inputs`; None without reference photos. detector: called where there are some."""
    if reference is None:
        return None
    return core.load_person([reference], detector=detector(), excluded=PERSONS[person], max_distance=max_distance)


def defaults_of(node: type[io.ComfyNode]) -> dict[str, Any]:
    """Name -> default of the widgets that a prompt must give this node."""
    return {
        widget.id: widget.options[0] if isinstance(widget, io.Combo.Input) and not widget.default else widget.default
        for widget in node.define_schema().inputs
        if isinstance(widget, io.WidgetInput) and not widget.optional
    }


def share_input(name: str, default: float, tooltip: str, *, slider: bool = True) -> io.Input:
    """A number from 0 to 1."""
    display = io.NumberDisplay.slider if slider else None
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, display_mode=display, tooltip=tooltip)


def pixels_input(name: str, tooltip: str, maximum: float | None = None) -> io.Input:
    return option_input(core.RestoreOptions, "min_face_size", name=name, tooltip=tooltip, maximum=maximum)


def fidelity_input() -> io.Input:
    """The paper's w; below 0 it is the model's own."""
    tooltip = f"-1: automatic. {core.options_of(core.RestoreOptions)['fidelity'].help}"
    return io.Float.Input("fidelity", default=-1.0, min=-1.0, max=1.0, step=0.01, tooltip=tooltip)


def chosen_fidelity(value: float) -> float | None:
    """`RestoreOptions.fidelity` from the input's number."""
    return None if value < 0 else value


def detail_input() -> io.Input:
    """Optional: it came later."""
    return io.Combo.Input(
        "detail",
        options=list(DETAILS),
        default=AUTOMATIC,
        optional=True,
        tooltip="The photo's own lines, hair and texture, where the restorer lost them and the photo shows them above "
        "its noise. automatic: as much as fidelity says, and all that is too fine for the restorer, in faces larger "
        "than 512 pixels. keep: all. off: none.",
    )


def confidence_input() -> io.Input:
    return option_input(core.RestoreOptions, "confidence", tooltip=CONFIDENCE, default=0.0, slider=False)


def mask_input(begins: str, *, regions: bool = False, default: str | None = None) -> io.Input:
    """The masks of whole-picture nodes.

    begins: what the mask decides there, the tooltip's first sentence.
    regions: whether it can be single parts of a face, too, see `regions_input`.
    default: instead of the option's own.
    """
    return option_input(
        core.PasteOptions,
        "mask",
        tooltip=f"{begins} face: the face and its hair as ParseNet finds them; without ParseNet's file (see Load Face "
        "Restore Model) the face without its hair, by 468 landmarks. The report says which. head: hair, ears and "
        "neck, too. outline: the face from forehead to chin, drawn from five landmarks. box: a soft-edged box."
        + (" regions: only those named below." if regions else ""),
        choices=MASKS if regions else None,
        default=default,
    )


def regions_input(parser: str, *, optional: bool = False) -> io.Input:
    """The parts of a face for the mask regions. parser: where they get it from, for the tooltip."""
    return io.String.Input(
        "regions",
        default=USUAL_REGIONS,
        tooltip=f"For mask regions: some of {', '.join(core.REGIONS)}, with commas between them. Hair, ears and "
        f"neck need ParseNet ({parser}).",
        optional=optional,
    )


def paste_options(mask: str, regions: str, **others: Any) -> core.PasteOptions:
    """The options of a node with a mask that can be regions. others: fields of PasteOptions."""
    by_regions = mask == "regions"
    return core.PasteOptions(
        mask="face" if by_regions else mask,  # type: ignore[arg-type]  # checked there
        regions=core.parse_regions(regions) if by_regions else (),
        **others,
    )


def detector_input() -> io.Input:
    return FaceDetectorType.Input(
        "detector", optional=True, tooltip="Finds the faces instead of the detector of the face restore model."
    )


def finding_inputs() -> list[io.Input]:
    """What says which faces of a photo are worked on."""
    return [
        detector_input(),
        FacesType.Input(
            "faces",
            optional=True,
            tooltip="Works on these faces of the same pictures; nothing is detected, and confidence and smallest_face "
            "have no effect.",
        ),
        host.advanced(confidence_input()),
        host.advanced(pixels_input("smallest_face", LEFT_ALONE)),
    ]


def face_source(
    model: core.ModelBundle, detector: core.FaceDetector | None, faces: core.FaceBatch | None, name: str = "faces"
) -> core.FaceDetector | core.FaceBatch:
    """The faces themselves, or what looks for them; the model's own detector is loaded only when it is the one.

    name: of the input that the faces came in by. Raises ValueError, see `own_faces`.
    """
    if faces is not None:
        return own_faces(faces, name)
    return detector or model.detector
