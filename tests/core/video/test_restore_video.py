"""A whole video: same frames, times and sound; nothing outside the faces changes; stopped runs continue to the same."""

from __future__ import annotations

import itertools
import json
import os
from fractions import Fraction

import numpy as np
import pytest
import torch

import codeformer_core as cf
from codeformer_core.pipeline.options import PasteOptions, RestoreOptions
from codeformer_core.pipeline.report import report
from codeformer_core.pipeline.video import film, job, journal, previews
from codeformer_core.pipeline.video.journal import parts_folder
from codeformer_core.pipeline.video.options import VideoOptions
from codeformer_core.pipeline.video.write import can_tag_rotation

from .clips import (
    CYAN,
    Brighter,
    Disk,
    DiskDetector,
    decoded,
    packets,
    same_samples,
    samples,
    scene_clip,
    times,
)

# Without what is judged by a network of its own, which takes its time.
QUICK = RestoreOptions(when_worse="paste", detail=0.0, paste=PasteOptions(mask="outline", color_match="off"))
LOSSLESS = {"codec": "ffv1", "sound": False}


def run(source, target, **how):
    how = {"restorer": Brighter(), "detector": DiskDetector(), "options": QUICK, **how}
    return cf.restore_video(source, target, **how)


def walking(first=0, last=10**6):
    return lambda t: [Disk(45 + 0.8 * (t % 80), 60)] if first <= t < last else []


def test_frames_times_and_sound_are_those_of_the_source(tmp_path):
    uneven = [index * 512 + 160 * (index % 3) for index in range(30)]
    source = scene_clip(tmp_path / "in.mp4", 30, ticks=uneven, cuts=(14,))
    made = run(source, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == times(source)
    assert packets(tmp_path / "out.mp4") == packets(source)
    assert (made.frames, made.changed, made.faces) == (30, 30, 30)
    assert made.tracking.cuts == [14] and made.tracking.tracks == 2
    assert not parts_folder(tmp_path / "out.mp4").exists()
    assert {"video_frames", "video_tracks", "video_encoder", "restored_by"} <= {event.kind for event in made.events}
    assert report(made)


@pytest.mark.parametrize("rotation", [0, 90] if can_tag_rotation() else [0])
@pytest.mark.parametrize("smoothing", ["full", "off"])
def test_only_faces_change(tmp_path, smoothing, rotation):
    source = scene_clip(tmp_path / "in.mkv", 24, walking(6, 18), rotation=rotation, **LOSSLESS)
    made = run(source, tmp_path / "out.mkv", video=VideoOptions(smoothing=smoothing))
    assert made.changed == 12
    for t, (before, after) in enumerate(zip(decoded(source), decoded(tmp_path / "out.mkv"), strict=True)):
        if not 6 <= t < 18:
            assert same_samples(before, after)
            continue
        disk = walking()(t)[0]
        rows, columns = np.mgrid[0 : before.height, 0 : before.width]
        # An outline reaches up to the forehead; a disk's face is smaller than its crop.
        near = np.hypot(columns - disk.x, rows - disk.y) < disk.radius * 2.6
        luma_before, luma_after = samples(before)[0].astype(int), samples(after)[0].astype(int)
        assert (luma_before == luma_after)[~near].all()
        if smoothing == "off" or 9 <= t < 15:
            middle = np.hypot(columns - disk.x, rows - disk.y) < 8
            assert (luma_after - luma_before)[middle].mean() > 15


def test_some_frames_are_kept_to_be_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "MAX_PREVIEWS", 3)
    source = scene_clip(tmp_path / "in.mkv", 40, **LOSSLESS)
    shown = []
    made = run(source, tmp_path / "out.mkv", on_pasted=shown.append)
    # Of 0, 8, 16, 24, 32 every second is left, once they are more than three.
    assert [preview.number for preview in made.previews] == [0, 16, 32]
    assert shown and all(image_HW3.shape == (120, 160, 3) and image_HW3.max() <= 1 for image_HW3 in shown)
    for preview in made.previews:
        ((left, top, right, bottom),) = preview.boxes.values()
        middle = round((top + bottom) / 2 * 120), round((left + right) / 2 * 160)
        assert preview.after_HW3[middle].astype(int).mean() > preview.before_HW3[middle].astype(int).mean() + 10


def test_a_video_without_faces_is_copied(tmp_path):
    source = scene_clip(tmp_path / "in.mp4", 12, lambda t: [])
    made = run(source, tmp_path / "out.mp4")
    assert made.previews == ()
    assert made.copied and packets(tmp_path / "out.mp4", "video") == packets(source, "video")
    assert "video_copied" in {event.kind for event in made.events}


def test_batches_are_filled_across_frames(tmp_path):
    restorer = Brighter(at_once=4)
    run(scene_clip(tmp_path / "in.mp4", 16), tmp_path / "out.mp4", restorer=restorer)
    assert restorer.batches == [4, 4, 4, 4]


