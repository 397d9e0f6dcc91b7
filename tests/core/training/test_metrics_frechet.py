"""FID: the distance of known Gaussians, its files, and the network's door."""

from __future__ import annotations

import math
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from codeformer_core.metrics.frechet import (
    Fid,
    Statistics,
    frechet_distance,
    load_inception,
    read_statistics,
    statistics_of,
)
from codeformer_core.weights.reading import WeightsError


def covariance(seed: int, size: int) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(size, size))
    return root @ root.T / size


def test_of_gaussians_along_the_axes_it_has_a_closed_form():
    random = np.random.default_rng(0)
    mean_a, mean_b, deviation_a, deviation_b = random.uniform(0.1, 3, size=(4, 20))
    found = frechet_distance(Statistics(mean_a, np.diag(deviation_a**2)), Statistics(mean_b, np.diag(deviation_b**2)))
    assert found == pytest.approx(((mean_a - mean_b) ** 2).sum() + ((deviation_a - deviation_b) ** 2).sum(), rel=1e-9)


def test_it_equals_the_definition_with_a_matrix_square_root():
    from scipy.linalg import sqrtm

    a, b = Statistics(np.zeros(12), covariance(1, 12)), Statistics(np.ones(12), covariance(2, 12))
    root = np.real(sqrtm(a.covariance_FF @ b.covariance_FF))
    expected = 12 + np.trace(a.covariance_FF + b.covariance_FF - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-7)


def test_sets_smaller_than_the_features_are_no_trouble():
    """The covariances are singular; trace (A B)^1/2 is the sum of singular values of X Y^T."""
    random = np.random.default_rng(3)
    x, y = random.normal(size=(7, 40)), random.normal(size=(9, 40)) + 1
    centred_x, centred_y = (x - x.mean(0)) / math.sqrt(6), (y - y.mean(0)) / math.sqrt(8)
    root = np.linalg.svd(centred_x @ centred_y.T, compute_uv=False).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + (centred_x**2).sum() + (centred_y**2).sum() - 2 * root
    assert frechet_distance(statistics_of(x), statistics_of(y)) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(statistics_of(x), statistics_of(x)) == pytest.approx(0, abs=1e-6)


def test_statistics_of_many_draws_are_those_of_their_gaussian():
    true = covariance(5, 4)
    draws = np.random.default_rng(6).multivariate_normal(np.arange(4), true, size=40000)
    found = statistics_of(draws.astype(np.float32))
    np.testing.assert_allclose(found.mean_F, np.arange(4), atol=0.03)
    np.testing.assert_allclose(found.covariance_FF, true, atol=0.05)
    assert frechet_distance(found, Statistics(np.arange(4.0), true)) < 0.002


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_reference_files(tmp_path, ending):
    path, sigma = tmp_path / f"reference{ending}", covariance(1, 5)
    if ending == ".npz":
        np.savez(path, mu=np.arange(5.0), sigma=sigma)
    else:
        save_file({"mu": torch.arange(5.0), "sigma": torch.from_numpy(sigma)}, path)
    found = read_statistics(path)
    np.testing.assert_allclose(found.mean_F, np.arange(5))
    np.testing.assert_allclose(found.covariance_FF, sigma)


