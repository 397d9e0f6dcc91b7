"""Faces from MediaPipe's mesh: which points, which side, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codeformer_core.faces.geometry import CROP_SIZE, TEMPLATE_XY, estimate_alignment
from codeformer_core.faces.mesh import faces_of_mesh
from codeformer_core.steps.detect import faces_from_landmarks

SIZE = (300, 400)
# Centimetres, x and y (up) of MediaPipe's canonical face model: corners of the eyes, nose, corners of the mouth, chin.
CANONICAL_XY = {
    33: (-4.445859, 2.663991),
    133: (-1.856432, 2.585245),
    362: (1.856432, 2.585245),
    263: (4.445859, 2.663991),
    1: (0.0, -1.126865),
    61: (-2.456206, -4.342621),
    291: (2.456206, -4.342621),
    152: (0.0, -9.403378),
}


def mesh(x=200.0, y=150.0, size=10.0, points=478):
    """What the host's node hands on for a face (tests/nodes/test_landmarks.py has it from the node itself): the known
    points of an upright face, `size` pixels for each centimetre; all others in its middle."""
    landmarks = np.tile(np.array((x, y), np.float32), (points, 1))
    for number, (across, up) in CANONICAL_XY.items():
        landmarks[number] = x + size * across, y - size * up
    return {
        "bbox_xyxy": np.concatenate((landmarks.min(0), landmarks.max(0))),
        "blendshapes": {"_neutral": 0.5},
        "landmarks_xy": landmarks,
        "landmarks_3d": np.zeros((points, 3), np.float32),
        "presence": 12.5,
        "score": 0.8,
        "transformation_matrix": np.eye(4, dtype=np.float32),
    }


def payload(*frames, size=SIZE):
    return {"frames": list(frames), "image_size": size, "connection_sets": {"face_oval": frozenset({(10, 338)})}}


@pytest.mark.parametrize("points", [468, 478])
def test_five_points_and_the_extent(points):
    ((face,),) = faces_of_mesh(payload([mesh(points=points)]), 1, SIZE)
    expected = ((168.5, 123.8), (231.5, 123.8), (200, 161.3), (175.4, 193.4), (224.6, 193.4))
    assert np.allclose(face.landmarks_xy, expected, atol=0.1)
    assert np.allclose(face.box_xyxy, (155.5, 123.4, 244.5, 244.0), atol=0.1)
    assert face.score == pytest.approx(0.8)


def test_irises_are_no_part_of_the_box():
    wide = mesh()
    wide["landmarks_xy"][470] = (5, 5)
    ((face,),) = faces_of_mesh(payload([wide]), 1, SIZE)
    assert face.box_xyxy[0] > 100


def test_an_upright_face_is_aligned_upright_and_fits_the_template():
    """Also says that the tip of the nose is the right one of the mesh's several."""
    ((face,),) = faces_of_mesh(payload([mesh()]), 1, SIZE)
    matrix = estimate_alignment(face)
    assert matrix is not None and matrix[0, 0] > 0 and abs(matrix[1, 0]) < 0.05 * matrix[0, 0]
    placed = face.landmarks_array() @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(placed - TEMPLATE_XY).max() < 0.03 * CROP_SIZE


def test_pictures_keep_their_faces_and_their_order():
    found = faces_of_mesh(payload([mesh(300), mesh(100)], [], [mesh(50)]), 3, SIZE)
    assert [[round(face.landmarks_xy[2][0]) for face in faces] for faces in found] == [[300, 100], [], [50]]


def test_step_numbers_them_from_left_to_right_and_leaves_out_what_is_no_face():
    flat = mesh(20)
    flat["landmarks_xy"][:] = 20
    images_BHW3 = torch.rand(2, *SIZE, 3)
    found = faces_from_landmarks(images_BHW3, payload([mesh(300), flat, mesh(100)], []))
    assert [[round(face.landmarks_xy[2][0]) for face in faces] for faces in found.faces.per_picture] == [[100, 300], []]
    assert [len(entries) for entries in found.skipped] == [1, 0]
    assert "picture 1: 2 faces found\n  skipped at (20, 20)" in found.summary()
    assert "picture 2: no face found" in found.summary()


def broken(**changes):
    return mesh() | changes


with_nan = mesh()
with_nan["landmarks_xy"][7, 1] = np.nan

REFUSED = {
    "None": (None, "must be a dict with frames and image_size, got NoneType"),
    "other": ({"boxes": []}, "got boxes"),
    "no frames": (payload() | {"frames": 3}, "frames must be a list"),
    "flat frames": (payload(mesh()), "frames must be a list"),
    "no size": (payload([mesh()], size=None), "image_size must be"),
    "count": (payload([mesh()], []), "belong to 2 pictures, but 1 came"),
    "size": (payload([mesh()], size=(400, 300)), "pictures of 300x400 pixels, but these have 400x300"),
    "no points": (payload([{"score": 1.0}]), "picture 1, face 1 has no landmarks_xy"),
    "five points": (payload([mesh(), broken(landmarks_xy=np.zeros((5, 2)))]), r"face 2 must have 468 or 478.*\(5, 2\)"),
    "in space": (payload([broken(landmarks_xy=np.zeros((478, 3)))]), r"\(478, 3\)"),
    "ragged": (payload([broken(landmarks_xy=[[1, 2], [3]])]), "are not numbers"),
    "nan": (payload([with_nan]), "holds 1 numbers that are NaN"),
    "score": (payload([broken(score=float("nan"))]), "has the score nan"),
    "no score": (payload([broken(score=None)]), "has the score None"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_payloads_are_refused_with_a_cure(name):
    given, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"{words}.*Cure: connect the landmarks"):
        faces_of_mesh(given, 1, SIZE)
