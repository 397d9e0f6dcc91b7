"""What files say about themselves: believed where shapes are silent, held against them where they aren't."""

from __future__ import annotations

import json
import logging
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import codeformer_core as cf
from codeformer_core.models.architectures import detect_architecture
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.weights.metadata import LONGEST_ENTRY, CheckpointMetadata
from codeformer_core.weights.reading import read_metadata, read_state_dict
from codeformer_core.weights.safetensors_cache import read_header

from .conftest import SMALL_CONFIG, seeded_network

# 64 pixels, width 32.
AUTOENCODER = replace(SMALL_CONFIG.autoencoder, channel_multipliers=(1, 2), residual_blocks=1, attention_sizes=())
CONFIG = replace(SMALL_CONFIG, autoencoder=AUTOENCODER, layers=1, fuse_sizes=(32,))
GOOD = {"version": 1, "architecture": "codeformer", "task": "restoration", "image_size": 64, "heads": 4, "trained": {}}
SAID = CheckpointMetadata("codeformer", "restoration", 64, 4)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return {key: tensor.contiguous() for key, tensor in seeded_network(CONFIG).state_dict().items()}


@pytest.fixture(params=["ours", "published"])
def either(request, state) -> dict[str, Tensor]:
    """`state` in both layouts."""
    return state if request.param == "ours" else to_published(state, CONFIG)


@pytest.fixture(scope="module")
def autoencoder() -> dict[str, Tensor]:
    return {key: tensor.contiguous() for key, tensor in seeded_network(CONFIG.autoencoder).state_dict().items()}


@pytest.fixture
def write(tmp_path):
    """state, entry (JSON text, or what becomes JSON) -> a file whose header says so."""

    def to(state: dict[str, Tensor], entry: object) -> Path:
        path = tmp_path / "mine.safetensors"
        text = entry if isinstance(entry, str) else json.dumps(entry)
        save_file(state, path, metadata={"format": "pt", "codeformer": text})
        return path

    return to


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# --- writing and reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        SAID,
        CheckpointMetadata("vqgan", "autoencoder", 256),
        CheckpointMetadata(),
        CheckpointMetadata("codeformer", "restoration", 512, 8, pixel_path=(1.5, 5.0), fidelity=0.9),
        CheckpointMetadata(
            "codeformer", "inpainting", 512, 8, trained={"stage": "III", "Gesichter": 'schöne 😀 " \\ \n'}
        ),
    ],
)
def test_what_is_written_is_read(write, said):
    path = write({"x": torch.ones(1)}, said.to_header()["codeformer"])
    assert read_metadata(path) == read_metadata(str(path)) == said


@pytest.mark.parametrize("value", [1.5, -0.1, "high", True, float("nan")])
def test_a_fidelity_that_is_none_is_ignored_and_named(write, caplog, value):
    path = write({"x": torch.ones(1)}, {**GOOD, "fidelity": value})
    assert read_metadata(path) == SAID
    assert len(warnings_of(caplog)) == 1 and "codeformer.fidelity" in warnings_of(caplog)[0]


def test_the_restorer_recommends_what_its_file_says(write, state):
    assert cf.load_restorer(write(state, {**GOOD, "fidelity": 0.9}), device="cpu").recommended_fidelity == 0.9
    assert cf.load_restorer(write(state, GOOD), device="cpu").recommended_fidelity == 0.5


def test_the_entry_is_plain_json():
    header = replace(SAID, trained={"steps": "1,000"}).to_header()
    assert list(header) == ["codeformer"]
    assert json.loads(header["codeformer"]) == {**GOOD, "trained": {"steps": "1,000"}}
    assert header["codeformer"].isascii()
    assert "heads" not in json.loads(CheckpointMetadata("vqgan", "autoencoder", 256).to_header()["codeformer"])


@pytest.mark.parametrize("trained", [{"steps": 1000}, {1: "x"}, {"path": Path("x")}, {"none": None}])
def test_words_about_training_must_be_text(trained):
    with pytest.raises(ValueError, match=r"^trained: .*must be text; turn both into str$"):
        CheckpointMetadata(trained=trained).to_header()


