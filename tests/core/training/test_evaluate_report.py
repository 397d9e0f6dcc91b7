"""What an evaluation leaves behind: tables, a page that stands alone, a plot; and the command that makes them."""

from __future__ import annotations

import argparse
import base64
import csv
import io
import math
import os
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codeformer_core.commands import evaluate as command
from codeformer_core.commands.errors import UsageError
from codeformer_core.metrics.kinds import Skipped
from codeformer_core.models.saving import save_network
from codeformer_core.networks.codeformer import CodeFormer
from codeformer_core.networks.vqgan import VQAutoencoder
from codeformer_core.training.evaluation.report import page, write_report
from codeformer_core.training.evaluation.results import (
    CodeAccuracy,
    Column,
    Evaluation,
    Group,
    PeopleMeans,
    Row,
    Sample,
    means_of,
)
from codeformer_core.training.evaluation.tables import summary_lines

from .patterns import CONFIG

NASTY = "<b>\"a\" & 'b'</b>.png"


def evaluation() -> Evaluation:
    degraded, restored = Group("x2", "degraded", None), Group("x2", "restored", 0.5)
    rows = (
        Row(NASTY, degraded, {"PSNR": 20.0, "landmarks": math.nan}),
        Row(NASTY, restored, {"PSNR": 25.5, "landmarks": 3.0}),
        Row("é,1", degraded, {"PSNR": 22.0, "landmarks": 5.0}),
        Row("é,1", restored, {"PSNR": math.inf, "landmarks": 4.0}),
    )
    picture = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    return Evaluation(
        columns=(Column("PSNR", "higher", False), Column("landmarks", "lower", False), Column("FID", "lower", True)),
        rows=rows,
        means=means_of(rows, {degraded: {"FID": 50.0}, restored: {"FID": 40.0}}),
        accuracies=(CodeAccuracy("x2", 0.25, 0.125),),
        samples=(Sample(NASTY, "x2", (("clean", picture), ("restored, w = 0.5", picture[:200]))),),
        skipped=(Skipped("NIQE", "skipped: niqe_pris_params.npz; give <it>"),),
        left_out=("broken.png: cut & gone",),
    )


