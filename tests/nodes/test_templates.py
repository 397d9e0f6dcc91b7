"""The templates that the editor's Templates browser offers, each run in a real ComfyUI.

What this machine has not got stands in: small random weights for the published ones, pictures of the tests for the
user's. In the one of a generated image a loaded picture stands in for everything up to VAE Decode, whose checkpoint
has gigabytes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest
from PIL import Image

from codeformer_core.weights.entries import CATALOG

from .prompts import AS_IT_IS, counts, node, result_nodes
from .server import PACK, REPOSITORY, Done, Prompt, Server
from .test_restore import seen
from .weights import save_small_other
from .workflow import BYPASSED, load_workflow, node_of, to_prompt

FILES = sorted((REPOSITORY / "example_workflows").glob("*.json"))
# The same graphs as forms with a few widgets, which the newest hosts open instead.
APPS = [path for path in FILES if path.name.endswith(".app.json")]
# By the names of their tests: "restore_faces" for "Restore faces.json".
TEMPLATES = {path.stem.lower().replace(" ", "_"): path for path in FILES if path not in APPS}
# What the host fetches files from, and the one address elsewhere that it knows.
HOST_FETCHES = ("https://huggingface.co/", "https://civitai.com/")
HOST_KNOWS = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.0/RealESRGAN_x4plus.pth"
TESTED_ELSEWHERE = {"restore_faces"}
THUMBNAIL_BYTES = 60_000
TITLE_HEIGHT = 30
DOWNLOAD = " (download)"
STAND_INS = {
    "RealESRGAN_x4plus.pth": "double.pth",
    # A GFPGAN has no small sizes.
    "GFPGANv1.4.pth (download)": "dfdnet.safetensors",
    "codeformer_example_video.mp4": "clip.mp4",
}
OTHERS = {"VQFR_v2.pth": "vqfr_v2", "RestoreFormer.pth": "restoreformer", "dfdnet.safetensors": "dfdnet"}
# Of clip.mp4.
FRAMES, FPS = 3, 12
DIFFUSION = {"CheckpointLoaderSimple", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAEDecode"}
# What a random network draws is no face; this much of it leaves one to be found again.
SLIGHTLY = 0.2


@pytest.fixture(scope="module")
def equipped(server: Server) -> Iterator[Server]:
    """The server with models of other kinds, pictures and a video; the models are taken away again."""
    folder = server.base / "models" / "facerestore_models"
    for name, kind in OTHERS.items():
        save_small_other(folder / name, kind)
    group = Image.open(server.base / "input" / "group.png")
    # In three channels: hosts differ by a level in how they read one.
    server.put_picture("gray.png", group.convert("L").convert("RGB"))
    opaque = np.full((512, 1024), 255, dtype=np.uint8)
    opaque[200:240, 200:260] = 0
    marked = group.convert("RGBA")
    marked.putalpha(Image.fromarray(opaque))
    server.put_picture("marked.png", marked)
    _put_clip(server)
    yield server
    for name in OTHERS:
        for file in folder.glob(f"{name.split('.')[0]}.*"):
            file.unlink()


def _put_clip(server: Server) -> None:
    """clip.mp4 with sound: a face, then none, then the face again."""
    (save,) = [
        content
        for content in prepared(server, "restore_the_faces_in_a_video").values()
        if content["class_type"] == "SaveVideo"
    ]
    done = server.run(
        {
            "face": node("LoadImage", image="portrait.png"),
            "none": node("LoadImage", image="no_face.png"),
            "two": node("ImageBatch", image1=["face", 0], image2=["none", 0]),
            "three": node("ImageBatch", image1=["two", 0], image2=["face", 0]),
            "sound": node("EmptyAudio", duration=FRAMES / FPS, sample_rate=44100, channels=2),
            "video": node("CreateVideo", images=["three", 0], audio=["sound", 0], fps=float(FPS)),
            "save": save | {"inputs": save["inputs"] | {"video": ["video", 0]}},
        }
    )
    _take_video(server, done, "save", "clip.mp4")


def _take_video(server: Server, done: Done, saved_by: str, name: str) -> None:
    """Puts the video that a Save Video node wrote where Load Video finds it."""
    assert done.status == "success", done.error
    (video,) = done.outputs[saved_by]["images"]
    shutil.copy(server.base / "output" / video["subfolder"] / video["filename"], server.base / "input" / name)


def prepared(server: Server, name: str, picture: str = "group.png", active: str = "") -> Prompt:
    """The template as a prompt, with what this machine has; codeformer.pth (download) means the file that is here.

    active: the kind of a node that is bypassed in the file and is not to be.
    """
    workflow = load_workflow(TEMPLATES[name])
    for entry in workflow["nodes"]:
        if entry["type"] == active:
            assert entry["mode"] == BYPASSED
            entry["mode"] = 0
    prompt = to_prompt(workflow, server.get("/object_info"))
    for content in prompt.values():
        inputs = content["inputs"]
        inputs |= {
            key: STAND_INS[value] for key, value in inputs.items() if isinstance(value, str) and value in STAND_INS
        }
        if content["class_type"] == "LoadImage":
            inputs["image"] = picture
        if content["class_type"] == "CodeFormerFaceRestore":
            inputs |= AS_IT_IS
    return prompt


def result(server: Server, prompt: Prompt, done: Done) -> np.ndarray:
    """The only picture that the template's Save Image wrote."""
    (saved,) = server.pictures(done, template_node(prompt, "SaveImage"))
    return saved


