"""`codeformer video` and `codeformer video faces`."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from codeformer_core import cli
from codeformer_core.commands import tools
from codeformer_core.commands.tools import CommandModels
from codeformer_core.models.bundle import ModelBundle

from .clips import CYAN, Brighter, Disk, DiskDetector, decoded, packets, same_samples, samples, scene_clip, times

QUICK = ["--mask", "outline", "--color-match", "off", "--when-worse", "paste", "--language", "en"]


@pytest.fixture
def models(monkeypatch):
    """Models that find disks and make them brighter, instead of those that are installed."""
    bundle = ModelBundle(
        Brighter(),  # type: ignore[arg-type]
        load_detector=DiskDetector,  # type: ignore[arg-type]
        load_parser=lambda: None,
        load_landmark_detector=lambda: None,
    )
    monkeypatch.setattr(tools, "load_models", lambda args, task, console: CommandModels(bundle, "outline", ()))


def two_people(t):
    return [Disk(45, 60), Disk(115, 60, 20, CYAN)]


def test_a_video_is_restored(tmp_path, models, capsys):
    source = scene_clip(tmp_path / "in.mp4", 12)
    target, said = tmp_path / "out.mp4", tmp_path / "report.json"
    assert cli.main(["video", str(source), "-o", str(target), "--report", str(said), *QUICK]) == 0
    assert times(target) == times(source) and packets(target) == packets(source)
    assert "12 frames, 12 of them with 12 restored faces" in capsys.readouterr().out
    record = json.loads(said.read_text())
    assert record["frames"] == 12 and record["tracks"] == {"1": [0, 11]} and record["encoder"] == "libx264"


def test_persons_are_listed_and_chosen_by_number(tmp_path, models, capsys):
    source = scene_clip(tmp_path / "in.mkv", 14, two_people, codec="ffv1", sound=False)
    people = tmp_path / "people.json"
    assert cli.main(["video", "faces", str(source), "-o", str(people), "--language", "en"]) == 0
    assert "2 persons" in capsys.readouterr().out
    record = json.loads(people.read_text())
    assert [person["number"] for person in record["people"]] == [1, 2]
    assert all(person["frames"] == 14 for person in record["people"])
    with Image.open(tmp_path / "people.png") as sheet:
        assert sheet.width > 2 * 256 > sheet.height - 256
    boxes = record["people"][1]["tracks"][0]["boxes"]["5"]
    is_right = boxes[0] > 80
    target = tmp_path / "out.mkv"
    assert cli.main(["video", str(source), "-o", str(target), "--faces", f"{people}#2", *QUICK]) == 0
    before, after = samples(decoded(source)[7])[0], samples(decoded(target)[7])[0]
    changed = (before != after).any(0)
    assert changed[95:].any() == is_right and changed[:70].any() == (not is_right)

    assert cli.main(["video", str(source), "-o", str(tmp_path / "b.mkv"), "--faces", f"{people}#7", *QUICK]) == 1
    assert "has no person 7, only 1 to 2" in capsys.readouterr().err
    other = scene_clip(tmp_path / "other.mkv", 9, codec="ffv1", sound=False)
    assert cli.main(["video", str(other), "-o", str(tmp_path / "b.mkv"), "--faces", f"{people}#1", *QUICK]) == 1
    assert "is about another video" in capsys.readouterr().err
    assert not (tmp_path / "b.mkv").exists()


@pytest.mark.slow
def test_a_run_is_stopped_and_continued(tmp_path, models, monkeypatch, capsys):
    from codeformer_core.commands.video import Progress
    from codeformer_core.pipeline.video import film

    monkeypatch.setattr(film, "PART_FRAMES", 8)
    source = scene_clip(tmp_path / "in.mkv", 30, codec="ffv1", sound=False)
    target = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        show = Progress.show

        def stop(self, stage, done, total):
            show(self, stage, done, total)
            if done >= 22:
                raise KeyboardInterrupt

        patch.setattr(Progress, "show", stop)
        assert cli.main(["video", str(source), "-o", str(target), *QUICK]) == 130
    assert "--resume continues it" in capsys.readouterr().err and not target.exists()
    assert cli.main(["video", str(source), "-o", str(target), *QUICK]) == 1
    assert "--resume continues it, --overwrite starts again" in capsys.readouterr().err
    assert cli.main(["video", str(source), "-o", str(target), "--resume", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "finished by a run before" in said
    whole = tmp_path / "whole.mkv"
    assert cli.main(["video", str(source), "-o", str(whole), *QUICK]) == 0
    assert all(same_samples(a, b) for a, b in zip(decoded(target), decoded(whole), strict=True))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.mp4", "b.mp4"], "one video at a time"),
        (["IN", "--faces", "somebody"], "expected all, largest, or a list"),
        (["IN", "--start", "2", "--end", "1"], "lies before --start"),
        (["IN", "--start", "x"], "expected seconds, m:ss or h:mm:ss"),
        (["IN", "--look-ahead", "2"], "from 4 to 48"),
        (["IN", "--smoothing", "much"], "invalid choice"),
        (["faces", "IN"], "name one that ends in .json"),
        (["IN", "--regions", "eyes", "--mask", "box"], "takes the place of --mask"),
    ],
)
def test_wrong_words_are_refused(tmp_path, capsys, words, said):
    source = str(tmp_path / "in.mp4")
    words = [source if word == "IN" else word for word in words]
    assert cli.main(["video", *words, "-o", str(tmp_path / "out.mp4")]) == 2
    assert said in capsys.readouterr().err


def test_files_are_refused_before_models_are_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tools, "load_models", lambda *args: pytest.fail("models were loaded"))
    source = scene_clip(tmp_path / "in.mp4", 3)
    for target, said in (
        (source, "is the source itself"),
        (tmp_path / "out.avi2", "can't be written as .avi2"),
    ):
        assert cli.main(["video", str(source), "-o", str(target), "--overwrite"]) == 1
        assert said in capsys.readouterr().err
    assert cli.main(["video", str(tmp_path / "gone.mp4"), "-o", str(tmp_path / "out.mp4")]) == 1
    assert "gone.mp4: there is no such file" in capsys.readouterr().err


def test_image_verbs_name_the_verb_for_videos(tmp_path, capsys):
    source = scene_clip(tmp_path / "in.mp4", 3)
    assert cli.main(["restore", str(source), "-o", str(tmp_path / "out")]) == 2
    assert f"codeformer video {source} -o OUT" in capsys.readouterr().err