class Page(HTMLParser):
    """Collects what a browser would see; complains about tags that don't close."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.marked: list[str] = []
        self.rows: list[list[str]] = []
        self._cell_is_best = False
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert "href" not in values and tag not in ("script", "b")
        if tag == "img":
            self.pictures.append(values)
        if tag == "tr":
            self.rows.append([])
        self._cell_is_best = values.get("class") == "best"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] == "style":
            return
        self.texts.append(data)
        if self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        if self._cell_is_best and self.open[-1] == "td":
            self.marked.append(data)


def test_the_page_stands_alone_and_escapes_names():
    text = page(evaluation(), "Evaluation of <it>", {"network": "a & b"})
    found = Page(text)
    assert "http" not in text and "url(" not in text
    together = "\n".join(found.texts)
    for expected in (f"{NASTY}, x2", "Evaluation of <it>", "a & b", "broken.png: cut & gone"):
        assert expected in together
    assert "NIQE: skipped: niqe_pris_params.npz; give <it>" in together
    assert ["", "faces", "PSNR ↑", "landmarks ↓", "FID ↓"][1:] in found.rows
    assert ["degraded", "2", "21", "5 (1)", "50"] in found.rows
    assert ["restored, w = 0.5", "2", "25.5 (1)", "3.5", "40"] in found.rows
    assert ["x2", "25.0%", "12.5%"] in found.rows
    assert found.marked == ["25.5 (1)", "3.5", "40"]


def test_the_pages_pictures_are_in_it():
    found = Page(page(evaluation(), "title", {}))
    assert [picture["alt"] for picture in found.pictures] == [f"{NASTY}, x2: clean", f"{NASTY}, x2: restored, w = 0.5"]
    sizes = []
    for picture in found.pictures:
        kind, _, data = (picture["src"] or "").partition(";base64,")
        assert kind in ("data:image/webp", "data:image/jpeg")
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            sizes.append(image.size)
    assert sizes == [(256, 256), (256, 171)]


def test_tables_hold_every_number(tmp_path):
    paths = write_report(evaluation(), tmp_path / "new" / "report", "title", {})
    assert [path.name for path in paths] == ["faces.csv", "summary.csv", "codes.csv", "report.html"]
    assert sorted(path.name for path in (tmp_path / "new" / "report").iterdir()) == sorted(path.name for path in paths)
    with paths[0].open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 and rows[0]["face"] == NASTY and rows[2]["face"] == "é,1"
    assert (rows[0]["PSNR"], rows[0]["landmarks"], rows[0]["fidelity"]) == ("20.0", "", "")
    assert (rows[3]["PSNR"], rows[3]["fidelity"], rows[3]["method"]) == ("inf", "0.5", "restored")
    with paths[1].open(encoding="utf-8", newline="") as stream:
        summary = list(csv.DictReader(stream))
    assert summary[0]["landmarks"] == "5.0" and summary[0]["landmarks faces"] == "1" and summary[0]["FID"] == "50.0"
    assert paths[2].read_text(encoding="utf-8").splitlines()[1] == "x2,0.25,0.125"


def test_a_failure_leaves_the_old_report(tmp_path, monkeypatch):
    write_report(evaluation(), tmp_path, "old", {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_report(evaluation(), tmp_path, "new", {})
    assert str(tmp_path) in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_summary_as_text():
    lines = summary_lines(evaluation())
    assert lines[0].split() == ["degradation", "faces", "PSNR", "↑", "landmarks", "↓", "FID", "↓"]
    assert "x2 restored, w = 0.5" in lines[2] and lines[2].split()[-4:] == ["25.5", "(1)*", "3.5*", "40*"]
    assert len({len(line) for line in lines[:2]}) <= 2 and "25.0%" in lines[-1]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A network, its teacher, and two folders of faces of 32 pixels."""
    place = tmp_path_factory.mktemp("place")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, teacher = CodeFormer(CONFIG), VQAutoencoder(CONFIG.autoencoder)
    teacher.codebook.load_state_dict(network.codebook.state_dict())
    save_network(place / "network.safetensors", network, CONFIG, "restoration")
    save_network(place / "teacher.safetensors", teacher, CONFIG.autoencoder, "autoencoder")
    for folder in ("val", "train"):
        (place / folder).mkdir()
        for index in range(3):
            coarse = np.random.default_rng((len(folder), index)).integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(place / folder / f"{index}.png")
    return place


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def test_the_command_evaluates_a_network(place, tmp_path, capsys):
    words = (
        "model",
        place / "network.safetensors",
        "--faces",
        place / "val",
        "-o",
        tmp_path / "out",
        "--device",
        "cpu",
    )
    assert (
        run(*words, "--teacher", place / "teacher.safetensors", "--no-baseline", "--fidelity", 0, 1, "--count", 2) == 0
    )
    printed = capsys.readouterr().out
    for expected in (
        "clean degraded",
        "photo degraded",
        "small degraded",
        "large restored, w = 1",
        "codes as the teacher's",
        "report.html",
    ):
        assert expected in printed
    for skipped in ("LPIPS skipped: ", "identity skipped: ", "landmarks skipped: ", "FID skipped: "):
        assert skipped in printed
    found = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert len(found.pictures) == 2 * 4 * 4
    assert ["faces", f"2 of {place / 'val'}"] in found.rows
    with pytest.raises(UsageError, match=r"report\.html: exists already; --overwrite"):
        run(*words)
    assert run(*words, "--overwrite", "--degradation", "x4", "--no-baseline", "--pictures", 0) == 0
    assert not Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).pictures


