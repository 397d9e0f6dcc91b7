"""A film through the core, where a host's Extras hand one over (SD.Next)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import codeformer_core as core

from . import host, models, work
from .options import COUNT_KEY, Wanted, infotext_of

logger = logging.getLogger(__name__)


def restore(film: Path, wanted: Wanted) -> tuple[Path, dict[str, Any]]:
    """The restored film in the host's folder for videos, and the infotext keys that tell it.

    Raises ValueError naming what a film can't have, ImportError without PyAV; and as `work.restore`.
    """
    if wanted.faces not in core.options_of(core.VideoOptions)["faces"].choices:
        raise ValueError(f"Which faces: in a film it is all or largest, got {wanted.faces!r}")
    with host.working():
        try:
            first, *others = models.bundles(wanted)
            if others:
                raise ValueError("Second model: a film takes one restorer; choose none")
            made = core.restore_video(
                film,
                host.new_video(film),
                restorer=first.restorer,
                detector=first.detector,
                parser=first.parser if wanted.mask in core.MASKS_BY_PARSER else None,
                landmark_detector=first.landmark_detector,
                # Detail that is given back frame by frame would flicker.
                options=wanted.with_values({"detail": "off", "faces": "all"}).restore_options(),
                video=core.VideoOptions(faces=wanted.faces),  # type: ignore[arg-type]  # checked above
                keep_parts=False,
                on_progress=host.Progress(),
            )
        finally:
            models.after_a_run(host.setting("codeformer_pack_keep_loaded", True))
    logger.info("%s", work.report(made.events))
    return made.target, infotext_of(wanted, first.restorer.name) | {COUNT_KEY: made.faces}
