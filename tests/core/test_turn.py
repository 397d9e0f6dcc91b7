"""How far a head is turned, from landmarks projected from a head in space."""

from __future__ import annotations

import numpy as np
import pytest

from codeformer_core.faces.types import Face
from codeformer_core.faces.yaw import skip_by_yaw, yaw_of

# Centimetres in MediaPipe's canonical face model (x right, y up, z towards the camera): the middle between the corners
# of each eye, the tip of the nose, the corners of the mouth.
HEAD = np.array(
    [
        (-3.1511, 2.6246, 3.4657),
        (3.1511, 2.6246, 3.4657),
        (0.0, -1.1269, 7.4756),
        (-2.4562, -4.3426, 4.2839),
        (2.4562, -4.3426, 4.2839),
    ]
)


def rotation(axis: int, degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.eye(3)
    others = [index for index in range(3) if index != axis]
    turned[np.ix_(others, others)] = [(cosine, -sine), (sine, cosine)]
    return turned


def photographed(yaw: float = 0, nod: float = 0, tilt: float = 0, head: np.ndarray = HEAD, size: float = 20) -> Face:
    """From afar: `size` pixels for each centimetre, in the middle of a picture of 1000 pixels."""
    seen = head @ (rotation(2, tilt) @ rotation(0, nod) @ rotation(1, yaw)).T
    points = (500 + size * seen[:, 0], 500 - size * seen[:, 1])
    return Face((0, 0, 1000, 1000), tuple(zip(*points, strict=True)), 0.9)


@pytest.mark.parametrize("yaw", [0, 10, 30, 45, 60, 80, 90])
@pytest.mark.parametrize("side", [-1, 1])
def test_turn_of_the_canonical_head(yaw, side):
    assert yaw_of(photographed(side * yaw)) == pytest.approx(yaw, abs=1.5)


@pytest.mark.parametrize("yaw", [0, 30, 60])
def test_size_and_tilt_change_nothing(yaw):
    upright = yaw_of(photographed(yaw))
    for tilt in (-150, -20, 45, 90):
        assert yaw_of(photographed(yaw, tilt=tilt, size=3)) == pytest.approx(upright, abs=1e-6)


@pytest.mark.parametrize("nod", [-20, 20])
@pytest.mark.parametrize("yaw", [0, 20, 40, 60])
def test_nodding_changes_little(yaw, nod):
    assert yaw_of(photographed(yaw, nod)) == pytest.approx(yaw, abs=9)


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_a_longer_or_shorter_nose(factor):
    head = HEAD.copy()
    root = HEAD[[0, 1, 3, 4], 2].mean()
    head[2, 2] = root + factor * (HEAD[2, 2] - root)
    assert abs(yaw_of(photographed(45, head=head)) - 45) < 6


def test_a_head_seen_from_behind_its_profile_is_turned_further():
    assert yaw_of(photographed(105)) > 95


def test_points_in_one_place_give_a_number():
    assert yaw_of(Face((0, 0, 1, 1), ((5.0, 5.0),) * 5, 0.9)) == 0


def test_faces_turned_too_far_are_skipped_with_the_angle():
    front, half, profile = (photographed(yaw) for yaw in (5, 40, 85))
    selection = skip_by_yaw([profile, front, half], 30)
    assert selection.kept == (front,)
    assert [entry.face for entry in selection.skipped] == [profile, half]
    assert selection.skipped[1].kind == "turned" and selection.skipped[1].values["limit"] == 30
    assert selection.skipped[1].values["yaw"] == pytest.approx(40, abs=10)
    assert skip_by_yaw([photographed(105)], 90).skipped == ()


@pytest.mark.parametrize("wrong", [-1, 91, float("nan")])
def test_largest_turn_must_be_an_angle(wrong):
    with pytest.raises(ValueError, match=r"largest turn must be from 0 to 90 degrees.*Use 90"):
        skip_by_yaw([], wrong)
