"""The frames of a video one after the other, with time stamps that rise; and the packets of its other streams."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from .planes import repacked
from .source import Container, Packet, Picture, Stream, VideoInfo, import_av, opened, picture_stream


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    number: from 0, in order of presentation, within the part that is meant.
    pts: when it is shown, in ticks of the source's time base; larger than that of the frame before.
    picture: as it was decoded; never written to.
    """

    number: int
    pts: int
    picture: Picture


@dataclass
class Repairs:
    """What was mended while reading.

    repeated: time stamps of frames that could not be decoded; the frame before stands in their place.
    restamped: how many frames had no time stamp, or one that didn't rise.
    cut_short: whether the file ended in the middle.
    """

    repeated: list[int] = field(default_factory=list[int])
    restamped: int = 0
    cut_short: bool = False


class Reader:
    """Decodes a video from its beginning, or from a frame of known time on."""

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.repairs = Repairs()

    def frames(self, first: int = 0, first_pts: int | None = None) -> Iterator[Frame]:
        """The frames from number `first` on, which has the time `first_pts`.

        Raises ValueError where the size of the frames changes, naming the time.
        """
        if first_pts is not None:
            found = self._frames_after_seek(first, first_pts)
            try:
                start = next(found)
            except (StopIteration, ValueError, OSError):  # a file that can't be sought in is read from its beginning
                start = None
            if start is not None and start.pts == first_pts:
                yield start
                yield from found
                return
        self.repairs = Repairs()
        with opened(self.info.path) as container:
            for frame in self._numbered(container, 0):
                if frame.number >= first:
                    yield frame

    def _frames_after_seek(self, first: int, first_pts: int) -> Iterator[Frame]:
        with opened(self.info.path) as container:
            stream = picture_stream(container, self.info.path)
            container.seek(first_pts, stream=stream)
            number = first
            for pts, picture in self._stamped(self._decoded(container, stream), self._last_tick):
                if pts >= first_pts:
                    yield Frame(number, pts, picture)
                    number += 1

    def _numbered(self, container: Container, number: int) -> Iterator[Frame]:
        stream = picture_stream(container, self.info.path)
        start = self._first_tick
        if start > 0:
            container.seek(start, stream=stream)
        for pts, picture in self._stamped(self._decoded(container, stream), self._last_tick):
            if pts >= start or self.info.start == 0:
                yield Frame(number, pts, picture)
                number += 1

    @property
    def _first_tick(self) -> int:
        return round(self.info.start / self.info.time_base)

    @property
    def _last_tick(self) -> int | None:
        return None if self.info.end is None else round(self.info.end / self.info.time_base)

    def _stamped(
        self, decoded: Iterator[tuple[int | None, Picture]], last_tick: int | None
    ) -> Iterator[tuple[int, Picture]]:
        """Time stamps that rise, up to the end of the part."""
        last: int | None = None
        for pts, picture in decoded:
            if pts is None or (last is not None and pts <= last):
                pts = 0 if last is None else last + self.info.ticks
                self.repairs.restamped += 1
            if last_tick is not None and pts >= last_tick:
                return
            self._check_size(picture, pts)
            last = pts
            yield pts, repacked(picture)

    def _check_size(self, picture: Picture, pts: int) -> None:
        info = self.info
        if (picture.width, picture.height) != (info.width, info.height):
            raise ValueError(
                f"{info.path}: its frames change from {info.width}x{info.height} to {picture.width}x{picture.height} "
                f"pixels at {info.time_of(pts)}. Cut the video there, or bring it to one size first"
            )

    def _decoded(self, container: Container, stream: Stream) -> Iterator[tuple[int | None, Picture]]:
        """Frames in order of presentation; where some could not be decoded, the one before again."""
        av = import_av()
        stream.thread_type = "AUTO"
        waiting: list[int] = []  # time stamps of packets whose frames have not come yet
        broken = 0
        shown: Picture | None = None
        for packet in _packets(container, stream, self.repairs):
            if packet.pts is not None and not packet.is_discard and packet.size:
                insort(waiting, packet.pts)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                broken += 1
                continue
            for frame in frames:
                while frame.pts is not None and waiting and waiting[0] <= frame.pts:
                    missed = waiting.pop(0)
                    if missed < frame.pts and broken and shown is not None:
                        broken -= 1
                        self.repairs.repeated.append(missed)
                        yield missed, shown
                if frame.is_corrupt and frame.pts is not None:
                    self.repairs.repeated.append(frame.pts)
                shown = frame
                yield frame.pts, frame
        if shown is not None:
            for missed in waiting[:broken]:
                self.repairs.repeated.append(missed)
                yield missed, shown


def _packets(container: Container, stream: Stream, repairs: Repairs) -> Iterator[Packet]:
    """The packets of a stream, at last an empty one that flushes the decoder, also where the file is cut short."""
    av = import_av()
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:
            repairs.cut_short = True
            flush = av.Packet()
            flush.stream = stream
            yield flush
            return
        yield packet