def template_node(prompt: Prompt, kind: str) -> str:
    """The template's only node of this kind; its ids are numbers, those of the tests are words."""
    return node_of({key: content for key, content in prompt.items() if key.isdigit()}, kind)


def texts(done: Done) -> str:
    """All that the Preview Any nodes show."""
    return "\n".join(shown["text"][0] for shown in done.outputs.values() if "text" in shown)


def touched_by(kind: str, prompt: Prompt) -> Prompt:
    """Hands out where this node's MASK is above 0 as "touched_<kind>"."""
    return {
        f"above_0_{kind}": node("ThresholdMask", mask=[template_node(prompt, kind), 1], value=0.0),
        f"image_{kind}": node("MaskToImage", mask=[f"above_0_{kind}", 0]),
        f"touched_{kind}": node("SaveImage", images=[f"image_{kind}", 0], filename_prefix="touched"),
    }


def touched(server: Server, done: Done, kind: str) -> np.ndarray:
    return server.pictures(done, f"touched_{kind}")[0][..., 0] > 0


def input_picture(server: Server, name: str) -> np.ndarray:
    return np.asarray(Image.open(server.base / "input" / name).convert("RGB"))


def test_every_template_has_a_test():
    assert len(TEMPLATES) >= 10 and len(APPS) >= 3
    assert {f"test_{name}" for name in TEMPLATES.keys() - TESTED_ELSEWHERE} <= set(globals())


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_has_a_note_a_thumbnail_and_nodes_beside_each_other(name: str):
    workflow = load_workflow(TEMPLATES[name])
    (note,) = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert len(note["widgets_values"][0]) > 100
    thumbnail = TEMPLATES[name].with_suffix(".jpg")
    assert thumbnail.stat().st_size < THUMBNAIL_BYTES
    assert all(350 <= side <= 450 for side in Image.open(thumbnail).size)
    for one, other in combinations(workflow["nodes"], 2):
        assert not _overlap(one, other), f"{one['type']} and {other['type']} overlap"


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    left, top, right, bottom = _box(one)
    other_left, other_top, other_right, other_bottom = _box(other)
    return left < other_right and other_left < right and top < other_bottom and other_top < bottom


def _box(node: dict[str, Any]) -> tuple[float, float, float, float]:
    """left, top, right, bottom, the title included."""
    (left, top), (width, height) = node["pos"], node["size"]
    return left, top - TITLE_HEIGHT, left + width, top + height


def test_names_are_for_people():
    for path in FILES:
        assert re.fullmatch(r"[A-Z][a-z]+( [a-z]+)+(\.app)?", path.stem)


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.stem)
def test_an_app_is_its_template_with_a_form(path: Path):
    app, template = load_workflow(path), load_workflow(path.with_name(path.name.replace(".app.json", ".json")))
    form = app["extra"].pop("linearData")
    assert app["extra"].pop("linearMode") is True
    assert {**app, "id": ""} == {**template, "id": ""}
    thumbnail = path.with_suffix(".jpg")
    assert thumbnail.read_bytes() == thumbnail.with_name(thumbnail.name.replace(".app.jpg", ".jpg")).read_bytes()
    kinds = {entry["id"]: entry["type"] for entry in app["nodes"]}
    assert [kinds[number] for number in form["outputs"]] in (["SaveImage"], ["SaveVideo"])
    (first, _), *_ = form["inputs"]
    assert kinds[first].startswith("Load") and 3 <= len(form["inputs"]) <= 4


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.stem)
def test_an_app_shows_widgets_that_this_host_has(server: Server, path: Path):
    app = load_workflow(path)
    prompt = to_prompt(app, server.get("/object_info"))
    for number, widget in app["extra"]["linearData"]["inputs"]:
        assert not isinstance(prompt[str(number)]["inputs"][widget], list), "a link and no widget"


