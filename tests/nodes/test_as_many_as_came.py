"""N pictures in, N out: every node that hands pictures on, with pictures it likes and pictures it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from .prompts import node, restore_prompt
from .server import Prompt, Server
from .test_crops import pasted
from .test_detect_select import select_prompt
from .test_edit import COLORIZING
from .test_interplay import saved
from .weights import save_small_inpainter

pytestmark = pytest.mark.slow

COUNT = 3
# What comes to the nodes as "three": nodes that make three pictures of the two that are loaded.
SOURCES: dict[str, Prompt] = {
    "a face, none, one colour": {
        "two": node("ImageBatch", image1=["photo", 0], image2=["none", 0]),
        "plain": node("EmptyImage", width=512, height=512, batch_size=1, color=0xFFFFFF),
        "three": node("ImageBatch", image1=["two", 0], image2=["plain", 0]),
    },
    "no face at all": {"three": node("RepeatImageBatch", image=["none", 0], amount=COUNT)},
    "a few pixels": {
        "small": node("ImageScale", image=["photo", 0], upscale_method="area", width=5, height=3, crop="disabled"),
        "three": node("RepeatImageBatch", image=["small", 0], amount=COUNT),
    },
    "one colour": {"three": node("EmptyImage", width=96, height=64, batch_size=COUNT, color=0x808080)},
    "transparent": {
        "alpha": node("LoadImageMask", image="alpha.png", channel="red"),
        "joined": node("JoinImageWithAlpha", image=["none", 0], alpha=["alpha", 0]),
        "three": node("RepeatImageBatch", image=["joined", 0], amount=COUNT),
    },
}
# The nodes whose pictures are those that came in, changed or not, and the output that says so.
REPORTS = {
    "restore": 3,
    "colorize": 3,
    "inpaint": 3,
    "paste": 2,
    "restore_crops": 1,
    "colorize_crops": 1,
    "inpaint_crops": 2,
    "degrade": 1,
}


@pytest.fixture(scope="module")
def filler(server: Server) -> Iterator[str]:
    """The name of an inpainting model, which is taken away again."""
    folder = server.base / "models" / "facerestore_models"
    save_small_inpainter(folder / "filler.pth")
    yield "filler.pth"
    for file in folder.glob("filler.*"):
        file.unlink()


def loader(model: str) -> dict[str, Any]:
    return node("CodeFormerLoadModel", model=model, detector="auto", parser="auto", dtype="float32")


def every_node(source: Prompt, filler: str, smallest_face: float = 0.0) -> Prompt:
    """All of REPORTS on the pictures of `source`; nodes are called as there."""
    crops: dict[str, Any] = {"image": ["three", 0]}
    whole: dict[str, Any] = {**crops, "confidence": 0.0, "smallest_face": smallest_face}
    prompt = select_prompt(image=["three", 0], smallest_face=smallest_face)
    prompt = {name: prompt[name] for name in ("photo", "detect", "select")}
    prompt["photo"] = node("LoadImage", image="portrait.png")
    prompt["detect"]["inputs"]["image"] = ["three", 0]
    prompt |= {
        "none": node("LoadImage", image="no_face.png"),
        **source,
        "loader": loader("codeformer.pth"),
        "painter": loader("painter.pth"),
        "filler": loader(filler),
        "hole": node("SolidMask", value=1.0, width=7, height=9),
        "restore": restore_prompt(image=["three", 0], smallest_face=smallest_face)["restore"],
        "colorize": node("CodeFormerColorizePhoto", face_restore_model=["painter", 0], **COLORIZING | whole),
        "inpaint": node(
            "CodeFormerInpaintPhoto", face_restore_model=["filler", 0], white_pixels=True, mask=["hole", 0], **whole
        ),
        "crop": node("CodeFormerCropFaces", faces=["select", 0], **crops),
        **pasted(["restored", 0], ["three", 0]),
        "restored": node(
            "CodeFormerRestoreFaceCrops", image=["crop", 0], face_restore_model=["loader", 0], fidelity=0.5
        ),
        "restore_crops": node("CodeFormerRestoreFaceCrops", face_restore_model=["loader", 0], fidelity=0.5, **crops),
        "colorize_crops": node(
            "CodeFormerColorizeFaces", face_restore_model=["painter", 0], chroma_only=True, fidelity=0.0, **crops
        ),
        "inpaint_crops": node("CodeFormerInpaintFaces", face_restore_model=["filler", 0], white_pixels=True, **crops),
        "degrade": {"class_type": "CodeFormerDegradeFaces", "inputs": {**crops, "kind": "x4", "seed": 3}},
    }
    del prompt["after"], prompt["report"]
    prompt |= saved(["three", 0], "came") | saved(["detect", 3], "preview_saved")
    for name, output in REPORTS.items():
        prompt |= saved([name, 0], f"{name}_saved")
        prompt[f"{name}_said"] = node("PreviewAny", source=[name, output])
    return prompt


@pytest.mark.parametrize(
    ("source", "smallest_face"), [*((source, 0.0) for source in SOURCES), ("a face, none, one colour", 4000.0)]
)
def test_as_many_pictures_of_the_same_size(server: Server, filler: str, source: str, smallest_face: float):
    done = server.run(every_node(SOURCES[source], filler, smallest_face))

    came = server.pictures(done, "came")
    assert len(came) == COUNT
    assert len(server.pictures(done, "preview_saved")) == COUNT
    for name in REPORTS:
        went = server.pictures(done, f"{name}_saved")
        assert [picture.shape for picture in went] == [picture.shape for picture in came], name
        assert done.outputs[f"{name}_said"]["text"][0], name
    if smallest_face > 0:
        for name in ("restore", "colorize", "inpaint", "paste"):
            went = server.pictures(done, f"{name}_saved")
            assert all(np.array_equal(one, other) for one, other in zip(came, went, strict=True)), name


TWO: Prompt = {"two_more": node("RepeatImageBatch", image=["none", 0], amount=2)}
# What does not go together -> the node that must say so, and a part of what it says.
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "fewer pictures than faces were found in": (
        "crop",
        {"image": ["two_more", 0]},
        "belong to 3 images, but 2 image",
    ),
    "selected faces of others": (
        "restore",
        {"selected_faces": ["detect", 0], "image": ["two_more", 0]},
        "Connect",
    ),
    "faces of others": ("colorize", {"faces": ["detect", 0], "image": ["two_more", 0]}, "Connect"),
    "masks for others": ("inpaint", {"mask": ["two_masks", 0]}, "Give one mask for each image"),
    "masks for other crops": ("inpaint_crops", {"mask": ["two_masks", 0]}, "Give one mask for each image"),
    "backgrounds of others": ("paste", {"background": ["two_more", 0]}, "Give one background for each image"),
    "limits of others": ("paste", {"limit": ["two_masks", 0]}, "Give one mask for each image"),
    "crops of others": ("paste", {"crops": ["two_more", 0]}, "Connect the FACES of the Crop Faces node"),
    "a number that none is": ("select", {"numbers": "first"}, "Give numbers from 1 on"),
    "a model for colours restores": ("restore_crops", {"face_restore_model": ["painter", 0]}, "choose codeformer.pth"),
    "a model for faces paints": (
        "colorize",
        {"face_restore_model": ["loader", 0]},
        "choose codeformer_colorization.pth",
    ),
    "a model for faces fills": ("inpaint", {"face_restore_model": ["loader", 0]}, "choose codeformer_inpainting.pth"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_go_together_is_refused_as_a_whole(server: Server, filler: str, what: str):
    """With a cure; no part of the batch is handed on."""
    name, changes, words = REFUSED[what]
    prompt = every_node(SOURCES["a face, none, one colour"], filler) | TWO
    prompt["two_images"] = node("EmptyImage", width=7, height=9, batch_size=2, color=0xFFFFFF)
    prompt["two_masks"] = node("ImageToMask", image=["two_images", 0], channel="red")
    prompt[name]["inputs"] |= changes
    shown = node("PreviewAny", source=[name, {"crop": 2, "select": 3}.get(name, REPORTS.get(name))])
    wanted = needed(prompt, name) | {"shown": shown}

    done = server.run(wanted)

    assert done.status == "error" and words in done.error
    assert "shown" not in done.outputs


def needed(prompt: Prompt, name: str) -> Prompt:
    """The node and all that feeds it."""
    sources = [value[0] for value in prompt[name]["inputs"].values() if isinstance(value, list)]
    return {name: prompt[name]} | {key: value for source in sources for key, value in needed(prompt, source).items()}
