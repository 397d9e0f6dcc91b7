"""Wear of prints and scans: one fact about each effect, shares, both ways to compute them, and their place in YAML."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from codeformer_core.degradation import (
    PRESETS,
    Degradation,
    Drawn,
    Fading,
    Grain,
    Halftone,
    RoundBlur,
    Scratches,
    degrade_batch,
    degrade_on_cpu,
    draw,
)
from codeformer_core.degradation.draw_wear import DrawnFading, DrawnGrain, DrawnHalftone, Mark, Wave
from codeformer_core.degradation.noise import _hash, _keys, bytes_batch, bytes_of, hashes_of
from codeformer_core.degradation.worn import blur_by_sums, gaussian_taps, plane_waves, separable_blur
from codeformer_core.training.config import read_config

PHOTO = PRESETS["photo"]
WEAR = ("lens", "grain", "halftone", "fading", "scratches", "scan")
DRAWN = ("lens_sigma", "grain", "halftone", "fading", "marks", "scan_sigma")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(level: float, size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


def worn(face_HW3: np.ndarray, **wear) -> np.ndarray:
    """(H, W, 3) float64, by both paths, which must agree."""
    drawn = Drawn(size=len(face_HW3), **wear)
    on_cpu = degrade_on_cpu(face_HW3, drawn)
    batch_B3HW = torch.from_numpy(face_HW3).permute(2, 0, 1)[None]
    assert np.abs(on_cpu.astype(int) - degrade_batch(batch_B3HW, [drawn])[0].permute(1, 2, 0).int().numpy()).max() <= 1
    return on_cpu.astype(float)


def with_shares(share: float) -> Degradation:
    """`photo` whose wear all happens in this share of the faces."""
    wear = {name: dataclasses.replace(getattr(PHOTO, name), share=share) for name in WEAR}
    return dataclasses.replace(PHOTO, clean_share=None, **wear)


def test_grain_follows_brightness():
    """A fifth in black and white of what the midtones get; the stated deviation there, whatever the blur."""
    for sigma in (0.1, 0.5, 1.5):
        grain = DrawnGrain(strength=12.0, sigma=sigma, chroma=0.0, seed=5)
        deviations = [worn(flat(level, 128), grain=grain)[..., 0].std() for level in (8, 64, 128, 192, 247)]
        assert deviations[2] == pytest.approx(12, rel=0.06)
        assert deviations[1] == pytest.approx(12 * (0.2 + 0.8 * 0.75), rel=0.08)
        assert max(deviations[0], deviations[4]) < 0.4 * deviations[2] < deviations[3]


def test_grain_is_alike_in_neighbours_and_mostly_brightness():
    fine, coarse = (worn(flat(128, 128), grain=DrawnGrain(20.0, sigma, 0.25, seed=9)) - 128 for sigma in (0.1, 1.5))
    alike = [np.corrcoef(each[:, 1:, 0].ravel(), each[:, :-1, 0].ravel())[0, 1] for each in (fine, coarse)]
    assert abs(alike[0]) < 0.05 and alike[1] > 0.8
    luma = coarse @ np.array([0.299, 0.587, 0.114])
    chroma = coarse[..., 0] - luma
    assert luma.std() == pytest.approx(20, rel=0.1) and chroma.std() == pytest.approx(5, rel=0.1)
    assert abs(np.corrcoef(luma.ravel(), chroma.ravel())[0, 1]) < 0.15
    gray = worn(flat(128, 128), grain=DrawnGrain(20.0, 1.5, 0.0, seed=9))
    assert (gray == gray[..., :1]).all()


def test_halftone_has_its_period_and_keeps_the_tone():
    """The spectrum of a flat gray face peaks at one over the period, along the drawn direction only."""
    period, size = 8.0, 128
    along, across = Wave(1 / period, 0.0, 0.3), Wave(0.0, 1 / period, 1.0)
    for screen, places in (((along, along), {(0, 16)}), ((along, across), {(0, 16), (16, 0)})):
        screened = worn(flat(128, size), halftone=DrawnHalftone((screen,), strength=0.3))
        powers = np.abs(np.fft.fft2(screened[..., 1] - screened[..., 1].mean()))[: size // 2, : size // 2]
        strongest = np.argsort(powers.ravel())[::-1][: len(places)]
        assert {(int(place) // (size // 2), int(place) % (size // 2)) for place in strongest} == places
        assert screened.mean() == pytest.approx(128, abs=1)
        assert screened.std() > 10
        assert (worn(flat(255, size), halftone=DrawnHalftone((screen,), 0.3)) > 210).all(), "at most half of the share"


def test_a_rosette_has_a_screen_for_each_colour():
    always = Halftone(share=1, period=(6, 6), strength=(0.4, 0.4), lines=0, rosette=1)
    drawn = draw(Degradation(None, None, None, None, halftone=always), 64, seeded(0))
    assert len(drawn.halftone.screens) == 3
    screened = worn(flat(128), halftone=drawn.halftone)
    assert np.abs(np.corrcoef(screened.reshape(-1, 3).T)[np.triu_indices(3, 1)]).max() < 0.5
    lines = draw(
        Degradation(None, None, None, None, halftone=dataclasses.replace(always, lines=1, rosette=0)), 512, seeded(0)
    )
    ((first, second),) = lines.halftone.screens
    assert first == second and np.hypot(first.along_x, first.along_y) == pytest.approx(1 / 6)


def test_fading_is_smooth_and_goes_toward_its_level():
    drawn = draw(Degradation(None, None, None, None, fading=Fading(1, (0.5, 0.5), (230, 230), (0.3, 1))), 64, seeded(4))
    faded = worn(flat(40), fading=drawn.fading) - 40
    assert faded.min() >= 0 and faded.max() <= 0.5 * 190 + 1 and np.ptp(faded) > 20, "in parts"
    powers = np.abs(np.fft.fft2((faded - faded.mean())[..., 0] * np.outer(np.hanning(64), np.hanning(64)))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64) * 64, np.fft.fftfreq(64) * 64))
    assert powers[frequency < 5].sum() > 0.98 * powers.sum()
    checks = (np.indices((64, 64)).sum(0) % 2 * 200 + 20).astype(np.uint8)[..., None].repeat(3, -1)
    halved = worn(checks, fading=DrawnFading(0.5, 128.0, drawn.fading.waves))
    assert halved.std() < 0.95 * checks.std(), "contrast is lost"


def test_scratches_change_few_pixels_strongly():
    always = Scratches(share=1, lines=(3, 3), specks=(10, 10), width=(1, 2), opacity=(0.8, 0.9))
    degradation = Degradation(None, None, None, None, scratches=always)
    for seed in range(5):
        drawn = draw(degradation, 512, seeded(seed))
        assert len(drawn.marks) == 13 and sum(len(mark.points) > 1 for mark in drawn.marks) == 3
        change = np.abs(worn(flat(128, 512), marks=drawn.marks) - 128).max(-1)
        assert 0.0001 < (change > 0).mean() < 0.03
        assert change.max() > 40
    upright = Mark(((20.0, 0.0), (20.0, 64.0)), width=2.0, level=255.0, opacity=0.5)
    covered = worn(flat(100), marks=(upright,))
    assert set(np.flatnonzero((covered != 100).any((0, 2)))) <= {18, 19, 20, 21}
    assert covered.max() == pytest.approx(100 + 0.5 * 155, abs=1), "half transparent"


def test_round_blur_has_its_variance():
    point = flat(0, 33)
    point[16, 16] = 255
    # What is lost to whole levels is little at a small sigma.
    for name in ("lens_sigma", "scan_sigma"):
        blurred = worn(point, **{name: 1.2})[..., 0]
        places = np.arange(33) - 16
        assert (blurred.sum(0) * places**2).sum() / blurred.sum() == pytest.approx(1.2**2, rel=0.1)


def test_shares_of_none_and_of_all():
    assert not any(draw(with_shares(0), 64, seeded(seed)).is_worn for seed in range(20))
    for seed in range(20):
        drawn = draw(with_shares(1), 64, seeded(seed))
        missing = {name for name in DRAWN if not getattr(drawn, name)}
        assert missing <= {"marks"}, "a draw may come to no line and no speck"
    assert draw(dataclasses.replace(PHOTO, clean_share=1), 64, seeded(0)) == Drawn(size=64)


def test_photo_draws_its_shares_and_one_or_two_effects():
    drawn = [draw(PHOTO, 512, seeded(seed)) for seed in range(800)]
    damaged = [each for each in drawn if each != Drawn(size=512)]
    assert 1 - len(damaged) / len(drawn) == pytest.approx(PHOTO.clean_share, abs=0.04)
    for option, name in zip(WEAR, DRAWN, strict=True):
        found = np.mean([bool(getattr(each, name)) for each in damaged])
        assert found == pytest.approx(getattr(PHOTO, option).share, abs=0.05), option
    colors = [bool(each.colors.shift_rgb or each.colors.adjustments) for each in damaged]
    counts = np.sum([[bool(getattr(each, name)) for each in damaged] for name in DRAWN[1:]], axis=0) + colors
    assert np.median(counts) in (1, 2) and np.isin(counts, (1, 2)).mean() > 0.6
    assert len({each.grain.seed for each in damaged if each.grain}) > 250


def test_lengths_follow_the_size():
    large, small = (draw(with_shares(1), size, seeded(6)) for size in (512, 128))
    assert small.grain.sigma == large.grain.sigma / 4 and small.grain.strength == large.grain.strength
    assert (small.lens_sigma, small.scan_sigma) == (large.lens_sigma / 4, large.scan_sigma / 4)
    assert [mark.width * 4 for mark in small.marks] == pytest.approx([mark.width for mark in large.marks])
    assert [wave.along_x for wave in small.fading.waves] == pytest.approx([w.along_x * 4 for w in large.fading.waves])


def test_a_batch_is_its_faces_alone():
    """Some worn in one way, some in another, one not at all; to the bit."""
    drawn = [draw(with_shares(1), 64, seeded(1)), Drawn(size=64)]
    drawn += [dataclasses.replace(drawn[0], **{name: Drawn(64).__dict__[name]}) for name in DRAWN]
    noise = np.random.default_rng(0).integers(0, 256, (len(drawn), 3, 64, 64)).astype(np.uint8)
    batch_B3HW = torch.from_numpy(noise)
    together_B3HW = degrade_batch(batch_B3HW, drawn)
    for face_3HW, each, result_3HW in zip(batch_B3HW, drawn, together_B3HW, strict=True):
        if each != drawn[1]:
            assert degrade_batch(face_3HW[None], [each])[0].equal(result_3HW)
        on_cpu = degrade_on_cpu(face_3HW.permute(1, 2, 0).contiguous().numpy(), each)
        difference = np.abs(on_cpu.astype(int) - result_3HW.permute(1, 2, 0).int().numpy())
        assert (difference <= 1).mean() >= 0.995
    assert together_B3HW[1].equal(batch_B3HW[1])


@pytest.mark.parametrize("size", [2, 3, 40])
def test_blur_is_the_same_by_sums_as_by_opencv(size):
    """The device's way, computed here; with the reach of a wider neighbour, which must not matter."""
    levels_B3HW = torch.rand((3, 3, size, size), generator=seeded(0)) * 255
    sigmas = [0.05, 0.7, 2.0]
    taps_BT = gaussian_taps(sigmas, size)
    np.testing.assert_allclose(taps_BT.sum(1), 1, rtol=1e-12)
    by_sums = blur_by_sums(levels_B3HW, taps_BT)
    torch.testing.assert_close(by_sums, separable_blur(levels_B3HW, taps_BT), atol=2e-4, rtol=0)
    alone = blur_by_sums(levels_B3HW[1:2], gaussian_taps(sigmas[1:2], size))
    torch.testing.assert_close(by_sums[1:2], alone, atol=2e-5, rtol=0)


