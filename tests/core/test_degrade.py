"""Degraded pictures: as in training, by seed and place alone, at any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codeformer_core.degradation import LEVELS, PRESETS, degrade_on_cpu, draw
from codeformer_core.study.degrade import DEGRADATIONS, DEGRADING, degrade_images
from codeformer_core.study.limits import DEGRADATION_NAMES, MAX_SEED

from .facts import facts, kinds


def smooth(batch: int, height: int, width: int, channels: int = 3) -> Tensor:
    coarse = torch.rand((batch, channels, 6, 6), generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1).permute(0, 2, 3, 1)


def test_kinds_are_those_of_training():
    known = {**PRESETS, **LEVELS}
    assert list(DEGRADATIONS) == list(DEGRADATION_NAMES) and all(
        DEGRADATIONS[kind] is known[kind] for kind in DEGRADATION_NAMES
    )
    assert all(degradation in DEGRADATIONS.values() for name, degradation in known.items() if name != "clean")


@pytest.mark.parametrize("kind", DEGRADATION_NAMES)
def test_faces_are_made_worse_as_in_training(kind):
    images = smooth(1, 128, 128)
    before = images.clone()
    degraded = degrade_images(images, kind=kind, seed=7)
    assert torch.equal(images, before)
    assert degraded.images_BHWC.shape == images.shape and degraded.images_BHWC.dtype == torch.float32
    assert (degraded.images_BHWC - images).abs().mean() > 1e-3
    levels = degraded.images_BHWC * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert {event.image for event in degraded.events} == {0}


def test_what_is_reported_is_what_was_done(monkeypatch):
    drawn = []
    monkeypatch.setattr("codeformer_core.study.degrade.draw", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    images = smooth(2, 64, 64)
    degraded = degrade_images(images, kind="colorization", seed=5)
    assert len(drawn) == 2
    for index, each in enumerate(drawn):
        levels = (images[index] * 255).round().to(torch.uint8).numpy()
        expected = torch.from_numpy(degrade_on_cpu(levels, each)).float() / 255
        assert torch.equal(degraded.images_BHWC[index], expected)
        told = {event.kind: event.values for event in degraded.events if event.image == index}
        blur = told["blur"]["sigma"] if "blur" in told else told["oval_blur"]["sigma_x"]
        assert blur == each.blur.sigma_x and told["shrunk"]["size"] == each.low_size
        assert told["noise"] == {"sigma": each.noise_sigma} and told["jpeg"] == {"quality": each.jpeg_quality}
        adjusted = [event.values for event in degraded.events if event.image == index and event.kind == "adjusted"]
        assert [(values["what"], values["factor"]) for values in adjusted] == list(each.colors.adjustments)


def test_wear_is_reported():
    degraded = degrade_images(smooth(40, 64, 64), kind="photo", seed=1)
    assert {"lens_blur", "grain", "screen", "fading", "scratches", "scanner_blur", "undamaged"} <= kinds(degraded)
    assert "dots" in {values["shape"] for _, _, values in facts(degraded, "screen")}


def test_a_seed_gives_the_same_however_many_pictures_come():
    images = smooth(3, 96, 96)
    together = degrade_images(images, kind="paper", seed=11)
    again, shorter = (degrade_images(part, kind="paper", seed=11) for part in (images, images[:2]))
    assert torch.equal(together.images_BHWC, again.images_BHWC)
    assert torch.equal(together.images_BHWC[:2], shorter.images_BHWC)
    assert [event for event in together.events if event.image != 2] == list(shorter.events)
    # Every place and every seed have numbers of their own.
    other = degrade_images(images, kind="paper", seed=12)
    drawn = {
        str([(event.kind, event.values) for event in result.events if event.image == image])
        for result in (together, other)
        for image in range(3)
    }
    assert len(drawn) == 6


@pytest.mark.parametrize(("height", "width"), [(40, 100), (100, 40), (1, 30), (51, 50)])
def test_pictures_that_are_not_square_keep_their_size(height, width):
    images = smooth(1, height, width)
    degraded = degrade_images(images, kind="x2", seed=0).images_BHWC
    assert degraded.shape == images.shape
    assert 0 < (degraded - images).abs().mean() < 0.2


def test_a_flat_picture_stays_at_its_colour_to_the_border():
    images = torch.full((1, 60, 90, 3), 0.5)
    degraded = degrade_images(images, kind="x2", seed=0).images_BHWC
    assert (degraded - 0.5).abs().max() < 0.1 and (degraded.mean() - 0.5).abs() < 0.01


def test_strengths_grow_with_the_level():
    images = smooth(1, 128, 128)
    apart = [
        float((degrade_images(images, kind=kind, seed=3).images_BHWC - images).square().mean())
        for kind in ("x2", "x8", "x30")
    ]
    assert apart == sorted(apart) and apart[0] < apart[-1] / 2


def test_strokes_are_white_and_nothing_else_changes():
    images = smooth(1, 128, 128) * 0.8
    degraded = degrade_images(images, kind="inpainting", seed=1)
    painted = (degraded.images_BHWC == 1).all(-1)
    assert 0.01 < painted.float().mean() < 0.9
    assert torch.allclose(degraded.images_BHWC[~painted], images[~painted], atol=0.51 / 255)
    assert kinds(degraded) == {"strokes"}


def test_transparency_is_kept_and_gray_has_three_channels():
    images = smooth(1, 64, 64, channels=4)
    degraded = degrade_images(images, kind="small", seed=0).images_BHWC
    assert torch.equal(degraded[..., 3], images[..., 3]) and not torch.equal(degraded, images)
    assert degrade_images(smooth(1, 64, 64, channels=1), kind="small", seed=0).images_BHWC.shape[-1] == 3


def test_progress_and_cancel():
    told = []
    degrade_images(smooth(2, 32, 32), kind="small", seed=0, on_progress=lambda *said: told.append(said))
    assert told == [(DEGRADING, 0, 2), (DEGRADING, 1, 2), (DEGRADING, 2, 2)]


def test_largest_seed():
    assert degrade_images(smooth(1, 32, 32), kind="small", seed=MAX_SEED).events


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "stage9"}, "kind must be one of small, large.*got 'stage9'"),
        ({"seed": -1}, "seed must be from 0 to 18446744073709551615, got -1"),
        ({"images_BHWC": torch.rand(1, 1, 1, 3)}, "more than 1 pixel"),
        ({"images_BHWC": torch.full((1, 8, 8, 3), torch.nan)}, "number 1 holds 192 values that are NaN"),
    ],
)
def test_what_is_refused(changes, words):
    given = {"images_BHWC": torch.rand(1, 8, 8, 3), "kind": "small", "seed": 0} | changes
    with pytest.raises(ValueError, match=words):
        degrade_images(given.pop("images_BHWC"), **given)