@pytest.mark.parametrize("name", TEMPLATES)
def test_loaders_say_where_their_file_is_to_be_had(name: str):
    """As the host wants it, at an address from which it fetches files where the file lies at such a one."""
    addresses = {entry.filename: [entry.url, *entry.mirrors] for entry in CATALOG}
    for entry in load_workflow(TEMPLATES[name])["nodes"]:
        choice = next(iter(entry.get("widgets_values") or [""]))
        if not str(choice).endswith((DOWNLOAD, ".pth", ".safetensors")):
            continue
        (model,) = entry["properties"]["models"]
        assert model["name"] == choice.removesuffix(DOWNLOAD)
        known = addresses.get(model["name"], [])
        assert model["url"] in known or not known
        if not known or any(str(url).startswith(HOST_FETCHES) for url in known):
            assert model["url"].startswith(HOST_FETCHES) or model["url"] == HOST_KNOWS
        assert model["directory"] in ("facerestore_models", "upscale_models", "checkpoints")


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_uses_only_what_this_host_has(server: Server, name: str):
    known = server.get("/object_info")
    workflow = load_workflow(TEMPLATES[name])
    for content in to_prompt(workflow, known).values():
        kind = content["class_type"]
        defined = known[kind]["input"].get("required", {}) | known[kind]["input"].get("optional", {})
        # Widgets that an option of a combo brings are called combo.widget.
        assert {key.split(".")[0] for key in content["inputs"]} <= set(defined), kind
        for key, value in content["inputs"].items() if kind.startswith("CodeFormer") else ():
            choices = defined[key][0] if isinstance(defined[key][0], list) else defined[key][1].get("options")
            # Without the file the choice is a download, with it the file.
            assert not choices or {value, value.removesuffix(DOWNLOAD)} & set(choices), (kind, key, value)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, slot, target, socket, kind in workflow["links"]:
        assert known[nodes[source]["type"]]["output"][slot] == kind
        assert nodes[target]["inputs"][socket]["link"] == number and number in nodes[source]["outputs"][slot]["links"]


def test_the_host_offers_our_blueprints(server: Server):
    try:
        offered = server.get("/global_subgraphs")
    except HTTPError:
        pytest.skip(f"ComfyUI {server.host.version} takes no subgraphs from packs")
    ours = {entry["name"] for entry in offered.values() if entry["info"]["node_pack"].endswith(PACK)}
    assert ours == {path.stem for path in (REPOSITORY / "subgraphs").glob("*.json")} and len(ours) >= 3


def test_restore_faces_and_upscale(equipped: Server):
    prompt = prepared(equipped, "restore_faces_and_upscale", active="UpscaleModelLoader")
    photo, upscaler = template_node(prompt, "LoadImage"), template_node(prompt, "UpscaleModelLoader")
    prompt |= result_nodes(template_node(prompt, "CodeFormerFaceRestore"), ["background", 0])
    prompt["background"] = node("ImageUpscaleWithModel", upscale_model=[upscaler, 0], image=[photo, 0])

    done = equipped.run(prompt)

    outcome = seen(equipped, done)
    assert result(equipped, prompt, done).shape == (1024, 2048, 3)
    background = outcome.touched == 0
    assert background.any() and outcome.mask.max() == 255
    difference = np.abs(outcome.after.astype(int) - outcome.before)
    assert difference[background].max() <= 1 < difference[~background].mean()


def test_pick_the_faces_to_restore(equipped: Server):
    prompt = prepared(equipped, "pick_the_faces_to_restore")
    detect, preview = template_node(prompt, "CodeFormerDetectFaces"), template_node(prompt, "PreviewImage")
    (view,) = equipped.run(prompt).outputs[detect]["codeformer_faces"]
    left, right = view["pictures"][0]["faces"]
    assert left["box"][2] < 0.5 < right["box"][0]
    prompt[detect]["inputs"]["picked"] = json.dumps({"1": [right["box"]]})

    done = equipped.run(prompt)

    before, after = input_picture(equipped, "group.png"), result(equipped, prompt, done)
    assert np.array_equal(after[:, :512], before[:, :512]) and not np.array_equal(after[:, 512:], before[:, 512:])
    assert len(done.outputs[preview]["images"]) == 1
    assert "1 face given, 1 restored" in texts(done)


