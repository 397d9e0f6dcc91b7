"""Faces from Landmarks behind the host's own MediaPipe nodes: what they hand on is what they produce, not what a test
made up. Their weights find one known face (landmarker.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from .landmarker import save_landmarker
from .prompts import counts, node, tells
from .server import Prompt, Server
from .test_crops import found
from .test_interplay import has_nodes, saved

WEIGHTS = "one_face.safetensors"
# The right face of group.png: between its eyes and its mouth, and how large it is.
CENTER_XY, CENTIMETRE = (755.0, 246.5), 17.0


@pytest.fixture(scope="module")
def landmarks(server: Server) -> Iterator[Prompt]:
    """Two pictures of 1024x512 and the host's landmarks of them, its mask of the faces included."""
    has_nodes(server, "LoadMediaPipeFaceLandmarker", "MediaPipeFaceLandmarker", "MediaPipeFaceMask")
    path = server.base / "models" / "detection" / WEIGHTS
    save_landmarker(path, (512, 1024), CENTER_XY, CENTIMETRE)
    yield {
        "photo": node("LoadImage", image="group.png"),
        "empty": node("EmptyImage", width=1024, height=512, batch_size=1, color=0x336699),
        "two": node("ImageBatch", image1=["photo", 0], image2=["empty", 0]),
        "landmarker": node("LoadMediaPipeFaceLandmarker", model_name=WEIGHTS),
        "mesh": node(
            "MediaPipeFaceLandmarker",
            face_detection_model=["landmarker", 0],
            image=["two", 0],
            detector_variant="short",
            num_faces=0,
            min_confidence=0.5,
            missing_frame_fallback="empty",
        ),
        "faces": node("CodeFormerFacesFromLandmarks", image=["two", 0], face_landmarks=["mesh", 0]),
        "report": node("PreviewAny", source=["faces", 3]),
        "theirs": node("PreviewAny", source=["mesh", 1]),
        "ours": node("PreviewAny", source=["faces", 1]),
    }
    path.unlink()


def test_the_boxes_are_the_hosts_own(server: Server, landmarks: Prompt):
    done = server.run(landmarks)

    theirs, ours = (json.loads(done.outputs[name]["text"][0]) for name in ("theirs", "ours"))
    assert [len(found) for found in theirs] == [len(found) for found in ours] == [1, 1]
    for (their_box,), (our_box,) in zip(theirs, ours, strict=True):
        assert all(abs(their_box[side] - our_box[side]) <= 1 for side in ("x", "y", "width", "height"))
        assert our_box["score"] == pytest.approx(their_box["score"])
    assert counts(done, 0, found=1) and counts(done, 1, found=1) and tells(done, "from_mesh")


def test_the_outline_is_where_the_host_draws_the_face(server: Server, landmarks: Prompt):
    prompt: dict[str, Any] = landmarks | {
        "their_mask": node("MediaPipeFaceMask", face_landmarks=["mesh", 0], regions="all"),
        "their_picture": node("MaskToImage", mask=["their_mask", 0]),
        "our_picture": node("MaskToImage", mask=["faces", 2]),
    }
    done = server.run(prompt | saved(["their_picture", 0], "their_area") | saved(["our_picture", 0], "our_area"))

    their_area, our_area = (server.pictures(done, name)[0][..., 0] > 127 for name in ("their_area", "our_area"))
    both, either = their_area & our_area, their_area | our_area
    assert both.sum() > 0.7 * either.sum()


def test_its_face_is_the_one_that_a_detector_finds(server: Server, landmarks: Prompt):
    """Close enough for the crops of both to show the same; the mesh's points lie a little elsewhere on a face."""
    prompt: dict[str, Any] = landmarks | found("group.png")
    prompt["by_mesh"] = node("CodeFormerCropFaces", image=["two", 0], faces=["faces", 0])
    done = server.run(prompt | saved(["by_mesh", 0], "by_mesh_saved"))

    by_mesh = server.pictures(done, "by_mesh_saved")[0].astype(int)
    to_left, to_right = (np.abs(by_mesh - crop).mean() for crop in server.pictures(done, "crops"))
    assert to_right < 30 and to_right < to_left / 2
