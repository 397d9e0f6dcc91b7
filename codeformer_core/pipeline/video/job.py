"""A video that is to be restored: what is asked for, and all that can be checked before the work."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ...runtime.errors import ExistingFileError
from ..options import RestoreOptions
from .encoding import Encoding, choose_encoding
from .journal import parts_folder
from .options import VideoOptions
from .source import VideoInfo, probe

# Streams that may be left out without a word.
MINOR = ("data", "attachment")
# The result may be so many times as large as its source; what is written while it is put together, twice that.
_GROWTH = 2


@dataclass(frozen=True, kw_only=True)
class VideoJob:
    """A video, and where and how its result is written.

    source, target: files; the result appears whole or not at all.
    start, end: the part that is restored, in seconds; end None for the end of the video.
    encoder: as FFmpeg calls it, or "auto".
    overwrite: replace a result that exists, and drop the parts of a run before.
    resume: continue a run that was stopped.
    keep_parts: what is done stays for a run that resumes, when this one fails or is stopped.
    compare: write the video with before and after side by side instead.
    strict: frames that can't be decoded are an error.
    leave_out: types of streams that are left out where the container doesn't take them.
    """

    source: Path
    target: Path
    start: float = 0.0
    end: float | None = None
    encoder: str = "auto"
    overwrite: bool = False
    resume: bool = False
    keep_parts: bool = True
    compare: bool = False
    strict: bool = False
    leave_out: tuple[str, ...] = MINOR


def check_job(job: VideoJob, options: RestoreOptions, video: VideoOptions) -> tuple[VideoInfo, Encoding]:
    """Everything that can be known before the work. Raises ValueError and OSError naming the file and the fix."""
    if options.upscale != 1:
        raise ValueError("a video keeps its size: leave out the upscale, and enlarge the result with another program")
    if options.parity:
        raise ValueError("the official recipe works on single images: leave it out for videos")
    info = probe(job.source, job.start, job.end)
    if job.target.exists():
        if job.target.is_dir():
            raise ValueError(f"{job.target}: is a folder; name the new video, such as {job.target / job.source.name}")
        if os.path.samefile(job.source, job.target):
            raise ValueError(f"{job.target}: is the source itself; name another file")
        if not job.overwrite and not (job.resume and parts_folder(job.target).exists()):
            raise ExistingFileError(f"{job.target}: exists already; name another file, or allow to overwrite it")
    if not job.target.parent.is_dir():
        raise ValueError(f"{job.target}: there is no folder {job.target.parent}; make it first, or name another one")
    encoding = choose_encoding(info, job.target, job.encoder, video.quality, job.leave_out)
    _check_disk(job, info)
    return info, encoding


def _check_disk(job: VideoJob, info: VideoInfo) -> None:
    whole = max(1, info.frames or round(info.seconds * info.rate))
    needed = job.source.stat().st_size * min(1.0, info.expected / whole) * _GROWTH
    free = shutil.disk_usage(job.target.parent).free
    if needed > free:
        raise OSError(
            28,
            f"about {needed / 2**20:,.0f} MiB are needed and {free / 2**20:,.0f} MiB are free. Free some, or write to "
            "another disk",
            str(job.target.parent),
        )
