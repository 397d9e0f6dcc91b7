"""Reading weight files: every good form gives the same tensors, every bad one an error that says what it is."""

import io
import json
import logging
import os
import pickle
import shutil
import tarfile
import zipfile
from collections import OrderedDict, namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from codeformer_core.weights import catalog
from codeformer_core.weights.reading import WeightsError, read_state_dict, read_weights

STATE = {
    "conv.weight": torch.arange(24.0).reshape(2, 3, 4),
    "conv.bias": torch.tensor([1.5, -2.0]),
    "steps": torch.tensor(7),
}


def same(state: dict, expected: dict = STATE) -> bool:
    return state.keys() == expected.keys() and all(
        torch.equal(state[key], tensor) and state[key].dtype == tensor.dtype for key, tensor in expected.items()
    )


def load(path: Path) -> dict:
    """As those do who have use for the weights."""
    file = read_weights(path)
    file.keep_copy(file.state_dict)
    return file.state_dict


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def known_file(monkeypatch) -> catalog.CatalogEntry:
    """codeformer.pth's entry, with a size that test files come close to."""
    entry = replace(catalog.CATALOG[0], size=50_000)
    monkeypatch.setattr(catalog, "CATALOG", (entry, *catalog.CATALOG[1:]))
    return entry


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: OrderedDict(state),
        lambda state: {"params_ema": state},
        lambda state: {"params": {"conv.bias": torch.zeros(2)}, "params_ema": state},
        lambda state: {"params": state, "iter": 5},
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}}},
        lambda state: {"model": {"params_ema": state}},
        lambda state: {"state_dict": {"model": OrderedDict(state)}},
        lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
        lambda state: {"params_ema": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {**state, "epoch": 3, "note": "text", "nothing": None},
        lambda state: {key: torch.nn.Parameter(t, requires_grad=False) for key, t in state.items()},
    ],
)
@pytest.mark.parametrize("new_format", [True, False])
def test_pickles(tmp_path, wrap, new_format):
    path = tmp_path / "faces.pth"
    torch.save(wrap(STATE), path, _use_new_zipfile_serialization=new_format)
    assert same(load(path))
    assert names(tmp_path) == ["faces.pth", "faces.safetensors"]
    assert same(load_file(tmp_path / "faces.safetensors"))
    assert same(read_state_dict(str(path))), "and once more, from the copy"


def test_a_prefix_that_not_all_keys_have_stays(tmp_path):
    state = {"module.a": torch.zeros(1), "b": torch.ones(1)}
    torch.save(state, tmp_path / "x.pth")
    assert same(read_state_dict(tmp_path / "x.pth"), state)


def test_safetensors(tmp_path):
    save_file({f"module.{key}": tensor for key, tensor in STATE.items()}, tmp_path / "x.safetensors")
    assert same(read_state_dict(tmp_path / "x.safetensors"))
    assert names(tmp_path) == ["x.safetensors"]


def test_content_counts_and_not_the_ending(tmp_path):
    save_file(STATE, tmp_path / "x.pth")
    torch.save(STATE, tmp_path / "y.safetensors")
    assert same(read_state_dict(tmp_path / "x.pth"))
    assert same(read_state_dict(tmp_path / "y.safetensors"))


