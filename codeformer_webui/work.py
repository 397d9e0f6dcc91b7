"""One image through the core, as the user wants it: restored, colorized or inpainted.

Shape legend: H W height and width, C channels (3 or 4).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

import codeformer_core as core

from . import host, models
from .options import COUNT_KEY, Wanted, infotext_of

logger = logging.getLogger(__name__)

RESTORE, COLORIZE, COLORIZE_WHOLE, INPAINT = "restore", "colorize", "colorize, redrawn", "inpaint"
TASKS = (RESTORE, COLORIZE, COLORIZE_WHOLE, INPAINT)

# Kind of event -> what to do about it here.
CURES = {
    "en": {
        "starter": "Choose it as the model",
        "no_white_pixel": "Give a mask, or paint what is to be filled white",
        "mask_mesh": "For the hair choose parsenet as the parser in the settings",
        "mask_outline_instead": "For the face's own shape choose a parser in the settings",
        "mask_box_instead": "For the face's own shape choose parsenet as the parser in the settings",
    },
    "zh": {
        "starter": "请将其选为模型",
        "no_white_pixel": "请提供遮罩，或把要补全的部分涂成白色",
        "mask_mesh": "要包含头发，请在设置中选择 parsenet",
        "mask_outline_instead": "要按脸形贴回，请在设置中选择解析模型",
        "mask_box_instead": "要按脸形贴回，请在设置中选择 parsenet",
    },
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one image.

    image_1HWC: floats in [0, 1], with the alpha that came.
    faces: those that were worked on, in pixels of the image that came.
    skipped: number of faces that were left as they were.
    events: what was done and why not.
    infotext: keys and values that tell it.
    """

    image_1HWC: Tensor
    faces: tuple[core.Face, ...]
    skipped: int
    events: tuple[core.Event, ...]
    infotext: dict[str, Any]

    @property
    def report(self) -> str:
        return report(self.events)


def report(events: Iterable[core.Event]) -> str:
    """In English, or in Chinese where the host is set to it."""
    language = "zh" if host.speaks_chinese() else "en"
    return core.report(events, language, CURES[language])


def restore(image_1HWC: Tensor, wanted: Wanted, *, upscale: float = 1.0, picks: str = "") -> Outcome:
    """The faces of an image restored, by two restorers in turn where a second is wanted.

    image_1HWC: floats in [0, 1], RGB or RGBA.
    upscale: size of the result.
    picks: of the face picker, see `core.apply_picks`; empty for all faces.
    Raises ValueError naming the input and the fix, WeightsError and DownloadError for missing models, Interrupted.
    """
    options = wanted.restore_options(upscale)
    with host.working():
        try:
            bundles = models.bundles(wanted)
            first = bundles[0]
            events: list[core.Event] = []
            source: Any = first.detector
            if picks:
                found = _find(image_1HWC, wanted, first.detector)
                picked = core.apply_picks(found.faces, picks)
                source, events = picked.faces, [*picked.events]
            restored = _restore(image_1HWC, first, source, options)
            result = restored
            for bundle in bundles[1:]:
                if not any(restored.faces):
                    break
                # In the result of the first, at its size, with the faces that the first has restored.
                factor = result.images_BHWC.shape[2] / image_1HWC.shape[2]
                faces = [[face.scaled(factor) for face in restored.faces[0]]]
                again = core.FaceBatch.of(result.images_BHWC, faces)
                result = _restore(result.images_BHWC, bundle, again, wanted.restore_options())
                events += result.events
        finally:
            models.after_a_run(host.setting("codeformer_pack_keep_loaded", True))
    starter = core.starter_event(first.restorer.name)
    events = [*restored.events, *events, *([starter] if starter else [])]
    count = len(restored.faces[0])
    infotext = infotext_of(wanted, first.restorer.name) | {COUNT_KEY: count}
    done = Outcome(result.images_BHWC, restored.faces[0], len(restored.skipped[0]), tuple(events), infotext)
    logger.info("%s", done.report)
    return done