def test_hashes_are_the_same_in_32_and_64_bits():
    for seed in (0, 1, 2**31, 2**62 - 1):
        in_64_bits = _hash(torch.arange(999), *_keys(seed))
        np.testing.assert_array_equal(in_64_bits.numpy(), hashes_of(seed, 999))
        assert bytes_of(in_64_bits[None]).equal(bytes_batch([seed], 999, torch.device("cpu")))
    quarter = bytes_batch([7], 40_000, torch.device("cpu"))[0].double()
    np.testing.assert_allclose(quarter.mean(1), 127.5, atol=4 * 74 / 200)
    assert np.abs(np.corrcoef(quarter.numpy()) - np.eye(4)).max() < 0.025


def test_waves_are_cosines_of_the_plane():
    waves = (Wave(0.11, -0.07, 0.4), Wave(-0.02, 0.3, 2.0))
    y, x = np.mgrid[:48, :48]
    expected = sum(np.cos(2 * np.pi * (each.along_x * x + each.along_y * y) + each.phase) for each in waves)
    found_B1HW = plane_waves([[waves]], torch.zeros(1, 3, 48, 48))
    np.testing.assert_allclose(found_B1HW[0, 0].numpy(), expected, atol=2e-6)


def test_from_yaml(tmp_path):
    """All of `photo` written out, and a part of it."""
    (tmp_path / "mine.yaml").write_text(
        """
preset: smoke
degradations:
  dusty:
    blur_sigma: null
    downscale: [1, 2]
    noise: null
    jpeg_quality: null
    clean_share: 0.25
    lens: {share: 1, sigma: [0.5, 1]}
    grain: {share: 0.5, strength: [2, 8], sigma: [0.5, 1.5], chroma: [0, 0]}
    halftone: null
    scratches: {share: 1, lines: [0, 2], specks: [5, 9], width: [1, 2], opacity: [0.5, 1]}
"""
    )
    config = read_config(str(tmp_path / "mine.yaml"))
    assert config.degradation("dusty") == Degradation(
        None,
        (1, 2),
        None,
        None,
        clean_share=0.25,
        lens=RoundBlur(1, (0.5, 1)),
        grain=Grain(0.5, (2, 8), (0.5, 1.5), (0, 0)),
        scratches=Scratches(1, (0, 2), (5, 9), (1, 2), (0.5, 1)),
    )
    written = {"degradations": {"again": dataclasses.asdict(PHOTO)}}
    assert read_config("smoke", sections=written).degradation("again") == PHOTO
    (tmp_path / "wrong.yaml").write_text((tmp_path / "mine.yaml").read_text().replace("[2, 8]", "[8, 2]"))
    with pytest.raises(ValueError, match=r"dusty.*grain.strength .*smaller one first.*got \(8.0, 2.0\)"):
        read_config(str(tmp_path / "wrong.yaml"))


