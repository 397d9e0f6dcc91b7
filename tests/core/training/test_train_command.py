"""What a user reads when something doesn't fit: one line before the first step, with what was found and the cure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from codeformer_core.cli import main
from codeformer_core.training.config.reading import as_mapping


@pytest.fixture
def train(tiny, made_up_faces, tmp_path, capsys):
    """train("stage1", ...) -> exit code, lines on stderr that are no information."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(as_mapping(tiny("stages.stage1.iterations=2", "stages.stage2.iterations=2"))))

    def run(stage: str, *words: str, faces: Path = made_up_faces, out: Path = tmp_path / "run") -> tuple[int, str]:
        code = main(["train", stage, "--config", str(config), "--faces", str(faces), "-o", str(out), *words])
        lines = capsys.readouterr().err.splitlines()
        return code, "\n".join(line for line in lines if not line.startswith(("info:", "warning:")))

    return run


def refused(result: tuple[int, str], *words: str) -> None:
    code, text = result
    assert code in (1, 2) and len(text.splitlines()) == 1, text
    assert "unexpected" not in text
    for word in words:
        assert word in text, (word, text)


def test_no_faces(train, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(train("stage1", faces=tmp_path / "empty"), str(tmp_path / "empty"))
    refused(train("stage1", faces=tmp_path / "nowhere"), "nowhere")
    assert not (tmp_path / "run").exists()


def test_too_few_faces(train, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32), (number * 40, 0, 0)).save(few / f"{number}.png")
    refused(train("stage1", faces=few), "few", "3", "8")


