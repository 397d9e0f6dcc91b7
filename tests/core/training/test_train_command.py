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


def test_stage1_goes_on_from_a_stage1_of_smaller_faces(tiny, run_stage, made_up_faces, tmp_path):
    """Convolutions don't know how large a face is; attention stays at the level it was at."""
    halves = tmp_path / "halves"
    halves.mkdir()
    for path in made_up_faces.iterdir():
        Image.open(path).resize((16, 16)).save(halves / path.name)
    half = tiny(
        "stages.stage1.iterations=3", f"data.faces={halves}", "network.image_size=16", "network.attention_sizes=[4]",
        "network.fuse_sizes=[4]", "stages.inpainting.fuse_sizes=[4]",
    )  # fmt: skip
    run_stage(half, "stage1", tmp_path / "half")
    run_stage(tiny("stages.stage1.iterations=1"), "stage1", tmp_path / "whole", start=tmp_path / "half")
    begun, gone_on = (load_file(tmp_path / name / "model.safetensors") for name in ("half", "whole"))
    assert begun.keys() == gone_on.keys()
    # One step of Adam moves no weight further than the learning rate.
    furthest = max(float((gone_on[name] - begun[name]).abs().max()) for name in begun)
    assert 0 < furthest <= 1.01 * tiny().stages["stage1"].learning_rate


def test_stage1_goes_on_from_nothing_else(train, tiny_teacher, tiny_codes_run):
    refused(train("stage1", "--from", str(tiny_codes_run)), "--from", "name a trained stage I")
    words = ("--from", str(tiny_teacher), "--set", "network.code_channels=16")
    refused(train("stage1", *words), "--from", "code_channels", "16")
    words = ("--from", str(tiny_teacher), "--set", "network.attention_sizes=[16]")
    refused(train("stage1", *words), "--from", "attention_sizes")


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
    refused(train("stage2", *words, "--set", "data.tones=0.5"), "--codes", "data.tones 0.5", "leave --codes out")
    refused(train("stage2", *words, "--set", "data.tones=2"), "data.tones", "a share from 0")
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
    words = ("--resume", "--set", "stages.stage1.losses.pixel=0.5", "--set", "stages.stage1.iterations=9")
    refused(train("stage1", *words, out=run), "stages.stage1.losses.pixel is 2.0 there and 0.5 here")
    # A degradation that this stage doesn't use is no difference.
    mine = "{blur_sigma: null, downscale: [2, 4], noise: null, jpeg_quality: null, color: null, brush: null}"
    words = ("--resume", "--set", "stages.stage1.iterations=5", "--set", f"degradations.mine={mine}")
    assert train("stage1", *words, out=run)[0] == 0


def test_how_fast_and_how_long_may_change_on_the_way(train, tiny_teacher, copy_of, tmp_path, caplog):
    run = copy_of(tiny_teacher, tmp_path / "run")
    words = ("--resume", "--set", "stages.stage1.learning_rate=1e-3", "--set", "stages.stage1.iterations=5")
    assert train("stage1", *words, out=run)[0] == 0
    said = " ".join(caplog.messages)
    assert "stages.stage1.learning_rate 0.001; up to here it was 0.002" in said and "stages.stage1.iterations 5" in said


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


def test_nobody_elses_files_are_written_over(train, tiny_teacher, copy_of, made_up_faces, tmp_path):
    teacher = copy_of(tiny_teacher, tmp_path / "teacher")
    refused(train("stage2", "--teacher", str(teacher), out=teacher), "--teacher lies there")
    refused(train("stage2", "--teacher", str(teacher / "model.safetensors"), "--resume", out=teacher), "--teacher")
    refused(train("stage1", out=made_up_faces / "run"), "among the faces")
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"precious")
    refused(train("stage1", "--resume", out=weights), "model.safetensors", "another folder")
    (weights / "model.safetensors").rename(weights / "config.json")
    refused(train("stage1", out=weights), "config.json", "another folder")
    assert (weights / "config.json").read_bytes() == b"precious"
    codes = ("--teacher", str(teacher), "--overwrite")
    refused(train("codes", *codes, out=teacher / "model.safetensors"), "holds no codes")
    assert load_file(teacher / "model.safetensors").keys() == load_file(tiny_teacher / "model.safetensors").keys()


def test_one_run_at_a_time_in_a_folder(train, tmp_path):
    from codeformer_core.runtime.lock import locked

    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with locked(tmp_path / "run" / ".lock", lambda: None):
        refused(train("stage1"), "another run is writing there")
    assert train("stage1")[0] == 0
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_checkpoint_without_its_description(train, tiny_teacher, copy_of, tmp_path):
    run = copy_of(tiny_teacher, tmp_path / "run")
    (run / "checkpoints" / "step-000000004" / "meta.json").unlink()
    refused(train("stage1", "--resume", out=run), "step-000000004", "meta.json", "delete")


def test_a_teacher_that_diverged(train, tiny_teacher, tmp_path):
    from safetensors import safe_open

    tensors = load_file(tiny_teacher / "model.safetensors")
    with safe_open(str(tiny_teacher / "model.safetensors"), framework="pt") as stream:
        said = stream.metadata()
    tensors["codebook.weight"][0, 0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors", metadata=said)
    refused(train("stage2", "--teacher", str(tmp_path / "nan.safetensors")), "nan.safetensors", "codebook.weight")


def test_a_wrong_teacher_gets_no_copy_beside_it(train, tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    refused(train("stage2", "--teacher", str(tmp_path / "other.pth")), "other.pth")
    assert not (tmp_path / "other.safetensors").exists()


def test_faces_that_vanish_do_not_cost_the_steps_before(train, made_up_faces, copy_of, tmp_path, monkeypatch):
    faces = copy_of(made_up_faces, tmp_path / "faces")
    from codeformer_core.training.engine.trainer import Trainer

    true_step = Trainer.step

    def losing(self, step, batches):
        true_step(self, step, batches)
        if step == 2:
            for path in faces.iterdir():
                path.unlink()

    monkeypatch.setattr(Trainer, "step", losing)
    words = ("--set", "stages.stage1.iterations=9", "--set", "engine.save_every=1000")
    code, text = train("stage1", *words, faces=faces)
    assert code == 1 and "saved after step 3" in text and "--resume" in text, text
    assert (tmp_path / "run" / "checkpoints" / "step-000000003" / "meta.json").is_file()


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


def test_a_run_is_evaluated_with_its_own_degradations(tiny_codes_run, tiny_teacher, made_up_faces, tmp_path, capsys):
    words = ["evaluate", "model", str(tiny_codes_run), "--teacher", str(tiny_teacher), "--faces", str(made_up_faces)]
    words += ["--count", "3", "--no-baseline", "--device", "cpu", "-o", str(tmp_path / "results")]
    assert main([*words, "--degradation", "mild"]) == 0
    out = capsys.readouterr().out
    assert "mild restored, w = 0 " in out and "mild degraded" in out
    assert (tmp_path / "results" / "report.html").is_file()
    assert main([*words, "--overwrite", "--degradation", "milder"]) == 2
    assert "milder: there is no such degradation" in capsys.readouterr().err
