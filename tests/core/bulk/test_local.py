"""`restore_bulk` in one process: what comes out, what is continued, what fails."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset
from PIL import Image

from codeformer_core.imaging.files import read_image, write_image
from codeformer_core.pipeline.bulk.engine_local import LocalEngine, finished_works
from codeformer_core.pipeline.bulk.job import write_works
from codeformer_core.pipeline.bulk.listing import Listing
from codeformer_core.pipeline.bulk.restore_bulk import restore_bulk
from codeformer_core.pipeline.restore import restore
from codeformer_core.runtime.errors import ExistingFileError

from .cheap import LOCAL, QUICK, Brighter, CheapModels, Raising, blue_image, image_bytes, is_brighter, write_images


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "_bulk" not in path.parts
    }


def records_of(target: Path) -> list[dict]:
    lines = [line for path in sorted((target / "_bulk/journal").iterdir()) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def failures_of(report) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(report.failures).read_text().splitlines()))


def run(source: Path | str, target: Path | str, **how):
    options = how.pop("options", LOCAL)
    models = how.pop("models", CheapModels())
    return restore_bulk([str(source)], str(target), models, options, **how)


def sums(report) -> tuple[int, int, int, int]:
    assert report.came == report.done + report.failed + report.unchanged
    return report.came, report.done, report.failed, report.unchanged


def test_a_folder_is_mirrored_as_the_command_restore_does_it(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 3)
    (source / "deep" / "er").mkdir(parents=True)
    photo = Image.open(io.BytesIO(image_bytes(7, faces=2)))
    exif = photo.getexif()
    exif[0x010E] = "a photo"
    photo.save(source / "deep/er/b.jpg", quality=90, exif=exif, dpi=(300, 300))
    (source / "notes.txt").write_text("no image")
    report = run(source, target)
    assert sums(report) == (4, 4, 0, 0) and report.faces == 5 and report.left_out == {".txt": 1}
    assert files_below(target) == files_below(source) - {"notes.txt"}
    # Byte for byte what one image at a time gives.
    models = CheapModels().load()
    for name in files_below(target):
        picture = read_image(source / name)
        made = restore(picture.image_HWC[None], models, QUICK).images_BHWC[0]
        alone = tmp_path / f"alone{Path(name).suffix}"
        write_image(alone, replace(picture, image_HWC=made), overwrite=True)
        assert (target / name).read_bytes() == alone.read_bytes()
    assert Image.open(target / "deep/er/b.jpg").getexif()[0x010E] == "a photo"
    (record,) = [record for record in records_of(target) if record["result"] == "deep/er/b.jpg"]
    assert record["width"] == 64 and record["restorer"] == "brighter" and len(record["faces"]) == 2
    face = record["faces"][0]
    assert face["restored"] and face["score"] == 0.9 and len(face["box"]) == 4 and len(face["landmarks"]) == 10


def test_images_without_a_face_keep_their_bytes(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "a.jpg").write_bytes(image_bytes(1, faces=0, file_format="JPEG"))
    (source / "b.gif").write_bytes(image_bytes(2, faces=0, file_format="GIF"))
    report = run(source, target)
    assert sums(report) == (2, 2, 0, 0) and report.copied == 2
    assert (target / "a.jpg").read_bytes() == (source / "a.jpg").read_bytes()
    assert files_below(target) == {"a.jpg", "b.gif.png"}


def test_a_second_run_does_what_is_missing(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    paths = write_images(source, 4)
    assert sums(run(source, target)) == (4, 4, 0, 0)
    before = {name: (target / name).stat().st_mtime_ns for name in files_below(target)}
    paths[1].write_bytes(image_bytes(99))  # has changed
    (source / "new.png").write_bytes(image_bytes(100))
    assert sums(run(source, target)) == (5, 2, 0, 3)
    after = {name: (target / name).stat().st_mtime_ns for name in files_below(target)}
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"new.png", paths[1].relative_to(source).as_posix()}
    assert sums(run(source, target)) == (5, 0, 0, 5)


def test_other_settings_are_refused_until_told_otherwise(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 2)
    run(source, target)
    other = replace(LOCAL, restore=replace(QUICK, upscale=2.0))
    with pytest.raises(ExistingFileError, match=r"upscale: 1\.0, now 2\.0"):
        run(source, target, options=other)
    assert sums(run(source, target, options=other, overwrite=True)) == (2, 2, 0, 0)
    with pytest.raises(ExistingFileError, match="restorer"):
        run(source, target, options=other, models=CheapModels(says="another"))


def test_what_is_not_ours_is_not_replaced(tmp_path):
    source = tmp_path / "in"
    write_images(source, 1)
    with pytest.raises(ExistingFileError, match="holds files already"):
        run(source, source)
    with pytest.raises(ValueError, match="would replace it"):
        run(source, source, overwrite=True)
    assert not is_brighter((source / "000/000000.png").read_bytes())


def test_broken_images_go_to_a_table_and_are_tried_again_later(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 3)
    broken, empty = source / "broken.png", source / "empty.jpg"
    broken.write_bytes(image_bytes(5)[:60])
    empty.write_bytes(b"")
    report = run(source, target)
    assert sums(report) == (5, 3, 2, 0) and report.failures is not None
    rows = failures_of(report)
    assert {row["source"] for row in rows} == {str(broken), str(empty)}
    assert all(row["step"] == "preparing" and row["attempts"] == "3" for row in rows)
    assert "0 bytes" in next(row["reason"] for row in rows if row["source"] == str(empty))
    assert "broken.png" not in files_below(target)
    broken.write_bytes(image_bytes(5))
    empty.unlink()
    assert sums(run(source, target)) == (4, 1, 0, 3)
    assert not Path(report.failures).exists()


def test_deleted_results_are_made_again(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    paths = write_images(source, 3)
    shards = replace(LOCAL, kind="shards", pack_images=2)
    run(source, target)
    run(source, tmp_path / "shards", options=shards)
    (target / paths[1].relative_to(source)).unlink()
    next((tmp_path / "shards").glob("*.tar")).unlink()
    assert sums(run(source, target)) == (3, 1, 0, 2)
    report = run(source, tmp_path / "shards", options=shards)
    assert report.done == 3 - report.unchanged > 0
    assert files_below(target) == files_below(source)


def test_a_result_of_another_source_is_not_replaced(tmp_path):
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(image_bytes(number))
    target = tmp_path / "out"
    run(tmp_path / "a", target)
    made = (target / "x.png").read_bytes()
    with pytest.raises(ExistingFileError, match=r"x\.png in the target is the result of .*a/x\.png"):
        run(tmp_path / "b", target)
    assert (target / "x.png").read_bytes() == made
    assert sums(run(tmp_path / "a", target)) == (1, 0, 0, 1)


def test_what_cannot_be_listed_changes_nothing_in_the_target(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 1)
    shards = replace(LOCAL, kind="shards")
    with pytest.raises(ValueError, match="no such file"):
        run(tmp_path / "typo", target)
    assert sums(run(source, target, options=shards)) == (1, 1, 0, 0)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="lies in the target"):
        run(target, target, options=shards, overwrite=True)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_a_target_that_goes_away_ends_the_run(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 2)

    class Unmounting(Brighter):
        def restore(self, faces_B3HW, fidelity=0.5, component_boxes_B44=None):
            shutil.rmtree(target)
            return faces_B3HW

    with pytest.raises(OSError, match="the target is gone"):
        run(source, target, models=CheapModels(Unmounting()))
    assert not target.exists()


@pytest.mark.parametrize("kind", ["folder", "shards", "parquet"])
def test_names_that_are_not_utf_8(tmp_path, kind):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    try:
        (source / os.fsdecode(b"caf\xe9.png")).write_bytes(image_bytes(1))
    except OSError:
        pytest.skip("this file system has no such names")
    (source / os.fsdecode(b"\xff.png")).write_bytes(b"broken")
    options = replace(LOCAL, kind=kind)
    report = run(source, target, options=options)
    assert sums(report) == (2, 1, 1, 0)
    assert b"\xff.png" in Path(report.failures).read_bytes()
    assert kind != "folder" or files_below(target) == {os.fsdecode(b"caf\xe9.png")}
    assert sums(run(source, target, options=options)) == (2, 0, 1, 1)


def test_a_shard_of_a_step_that_ran_twice_counts_with_all_its_images(tmp_path):
    """As when a node is lost: an image is in a shard that was noted, and in another one with a new image."""
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 3)
    options = replace(LOCAL, kind="shards")

    order = list(Listing((str(source),)))

    class Twice(LocalEngine):
        def run(self, job, waiting, count, alone):
            for part in (order[:2], order[1:]):
                (works,) = finished_works(job, iter(part))
                yield write_works(job, works)

    assert sums(run(source, target, options=options, engine=Twice())) == (3, 3, 0, 0)
    shards = sorted(map(str, target.glob("*.tar")))
    kept = [json.loads(sample["json"])["key"] for sample in webdataset.WebDataset(shards, shardshuffle=False)]
    assert set(kept) == {image.key for image in order}
    assert sums(run(source, target, options=options)) == (3, 0, 0, 3)


def test_too_little_memory_costs_the_image_that_needs_too_much(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 5)
    (source / "blue.png").write_bytes(blue_image())
    report = run(source, target, models=CheapModels(Raising()))
    assert sums(report) == (6, 5, 1, 0)
    (row,) = failures_of(report)
    assert row["step"] == "restoring" and "out of memory" in row["reason"]


@pytest.mark.parametrize(("cut", "done"), [(1, 2), (40, 2), (10**6, 3)])
def test_a_run_that_was_killed_at_any_byte_is_continued(tmp_path, cut, done):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 4)
    run(source, target)
    (journal,) = (target / "_bulk/journal").iterdir()
    data = journal.read_bytes()
    lines = data.splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][: min(cut, len(lines[2]) - 1)])
    for name in ("parts", "index-left"):
        (target / "_bulk" / name).mkdir()
        (target / "_bulk" / name / "half").write_bytes(b"of a result")
    assert sums(run(source, target)) == (4, 4 - done, 0, done)
    assert len(records_of(target)) == 4  # half a line is none
    assert {path.name for path in (target / "_bulk").iterdir()} == {"journal", "settings.json"}
    assert sums(run(source, target)) == (4, 0, 0, 4)
    assert files_below(target) == files_below(source)


def test_a_stopped_run_keeps_what_is_done(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 40)

    def stop(what, progress):
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, target, on_progress=stop)
    done = len(records_of(target))
    assert 0 < done < 40
    assert sums(run(source, target)) == (40, 40 - done, 0, done)


def test_a_full_disk_ends_the_run(tmp_path, monkeypatch):
    from codeformer_core.pipeline.bulk import targets

    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 2)

    def full(address, data, parts):
        raise OSError(28, "No space left on device", address)

    monkeypatch.setattr(targets, "write_file", full)
    with pytest.raises(OSError, match="takes no more"):
        run(source, target)


def test_a_second_run_at_the_same_time_is_refused(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_images(source, 1)

    def again(what, progress):
        with pytest.raises(BlockingIOError, match="another run"):
            run(source, target)

    assert sums(run(source, target, on_progress=again)) == (1, 1, 0, 0)


def test_faces_of_many_images_fill_the_batches(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    paths = write_images(source, 16)
    paths[3].write_bytes(image_bytes(3, faces=0))
    paths[4].write_bytes(image_bytes(4, faces=9, side=192))
    batches: list[int] = []

    class Counting(Raising):
        def restore(self, faces_B3HW, fidelity=0.5, component_boxes_B44=None):
            batches.append(len(faces_B3HW))
            return faces_B3HW

    report = run(source, target, models=CheapModels(Counting()), engine=LocalEngine())
    assert report.faces == 14 + 9 and batches == [8, 8, 7]