def test_too_many_words_about_training():
    with pytest.raises(ValueError, match=r"trained: [\d,]+ characters in a file's header, at most 65,536"):
        CheckpointMetadata(trained={"log": "x" * LONGEST_ENTRY}).to_header()
    assert CheckpointMetadata(trained={"log": "x" * (LONGEST_ENTRY - 100)}).to_header()


def test_files_that_say_nothing(tmp_path, write):
    save_file({"x": torch.ones(1)}, tmp_path / "silent.safetensors")
    save_file({"x": torch.ones(1)}, tmp_path / "format.safetensors", metadata={"format": "pt"})
    torch.save({"x": torch.ones(1)}, tmp_path / "zip.pth")
    torch.save({"x": torch.ones(1)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "text.safetensors").write_text("no weights at all")
    (tmp_path / "folder.safetensors").mkdir()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 7
    assert [read_metadata(path) for path in [*paths, tmp_path / "not there"]] == [None] * 8


def test_unknown_keys_are_nobodys_business(write, caplog):
    path = write({"x": torch.ones(1)}, {**GOOD, "colour": "blue", "nested": {"deep": [1, 2]}})
    assert read_metadata(path) == SAID and warnings_of(caplog) == []


@pytest.mark.parametrize("version", [2, 0, "1", None, True, [1], 1e400])
def test_an_unknown_version_is_warned_of_and_read_as_far_as_known(write, caplog, version):
    path = write({"x": torch.ones(1)}, {**GOOD, "version": version})
    assert read_metadata(path) == SAID
    (text,) = warnings_of(caplog)
    assert str(path) in text and "version" in text and "this program knows 1" in text


# --- hostile entries: the file loads as it would without ----------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("not JSON", "is not JSON"),
        ('{"heads": 4}}', "is not JSON"),
        ("\x00\x1b[31m", "is not JSON"),
        ("[" * 60_000, "is not JSON (RecursionError"),
        ('{"a":' * 12_000, "is not JSON (RecursionError"),
        ('{"heads": 4, "x": "' + "y" * LONGEST_ENTRY + '"}', "has 65,557 characters, at most 65,536"),
        ("[4]", "is a list of 1, not an object"),
        ('"codeformer"', 'is "codeformer", not an object'),
        ("4", "is 4, not an object"),
        ("NaN", "is NaN, not an object"),
        ("null", "is null, not an object"),
    ],
)
def test_an_entry_that_is_no_use_is_ignored(write, state, caplog, entry, words):
    path = write(state, entry)
    assert read_metadata(path) is None
    (text,) = warnings_of(caplog)
    assert text.startswith(f"{path}: its header's codeformer {words}") and "the shapes alone decide" in text
    assert len(text) < 500
    assert cf.load_restorer(path).module.config.heads == 8


@pytest.mark.parametrize("depth", [100, 900, 960, 970, 980, 990, 1000, 5000])
def test_nesting_of_any_depth_raises_nothing(write, depth):
    """Also where it is just readable, and repeating it in a message would be too deep."""
    for key in ("architecture", "task", "image_size", "heads", "trained", "version", "unknown"):
        read_metadata(write({"x": torch.ones(1)}, json.dumps(GOOD)[:-1] + f', "{key}": {"[" * depth + "]" * depth}}}'))


@pytest.mark.parametrize("key", ["architecture", "task"])
@pytest.mark.parametrize("value", [4, 4.5, True, ["colorization"], {"a": 1}, float("nan")])
def test_words_of_a_wrong_type_are_ignored(write, state, caplog, key, value):
    path = write(state, {**GOOD, key: value})
    restorer = cf.load_restorer(path)
    assert (restorer.task, restorer.module.config.heads) == ("restoration", 4)
    (text,) = warnings_of(caplog)
    assert text.startswith(f"{path}: its header's codeformer.{key} is ") and text.endswith("not text; it is ignored")


def test_tasks_beside_the_first_are_read(write, state):
    tasks = ["restoration", "inpainting", "inpainting", "colorization"]
    assert cf.load_restorer(write(state, {**GOOD, "tasks": tasks})).tasks == (
        "restoration",
        "inpainting",
        "colorization",
    )


