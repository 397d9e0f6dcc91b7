"""Finding faces as a step of its own: filters, numbers in reading order, the report, progress."""

from __future__ import annotations

import math

import pytest
import torch

from codeformer_core.faces.types import Face
from codeformer_core.pipeline.detect import IMAGES_AT_ONCE, find_faces

from .conftest import GivenDetector, placed_face
from .facts import facts, steps, why

# Boxes of 96, 48 and 192 pixels.
RIGHT, SMALL, LARGE = placed_face(400, 100, 40, score=0.99), placed_face(250, 200, 20), placed_face(120, 150, 80)
FLAT = Face((10, 10, 60, 60), ((20.0, 20.0),) * 5, 0.9)


def pictures(count=1):
    """Told apart by their first pixel, as `GivenDetector` wants it."""
    images_BHW3 = torch.full((count, 300, 512, 3), 0.5)
    images_BHW3[:, 0, 0, 0] = torch.arange(count) / 255
    return images_BHW3


def found(*given, images=None, **options):
    return find_faces(pictures() if images is None else images, detector=GivenDetector((given,)), **options)


def test_faces_are_numbered_as_one_reads():
    result = found(RIGHT, SMALL, LARGE)
    assert result.faces.per_image == ((LARGE, RIGHT, SMALL),)
    assert result.faces.image_size_hw == (300, 512)
    assert facts(result) == [("faces", 0, {"found": 3}), ("detector", None, {"detector": "given"})]


@pytest.mark.parametrize(
    ("options", "kept", "reason"),
    [
        ({"min_face_size": 50}, (LARGE, RIGHT), ("too_small", {"size": pytest.approx(48), "limit": 50})),
        ({"max_face_size": 100}, (RIGHT, SMALL), ("too_large", {"size": pytest.approx(192), "limit": 100})),
    ],
)
def test_limits_of_size(options, kept, reason):
    result = found(RIGHT, SMALL, LARGE, **options)
    assert result.faces.per_image == (kept,)
    assert why(result.skipped[0]) == [reason] and steps(result) == {0: {"found": 3}}
    assert result.skipped[0][0].as_event(0) in result.events


def test_duplicates_are_merged_unless_told_not_to():
    twin = placed_face(401, 100, 40, score=0.7)
    merged, apart = found(twin, RIGHT), found(twin, RIGHT, merge_duplicates=False)
    assert merged.faces.per_image == ((RIGHT,),) and merged.skipped[0][0].face is twin
    assert apart.faces.per_image == ((RIGHT, twin),) and apart.skipped == ((),)


def test_what_can_not_be_aligned_is_no_face():
    result = found(FLAT, RIGHT)
    assert result.faces.per_image == ((RIGHT,),)
    assert [entry.face for entry in result.skipped[0]] == [FLAT]


def test_pictures_keep_their_faces():
    detector = GivenDetector(((RIGHT, LARGE), (), (SMALL,)))
    result = find_faces(pictures(3), detector=detector)
    assert result.faces.per_image == ((LARGE, RIGHT), (), (SMALL,))
    assert steps(result) == {0: {"found": 2}, 1: {"found": 0}, 2: {"found": 1}}


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_transparent_pictures(channels):
    assert found(RIGHT, images=torch.rand(2, 300, 512, channels)).faces.count == 2


def test_progress_is_told_between_handfuls_and_may_cancel():
    told = []
    count = IMAGES_AT_ONCE + 1
    found(RIGHT, images=pictures(count), on_progress=lambda *progress: told.append(progress[1:]))
    assert told == [(0, count), (IMAGES_AT_ONCE, count), (count, count)]

    def cancel(stage, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(RIGHT, on_progress=cancel)


def test_nothing_passed_in_is_changed():
    images_BHW3 = pictures(2)
    before = images_BHW3.clone()
    found(RIGHT, images=images_BHW3)
    assert torch.equal(images_BHW3, before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_face_size": -1}, "smallest face must be 0 or more"),
        ({"max_face_size": 0}, "largest face must be above 0"),
        ({"max_face_size": math.nan}, "largest face must be above 0"),
        ({"images": torch.zeros(300, 512, 3)}, "must be a tensor of shape"),
        ({"images": torch.full((1, 8, 8, 3), math.nan)}, "NaN or infinite"),
    ],
)
def test_bad_input_is_refused_by_name(options, words):
    with pytest.raises(ValueError, match=words):
        found(RIGHT, **options)
