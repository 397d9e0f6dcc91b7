"""The batched JPEG against OpenCV's files, bit by bit, and its tables against what OpenCV writes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from codeformer_core.degradation.jpeg import TRANSFORM, jpeg_round_trip, quality_tables

SIZES = (*range(1, 41), 63, 64, 65, 100, 127, 128, 129, 255)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")),
]


def written(picture_HW3: np.ndarray, quality: int) -> np.ndarray:
    """The bytes of the file."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data


def through_file(picture_HW3: np.ndarray, quality: int) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(written(picture_HW3, quality), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def smooth_picture(size: int, seed: int) -> np.ndarray:
    """Spots, edges and a little noise: every frequency, none at random."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(0, 255, (5, 5, 3)), (size, size), interpolation=cv2.INTER_LINEAR)
    coarse[size // 3 :, size // 2 :] += 60
    return np.rint(coarse + rng.normal(0, 6, coarse.shape)).clip(0, 255).astype(np.uint8)


def random_picture(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)


def extreme_picture(size: int, seed: int) -> np.ndarray:
    """Only 0 and 255: overshoots that have to be clipped."""
    return random_picture(size, seed) // 128 * np.uint8(255)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("make", [smooth_picture, random_picture, extreme_picture])
def test_equals_opencv_bit_by_bit(make, device):
    """Every batch mixes sizes on one canvas, whose rest is full of numbers that must not matter."""
    rng = np.random.default_rng(5)
    for start in range(0, len(SIZES), 12):
        sizes = SIZES[start : start + 12]
        qualities = [int(quality) for quality in rng.integers(1, 101, len(sizes))]
        pictures = [make(size, size) for size in sizes]
        canvas = rng.integers(0, 256, (len(sizes), max(sizes) + 3, max(sizes) + 3, 3)).astype(np.uint8)
        for place_HW3, picture, size in zip(canvas, pictures, sizes, strict=True):
            place_HW3[:size, :size] = picture
        answer = jpeg_round_trip(torch.from_numpy(canvas).permute(0, 3, 1, 2).to(device), sizes, qualities)
        assert answer.dtype == torch.uint8
        assert answer.shape == (len(sizes), 3, *canvas.shape[1:3])
        for face_3PP, picture, size, quality in zip(answer.cpu(), pictures, sizes, qualities, strict=True):
            ours = face_3PP[:, :size, :size].permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(ours, through_file(picture, quality), err_msg=f"size {size}, q {quality}")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 17, 48])
def test_every_quality(size):
    picture = smooth_picture(size, seed=3)
    qualities = range(1, 101)
    batch = torch.from_numpy(picture).permute(2, 0, 1).expand(len(qualities), -1, -1, -1)
    answer = jpeg_round_trip(batch, [size] * len(qualities), qualities).permute(0, 2, 3, 1).numpy()
    for ours, quality in zip(answer, qualities, strict=True):
        np.testing.assert_array_equal(ours, through_file(picture, quality), err_msg=f"quality {quality}")


def zigzag() -> list[tuple[int, int]]:
    """Rows and columns of a block in a file's order: along the diagonals, there and back."""
    cells = [(row, column) for row in range(8) for column in range(8)]
    return sorted(cells, key=lambda cell: (sum(cell), cell[0] if sum(cell) % 2 else cell[1]))


@pytest.mark.parametrize("quality", [1, 10, 25, 49, 50, 51, 75, 90, 99, 100])
def test_tables_are_those_of_a_file(quality):
    data = written(random_picture(16, 0), quality).tobytes()
    found = {}
    place = data.index(b"\xff\xdb")
    while data[place : place + 2] == b"\xff\xdb":
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        for table in range(place + 4, place + 2 + length, 65):
            found[data[table]] = np.frombuffer(data[table + 1 : table + 65], np.uint8)
        place += 2 + length
        if sorted(found) == [0, 1]:
            break
    rows, columns = zip(*zigzag(), strict=True)
    for ours, theirs in zip(quality_tables(quality), (found[0], found[1]), strict=True):
        np.testing.assert_array_equal(ours[rows, columns], theirs)


def test_transform_is_the_cosine_transform():
    frequency, place = np.mgrid[:8, :8]
    true = np.cos((2 * place + 1) * frequency * np.pi / 16) * np.where(frequency == 0, 1, np.sqrt(2)) * 2**13
    np.testing.assert_allclose(TRANSFORM, true, atol=2)


def test_refuses_wrong_input():
    batch = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="from 1 to the canvas's 8 pixels"):
        jpeg_round_trip(batch, [8, 9], [50, 50])
    with pytest.raises(ValueError, match="from 1 to 100, got 0"):
        jpeg_round_trip(batch, [8, 8], [50, 0])
    with pytest.raises(ValueError, match="needs a size and a quality"):
        jpeg_round_trip(batch, [8], [50, 50])
