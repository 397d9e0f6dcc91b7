"""The loaders in a real ComfyUI: what they offer, what they refuse and with which words."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from codeformer_core.weights.catalog import DETECTORS, find_entry
from codeformer_core.weights.folders import find_weights

from .prompts import counts, report, restore_prompt, tells
from .server import REPOSITORY, Server, ServerFailed
from .workflow import load_workflow

# What restores, colorizes and inpaints without a download.
STARTERS = ("codeformer_starter", "starter_colorization", "starter_inpainting")
PUBLISHED = ("codeformer.pth", "codeformer_colorization.pth", "codeformer_inpainting.pth")
OTHERS = ("VQFR_v2.pth", "GFPGANv1.4.pth", "GFPGANv1.3.pth", "GFPGANCleanv1-NoCE-C2.pth", "RestoreFormer.pth")
# In the order in which auto prefers them; they are on every machine.
SHIPPED_DETECTORS = [name for name in DETECTORS if find_weights(name, [])]


def definition(server: Server, kind: str) -> dict[str, Any]:
    return server.get(f"/object_info/{kind}")[kind]


def options(server: Server, kind: str, name: str) -> list[str]:
    return definition(server, kind)["input"]["required"][name][1]["options"]


@contextmanager
def without_codeformer(server: Server) -> Iterator[None]:
    """As on a machine where nothing was downloaded yet."""
    files = list((server.base / "models" / "facerestore_models").glob("codeformer.*"))
    assert files
    for file in files:
        file.rename(server.base / file.name)
    try:
        yield
    finally:
        for file in files:
            (server.base / file.name).rename(file)


def test_rarely_used_inputs_are_advanced(server: Server):
    inputs = definition(server, "CodeFormerFaceRestore")["input"]["required"]
    advanced = {name for name, spec in inputs.items() if spec[1].get("advanced")}
    assert advanced == {"confidence", "smallest_face", "faces", "mask", "opacity", "parity"}
    # Below 0 it is the model's own.
    fidelity = {"default": -1.0, "min": -1.0, "max": 1.0, "step": 0.01, "tooltip": ""}
    assert inputs["fidelity"][1] | {"tooltip": ""} == fidelity


def test_search_words_where_the_host_knows_them(server: Server):
    info = definition(server, "CodeFormerFaceRestore")
    if "search_aliases" in definition(server, "LoadImage"):
        assert {"codeformer", "face restore", "face fix", "gfpgan"} <= set(info["search_aliases"])
    else:
        assert "search_aliases" not in info


def test_dropdowns_show_what_is_here_and_what_can_be_fetched(server: Server):
    # The detector that lies among the restorers is none of them; the user's own folder counts.
    # Of those that only come by hand, nothing is offered.
    assert find_entry("vqfr_v1").by_hand and find_entry("dfdnet").by_hand
    downloads = [f"{name} (download)" for name in (*OTHERS, *PUBLISHED[1:])]
    starters = [f"{name}.safetensors" for name in STARTERS]
    models = ["auto", "codeformer.pth", "my_faces.pth", "painter.pth", *starters, *downloads]
    assert options(server, "CodeFormerLoadModel", "model") == models
    assert SHIPPED_DETECTORS
    detectors = ["retinaface_resnet50 (download)", "retinaface_mobile0.25", *SHIPPED_DETECTORS]
    assert options(server, "CodeFormerLoadDetector", "detector") == detectors
    assert options(server, "CodeFormerLoadModel", "detector") == ["auto", *detectors]
    assert options(server, "CodeFormerLoadModel", "parser") == ["auto", "parsenet (download)", "face_mesh"]
    assert "S-Lab" in definition(server, "CodeFormerLoadModel")["input"]["required"]["model"][1]["tooltip"]


def test_auto_takes_the_published_model_and_without_it_the_one_that_comes_with_the_pack(server: Server):
    prompt = restore_prompt(model="auto")
    assert tells(done := server.run(prompt), "restored_by", restorer="codeformer.") and not tells(done, "starter")
    with without_codeformer(server):
        models = options(server, "CodeFormerLoadModel", "model")
        published = [f"{name} (download)" for name in (PUBLISHED[0], *OTHERS, *PUBLISHED[1:])]
        starters = [f"{name}.safetensors" for name in STARTERS]
        assert models[0] == "auto" and models[-len(published) - 3 :] == [*starters, *published]
        begun = len(server.log)
        done = server.run(prompt)
        assert counts(done, found=1, restored=1) and tells(done, "restored_by", restorer="codeformer_starter.")
        assert tells(done, "starter", best="codeformer.pth") and "Choose it in Load Face Restore Model" in report(done)
        log = server.log[begun:]
        assert "Load Face Restore Model: codeformer_starter.safetensors is the small starter" in log
        assert "restored by codeformer_starter.safetensors, fidelity 0.5, mask: face shape by face_mesh" in log
        # A workflow that was saved when the file was there says what to do.
        with pytest.raises(ServerFailed, match=re.escape("choose 'codeformer.pth (download)'")):
            server.queue(restore_prompt())
    assert tells(server.run(prompt), "restored_by", restorer="codeformer.")


def test_a_workflow_saved_before_the_download_stays_valid(server: Server):
    assert tells(server.run(restore_prompt(model="codeformer.pth (download)")), "restored_by", restorer="codeformer.")


def test_model_from_the_users_own_folder(server: Server):
    assert tells(server.run(restore_prompt(model="my_faces.pth")), "restored_by", restorer="my_faces")


def test_kept_copy_of_a_pickle_is_not_offered_twice(server: Server):
    server.run(restore_prompt("no_face.png"))
    assert (server.base / "models" / "facerestore_models" / "codeformer.safetensors").exists()
    assert "codeformer.safetensors" not in options(server, "CodeFormerLoadModel", "model")


def test_the_copy_that_the_first_load_leaves_makes_nobody_load_again(server: Server):
    """The fingerprint is of the file that the user has, here a detector's pickle under its catalog name."""
    copy = server.base / "models" / "facerestore_models" / "detection_mobilenet0.25_Final.safetensors"
    copy.unlink(missing_ok=True)
    prompt = restore_prompt(fidelity=0.171)
    prompt["loader"]["inputs"] |= {"detector": "retinaface_mobile0.25", "dtype": "bfloat16"}
    assert tells(server.run(prompt), "detector", detector="retinaface_mobile0.25") and copy.is_file()
    prompt["restore"]["inputs"]["fidelity"] = 0.172
    again = server.run(prompt)
    assert "loader" in [name for kind, data in again.messages if kind == "execution_cached" for name in data["nodes"]]


