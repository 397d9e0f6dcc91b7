"""`train all`: the time divided, what a folder is, and a run that is killed and comes to the same end."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import codeformer_core as cf
from codeformer_core.cli import main
from codeformer_core.training import all_stages
from codeformer_core.training.config import read_config
from codeformer_core.training.config.reading import as_mapping
from codeformer_core.training.data.splitting import FacePlace, look_at
from codeformer_core.training.engine.processes import Processes, joined
from codeformer_core.training.folder import whole_claimed
from codeformer_core.training.plan import (
    PLAN_NAME,
    Part,
    check_parts,
    make_plan,
    parts_of,
    read_plan,
    scaled,
    sized_for,
)
from codeformer_core.training.run import Result
from codeformer_core.training.speed import measure_speed
from codeformer_core.weights.reading import read_metadata

ROOT = Path(__file__).parents[3]
# A minute then has 17 steps for each part, whatever the machine.
FACES_PER_SECOND = 10.0


# One finished run serves most of them.
pytestmark = pytest.mark.xdist_group("train_all")


@pytest.fixture(scope="module")
def speeds():
    return {part: speed for part, speed in zip(parts_of(read_config("small")), (80.0, 20.0, 10.0, 5.0), strict=True)}


@pytest.fixture(scope="module")
def split_faces(made_up_faces, tmp_path_factory) -> Path:
    """train/ with 18 and val/ with 6 of the made-up faces."""
    folder = tmp_path_factory.mktemp("split_faces")
    for number, path in enumerate(sorted(made_up_faces.iterdir())):
        side = folder / ("val" if number % 4 == 0 else "train")
        side.mkdir(exist_ok=True)
        shutil.copy(path, side / path.name)
    return folder


@pytest.fixture(scope="module")
def config_file(tiny, tmp_path_factory) -> Path:
    """The tiny configuration, with everything that a short run may have: both sizes, a discriminator, a pixel path."""
    config = as_mapping(
        tiny(
            "network.fuse_sizes=[8, 32]",
            "network.pixel_path={sigmas: [1, 2], width: 4}",
            "stages.inpainting.fuse_sizes=null",
            "stages.stage3.train=[encoder, transformer, head, fusion, pixel_path]",
            "engine.validation_faces=2",
            "engine.pictures=1",
        )
    )
    config["data"]["faces"] = ""
    path = tmp_path_factory.mktemp("config") / "tiny.json"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module")
def words(split_faces, config_file):
    return lambda out, minutes="1": [
        "train", "all", str(split_faces), "-o", str(out), "--minutes", minutes, "--config", str(config_file),
        "--device", "cpu",
    ]  # fmt: skip


# --- the time --------------------------------------------------------------------------------------------------------


def test_time_is_divided_by_the_budget(speeds):
    config = read_config("small")
    plan = make_plan(config, 100.0, 6000.0, speeds, faces=1000)
    seconds = [
        planned.iterations * config.stages[planned.part.stage].batch_size / speeds[planned.part]
        for planned in plan.parts
    ]
    assert [planned.part.name for planned in plan.parts] == ["stage1-half", "stage1", "stage2", "stage3"]
    assert seconds == pytest.approx([2160, 1080, 1080, 1080], rel=0.02)
    assert sum(seconds) < 6000
    for planned in plan.parts:
        assert 1 <= planned.save_every <= planned.iterations and planned.iterations // planned.validate_every >= 8


def test_too_little_time_names_what_is_enough(speeds):
    config = read_config("small")
    with pytest.raises(
        ValueError, match=r"--minutes 10: too short.* 1000 faces.* it takes ([0-9.]+) minutes"
    ) as caught:
        make_plan(config, 10.0, 590.0, speeds, faces=1000)
    needed = float(str(caught.value).split("it takes ")[1].split()[0])
    assert 15 < needed < 60
    make_plan(config, needed, needed * 60 - 10, speeds, faces=1000)
    with pytest.raises(ValueError, match="too short"):
        make_plan(config, needed - 1, (needed - 1) * 60 - 10, speeds, faces=1000)


def test_nothing_left_after_measuring_says_the_same(speeds):
    config = read_config("small")
    said = []
    for seconds_left in (60.0, 0.0, -60.0):
        with pytest.raises(ValueError, match="too short") as caught:
            make_plan(config, 10.0, seconds_left, speeds, faces=1000)
        spent = 10 - seconds_left / 60
        said.append(float(str(caught.value).split("it takes ")[1].split()[0]) - spent)
    assert said == pytest.approx([said[0]] * 3, abs=0.2) and said[0] > 15


def test_what_happens_at_a_step_moves_with_the_length():
    section = read_config("published").stages["stage3"]
    half = scaled(section, section.iterations // 2)
    assert half.adversarial.starts_after == section.adversarial.starts_after // 2
    assert [phase.until for phase in half.mixture] == [20_000, 40_000, 60_000, None]
    stage1 = read_config("small").stages["stage1"]
    assert scaled(stage1, 120).revive_codes_until == 90


def test_a_part_of_half_the_size_is_the_same_network(speeds):
    config = read_config("small")
    half = sized_for(config, Part("stage1-half", "stage1", half_size=True)).network
    assert (half.image_size, half.attention_sizes, half.fuse_sizes) == (256, (8,), (16, 32, 64, 128, 256))
    assert (
        dataclasses.replace(half.autoencoder(), image_size=512, attention_sizes=(16,)) == config.network.autoencoder()
    )


# --- what a folder is ------------------------------------------------------------------------------------------------


def test_a_folder_that_is_split(split_faces, tmp_path):
    assert look_at(split_faces, 32, tmp_path) == FacePlace(str(split_faces / "train"), str(split_faces / "val"))


def test_faces_are_split_by_their_names(made_up_faces, tmp_path):
    place = look_at(made_up_faces, 32, tmp_path / "run")
    lines = Path(place.manifest).read_text().splitlines()[1:]
    validation = [line for line in lines if line.endswith(",val")]
    assert len(lines) == 24 and len(validation) == 2
    assert look_at(made_up_faces, 32, tmp_path / "run") == place
    assert Path(place.manifest).read_text().splitlines()[1:] == lines


def test_pictures_that_are_not_square_or_too_small_are_photos(made_up_faces, tmp_path):
    assert not look_at(made_up_faces, 64, tmp_path / "run").has_faces
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 32)).save(tmp_path / "photos" / "wide.png")
    assert not look_at(tmp_path / "photos", 32, tmp_path / "run").has_faces
    assert not (tmp_path / "run").exists()


def test_a_manifest_with_a_split_is_taken(tmp_path):
    (tmp_path / "manifest.csv").write_text("file,split\na.png,train\n")
    assert look_at(tmp_path, 32, tmp_path / "run") == FacePlace(manifest=str(tmp_path / "manifest.csv"))


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_no_pictures(tmp_path, make):
    make(tmp_path / "faces")
    with pytest.raises(ValueError, match=r"faces: there is no .*name a folder"):
        look_at(tmp_path / "faces", 32, tmp_path / "run")


def test_one_face_and_hidden_pictures(made_up_faces, tmp_path):
    faces = tmp_path / "faces"
    (faces / ".thumbnails").mkdir(parents=True)
    paths = sorted(made_up_faces.iterdir())
    shutil.copy(paths[0], faces / "a.png")
    shutil.copy(paths[1], faces / ".thumbnails" / "a.png")
    with pytest.raises(ValueError, match=r"faces: 1 face, .*name a folder with more"):
        look_at(faces, 32, tmp_path / "run")
    shutil.copy(paths[2], faces / "b.png")
    lines = Path(look_at(faces, 32, tmp_path / "run").manifest).read_text().splitlines()[1:]
    assert sorted(line.split(",")[1] for line in lines) == ["train", "val"]
    assert not any(".thumbnails" in line for line in lines)


def test_a_run_among_its_pictures_is_refused(made_up_faces):
    with pytest.raises(ValueError, match=r"-o .*run: it lies among the images of .*name a folder outside"):
        look_at(made_up_faces, 32, made_up_faces / "run")
    assert not (made_up_faces / "run").exists()


def test_someone_elses_manifest_stays(made_up_faces, tmp_path):
    (tmp_path / "manifest.csv").write_text("file,photo\n")
    with pytest.raises(ValueError, match=r"its manifest.csv was not written by a run"):
        look_at(made_up_faces, 32, tmp_path)
    assert (tmp_path / "manifest.csv").read_text() == "file,photo\n"


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("budget=null", "budget is missing"),
        ("network.image_size=40", "network.pixel_path: .*windows of 16 pixels, and image_size 40"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_anything(tiny, change, message):
    changes = ("network.pixel_path={sigmas: [1], width: 4}", "network.fuse_sizes=[40]", "network.attention_sizes=[40]")
    stages = [f"stages.{name}.fuse_sizes=null" for name in tiny().stages]
    with pytest.raises(ValueError, match=message):
        check_parts(tiny(*changes, *stages, "network.image_size=40", change))


def test_a_size_that_can_not_be_halved_is_named(tiny):
    stages = [f"stages.{name}.fuse_sizes=null" for name in tiny().stages]
    config = tiny("network.image_size=36", "network.fuse_sizes=[36]", "network.attention_sizes=[9]", *stages)
    with pytest.raises(ValueError, match=r"budget.half_size .* image_size 36 .*Set budget.half_size=0"):
        check_parts(config)


def test_an_output_that_is_not_a_runs_is_refused(words, split_faces, tmp_path, capsys):
    (tmp_path / "README.md").write_text("mine")
    assert main(words(tmp_path)) == 1
    assert "it holds README.md, but no plan.json" in capsys.readouterr().err
    assert main(words(tmp_path / "README.md")) == 1
    assert "README.md: this is a file" in capsys.readouterr().err
    assert main(words(split_faces)) == 1
    assert "these are the faces" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "mine"
    assert sorted(path.name for path in split_faces.iterdir()) == ["train", "val"]


def test_no_minutes(words, tmp_path, capsys):
    assert main(words(tmp_path / "run", "0")) == 2
    assert "--minutes 0: give the time" in capsys.readouterr().err
    assert main(words(tmp_path / "run", "nan")) == 2
    assert not (tmp_path / "run").exists()


# --- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _one_speed():
    """Otherwise how long these tests take would depend on how busy the machine is when they begin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(all_stages, "measure_speed", lambda *args: FACES_PER_SECOND)
        yield