@pytest.mark.parametrize(
    ("option", "change", "message"),
    [
        ("grain", {"share": 1.5}, "grain.share is a share of the faces and must be from 0 to 1, got 1.5"),
        ("grain", {"strength": (9, 3)}, "grain.strength .* smaller one first .* got \\(9, 3\\)"),
        ("grain", {"chroma": (0, 2)}, "grain.chroma must be two numbers from 0 to 1"),
        ("halftone", {"period": (1, 4)}, "halftone.period must be two numbers at least 2"),
        ("halftone", {"rosette": -0.1}, "halftone.rosette .* got -0.1"),
        ("fading", {"toward": (0, 256)}, "fading.toward must be two numbers from 0 to 255, .* got \\(0, 256\\)"),
        ("scratches", {"specks": (0.5, 2)}, "scratches.specks must be two whole numbers"),
        ("scratches", {"opacity": (0.5, float("nan"))}, "scratches.opacity must be"),
        ("scan", {"sigma": (0, 1)}, "round blur's sigma must be two numbers from 0.01 to 20"),
    ],
)
def test_refuses_impossible_ranges(option, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(getattr(PHOTO, option), **change)


def test_refuses_an_impossible_clean_share():
    with pytest.raises(ValueError, match="clean_share is a share of the faces and must be from 0 to 1, got 2"):
        dataclasses.replace(PHOTO, clean_share=2)