def edit(image_1HWC: Tensor, wanted: Wanted, task: str, *, mask_1HW: Tensor | None = None, picks: str = "") -> Outcome:
    """The faces of an image colorized or filled.

    task: COLORIZE, COLORIZE_WHOLE or INPAINT.
    mask_1HW: what is to be filled, 1 there; pure white pixels if None.
    Raises as `restore`.
    """
    wanted.restore_options()
    with host.working():
        try:
            (bundle,) = models.bundles(wanted, "inpainting" if task == INPAINT else "colorization")
            source: Any = bundle.detector
            events: list[core.Event] = []
            if picks:
                picked = core.apply_picks(_find(image_1HWC, wanted, bundle.detector).faces, picks)
                source, events = picked.faces, [*picked.events]
            finding = {"confidence": wanted.confidence or None, "min_face_size": wanted.min_face_size}
            if task == INPAINT:
                edited = core.inpaint_photos(
                    image_1HWC,
                    restorer=bundle.restorer,
                    face_source=source,
                    mask_BHW=mask_1HW,
                    on_progress=host.Progress(),
                    **finding,
                )
            else:
                edited = core.colorize_photos(
                    image_1HWC,
                    restorer=bundle.restorer,
                    face_source=source,
                    parser=bundle.parser,
                    # 0 is the published choice; the restorer's own is for restoring.
                    fidelity=wanted.fidelity or 0.0,
                    chroma_only=task == COLORIZE,
                    # One choice serves all tasks there, and gray hair over a coloured face is nobody's wish.
                    mask="head" if wanted.mask == "face" else wanted.mask,  # type: ignore[arg-type]  # checked above
                    opacity=wanted.opacity,
                    on_progress=host.Progress(),
                    **finding,
                )
        finally:
            models.after_a_run(host.setting("codeformer_pack_keep_loaded", True))
    faces = edited.faces.per_image[0]
    infotext = infotext_of(wanted, bundle.restorer.name) | {COUNT_KEY: len(faces)}
    done = Outcome(edited.images_BHWC, faces, 0, (*edited.events, *events), infotext)
    logger.info("%s", done.report)
    return done


def restore_aligned(image_1HWC: Tensor, wanted: Wanted) -> Outcome:
    """An image that is one aligned face (FFHQ template). Raises as `restore`."""
    options = wanted.restore_options()
    with host.working():
        try:
            bundles = models.bundles(wanted)
            events: list[core.Event] = []
            result_1HWC = image_1HWC
            for bundle in bundles:
                restored = core.restore_aligned(
                    result_1HWC,
                    restorer=bundle.restorer,
                    landmark_detector=bundle.landmark_detector,
                    fidelity=options.fidelity,
                    detail=options.detail,
                    on_progress=host.Progress(),
                )
                result_1HWC = restored.images_BHWC
                events += restored.events
        finally:
            models.after_a_run(host.setting("codeformer_pack_keep_loaded", True))
    infotext = infotext_of(wanted, bundles[0].restorer.name) | {COUNT_KEY: 1}
    return Outcome(result_1HWC, (), 0, tuple(events), infotext)


def find_faces(image_1HWC: Tensor, wanted: Wanted) -> tuple[core.FaceBatch, str]:
    """The faces of an image in reading order, and the report. Raises as `restore`; needs no restorer."""
    with host.working():
        detector = models.library().load_detector(wanted.detector)
        found = _find(image_1HWC, wanted, detector)
    return found.faces, report(found.events)


def _find(image_1HWC: Tensor, wanted: Wanted, detector: core.FaceDetector) -> Any:
    return core.find_faces(
        image_1HWC,
        detector=detector,
        confidence=wanted.confidence or None,
        min_face_size=wanted.min_face_size,
        max_face_size=wanted.max_face_size or float("inf"),
        on_progress=host.Progress(),
    )


def _restore(
    image_1HWC: Tensor, bundle: core.ModelBundle, source: Any, options: core.RestoreOptions
) -> core.RestoredImages:
    parser = bundle.parser if options.paste.mask in core.MASKS_BY_PARSER else None
    parts = core.Models(bundle.restorer, source, parser, bundle.landmark_detector)
    return core.restore(image_1HWC, parts, options, keep_crops=False, on_progress=host.Progress())
