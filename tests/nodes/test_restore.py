"""Face Restore in a real ComfyUI: what comes out of it for which pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import codeformer_core as cf

from .prompts import AS_IT_IS, counts, node, report, restore_prompt, result_nodes, tells
from .server import REPOSITORY, Done, Server
from .workflow import load_workflow, node_of, to_prompt

WORKFLOW = REPOSITORY / "example_workflows" / "Restore faces.json"


@dataclass(frozen=True)
class Seen:
    """The first picture of each output, 8 bits; masks have no channels."""

    before: np.ndarray
    after: np.ndarray
    mask: np.ndarray
    touched: np.ndarray

    @property
    def same_outside(self) -> bool:
        return np.array_equal(self.after[self.touched == 0], self.before[self.touched == 0])

    @property
    def same(self) -> bool:
        return np.array_equal(self.after, self.before)


def seen(server: Server, done: Done) -> Seen:
    before, after, mask, touched = (server.pictures(done, name)[0] for name in ("before", "after", "mask", "touched"))
    return Seen(before, after, mask[..., 0], touched[..., 0])


def test_example_workflow_restores_the_faces_and_nothing_else(server: Server):
    prompt = to_prompt(load_workflow(WORKFLOW), server.get("/object_info"))
    prompt[node_of(prompt, "LoadImage")]["inputs"]["image"] = "group.png"
    restore = node_of(prompt, "CodeFormerFaceRestore")
    prompt[restore]["inputs"] |= AS_IT_IS
    prompt |= result_nodes(restore, prompt[restore]["inputs"]["image"])

    done = server.run(prompt)

    result = seen(server, done)
    assert result.after.shape == result.before.shape == (512, 1024, 3)
    assert 0.05 < (result.touched > 0).mean() < 0.9
    assert result.same_outside
    inside = result.mask == 255
    assert np.abs(result.after[inside].astype(int) - result.before[inside]).mean() > 10
    assert counts(done, found=2, restored=2) and tells(done, "mask_mesh", parser="face_mesh")
    saved = server.pictures(done, node_of({k: v for k, v in prompt.items() if k.isdigit()}, "SaveImage"))
    assert np.array_equal(saved[0], result.after)


def test_picture_without_a_face_comes_back_unchanged(server: Server):
    done = server.run(restore_prompt("no_face.png"))

    result = seen(server, done)
    assert result.same
    assert result.touched.max() == 0
    assert counts(done, found=0, restored=0)


def test_the_report_speaks_the_language_that_the_user_has_set(server: Server):
    server.post("/settings", {"Comfy.Locale": "zh"})
    try:
        # Another input, or the host would hand out what it kept.
        chinese = report(server.run(restore_prompt("no_face.png", fidelity=0.19)))
    finally:
        server.post("/settings", {"Comfy.Locale": "en"})
    nobody = [cf.Event("faces", values={"found": 0, "restored": 0}), cf.Event("detector", values={"detector": "x"})]
    assert chinese.splitlines()[0] == cf.report(nobody, "zh").splitlines()[0]
    assert counts(server.run(restore_prompt("no_face.png", fidelity=0.21)), found=0, restored=0)


def test_batch_keeps_its_pictures_apart(server: Server):
    prompt = restore_prompt(image=["both", 0])
    prompt["other"] = node("LoadImage", image="no_face.png")
    prompt["both"] = node("ImageBatch", image1=["photo", 0], image2=["other", 0])

    done = server.run(prompt)

    before, after, mask = (server.pictures(done, name) for name in ("before", "after", "mask"))
    assert len(before) == len(after) == len(mask) == 2
    assert not np.array_equal(after[0], before[0]) and mask[0].max() == 255
    assert np.array_equal(after[1], before[1]) and mask[1].max() == 0
    assert counts(done, 0, found=1, restored=1) and counts(done, 1, found=0, restored=0)


def test_transparency_is_kept(server: Server):
    prompt = restore_prompt(image=["joined", 0])
    prompt["alpha"] = node("LoadImageMask", image="alpha.png", channel="red")
    prompt["joined"] = node("JoinImageWithAlpha", image=["photo", 0], alpha=["alpha", 0])

    result = seen(server, server.run(prompt))

    assert result.after.shape == result.before.shape == (512, 512, 4)
    alpha = result.after[..., 3]
    assert np.array_equal(alpha, result.before[..., 3]) and len(np.unique(alpha)) > 200
    assert not result.same and result.same_outside


def test_fidelity_and_opacity_have_an_effect(server: Server):
    cleanest, closest, hidden = (
        seen(server, server.run(restore_prompt(**changes)))
        for changes in ({"fidelity": 0.0}, {"fidelity": 1.0}, {"opacity": 0.0})
    )
    assert not np.array_equal(cleanest.after, closest.after)
    assert hidden.same


def test_masks_of_three_kinds(server: Server):
    face, outline, box = (
        seen(server, server.run(restore_prompt(mask=mask))).touched > 0 for mask in ("face", "outline", "box")
    )
    # Without a parser's file the face is pasted in its outline.
    assert np.array_equal(face, outline)
    assert 0.05 < outline.mean() < 0.7 * box.mean() and not outline[~box].any()


def test_upscale_sets_the_size_with_and_without_an_upscale_model(server: Server):
    plain = server.run(restore_prompt(upscale=1.5))
    prompt = restore_prompt(upscale=1.5, upscale_model=["doubler", 0])
    prompt["doubler"] = node("UpscaleModelLoader", model_name="double.pth")
    redrawn = server.run(prompt)

    resized, upscaled = seen(server, plain), seen(server, redrawn)
    assert resized.after.shape == upscaled.after.shape == (768, 768, 3)
    assert resized.mask.shape == (768, 768) and np.array_equal(resized.mask, upscaled.mask)
    background, face = resized.touched == 0, resized.mask == 255
    assert not np.array_equal(resized.after[background], upscaled.after[background])
    assert np.array_equal(resized.after[face], upscaled.after[face])


def test_another_detector_takes_effect(server: Server):
    own = server.run(restore_prompt())
    prompt = restore_prompt(detector=["face_source", 0])
    prompt["face_source"] = node("CodeFormerLoadDetector", detector="yunet")
    other = server.run(prompt)

    assert tells(own, "detector", detector="retinaface_mobile0.25")
    assert tells(other, "detector", detector="yunet")


def test_which_faces_and_how_small(server: Server):
    largest = server.run(restore_prompt("group.png", faces="largest"))
    none = server.run(restore_prompt("group.png", smallest_face=4000.0))

    assert counts(largest, found=2, restored=1, skipped=1) and tells(largest, "not_largest")
    assert counts(none, found=2, restored=0, skipped=2) and tells(none, "too_small", limit=4000)
    assert seen(server, none).same


def test_parity_enlarges_small_pictures_as_the_official_program_does(server: Server):
    prompt = restore_prompt(image=["small", 0], parity=True)
    prompt["small"] = node(
        "ImageScale", image=["photo", 0], upscale_method="area", width=256, height=256, crop="disabled"
    )
    result = seen(server, server.run(prompt))
    assert result.before.shape == (256, 256, 3) and result.after.shape == (512, 512, 3)


def test_a_number_that_is_none_is_refused_by_name(server: Server):
    done = server.run(restore_prompt(fidelity=float("nan")))
    assert done.status == "error"
    assert "fidelity must be from 0" in done.error


# --- how faces are pasted --------------------------------------------------------------------------------------------

UNCHANGED = {
    "regions": "eyes, mouth",
    "grow": 0.0,
    "feather": 0.0,
    "color_match": "off",
    "chroma_only": False,
}


def test_the_defaults_of_later_inputs_change_nothing(server: Server):
    """Prompts of before don't have them."""
    before, with_them = (seen(server, server.run(restore_prompt(**inputs))) for inputs in ({}, UNCHANGED))
    assert np.array_equal(before.after, with_them.after) and np.array_equal(before.mask, with_them.mask)


