"""Restoring the faces of a video: read, look, track, restore, average, paste, write.

One pass in bounded memory: a frame waits until its look-ahead has come, no longer. Reading, averaging with pasting, and
encoding run beside detector and network, in threads of their own.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...faces.detection import FaceDetector
from ...faces.landmarks import LandmarkDetector
from ...faces.parsing import FaceParser
from ...models.restorer import FaceRestorer, check_task, fidelity_of
from ...runtime.atomic import replaced
from ...runtime.errors import ExistingFileError, UnfinishedWorkError
from ...runtime.progress import VIDEO, OnProgress, no_progress
from ..options import RestoreOptions
from ..restore import Models
from .average import REACH, Averager
from .encoding import Encoding, choose_encoding
from .journal import PART_FRAMES, PART_FRAMES_AT_CUT, Journal, parts_folder, remove_parts, source_identity
from .look import BLOCK, looks, recorded
from .options import VIDEO_DEFAULTS, VideoOptions
from .overlap import Behind, ahead
from .pasting import Opacities, pasted_frame
from .planes import beside, turned
from .read import Reader
from .report import Preview, VideoReport
from .restored import RestoredFrame, restored_frames
from .source import Picture, VideoInfo, probe
from .window import Choose, Window
from .write import Part, PartWriter, can_tag_rotation, copy_streams, put_together

# Frames that wait between two stages.
_QUEUE = 8
# Streams that may be left out without a word.
_MINOR = ("data", "attachment")
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
    leave_out: tuple[str, ...] = _MINOR


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
    leave_out: Sequence[str] = _MINOR,
    on_progress: OnProgress | None = None,
) -> VideoReport:
    """Restore the faces of a video file; everything else stays as it is.

    source, target: the files; the target's ending says the container.
    restorer, detector, parser, landmark_detector: see `Models`.
    options: how faces are restored; `VIDEO_RESTORE_DEFAULTS` if None.
    video: how a video's faces are followed and written.
    choose: which persons are worked on, see `people`; everybody if None.
    start, end, encoder, overwrite, resume, keep_parts, compare, strict, leave_out: see `VideoJob`.
    on_progress: called with (stage, done, expected) frames; may raise to cancel.
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
    return run_job(job, models, options or VIDEO_RESTORE_DEFAULTS, video, choose, on_progress or no_progress)


# Detail that is given back frame by frame would flicker with the noise that it is told from.
VIDEO_RESTORE_DEFAULTS = RestoreOptions(detail=0.0)


def run_job(
    job: VideoJob,
    models: Models,
    options: RestoreOptions,
    video: VideoOptions,
    choose: Choose | None,
    report: OnProgress,
) -> VideoReport:
    """See `restore_video`."""
    info, encoding = check_job(job, options, video)
    check_task(models.restorer, "restoration")
    settings = _settings(job, models, options, video, encoding)
    journal = _journal(job, settings)
    # Asked once: batches of other sizes would give other roundings.
    batch_size = options.batch_size or int(journal.settings.get("batch_size") or 0) or models.restorer.faces_at_once()
    if not journal.settings:
        journal = Journal.begin(journal.folder, {**settings, "batch_size": batch_size})
    film = _Film(job, info, encoding, models, replace(options, batch_size=batch_size), video, choose, journal, report)
    try:
        film.run()
        return film.finish()
    except BaseException:
        if not job.keep_parts:
            journal.remove()
        raise


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


def _settings(
    job: VideoJob, models: Models, options: RestoreOptions, video: VideoOptions, encoding: Encoding
) -> dict[str, Any]:
    """What must be the same for a run that continues another one; plain values."""
    plain = {
        "source": source_identity(job.source),
        "part": [job.start, job.end],
        "compare": job.compare,
        "options": {**dataclasses.asdict(options), "batch_size": None},
        "video": dataclasses.asdict(video),
        "encoding": dataclasses.asdict(encoding),
        "restorer": [models.restorer.name, _weights_mark(models.restorer)],
        "detector": getattr(models.detector, "name", ""),
        "parser": getattr(models.parser, "name", ""),
    }
    return _as_json(plain)


def _weights_mark(restorer: FaceRestorer) -> float:
    """Tells other weights of the same name apart."""
    owner = getattr(restorer, "restorer", restorer)
    module = getattr(owner, "module", None)
    if not isinstance(module, torch.nn.Module):
        return 0.0
    return sum(float(parameter.detach().float().sum()) for parameter in module.parameters())


