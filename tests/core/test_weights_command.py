"""`weights list | download | convert | verify`, run as the command line mounts it."""

import argparse
import hashlib
import io
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from codeformer_core.commands import weights as command
from codeformer_core.commands.errors import Stopped
from codeformer_core.models.checkpoints import open_checkpoint
from codeformer_core.models.codeformer.convert import to_published
from codeformer_core.networks.codeformer import CodeFormer, CodeFormerConfig
from codeformer_core.networks.vqgan import AutoencoderConfig
from codeformer_core.weights import catalog, folders
from codeformer_core.weights.reading import read_state_dict
from codeformer_core.weights.safetensors_cache import keep_copy

BODY = b"face weights " * 1000
TINY = CodeFormerConfig(
    autoencoder=AutoencoderConfig(
        image_size=64,
        base_channels=32,
        channel_multipliers=(1, 2),
        residual_blocks=1,
        attention_sizes=(32,),
        codebook_size=16,
        code_channels=64,
    ),
    width=32,
    layers=1,
    heads=8,
    mlp_width=48,
    fuse_sizes=(32,),
)


def weights(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing on the tests' output."""


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """An empty models root that is the only one."""
    root = tmp_path / "models"
    monkeypatch.setattr(command, "default_roots", lambda: [root])
    return root


@pytest.fixture
def served(tmp_path, monkeypatch) -> Path:
    """A folder that a server on the loopback gives out, with codeformer.pth of a few bytes in the catalog."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "codeformer.pth").write_bytes(BODY)
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        entry = replace(
            catalog.CATALOG[0],
            url=f"http://127.0.0.1:{server.server_port}/codeformer.pth",
            mirrors=(),
            size=len(BODY),
            sha256=hashlib.sha256(BODY).hexdigest(),
        )
        for module in (catalog, command):
            monkeypatch.setattr(module, "CATALOG", (entry, *catalog.CATALOG[1:]))
        yield folder
        server.shutdown()
        thread.join()


def test_list(models, capsys):
    path = models / "facerestore_models" / "codeformer-v0.1.0.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert weights("list") == 0
    lines = capsys.readouterr().out.splitlines()
    by_name = {line.split()[0]: line for line in lines if line.strip()}
    assert set(by_name) >= {entry.name for entry in catalog.CATALOG}
    assert str(path) in by_name["codeformer"] and "359.2 MiB" in by_name["codeformer"]
    assert "S-Lab" in by_name["codeformer"] and "confirmed" in by_name["codeformer"]
    assert "not installed" in by_name["vqgan_code1024"] and "one source" in by_name["vqgan_code1024"]
    assert by_name["yunet"].endswith("face_detection_yunet_2023mar.onnx (comes with the package)")
    assert by_name["codeformer_starter"].endswith("codeformer_starter.safetensors (comes with the package)")
    assert "Apache-2.0" in by_name["codeformer_starter"] and "comes with" not in by_name["codeformer"]
    assert str(models) in lines[-1]


def test_download(models, served, capsys):
    assert weights("download", "codeformer") == 0
    path = models / "facerestore_models" / "codeformer.pth"
    assert path.read_bytes() == BODY
    out, err = capsys.readouterr()
    assert out.index("S-Lab License 1.0 (non-commercial") < out.index(f"  {path}")
    assert "100 %" in err and "\r" not in err
    assert weights("download", "codeformer.pth") == 0
    assert f"already installed as {path}" in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_download_in_a_terminal_draws_one_line(models, served, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert weights("download", "codeformer") == 0
    drawn = terminal.getvalue()
    assert drawn.count("\n") == 1 and drawn.startswith("\r")
    last = drawn.rstrip("\n").rpartition("\r")[2]
    assert "codeformer.pth: 100%" in last and "12.7k/12.7k" in last and "B/s" in last


def test_download_to_a_folder(models, served, tmp_path):
    assert weights("download", "codeformer", "--folder", tmp_path / "here") == 0
    assert (tmp_path / "here" / "codeformer.pth").read_bytes() == BODY and not models.exists()


def test_download_of_an_unknown_name_begins_nothing(models, served, capsys):
    assert weights("download", "codeformer", "codefromer") == 1
    assert "Did you mean codeformer?" in capsys.readouterr().err and not models.exists()


@pytest.mark.parametrize("where", [(), ("--folder", "here")])
def test_what_comes_with_the_package_is_not_downloaded(models, tmp_path, monkeypatch, capsys, where):
    monkeypatch.chdir(tmp_path)
    assert weights("download", "codeformer_starter", *where) == 0
    assert "codeformer_starter: already installed as" in capsys.readouterr().out
    assert not models.exists() and not (tmp_path / "here").exists()
    monkeypatch.setattr(folders, "ASSETS_FOLDER", tmp_path / "gone")
    assert weights("download", "codeformer_starter", *where) == 1
    assert "codeformer_starter.safetensors can't be downloaded: install this package again" in capsys.readouterr().err


def test_failed_download(models, served, capsys):
    (served / "codeformer.pth").unlink()
    assert weights("download", "codeformer") == 1
    err = capsys.readouterr().err
    assert "HTTP 404" in err and str(models / "facerestore_models" / "codeformer.pth") in err


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (Stopped(signal.SIGTERM), 143)])
def test_a_stopped_download_says_what_is_kept(models, served, capsys, monkeypatch, stop, code):
    def interrupted(entry, folder, on_progress):
        folder.mkdir(parents=True)
        (folder / "codeformer.pth.part").write_bytes(BODY[:1234])
        raise stop

    monkeypatch.setattr(command, "download", interrupted)
    assert weights("download", "codeformer") == code
    err = capsys.readouterr().err
    assert "1,234 bytes are kept" in err and "codeformer.pth.part" in err


def test_verify_installed(models, served, capsys):
    assert weights("download", "codeformer") == 0
    capsys.readouterr()
    assert weights("verify") == 0
    out = capsys.readouterr().out
    assert "GOOD" in out and "codeformer.pth" in out and "yunet" in out
    assert "codeformer_starter.safetensors: codeformer_starter" in out
    (models / "facerestore_models" / "codeformer.pth").write_bytes(BODY[:-1])
    assert weights("verify") == 1
    out = capsys.readouterr().out
    assert "BAD" in out and "12,999 bytes, expected 13,000" in out and "download codeformer" in out


def test_verify_a_damaged_file_of_the_package(tmp_path, capsys):
    path = tmp_path / "codeformer_starter.safetensors"
    path.write_bytes(b"broken")
    assert weights("verify", path) == 1
    out = capsys.readouterr().out
    assert "BAD" in out and "6 bytes, expected" in out and "Delete it and install this package again" in out


def test_verify_named_files(tmp_path, served, capsys):
    (tmp_path / "other.pth").write_bytes(BODY)
    (tmp_path / "mine.pth").write_bytes(b"mine")
    (tmp_path / "vqgan_code1024.pth").write_bytes(b"new version")
    files = [tmp_path / name for name in ("other.pth", "mine.pth", "vqgan_code1024.pth")]
    assert weights("verify", *files) == 0
    other, mine, vqgan = capsys.readouterr().out.splitlines()
    assert other.startswith("GOOD") and "codeformer, told by its hash" in other
    assert mine.startswith("UNKNOWN") and hashlib.sha256(b"mine").hexdigest() in mine
    assert vqgan.startswith("DIFFERENT") and "one source" in vqgan
    assert weights("verify", tmp_path / "none.pth") == 1
    assert "MISSING" in capsys.readouterr().out


def test_verify_tells_where_a_copy_comes_from(tmp_path, capsys):
    path, copy = tmp_path / "codeformer.pth", tmp_path / "codeformer.safetensors"
    torch.save({"a": torch.zeros(3)}, path)
    keep_copy(read_state_dict(path), path, path.stat())
    assert weights("verify", copy) == 0
    assert "a copy of codeformer.pth" in (first := capsys.readouterr().out) and "as it is now" in first
    torch.save({"a": torch.zeros(300)}, path)
    assert weights("verify", copy) == 0
    assert capsys.readouterr().out.startswith("OUTDATED")
    path.unlink()
    assert weights("verify", copy) == 0
    assert "no longer there" in capsys.readouterr().out


@pytest.fixture
def published(tmp_path) -> dict[str, torch.Tensor]:
    """A tiny CodeFormer in the published layout, saved as the official files are."""
    torch.manual_seed(0)
    state = to_published(CodeFormer(TINY).state_dict(), TINY)
    torch.save({"params_ema": state}, tmp_path / "tiny.pth")
    return state


def test_convert_both_ways(tmp_path, published, capsys):
    ours, back = tmp_path / "new" / "ours.safetensors", tmp_path / "back.safetensors"
    assert weights("convert", tmp_path / "tiny.pth", "-o", ours, "--layout", "ours") == 0
    assert "codeformer" in (out := capsys.readouterr().out) and "ours layout" in out
    CodeFormer(TINY).load_state_dict(load_file(ours), strict=True)
    assert weights("convert", ours, "-o", back) == 0
    returned = load_file(back)
    assert returned.keys() == published.keys()
    assert all(torch.equal(returned[key], tensor) for key, tensor in published.items())


def test_convert_keeps_what_only_the_name_said(tmp_path, published, capsys):
    named = (tmp_path / "tiny.pth").rename(tmp_path / "codeformer.pth")

    assert weights("convert", named, "-o", tmp_path / "mine.safetensors") == 0

    opened = open_checkpoint(tmp_path / "mine.safetensors")
    assert (opened.checkpoint.task, opened.checkpoint.task_source) == ("restoration", "file")
    assert weights("convert", named.rename(tmp_path / "other.pth"), "-o", tmp_path / "other.safetensors") == 0
    assert open_checkpoint(tmp_path / "other.safetensors").checkpoint.task_source == "sizes"


def test_convert_refuses_a_layout_that_has_no_place_for_all(tmp_path, capsys):
    target = tmp_path / "starter.safetensors"
    starter = folders.ASSETS_FOLDER / "codeformer_starter.safetensors"
    assert weights("convert", str(starter), "-o", str(target)) == 1
    assert "--layout ours" in capsys.readouterr().err and not target.exists()


def test_convert_default_output_is_never_overwritten(tmp_path, published, capsys):
    assert weights("convert", tmp_path / "tiny.pth") == 0
    copy = tmp_path / "tiny.safetensors"
    assert load_file(copy).keys() == published.keys()
    save_file({"mine": torch.ones(1)}, copy)
    assert weights("convert", tmp_path / "tiny.pth") == 1
    assert "is there already" in capsys.readouterr().err and set(load_file(copy)) == {"mine"}


@pytest.mark.parametrize(
    ("output", "complaint"), [("x.pth", "only safetensors"), ("file/x.safetensors", "can't be written")]
)
def test_convert_to_a_bad_place(tmp_path, published, capsys, output, complaint):
    (tmp_path / "file").write_bytes(b"")
    assert weights("convert", tmp_path / "tiny.pth", "-o", tmp_path / output) == 1
    assert complaint in capsys.readouterr().err


def test_convert_of_what_is_no_model(tmp_path, capsys):
    (tmp_path / "x.pth").write_bytes(b"<html>")
    assert weights("convert", tmp_path / "x.pth") == 1
    assert "an HTML page" in capsys.readouterr().err
    torch.save({"a": torch.zeros(1)}, tmp_path / "y.pth")
    assert weights("convert", tmp_path / "y.pth") == 1
    assert "y.pth" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.safetensors"))
