"""One run over a video, all its stages at once: read, look, track, restore, average, paste, encode.

One pass in bounded memory: a frame waits until its look-ahead has come, no longer. Reading, averaging with pasting, and
encoding run beside detector and network, in threads of their own.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...models.restorer import FaceRestorer, fidelity_of
from ...runtime.atomic import replaced
from ...runtime.progress import VIDEO, OnProgress
from ..options import RestoreOptions
from ..restore import Models
from ..results import OnPasted
from .average import REACH, Averager
from .encoding import Encoding
from .job import VideoJob
from .journal import PART_FRAMES, PART_FRAMES_AT_CUT, Journal
from .look import BLOCK, looks, recorded
from .options import VideoOptions
from .overlap import Behind, ahead
from .pasting import Opacities, pasted_frame
from .planes import beside, turned
from .previews import Preview, Previews
from .read import Reader
from .report import VideoReport
from .restored import RestoredFrame, restored_frames
from .source import Picture, VideoInfo
from .window import Choose, Window
from .write import Part, PartWriter, can_tag_rotation, copy_streams, put_together

# Frames that wait between two stages; the encoder keeps its own.
_QUEUE = BLOCK // 2
_ENCODER_QUEUE = 2


@dataclass(frozen=True)
class _EndOfPart:
    """Tells the encoder that a part is whole.

    records: of the frames that were seen since the last part.
    state: what the next part needs to know.
    """

    records: list[dict[str, Any]]
    state: dict[str, Any]


# A frame's time and what is encoded of it, or the end of a part.
_Encoded = tuple[int, Picture] | _EndOfPart


class Film:
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
        on_pasted: OnPasted | None = None,
    ) -> None:
        self.job, self.info, self.encoding, self.models = job, info, encoding, models
        self.options, self.video, self.journal, self.report = options, video, journal, report
        self.on_pasted = on_pasted
        self.reader = Reader(info)
        self.window = Window(video, choose) if choose else Window(video)
        self.resumed = journal.done
        self.counts = Counter[str](journal.state.get("counts", {}))
        self.opacities = Opacities.of_record(journal.state.get("opacities", {}))
        self.records: list[dict[str, Any]] = []
        self.noted = len(journal.looks)
        self.previews = Previews()
        # The last one that `on_pasted` has not got yet.
        self.fresh: Preview | None = None
        self.least_shown: dict[int, float] = {
            int(track): share for track, share in journal.state.get("least_shown", {}).items()
        }
        self.last_duration = int(journal.state.get("last_duration", info.ticks))

    def run(self) -> None:
        """Everything but putting the parts together."""
        encoder: Behind[_Encoded] = Behind(self._encode, _ENCODER_QUEUE)
        finisher: Behind[RestoredFrame] = Behind(lambda frames: self._finish_frames(frames, encoder), _QUEUE)
        restored = self._restored()
        try:
            for frame in restored:
                self.report(VIDEO, frame.tracked.number, max(self.info.expected, frame.tracked.number + 1))
                self._show()
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

    def _show(self) -> None:
        """Hand over the newest preview, from the thread that the run was started in: hosts know it by that."""
        fresh, self.fresh = self.fresh, None
        if fresh is not None and self.on_pasted:
            self.on_pasted(torch.from_numpy(fresh.after_HW3).float() / 255)

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
            if pasted.pasted and self.previews.wants(tracked.number):
                self.fresh = Preview.of(tracked.number, tracked.frame.picture, pasted, self.info.rotation)
                self.previews.add(self.fresh)
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
            previews=tuple(self.previews.kept),
            least_shown=self.least_shown,
        )


def _device_of(restorer: FaceRestorer) -> torch.device:
    """Where crops are cut: where the restorer computes, so that only the faces' rectangles are moved there."""
    host = getattr(restorer, "host", None)
    device = getattr(restorer, "device", None) if host is None else host.compute_device()
    return device if isinstance(device, torch.device) else torch.device("cpu")
