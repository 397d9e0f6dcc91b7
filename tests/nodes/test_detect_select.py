"""Detect Faces, Select Faces and Faces from Mask in a real ComfyUI: outputs, the picker's view, refusals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .prompts import counts, node, tells
from .server import Done, Prompt, Server

NODES = (
    "CodeFormerDetectFaces",
    "CodeFormerFacesFromLandmarks",
    "CodeFormerFacesFromMask",
    "CodeFormerSelectFaces",
)


def detect_prompt(picture: str = "group.png", **changes: Any) -> Prompt:
    """Photo and Detect Faces; mask, preview, boxes and report are handed out. changes: inputs of Detect Faces."""
    inputs = {
        "image": ["photo", 0],
        "detector": "yunet",
        "confidence": 0.0,
        "smallest_face": 0.0,
        "largest_face": 0.0,
        "merge_duplicates": True,
        "picked": "",
        **changes,
    }
    return {
        "photo": node("LoadImage", image=picture),
        "detect": node("CodeFormerDetectFaces", **inputs),
        "preview": node("SaveImage", images=["detect", 3], filename_prefix="preview"),
        **shown("detect", 4),
    }


def select_prompt(picture: str = "group.png", **changes: Any) -> Prompt:
    inputs = {
        "faces": ["detect", 0],
        "image": ["photo", 0],
        "numbers": "",
        "order": "as found",
        "keep": 0,
        "confidence": 0.0,
        "smallest_face": 0.0,
        "largest_turn": 90.0,
        "picked": "",
        **changes,
    }
    return detect_prompt(picture) | {"select": node("CodeFormerSelectFaces", **inputs), **shown("select", 3)}


def shown(finder: str, report_output: int) -> Prompt:
    return {
        "boxes": node("PreviewAny", source=[finder, 1]),
        "mask_image": node("MaskToImage", mask=[finder, 2]),
        "mask": node("SaveImage", images=["mask_image", 0], filename_prefix="mask"),
        "report": node("PreviewAny", source=[finder, report_output]),
    }


def view(done: Done, finder: str) -> dict[str, Any]:
    (entry,) = done.outputs[finder]["codeformer_faces"]
    return entry


def saved_view(server: Server, picture: dict[str, Any]) -> Image.Image:
    assert picture["image"]["type"] == "temp"
    return Image.open(server.base / "temp" / picture["image"]["subfolder"] / picture["image"]["filename"])


def boxes(done: Done) -> list[list[dict[str, Any]]]:
    return json.loads(done.outputs["boxes"]["text"][0])


@pytest.mark.parametrize("kind", NODES)
def test_every_input_and_output_says_what_it_does(server: Server, kind: str):
    info = server.get(f"/object_info/{kind}")[kind]
    inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
    assert inputs and all(spec[1].get("tooltip") for spec in inputs.values())
    assert info["output_tooltips"] and all(info["output_tooltips"])
    assert info["output"][:3] == ["FACES", "BOUNDING_BOX", "MASK"] and info["output"][-1] == "STRING"
    assert info["category"] == "image/face restore"
    assert "# " in server.get_text(f"/extensions/ComfyUI-CodeFormer/docs/{kind}.md")


def test_detect_finds_boxes_masks_and_pictures(server: Server):
    done = server.run(detect_prompt())

    (found,) = boxes(done)
    assert [entry["label"] for entry in found] == ["face", "face"] and found[0]["x"] < 512 <= found[1]["x"]
    mask = server.pictures(done, "mask")[0][..., 0]
    assert mask.shape == (512, 1024)
    for entry in found:
        middle = mask[entry["y"] + entry["height"] // 2, entry["x"] + entry["width"] // 2]
        assert middle == 255
    assert 0.02 < (mask > 0).mean() < 0.5
    (preview,) = server.pictures(done, "preview")
    assert preview.shape == (512, 1024, 3)
    assert counts(done, found=2) and tells(done, "detector", detector="yunet")


def test_the_picker_sees_the_pictures_and_all_faces(server: Server):
    # The oldest hosts hand out no view of a cached result, so no other test asks with these inputs.
    done = server.run(detect_prompt(smallest_face=2.0))

    entry = view(done, "detect")
    (picture,) = entry["pictures"]
    assert (entry["total"], entry["changed"]) == (1, [])
    assert (picture["width"], picture["height"]) == (1024, 512)
    assert [(face["number"], face["kept"]) for face in picture["faces"]] == [(1, True), (2, True)]
    assert all(0 <= side <= 1 for face in picture["faces"] for side in face["box"])
    saved = saved_view(server, picture)
    assert saved.size == (1024, 512)
    before = np.asarray(Image.open(server.base / "input" / "group.png"))
    assert np.abs(np.asarray(saved).astype(int) - before).max() <= 1


def test_picked_faces_are_kept_and_a_changed_picture_keeps_all(server: Server):
    second = view(server.run(detect_prompt(smallest_face=3.0)), "detect")["pictures"][0]["faces"][1]

    done = server.run(detect_prompt(picked=json.dumps({"1": [second["box"]]})))
    (found,) = boxes(done)
    assert len(found) == 1 and found[0]["x"] >= 512
    assert [face["kept"] for face in view(done, "detect")["pictures"][0]["faces"]] == [False, True]

    changed = server.run(detect_prompt(picked='{"1": [[0, 0, 0.01, 0.01]]}'))
    assert len(boxes(changed)[0]) == 2 and view(changed, "detect")["changed"] == [1]
    assert tells(changed, "images_changed")

    broken = server.run(detect_prompt(picked="{"))
    assert broken.status == "error" and "Clear the face picker" in broken.error


def test_a_picture_without_a_face_gives_empty_results(server: Server):
    done = server.run(detect_prompt("no_face.png"))
    assert boxes(done) == [[]]
    assert server.pictures(done, "mask")[0].max() == 0
    assert view(done, "detect")["pictures"][0]["faces"] == []
    assert counts(done, found=0)


def test_a_connected_detector_wins(server: Server):
    prompt = detect_prompt(face_detector=["face_source", 0])
    prompt["face_source"] = node("CodeFormerLoadDetector", detector="starter_detector")
    assert tells(server.run(prompt), "detector", detector="starter_detector")


def test_select_keeps_numbers_order_and_size(server: Server):
    done = server.run(select_prompt(numbers="2"))
    (found,) = boxes(done)
    assert len(found) == 1 and found[0]["x"] >= 512
    shown = view(done, "select")["pictures"][0]["faces"]
    assert [face["kept"] for face in shown] == [True, True], "nobody dropped one with the picker"
    assert [face["left_out"] for face in shown] == [True, False]
    assert counts(done, given=2, selected=1, skipped=1) and tells(done, "not_numbered")

    first = server.run(select_prompt(order="largest first", keep=1))
    (both,) = boxes(server.run(detect_prompt()))
    largest = max(both, key=lambda entry: entry["width"] * entry["height"])
    assert boxes(first) == [[largest]]

    none = server.run(select_prompt(smallest_face=4000.0))
    assert boxes(none) == [[]] and counts(none, given=2, selected=0, skipped=2)


def test_select_without_pictures_and_with_others(server: Server):
    prompt = select_prompt()
    del prompt["select"]["inputs"]["image"]
    (picture,) = view(server.run(prompt), "select")["pictures"]
    assert len(picture["faces"]) == 2
    # In the pictures' proportions, made of the thumbnail that goes with the faces.
    assert saved_view(server, picture).size == (256, 128)

    prompt = select_prompt(image=["portrait", 0])
    prompt["portrait"] = node("LoadImage", image="portrait.png")
    refused = server.run(prompt)
    assert refused.status == "error" and "Connect the same images" in refused.error


def test_faces_inside_a_mask(server: Server):
    prompt = detect_prompt()
    prompt["left"] = node("SolidMask", value=1.0, width=512, height=512)
    prompt["black"] = node("SolidMask", value=0.0, width=1024, height=512)
    prompt["half"] = node("MaskComposite", destination=["black", 0], source=["left", 0], x=0, y=0, operation="add")
    prompt["inside"] = node("CodeFormerFacesFromMask", faces=["detect", 0], mask=["half", 0], share=0.5)
    done = server.run(prompt | shown("inside", 3))
    (found,) = boxes(done)
    assert len(found) == 1 and found[0]["x"] < 512
    assert counts(done, given=2, inside=1, skipped=1) and tells(done, "outside_mask", share="0%")


def test_selected_faces_are_cropped_and_boxes_fit_the_hosts_own_nodes(server: Server):
    prompt = select_prompt(numbers="1")
    prompt["crop"] = node("CodeFormerCropFaces", image=["photo", 0], faces=["select", 0])
    prompt["crops"] = node("SaveImage", images=["crop", 0], filename_prefix="crops")
    draws = "DrawBBoxes" in server.get("/object_info")
    if draws:
        prompt["drawn"] = node("DrawBBoxes", image=["photo", 0], bboxes=["select", 1])
        prompt["drawing"] = node("SaveImage", images=["drawn", 0], filename_prefix="drawing")
    done = server.run(prompt)
    assert [crop.shape for crop in server.pictures(done, "crops")] == [(512, 512, 3)]
    if draws:
        before = np.asarray(Image.open(server.base / "input" / "group.png"))
        assert (server.pictures(done, "drawing")[0] != before).any()
