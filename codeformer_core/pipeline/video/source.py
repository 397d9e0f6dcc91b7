"""What a video file is, settled before any work: its picture stream, sizes, rate, colours; and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...runtime.packages import import_package
from .planes import check_format

# PyAV's own: its types differ from release to release.
Container = Any
Stream = Any
Packet = Any
Picture = Any

_USUAL_RATE = Fraction(25)
# Picture codecs whose only frame is most often a cover.
_STILL = frozenset(("png", "bmp", "webp", "tiff"))


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header and its first frame tell.

    path: the file.
    width, height: of the stored frames in pixels; those of the upright picture are `size_hw`.
    rotation: degrees counter-clockwise, in steps of 90, by which players turn the frames.
    pixel_format: as FFmpeg calls it; of the frames as they are worked on.
    codec: as FFmpeg calls it.
    rate: frames per second, a mean where it varies.
    time_base: seconds per tick of the time stamps.
    frames: how many there are, None where only decoding would tell.
    seconds: length; 0 where the file doesn't say.
    sample_aspect: width of a pixel by its height; None where the file doesn't say.
    colours: color_range, colorspace, color_primaries, color_trc, as FFmpeg numbers them.
    start, end: the part that is meant, seconds; end None for the end of the file.
    """

    path: Path
    width: int
    height: int
    rotation: int
    pixel_format: str
    codec: str
    rate: Fraction
    time_base: Fraction
    frames: int | None
    seconds: float
    sample_aspect: Fraction | None
    colours: tuple[int, int, int, int]
    start: float = 0.0
    end: float | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the upright picture."""
        return (self.width, self.height) if self.rotation % 180 else (self.height, self.width)

    @property
    def ticks(self) -> int:
        """The time from one frame to the next at the nominal rate, in ticks."""
        return max(1, round(1 / (self.rate * self.time_base)))

    @property
    def expected(self) -> int:
        """How many frames there may be in the part that is meant; an estimate, at least 1."""
        whole = self.frames or round(self.seconds * self.rate)
        end = self.seconds if self.end is None else min(self.end, self.seconds or self.end)
        if self.start or self.end is not None:
            return max(1, min(whole or 1 << 62, math.ceil(max(0.0, end - self.start) * self.rate)))
        return max(1, whole)

    def time_of(self, pts: int) -> str:
        """A time stamp for people: 1:02.480"""
        seconds = float(pts * self.time_base)
        minutes, seconds = divmod(max(0.0, seconds), 60)
        return f"{int(minutes)}:{seconds:06.3f}"


def import_av() -> Any:
    """PyAV. Raises ImportError with the command that installs it."""
    return import_package("av", "working with videos")


def probe(path: Path, start: float = 0.0, end: float | None = None) -> VideoInfo:
    """What the file is.

    start, end: the part that is meant, seconds.
    Raises ValueError naming the file, what was found and the fix, for what can't be worked on; OSError.
    """
    if not (math.isfinite(start) and start >= 0) or not (end is None or end > start):
        raise ValueError(f"the part from {start:g} to {end} seconds is none; give a start of 0 or more, before the end")
    with opened(path) as container:
        stream = picture_stream(container, path)
        frame = _first_frame(container, stream, path)
        _refuse_fields(stream, frame, path)
        rate = stream.average_rate or stream.guessed_rate or _USUAL_RATE
        time_base = frame.time_base or stream.time_base or 1 / Fraction(rate)
        length = container.duration / 1_000_000 if container.duration else 0.0
        if stream.duration and stream.time_base:
            length = float(stream.duration * stream.time_base)
        if length and start >= length:
            raise ValueError(f"{path}: the part begins at {start:g} s, and the video ends at {length:.2f} s")
        context = stream.codec_context
        aspect = stream.sample_aspect_ratio
        return VideoInfo(
            path=path,
            width=frame.width,
            height=frame.height,
            rotation=_rotation(frame),
            pixel_format=check_format(frame.format.name, path),
            codec=context.name,
            rate=Fraction(rate),
            time_base=Fraction(time_base),
            frames=stream.frames or None,
            seconds=length,
            sample_aspect=aspect if aspect else None,
            colours=(
                int(frame.color_range),
                int(frame.colorspace),
                int(context.color_primaries),
                int(context.color_trc),
            ),
            start=start,
            end=end,
        )


def opened(path: Path) -> Container:
    """The file, open for reading. Raises OSError, and ValueError naming it if it is not a video."""
    av = import_av()
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name one video file")
    if not path.exists():
        raise FileNotFoundError(2, "there is no such file", str(path))
    try:
        return av.open(str(path))
    except av.error.InvalidDataError as error:
        raise ValueError(f"{path}: no video that FFmpeg can read ({error.strerror}). Save it as MP4 first") from error


def picture_stream(container: Container, path: Path) -> Stream:
    """The first stream of moving pictures. Raises ValueError where there is none."""
    moving = [stream for stream in container.streams.video if not is_cover(stream)]
    if moving:
        return moving[0]
    others = ", ".join(stream.type for stream in container.streams) or "nothing"
    cover = " and a cover picture" if container.streams.video else ""
    raise ValueError(f"{path}: holds no moving pictures, only {others}{cover}. Give a video")


def is_cover(stream: Stream) -> bool:
    """Whether a stream is a picture beside sound, as music files have it."""
    disposition = getattr(stream, "disposition", 0)
    disposition = int(getattr(disposition, "value", disposition))
    return bool(disposition & 0x400) or (stream.codec_context.name in _STILL and stream.frames <= 1)


def _first_frame(container: Container, stream: Stream, path: Path) -> Picture:
    av = import_av()
    if str(stream.codec_context.codec_tag) in ("encv", "drmi"):
        raise ValueError(f"{path}: is encrypted, and its pictures can't be read. Use a copy without protection")
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # the reader says how many are broken
                continue
            for frame in frames:
                return frame
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: its pictures can't be decoded ({error.strerror}). Convert it first") from error
    raise ValueError(f"{path}: holds no frame that can be decoded. Give a video that plays")


def _refuse_fields(stream: Stream, frame: Picture, path: Path) -> None:
    if frame.interlaced_frame:
        raise ValueError(
            f"{path}: is interlaced, two half pictures in each frame. Deinterlace it first, with "
            "ffmpeg -i IN -vf bwdif OUT for example"
        )


def _rotation(frame: Picture) -> int:
    """Counter-clockwise, 0, 90, 180 or 270."""
    return round(frame.rotation / 90) * 90 % 360
