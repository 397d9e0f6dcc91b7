"""Colorizing and inpainting in a real ComfyUI."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from .prompts import counts, node, result_nodes, tells
from .server import Prompt, Server
from .test_restore import seen
from .weights import COLORIZATION_SIZES, small_config, small_state

FINDING = {"confidence": 0.0, "smallest_face": 0.0}
COLORIZING = {"fidelity": 0.0, "paste": "colour only", "mask": "box", "opacity": 1.0, **FINDING}


@pytest.fixture(scope="module")
def edits(server: Server) -> Iterator[Server]:
    """The server with an inpainting model and pictures of holes; the model is taken away again."""
    config = small_config(COLORIZATION_SIZES)
    # The published inpainting checkpoint is told apart by the size of its codebook.
    config = dataclasses.replace(config, autoencoder=dataclasses.replace(config.autoencoder, codebook_size=512))
    folder = server.base / "models" / "facerestore_models"
    torch.save({"params_ema": small_state(config)}, folder / "filler.pth")
    hole = np.zeros((512, 512), dtype=np.uint8)
    hole[200:240, 200:260] = 255
    hole[500:, 500:] = 255
    server.put_picture("hole.png", Image.fromarray(hole))
    portrait = np.asarray(Image.open(server.base / "input" / "portrait.png")).copy().clip(0, 250)
    portrait[hole == 255] = 255
    server.put_picture("painted.png", Image.fromarray(portrait))
    yield server
    for file in folder.glob("filler.*"):
        file.unlink()


def edit_prompt(kind: str, model: str, picture: str, report_output: int, **inputs: Any) -> Prompt:
    """Photo, loader and the node "edit"; its picture, mask and report are handed out."""
    prompt: Prompt = {
        "photo": node("LoadImage", image=picture),
        "loader": node("CodeFormerLoadModel", model=model, detector="auto", parser="auto", dtype="float32"),
        "hole": node("LoadImageMask", image="hole.png", channel="red"),
        "edit": node(kind, image=["photo", 0], face_restore_model=["loader", 0], **inputs),
    }
    handed_out = result_nodes("edit", ["photo", 0]) | {"report": node("PreviewAny", source=["edit", report_output])}
    if report_output == 1:
        handed_out = {name: handed_out[name] for name in ("before", "after", "report")}
    return prompt | handed_out


def test_the_faces_of_a_photo_get_colour_and_keep_their_brightness(edits: Server):
    done = edits.run(edit_prompt("CodeFormerColorizePhoto", "painter.pth", "group.png", 3, **COLORIZING))

    result = seen(edits, done)
    assert result.after.shape == result.before.shape and result.same_outside and not result.same
    luma_before, luma_after = (picture @ (0.299, 0.587, 0.114) for picture in (result.before, result.after))
    assert np.abs(luma_after - luma_before).max() < 2
    assert counts(done, found=2, colorized=2) and tells(done, "colorized_by", restorer="painter")


def test_the_whole_face_is_another_paste(edits: Server):
    only, whole = (
        seen(edits, edits.run(edit_prompt("CodeFormerColorizePhoto", "painter.pth", "portrait.png", 3, **inputs)))
        for inputs in (COLORIZING, {**COLORIZING, "paste": "whole face"})
    )
    assert np.array_equal(only.touched, whole.touched) and not np.array_equal(only.after, whole.after)


def test_crops_are_colorized_at_their_size(edits: Server):
    prompt = edit_prompt("CodeFormerColorizeFaces", "painter.pth", "portrait.png", 1, chroma_only=False, fidelity=0.0)
    prompt["small"] = node(
        "ImageScale", image=["photo", 0], upscale_method="area", width=300, height=200, crop="disabled"
    )
    prompt["edit"]["inputs"]["image"] = ["small", 0]

    done = edits.run(prompt)

    assert edits.pictures(done, "after")[0].shape == (200, 300, 3)
    assert counts(done, colorized=1) and tells(done, "colorized_by", restorer="painter")
    assert tells(done, "crops_resized", width=300, height=200)


@pytest.mark.parametrize("marked_by", ["mask", "white"])
def test_what_is_marked_in_the_face_of_a_photo_is_filled(edits: Server, marked_by: str):
    inputs = {"mask": ["hole", 0]} if marked_by == "mask" else {}
    picture = "portrait.png" if marked_by == "mask" else "painted.png"
    done = edits.run(
        edit_prompt("CodeFormerInpaintPhoto", "filler.pth", picture, 3, white_pixels=True, **FINDING, **inputs)
    )

    result = seen(edits, done)
    assert result.after.shape == result.before.shape and result.same_outside
    assert result.mask[200:240, 200:260].min() > 245 and (result.touched > 0).mean() < 0.03
    assert not np.array_equal(result.after[200:240, 200:260], result.before[200:240, 200:260])
    assert counts(done, found=1, filled=1) and tells(done, "filled_by", restorer="filler")
    assert tells(done, "mask_beside_faces")


def test_faces_that_were_found_before_replace_the_detection(edits: Server):
    prompt = edit_prompt(
        "CodeFormerInpaintPhoto", "filler.pth", "painted.png", 3, white_pixels=True, faces=["finding", 2], **FINDING
    )
    prompt["whole"] = node("LoadImage", image="portrait.png")
    prompt["finding"] = node(
        "CodeFormerColorizePhoto", image=["whole", 0], face_restore_model=["painter", 0], **COLORIZING
    )
    prompt["painter"] = prompt["loader"] | {"inputs": prompt["loader"]["inputs"] | {"model": "painter.pth"}}

    done = edits.run(prompt)

    assert counts(done, given=1, filled=1) and tells(done, "filled_by", restorer="filler")


def test_white_pixels_of_crops_are_filled_and_the_others_kept(edits: Server):
    done = edits.run(edit_prompt("CodeFormerInpaintFaces", "filler.pth", "painted.png", 2, white_pixels=True))

    result = seen(edits, done)
    hole = result.mask == 255
    assert np.array_equal(hole, (result.before == 255).all(-1)) and hole.sum() == 40 * 60 + 12 * 12
    assert np.array_equal(result.after[~hole], result.before[~hole])
    assert not np.array_equal(result.after[hole], result.before[hole])
    assert tells(done, "filled_share", share="1%")


@pytest.mark.parametrize(
    ("kind", "model", "inputs", "cure"),
    [
        ("CodeFormerColorizePhoto", "codeformer.pth", COLORIZING, "choose codeformer_colorization.pth"),
        ("CodeFormerInpaintFaces", "painter.pth", {"white_pixels": True}, "choose codeformer_inpainting.pth"),
    ],
)
def test_a_model_of_another_task_is_refused_with_the_one_to_choose(
    edits: Server, kind: str, model: str, inputs: dict[str, Any], cure: str
):
    done = edits.run(edit_prompt(kind, model, "portrait.png", 2, **inputs))

    assert done.status == "error"
    assert model.removesuffix(".pth") in done.error and cure in done.error