def test_compressed_zip_is_read_right(tmp_path):
    buffer = io.BytesIO()
    torch.save({"params": STATE}, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as z:
        for name in plain.namelist():
            z.writestr(name, plain.read(name))
    assert same(read_state_dict(tmp_path / "x.pth"))


# What is kept beside a pickle


def test_copy_tells_its_source_and_is_used(tmp_path):
    path, copy = tmp_path / "x.pth", tmp_path / "x.safetensors"
    torch.save(STATE, path)
    load(path)
    status = path.stat()
    with safe_open(copy, "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "written_by": "codeformer_core",
            "source_file": "x.pth",
            "source_size": str(status.st_size),
            "source_mtime_ns": str(status.st_mtime_ns),
        }
    # The pickle becomes unreadable with size and time kept: only the copy can have given the answer.
    path.write_bytes(b"\x80\x02" + bytes(status.st_size - 2))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert same(load(path))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes of this kind")
def test_copy_has_the_mode_of_any_new_file(tmp_path):
    torch.save(STATE, tmp_path / "x.pth")
    load(tmp_path / "x.pth")
    (tmp_path / "new").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_copy_follows_a_changed_pickle(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(STATE, path)
    load(path)
    changed = {"conv.weight": torch.ones(5)}
    torch.save(changed, path)
    assert same(load(path), changed)
    assert same(load_file(tmp_path / "x.safetensors"), changed)


def test_damaged_copy_is_written_again(tmp_path, caplog):
    path, copy = tmp_path / "x.pth", tmp_path / "x.safetensors"
    torch.save(STATE, path)
    load(path)
    copy.write_bytes(copy.read_bytes()[:-10])
    with caplog.at_level(logging.WARNING):
        assert same(load(path))
    assert "can't be used" in caplog.text and same(load_file(copy))


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_somebody_else_is_left_alone(tmp_path, metadata):
    theirs = {"theirs": torch.ones(3)}
    save_file(theirs, tmp_path / "x.safetensors", metadata=metadata)
    torch.save(STATE, tmp_path / "x.pth")
    assert same(load(tmp_path / "x.pth"))
    assert same(load_file(tmp_path / "x.safetensors"), theirs)


def test_two_pickles_of_one_name_do_not_fight_for_the_copy(tmp_path):
    other = {"other": torch.ones(3)}
    torch.save(STATE, tmp_path / "x.pth")
    torch.save(other, tmp_path / "x.ckpt")
    load(tmp_path / "x.pth")
    assert same(load(tmp_path / "x.ckpt"), other)
    assert same(load_file(tmp_path / "x.safetensors"))


def test_shared_and_strided_tensors_are_kept(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    state = {"a": base, "tied": base, "part": base[:, 1], "turned": base.T}
    torch.save(state, tmp_path / "x.pth")
    assert same(load(tmp_path / "x.pth"), state)
    assert same(load_file(tmp_path / "x.safetensors"), state)


def test_reading_alone_leaves_nothing(tmp_path):
    torch.save(STATE, tmp_path / "x.pth")
    assert same(read_state_dict(tmp_path / "x.pth"))
    assert names(tmp_path) == ["x.pth"]


def test_no_room_for_a_copy(tmp_path, monkeypatch, caplog):
    torch.save(STATE, tmp_path / "x.pth")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with caplog.at_level(logging.WARNING):
        assert same(load(tmp_path / "x.pth"))
    assert "no safetensors copy of x.pth" in caplog.text and names(tmp_path) == ["x.pth"]


def test_failing_write_leaves_no_temporary_file(tmp_path, monkeypatch, caplog):
    torch.save(STATE, tmp_path / "x.pth")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with caplog.at_level(logging.WARNING):
        assert same(load(tmp_path / "x.pth"))
    assert "No space left" in caplog.text and names(tmp_path) == ["x.pth"]


NO_PLAIN_NUMBERS = {
    "sparse": (lambda: torch.ones(2).to_sparse(), "whose a is sparse or quantized"),
    "meta": (lambda: torch.ones(2, device="meta"), "whose a is a name and a size without numbers"),
    "repeated": (lambda: torch.ones(1).expand(2**40), "whose a claims 4,398,046,511,104 bytes where 4 are stored"),
}


@pytest.mark.parametrize("what", NO_PLAIN_NUMBERS)
def test_tensors_that_are_no_plain_numbers(tmp_path, what):
    make, said = NO_PLAIN_NUMBERS[what]
    torch.save({"a": make(), "b": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=said):
        read_state_dict(tmp_path / "x.pth")
    assert names(tmp_path) == ["x.pth"]


def test_a_checkpoint_that_holds_itself(tmp_path):
    state: dict = {"a": torch.ones(1)}
    state["params"] = state
    torch.save(state, tmp_path / "x.pth")
    assert set(read_state_dict(tmp_path / "x.pth")) == {"a"}
    endless: dict = {}
    endless["params"] = endless
    torch.save(endless, tmp_path / "y.pth")
    with pytest.raises(WeightsError, match=r"y\.pth is a checkpoint without weights"):
        read_state_dict(tmp_path / "y.pth")


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(2**22))
    with pytest.raises(WeightsError, match="unpacks to 4,194,304, which no weights do"):
        read_state_dict(tmp_path / "x.pth")


def test_what_torch_remarks_about_a_pickle_stays_out_of_sight(tmp_path, recwarn):
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"a": Evil(tmp_path / "ran")}, protocol=4))
    with pytest.raises(WeightsError, match="refused, nothing was run"):
        read_state_dict(tmp_path / "x.pth")
    assert not [str(warning.message) for warning in recwarn]


def test_read_only_folder(tmp_path, caplog):
    torch.save(STATE, tmp_path / "x.pth")
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("permissions of a folder don't bind this user (root or Windows)")
    try:
        with caplog.at_level(logging.WARNING):
            assert same(load(tmp_path / "x.pth"))
    finally:
        tmp_path.chmod(0o755)
    assert "Permission denied" in caplog.text and names(tmp_path) == ["x.pth"]


# Files that are no good