@pytest.mark.parametrize("tasks", ["inpainting", ["inpainting", 3], {"a": 1}, 4])
def test_tasks_that_are_no_list_are_ignored_and_named(write, state, caplog, tasks):
    assert cf.load_restorer(write(state, {**GOOD, "tasks": tasks})).tasks == ("restoration",)
    assert "codeformer.tasks is" in warnings_of(caplog)[0]


def test_tasks_of_a_newer_program_are_left_out_and_named(write, state, caplog):
    restorer = cf.load_restorer(write(state, {**GOOD, "tasks": ["restoration", "ageing", "inpainting"]}))
    assert restorer.tasks == ("restoration", "inpainting")
    assert 'tasks names "ageing"' in warnings_of(caplog)[0]


@pytest.mark.parametrize("trained", ["yes", 3, ["a"], float("nan")])
def test_odd_words_about_training_are_ignored(write, caplog, trained):
    assert read_metadata(write({"x": torch.ones(1)}, {**GOOD, "trained": trained})) == SAID
    assert "codeformer.trained is" in warnings_of(caplog)[0]


def test_what_is_text_about_training_stays(write, caplog):
    said = read_metadata(write({"x": torch.ones(1)}, {**GOOD, "trained": {"a": "x", "b": 3, "c": None, "d": {}}}))
    assert said == replace(SAID, trained={"a": "x"})
    assert 'codeformer.trained."b" is 3, not text; left out, and 2 more like it' in warnings_of(caplog)[0]


def test_lone_surrogates_are_read_and_can_be_printed(write, state, caplog):
    restorer = cf.load_restorer(write(state, '{"version": 1, "task": "\\ud800\\u001b[31m", "heads": 4}'))
    assert restorer.task == "restoration"
    (text,) = warnings_of(caplog)
    assert text.encode("utf-8") and '"\\ud800\\u001b[31m"' in text and "doesn't know" in text


@pytest.mark.parametrize("value", ["64", 64.5, -64, 0, True, [64], float("nan")])
def test_a_picture_size_that_is_none_where_the_shapes_tell_it(write, state, value):
    restorer = cf.load_restorer(write(state, {**GOOD, "image_size": value}))
    assert restorer.face_size == 64 and restorer.module.config.heads == 4


# --- contradictions --------------------------------------------------------------------------------------------------


def complaint(path: Path) -> str:
    with pytest.raises(cf.WeightsError) as caught:
        cf.load_restorer(path)
    text = str(caught.value)
    assert text.startswith(f"{path.name}: its header says codeformer.") and "export the network again" in text
    return text


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        (3, "heads = 3, but its width 32 can't be divided"),
        (64, "heads = 64, but its width 32 can't be divided"),
        (10**30, f"heads = {10**30}, but its width 32"),
        (float("nan"), "heads = NaN, but a divisor of its width 32 is needed"),
        (float("inf"), "heads = Infinity, but"),
        (4.0, "heads = 4.0, but"),
        (0, "heads = 0, but"),
        (-4, "heads = -4, but"),
        (True, "heads = true, but"),
        ("4", 'heads = "4", but'),
        ([4], "heads = a list of 1, but"),
        ({"heads": 4}, "heads = a JSON object of 1, but"),
        ("x" * 5000, 'heads = "' + "x" * 59 + "..., but"),
    ],
)
def test_heads_that_do_not_fit_the_width(write, either, heads, words):
    assert words in complaint(write(either, {**GOOD, "heads": heads}))


def test_a_number_too_long_for_python(write, state):
    """Python itself refuses to read it, newer ones at least; then the entry is no JSON."""
    path = write(state, '{"version": 1, "heads": ' + "9" * 20_000 + "}")
    try:
        assert cf.load_restorer(path).module.config.heads == 8
    except cf.WeightsError as error:
        assert "its width 32 can't be divided" in str(error)


@pytest.mark.parametrize("size", [32, 128, 512])
def test_another_picture_size_than_the_shapes(write, either, size):
    assert f"image_size = {size}, but its shapes are for 64 pixels" in complaint(
        write(either, {**GOOD, "image_size": size})
    )


def test_another_architecture_than_the_shapes(write, state, autoencoder):
    assert 'architecture = "vqgan", but its keys are those of "codeformer"' in complaint(
        write(state, {**GOOD, "architecture": "vqgan"})
    )
    assert 'architecture = "gfpgan", but' in complaint(write(state, {**GOOD, "architecture": "gfpgan"}))
    assert 'architecture = "codeformer", but its keys are those of "vqgan"' in complaint(write(autoencoder, GOOD))