def test_the_command_evaluates_folders(place, tmp_path, capsys):
    assert run("folders", place / "val", place / "val", "-o", tmp_path / "out", "--device", "cpu") == 0
    printed = capsys.readouterr().out
    assert "restored" in printed and "∞" in printed
    with pytest.raises(ValueError, match="only in"):
        (tmp_path / "one").mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / "one" / "0.png")
        run("folders", tmp_path / "one", place / "val", "-o", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_command_takes_the_folders_of_runs_and_names_that_are_no_text(place, tmp_path, capsys):
    for kind in ("network", "teacher"):
        (tmp_path / kind).mkdir()
        shutil.copy(place / f"{kind}.safetensors", tmp_path / kind / "model.safetensors")
    faces = tmp_path / "faces"
    shutil.copytree(place / "val", faces)
    if sys.platform == "linux":
        (faces / "0.png").rename(faces / os.fsdecode(b"caf\xe9.png"))
    words = ("model", tmp_path / "network", "--faces", faces, "--teacher", tmp_path / "teacher", "--no-baseline")
    assert run(*words, "--degradation", "x4", "--fidelity", 0, "--device", "cpu", "-o", tmp_path / "out") == 0
    assert "Evaluation of network" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    table = (tmp_path / "out" / "faces.csv").read_text(encoding="utf-8")
    assert sys.platform != "linux" or "caf\ufffd.png" in table
    with pytest.raises(UsageError, match=r"faces: this folder holds no model\.safetensors"):
        run("model", faces, "--faces", faces, "-o", tmp_path / "other", "--device", "cpu")


def test_the_output_is_tried_before_anything_else(place, tmp_path):
    found = evaluation()
    found = replace(found, people=(PeopleMeans("glasses", 20, found.means),))
    written = {path.name for path in write_report(found, tmp_path / "report", "title", {})}
    assert written == set(command._REPORT_FILES)
    words = ("model", place / "nothing.safetensors", "--faces", place, "-o")
    for name in written:
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("kept")
        with pytest.raises(UsageError, match=rf"{name}: exists already; --overwrite"):
            run(*words, tmp_path / name)
        (tmp_path / name / name).unlink()
        (tmp_path / name / name).mkdir()
        with pytest.raises(UsageError, match=rf"{name}: is a folder"):
            run(*words, tmp_path / name, "--overwrite")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"-o .*can't be written to \(Not a directory\)"):
        run(*words, tmp_path / "file" / "deep")
    with pytest.raises(ValueError, match=r"nothing\.safetensors"):
        run(*words, tmp_path / "deep" / "new")
    assert not (tmp_path / "deep").exists()


def test_what_the_command_refuses(place, tmp_path):
    network, teacher, faces = place / "network.safetensors", place / "teacher.safetensors", place / "val"
    model = ("model", network, "--faces", faces, "--device", "cpu", "-o")
    with pytest.raises(UsageError, match=r"--degradation x5: there is no such degradation; known: .*x4"):
        run(*model, tmp_path / "out", "--degradation", "x4", "x5")
    with pytest.raises(UsageError, match=r"is a CodeFormer autoencoder \(stage I\): give a model that restores faces"):
        run("model", teacher, "--faces", faces, "-o", tmp_path / "out", "--device", "cpu")
    with pytest.raises(
        UsageError, match=r"starter_inpainting is a model for inpainting: measure it with `evaluate inp"
    ):
        run("model", "starter_inpainting", "--faces", faces, "-o", tmp_path / "out", "--device", "cpu")
    with pytest.raises(UsageError, match=r"--teacher .*network\.safetensors is of the kind codeformer"):
        run(*model, tmp_path / "out", "--teacher", network)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"-o .*file: name a folder"):
        run(*model, tmp_path / "file")
    with pytest.raises(ValueError, match=r"vgg\.pth is not there"):
        run(*model, tmp_path / "out", "--lpips-backbone", tmp_path / "vgg.pth")
    with pytest.raises(SystemExit):
        run(*model, tmp_path / "out", "--count", "0")
    assert not (tmp_path / "out").exists()