def test_a_part_of_a_video(tmp_path):
    source = scene_clip(tmp_path / "in.mp4", 40)
    made = run(source, tmp_path / "out.mp4", start=0.4, end=1.2)
    assert made.frames == 20
    assert times(tmp_path / "out.mp4") == [Fraction(index, 25) for index in range(20)]


def test_before_and_after_stand_beside_each_other(tmp_path):
    source = scene_clip(tmp_path / "in.mkv", 10, **LOSSLESS)
    run(source, tmp_path / "out.mkv", compare=True)
    pair = decoded(tmp_path / "out.mkv")[5]
    assert (pair.width, pair.height) == (320, 120)
    assert np.array_equal(samples(pair)[0][:, :160], samples(decoded(source)[5])[0])
    assert not np.array_equal(samples(pair)[0][:, :160], samples(pair)[0][:, 160:])


def test_persons_are_chosen(tmp_path):
    both = scene_clip(tmp_path / "in.mkv", 16, lambda t: [Disk(45, 60), Disk(115, 60, 20, CYAN)], **LOSSLESS)
    made = run(both, tmp_path / "out.mkv", video=VideoOptions(faces="largest"))
    assert made.faces == 16
    made = run(both, tmp_path / "right.mkv", choose=lambda track: track.faces[track.last].center_xy[0] > 80)
    assert made.faces == 16
    before, after = samples(decoded(both)[8])[0], samples(decoded(tmp_path / "right.mkv")[8])[0]
    assert np.array_equal(before[:, :70], after[:, :70]) and not np.array_equal(before[:, 95:], after[:, 95:])


class Stop(Exception):
    pass


def stopping_at(frame):
    def on_progress(stage, done, total):
        if done >= frame:
            raise Stop

    return on_progress


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(film, "PART_FRAMES", 8)
    monkeypatch.setattr(film, "PART_FRAMES_AT_CUT", 5)


