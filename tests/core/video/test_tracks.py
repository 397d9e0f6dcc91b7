"""Tracks and steady paths: one person stays one person, cuts end tracks, gaps are bridged, false faces are dropped."""

from __future__ import annotations

import numpy as np
import pytest

from codeformer_core.faces.geometry import estimate_alignment, invert
from codeformer_core.pipeline.video import smoother
from codeformer_core.pipeline.video.look import Look
from codeformer_core.pipeline.video.options import VideoOptions
from codeformer_core.pipeline.video.tracker import Tracker
from codeformer_core.pipeline.video.window import FADE, Window

from .clips import face_at


def tracked(per_frame, cuts=(), describe=lambda frame: lambda index: None):
    tracker = Tracker()
    return [
        tracker.step(frame, faces, is_cut=frame in cuts, describe=describe(frame))
        for frame, faces in enumerate(per_frame)
    ], tracker


def windowed(per_frame, cuts=(), **options):
    window = Window(VideoOptions(**options))
    looks = [Look(frame, None, frame in cuts, tuple(faces)) for frame, faces in enumerate(per_frame)]
    return list(window.frames(looks)), window.statistics


def test_people_keep_their_tracks_in_any_order_of_detection():
    frames = [[face_at(40 + 3 * t, 60, 20), face_at(200 - 2 * t, 70, 22)][:: 1 if t % 2 else -1] for t in range(20)]
    numbers, tracker = tracked(frames)
    assert len(tracker.tracks) == 2
    for t, found in enumerate(numbers):
        by_place = sorted((frames[t][index].center_xy[0], number) for index, number in found.items())
        assert [number for _, number in by_place] == [
            number for _, number in sorted((frames[0][i].center_xy[0], n) for i, n in numbers[0].items())
        ]


def test_a_cut_ends_all_tracks_though_the_next_face_stands_there():
    frames = [[face_at(80, 60, 20)] for _ in range(20)]
    numbers, tracker = tracked(frames, cuts=(10,))
    assert len(tracker.tracks) == 2 and numbers[9] != numbers[10]


def test_crossing_people_are_told_apart_by_who_they_are():
    """Two faces swap places while nobody sees them: place alone would mix them up."""
    here, there = face_at(60, 60, 20), face_at(90, 60, 20)
    nearing = [[here, face_at(140 - 2 * t, 60, 20)] for t in range(25)]
    frames = [*nearing, *[[here, there]] * 6, *[[]] * 2, *[[there, here]] * 4]
    who = {0: (1.0, 0.0), 1: (0.0, 1.0)}

    def describe(frame):
        return lambda index: np.array(who[index])

    numbers, tracker = tracked(frames, describe=describe)
    assert len(tracker.tracks) == 2
    # After the gap the first of the two lies where the second was, and still is the first.
    assert numbers[-1] == numbers[0]


def test_gaps_are_bridged_inside_a_track_and_nowhere_else():
    frames = [[] if t < 4 or 12 <= t < 18 or t >= 40 else [face_at(40 + 2 * t, 60, 20)] for t in range(60)]
    made, statistics = windowed(frames)
    shown = [len(frame.faces) for frame in made]
    assert shown == [int(4 <= t < 40) for t in range(60)]
    assert statistics.bridged == 6 and statistics.tracks == 1
    middle = made[15].faces[0].aligned
    centre = invert(middle.matrix) @ (255.5, 255.5, 1)
    expected = invert(smoother.matrix_of(smoother.measured(face_at(40 + 2 * 15, 60, 20)))) @ (255.5, 255.5, 1)
    assert np.abs(centre - expected).max() < 0.5


def test_tracks_begin_and_end_softly_within_a_scene_only():
    frames = [[face_at(80, 60, 20)] if 10 <= t < 30 else [] for t in range(50)]
    made, _ = windowed(frames)
    opacities = [frame.faces[0].opacity if frame.faces else 0 for frame in made]
    ramp = [(step + 1) / (FADE + 1) for step in range(FADE)]
    assert opacities[9:14] == [0, *ramp, 1] and opacities[26:31] == [1, *reversed(ramp), 0]
    whole, _ = windowed([[face_at(80, 60, 20)]] * 30, cuts=(12,))
    assert all(frame.faces[0].opacity == 1 for frame in whole)