def test_the_masks_edge_moves_and_fades(server: Server):
    plain, grown, shrunk, faded = (
        seen(server, server.run(restore_prompt(**inputs)))
        for inputs in ({}, {"grow": 20.0}, {"grow": -20.0}, {"feather": 60.0})
    )
    assert (shrunk.touched > 0).sum() < (plain.touched > 0).sum() < (grown.touched > 0).sum()
    assert (faded.mask == 255).sum() < (plain.mask == 255).sum()


def test_colours_of_the_picture(server: Server):
    matched = seen(server, server.run(restore_prompt(color_match="mean-std")))
    chroma = seen(server, server.run(restore_prompt(chroma_only=True)))
    plain = seen(server, server.run(restore_prompt()))
    inside = plain.mask == 255

    def luma(picture: np.ndarray) -> np.ndarray:
        return picture[inside] @ np.array([0.299, 0.587, 0.114])

    assert np.abs(luma(chroma.after) - luma(plain.before)).max() < 2
    assert not np.array_equal(chroma.after[inside], plain.before[inside])
    off = [np.abs(result.after[inside].mean(0) - plain.before[inside].mean(0)).max() for result in (matched, plain)]
    assert off[0] < off[1] - 1


def test_clip_mask_limits_the_paste(server: Server):
    prompt = restore_prompt(mask="box", clip_mask=["clip", 0])
    prompt["clip"] = node("LoadImageMask", image="alpha.png", channel="red")
    clipped, plain = seen(server, server.run(prompt)), seen(server, server.run(restore_prompt(mask="box")))
    left, right = slice(0, 64), slice(448, 512)
    assert clipped.mask[:, left].max() < 70
    assert np.abs(clipped.mask[:, right].astype(int) - plain.mask[:, right]).max() < 70
    assert clipped.same_outside and not clipped.same


def test_regions_need_a_parser_and_parity_knows_none_of_these(server: Server):
    without = server.run(restore_prompt(mask="regions", regions="hair"))
    assert without.status == "error" and "face_mesh doesn't see the regions hair" in without.error
    unknown = server.run(restore_prompt(mask="regions", regions="tail"))
    assert "unknown face regions tail" in unknown.error
    official = server.run(restore_prompt(parity=True, grow=4.0))
    assert "which knows no grow" in official.error
