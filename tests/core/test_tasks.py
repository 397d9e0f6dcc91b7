"""What a network is for comes from its file or from its user; what is only assumed is called so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import codeformer_core as cf
from codeformer_core import cli
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.models.restorer import check_task, made_by
from codeformer_core.models.saving import save_network, save_restorer
from codeformer_core.networks.codeformer import CodeFormerConfig
from codeformer_core.runtime.errors import problem_of
from codeformer_core.weights.reading import read_metadata

from .conftest import SMALL_CONFIG, TINY_CONFIG, seeded_network
from .facts import facts, kinds, line_of

# As the published model for colorization.
PAINTER = replace(TINY_CONFIG, fuse_sizes=(32, 64, 128))
TASKS = ("restoration", "colorization", "inpainting")


def put(path: Path, config: CodeFormerConfig = SMALL_CONFIG) -> Path:
    """In the published layout, without a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = to_published(seeded_network(config).state_dict(), config)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    return path


def sources(path: Path, task: str | None = None) -> tuple[tuple[str, ...], str]:
    restorer = cf.load_restorer(path, task=task)
    return restorer.tasks, restorer.task_source


def test_a_file_that_does_not_say_is_for_what_its_user_says(tmp_path):
    path = put(tmp_path / "my faces.safetensors")
    assert sources(path) == (("restoration",), "sizes")
    for task in TASKS:
        assert sources(path, task) == ((task,), "user")
    assert sources(put(tmp_path / "painter.safetensors", PAINTER), "restoration") == (("restoration",), "user")


def test_a_file_that_says_it_is_for_that(tmp_path):
    network = seeded_network(SMALL_CONFIG)
    save_network(tmp_path / "x.safetensors", network, SMALL_CONFIG, "colorization", also=("restoration",))
    for task in (None, *TASKS):
        assert sources(tmp_path / "x.safetensors", task) == (("colorization", "restoration"), "file")


def test_a_published_name_with_the_published_sizes_says_it_too(tmp_path):
    for task in (None, "restoration"):
        assert sources(put(tmp_path / "codeformer_colorization.safetensors", PAINTER), task) == (
            ("colorization",),
            "file",
        )
        assert sources(put(tmp_path / "codeformer.safetensors"), task) == (("restoration",), "file")
    assert sources(put(tmp_path / "codeformer_inpainting.safetensors"))[1] == "sizes", "these are not its sizes"


def test_networks_with_one_task_need_not_say_it(tmp_path):
    network, config = seeded_network(SMALL_CONFIG.autoencoder), SMALL_CONFIG.autoencoder
    save_network(tmp_path / "x.safetensors", network, config, "autoencoder")
    assert sources(tmp_path / "x.safetensors", "restoration") == (("autoencoder",), "file")


def test_an_unknown_task_is_refused(tmp_path):
    path = put(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="task must be one of restoration, colorization, inpainting, got 'colorize'"):
        cf.load_restorer(path, task="colorize")


def test_the_error_for_another_task_tells_an_assumption_from_a_fact(tmp_path):
    assumed = cf.load_restorer(put(tmp_path / "painter.safetensors", PAINTER))
    with pytest.raises(ValueError, match=r"painter\.safetensors is taken as .* colorization by its sizes") as caught:
        check_task(assumed, "restoration")
    assert problem_of(caught.value) == "task_not_said"
    with pytest.raises(ValueError, match=r"painter\.safetensors is a model for colorization") as caught:
        check_task(replace(assumed, task_source="file"), "restoration")
    assert problem_of(caught.value) is None


@pytest.mark.parametrize("task", [None, "colorization"])
def test_a_report_says_what_is_assumed(tmp_path, task):
    restorer = cf.load_restorer(put(tmp_path / "x.safetensors"), task=task)
    assumed = {"restorer": "x.safetensors", "task": task or "restoration"}
    for kind in ("restored_by", "colorized_by", "filled_by"):
        assert ("task_assumed", None, assumed) in facts(made_by(kind, restorer))
        assert kinds(made_by(kind, replace(restorer, task_source="file"))) == {kind}


def test_a_guess_is_not_written_into_a_file(tmp_path):
    path = put(tmp_path / "x.safetensors")

    def saved(name: str, task: str | None) -> str | None:
        restorer = cf.load_restorer(path, task=task)
        metadata = read_metadata(save_restorer(restorer, tmp_path, name, dtype=torch.float32).path)
        assert metadata is not None and metadata.heads == SMALL_CONFIG.heads
        return metadata.task

    assert saved("guess", None) is None and sources(tmp_path / "guess.safetensors")[1] == "sizes"
    assert saved("said", "inpainting") == "inpainting"
    assert sources(tmp_path / "said.safetensors") == (("inpainting",), "file")


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def face(tmp_path) -> Path:
    path = tmp_path / "face.png"
    Image.new("RGB", (512, 512), (90, 120, 60)).save(path)
    return path


@pytest.mark.parametrize(("verb", "task"), [*zip(("restore", "colorize", "inpaint"), TASKS, strict=True)])
def test_the_verb_decides(tmp_path, face, capsys, verb, task):
    model = put(tmp_path / "mine.safetensors", TINY_CONFIG)
    words = [verb, str(face), "-o", str(tmp_path / "out"), "--aligned", "--model", str(model), "--device", "cpu"]
    assert cli.main(words) == 0
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count(line_of("task_assumed", restorer=model.name, task=task)) == 1


def test_a_published_model_for_another_task_is_refused(tmp_path, face, capsys):
    model = put(tmp_path / "codeformer_colorization.safetensors", PAINTER)
    assert cli.main(["restore", str(face), "-o", str(tmp_path / "out"), "--aligned", "--model", str(model)]) == 1
    assert "is a model for colorization" in capsys.readouterr().err


@pytest.mark.parametrize("task", [None, "colorization"])
def test_converting_and_exporting_call_a_guess_a_guess(tmp_path, capsys, task):
    model, written = put(tmp_path / "mine.safetensors"), tmp_path / "out.safetensors"
    words = ["--task", task] if task else []
    assert cli.main(["train", "export", str(model), "-o", str(written), *words]) == 0
    shown = capsys.readouterr().out
    metadata = read_metadata(written)
    assert metadata is not None and metadata.task == task
    assert ("doesn't say" in shown) == (task is None) and (task or "restoration") in shown
    assert cli.main(["weights", "convert", str(model), "-o", str(tmp_path / "converted.safetensors")]) == 0
    assert "restoration by its sizes; the file doesn't say" in capsys.readouterr().out