@pytest.fixture(scope="module")
def finished(words, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("all") / "run"
    assert main(words(folder)) == 0
    return folder


@pytest.mark.slow
def test_a_run_leaves_a_model_its_numbers_and_its_card(finished):
    restorer = cf.load_restorer(finished / "model.safetensors", device="cpu")
    assert (restorer.task, restorer.face_size) == ("restoration", 32)
    assert restorer.module.pixel_path is not None
    assert {tensor.dtype for tensor in load_file(finished / "model.safetensors").values()} == {torch.float16}
    card = (finished / "README.md").read_text()
    plan = read_plan(finished)
    assert plan is not None
    for planned in plan.parts:
        assert f"{planned.part.name} {planned.iterations} steps" in card
    for damage in ("clean", "photo", "small", "large"):
        assert f"| {damage} |" in card
    assert (finished / "evaluation" / "summary.csv").is_file()


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(finished, words, capsys):
    before = (finished / "stage3" / "scalars.csv").read_bytes()
    assert main(words(finished)) == 0
    assert (finished / "stage3" / "scalars.csv").read_bytes() == before
    assert "stage3 " not in capsys.readouterr().out


@pytest.mark.slow
def test_another_time_or_configuration_is_refused(finished, words, capsys):
    assert main(words(finished, "2")) == 1
    assert "planned for 1 minutes" in capsys.readouterr().err
    assert main([*words(finished), "--set", "stages.stage1.batch_size=4"]) == 1
    assert "another configuration (stages)" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_twice_it_comes_to_the_same_end(finished, words, tmp_path):
    """SIGKILL at random points of the run; the same command each time."""
    folder = tmp_path / "run"
    folder.mkdir()
    # The plan of the other run, since no two measure the same speed; saving often, so that there is something to lose.
    plan = json.loads((finished / PLAN_NAME).read_text())
    for part in plan["parts"]:
        assert part["iterations"] >= 12
        part["save_every"] = 2
    (folder / PLAN_NAME).write_text(json.dumps(plan))
    command = [sys.executable, "-m", "codeformer_core", *words(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    chance = random.Random(7)
    for _ in range(2):
        before = _steps_done(folder)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wanted = before + chance.randint(1, 12)
        while process.poll() is None and _steps_done(folder) < wanted:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
        process.stderr.close()
        assert not (folder / "model.safetensors").exists()
    assert main(words(folder)) == 0
    expected, found = (load_file(place / "model.safetensors") for place in (finished, folder))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def _steps_done(folder: Path) -> int:
    """Of all parts together, as their checkpoints say."""
    steps = [
        max((int(path.name[5:]) for path in part.glob("checkpoints/step-*")), default=0)
        for part in folder.glob("stage*")
    ]
    return sum(steps)


@pytest.mark.slow
def test_weights_that_are_not_the_last_steps_are_made_again(finished, words, copy_of, tmp_path):
    """A kill between the last checkpoint and its weights leaves those of an earlier step."""
    folder = copy_of(finished, tmp_path / "run")
    whole, old = folder / "stage1" / "model.safetensors", folder / "stage3" / "model.safetensors"
    # Not the bytes: safetensors writes the keys of its header in any order.
    expected = [
        # Copies, because what was loaded is the file's own memory, which is written over here.
        ({name: tensor.clone() for name, tensor in load_file(path).items()}, read_metadata(path))
        for path in (whole, old)
    ]
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    with safe_open(old, "pt") as file:
        header = json.loads(file.metadata()["codeformer"])
    header["trained"]["steps"] = "1"
    tensors = {name: torch.zeros_like(tensor) for name, tensor in load_file(old).items()}
    save_file(tensors, old, {"codeformer": json.dumps(header)})
    assert main(words(folder)) == 0
    for path, (tensors, said) in zip((whole, old), expected, strict=True):
        assert read_metadata(path) == said
        found = load_file(path)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_one_run_at_a_time(words, tmp_path, capsys):
    with whole_claimed(tmp_path / "run", Processes(0, 1, torch.device("cpu"))):
        assert main(words(tmp_path / "run")) == 1
    assert "another run is writing there" in capsys.readouterr().err
    assert list((tmp_path / "run").iterdir()) == []


def test_stopped_while_measuring_or_evaluating(words, tmp_path, capsys, monkeypatch):
    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(all_stages, "measure_speed", stopped)
    assert main(words(tmp_path / "run")) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_places_in_the_configuration_are_another_runs(words, config_file, tmp_path, capsys):
    config = json.loads(config_file.read_text())
    config["data"] |= {"manifest": "nowhere.csv", "split_column": "part"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main([*words(tmp_path / "run", "0.05"), "--config", str(tmp_path / "config.json")]) == 1
    assert "each of the 18 faces" in capsys.readouterr().err


@pytest.mark.slow
def test_a_stopped_run_says_how_to_continue(words, tmp_path, capsys, monkeypatch):
    real = all_stages.train

    def stopped(*args):
        result = real(*args)
        return dataclasses.replace(result, stopped_by=int(signal.SIGTERM))

    monkeypatch.setattr(all_stages, "train", stopped)
    assert main(words(tmp_path / "run")) == 128 + signal.SIGTERM
    assert "SIGTERM, saved; the same command continues" in capsys.readouterr().out


def test_too_little_time_makes_no_step(words, tmp_path, capsys):
    assert main(words(tmp_path / "run", "0.05")) == 1
    assert "too short" in capsys.readouterr().err
    assert not (tmp_path / "run" / "plan.json").exists()


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_speed_is_measured_by_real_steps(tiny, stage):
    with joined("cpu") as processes:
        assert 0.1 < measure_speed(tiny(), stage, processes, seconds=0.0) < 10_000


def test_a_damaged_plan_is_named(words, tmp_path, capsys):
    (tmp_path / "plan.json").write_text('{"minutes": 1')
    assert main(words(tmp_path)) == 1
    assert "plan.json: can't be read" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: plan.update(parts=[]), "plan.json: can't be read .*parts"),
        (lambda plan: plan["parts"].pop(), "plan.json: its parts are stage1-half, stage1, stage2; the configuration"),
        (lambda plan: plan["parts"][0].update(more=1), "plan.json: can't be read .*more"),
        (lambda plan: plan.update(config={}), "plan.json: its configuration"),
        (lambda plan: plan["parts"][0].update(iterations=0), "plan.json: can't be read .*at least one step"),
    ],
)
def test_a_plan_of_another_shape_is_named(finished, words, tmp_path, capsys, change, message):
    plan = json.loads((finished / PLAN_NAME).read_text())
    change(plan)
    (tmp_path / PLAN_NAME).write_text(json.dumps(plan))
    assert main(words(tmp_path)) == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.slow
def test_a_plan_from_before_a_key_was_added_is_the_same(finished, words, tmp_path, monkeypatch):
    plan = json.loads((finished / PLAN_NAME).read_text())
    assert plan["config"]["stages"]["stage1"].pop("recommended_fidelity") is None
    (tmp_path / PLAN_NAME).write_text(json.dumps(plan))
    begun = []

    def stopped(config, name, *args):
        begun.append(name)
        return Result(0, 1, tmp_path, int(signal.SIGTERM))

    monkeypatch.setattr(all_stages, "train", stopped)
    assert main(words(tmp_path)) == 128 + signal.SIGTERM
    assert begun == ["stage1"]