def test_faces_of_the_wrong_size(train, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for number in range(9):
        Image.new("RGB", (32, 32 if number else 24), (number * 20, 0, 0)).save(wrong / f"{number}.png")
    refused(train("stage1", faces=wrong), "0.png", "32x24", "train align")


def test_no_faces_named(tmp_path, capsys):
    assert main(["train", "stage1", "--config", "smoke", "-o", str(tmp_path / "run")]) == 2
    assert "--faces is missing" in capsys.readouterr().err


def test_teacher_missing(train):
    refused(train("stage2"), "--teacher is missing", "train stage1")


def test_stage1_takes_no_teacher(train, tiny_teacher):
    refused(train("stage1", "--teacher", str(tiny_teacher)), "--teacher", "leave it out")


def test_teacher_is_not_there(train, tmp_path):
    refused(train("stage2", "--teacher", str(tmp_path / "nothing")), "nothing")


def test_a_codeformer_is_no_teacher(train, tiny_codes_run):
    refused(train("stage2", "--teacher", str(tiny_codes_run)), "--teacher", "must be stage I's autoencoder")


def test_teacher_of_another_codebook_size(train, tiny_teacher):
    words = ("--teacher", str(tiny_teacher), "--set", "network.codebook_size=32")
    refused(train("stage2", *words), "codebook_size", "16", "32")


def test_stage3_needs_stage2(train, tiny_teacher):
    refused(train("stage3", "--teacher", str(tiny_teacher)), "--from is missing", "train stage2")


def test_stage1_is_nothing_to_go_on_from(train, tiny_teacher):
    words = ("--teacher", str(tiny_teacher), "--from", str(tiny_teacher))
    refused(train("stage3", *words), "--from", "stage I")


def test_a_start_with_another_codebook_than_the_teachers(train, tiny, run_stage, tiny_codes_run, tmp_path):
    run_stage(tiny("stages.stage1.iterations=1", "engine.seed=5"), "stage1", tmp_path / "other")
    words = ("--teacher", str(tmp_path / "other"), "--from", str(tiny_codes_run))
    refused(train("stage3", *words), "another codebook", "name the teacher it was trained with")


def test_codes_of_another_teacher_and_of_other_faces(train, tiny, run_stage, tiny_teacher, made_up_faces, tmp_path):
    codes = tmp_path / "codes.safetensors"
    assert train("codes", "--teacher", str(tiny_teacher), out=codes)[0] == 0
    run_stage(tiny("stages.stage1.iterations=1", "engine.seed=5"), "stage1", tmp_path / "other")
    words = ("--teacher", str(tmp_path / "other"), "--codes", str(codes))
    refused(train("stage2", *words), "--codes", "other teacher", "train codes")
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for path in sorted(made_up_faces.iterdir())[:10]:
        (fewer / path.name).write_bytes(path.read_bytes())
    words = ("--teacher", str(tiny_teacher), "--codes", str(codes))
    refused(train("stage2", *words, faces=fewer), "--codes", "other faces", "train codes")
    refused(
        train("stage2", "--teacher", str(tiny_teacher), "--codes", str(tiny_teacher / "config.json")),
        "config.json",
        "train codes",
    )
    tensors = load_file(codes)
    from safetensors import safe_open

    with safe_open(str(codes), framework="pt") as stream:
        said = stream.metadata()
    save_file({"codes": tensors["codes"] + 100}, codes, metadata=said)
    refused(train("stage2", *words), "--codes", "below 16")


def test_the_codes_file_is_not_replaced_unasked(train, tiny_teacher, tmp_path):
    codes = tmp_path / "codes.safetensors"
    codes.write_bytes(b"precious")
    refused(train("codes", "--teacher", str(tiny_teacher), out=codes), "exists already", "--overwrite")
    assert codes.read_bytes() == b"precious"
    refused(train("codes", "--teacher", str(tiny_teacher), out=tmp_path / "codes.pt"), ".safetensors")


def test_a_folder_that_holds_a_run(train, tiny_teacher, copy_of, tmp_path):
    run = copy_of(tiny_teacher, tmp_path / "run")
    before = (run / "model.safetensors").read_bytes()
    refused(train("stage1", out=run), "holds a run already", "step-000000004", "--resume")
    assert (run / "model.safetensors").read_bytes() == before


def test_a_checkpoint_of_another_stage(train, tiny_teacher, copy_of, tmp_path):
    run = copy_of(tiny_teacher, tmp_path / "run")
    words = ("--teacher", str(tiny_teacher), "--resume")
    refused(train("stage2", *words, out=run), "is of stage1, this is stage2")


def test_a_checkpoint_of_another_configuration(train, tiny_teacher, copy_of, tmp_path):
    run = copy_of(tiny_teacher, tmp_path / "run")
    words = ("--resume", "--set", "stages.stage1.learning_rate=0.5", "--set", "stages.stage1.iterations=9")
    refused(train("stage1", *words, out=run), "stages.stage1.learning_rate is 0.002 there and 0.5 here")
    refused(train("stage1", "--resume", out=run), "stages.stage1.iterations is 4 there and 2 here")


def test_a_checkpoint_with_another_teacher(train, tiny, run_stage, tiny_codes_run, copy_of, tmp_path):
    run = copy_of(tiny_codes_run, tmp_path / "run")
    run_stage(tiny("stages.stage1.iterations=1", "engine.seed=5"), "stage1", tmp_path / "other")
    words = ("--teacher", str(tmp_path / "other"), "--resume", "--set", "stages.stage2.iterations=4")
    refused(train("stage2", *words, out=run), "teacher", "name the same")


def test_resuming_a_finished_run_is_no_error(train, tiny_teacher, copy_of, tmp_path):
    run = copy_of(tiny_teacher, tmp_path / "run")
    before = load_file(run / "model.safetensors")
    code, text = train("stage1", "--resume", "--set", "stages.stage1.iterations=4", out=run)
    assert code == 0 and text == ""
    after = load_file(run / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_resuming_nothing_begins(train, tmp_path):
    code, text = train("stage1", "--resume")
    assert (code, text) == (0, "")
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stages.stage1.learning_rat=1", ["did you mean 'learning_rate'"]),
        ("stages.stage1.batch_size=9", ["9", "accumulate"]),
        ("discriminator.layers=5", ["discriminator.layers 5", "32 pixels"]),
    ],
)
def test_configurations_that_cannot_work(train, change, words):
    refused(
        train(
            "stage1",
            "--set",
            "engine.accumulate=2",
            "--set",
            "stages.stage1.adversarial.starts_after=0",
            "--set",
            change,
        ),
        *words,
    )


def test_a_lonely_file_where_the_run_should_go(train, tmp_path):
    (tmp_path / "run").write_text("mine")
    code, text = train("stage1")
    assert code == 1 and "run" in text and len(text.splitlines()) == 1, text
    assert (tmp_path / "run").read_text() == "mine"


def test_the_steps_are_listed(capsys):
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    for step in ("align", "stage1", "codes", "stage2", "stage3", "colorization", "inpainting", "export"):
        assert step in out
    assert main(["train"]) == 2