def test_restore_and_colorize_an_old_photo(equipped: Server):
    prompt = prepared(equipped, "restore_and_colorize_an_old_photo", "gray.png")
    prompt[template_node(prompt, "CodeFormerFaceRestore")]["inputs"]["opacity"] = SLIGHTLY
    kinds = ("CodeFormerFaceRestore", "CodeFormerColorizePhoto")
    for kind in kinds:
        prompt |= touched_by(kind, prompt)

    done = equipped.run(prompt)

    before, after = input_picture(equipped, "gray.png"), result(equipped, prompt, done)
    restored, coloured = (touched(equipped, done, kind) for kind in kinds)
    assert coloured.any() and after.shape == before.shape
    assert np.array_equal(after[~(restored | coloured)], before[~(restored | coloured)])
    assert np.ptp(after[coloured].astype(int), axis=-1).mean() > 2
    assert (
        "2 faces found, 2 restored" in texts(done)
        and "2 colorized" in texts(done)
        and "colorized by starter_colorization.safetensors" in texts(done)
    )


def test_repair_scratches_on_a_face(equipped: Server):
    prompt = prepared(equipped, "repair_scratches_on_a_face", "marked.png")
    kinds = ("CodeFormerInpaintPhoto", "CodeFormerFaceRestore")
    for kind in kinds:
        prompt |= touched_by(kind, prompt)
    prompt["filled_only"] = node(
        "SaveImage", images=[template_node(prompt, "CodeFormerInpaintPhoto"), 0], filename_prefix="filled"
    )

    done = equipped.run(prompt)

    before, after = input_picture(equipped, "marked.png"), result(equipped, prompt, done)
    (filled,) = equipped.pictures(done, "filled_only")
    hole, restored = (touched(equipped, done, kind) for kind in kinds)
    assert hole[200:240, 200:260].all() and hole.mean() < 0.03
    assert np.array_equal(filled[~hole], before[~hole]) and not np.array_equal(filled[hole], before[hole])
    assert np.array_equal(after[~restored], filled[~restored])
    assert not np.array_equal(after[restored], filled[restored])
    assert "1 filled" in texts(done) and "filled by starter_inpainting.safetensors" in texts(done)
    assert "2 faces found, 2 restored" in texts(done)


