"""Damage as one number: nothing, the worst, monotone in between, and where the presets lie."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from codeformer_core.training.degradation import LEVELS, PRESETS, Drawn, damage_of, draw
from codeformer_core.training.degradation.draw import Blur
from codeformer_core.training.degradation.draw_wear import DrawnGrain

WORST = Drawn(size=512, blur=Blur(15, 15, 0), low_size=17, noise_sigma=20.0, jpeg_quality=30)
SOME = Drawn(size=512, blur=Blur(2, 3, 1), low_size=128, noise_sigma=5.0, jpeg_quality=75)


def damages(name: str, size: int = 512, count: int = 300) -> np.ndarray:
    return np.array([damage_of(draw(PRESETS[name], size, torch.Generator().manual_seed(n))) for n in range(count)])


def test_from_nothing_to_the_worst():
    assert damage_of(Drawn(size=512)) == 0
    assert damage_of(WORST) == pytest.approx(1, abs=0.002)
    worse = Drawn(size=512, blur=Blur(90, 90, 0), low_size=2, noise_sigma=200.0, jpeg_quality=1)
    assert damage_of(worse) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "growing"),
    [
        ("blur", [None, *(Blur(sigma, sigma, 0) for sigma in (0.1, 0.5, 1, 4, 15))]),
        ("blur", [Blur(1, sigma, 0.3) for sigma in (0.1, 1, 2, 9)]),
        ("low_size", [None, 400, 256, 100, 50, 18]),
        ("noise_sigma", [None, 1.0, 5.0, 10.0, 20.0]),
        ("jpeg_quality", [None, 95, 75, 50, 30]),
        ("lens_sigma", [None, 0.5, 1.0, 2.0]),
        ("scan_sigma", [None, 0.5, 1.0, 2.0]),
        ("grain", [None, DrawnGrain(4.0, 1.0, 0.0, 0), DrawnGrain(10.0, 1.0, 0.0, 0)]),
    ],
)
@pytest.mark.parametrize("start", [Drawn(size=512), SOME], ids=["alone", "beside other damage"])
def test_grows_with_each_step(start, name, growing):
    found = [damage_of(dataclasses.replace(start, **{name: value})) for value in growing]
    assert all(before < after for before, after in itertools.pairwise(found)), found


def test_is_the_documented_formula():
    spread = math.sqrt(1 + (4 + 9) / 2 + (16 - 1) / 4)
    worst = math.sqrt(1 + 225 + (900 - 1) / 4)
    expected = 0.8 * math.log(spread) / math.log(worst) + 0.1 * 5 / 20 + 0.1 * 25 / 70
    assert damage_of(SOME) == pytest.approx(expected, rel=1e-12)


def test_presets_and_levels():
    assert not damages("clean", count=3).any()
    assert not damages("inpainting", count=3).any()
    photo, small, large = (damages(name) for name in ("photo", "small", "large"))
    assert 0.15 < np.median(photo) < 0.25 and photo.max() < 0.36
    assert np.mean(photo == 0) == pytest.approx(0.15, abs=0.06)
    assert np.median(small) == pytest.approx(0.55, abs=0.05)
    assert np.median(large) == pytest.approx(0.78, abs=0.05) and large.min() > 0.35
    levels = [damage_of(draw(level, 512, torch.Generator().manual_seed(0))) for level in LEVELS.values()]
    assert levels == sorted(levels) and levels[-1] > 0.99


def test_does_not_depend_on_the_size():
    np.testing.assert_allclose(damages("small", 512, 40), damages("small", 256, 40), atol=0.01)