class Evil:
    """Unpickled carelessly it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def save_torch(value, path: Path) -> None:
    torch.save(value, path)


def save_torch_legacy(value, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_pickle(value, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


def save_tar(value, path: Path) -> None:
    data = pickle.dumps(value)
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("storages")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("save", [save_torch, save_torch_legacy, save_pickle])
@pytest.mark.parametrize("name", ["x.pth", "codeformer.pth"])
def test_malicious_pickle_is_refused_and_not_run(tmp_path, save, name):
    trap = tmp_path / "ran"
    save({**STATE, "evil": Evil(trap)}, tmp_path / name)
    with pytest.raises(WeightsError, match=r"(posix|nt)\.system.*refused, nothing was run") as caught:
        read_state_dict(tmp_path / name)
    assert not trap.exists() and names(tmp_path) == [name]
    assert (catalog.CATALOG[0].sha256 in str(caught.value)) == (name == "codeformer.pth")
    assert "weights_only" not in str(caught.value), "torch's advice to switch its guard off is not passed on"


def test_malicious_zip_that_torchs_scan_cannot_read_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "ran"
    torch.save({"evil": Evil(trap)}, tmp_path / "x.pth", pickle_protocol=4)
    with pytest.raises(WeightsError, match="no readable torch checkpoint"):
        read_state_dict(tmp_path / "x.pth")
    assert not trap.exists()


def test_malicious_tar_never_reaches_torch(tmp_path):
    trap = tmp_path / "ran"
    save_tar(Evil(trap), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="tar archive"):
        read_state_dict(tmp_path / "x.pth")
    assert not trap.exists()


def test_torchscript_never_reaches_torch(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
        archive.writestr("x/constants.pkl", b"\x80\x02).")
    with pytest.raises(WeightsError, match="TorchScript program"):
        read_state_dict(tmp_path / "x.pth")


def torch_bytes(value=None) -> bytes:
    buffer = io.BytesIO()
    torch.save({"params_ema": STATE | {"big": torch.ones(5000)}} if value is None else value, buffer)
    return buffer.getvalue()


def legacy_bytes() -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE | {"big": torch.ones(5000)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("codeformer/readme.txt", "hello")
    return buffer.getvalue()


def safetensors_bytes() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(400)


def with_flipped_bit(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


BAD_FILES = {
    "empty": (b"", "an empty file of 0 bytes"),
    "html": (b"\n<!DOCTYPE html><html><title>404</title>", "an HTML page"),
    "xml": (b"<?xml version='1.0'?><Error/>", "an XML page"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:10\nsize 376637898\n",
        r"a Git LFS pointer that stands for 376,637,898 bytes",
    ),
    "text": (b"hello there", "a text beginning with 'hello there'"),
    "png": (b"\x89PNG\r\n\x1a\n123", "a PNG image"),
    "zeros": (bytes(4000), "nothing but zero bytes"),
    "unknown": (bytes(range(7, 90)), r"of no known kind \(its first bytes: 07 08"),
    "gguf": (b"GGUF\x03\0\0\0", "a GGUF file"),
    "half a zip": (torch_bytes()[:1234], "truncated: 1,234 of 50,000 bytes"),
    "half a zip near its end": (torch_bytes()[:-30], r"truncated: .* of 50,000 bytes"),
    "half a legacy file": (legacy_bytes()[:15_000], "truncated: 15,000 of 50,000 bytes"),
    "start of a legacy file": (legacy_bytes()[:80], "truncated: 80 of 50,000 bytes"),
    "half a safetensors file": (safetensors_bytes()[:200], "truncated: 200 of 473 bytes"),
    "start of a safetensors file": (safetensors_bytes()[:20], "truncated: 20 of at least 73 bytes"),
    "bit flipped": (with_flipped_bit(torch_bytes()), "damaged: .*doesn't fit its checksum"),
    "other zip": (zip_bytes(), r"a zip that holds no torch checkpoint \(in it: codeformer/readme.txt\)"),
    "single tensor": (torch_bytes(torch.ones(3)), "a single tensor"),
    "list": (torch_bytes([torch.ones(3)]), "a pickled list"),
    "no tensors": (torch_bytes({"epoch": 3, "optimizer": {}}), r"without weights \(in it: epoch, optimizer"),
    "nothing": (torch_bytes({}), "without weights"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_bad_file_says_what_it_is_and_how_to_get_a_good_one(tmp_path, known_file, what):
    content, found = BAD_FILES[what]
    path = tmp_path / "codeformer.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=found) as caught:
        read_state_dict(path)
    message = str(caught.value)
    for needed in (str(path), known_file.sha256, "50,000 bytes", known_file.url):
        assert needed in message
    assert "weights download codeformer" in message
    assert path.read_bytes() == content and names(tmp_path) == ["codeformer.pth"]


def test_bad_file_the_catalog_does_not_know(tmp_path):
    (tmp_path / "x.pth").write_bytes(torch_bytes()[:1234])
    with pytest.raises(WeightsError, match=r"x\.pth is truncated or damaged: 1,234 bytes") as caught:
        read_state_dict(tmp_path / "x.pth")
    assert "should be" not in str(caught.value) and "another file" in str(caught.value)


def test_plain_pickle_of_numbers(tmp_path):
    save_pickle({"a": [1, 2, 3]}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="no readable torch checkpoint"):
        read_state_dict(tmp_path / "x.pth")


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"codeformer\.pth is not there.*weights download codeformer"):
        read_state_dict(tmp_path / "codeformer.pth")
    with pytest.raises(WeightsError, match=r"mine\.pth is not there\. Check the name"):
        read_state_dict(tmp_path / "mine.pth")


def test_folder_instead_of_a_file(tmp_path):
    with pytest.raises(WeightsError, match="is a folder"):
        read_state_dict(tmp_path)