@pytest.mark.parametrize(("length", "count"), [(1, 0), (4, 0), (5, 5)])
def test_false_detections_of_few_frames_are_dropped(length, count):
    frames = [[face_at(80, 60, 20)] if 10 <= t < 10 + length else [] for t in range(40)]
    assert sum(len(frame.faces) for frame in windowed(frames)[0]) == count


@pytest.mark.parametrize("length", [1, 2, 4])
def test_short_scenes_and_videos_are_restored(length):
    assert all(frame.faces for frame in windowed([[face_at(80, 60, 20)]] * length)[0])
    frames = [[face_at(80, 60, 20)]] * (20 + length)
    assert all(frame.faces for frame in windowed(frames, cuts=(20,))[0])


def test_the_largest_person_is_chosen_for_a_scene():
    """Their sizes are nearly the same, and change places from frame to frame."""
    frames = [[face_at(60, 60, 20.0 + (t % 2)), face_at(160, 60, 20.6)] for t in range(40)]
    made, _ = windowed(frames, faces="largest")
    assert {len(frame.faces) for frame in made} == {1}
    assert len({frame.faces[0].aligned.track for frame in made}) == 1


def jitter(matrices) -> float:
    """Root mean square of the second difference of the crop's corners, in pixels of the image."""
    corners = np.array([(56, 56, 1), (456, 56, 1), (56, 456, 1), (456, 456, 1)])
    places = np.stack([(corners @ invert(matrix).T).ravel() for matrix in matrices])
    return float(np.sqrt(np.square(np.diff(places, 2, axis=0)).mean()))


def noisy_walk(count=60, noise=0.6):
    rng = np.random.default_rng(0)
    faces = []
    for t in range(count):
        face = face_at(60 + 30 * np.sin(t * 0.08), 60 + 10 * np.sin(t * 0.1), 20 + 3 * np.sin(t * 0.05))
        points = tuple(
            (float(x + dx), float(y + dy))
            for (x, y), (dx, dy) in zip(face.landmarks_xy, rng.normal(0, noise, (5, 2)), strict=True)
        )
        faces.append(type(face)(face.box_xyxy, points, face.score))
    return faces


def test_paths_are_steady_and_follow_the_motion():
    faces = noisy_walk()
    made, _ = windowed([[face] for face in faces])
    steady = [frame.faces[0].aligned.matrix for frame in made]
    raw = [estimate_alignment(face) for face in faces]
    assert jitter(steady) < jitter(raw) / 8
    truth = [smoother.matrix_of(smoother.measured(face)) for face in noisy_walk(noise=0.0)]
    apart = [
        np.abs(invert(a) @ (255.5, 255.5, 1) - invert(b) @ (255.5, 255.5, 1)).max()
        for a, b in zip(steady, truth, strict=True)
    ]
    assert max(apart) < 1.0
    # The landmarks of the faces are steady, too: nodes that align them anew get steady crops.
    again = [estimate_alignment(frame.faces[0].aligned.face) for frame in made]
    assert jitter(again) < jitter(raw) / 3


def test_twelve_frames_of_look_ahead_are_enough():
    faces = noisy_walk()
    looked = windowed([[face] for face in faces])[0]
    longest = windowed([[face] for face in faces], look_ahead=48)[0]
    assert jitter([f.faces[0].aligned.matrix for f in looked]) < 1.5 * jitter(
        [f.faces[0].aligned.matrix for f in longest]
    )


def test_a_wild_measurement_does_not_move_the_face():
    faces = noisy_walk(noise=0.1)
    clean = windowed([[face] for face in faces])[0]
    away = faces[30]
    faces[30] = type(away)(away.box_xyxy, tuple((x + 8, y - 6) for x, y in away.landmarks_xy), away.score)
    made = windowed([[face] for face in faces])[0]
    middles = [invert(frames[30].faces[0].aligned.matrix) @ (255.5, 255.5, 1) for frames in (made, clean)]
    assert np.abs(middles[0] - middles[1]).max() < 0.5


def test_smoothing_off_takes_every_frame_for_itself():
    faces = noisy_walk(20)
    made, _ = windowed([[face] for face in faces], smoothing="off")
    assert all(
        np.allclose(frame.faces[0].aligned.matrix, estimate_alignment(face))
        for frame, face in zip(made, faces, strict=True)
    )
