"""Progress callbacks."""

from __future__ import annotations

from collections.abc import Callable

# Called with a stage's name and how many of its steps are done and to do; may raise to cancel.
OnProgress = Callable[[str, int, int], None]

FINDING = "finding faces"
RESTORING = "restoring faces"
COLORIZING = "colorizing faces"
FILLING = "filling faces"
PASTING = "pasting faces"
UPSCALING = "upscaling"
VIDEO = "restoring the video"


def no_progress(stage: str, done: int, total: int) -> None:
    """For callers that want none."""
