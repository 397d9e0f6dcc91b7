"""Restoring the faces of a video file: the library's function, and how a job is carried out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...faces.detection import FaceDetector
from ...faces.landmarks import LandmarkDetector
from ...faces.parsing import FaceParser
from ...models.restorer import FaceRestorer, check_task
from ...runtime.progress import OnProgress, no_progress
from ..options import RestoreOptions
from ..restore import Models
from ..results import OnPasted
from .continuing import journal_of, settings_of
from .film import Film
from .job import MINOR, VideoJob, check_job
from .journal import Journal
from .options import VIDEO_DEFAULTS, VideoOptions
from .report import VideoReport
from .window import Choose

# Detail that is given back frame by frame would flicker with the noise that it is told from.
VIDEO_RESTORE_DEFAULTS = RestoreOptions(detail=0.0)


def restore_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    restorer: FaceRestorer,
    detector: FaceDetector,
    parser: FaceParser | None = None,
    landmark_detector: LandmarkDetector | None = None,
    options: RestoreOptions | None = None,
    video: VideoOptions = VIDEO_DEFAULTS,
    choose: Choose | None = None,
    start: float = 0.0,
    end: float | None = None,
    encoder: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    keep_parts: bool = True,
    compare: bool = False,
    strict: bool = False,
    leave_out: Sequence[str] = MINOR,
    on_progress: OnProgress | None = None,
    on_pasted: OnPasted | None = None,
) -> VideoReport:
    """Restore the faces of a video file; everything else stays as it is.

    source, target: the files; the target's ending says the container.
    restorer, detector, parser, landmark_detector: see `Models`.
    options: how faces are restored; `VIDEO_RESTORE_DEFAULTS` if None.
    video: how a video's faces are followed and written.
    choose: which persons are worked on, see `people`; everybody if None.
    start, end, encoder, overwrite, resume, keep_parts, compare, strict, leave_out: see `VideoJob`.
    on_progress: called with (stage, done, expected) frames; may raise to cancel.
    on_pasted: called now and then with a frame with restored faces, small enough for a view.
    Raises ValueError and OSError naming the file and the fix, before any work where that can be known.
    """
    job = VideoJob(
        source=Path(source),
        target=Path(target),
        start=start,
        end=end,
        encoder=encoder,
        overwrite=overwrite,
        resume=resume,
        keep_parts=keep_parts,
        compare=compare,
        strict=strict,
        leave_out=tuple(leave_out),
    )
    models = Models(restorer, detector, parser, landmark_detector)
    return run_job(job, models, options or VIDEO_RESTORE_DEFAULTS, video, choose, on_progress or no_progress, on_pasted)


def run_job(
    job: VideoJob,
    models: Models,
    options: RestoreOptions,
    video: VideoOptions,
    choose: Choose | None,
    report: OnProgress,
    on_pasted: OnPasted | None = None,
) -> VideoReport:
    """See `restore_video`."""
    info, encoding = check_job(job, options, video)
    check_task(models.restorer, "restoration")
    settings = settings_of(job, models, options, video, encoding)
    journal = journal_of(job, settings)
    # Asked once: batches of other sizes would give other roundings.
    batch_size = options.batch_size or int(journal.settings.get("batch_size") or 0) or models.restorer.faces_at_once()
    if not journal.settings:
        journal = Journal.begin(journal.folder, {**settings, "batch_size": batch_size})
    options = replace(options, batch_size=batch_size)
    film = Film(job, info, encoding, models, options, video, choose, journal, report, on_pasted)
    try:
        film.run()
        return film.finish()
    except BaseException:
        if not job.keep_parts:
            journal.remove()
        raise
