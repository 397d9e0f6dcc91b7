"""Where weight files are looked for."""

import json
import os
from pathlib import Path

import pytest

from codeformer_core.runtime.folders import folders_named
from codeformer_core.weights.catalog import find_entry
from codeformer_core.weights.folders import (
    ASSETS_FOLDER,
    default_roots,
    download_folder,
    find_weights,
)
from codeformer_core.weights.safetensors_cache import source_mark

CODEFORMER = find_entry("codeformer")


def put(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def safetensors_with(metadata: dict | None) -> bytes:
    header = json.dumps({} if metadata is None else {"__metadata__": metadata}).encode()
    return len(header).to_bytes(8, "little") + header


def test_default_roots_in_order(tmp_path):
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "ComfyUI-CodeFormer" / "codeformer_core"
    mine = os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b"), str(tmp_path / "a")])
    environ = {"CODEFORMER_MODELS": mine, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert default_roots(environ, pack) == [
        tmp_path / "a",
        tmp_path / "b",
        tmp_path / "ComfyUI" / "models",
        tmp_path / "cache" / "comfyui-codeformer" / "models",
    ]


def test_default_roots_without_a_host(tmp_path):
    pack = tmp_path / "site-packages" / "codeformer_core"
    local = {"LOCALAPPDATA": str(tmp_path / "local")}
    assert default_roots(local, pack) == [tmp_path / "local" / "comfyui-codeformer" / "models"]
    home = Path(os.path.expanduser("~"))
    assert default_roots({}, pack) == [home / ".cache" / "comfyui-codeformer" / "models"]


def test_download_folder(tmp_path):
    assert download_folder(CODEFORMER, [tmp_path, tmp_path / "b"]) == tmp_path / "facerestore_models"
    with pytest.raises(ValueError, match=r"codeformer\.pth.*CODEFORMER_MODELS"):
        download_folder(CODEFORMER, [])


@pytest.mark.parametrize("folder", ["facerestore_models", "codeformer", "Codeformer", "GFPGAN", "facedetection", "."])
@pytest.mark.parametrize("name", ["codeformer.pth", "codeformer.safetensors", "codeformer-v0.1.0.pth"])
@pytest.mark.parametrize("wanted", [CODEFORMER, "codeformer", "codeformer.pth"])
def test_finds_any_name_in_any_known_folder(tmp_path, folder, name, wanted):
    path = put(tmp_path / "second" / folder / name)
    assert find_weights(wanted, [tmp_path / "first", tmp_path / "second"]) == path


def test_folders_are_named_in_any_case(tmp_path):
    assert folders_named(tmp_path, "codeformer") == [tmp_path / "codeformer"], "where one would be made"
    assert folders_named(tmp_path / "gone", "codeformer") == [tmp_path / "gone" / "codeformer"]
    (tmp_path / "Codeformer").mkdir()
    assert folders_named(tmp_path, "codeformer") == [tmp_path / "Codeformer"]
    (tmp_path / "codeformer").mkdir(exist_ok=True)
    if not os.path.samefile(tmp_path / "codeformer", tmp_path / "Codeformer"):
        assert folders_named(tmp_path, "codeformer") == [tmp_path / "codeformer", tmp_path / "Codeformer"]


def test_own_folder_and_first_root_win(tmp_path):
    put(tmp_path / "b" / "facerestore_models" / "codeformer.pth")
    put(tmp_path / "a" / "codeformer.pth")
    best = put(tmp_path / "a" / "facerestore_models" / "codeformer.pth")
    assert find_weights(CODEFORMER, [tmp_path / "a", tmp_path / "b"]) == best


def test_a_file_the_catalog_does_not_know(tmp_path):
    path = put(tmp_path / "codeformer" / "my_faces.pth")
    assert find_weights("my_faces.pth", [tmp_path]) == path
    assert find_weights("others.pth", [tmp_path]) is None


def test_asked_name_wins_over_other_names_of_the_same_bytes(tmp_path):
    put(tmp_path / "facerestore_models" / "codeformer.pth")
    alias = put(tmp_path / "facerestore_models" / "codeformer-v0.1.0.pth")
    assert find_weights("codeformer-v0.1.0.pth", [tmp_path]) == alias


@pytest.mark.parametrize("name", ["yunet", "codeformer_starter"])
def test_shipped_files_come_last(tmp_path, name):
    entry = find_entry(name)
    assert find_weights(entry, [tmp_path]) == ASSETS_FOLDER / entry.filename
    own = put(tmp_path / entry.folder / entry.filename)
    assert find_weights(entry, [tmp_path]) == own


def test_safetensors_beside_a_pickle(tmp_path):
    pickle = put(tmp_path / "facerestore_models" / "codeformer.pth")
    copy = put(pickle.with_suffix(".safetensors"), safetensors_with(None))
    assert find_weights(CODEFORMER, [tmp_path]) == copy, "a user's own safetensors is preferred"
    copy.write_bytes(safetensors_with(source_mark(pickle, pickle.stat())))
    assert find_weights(CODEFORMER, [tmp_path]) == copy, "our copy of this very file is preferred"
    pickle.write_bytes(b"other weights")
    assert find_weights(CODEFORMER, [tmp_path]) == pickle, "our copy of an older state is not"
    copy.write_bytes(b"broken")
    assert find_weights(CODEFORMER, [tmp_path]) == pickle, "a damaged one is not"


def test_a_folder_of_that_name_is_no_file(tmp_path):
    (tmp_path / "facerestore_models" / "codeformer.pth").mkdir(parents=True)
    assert find_weights(CODEFORMER, [tmp_path]) is None
