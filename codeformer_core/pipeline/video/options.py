"""What a user can choose for a video, beside `RestoreOptions`. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..options import Option, check_options

Smoothing = Literal["full", "alignment", "off"]
VideoFaces = Literal["all", "largest"]

# Ends of file names that are videos, for front ends that must tell them from images.
VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".mxf", ".nut", ".ogv", ".qt", ".vob", ".webm", ".wmv"),
    )
)


def _option(default: Any, label: str, help: str, **limits: Any) -> Any:
    return field(default=default, metadata={"option": Option(default, label, help, **limits)})


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """How a video is restored. Raises ValueError for values out of range."""

    smoothing: Smoothing = _option(
        "full",
        "smoothing",
        "full: faces follow a steady path, and each restored face is averaged with those of the two frames before and "
        "after it, moved to where it is. alignment: only the steady path. off: every frame for itself.",
        choices=get_args(Smoothing),
    )
    faces: VideoFaces = _option(
        "all",
        "which faces",
        "all: every person. largest: the person whose face is the largest, chosen anew at each cut, not in each frame.",
        choices=get_args(VideoFaces),
    )
    look_ahead: int = _option(
        12,
        "look-ahead",
        "Frames that are seen before one is decided. Fewer need less memory; below 12 faces are less steady.",
        minimum=4,
        maximum=48,
        step=1,
        whole=True,
    )
    quality: float | None = _option(
        None,
        "quality",
        "The encoder's constant rate factor: lower is better and larger. Automatic: 16 for H.264, about as good for "
        "other encoders. Encoders without loss know none.",
        minimum=0.0,
        maximum=63.0,
        step=1.0,
        optional=True,
    )

    def __post_init__(self) -> None:
        check_options(self)


VIDEO_DEFAULTS = VideoOptions()