def test_other_reference_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", mu=np.zeros(3))
    with pytest.raises(WeightsError, match=r"a\.npz.*lacks sigma"):
        read_statistics(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(WeightsError, match=r"b\.npz.*\(3,\) and \(2, 2\)"):
        read_statistics(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", mu=np.array([{"code": 1}], dtype=object), sigma=np.zeros((1, 1)))
    with pytest.raises(WeightsError, match=r"c\.npz.*allow_pickle"):
        read_statistics(tmp_path / "c.npz")
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(WeightsError, match=r"d\.npz"):
        read_statistics(tmp_path / "d.npz")
    with pytest.raises(WeightsError, match=r"e\.npz is not there"):
        read_statistics(tmp_path / "e.npz")


class MeanColours(nn.Module):
    """Stands for the network: the mean and deviation of every colour, 0..255."""

    def forward(self, levels_B3HW: torch.Tensor) -> tuple[torch.Tensor]:
        assert levels_B3HW.dtype == torch.uint8
        levels = levels_B3HW.float().flatten(2)
        return (torch.cat((levels.mean(2), levels.std(2)), 1),)


def test_the_metric_compares_sets():
    faces = torch.rand((30, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    metric = Fid(MeanColours())
    features = metric.features(faces)
    assert features.shape == (30, 6) and features.dtype == np.float64
    assert metric.distance(features, features) == pytest.approx(0, abs=1e-6)
    darker = metric.features(faces * 0.5)
    assert metric.distance(darker, features) > 1000
    assert metric.distance(darker, features) == pytest.approx(
        frechet_distance(statistics_of(darker), statistics_of(features))
    )
    assert math.isnan(metric.distance(features[:1], features))
    given = Fid(MeanColours(), reference=statistics_of(features))
    assert given.has_reference and not metric.has_reference
    assert given.distance(darker, None) == pytest.approx(metric.distance(darker, features))


def test_features_of_two_networks_are_not_compared():
    with pytest.raises(ValueError, match="3 and 4 features"):
        frechet_distance(Statistics(np.zeros(3), np.eye(3)), Statistics(np.zeros(4), np.eye(4)))


SIGNATURE = {
    "Conv2d_1a_3x3.conv.weight": torch.rand(32, 3, 3, 3),
    "Mixed_5b.branch1x1.conv.weight": torch.rand(64, 192, 1, 1),
    "Mixed_7c.branch1x1.conv.weight": torch.rand(320, 2048, 1, 1),
    "fc.weight": torch.rand(1008, 2048),
}


@pytest.fixture
def fidelity(monkeypatch):
    """A stand-in for torch-fidelity's module, which opens its weights without torch's guard, as that one does."""
    seen: dict[str, object] = {}

    class Extractor(nn.Module):
        def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: object) -> None:
            super().__init__()
            seen["features"] = features_list
            seen["path"] = feature_extractor_weights_path
            seen["state"] = torch.load(feature_extractor_weights_path, weights_only=False)  # type: ignore[arg-type]
            torch.rand(3)
            if "extra" in seen["state"]:  # type: ignore[operator]
                raise RuntimeError("Unexpected key(s) in state_dict: extra")

    package, module = types.ModuleType("torch_fidelity"), types.ModuleType("feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    return seen


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_the_network_gets_tensors_that_were_read_safely(tmp_path, fidelity, ending):
    path = tmp_path / f"inception{ending}"
    torch.save(SIGNATURE, path) if ending == ".pth" else save_file(SIGNATURE, path)
    before = torch.random.get_rng_state()
    network = load_inception(path)
    assert isinstance(network, nn.Module) and fidelity["features"] == ["2048"]
    assert not isinstance(fidelity["path"], str)  # memory, not the file
    assert torch.equal(fidelity["state"]["fc.weight"], SIGNATURE["fc.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_other_networks_are_refused(tmp_path, fidelity):
    save_file({"conv.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors.*lacks Conv2d_1a_3x3.*first keys are conv\.weight"):
        load_inception(tmp_path / "other.safetensors")
    save_file(SIGNATURE | {"extra": torch.zeros(1)}, tmp_path / "extra.safetensors")
    with pytest.raises(WeightsError, match=r"extra\.safetensors.*Unexpected key"):
        load_inception(tmp_path / "extra.safetensors")


def test_the_real_network_with_random_weights(tmp_path):
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed; pip install torch-fidelity")
    import torch_fidelity.feature_extractor_inceptionv3 as inception

    empty = tmp_path / "empty.pth"
    torch.save({}, empty)
    network = type("Unfilled", (inception.FeatureExtractorInceptionV3,), {"load_state_dict": lambda self, state: None})(
        "unfilled", ["2048"], feature_extractor_weights_path=str(empty)
    )
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    faces = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    found = Fid(load_inception(tmp_path / "inception.pth")).features(faces)
    expected = network((faces * 255).round().to(torch.uint8))[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
