"""The face mesh's second look at what a detector found: better landmarks, and the detector's own where it sees none."""

from __future__ import annotations

import argparse
import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import codeformer_core as cf
from codeformer_core.commands import align as align_command
from codeformer_core.commands.console import Console
from codeformer_core.faces.detectors.refined import REFINED, RefinedDetector, unrefined, with_landmarks_68
from codeformer_core.faces.geometry import TEMPLATE_XY, estimate_alignment
from codeformer_core.models.kinds import DETECTOR
from codeformer_core.models.library import ModelLibrary
from codeformer_core.pipeline.options import RestoreOptions
from codeformer_core.pipeline.plan import plan
from codeformer_core.pipeline.reference import OFFICIAL
from codeformer_core.runtime.host import FixedFolders
from codeformer_core.runtime.plain_host import PlainHost

from ..face_pictures import large_faces
from .conftest import GivenDetector, face_at

# How badly a detector places its points, in pixels of the aligned crop: turned by a tenth, and shifted.
BADLY = 0.1 * (TEMPLATE_XY - 256) @ np.array([(0, 1), (-1, 0)]) + np.array((8, -6))
COUNT = 6


@pytest.fixture(scope="module")
def mesh():
    return cf.load_landmark_detector("face_mesh")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ModelLibrary:
    return ModelLibrary(PlainHost("cpu", FixedFolders((tmp_path_factory.mktemp("models"),))))


@pytest.fixture(scope="module")
def photos_B() -> list[Tensor]:
    """Aligned faces, 512 px, (1, 512, 512, 3) in [0, 1]."""
    arrays = [np.asarray(Image.open(file).convert("RGB")).copy() for file in large_faces()[:COUNT]]
    return [torch.from_numpy(array)[None].float() / 255 for array in arrays]


def error(face: cf.Face) -> float:
    """How far the template's points land from where they are: these photos are aligned."""
    matrix = estimate_alignment(face)
    assert matrix is not None
    return float(np.linalg.norm(TEMPLATE_XY @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE_XY, axis=1).mean())


def found(detector_face: cf.Face, photo_1HW3: Tensor, landmark_detector) -> cf.Face:
    detector = RefinedDetector(GivenDetector(((detector_face,),)), landmark_detector)
    ((face,),) = detector.detect(photo_1HW3)
    return face


def test_badly_placed_landmarks_come_nearer_to_the_template(mesh, photos_B):
    bad = face_at(TEMPLATE_XY + BADLY)
    after = [error(found(bad, photo, mesh)) for photo in photos_B]
    assert error(bad) > 9 and np.mean(after) < 0.7 * error(bad)


def test_boxes_scores_and_order_stay(mesh, photos_B):
    first, second = face_at(TEMPLATE_XY + BADLY), face_at(TEMPLATE_XY + 3)
    given = GivenDetector(((first, second), ()))
    photos_2HW3 = torch.cat((photos_B[0], photos_B[1]))
    photos_2HW3[:, 0, 0] = torch.tensor([[0.0], [1 / 255]])
    faces, none = RefinedDetector(given, mesh).detect(photos_2HW3)
    assert none == [] and len(faces) == 2
    for before, after in zip((first, second), faces, strict=True):
        assert after.landmarks_xy != before.landmarks_xy
        assert dataclasses.replace(after, landmarks_xy=before.landmarks_xy) == before


def test_gray_images_and_those_with_alpha_are_looked_at_too(mesh, photos_B):
    bad, photo = face_at(TEMPLATE_XY + BADLY), photos_B[0]
    alpha = torch.cat((photo, torch.ones(1, 512, 512, 1)), dim=-1)
    assert found(bad, alpha, mesh) == found(bad, photo, mesh)
    assert error(found(bad, photo.mean(-1, keepdim=True), mesh)) < error(bad)


def test_where_the_mesh_sees_no_face_the_landmarks_are_the_detectors(mesh):
    bad = face_at(TEMPLATE_XY + BADLY)
    assert found(bad, torch.full((1, 512, 512, 3), 0.4), mesh) == bad


def test_profiles_and_what_cannot_be_aligned_are_not_looked_at(photos_B):
    profile = TEMPLATE_XY.copy()
    profile[2, 0] += 150
    for landmarks in (profile, np.full((5, 2), 100.0)):
        face = face_at(landmarks)
        # No landmark detector that could be asked.
        assert found(face, photos_B[0], None) == face


def test_another_face_that_the_mesh_found_beside_it_is_not_taken():
    face = face_at(TEMPLATE_XY)
    landmarks_682 = np.zeros((68, 2))
    for points, place in zip(((36, 39), (42, 45), (30,), (48,), (54,)), TEMPLATE_XY, strict=True):
        landmarks_682[list(points)] = place
    matrix = np.array([(1.0, 0, 0), (0, 1, 0)])
    moved = with_landmarks_68(face, matrix, landmarks_682 + np.array((20, 0)))
    assert np.allclose(np.mean(moved.landmarks_xy, 0) - TEMPLATE_XY.mean(0), (20, -3), atol=1)
    assert with_landmarks_68(face, matrix, landmarks_682 + np.array((80, 0))) == face
    assert with_landmarks_68(face, matrix, np.full((68, 2), np.nan)) == face


def test_the_library_refines_the_detectors_that_gain_by_it(library):
    yunet = library.load_detector("yunet")
    assert isinstance(yunet, RefinedDetector) and yunet.name == "yunet" and yunet.module is None
    assert yunet.default_confidence == unrefined(yunet).default_confidence
    assert not isinstance(library.load_detector("yunet", refine=False), RefinedDetector)
    starter = library.load_detector("starter_detector")
    assert unrefined(starter) is starter
    assert set(REFINED) < set(DETECTOR.best_first)


def test_the_official_recipe_takes_the_detectors_own_landmarks(mesh, photos_B):
    bad = face_at(TEMPLATE_XY + BADLY)
    detector = RefinedDetector(GivenDetector(((bad,),)), mesh)
    (official,) = plan(photos_B[0], detector, RestoreOptions(parity=True), OFFICIAL).aligned
    assert official.face == bad
    (usual,) = plan(photos_B[0], detector).aligned
    assert usual.face.landmarks_xy != bad.landmarks_xy


def test_training_faces_are_aligned_without_it(monkeypatch):
    """Its own further looks are those of the detector."""
    asked = []
    monkeypatch.setattr(ModelLibrary, "load_detector", lambda self, choice, **options: asked.append(options))
    args = argparse.Namespace(detector="yunet", device="cpu")
    align_command._load_detector(args, Console(io.StringIO(), io.StringIO()))
    assert asked == [{"refine": False}]