FADING = RestoreOptions(when_worse="fade", detail=0.0, paste=PasteOptions(mask="outline", color_match="off"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A source and its result. Without loss: x264 doesn't make the same of the same frames twice at all sizes."""
    folder = tmp_path_factory.mktemp("whole")
    source = scene_clip(folder / "in.mkv", 44, cuts=(19,), codec="ffv1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film, "PART_FRAMES", 8)
        patch.setattr(film, "PART_FRAMES_AT_CUT", 5)
        run(source, folder / "out.mkv", detector=DiskDetector(jitter=0.4), options=FADING)
    return source, folder / "out.mkv"


@pytest.mark.parametrize("frames", [(15, 30), pytest.param((3,), marks=pytest.mark.slow)])
def test_a_stopped_run_continues_to_the_same_frames(tmp_path, small_parts, uninterrupted, frames):
    source, whole = uninterrupted
    for frame in frames:
        with pytest.raises(Stop):
            run(
                source,
                tmp_path / "out.mkv",
                resume=True,
                detector=DiskDetector(jitter=0.4),
                options=FADING,
                on_progress=stopping_at(frame),
            )
        assert not (tmp_path / "out.mkv").exists()
    detector = DiskDetector(jitter=0.4)
    made = run(source, tmp_path / "out.mkv", resume=True, detector=detector, options=FADING)
    assert made.frames == 44 and (made.resumed > 0) == (len(frames) > 1)
    # What was seen before is not looked for again.
    assert sum(detector.seen) <= 44 - made.resumed
    assert all(same_samples(a, b) for a, b in zip(decoded(whole), decoded(tmp_path / "out.mkv"), strict=True))
    assert times(tmp_path / "out.mkv") == times(whole) and packets(tmp_path / "out.mkv") == packets(source)


@pytest.mark.slow
def test_a_journal_whose_end_is_torn_is_read_up_to_there(tmp_path, small_parts):
    source = scene_clip(tmp_path / "in.mp4", 40)
    with pytest.raises(Stop):
        run(source, tmp_path / "out.mp4", on_progress=stopping_at(36))
    lines = parts_folder(tmp_path / "out.mp4") / "journal.jsonl"
    whole = journal.Journal.read(lines.parent)
    assert whole is not None
    lines.write_bytes(lines.read_bytes()[:-20])
    made = run(source, tmp_path / "out.mp4", resume=True)
    assert made.frames == 40 and made.resumed == whole.done - len(whole.parts[-1].pts) > 0
    assert times(tmp_path / "out.mp4") == times(source)


@pytest.mark.slow
def test_other_settings_are_not_mixed_with_what_is_done(tmp_path, small_parts):
    source = scene_clip(tmp_path / "in.mp4", 32)
    with pytest.raises(Stop):
        run(source, tmp_path / "out.mp4", on_progress=stopping_at(30))
    with pytest.raises(FileExistsError, match=r"holds \d+ finished frames"):
        run(source, tmp_path / "out.mp4")
    with pytest.raises(ValueError, match="begun with another restorer"):
        run(source, tmp_path / "out.mp4", resume=True, restorer=Brighter(name="other"))
    os.utime(source, (1, 1))
    with pytest.raises(ValueError, match="begun with another source"):
        run(source, tmp_path / "out.mp4", resume=True)
    assert run(source, tmp_path / "out.mp4", overwrite=True).resumed == 0


def test_a_stopped_run_can_leave_nothing(tmp_path):
    source = scene_clip(tmp_path / "in.mp4", 30)
    with pytest.raises(Stop):
        run(source, tmp_path / "out.mp4", keep_parts=False, on_progress=stopping_at(8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]


def test_a_failing_restorer_ends_the_run_and_all_threads(tmp_path):
    import threading

    class Failing(Brighter):
        def restore(self, *args, **kwargs):
            raise RuntimeError("no luck")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="no luck"):
        run(scene_clip(tmp_path / "in.mp4", 30), tmp_path / "out.mp4", restorer=Failing())
    assert threading.active_count() == before and not (tmp_path / "out.mp4").exists()


def test_an_encoder_that_fails_ends_the_run(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(film.PartWriter, "add", full)
    with pytest.raises(OSError, match="No space left"):
        run(scene_clip(tmp_path / "in.mp4", 30), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_what_can_be_known_before_is_refused_before(tmp_path):
    source = scene_clip(tmp_path / "in.mp4", 4)
    there = scene_clip(tmp_path / "there.mp4", 2)
    was = there.read_bytes()
    detector = DiskDetector()
    for target, how, error, words in (
        (source, {"overwrite": True}, ValueError, "is the source itself"),
        (there, {}, FileExistsError, "exists already"),
        (there, {"resume": True}, FileExistsError, "exists already"),
        (tmp_path, {}, ValueError, "is a folder"),
        (tmp_path / "no" / "out.mp4", {}, ValueError, "there is no folder"),
        (tmp_path / "out.gif", {}, ValueError, r"can't be written as \.gif"),
        (tmp_path / "out.mp4", {"end": 0.0}, ValueError, "is none"),
        (tmp_path / "out.mp4", {"options": RestoreOptions(upscale=2.0)}, ValueError, "keeps its size"),
        (tmp_path / "out.mp4", {"options": RestoreOptions(parity=True)}, ValueError, "official recipe"),
    ):
        with pytest.raises(error, match=words):
            run(source, target, detector=detector, **how)
    assert detector.seen == [] and there.read_bytes() == was
    with pytest.raises(ValueError, match="look-ahead must be from 4 to 48"):
        VideoOptions(look_ahead=2)


def test_too_little_room_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(job.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(OSError, match="are needed and 0 MiB are free"):
        run(scene_clip(tmp_path / "in.mp4", 4), tmp_path / "out.mp4")


def test_faces_fade_that_would_come_out_worse():
    from codeformer_core.pipeline.judge import Judgement
    from codeformer_core.pipeline.video.pasting import Opacities

    good, bad = Judgement(1.0, 0.0, 1.0), Judgement(0.2, 0.0, 1.0)
    opacities = Opacities()
    assert opacities.of(0, 1, good, "fade") == 1
    shown = [opacities.of(frame, 1, bad if frame % 12 == 0 else None, "fade") for frame in range(12, 150)]
    assert all(0 < a - b < 0.09 or a == b for a, b in itertools.pairwise(shown)) and shown[-1] < 0.05
    again = Opacities.of_record(json.loads(json.dumps(opacities.as_record())))
    assert again.of(150, 1, None, "fade") == opacities.of(150, 1, None, "fade")
    opacities.forget_before(200)
    assert not opacities.tracks


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path):
    """Of the objects that are large: frames, crops, samples."""
    import gc

    def alive():
        gc.collect()
        return sum(type(each) in (torch.Tensor, np.ndarray) and each.nbytes > 10_000 for each in gc.get_objects())

    counts = {}

    def watch(stage, done, total):
        if done in early or done in late:
            counts[done] = alive()

    # How many wait differs from frame to frame of a block, and what another thread has in hand comes on top.
    early, late = range(32, 48), range(88, 104)
    run(scene_clip(tmp_path / "in.mp4", 112), tmp_path / "out.mp4", on_progress=watch)
    assert np.median([counts[at] for at in late]) <= np.median([counts[at] for at in early]) * 1.05 + 2


def test_the_journal_holds_plain_values(tmp_path, small_parts):
    source = scene_clip(tmp_path / "in.mp4", 40)
    with pytest.raises(Stop):
        run(source, tmp_path / "out.mp4", on_progress=stopping_at(38))
    found = journal.Journal.read(parts_folder(tmp_path / "out.mp4"))
    assert found is not None and found.done % 8 == 0 and found.done > 0
    assert len(found.looks) >= found.done and len(found.looks) % 8 == 0
    assert {look.number for look in found.looks.values()} == set(range(len(found.looks)))
