"""Faces from MediaPipe's mesh: which points, which side, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codeformer_core.faces.components import boxes_from_68
from codeformer_core.faces.geometry import CROP_SIZE, TEMPLATE_XY, estimate_alignment
from codeformer_core.faces.mesh import faces_of_mesh
from codeformer_core.pipeline.detect import faces_from_landmarks
from codeformer_core.runtime.errors import InputError, problem_of

from .facts import kinds, steps

SIZE = (300, 400)
# Centimetres, x and y (up) of MediaPipe's canonical face model (Apache-2.0): contours of one half, from the model's
# right ear to its middle, and which point mirrors which.
HALF_XY = {
    **{127: (-7.74, 2.36), 234: (-7.66, 0.67), 93: (-7.54, -1.05), 132: (-7.27, -2.89), 58: (-6.72, -4.79)},
    **{172: (-5.94, -6.22), 150: (-4.07, -7.99), 176: (-2.31, -8.97), 152: (0, -9.40)},
    **{70: (-5.72, 4.25), 63: (-4.99, 4.80), 52: (-3.73, 4.51), 65: (-2.64, 4.52), 55: (-1.22, 4.14)},
    **{
        6: (0, 2.47),
        197: (0, 1.73),
        5: (0, 0.37),
        1: (0, -1.13),
        98: (-1.41, -1.71),
        97: (-0.60, -2.01),
        2: (0, -2.09),
    },
    **{33: (-4.45, 2.66), 160: (-3.67, 2.93), 158: (-2.72, 2.96), 133: (-1.86, 2.59), 153: (-2.72, 2.32)},
    **{144: (-3.67, 2.36), 61: (-2.46, -4.34), 40: (-1.91, -3.80), 37: (-0.71, -3.33), 0: (0, -3.41), 17: (0, -5.37)},
    **{84: (-0.70, -5.29), 91: (-1.84, -4.83), 78: (-2.15, -4.28), 82: (-0.53, -3.99), 13: (0, -3.99), 14: (0, -4.54)},
    87: (-0.58, -4.52),
}
MIRRORED = {
    **{127: 356, 234: 454, 93: 323, 132: 361, 58: 288, 172: 397, 150: 379, 176: 400, 70: 300, 63: 293, 52: 282},
    **{65: 295, 55: 285, 98: 327, 97: 326, 33: 263, 160: 387, 158: 385, 133: 362, 153: 380, 144: 373, 61: 291},
    **{40: 270, 37: 267, 84: 314, 91: 321, 78: 308, 82: 312, 87: 317},
}
CANONICAL_XY = HALF_XY | {other: (-HALF_XY[one][0], HALF_XY[one][1]) for one, other in MIRRORED.items()}
# Which of the usual 68 mirrors which.
SWAPPED = [
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
]
# What the published rule makes of the widespread mean of 68 annotated points, see test_parts.py.
MEAN_BOXES = np.array([(144, 178, 236, 269), (277, 177, 368, 268), (228, 294, 285, 350), (202, 323, 312, 433)])


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
    assert np.allclose(face.box_xyxy, (122.6, 102.0, 277.4, 244.0), atol=0.1)
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


@pytest.fixture
def landmarks_682():
    ((face,),) = faces_of_mesh(payload([mesh()]), 1, SIZE)
    found_682 = face.landmarks_68_array()
    assert found_682 is not None
    return found_682


def test_68_landmarks_are_the_usual_contours(landmarks_682):
    assert len(np.unique(landmarks_682, axis=0)) == 68
    assert np.allclose(landmarks_682[SWAPPED], (400, 0) + landmarks_682 * (-1, 1)), "left and right"
    jaw, brow, ridge, base = (landmarks_682[part] for part in (slice(17), slice(17, 22), slice(27, 31), slice(31, 36)))
    assert (np.diff(jaw[:, 0]) > 0).all() and jaw[:, 1].argmax() == 8 and (np.diff(jaw[:9, 1]) > 0).all()
    steps = np.linalg.norm(np.diff(jaw, axis=0), axis=1)
    assert steps.max() < 2 * steps.min()
    assert (np.diff(brow[:, 0]) > 0).all() and brow[:, 1].max() < landmarks_682[36:42, 1].min()
    assert (np.diff(ridge[:, 1]) > 0).all() and (np.diff(base[:, 0]) > 0).all() and base[:, 1].min() > ridge[3, 1]
    for eye in (landmarks_682[36:42], landmarks_682[42:48]):
        assert eye[:, 0].argmin() == 0 and eye[:, 0].argmax() == 3
        assert eye[1:3, 1].max() < eye[[0, 3], 1].min() and eye[4:, 1].min() > eye[[0, 3], 1].max()
    outer, inner = landmarks_682[48:60], landmarks_682[60:]
    assert outer[:, 0].argmin() == 0 and outer[:, 0].argmax() == 6 and outer[1:6, 1].max() < outer[7:, 1].min()
    assert inner[:, 0].argmin() == 0 and inner[:, 0].argmax() == 4 and inner[1:4, 1].max() < inner[5:, 1].min()
    assert (outer.min(0) < inner.min(0)).all() and (outer.max(0) > inner.max(0)).all()


def test_parts_lie_where_those_of_the_mean_annotated_face_lie(landmarks_682):
    ((face,),) = faces_of_mesh(payload([mesh()]), 1, SIZE)
    matrix = estimate_alignment(face)
    assert matrix is not None
    boxes_44 = boxes_from_68(landmarks_682 @ matrix[:, :2].T + matrix[:, 2])
    assert np.abs(boxes_44 - MEAN_BOXES).max() < 12


def test_pictures_keep_their_faces_and_their_order():
    found = faces_of_mesh(payload([mesh(300), mesh(100)], [], [mesh(50)]), 3, SIZE)
    assert [[round(face.landmarks_xy[2][0]) for face in faces] for faces in found] == [[300, 100], [], [50]]


def test_step_numbers_them_from_left_to_right_and_leaves_out_what_is_no_face():
    flat = mesh(20)
    flat["landmarks_xy"][:] = 20
    images_BHW3 = torch.rand(2, *SIZE, 3)
    found = faces_from_landmarks(images_BHW3, payload([mesh(300), flat, mesh(100)], []))
    assert [[round(face.landmarks_xy[2][0]) for face in faces] for faces in found.faces.per_image] == [[100, 300], []]
    assert [len(entries) for entries in found.skipped] == [1, 0]
    assert steps(found) == {0: {"found": 3}, 1: {"found": 0}} and "from_mesh" in kinds(found)
    (flat_face,) = found.skipped[0]
    assert flat_face.face.center_xy == (20, 20) and flat_face.as_event(0) in found.events


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
    "count": (payload([mesh()], []), "belong to 2 images, but 1 came"),
    "size": (payload([mesh()], size=(400, 300)), "images of 300x400 pixels, but these have 400x300"),
    "no points": (payload([{"score": 1.0}]), "image 1, face 1 has no landmarks_xy"),
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
    with pytest.raises(InputError, match=f"{words}.*Give the landmarks") as caught:
        faces_of_mesh(given, 1, SIZE)
    assert problem_of(caught.value) == "no_face_mesh"
