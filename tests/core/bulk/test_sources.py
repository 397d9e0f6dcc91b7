"""What an archive may be made of, and what its results may go into; read again by tools that are not ours."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from codeformer_core.pipeline.bulk.listing import Listing, read_source
from codeformer_core.pipeline.bulk.source import BulkSource, result_place
from codeformer_core.pipeline.bulk.storage import write_file

from .cheap import LOCAL, image_bytes, is_brighter, write_images
from .test_local import files_below, run, sums


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            shard.addfile(entry, io.BytesIO(data))
    return path


def places(*texts: object, **how) -> list[str]:
    return sorted(source.place for source in Listing(tuple(map(str, texts)), **how))


def test_folders_patterns_and_lists(tmp_path):
    write_images(tmp_path / "in", 101)
    (tmp_path / "in/.hidden.png").write_bytes(b"")
    (tmp_path / "in/one.JPG").write_bytes(image_bytes(1, file_format="JPEG"))
    assert len(places(tmp_path / "in")) == 102
    assert places(f"{tmp_path}/in/*.JPG") == ["one.JPG"]
    assert places(f"{tmp_path}/in/00[1-9]/*.png") == ["001/000100.png"]
    assert len(places(f"{tmp_path}/in/**/*.png")) == 101
    assert places(tmp_path / "in/one.JPG") == ["one.JPG"]
    listed = tmp_path / "some.txt"
    listed.write_text(f"# two\nin/one.JPG\n\n{tmp_path}/in/000/000003.png\nin/gone.png\n")
    assert places(listed) == sorted(["in/one.JPG", f"{tmp_path}/in/000/000003.png"[1:], "in/gone.png"])


@pytest.mark.parametrize("text", ["", "nowhere", "nowhere/*.png", "empty", "notes.doc", "bad.tar.gz", "bad.tar"])
def test_sources_without_images_are_refused(tmp_path, text):
    (tmp_path / "empty").mkdir()
    for name in ("notes.doc", "bad.tar.gz", "bad.tar"):
        (tmp_path / name).write_bytes(b"something else" * 100)
    with pytest.raises(ValueError, match=text.partition("*")[0] if text else "empty name"):
        places(tmp_path / text if text else text)


def test_places_never_lie_above_the_target(tmp_path):
    shard = write_shard(tmp_path / "a.tar", {"../../evil.png": image_bytes(1), "/abs.png": image_bytes(2)})
    assert places(shard) == ["a/abs.png", "a/evil.png"]


@pytest.mark.parametrize(
    ("place", "file_format", "read_format", "result"),
    [
        ("a/b.jpeg", None, None, "a/b.jpeg"),
        ("a/b.jpeg", "jpg", None, "a/b.jpeg"),
        ("a/b.jpg", "png", None, "a/b.jpg.png"),
        ("a.gif", None, None, "a.gif.png"),
        ("p/0001", None, None, "p/0001.*"),
        ("p/0001", None, "MPO", "p/0001.jpg"),
        ("p/v1.2", None, "WEBP", "p/v1.2.webp"),
    ],
)
def test_names_of_results(place, file_format, read_format, result):
    assert result_place(place, file_format, read_format) == result


def test_two_images_never_share_a_result(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(image_bytes(1))
    from codeformer_core.pipeline.bulk.restore_bulk import restore_bulk

    from .cheap import CheapModels

    with pytest.raises(ValueError, match=r"would both be written to x\.png"):
        restore_bulk([str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "out"), CheapModels(), LOCAL)
    twice = [str(tmp_path / "a"), str(tmp_path / "a" / "*.png")]
    assert sums(restore_bulk(twice, str(tmp_path / "out"), CheapModels(), LOCAL)) == (1, 1, 0, 0)


def test_shards_in_and_out(tmp_path):
    members = {f"{number:04d}.png": image_bytes(number) for number in range(5)}
    members["v1.2.jpg"] = image_bytes(9, faces=0, file_format="JPEG")
    first = write_shard(tmp_path / "in-000.tar", {**members, "0001.txt": b"a caption"})
    write_shard(tmp_path / "in-001.tar", members)
    options = replace(LOCAL, kind="shards", pack_images=5)
    target = tmp_path / "out"
    report = run(f"{tmp_path}/in-{{000..001}}.tar", target, options=options)
    assert sums(report) == (12, 12, 0, 0)
    shards = sorted(map(str, target.glob("*.tar")))
    assert len(shards) == 3
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert len(samples) == len({sample["__key__"] for sample in samples}) == 12
    for sample in samples:
        record = json.loads(sample["json"])
        data = sample.get("png") or sample["jpg"]
        assert is_brighter(data) == bool(record["faces"]) and record["member"] in members
    assert sums(run(f"{tmp_path}/in-{{000..001}}.tar", target, options=options)) == (12, 0, 0, 12)
    # What a killed run has written and not noted is made anew.
    journal = next((target / "_bulk/journal").iterdir())
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    assert sums(run(f"{tmp_path}/in-{{000..001}}.tar", target, options=options)) == (12, 2, 0, 10)
    samples = list(webdataset.WebDataset(sorted(map(str, target.glob("*.tar"))), shardshuffle=False))
    assert len(samples) == 12
    assert first.exists()


@pytest.mark.parametrize("structure", [False, True])
def test_parquet_in_and_out(tmp_path, structure):
    images = [image_bytes(number, faces=number % 3) for number in range(7)]
    names = [f"a/{number}.png" for number in range(7)]
    table = pa.table({"key": names, "image": images, "caption": ["x"] * 7})
    if structure:  # as Hugging Face has it
        table = pa.table({"image": [{"bytes": data, "path": name} for data, name in zip(images, names, strict=True)]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=3)
    target = tmp_path / "out"
    options = replace(LOCAL, kind="parquet", pack_images=4)
    assert sums(run(tmp_path / "in.parquet", target, options=options)) == (7, 7, 0, 0)
    read = pq.read_table(str(target))  # which leaves out what begins with _
    assert len(read) == 7
    by_place = {row["place"]: row for row in read.to_pylist()}
    for number, name in enumerate(names):
        row = by_place[f"in/{name}"]
        assert len(row["faces"]) == number % 3 and is_brighter(row["image"]) == (number % 3 > 0)
        assert row["member"] == f"row {number}"
    assert {len(row["settings"]) for row in by_place.values()} == {16}
    # Its own results are a source again.
    assert sums(run(target, tmp_path / "again")) == (7, 7, 0, 0)


def test_parquet_columns_that_fit_not_are_named(tmp_path):
    pq.write_table(pa.table({"a": [b"x"], "b": [b"y"]}), tmp_path / "two.parquet")
    with pytest.raises(ValueError, match="2 columns of bytes; its columns are a, b"):
        places(tmp_path / "two.parquet")
    (source,) = Listing((str(tmp_path / "two.parquet"),), image_column="b")
    assert read_source(source) == b"y" and source.place == "two/000000000"
    with pytest.raises(ValueError, match="no column 'c'"):
        places(tmp_path / "two.parquet", image_column="a", key_column="c")


def test_addresses_of_other_stores(tmp_path):
    """memory:// stands for all that fsspec knows."""
    store = fsspec.filesystem("memory")
    try:
        for number in range(3):
            write_file(f"memory://bulk-in/a/{number}.png", image_bytes(number))
        write_file("memory://bulk-in/s.tar", write_shard(tmp_path / "s.tar", {"x.png": image_bytes(8)}).read_bytes())
        assert sums(run("memory://bulk-in", "memory://bulk-out")) == (4, 4, 0, 0)
        assert is_brighter(store.cat_file("/bulk-out/a/1.png")) and is_brighter(store.cat_file("/bulk-out/s/x.png"))
        assert sums(run("memory://bulk-in", "memory://bulk-out")) == (4, 0, 0, 4)
        store.pipe_file("/bulk-in/a/1.png", image_bytes(77))
        assert sums(run("memory://bulk-in/a/*.png", "memory://bulk-out2")) == (3, 3, 0, 0)
        local = tmp_path / "out"
        assert sums(run("memory://bulk-in", local)) == (4, 4, 0, 0)
        assert files_below(local) == {"a/0.png", "a/1.png", "a/2.png", "s/x.png"}
    finally:
        for folder in ("/bulk-in", "/bulk-out", "/bulk-out2"):
            if store.exists(folder):
                store.rm(folder, recursive=True)


