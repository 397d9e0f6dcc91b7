"""How a result is encoded, and what its container takes; refused before any work where it can't be."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from .source import Container, Stream, VideoInfo, import_av, is_cover, opened

# Codec of the source -> what encodes the same family.
_FAMILIES = {
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "libdav1d": "libsvtav1",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "libvpx-vp9": "libvpx-vp9",
    "prores": "prores_ks",
    "ffv1": "ffv1",
    "mjpeg": "mjpeg",
    "qtrle": "qtrle",
}
# What `auto` tries after the source's own family.
_FALLBACKS = ("libx264", "libvpx-vp9", "ffv1")
# The names of codecs, as containers call them.
_CODECS = {
    "libx264": "h264",
    "libx265": "hevc",
    "libsvtav1": "av1",
    "libvpx": "vp8",
    "libvpx-vp9": "vp9",
    "prores_ks": "prores",
}
# Constant rate factors of about equal quality.
_QUALITY = {"libx264": 16, "libx265": 18, "libsvtav1": 20, "libvpx-vp9": 20, "libvpx": 8}
# Frames that x264 looks ahead: its own 40 take 200 MB more at 1080p, and files are as good for their size.
_X264_LOOK_AHEAD = "10"
_LOSSLESS = frozenset(("ffv1", "qtrle", "prores_ks"))
# Containers by their suffix, where FFmpeg's own guess is not meant.
SUFFIXES = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".nut": "nut",
}
# Streams that are lost where a container doesn't take them, with a remark; sound and subtitles are refused.
_MINOR = ("data", "attachment")


@dataclass(frozen=True)
class Encoding:
    """How the result is written.

    encoder: as FFmpeg calls it.
    codec: the name of what it makes.
    pixel_format: of the frames.
    options: of the encoder.
    container: as FFmpeg calls it.
    copied: indices of the source's streams that are copied as packets.
    left_out: streams that the container doesn't take, in words.
    """

    encoder: str
    codec: str
    pixel_format: str
    options: tuple[tuple[str, str], ...]
    container: str
    copied: tuple[int, ...]
    left_out: tuple[str, ...]


def choose_encoding(
    info: VideoInfo,
    target: Path,
    encoder: str = "auto",
    quality: float | None = None,
    leave_out: Collection[str] = _MINOR,
) -> Encoding:
    """The encoding of a source into a file of this name.

    encoder: as FFmpeg calls it, or "auto": the source's own family where that can be encoded.
    quality: see `VideoOptions`.
    leave_out: types of streams that are left out where the container doesn't take them.
    Raises ValueError naming what the container or the encoder doesn't take, and the fix.
    """
    container = SUFFIXES.get(target.suffix.lower())
    if container is None:
        known = " ".join(SUFFIXES)
        raise ValueError(
            f"{target}: videos can't be written as {target.suffix or 'a file without ending'}; use {known}"
        )
    chosen = _encoder(info, container, encoder, target)
    _refuse_odd(info, chosen, target)
    copied, left_out = _streams(info, container, leave_out, target)
    return Encoding(
        chosen,
        _CODECS.get(chosen, chosen),
        info.pixel_format,
        tuple(_options(chosen, info, quality).items()),
        container,
        copied,
        left_out,
    )


def _encoder(info: VideoInfo, container: str, wanted: str, target: Path) -> str:
    av = import_av()
    with av.open(io.BytesIO(), "w", format=container) as trial:
        taken = set(trial.supported_codecs)

    def problem(name: str) -> str | None:
        try:
            formats = [each.name for each in av.codec.Codec(name, "w").video_formats or ()]
        except (ValueError, LookupError, av.error.FFmpegError):
            return f"there is no encoder {name} here"
        if info.pixel_format not in formats:
            return f"{name} can't write {info.pixel_format}"
        if _CODECS.get(name, name) not in taken:
            return f"{target.suffix} can't hold {_CODECS.get(name, name)}"
        return None

    if wanted != "auto":
        if found := problem(wanted):
            raise ValueError(f"encoder {wanted}: {found}. Use another encoder, or auto")
        return wanted
    family = _FAMILIES.get(info.codec)
    problems: list[str] = []
    for name in dict.fromkeys((*([family] if family else ()), *_FALLBACKS)):
        found = problem(name)
        if found is None and (name != "ffv1" or name == family):
            return name
        problems.append(found or f"{name} would make it many times larger")
    raise ValueError(
        f"{target}: no encoder for {info.path}: {'; '.join(problems)}. Write an .mkv with the encoder ffv1"
    )


def _refuse_odd(info: VideoInfo, encoder: str, target: Path) -> None:
    if encoder not in ("libx264", "libx265", "libsvtav1") or "444" in info.pixel_format:
        return
    if info.width % 2 or (info.height % 2 and "422" not in info.pixel_format):
        raise ValueError(
            f"{target}: {info.width}x{info.height} is odd, and {encoder} can't store that in {info.pixel_format}. "
            "Use the encoder libvpx-vp9 or ffv1 with an .mkv, or crop the video first"
        )


def _options(encoder: str, info: VideoInfo, quality: float | None) -> dict[str, str]:
    """Of the encoder. `quality` alone counts where the user gives it."""
    crf = f"{_QUALITY.get(encoder, 18) if quality is None else quality:g}"
    if encoder in _LOSSLESS:
        return {"level": "3", "slicecrc": "1"} if encoder == "ffv1" else {}
    if encoder == "libx264":
        return {"crf": crf, "rc-lookahead": _X264_LOOK_AHEAD}
    if encoder == "libx265":
        return {"crf": crf, "x265-params": "log-level=error"}
    if encoder in ("libvpx", "libvpx-vp9"):
        return {"crf": crf, "b:v": "0", "cpu-used": "3", "row-mt": "1"}
    if encoder == "mjpeg":
        return {"q:v": "2" if quality is None else f"{max(1, quality / 2):g}"}
    if encoder.endswith("_nvenc"):
        return {"cq": crf, "rc": "vbr"}
    return {"crf": crf}


def _streams(
    info: VideoInfo, container: str, leave_out: Collection[str], target: Path
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The source's other streams that the container takes; the others in words."""
    av = import_av()
    copied: list[int] = []
    left_out: list[str] = []
    with opened(info.path) as source:
        for stream in others(source):
            with av.open(io.BytesIO(), "w", format=container) as trial:
                codec = stream.codec_context.name if getattr(stream, "codec_context", None) else ""
                # The name of a decoder may not be that of its codec: mp3float.
                name = codec.removesuffix("float") if codec.endswith("float") else codec
                fits = name in trial.supported_codecs and _can_be_added(trial, stream)
            if fits:
                copied.append(stream.index)
            elif stream.type in leave_out or stream.type in _MINOR:
                left_out.append(f"{stream.type} {codec}".strip())
            else:
                raise ValueError(
                    f"{target}: {target.suffix} can't hold the {stream.type} {codec or 'of an unknown kind'} of "
                    f"{info.path.name}. Write an .mkv instead"
                )
    return tuple(copied), tuple(left_out)


def _can_be_added(container: Container, stream: Stream) -> bool:
    av = import_av()
    try:
        add_copy(container, stream)
    except (ValueError, LookupError, NotImplementedError, av.error.FFmpegError):
        return False
    return True


def add_copy(container: Container, stream: Stream) -> Stream:
    """A stream of the result for the packets of a source's stream."""
    return container.add_stream_from_template(stream, opaque=True)


def others(source: Container) -> Sequence[Stream]:
    """All streams but the moving pictures that are worked on: sound, subtitles, covers, data."""
    first: Stream | None = next((stream for stream in source.streams.video if not is_cover(stream)), None)
    return [stream for stream in source.streams if stream is not first]
