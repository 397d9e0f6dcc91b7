"""Small synthetic videos, and models that find and change faces in them without a network.

A person is a disk of a pure colour on a background; `DiskDetector` finds disks in frames of any pixel format and size,
and `Brighter` makes what it restores brighter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from codeformer_core.faces.types import Face

MAGENTA, CYAN = (220, 40, 220), (40, 220, 220)
WIDTH, HEIGHT = 160, 120
TICKS = 12800


@dataclass(frozen=True)
class Disk:
    """A person: x, y and radius in pixels."""

    x: float
    y: float
    radius: float = 22.0
    colour: tuple[int, int, int] = MAGENTA


Scene = Callable[[int], Sequence[Disk]]


def walking(t: int) -> list[Disk]:
    return [Disk(50 + 0.8 * t, 60 + 4 * math.sin(t * 0.2))]


def draw(disks: Sequence[Disk], t: int, *, width: int = WIDTH, height: int = HEIGHT, look: int = 0) -> np.ndarray:
    """A frame, uint8 RGB. look: another one is another scene."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.empty((height, width, 3), np.uint8)
    shift = 70 if look % 2 else 0
    image[..., 0] = (columns * 120 // width + shift + t % 3).clip(0, 255)
    image[..., 1] = (rows * 100 // height + 60 + shift).clip(0, 255)
    image[..., 2] = 90 - shift // 2
    for disk in disks:
        centre = (round(disk.x * 16), round(disk.y * 16))
        cv2.circle(image, centre, round(disk.radius * 16), disk.colour, -1, cv2.LINE_AA, 4)
    return image


def clip(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, TICKS),
    rate: Fraction = Fraction(25),
    options: dict[str, str] | None = None,
    sound: bool = True,
    rotation: int = 0,
    colours: tuple[int, int, int, int] | None = None,
    chapters: Sequence[tuple[str, float, float]] = (),
) -> Path:
    """Writes a video of uint8 RGB frames.

    chapters: title, start and end in seconds.
    """
    step = round(1 / (rate * time_base))
    ticks = [index * step for index in range(len(frames))] if ticks is None else ticks
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = time_base
        if colours is not None:
            context = stream.codec_context
            context.color_range, context.colorspace, context.color_primaries, context.color_trc = colours
        if rotation:
            stream.set_display_rotation(rotation)
        if chapters:
            out.set_chapters(
                [
                    dict(
                        id=n,
                        start=round(a * 1000),
                        end=round(b * 1000),
                        time_base=Fraction(1, 1000),
                        metadata={"title": t},
                    )
                    for n, (t, a, b) in enumerate(chapters, 1)
                ]
            )
        audio = out.add_stream("aac" if path.suffix != ".webm" else "libopus", rate=48000) if sound else None
        for image, pts in zip(frames, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)
            if colours is not None:
                frame.color_range, frame.colorspace = colours[:2]
            frame.pts, frame.time_base = pts, time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if audio is not None:
            _add_tone(out, audio, float((ticks[-1] + step) * time_base))
    return path


def _add_tone(out, audio, seconds: float) -> None:
    count = round(seconds * 48000)
    wave = (0.2 * np.sin(np.arange(count) * (2 * math.pi * 440 / 48000))).astype(np.float32)
    for start in range(0, count, 960):
        part = np.ascontiguousarray(np.stack([wave[start : start + 960]] * 2))
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        out.mux(audio.encode(frame))
    out.mux(audio.encode(None))


def scene_clip(path: Path, count: int, scene: Scene = walking, cuts: Sequence[int] = (), **how) -> Path:
    """A video of a scene with cuts."""
    size = {key: how.pop(key) for key in ("width", "height") if key in how}
    frames = [draw(scene(t), t, look=sum(t >= cut for cut in cuts), **size) for t in range(count)]
    return clip(path, frames, **how)


def face_at(x: float, y: float, radius: float, score: float = 0.9) -> Face:
    """The face of a disk."""
    eye, mouth = radius * 0.4, radius * 0.32
    return Face(
        (x - radius, y - radius, x + radius, y + radius),
        (
            (x - eye, y - radius * 0.3),
            (x + eye, y - radius * 0.3),
            (x, y + radius * 0.15),
            (x - mouth, y + radius * 0.5),
            (x + mouth, y + radius * 0.5),
        ),
        score,
    )


@dataclass
class DiskDetector:
    """Finds disks by their colour. jitter: deviation in pixels of what it finds, always the same for one frame."""

    jitter: float = 0.0
    name: str = "disks"
    default_confidence: float = 0.5
    module: None = None
    seen: list[int] = field(default_factory=list)

    def bytes_for(self, images_BHWC: Tensor) -> int:
        return 0

    def detect(self, images_BHWC: Tensor, confidence: float | None = None) -> list[list[Face]]:
        self.seen.append(len(images_BHWC))
        return [self._found(image_HW3) for image_HW3 in images_BHWC]

    def _found(self, image_HW3: Tensor) -> list[Face]:
        red, green, blue = (image_HW3 * 255).unbind(-1)
        found = []
        for mask_HW in (
            (red > 150) & (green < 110) & (blue > 150),
            (red < 110) & (green > 150) & (blue > 150),
        ):
            if int(mask_HW.sum()) < 40:
                continue
            rows, columns = mask_HW.nonzero(as_tuple=True)
            x, y = float(columns.double().mean()), float(rows.double().mean())
            radius = math.sqrt(int(mask_HW.sum()) / math.pi)
            rng = np.random.default_rng(int(x * 1000) + int(y * 1000) * 7919)
            dx, dy = rng.normal(0, self.jitter, 2) if self.jitter else (0.0, 0.0)
            found.append(face_at(x + dx, y + dy, radius))
        return found


@dataclass
class Brighter:
    """A restorer that makes faces brighter."""

    by: float = 0.3
    name: str = "brighter"
    tasks: tuple[str, ...] = ("restoration",)
    uses_fidelity: bool = False
    recommended_fidelity: float = 0.5
    needs_landmarks: bool = False
    at_once: int = 4
    batches: list[int] = field(default_factory=list)

    def faces_at_once(self) -> int:
        return self.at_once

    def restore(self, faces_B3HW: Tensor, fidelity: float = 0.5, component_boxes_B44: Tensor | None = None) -> Tensor:
        self.batches.append(len(faces_B3HW))
        return (faces_B3HW + self.by).clamp(-1, 1)


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times(path: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in decoded(path)]


def samples(frame: av.VideoFrame) -> list[np.ndarray]:
    """Each plane without its padding."""
    size = 2 if frame.format.components[0].bits > 8 else 1
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width * size].copy()
        for plane in frame.planes
    ]


def same_samples(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(samples(one), samples(other), strict=True))


def packets(path: Path, kind: str = "audio") -> list[bytes]:
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def chapters_of(path: Path) -> list[tuple[str, float, float]]:
    """Title, start and end in seconds."""
    with av.open(str(path)) as container:
        return [
            (one["metadata"]["title"], *(round(float(one[name] * one["time_base"]), 3) for name in ("start", "end")))
            for one in container.chapters()
        ]


def rgb(frame: av.VideoFrame) -> Tensor:
    return torch.from_numpy(frame.to_ndarray(format="rgb24")).float() / 255
