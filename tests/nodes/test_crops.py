"""Crop, Restore Face Crops and Paste in a real ComfyUI, with the host's own nodes in between."""

from __future__ import annotations

from typing import Any

import numpy as np

from .prompts import AS_IT_IS, counts, node, tells
from .server import Done, Prompt, Server

FACE_RESTORE = {
    "fidelity": 0.5,
    "upscale": 1.0,
    "confidence": 0.0,
    "smallest_face": 0.0,
    "faces": "all",
    "mask": "outline",
    "opacity": 1.0,
    "parity": False,
}


def found(picture: str) -> Prompt:
    """Photo, loader, detected faces and their crops."""
    return {
        "photo": node("LoadImage", image=picture),
        "loader": node("CodeFormerLoadModel", model="codeformer.pth", detector="auto", parser="auto", dtype="float32"),
        "detect": node(
            "CodeFormerDetectFaces",
            image=["photo", 0],
            detector="yunet",
            confidence=0.0,
            smallest_face=0.0,
            largest_face=0.0,
            merge_duplicates=True,
            picked="",
        ),
        "crop": node("CodeFormerCropFaces", image=["photo", 0], faces=["detect", 0]),
        "before": node("SaveImage", images=["photo", 0], filename_prefix="before"),
        "crops": node("SaveImage", images=["crop", 0], filename_prefix="crops"),
    }


def pasted(crops: list[Any], background: list[Any], **changes: Any) -> Prompt:
    inputs = {
        "background": background,
        "crops": crops,
        "faces": ["crop", 1],
        "mask": "outline",
        "opacity": 1.0,
        "color_match": "off",
        "regions": "eyes, mouth",
        "grow": 0.0,
        "feather": 0.0,
        **changes,
    }
    return {
        "paste": node("CodeFormerPasteFaces", **inputs),
        "after": node("SaveImage", images=["paste", 0], filename_prefix="after"),
        "report": node("PreviewAny", source=["paste", 2]),
    }


def restored_crops(image: list[Any] | None = None) -> Prompt:
    restore = node(
        "CodeFormerRestoreFaceCrops", image=image or ["crop", 0], face_restore_model=["loader", 0], fidelity=0.5
    )
    return {"crops_restored": restore}


def before_after(server: Server, done: Done) -> tuple[np.ndarray, np.ndarray]:
    return server.pictures(done, "before")[0].astype(int), server.pictures(done, "after")[0].astype(int)


def test_untouched_crops_give_the_picture_back(server: Server):
    done = server.run(found("group.png") | pasted(["crop", 0], ["photo", 0]))
    before, after = before_after(server, done)
    assert np.array_equal(before, after) and len(server.pictures(done, "crops")) == 2
    assert tells(done, "crop_unchanged")


def test_the_steps_give_what_face_restore_gives(server: Server):
    prompt = found("group.png") | restored_crops() | pasted(["crops_restored", 0], ["photo", 0])
    prompt["whole"] = node(
        "CodeFormerFaceRestore",
        image=["photo", 0],
        face_restore_model=["loader", 0],
        selected_faces=["detect", 0],
        **FACE_RESTORE,
        **AS_IT_IS,
    )
    prompt["whole_saved"] = node("SaveImage", images=["whole", 0], filename_prefix="whole")
    done = server.run(prompt)
    before, after = before_after(server, done)
    whole = server.pictures(done, "whole_saved")[0].astype(int)
    assert np.abs(whole - before).max() > 50
    # Within a step of 8 bits but where a restored pixel happens to equal the picture's.
    assert (np.abs(after - whole) > 1).mean() < 1e-3


def test_pasting_into_the_picture_enlarged_by_the_hosts_upscaler(server: Server):
    prompt = found("portrait.png") | restored_crops()
    prompt["upscaler"] = node("UpscaleModelLoader", model_name="double.pth")
    prompt["large"] = node("ImageUpscaleWithModel", upscale_model=["upscaler", 0], image=["photo", 0])
    prompt |= pasted(["crops_restored", 0], ["large", 0], upscale_model=["upscaler", 0])
    done = server.run(prompt)
    assert server.pictures(done, "after")[0].shape == (1024, 1024, 3)
    assert counts(done, given=1, pasted=1)


def test_crops_enlarged_by_the_host_before_the_paste(server: Server):
    prompt = found("portrait.png")
    prompt["scaled"] = node(
        "ImageScale", image=["crop", 0], upscale_method="bilinear", width=256, height=256, crop="disabled"
    )
    prompt |= restored_crops(["scaled", 0]) | pasted(["crops_restored", 0], ["photo", 0])
    prompt["said"] = node("PreviewAny", source=["crops_restored", 1])
    done = server.run(prompt)
    assert "crops of 256x256 pixels were resized" in done.outputs["said"]["text"][0]
    before, after = before_after(server, done)
    assert before.shape == after.shape and np.abs(before - after).max() > 50


def test_no_face_gives_a_gray_crop_and_the_picture_back(server: Server):
    done = server.run(found("no_face.png") | restored_crops() | pasted(["crops_restored", 0], ["photo", 0]))
    before, after = before_after(server, done)
    (crop,) = server.pictures(done, "crops")
    assert np.array_equal(before, after) and crop.std() == 0
    assert counts(done, given=0, pasted=0)


def test_what_does_not_belong_together_is_said(server: Server):
    prompt = found("group.png") | pasted(["photo", 0], ["photo", 0])
    assert "2 faces but 1 crops came. Give the faces of these crops" in server.run(prompt).error
    prompt = found("group.png") | pasted(["crop", 0], ["photo", 0], mask="regions", regions="hair")
    assert "face_mesh doesn't see the regions hair" in server.run(prompt).error
