"""Rectangles of frames as RGB and back: nothing but what changes is touched, in every pixel format."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from codeformer_core.faces.geometry import Rectangle
from codeformer_core.pipeline.video.planes import Planes, beside, check_format, copied, turned

from .clips import MAGENTA, Disk, draw, same_samples, samples

FORMATS = [
    *("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuva420p", "gray"),
    *("gray10le", "gbrp", "gbrp10le", "rgb24", "bgr24", "bgr0", "rgba", "argb"),
]
AREA = Rectangle(21, 13, 80, 70)


def frame_of(pixel_format: str, width: int = 97, height: int = 81) -> av.VideoFrame:
    image = draw([Disk(50, 40, 22, MAGENTA)], 0, width=width, height=height)
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_a_rectangle_is_seen_as_the_converter_sees_it(pixel_format):
    frame = frame_of(pixel_format)
    planes = Planes.of(frame)
    area = planes.around(AREA)
    expected_HW3 = torch.from_numpy(frame.to_ndarray(format="rgb24")).float() / 255
    difference = (planes.rgb(area).clamp(0, 1) - area.of(expected_HW3)).abs()
    # The converter rounds, and enlarges chroma in its own way.
    assert float(difference.mean()) < 0.015


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_only_what_changes_is_written(pixel_format, rotation):
    frame = frame_of(pixel_format)
    changed = copied(frame)
    assert same_samples(frame, changed)
    planes = Planes.of(changed, rotation)
    area = planes.around(AREA)
    change_hw3 = torch.zeros(area.height, area.width, 3)
    planes.add(area, change_hw3)
    assert same_samples(frame, changed)

    change_hw3[8:30, 6:40] = 0.1
    before_hw3 = planes.rgb(area)
    planes.add(area, change_hw3)
    after_hw3 = planes.rgb(area)
    assert float((after_hw3 - before_hw3)[12:26, 10:36].mean()) == pytest.approx(0.1, abs=0.006)
    for old, new in zip(Planes.of(frame, rotation).samples, planes.samples, strict=True):
        differs = old != new
        down, across = old.shape[0] / planes.size_hw[0], old.shape[1] / planes.size_hw[1]
        outside = np.ones_like(differs)
        outside[
            int((area.top + 8) * down) - 1 : int((area.top + 30) * down) + 2,
            int((area.left + 6) * across) - 1 : int((area.left + 40) * across) + 2,
        ] = False
        assert not (differs & outside).any()
    # Alpha stays.
    assert len(frame.planes) < 4 or np.array_equal(samples(frame)[3], samples(changed)[3])


def test_the_matrix_and_the_range_are_the_frames_own():
    plain = frame_of("yuv444p", 64, 64)
    other = copied(plain)
    other.colorspace, other.color_range = 1, 2
    area = Rectangle(0, 0, 64, 64)
    as_601, as_709 = Planes.of(plain).rgb(area), Planes.of(other).rgb(area)
    assert float((as_601 - as_709).abs().max()) > 0.05
    white = av.VideoFrame(8, 8, "yuv444p")
    for plane, level in zip(white.planes, (235, 128, 128), strict=True):
        plane.update(bytes([level]) * plane.buffer_size)
    assert float(Planes.of(white).rgb(Rectangle(0, 0, 8, 8)).sub(1).abs().max()) < 1e-5


def test_film_without_colour_is_known():
    gray = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24").reformat(format="yuv420p")
    area = Rectangle(0, 0, 32, 32)
    assert Planes.of(gray).is_gray(area) and Planes.of(gray.reformat(format="gray")).is_gray(area)
    assert not Planes.of(frame_of("yuv420p")).is_gray(AREA)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_frames_are_turned(rotation):
    frame = frame_of("yuv420p", 96, 80)
    upright = turned(frame, rotation)
    assert (upright.width, upright.height) == ((80, 96) if rotation % 180 else (96, 80))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(Planes.of(frame, rotation).samples, Planes.of(upright).samples, strict=True)
    )


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_two_frames_stand_beside_each_other_as_they_are_shown(rotation):
    left, right = frame_of("yuv420p", 96, 80), copied(frame_of("yuv420p", 96, 80))
    np.frombuffer(right.planes[0], np.uint8)[:] = 200
    pair = Planes.of(beside(left, right, rotation), rotation).samples[0]
    half = pair.shape[1] // 2
    assert np.array_equal(pair[:, :half], Planes.of(left, rotation).samples[0])
    assert (pair[:, half:] == 200).all()


def test_formats_that_cant_be_worked_on_are_refused():
    assert check_format("nv12", Path("a.mp4")) == "yuv420p"
    with pytest.raises(ValueError, match=r"a\.mp4.*bayer_rggb8.*yuv420p"):
        check_format("bayer_rggb8", Path("a.mp4"))
    with pytest.raises(ValueError, match="gbrpf32le"):
        check_format("gbrpf32le", Path("a.mp4"))
