"""Edges, energy by frequency band and colour shift against small computations of another kind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codeformer_core.metrics.colours import GRID, ColorShift, lab
from codeformer_core.metrics.detail import BandEnergy, Edges

METRICS = (Edges(), BandEnergy(4, 12), ColorShift())


def faces(count: int = 2, side: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(seed))


def blurred(faces_B3HW: torch.Tensor, window: int = 5) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(faces_B3HW, window, 1, window // 2, count_include_pad=False)


def test_edges_are_sobels_in_the_middle_of_the_face():
    clean_B3HW = faces(side=64)
    restored_B3HW = blurred(clean_B3HW)

    def mean_magnitude(face_3HW: torch.Tensor) -> float:
        gray = np.tensordot((0.299, 0.587, 0.114), face_3HW.double().numpy(), 1)
        values = []
        # 60..480 of 512 rows and 90..430 of its columns, of 64
        for y in range(7, 60):
            for x in range(11, 54):
                window = gray[y - 1 : y + 2, x - 1 : x + 2]
                across = (window[:, 2] - window[:, 0]) @ (1, 2, 1)
                down = (window[2] - window[0]) @ (1, 2, 1)
                values.append(math.hypot(across, down))
        return float(np.mean(values))

    for index, value in enumerate(Edges().measure(restored_B3HW, clean_B3HW)):
        expected = mean_magnitude(restored_B3HW[index]) / mean_magnitude(clean_B3HW[index])
        assert 0 < expected < 0.5 and float(value) == pytest.approx(expected, rel=1e-4)


def test_what_lies_outside_the_face_has_no_edges():
    clean_B3HW = faces(1, 512)
    changed_B3HW = clean_B3HW.clone()
    changed_B3HW[:, :, :58] = changed_B3HW[:, :, 482:] = 0
    changed_B3HW[:, :, :, :88] = changed_B3HW[:, :, :, 432:] = 0
    assert float(Edges().measure(changed_B3HW, clean_B3HW)) == 1
    changed_B3HW[:, :, 60:260, 90:430] = 0
    assert float(Edges().measure(changed_B3HW, clean_B3HW)) < 0.6


def waves(*parts: tuple[float, float, float], side: int = 64) -> torch.Tensor:
    """A gray face of waves, each (cycles across, cycles down, amplitude)."""
    y, x = np.mgrid[:side, :side] / side
    gray = 0.5 + sum(amplitude * np.cos(2 * math.pi * (across * x + down * y)) for across, down, amplitude in parts)
    return torch.from_numpy(np.broadcast_to(gray, (1, 3, side, side)).copy()).float()


def test_a_wave_counts_in_its_own_band_with_the_square_of_its_amplitude():
    low, high = (6.0, 0.0, 0.2), (9.0, 14.0, 0.1)  # 16.6 cycles along its own direction
    clean_B3HW = waves(low, high)
    weaker_B3HW = waves(low, (9.0, 14.0, 0.05))
    assert float(BandEnergy(4, 12).measure(weaker_B3HW, clean_B3HW)) == pytest.approx(1, abs=1e-3)
    assert float(BandEnergy(12, 24).measure(weaker_B3HW, clean_B3HW)) == pytest.approx(0.25, abs=1e-3)
    assert float(BandEnergy(12, 24).measure(waves(low), clean_B3HW)) < 1e-6
    assert BandEnergy(32, 64).name == "32-64" and BandEnergy(64, 128).name == "64-128"


def test_the_half_spectrum_is_the_whole_one():
    clean_B3HW, restored_B3HW = faces(1), blurred(faces(1))
    found = float(BandEnergy(8, 16).measure(restored_B3HW, clean_B3HW))
    energies = []
    for face_3HW in (restored_B3HW[0], clean_B3HW[0]):
        gray = np.tensordot((0.299, 0.587, 0.114), face_3HW.double().numpy(), 1)
        hann = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(64) / 64)
        power = np.abs(np.fft.fft2((gray - gray.mean()) * np.outer(hann, hann))) ** 2
        cycles = np.hypot(*np.meshgrid(np.fft.fftfreq(64, 1 / 64), np.fft.fftfreq(64, 1 / 64)))
        energies.append(power[(cycles >= 8) & (cycles < 16)].sum())
    assert found == pytest.approx(energies[0] / energies[1], rel=1e-4)


def test_a_band_that_a_face_cannot_hold_has_no_value():
    assert BandEnergy(32, 64).measure(faces(), faces()).isnan().all()
    assert not BandEnergy(16, 32).measure(faces(), faces()).isnan().any()
    with pytest.raises(ValueError, match="0 < low < high, got 8 and 8"):
        BandEnergy(8, 8)


def test_flat_faces_have_no_detail_to_compare_with():
    flat = torch.full((1, 3, 64, 64), 0.4)
    for metric in (Edges(), BandEnergy(4, 12)):
        assert metric.measure(faces(1), flat).isnan().all(), metric.name
        assert float(metric.measure(flat, faces(1))) < 1e-6, metric.name


def test_lab_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    colours_B3HW = torch.cat((faces(1, 32), faces(1, 32, 1) * 0.05, faces(1, 32, 2) * 0.1 + 0.9))
    expected = np.stack(
        [cv2.cvtColor(face.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2LAB) for face in colours_B3HW]
    ).transpose(0, 3, 1, 2)
    # OpenCV interpolates in a table: exact to some tenths.
    apart = np.abs(lab(colours_B3HW).numpy() - expected)
    assert apart.max() < 0.5 and apart.mean() < 0.1


def test_lab_of_known_colours():
    # Lindbloom's values for sRGB under D65
    colours = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]])
    expected = torch.tensor([[100.0, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]])
    torch.testing.assert_close(lab(colours[:, :, None, None])[:, :, 0, 0], expected, atol=0.05, rtol=0)


def test_colour_shift_is_of_regions():
    gray_B3HW = torch.full((1, 3, 64, 64), 0.5)
    tinted_B3HW = gray_B3HW.clone()
    tinted_B3HW[:, 0] += 0.1
    apart = (lab(tinted_B3HW) - lab(gray_B3HW))[0, 1:, 0, 0].norm()
    assert float(ColorShift().measure(tinted_B3HW, gray_B3HW)) == pytest.approx(float(apart), rel=1e-5)
    # Half of the cells tinted: half of the shift.
    half_B3HW = gray_B3HW.clone()
    half_B3HW[:, :, :32] = tinted_B3HW[:, :, :32]
    assert float(ColorShift().measure(half_B3HW, gray_B3HW)) == pytest.approx(float(apart) / 2, rel=1e-5)
    # Red and cyan pixels side by side make gray cells of 8x8 pixels: no shift.
    columns_W = torch.arange(64) % 2
    striped_B3HW = gray_B3HW + torch.tensor([0.1, -0.1, -0.1]).view(1, 3, 1, 1) * (2 * columns_W - 1)
    assert 64 // GRID == 8 and float(ColorShift().measure(striped_B3HW, gray_B3HW)) < 1e-3
    # Lightness alone is no shift.
    assert float(ColorShift().measure(gray_B3HW * 0.8, gray_B3HW)) < 1e-3


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_face_does_not_depend_on_its_neighbours_and_wrong_inputs_are_named(metric):
    clean_B3HW = faces(3)
    restored_B3HW = blurred(clean_B3HW)
    values_B = metric.measure(restored_B3HW, clean_B3HW)
    assert values_B.dtype == torch.float64 and values_B.shape == (3,)
    for index in range(3):
        alone_B = metric.measure(restored_B3HW[index : index + 1], clean_B3HW[index : index + 1])
        torch.testing.assert_close(alone_B, values_B[index : index + 1], rtol=1e-4, atol=1e-5)
    same_B = metric.measure(clean_B3HW, clean_B3HW)
    assert same_B.tolist() == [0.0 if metric.better == "lower" else 1.0] * 3
    with pytest.raises(ValueError, match=r"\(3, 3, 64, 64\).*\(2, 3, 64, 64\)"):
        metric.measure(restored_B3HW, clean_B3HW[:2])
    with pytest.raises(ValueError, match="restored faces must lie within"):
        metric.measure(restored_B3HW * 2 - 1.5, clean_B3HW)
