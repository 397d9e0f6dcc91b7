"""Encoding frames into parts, and putting parts and the source's other streams together into one file.

Time stamps are those of the source: a part numbers its frames, and the numbers become times when all is put together,
so that no container's rounding touches them.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from .encoding import Encoding, add_copy
from .read import Frame
from .source import Packet, Picture, VideoInfo, import_av, opened, picture_stream

# Milliseconds, the unit of Matroska, from one frame of a part to the next.
_STEP = 40
# Frames that an encoder may reorder.
_MOST_REORDERED = 32


class PartWriter:
    """Encodes frames into one part: a Matroska file without sound."""

    def __init__(self, path: Path, info: VideoInfo, encoding: Encoding, width: int, height: int) -> None:
        av = import_av()
        self._container = av.open(str(path), "w", format="matroska")
        stream = self._container.add_stream(encoding.encoder, rate=info.rate, options=dict(encoding.options))
        stream.width, stream.height, stream.pix_fmt = width, height, encoding.pixel_format
        context = stream.codec_context
        context.time_base = info.time_base
        if info.sample_aspect is not None:
            context.sample_aspect_ratio = info.sample_aspect
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = info.colours
        self._stream = stream
        self._numbers: dict[int, int] = {}
        self._muxed = 0

    def add(self, pts: int, picture: Picture) -> None:
        """Encode a frame that is shown at `pts`."""
        self._numbers[pts] = len(self._numbers)
        # The decoder's choice of I, P and B is not the encoder's.
        picture.pict_type = 0
        picture.pts = pts
        self._mux(self._stream.encode(picture))

    def close(self) -> None:
        """Write what the encoder still holds; the file is whole then."""
        self._mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        self._container.close()

    def _mux(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None
            packet.time_base = Fraction(1, 1000)
            packet.pts = self._numbers[packet.pts] * _STEP
            packet.dts = (self._muxed - _MOST_REORDERED) * _STEP
            packet.duration = _STEP
            self._muxed += 1
            self._container.mux(packet)


@dataclass(frozen=True)
class Part:
    """A whole part.

    path: its file.
    pts: of its frames, in ticks of the source's time base.
    """

    path: Path
    pts: tuple[int, ...]


def put_together(path: Path, parts: Sequence[Part], info: VideoInfo, encoding: Encoding, last_duration: int) -> None:
    """Write the result: the parts one behind the other, and the other streams of the source as they are.

    last_duration: of the last frame, in ticks.
    Raises OSError, ValueError from the container.
    """
    av = import_av()
    with (
        av.open(str(parts[0].path)) as first,
        opened(info.path) as source,
        av.open(str(path), "w", format=encoding.container, container_options=_container_options(encoding, info)) as out,
    ):
        out.metadata.update(source.metadata)
        picture = add_copy(out, first.streams.video[0])
        if encoding.codec == "hevc" and encoding.container in ("mp4", "mov"):
            picture.codec_context.codec_tag = "hvc1"
        # PyAV before 16 refuses it; MP4 and MOV have an option for it.
        with suppress(RuntimeError):
            picture.time_base = info.time_base
        _copy_rotation(picture, info)
        _copy_description(picture_stream(source, info.path), picture)
        copies: dict[int, Any] = {}
        for index in encoding.copied:
            copies[index] = add_copy(out, source.streams[index])
            _copy_description(source.streams[index], copies[index])
        _copy_chapters(source, out, info)
        pictures = _timed(_picture_packets(parts, info, picture, last_duration))
        sounds = _timed(_other_packets(source, copies, info))
        for _, packet in heapq.merge(pictures, sounds, key=lambda timed: timed[0]):
            out.mux(packet)


def copy_streams(path: Path, info: VideoInfo, encoding: Encoding) -> bool:
    """Write the source's packets as they are. False where the container doesn't take them."""
    av = import_av()
    try:
        with opened(info.path) as source, av.open(str(path), "w", format=encoding.container) as out:
            out.metadata.update(source.metadata)
            stream = picture_stream(source, info.path)
            copies: dict[int, Any] = {}
            for index in sorted((stream.index, *encoding.copied)):
                copies[index] = add_copy(out, source.streams[index])
                _copy_description(source.streams[index], copies[index])
            _copy_rotation(copies[stream.index], info)
            _copy_chapters(source, out, info)
            for packet in source.demux([source.streams[index] for index in copies]):
                if packet.dts is not None:
                    packet.stream = copies[packet.stream_index]
                    out.mux(packet)
    except (ValueError, av.error.FFmpegError):
        path.unlink(missing_ok=True)
        return False
    return True


def _container_options(encoding: Encoding, info: VideoInfo) -> dict[str, str]:
    if encoding.container not in ("mp4", "mov"):
        return {}
    # The index in front, so that the file plays while it is still being loaded; and times in the source's own ticks.
    return {"movflags": "+faststart", "video_track_timescale": str(info.time_base.denominator)}


def _copy_rotation(stream: Any, info: VideoInfo) -> None:
    if info.rotation:
        stream.set_display_rotation(info.rotation)


def can_tag_rotation() -> bool:
    """Whether this PyAV can say in a file how it is turned."""
    return hasattr(import_av().video.stream.VideoStream, "set_display_rotation")


def _copy_description(old: Any, new: Any) -> None:
    new.metadata.update({key: value for key, value in old.metadata.items() if key not in ("ENCODER", "encoder")})
    if hasattr(new, "disposition"):
        disposition = old.disposition
        # Before PyAV 16 a number is wanted where a flag is given.
        new.disposition = getattr(disposition, "value", disposition)


def _copy_chapters(source: Any, out: Any, info: VideoInfo) -> None:
    """The chapters of the part that is meant, where this PyAV can write them."""
    if not hasattr(out, "set_chapters"):
        return
    chapters: list[Any] = []
    for chapter in source.chapters():
        start, end = (float(chapter[name] * chapter["time_base"]) for name in ("start", "end"))
        if end <= info.start or (info.end is not None and start >= info.end):
            continue
        last = end if info.end is None else min(end, info.end)
        times = (max(start, info.start) - info.start, last - info.start)
        ticks = (round(time / float(chapter["time_base"])) for time in times)
        chapters.append({**chapter, **dict(zip(("start", "end"), ticks, strict=True))})
    if chapters:
        out.set_chapters(chapters)


def _picture_packets(parts: Sequence[Part], info: VideoInfo, stream: Any, last_duration: int) -> Iterator[Packet]:
    av = import_av()
    shown = [pts for part in parts for pts in part.pts]
    durations = {before: after - before for before, after in itertools.pairwise(shown)}
    durations[shown[-1]] = last_duration
    offset = round(info.start / info.time_base)
    last_dts: int | None = None
    for part in parts:
        with av.open(str(part.path)) as container:
            packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
            order = sorted(range(len(packets)), key=lambda index: packets[index].pts)
            if len(order) != len(part.pts):
                raise ValueError(
                    f"{part.path}: holds {len(order)} frames of {len(part.pts)}. Delete it and start again"
                )
            times = [0] * len(packets)
            for pts, index in zip(part.pts, order, strict=True):
                times[index] = pts
            # A frame is decoded when those before it in time are shown, less the frames that are reordered.
            delay = max(number - part.pts.index(pts) for number, pts in enumerate(times))
            for number, (packet, pts) in enumerate(zip(packets, times, strict=True)):
                dts = part.pts[number - delay] if number >= delay else part.pts[0] - (delay - number) * info.ticks
                dts = dts if last_dts is None else max(dts, last_dts + 1)
                last_dts = dts
                packet.stream = stream
                packet.time_base = info.time_base
                packet.pts, packet.dts, packet.duration = pts - offset, dts - offset, durations[pts]
                yield packet


def _other_packets(source: Any, copies: dict[int, Any], info: VideoInfo) -> Iterator[Packet]:
    if not copies:
        return
    av = import_av()
    packets = source.demux([source.streams[index] for index in copies])
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):  # the end; of a file that is cut short, too
            return
        if packet.dts is None:
            continue
        time = float((packet.dts if packet.pts is None else packet.pts) * packet.time_base)
        if info.end is not None and time >= info.end:
            continue
        if info.start:
            # Without a start everything is copied: sound may begin before the first frame.
            if time < info.start:
                continue
            shift = round(info.start / packet.time_base)
            packet.dts -= shift
            if packet.pts is not None:
                packet.pts -= shift
        packet.stream = copies[packet.stream_index]
        yield packet


def _timed(packets: Iterator[Packet]) -> Iterator[tuple[float, Packet]]:
    for packet in packets:
        assert packet.dts is not None and packet.time_base is not None
        yield float(packet.dts * packet.time_base), packet


def last_duration(frame: Frame, info: VideoInfo) -> int:
    """Of the last frame of a video, in ticks."""
    return int(getattr(frame.picture, "duration", 0) or info.ticks)