def test_weights_of_another_kind_are_refused_with_the_cure(server: Server):
    done = server.run(restore_prompt(model="painter.pth"))
    assert done.status == "error"
    assert "painter" in done.error and "colorization" in done.error and "choose codeformer.pth" in done.error


def test_a_task_that_the_file_does_not_say_comes_from_the_loader(server: Server):
    """painter.pth has the sizes of the published model for colorization."""
    assumed = server.run(restore_prompt(model="painter.pth"))
    assert "task of Load Face Restore Model" in assumed.error
    prompt = restore_prompt(model="painter.pth")
    prompt["loader"]["inputs"]["task"] = "restoration"
    done = server.run(prompt)
    assert tells(done, "restored_by", restorer="painter.")
    assert tells(done, "task_assumed", restorer="painter.pth", task="restoration")
    assert not tells(server.run(restore_prompt()), "task_assumed"), "codeformer.pth is a published name"


@pytest.mark.parametrize("choice", ["deep/er/mine.pth", "deep\\er\\mine.pth"])
def test_a_file_in_a_folder_by_the_slashes_of_any_system(server: Server, choice: str):
    path = server.base / "mine" / "deep" / "er" / "mine.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(server.base / "mine" / "my_faces.pth", path)
    try:
        assert counts(server.run(restore_prompt(model=choice)), found=1, restored=1)
    finally:
        shutil.rmtree(server.base / "mine" / "deep")


def errors(server: Server, **inputs: str) -> list[str]:
    """What the user reads of a prompt with these inputs of the loader: at once, or, since 0.3.64 checks no lists, of
    the node that needs the file."""
    prompt = restore_prompt()
    prompt["loader"]["inputs"] |= inputs
    try:
        return [server.run(prompt).error]
    except ServerFailed as failed:
        refused = json.loads(str(failed))
    assert refused.keys() == {"loader"}
    return [error["details"] for error in refused["loader"]["errors"]]


@pytest.mark.parametrize("name", ["model", "detector", "parser"])
def test_one_bad_value_gives_one_error(server: Server, name: str):
    (details,) = errors(server, **{name: "gone.pth"})
    assert "'gone.pth'" in details and str(REPOSITORY) not in details and "Error" not in details
    # A name that another machine has saved, of something that can be fetched: what to choose instead is named.
    catalog_name = {"model": "VQFR_v2.pth", "detector": "retinaface_resnet50", "parser": "parsenet"}[name]
    (details,) = errors(server, **{name: catalog_name})
    assert f"'{catalog_name} (download)'" in details


def test_an_error_of_a_node_is_shown_without_a_path_and_a_class(server: Server):
    done = server.run(restore_prompt(model="painter.pth"))
    (error,) = (data for kind, data in done.messages if kind == "execution_error")
    # The editor shows it before the message.
    assert error["exception_type"] == "Error"
    assert "codeformer_core" not in error["exception_message"] and "custom_nodes" not in error["exception_message"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("upscaler_here.pth", "upscaler", "upscaler_here"),
        ("half.pth", "truncated", "half.pth"),
        ("notes.pth", "text", "notes.pth"),
    ],
)
def test_files_that_are_no_restorer_are_refused_by_name(server: Server, name: str, content: str, words: str):
    folder = server.base / "models" / "facerestore_models"
    given = {
        "upscaler": (server.base / "models" / "upscale_models" / "double.pth").read_bytes(),
        "truncated": (folder / "codeformer.pth").read_bytes()[:100_000],
        "text": b"these are not weights\n",
    }[content]
    (folder / name).write_bytes(given)
    try:
        done = server.run(restore_prompt(model=name))
    finally:
        for leftover in folder.glob(f"{name.split('.')[0]}.*"):
            leftover.unlink()
    assert done.status == "error"
    assert words in done.error


def test_file_that_is_not_here_is_named_with_the_cure(server: Server):
    with pytest.raises(ServerFailed, match=re.escape("'gone.pth' is not on this machine")):
        server.queue(restore_prompt(model="gone.pth"))


def test_name_that_leaves_the_folder_is_refused(server: Server):
    with pytest.raises(ServerFailed, match="is not on this machine"):
        server.queue(restore_prompt(model="../upscale_models/double.pth"))


def test_example_workflow_is_offered_and_complete(server: Server):
    templates = [path.stem for path in (REPOSITORY / "example_workflows").glob("*.json")]
    (offered,) = server.get("/workflow_templates").items()
    assert (offered[0], sorted(offered[1])) == ("ComfyUI-CodeFormer", sorted(templates))
    workflow = load_workflow(REPOSITORY / "example_workflows" / "Restore faces.json")
    known = server.get("/object_info")
    kinds = {node["type"] for node in workflow["nodes"]} - {"MarkdownNote"}
    assert kinds and kinds <= set(known)
