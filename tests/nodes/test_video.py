"""Restore Video Faces, Track Faces and Smooth Face Crops in a real ComfyUI."""

from __future__ import annotations

import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from .prompts import node, report, tells
from .server import Prompt, Server

SIDE, COUNT = 256, 24
# An uneven rate, in ticks of 1/12800 s.
TIMES = [index * 512 + 160 * (index % 3) for index in range(COUNT)]

# Bytes, of a process that holds a gigabyte.
MAY_GROW = 40 << 20


def put_video(server: Server, name: str = "walk.mp4", count: int = COUNT) -> Path:
    """A face that moves through the picture, with a tone."""
    path = server.base / "input" / name
    portrait = Image.open(server.base / "input" / "portrait.png").convert("RGB").resize((SIDE, SIDE))
    pixels = np.asarray(portrait)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 12800)
        sound = out.add_stream("aac", rate=48000)
        for index in range(count):
            shift = round(10 * math.sin(index * 0.2))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(pixels, shift, 1)), format="rgb24")
            frame.pts = TIMES[index] if index < COUNT else index * 512
            frame.time_base = Fraction(1, 12800)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        wave = (0.2 * np.sin(np.arange(count * 1920) * (2 * math.pi * 440 / 48000))).astype(np.float32)
        for start in range(0, len(wave), 960):
            part = av.AudioFrame.from_ndarray(np.stack([wave[start : start + 960]] * 2), format="fltp", layout="stereo")
            part.sample_rate, part.pts = 48000, start
            out.mux(sound.encode(part))
        out.mux(sound.encode(None))
    return path


def video_prompt(name: str, **changes: Any) -> Prompt:
    inputs = {
        "video": ["film", 0],
        "face_restore_model": ["loader", 0],
        "fidelity": 0.5,
        "smoothing": "full",
        "faces": "all",
        "mask": "box",
        "confidence": 0.0,
        "smallest_face": 0.0,
        "opacity": 1.0,
        "quality": -1.0,
        "look_ahead": 12,
        # The tests' network paints no real faces.
        "when_worse": "paste",
        **changes,
    }
    return {
        "film": node("LoadVideo", file=name),
        "loader": node("CodeFormerLoadModel", model="codeformer.pth", detector="yunet", parser="auto", dtype="float32"),
        "restore": node("CodeFormerRestoreVideoFaces", **inputs),
        "save": node("SaveVideo", video=["restore", 0], filename_prefix="video/out", format="auto", codec="auto"),
        "report": node("PreviewAny", source=["restore", 1]),
    }


def newest(server: Server) -> Path:
    return max((server.base / "output" / "video").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def sound(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def left_over(server: Server) -> list[str]:
    return [path.name for path in (server.base / "temp").iterdir() if path.name.startswith("codeformer_")]


def test_a_video_keeps_its_frames_times_and_sound(server: Server):
    source = put_video(server)
    done = server.run(video_prompt("walk.mp4"))
    assert done.status == "success", done.error
    saved = newest(server)
    assert times(saved) == times(source) and sound(saved) == sound(source)
    assert report(done).startswith(f"{COUNT} frames, {COUNT} of them with {COUNT} restored faces\n1 person followed")
    assert tells(done, "video_encoder", encoder="libx264")
    (compared,) = done.outputs["restore"]["codeformer_compare"]
    assert compared["total"] == COUNT and compared["pairs"][0]["width"] == SIDE
    assert [pair["number"] for pair in compared["pairs"]] == list(range(1, COUNT + 1, 8))
    assert all(len(pair["faces"]) == 1 for pair in compared["pairs"])


@pytest.mark.slow
def test_ten_runs_take_no_more_memory_than_three(server: Server):
    put_video(server, "short.mp4", 8)
    process = psutil.Process(server.process.pid)
    sizes: list[int] = []
    for run in range(10):
        # Another fidelity each time, or the host has the result already.
        assert server.run(video_prompt("short.mp4", fidelity=0.05 * run)).status == "success"
        sizes.append(process.memory_info().rss)
    grown = max(sizes[7:]) - max(sizes[:3])
    assert grown < MAY_GROW, [size >> 20 for size in sizes]
    assert left_over(server), "the host still has the last result"


@pytest.mark.slow
def test_a_trimmed_video_is_restored_as_far_as_it_is_trimmed(server: Server):
    if "Video Slice" not in server.get("/object_info"):
        pytest.skip("this host trims no videos")
    put_video(server)
    prompt = video_prompt("walk.mp4", video=["slice", 0], smoothing="off")
    prompt["slice"] = node("Video Slice", video=["film", 0], start_time=0.4, duration=0.4, strict_duration=False)
    done = server.run(prompt)
    assert done.status == "success", done.error
    whole = times(server.base / "input" / "walk.mp4")
    inside = [moment for moment in whole if 0.4 <= moment < 0.8]
    assert len(times(newest(server))) == len(inside)


def test_frames_that_were_made_by_nodes_are_a_video_too(server: Server):
    prompt = video_prompt("walk.mp4", video=["made", 0], smoothing="off")
    prompt["photo"] = node("LoadImage", image="portrait.png")
    prompt["many"] = node("RepeatImageBatch", image=["photo", 0], amount=3)
    prompt["made"] = node("CreateVideo", images=["many", 0], fps=10.0)
    del prompt["film"]
    done = server.run(prompt)
    assert done.status == "success", done.error
    assert len(times(newest(server))) == 3
    assert all(name.endswith("_restored.mp4") for name in left_over(server))


@pytest.mark.slow
def test_cancel_leaves_no_file(server: Server):
    put_video(server, "long.mp4", 400)
    before = left_over(server)
    running = server.queue(video_prompt("long.mp4"))
    time.sleep(6)
    server.interrupt()
    assert server.wait(running).status == "interrupted"
    assert left_over(server) == before


def test_what_is_no_video_is_named(server: Server):
    (server.base / "input" / "broken.mp4").write_bytes(b"no video" * 100)
    done = server.run(video_prompt("broken.mp4"))
    assert done.status == "error" and "no video that FFmpeg can read" in done.error


def test_frames_are_tracked_restored_and_smoothed(server: Server):
    prompt: Prompt = {
        "photo": node("LoadImage", image="portrait.png"),
        "many": node("RepeatImageBatch", image=["photo", 0], amount=6),
        "loader": node("CodeFormerLoadModel", model="codeformer.pth", detector="yunet", parser="auto", dtype="float32"),
        "detect": node(
            "CodeFormerDetectFaces",
            image=["many", 0],
            detector="yunet",
            confidence=0.0,
            smallest_face=0.0,
            largest_face=0.0,
            merge_duplicates=True,
            picked="",
        ),
        "track": node("CodeFormerTrackFaces", image=["many", 0], faces=["detect", 0], look_ahead=0),
        "crop": node("CodeFormerCropFaces", image=["many", 0], faces=["track", 0]),
        "crops": node("CodeFormerRestoreFaceCrops", image=["crop", 0], face_restore_model=["loader", 0], fidelity=0.5),
        "smooth": node("CodeFormerSmoothFaceCrops", before=["crop", 0], restored=["crops", 0], faces=["crop", 1]),
        "save": node("SaveImage", images=["smooth", 0], filename_prefix="smooth"),
        "report": node("PreviewAny", source=["track", 2]),
    }
    done = server.run(prompt)
    assert done.status == "success", done.error
    assert "6 on a track" in report(done) and "1 person followed, 0 cuts" in report(done)
    assert len(server.pictures(done, "save")) == 6