def test_a_task_of_another_architecture(write, state, autoencoder):
    assert 'task = "autoencoder", but its keys are those of "codeformer", for restoration or' in complaint(
        write(state, {**GOOD, "task": "autoencoder"})
    )
    assert 'task = "inpainting", but its keys are those of "vqgan", for autoencoder' in complaint(
        write(autoencoder, {"version": 1, "task": "inpainting"})
    )


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (63, "image_size = 63, but its levels need a multiple of 2"),
        (0, "image_size = 0, but a number of pixels is needed"),
        (-64, "image_size = -64, but a number of pixels"),
        (float("nan"), "image_size = NaN, but a number of pixels"),
        ("256", 'image_size = "256", but a number of pixels'),
    ],
)
def test_an_autoencoders_picture_size_must_be_usable(write, autoencoder, size, words):
    header = {"version": 1, "architecture": "vqgan", "task": "autoencoder", "image_size": size}
    assert words in complaint(write(autoencoder, header))


def test_the_heads_of_an_autoencoder_are_ignored(write, autoencoder):
    assert cf.load_restorer(write(autoencoder, {"version": 1, "image_size": 128, "heads": "many"})).face_size == 128


def test_a_missing_tensor_is_still_the_first_thing_said(write, either):
    part = {key: tensor for key, tensor in either.items() if not key.endswith("mlp_in.bias") and "linear1.b" not in key}
    with pytest.raises(cf.WeightsError, match="1 missing keys"):
        cf.load_restorer(write(part, {**GOOD, "task": "autoencoder"}))


# --- what is said and what is assumed --------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16, 32])
def test_heads_are_taken_from_the_header(write, either, heads):
    path = write(either, {**GOOD, "heads": heads})
    restorer = cf.load_restorer(path)
    assert restorer.module.config == replace(CONFIG, heads=heads)
    faces = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = seeded_network(replace(CONFIG, heads=heads)).restore(faces, 0.5).clamp(-1, 1)
    assert torch.equal(restorer.restore(faces), wanted)


def test_a_silent_file_and_a_state_dict_are_as_before(either):
    assert (
        detect_architecture(either, "x")
        == detect_architecture(either, "x", None)
        == detect_architecture(either, "x", CheckpointMetadata())
    )
    restorer = cf.load_restorer(either)
    assert (restorer.task, restorer.module.config) == ("restoration", CONFIG)


@pytest.mark.parametrize("task", ["restoration", "colorization", "inpainting"])
def test_the_task_is_taken_from_the_header(write, either, task):
    assert cf.load_restorer(write(either, {**GOOD, "task": task})).task == task


def test_a_task_nobody_knows_is_warned_of(write, state, caplog):
    assert cf.load_restorer(write(state, {**GOOD, "task": "sharpening"})).task == "restoration"
    (text,) = warnings_of(caplog)
    assert text.startswith('mine.safetensors: its header says codeformer.task = "sharpening"')


# --- headers that break before ours is reached -----------------------------------------------------------------------


def raw_safetensors(path: Path, header: str) -> Path:
    text = header.encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def test_metadata_of_other_kinds(tmp_path):
    for metadata in ('{"codeformer": {"heads": 4}}', '{"codeformer": 4}', '["codeformer"]', '"codeformer"', "null"):
        path = raw_safetensors(tmp_path / "x.safetensors", f'{{"__metadata__": {metadata}}}')
        assert read_metadata(path) is None
        with pytest.raises(cf.WeightsError, match=r"x\.safetensors"):
            read_state_dict(path)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_whole_header_nested_too_deep(tmp_path, opening):
    path = raw_safetensors(tmp_path / "x.safetensors", '{"a":' + opening * 100_000)
    assert read_header(path) is None and read_metadata(path) is None


def test_a_header_longer_than_the_file(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 90_000_000) + b'{"__metadata__": {"codeformer": "{}"}}')
    assert read_metadata(path) is None
    path.write_bytes(struct.pack("<Q", 2**63) + b"{")
    assert read_metadata(path) is None