def test_two_images_of_one_stem_are_two_samples_of_a_shard(tmp_path):
    for name, file_format in (("a.jpg", "JPEG"), ("a.png", "PNG")):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(image_bytes(1, file_format=file_format))
    assert sums(run(tmp_path / "in", tmp_path / "out", options=replace(LOCAL, kind="shards"))) == (2, 2, 0, 0)
    shards = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert {ending for sample in samples for ending in sample if ending in ("jpg", "png")} == {"jpg", "png"}
    assert len({sample["__key__"] for sample in samples}) == 2 and all("json" in sample for sample in samples)


def test_a_target_inside_a_source_is_no_source(tmp_path):
    write_images(tmp_path / "in", 2)
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path / "in")
    target = tmp_path / "in" / "out"
    assert sums(run(tmp_path / "in", target)) == (2, 2, 0, 0)
    assert sums(run(tmp_path / "in", target)) == (2, 0, 0, 2)
    assert len(places(linked, target=str(target))) == 2


def test_a_missing_file_of_a_list_is_a_failure(tmp_path):
    (tmp_path / "a.png").write_bytes(image_bytes(1))
    (tmp_path / "some.txt").write_bytes(b"\xef\xbb\xbfa.png\r\nb.png\r\na.png\r\n./a.png\r\n")
    assert sums(run(tmp_path / "some.txt", tmp_path / "out")) == (2, 1, 1, 0)


def test_keys_tell_changed_files_apart():
    one = BulkSource("a.png", "a.png", "1", size=5)
    assert one.key == replace(one, place="b.png").key
    assert len({one.key, replace(one, version="2").key, replace(one, member="x").key, replace(one, size=6).key}) == 4