def _as_json(value: Any) -> Any:
    """As it is when it was written and read again."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(each) for key, each in value.items()}  # type: ignore[misc]
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]  # type: ignore[misc]
    return value


def _journal(job: VideoJob, settings: Mapping[str, Any]) -> Journal:
    """What a run before has left, if it is to be continued; else an empty one without settings."""
    folder = parts_folder(job.target)
    if not folder.exists():
        return Journal(folder)
    found = Journal.read(folder)
    if job.resume and found is not None:
        kept = {key: value for key, value in found.settings.items() if key != "batch_size"}
        different = [key for key in settings if kept.get(key) != settings[key]]
        if different:
            raise ValueError(
                f"{folder}: was begun with another {', '.join(different)}, and can't be continued with this one. "
                "Use the same as then, or allow to overwrite it to start again"
            )
        return found
    if found is not None and found.done and not job.overwrite:
        raise UnfinishedWorkError(f"{folder}: holds {found.done} finished frames of a run that was stopped")
    remove_parts(folder)
    return Journal(folder)


@dataclass(frozen=True)
class _EndOfPart:
    """Tells the encoder that a part is whole.

    records: of the frames that were seen since the last part.
    state: what the next part needs to know.
    """

    records: list[dict[str, Any]]
    state: dict[str, Any]


class _Film:
    """One run over a video."""

    def __init__(
        self,
        job: VideoJob,
        info: VideoInfo,
        encoding: Encoding,
        models: Models,
        options: RestoreOptions,
        video: VideoOptions,
        choose: Choose | None,
        journal: Journal,
        report: OnProgress,
    ) -> None:
        self.job, self.info, self.encoding, self.models = job, info, encoding, models
        self.options, self.video, self.journal, self.report = options, video, journal, report
        self.reader = Reader(info)
        self.window = Window(video, choose) if choose else Window(video)
        self.resumed = journal.done
        self.counts = Counter[str](journal.state.get("counts", {}))
        self.opacities = Opacities.of_record(journal.state.get("opacities", {}))
        self.records: list[dict[str, Any]] = []
        self.noted = len(journal.looks)
        self.preview: Preview | None = None
        self.most_pasted = 0
        self.least_shown: dict[int, float] = {
            int(track): share for track, share in journal.state.get("least_shown", {}).items()
        }
        self.last_duration = int(journal.state.get("last_duration", info.ticks))

    def run(self) -> None:
        """Everything but putting the parts together."""
        encoder: Behind[_Encoded] = Behind(self._encode, _QUEUE)
        finisher: Behind[RestoredFrame] = Behind(lambda frames: self._finish_frames(frames, encoder), _QUEUE)
        restored = self._restored()
        try:
            for frame in restored:
                self.report(VIDEO, frame.tracked.number, max(self.info.expected, frame.tracked.number + 1))
                if self.job.strict and self.reader.repairs.repeated:
                    at = self.info.time_of(self.reader.repairs.repeated[0])
                    raise ValueError(f"{self.info.path}: a frame at {at} can't be decoded. Mend the file first")
                finisher.put(frame)
            finisher.finish()
            encoder.finish()
        finally:
            restored.close()
            finisher.abandon()
            encoder.abandon()

    def _restored(self) -> Generator[RestoredFrame]:
        """The frames in order with their faces restored, from a few before the first that is not written yet."""
        known = self.journal.looks
        # Averaging wants the frames before, and these the batch that they were restored in.
        begin = max(0, self.resumed - REACH) // BLOCK * BLOCK
        shown = [pts for part in self.journal.parts for pts in part.pts]
        frames = ahead(self.reader.frames(begin, shown[begin] if begin else None), _QUEUE)
        before = (known[number] for number in range(begin))
        seen = looks(frames, self.info.rotation, self.models.detector, self.options, known)  # type: ignore[arg-type]
        tracked = self.window.frames(recorded(itertools.chain(before, seen), self.records, self.noted))
        device = _device_of(self.models.restorer)
        try:
            yield from restored_frames(tracked, self.info.rotation, self.models, self.options, device)
        finally:
            frames.close()

    def _finish_frames(self, frames: Iterator[RestoredFrame], encoder: Behind[_Encoded]) -> None:
        """Average, paste, and hand over to the encoder; in a thread of its own."""
        begun = self.resumed
        for frame in Averager().frames(frames) if self.video.smoothing == "full" else frames:
            tracked = frame.tracked
            if tracked.number < self.resumed:
                continue
            assert tracked.frame is not None
            length = tracked.number - begun
            if length >= PART_FRAMES or (tracked.is_cut and length >= PART_FRAMES_AT_CUT):
                encoder.put(self._end_of_part(tracked.number))
                begun = tracked.number
            pasted = pasted_frame(frame, self.info.rotation, self.options, self.opacities)
            if len(pasted.pasted) > self.most_pasted:
                self.most_pasted = len(pasted.pasted)
                self.preview = Preview.of(tracked.frame.picture, pasted, self.info.rotation)
            for track, share in pasted.shown.items():
                self.least_shown[track] = min(share, self.least_shown.get(track, 1.0))
            self.counts.update(frames=1, faces=len(pasted.pasted), changed=int(bool(pasted.pasted)))
            self.last_duration = int(getattr(tracked.frame.picture, "duration", 0) or self.info.ticks)
            encoder.put((tracked.frame.pts, self._as_written(tracked.frame.picture, pasted.picture)))
        encoder.put(self._end_of_part(None))

    def _as_written(self, before: Picture, after: Picture) -> Picture:
        if self.job.compare:
            after = beside(before, after, self.info.rotation)
        return turned(after, self.info.rotation) if self._turns else after

    @property
    def _turns(self) -> bool:
        """Whether frames are turned, because the file can't say that they are."""
        return self.info.rotation != 0 and not can_tag_rotation()

    def _end_of_part(self, next_number: int | None) -> _EndOfPart:
        """next_number: of the frame that the next part begins with; None at the end."""
        # Whole blocks, so that a run that continues detects whole blocks, too.
        seen = len(self.records) + self.noted if next_number is None else -(-next_number // BLOCK) * BLOCK
        records = self.records[: seen - self.noted]
        del self.records[: len(records)]
        self.noted += len(records)
        state = {
            "counts": dict(self.counts),
            "opacities": self.opacities.as_record(),
            "least_shown": {str(track): share for track, share in self.least_shown.items() if share < 1},
            "last_duration": self.last_duration,
        }
        return _EndOfPart(records, state)

    def _encode(self, items: Iterator[_Encoded]) -> None:
        """Write parts; in a thread of its own."""
        writer: PartWriter | None = None
        path, shown = self.journal.folder, list[int]()
        try:
            for item in items:
                if isinstance(item, _EndOfPart):
                    if writer is not None:
                        writer.close()
                        writer = None
                        self.journal.add(Part(path, tuple(shown)), item.records, item.state)
                        shown = []
                    continue
                pts, picture = item
                if writer is None:
                    path = self.journal.next_path()
                    writer = PartWriter(path, self.info, self.encoding, picture.width, picture.height)
                writer.add(pts, picture)
                shown.append(pts)
        except BaseException:
            if writer is not None:
                writer.abandon()
                path.unlink(missing_ok=True)
            raise

    def finish(self) -> VideoReport:
        """Put the parts together. What is left of the run is removed."""
        if not self.journal.parts:
            self.journal.remove()
            raise ValueError(f"{self.info.path}: holds no frame in the part that is meant. Give another start or end")
        info = replace(self.info, rotation=0) if self._turns else self.info
        whole = self.info.start == 0 and self.info.end is None
        copied = False
        with replaced(self.job.target) as temporary:
            if not self.counts["changed"] and whole and self.job.encoder == "auto" and not self.job.compare:
                copied = copy_streams(temporary, info, self.encoding)
            if not copied:
                put_together(temporary, self.journal.parts, info, self.encoding, self.last_duration)
        self.journal.remove()
        return VideoReport(
            target=self.job.target,
            frames=self.counts["frames"],
            faces=self.counts["faces"],
            changed=self.counts["changed"],
            resumed=self.resumed,
            copied=copied,
            encoding=self.encoding,
            tracking=self.window.statistics,
            repairs=self.reader.repairs,
            info=self.info,
            restorer=self.models.restorer,
            fidelity=fidelity_of(self.models.restorer, self.options.fidelity),
            detector=str(getattr(self.models.detector, "name", "")),
            preview=self.preview,
            least_shown=self.least_shown,
        )


# A frame's time and what is encoded of it, or the end of a part.
_Encoded = tuple[int, Picture] | _EndOfPart


def _device_of(restorer: FaceRestorer) -> torch.device:
    """Where crops are cut: where the restorer computes, so that only the faces' rectangles are moved there."""
    host = getattr(restorer, "host", None)
    device = getattr(restorer, "device", None) if host is None else host.compute_device()
    return device if isinstance(device, torch.device) else torch.device("cpu")