@pytest.mark.slow
def test_compare_fidelities(equipped: Server):
    prompt = prepared(equipped, "compare_fidelities")
    prompt |= result_nodes(template_node(prompt, "CodeFormerFaceRestore"), [template_node(prompt, "LoadImage"), 0])

    done = equipped.run(prompt)

    (grid,) = done.outputs[template_node(prompt, "CodeFormerCompareFidelity")]["codeformer_fidelity"]
    assert [tile["fidelity"] for tile in grid["tiles"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    outcome = seen(equipped, done)
    assert np.array_equal(result(equipped, prompt, done), outcome.after)
    assert outcome.same_outside and not outcome.same
    assert counts(done, given=2, restored=2) and "w 0.25: L1 to the input" in texts(done)


@pytest.mark.slow
def test_compare_restorers(equipped: Server):
    prompt = prepared(equipped, "compare_restorers")
    prompt |= result_nodes(template_node(prompt, "CodeFormerFaceRestore"), [template_node(prompt, "LoadImage"), 0])
    compare = template_node(prompt, "CodeFormerCompareRestorers")
    prompt["compared"] = node("SaveImage", images=[compare, 1], filename_prefix="compared")

    done = equipped.run(prompt)

    faces = equipped.pictures(done, "compared")
    assert len(faces) == 4 and not any(np.array_equal(faces[0], other) for other in faces[1:])
    (grid,) = done.outputs[compare]["codeformer_restorers"]
    assert len(grid["tiles"]) == 4
    outcome = seen(equipped, done)
    assert np.array_equal(result(equipped, prompt, done), outcome.after)
    assert outcome.same_outside and not outcome.same
    assert counts(done, given=2, restored=2)
    assert "VQFR_v2." in texts(done) and "fidelity does nothing with dfdnet.safetensors, RestoreFormer." in texts(done)


def test_restore_the_faces_in_a_video(equipped: Server):
    prompt = prepared(equipped, "restore_the_faces_in_a_video")
    prompt[template_node(prompt, "CodeFormerRestoreVideoFaces")]["inputs"]["when_worse"] = "paste"

    done = equipped.run(prompt)

    _take_video(equipped, done, template_node(prompt, "SaveVideo"), "restored.mp4")
    assert f"{FRAMES} frames, 2 of them with 2 restored faces" in texts(done)
    frames = written_frames(equipped, "restored.mp4")
    original = written_frames(equipped, "clip.mp4")
    changed = [np.abs(one.astype(int) - other).mean() for one, other in zip(frames, original, strict=True)]
    assert changed[1] < 1 < min(changed[0], changed[2]), "the frame in the middle has no face"


@pytest.mark.slow
def test_restore_the_faces_in_the_frames_of_a_video(equipped: Server):
    prompt = prepared(equipped, "restore_the_faces_in_the_frames_of_a_video")
    paste, parts = (template_node(prompt, kind) for kind in ("CodeFormerPasteFaces", "GetVideoComponents"))
    prompt |= touched_by("CodeFormerPasteFaces", prompt)
    prompt["before"] = node("SaveImage", images=[parts, 0], filename_prefix="before")
    prompt["after"] = node("SaveImage", images=[paste, 0], filename_prefix="after")

    done = equipped.run(prompt)

    before, after, mask = (equipped.pictures(done, key) for key in ("before", "after", "touched_CodeFormerPasteFaces"))
    assert len(before) == len(after) == len(mask) == FRAMES
    assert [bool(frame.max()) for frame in mask] == [True, False, True]
    for frame, restored, changed in zip(before, after, mask, strict=True):
        assert np.array_equal(restored[changed[..., 0] == 0], frame[changed[..., 0] == 0])
        assert np.array_equal(restored, frame) == (changed.max() == 0)
    _take_video(equipped, done, template_node(prompt, "SaveVideo"), "frames.mp4")
    for frame, restored in zip(written_frames(equipped, "frames.mp4"), after, strict=True):
        assert np.abs(frame.astype(int) - restored).mean() < 12, "more than what the video's compression does"


def written_frames(server: Server, name: str) -> list[np.ndarray]:
    """The frames of a video in the input folder, which has the clip's size, rate and sound."""
    written = server.run(
        {
            "video": node("LoadVideo", file=name),
            "parts": node("GetVideoComponents", video=["video", 0]),
            "frames": node("SaveImage", images=["parts", 0], filename_prefix="frames"),
            "sound": node("PreviewAny", source=["parts", 1]),
            "fps": node("PreviewAny", source=["parts", 2]),
        }
    )
    frames = server.pictures(written, "frames")
    assert [frame.shape for frame in frames] == [(512, 512, 3)] * FRAMES
    assert float(written.outputs["fps"]["text"][0]) == FPS
    assert "waveform" in written.outputs["sound"]["text"][0]
    return frames


def test_restore_the_faces_of_a_generated_image(equipped: Server):
    """A loaded picture stands in for VAE Decode's; see the top of this file."""
    prompt = prepared(equipped, "restore_the_faces_of_a_generated_image")
    decode, restore = (template_node(prompt, kind) for kind in ("VAEDecode", "CodeFormerFaceRestore"))
    assert prompt[restore]["inputs"]["image"] == [decode, 0]
    assert {content["class_type"] for content in prompt.values()} >= DIFFUSION
    prompt = {key: content for key, content in prompt.items() if content["class_type"] not in DIFFUSION}
    prompt[decode] = node("LoadImage", image="group.png")
    prompt |= result_nodes(restore, [decode, 0])

    done = equipped.run(prompt)

    outcome = seen(equipped, done)
    assert np.array_equal(result(equipped, prompt, done), outcome.after)
    assert outcome.same_outside and not outcome.same
    assert counts(done, found=2, restored=2)


def test_restore_faces_step_by_step(equipped: Server):
    prompt = prepared(equipped, "restore_faces_step_by_step")
    prompt |= touched_by("CodeFormerPasteFaces", prompt)

    done = equipped.run(prompt)

    before, after = input_picture(equipped, "group.png"), result(equipped, prompt, done)
    changed = touched(equipped, done, "CodeFormerPasteFaces")
    assert after.shape == before.shape and changed[:, :512].any() and changed[:, 512:].any()
    assert np.array_equal(after[~changed], before[~changed])
    assert not np.array_equal(after[changed], before[changed])
    assert len(done.outputs[template_node(prompt, "PreviewImage")]["images"]) == 2
    assert "2 pasted" in texts(done)
