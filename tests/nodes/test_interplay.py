"""Our nodes among the host's own: upscalers, boxes, masks, batches of different origin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .prompts import node, restore_prompt
from .server import Prompt, Server
from .test_crops import found


def has_nodes(server: Server, *kinds: str) -> None:
    """Skips with the reason on a host that is older than these nodes."""
    missing = [kind for kind in kinds if kind not in server.get("/object_info")]
    if missing:
        pytest.skip(f"ComfyUI {server.host.version} has no node {', '.join(missing)}")


def saved(image: list[Any], name: str) -> Prompt:
    return {name: node("SaveImage", images=image, filename_prefix=name)}


def test_faces_of_a_picture_that_the_host_enlarged(server: Server):
    prompt = restore_prompt("portrait.png", image=["large", 0])
    prompt["upscaler"] = node("UpscaleModelLoader", model_name="double.pth")
    prompt["large"] = node("ImageUpscaleWithModel", upscale_model=["upscaler", 0], image=["photo", 0])
    done = server.run(prompt)
    assert server.pictures(done, "after")[0].shape == (1024, 1024, 3)
    assert server.pictures(done, "mask")[0].max() == 255


def test_a_result_that_the_host_enlarges(server: Server):
    prompt = restore_prompt("portrait.png")
    prompt["upscaler"] = node("UpscaleModelLoader", model_name="double.pth")
    prompt["large"] = node("ImageUpscaleWithModel", upscale_model=["upscaler", 0], image=["restore", 0])
    done = server.run(prompt | saved(["large", 0], "larger"))
    assert server.pictures(done, "larger")[0].shape == (1024, 1024, 3)


def test_the_host_draws_and_cuts_our_boxes(server: Server):
    has_nodes(server, "DrawBBoxes", "CropByBBoxes")
    prompt = found("group.png")
    prompt["draw"] = node("DrawBBoxes", image=["photo", 0], bboxes=["detect", 1])
    prompt["cut"] = node(
        "CropByBBoxes",
        image=["photo", 0],
        bboxes=["detect", 1],
        output_width=256,
        output_height=256,
        padding=0,
        keep_aspect="stretch",
    )
    done = server.run(prompt | saved(["draw", 0], "drawn") | saved(["cut", 0], "cut_out"))
    before, drawn = server.pictures(done, "before")[0], server.pictures(done, "drawn")[0]
    changed = (before != drawn).any(-1)
    assert 0 < changed.mean() < 0.2 and changed[:, :512].any() and changed[:, 512:].any()
    assert server.pictures(done, "cut_out")[0].shape == (256, 256, 3)


def test_the_host_compares_before_and_after(server: Server):
    has_nodes(server, "ImageCompare")
    prompt = restore_prompt("portrait.png")
    prompt["compare"] = node("ImageCompare", image_a=["photo", 0], image_b=["restore", 0], compare_view="")
    output = server.run(prompt).outputs["compare"]
    assert len(output["a_images"]) == len(output["b_images"]) == 1


def test_transparency_from_a_mask_stays(server: Server):
    prompt = restore_prompt("portrait.png", image=["joined", 0])
    prompt["alpha"] = node("LoadImageMask", image="alpha.png", channel="red")
    prompt["joined"] = node("JoinImageWithAlpha", image=["photo", 0], alpha=["alpha", 0])
    done = server.run(prompt)
    before, after = server.pictures(done, "before")[0], server.pictures(done, "after")[0]
    assert before.shape == after.shape == (512, 512, 4)
    assert np.array_equal(before[..., 3], after[..., 3]) and not np.array_equal(before[..., :3], after[..., :3])


def test_a_batch_of_pictures_of_different_origin(server: Server):
    """The host makes them one size; the faces stay those of their pictures, also with many at once."""
    prompt = found("portrait.png")
    prompt["group"] = node("LoadImage", image="group.png")
    prompt["empty"] = node("EmptyImage", width=640, height=960, batch_size=2, color=0x336699)
    prompt["two"] = node("ImageBatch", image1=["photo", 0], image2=["group", 0])
    prompt["four"] = node("ImageBatch", image1=["two", 0], image2=["empty", 0])
    for name in ("detect", "crop"):
        prompt[name]["inputs"]["image"] = ["four", 0]
    prompt["restore"] = restore_prompt(image=["four", 0], selected_faces=["detect", 0])["restore"]
    done = server.run(prompt | saved(["four", 0], "came") | saved(["restore", 0], "went"))
    came, went = server.pictures(done, "came"), server.pictures(done, "went")
    assert len(came) == len(went) == 4
    assert [np.array_equal(one, other) for one, other in zip(came, went, strict=True)][2:] == [True, True]
    assert not np.array_equal(came[0], went[0])


def test_masks_of_the_host_limit_and_choose(server: Server):
    """A mask drawn over the left half keeps the left face."""
    prompt = found("group.png")
    prompt["left"] = node("SolidMask", value=1.0, width=512, height=512)
    prompt["none"] = node("SolidMask", value=0.0, width=1024, height=512)
    prompt["half"] = node("MaskComposite", destination=["none", 0], source=["left", 0], x=0, y=0, operation="add")
    prompt["inside"] = node("CodeFormerFacesFromMask", faces=["detect", 0], mask=["half", 0], share=0.5)
    prompt["restore"] = restore_prompt(image=["photo", 0], selected_faces=["inside", 0])["restore"]
    done = server.run(prompt | saved(["restore", 0], "went"))
    changed = (server.pictures(done, "before")[0] != server.pictures(done, "went")[0]).any(-1)
    assert changed[:, :512].any() and not changed[:, 512:].any()
