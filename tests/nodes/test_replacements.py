"""Prompts that were saved with another pack's nodes, which the newest hosts replace by ours."""

from __future__ import annotations

from typing import Any
from urllib.error import HTTPError

import pytest

from .prompts import node
from .server import Prompt, Server, ServerFailed


def saved_node(kind: str, **inputs: Any) -> dict[str, Any]:
    """As in a prompt that the editor exported."""
    return node(kind, **inputs) | {"_meta": {"title": kind}}


def facerestore_cf() -> Prompt:
    return {
        "1": saved_node("LoadImage", image="portrait.png"),
        "2": saved_node("FaceRestoreModelLoader", model_name="my_faces.pth"),
        "3": saved_node(
            "FaceRestoreCFWithModel",
            facerestore_model=["2", 0],
            image=["1", 0],
            facedetection="YOLOv5l",
            codeformer_fidelity=0.35,
        ),
        "4": saved_node("SaveImage", images=["3", 0], filename_prefix="replaced"),
    }


def replacements(server: Server) -> dict[str, Any]:
    """Old node -> what the host knows of its replacements; nothing where it replaces no nodes."""
    try:
        return server.get("/node_replacements")
    except HTTPError:
        return {}


def test_prompts_of_facerestore_cf_run(server: Server):
    prompt = facerestore_cf()
    if not replacements(server):
        with pytest.raises(ServerFailed, match="FaceRestore"):
            server.queue(prompt)
        return
    prompt_id = server.queue(prompt)
    done = server.wait(prompt_id)
    assert done.status == "success", done.error
    ran = server.get(f"/history/{prompt_id}")[prompt_id]["prompt"][2]
    assert ran["2"]["class_type"] == "CodeFormerLoadModel" and ran["2"]["inputs"]["model"] == "my_faces.pth"
    assert ran["3"]["class_type"] == "CodeFormerFaceRestore"
    kept = {"image": ["1", 0], "face_restore_model": ["2", 0], "fidelity": 0.35}
    assert ran["3"]["inputs"].items() >= kept.items() and ran["4"]["inputs"]["images"] == ["3", 0]
    assert done.outputs["3"]["codeformer_compare"][0]["total"] == 1


def test_a_prompt_with_reactors_restore_runs(server: Server):
    if not replacements(server):
        pytest.skip(f"ComfyUI {server.host.version} replaces no nodes")
    restore = saved_node(
        "ReActorRestoreFace",
        image=["1", 0],
        facedetection="retinaface_resnet50",
        model="my_faces.pth",
        visibility=0.7,
        codeformer_weight=0.35,
    )
    prompt = facerestore_cf()
    prompt_id = server.queue({"1": prompt["1"], "3": restore, "4": prompt["4"]})
    done = server.wait(prompt_id)
    assert done.status == "success", done.error
    ran = server.get(f"/history/{prompt_id}")[prompt_id]["prompt"][2]["3"]
    assert ran["class_type"] == "CodeFormerQuickFaceRestore"
    assert ran["inputs"] == {"image": ["1", 0], "model": "my_faces.pth", "fidelity": 0.35, "opacity": 0.7}
