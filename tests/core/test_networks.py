"""The networks by themselves: batches, fidelity, exact shortcuts, precisions, a host's layers, memory layout."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeformer_core.networks import containers
from codeformer_core.networks.blocks import Upsample, group_norm
from codeformer_core.networks.codeformer import CodeFormer, match_statistics
from codeformer_core.networks.kernels import apply_norm

from .conftest import SMALL_CONFIG, seeded_network

FIDELITIES = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.fixture(scope="module")
def network() -> CodeFormer:
    return seeded_network(SMALL_CONFIG)


@pytest.fixture(scope="module")
def faces_B3HW() -> Tensor:
    return torch.rand((3, 3, 64, 64), generator=torch.Generator().manual_seed(5)) * 2 - 1


def rms(x: Tensor) -> float:
    return float(x.float().square().mean().sqrt())


# --- the verbs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fidelity", [0.0, 0.7])
def test_a_batch_equals_its_faces_one_by_one(network, faces_B3HW, fidelity):
    together = network.restore(faces_B3HW, fidelity)
    singles = torch.cat([network.restore(face_3HW[None], fidelity) for face_3HW in faces_B3HW])
    assert together.shape == (3, 3, 64, 64)
    assert rms(together - singles) < 1e-5 * rms(singles)
    codes_BT = network.predict_codes(network.encode(faces_B3HW))
    assert codes_BT.shape == (3, 256) and len(codes_BT.unique()) > 5
    assert rms(singles[0] - singles[1]) > 0.01 * rms(singles)


def test_fidelity_0_never_touches_the_fusion(network, faces_B3HW):
    damaged = seeded_network(SMALL_CONFIG)
    for parameter in damaged.fusions.parameters():
        parameter.fill_(torch.nan)
    assert torch.equal(damaged.restore(faces_B3HW, 0.0), network.restore(faces_B3HW, 0.0))
    assert damaged.restore(faces_B3HW, 0.1).isnan().any()


def test_more_fidelity_goes_further_from_the_codes(network, faces_B3HW):
    pure_B3HW = network.restore(faces_B3HW, 0.0)
    distances = [rms(network.restore(faces_B3HW, fidelity) - pure_B3HW) for fidelity in FIDELITIES]
    assert distances[0] == 0
    assert distances == sorted(distances) and len(set(distances)) == len(distances)


def test_the_fusion_is_linear_in_fidelity(network):
    """decoder + w * (decoder * scale + shift): the paper's formula, seen from outside."""
    generator = torch.Generator().manual_seed(2)
    encoder_BCHW, decoder_BCHW = torch.randn((2, 1, 64, 32, 32), generator=generator)
    fused = [network.fusions["32"](encoder_BCHW, decoder_BCHW, fidelity) for fidelity in (0.0, 0.5, 1.0)]
    assert torch.equal(fused[0], decoder_BCHW)
    assert torch.allclose(fused[1] - fused[0], (fused[2] - fused[0]) / 2, atol=1e-5)


def test_adain_gives_the_codes_the_encoders_statistics():
    content, style = torch.randn(2, 2, 8, 4, 4) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1, 1)
    matched = match_statistics(content, style)
    for matched_HW, style_HW in zip(matched.flatten(0, 1), style.flatten(0, 1), strict=True):
        assert torch.allclose(matched_HW.mean(), style_HW.mean(), atol=1e-5)
        assert torch.allclose(matched_HW.std(), style_HW.std(), rtol=1e-3)


def test_nearest_codes_are_the_nearest(network, faces_B3HW):
    latent_BDHW = network.encode(faces_B3HW)
    vectors_BTD = latent_BDHW.flatten(2).transpose(1, 2)
    expected_BT = torch.cdist(vectors_BTD.double(), network.codebook.weight.double()).argmin(-1)
    assert torch.equal(network.quantize(latent_BDHW), expected_BT)
    assert torch.equal(network.reconstruct(faces_B3HW), network.decode(expected_BT))


def test_look_up_puts_codes_where_they_belong(network):
    codes_BT = torch.arange(9)[None] % SMALL_CONFIG.autoencoder.codebook_size
    quantised_BDHW = network.embed_codes(codes_BT)
    assert torch.equal(quantised_BDHW[0, :, 1, 2], network.codebook.weight[5])
    with pytest.raises(ValueError, match="square map, got 8"):
        network.embed_codes(torch.zeros(1, 8, dtype=torch.int64))


def test_inpainting_leaves_what_is_not_masked(network, faces_B3HW):
    mask_B1HW = torch.zeros(3, 1, 64, 64)
    mask_B1HW[:, :, 10:30, 20:40] = 1
    filled_B3HW = network.inpaint(faces_B3HW, mask_B1HW)
    hole = (mask_B1HW > 0.5).expand(-1, 3, -1, -1)
    assert torch.equal(filled_B3HW[~hole], faces_B3HW[~hole])
    assert not torch.equal(filled_B3HW[hole], faces_B3HW[hole])
    assert filled_B3HW.abs().max() <= 1


@pytest.mark.parametrize("fidelity", [0.0, 1.0])
def test_the_input_is_not_written_to(network, faces_B3HW, fidelity):
    before = faces_B3HW.clone()
    given = faces_B3HW.contiguous(memory_format=torch.channels_last)
    network.restore(faces_B3HW, fidelity)
    network.restore(given, fidelity)
    assert torch.equal(faces_B3HW, before) and torch.equal(given, before)


def test_faces_of_another_size_are_refused_with_the_cure(network):
    with pytest.raises(ValueError, match="must be 64x64 pixels for this network; resize"):
        network.restore(torch.zeros(1, 3, 32, 32), 0.5)


def test_gradients_reach_encoder_fusion_and_generator():
    """Training goes through the same in-place shortcuts; autograd would refuse a wrong one."""
    network = seeded_network(SMALL_CONFIG).requires_grad_(True)
    network.restore(torch.rand(1, 3, 64, 64) * 2 - 1, 0.5).square().mean().backward()
    for parameter in (
        network.encoder.conv_in.weight,
        network.fusions["32"].scale_shift_in.weight,
        network.generator.levels[0].resample.conv.weight,
        network.generator.conv_in.weight,
    ):
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0


# --- nearest x2 and convolution in one -------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (7, 5), (16, 9)])
def test_upsample_equals_doubling_and_convolving(size, dtype, tolerance):
    torch.manual_seed(0)
    block = Upsample(32, device=None, dtype=dtype, operations=nn)
    x_BCHW = torch.randn((2, 32, *size), dtype=dtype, requires_grad=True)
    outputs, gradients = [], []
    for output_BCHW in (
        block(x_BCHW),
        F.conv2d(F.interpolate(x_BCHW, scale_factor=2, mode="nearest"), block.conv.weight, block.conv.bias, padding=1),
    ):
        weights = torch.linspace(-1, 1, output_BCHW.numel(), dtype=dtype).view_as(output_BCHW)
        outputs.append(output_BCHW)
        parameters = (x_BCHW, block.conv.weight, block.conv.bias)
        gradients.append(torch.autograd.grad((output_BCHW * weights).sum(), parameters))
    assert outputs[0].shape == (2, 32, 2 * size[0], 2 * size[1])
    assert (outputs[0] - outputs[1]).abs().max() < tolerance
    for ours, expected in zip(*gradients, strict=True):
        assert (ours - expected).abs().max() <= tolerance * expected.abs().max()


# --- precision -------------------------------------------------------------------------------------------------------


def test_bfloat16_is_close(network, faces_B3HW):
    rough = seeded_network(SMALL_CONFIG).to(torch.bfloat16)
    latent_BDHW = network.encode(faces_B3HW)
    codes_BT = network.predict_codes(latent_BDHW)
    exact_B3HW, rough_B3HW = network.decode(codes_BT), rough.decode(codes_BT)
    rough_latent_BDHW = rough.encode(faces_B3HW.bfloat16())
    assert rough_B3HW.dtype == rough_latent_BDHW.dtype == torch.bfloat16
    assert rms(rough_latent_BDHW - latent_BDHW) < 0.05 * rms(latent_BDHW)
    assert rms(rough_B3HW - exact_B3HW) < 0.05 * rms(exact_B3HW)
    restored_B3HW = rough.restore(faces_B3HW.bfloat16(), 0.5)
    assert restored_B3HW.dtype == torch.bfloat16 and restored_B3HW.isfinite().all()


def test_double_precision_agrees_with_single(network, faces_B3HW):
    exact_B3HW = seeded_network(SMALL_CONFIG).double().restore(faces_B3HW.double(), 0.5)
    assert exact_B3HW.dtype == torch.float64
    assert rms(network.restore(faces_B3HW, 0.5) - exact_B3HW) < 1e-4 * rms(exact_B3HW)


@torch.no_grad()
@pytest.mark.parametrize(
    ("shape", "threads"),
    [((1, 64, 512, 512), 1), ((2, 32, 256, 256), 2), ((1, 32, 96, 320), 1), ((1, 32, 131, 131), 1)],
)
def test_group_norm_is_as_precise_as_float32(shape, threads):
    """torch's own CPU kernel for channels_last is off by up to 3e-4 on the largest of these, on one thread."""
    generator = torch.Generator().manual_seed(0)
    # A mean that changes down the picture: no strip is like the whole.
    x_BCHW = torch.randn(shape, generator=generator) + torch.linspace(-1, 3, shape[2])[:, None]
    x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    norm = group_norm(shape[1], None, None, nn)
    norm.weight.copy_(torch.rand(shape[1], generator=generator))
    norm.bias.copy_(torch.randn(shape[1], generator=generator))
    before, given_threads = x_BCHW.clone(), torch.get_num_threads()
    torch.set_num_threads(threads)
    normed_BCHW = apply_norm(norm, x_BCHW)
    torch.set_num_threads(given_threads)
    expected = F.group_norm(x_BCHW.double(), norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps)
    assert (normed_BCHW - expected).abs().max() < 1e-5
    assert normed_BCHW.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x_BCHW, before)


def test_training_gets_gradients_through_the_norm():
    x_BCHW = torch.randn(1, 32, 256, 256).contiguous(memory_format=torch.channels_last).requires_grad_()
    norm = group_norm(32, None, None, nn)
    weights_BCHW = torch.rand(1, 32, 256, 256)
    gradients = [
        torch.autograd.grad((y * weights_BCHW).sum(), x_BCHW)[0] for y in (apply_norm(norm, x_BCHW), norm(x_BCHW))
    ]
    assert torch.allclose(*gradients, atol=1e-5) and gradients[0].abs().max() > 0


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
def test_gradients_of_a_norm_are_those_of_exact_numbers(dtype, bound):
    """Of input, weight and bias, relative to the largest one."""
    generator = torch.Generator().manual_seed(4)
    x_BCHW = (torch.randn(3, 48, 20, 12, generator=generator) * 3 + 5).to(dtype)
    to_y_BCHW = torch.randn(3, 48, 20, 12, generator=generator).to(dtype)
    found: list[list[Tensor]] = []
    for kind in (dtype, torch.float64):
        norm = group_norm(48, None, None, nn)
        norm.weight.data.copy_(torch.linspace(0.5, 2, 48))
        norm.bias.data.copy_(torch.linspace(-1, 1, 48))
        x = x_BCHW.to(kind).contiguous(memory_format=torch.channels_last).requires_grad_()
        y = apply_norm(norm, x) if kind == dtype else norm.double()(x)
        found.append(list(torch.autograd.grad(y, (x, norm.weight, norm.bias), to_y_BCHW.to(kind))))
    for ours, exact in zip(*found, strict=True):
        assert float((ours.double() - exact.double()).abs().max()) <= bound * float(exact.abs().max())


def test_a_map_without_variance_is_normed_to_the_bias():
    norm = group_norm(32, None, None, nn)
    with torch.no_grad():
        norm.bias.fill_(0.25)
        flat_BCHW = torch.full((1, 32, 256, 256), 3.0).contiguous(memory_format=torch.channels_last)
        assert torch.allclose(apply_norm(norm, flat_BCHW), torch.tensor(0.25), atol=1e-3)


# --- a host's layers -------------------------------------------------------------------------------------------------

LAYERS = ("Linear", "Conv2d", "GroupNorm", "LayerNorm", "Embedding")


def counting_operations() -> tuple[SimpleNamespace, list[nn.Module]]:
    """Layers as torch's, and a list of all that were made."""
    made: list[nn.Module] = []

    def counted(base: type[nn.Module]) -> type[nn.Module]:
        def __init__(self, *arguments, **options):
            base.__init__(self, *arguments, **options)
            made.append(self)

        return type(f"Counted{base.__name__}", (base,), {"__init__": __init__})

    return SimpleNamespace(**{name: counted(getattr(nn, name)) for name in LAYERS}), made


def test_a_layer_that_does_not_ask_for_its_arithmetic_is_an_error():
    """A host or a later torch may compute the convolution in another place: no wrong image, but a clear end."""

    class Conv2d(nn.Conv2d):
        def forward(self, input):
            return F.conv2d(input, self.weight, self.bias, padding=1)

    upsample = Upsample(4, device=None, dtype=None, operations=SimpleNamespace(Conv2d=Conv2d))
    with pytest.raises(RuntimeError, match="computes a convolution of its own"):
        upsample(torch.zeros(1, 4, 6, 6))


def casting_operations(log: set[nn.Module]) -> SimpleNamespace:
    """Layers that hand their weights over in the input's precision at each call, as a host that streams them does."""

    class Linear(nn.Linear):
        def forward(self, input):
            log.add(self)
            return F.linear(input, self.weight.to(input), None if self.bias is None else self.bias.to(input))

    class Conv2d(nn.Conv2d):
        def forward(self, input):
            log.add(self)
            return self._conv_forward(input, self.weight.to(input), self.bias.to(input))

    class GroupNorm(nn.GroupNorm):
        def forward(self, input):
            log.add(self)
            return F.group_norm(input, self.num_groups, self.weight.to(input), self.bias.to(input), self.eps)

    class LayerNorm(nn.LayerNorm):
        def forward(self, input):
            log.add(self)
            return F.layer_norm(input, self.normalized_shape, self.weight.to(input), self.bias.to(input), self.eps)

    class Embedding(nn.Embedding):
        def forward(self, input):
            log.add(self)
            return F.embedding(input, self.weight)

    return SimpleNamespace(Linear=Linear, Conv2d=Conv2d, GroupNorm=GroupNorm, LayerNorm=LayerNorm, Embedding=Embedding)


def test_every_parameter_sits_in_a_layer_of_the_operations():
    operations, made = counting_operations()
    network = CodeFormer(SMALL_CONFIG, operations=operations)
    owners = [module for module in network.modules() if list(module.parameters(recurse=False))]
    assert len(owners) > 50
    assert {id(module) for module in owners} == {id(module) for module in made}
    assert list(network.buffers()) == []


def test_every_layer_is_called_through_its_operations(network, faces_B3HW):
    """Weights kept in bfloat16, faces in float32: the result is that of the rounded weights in float32."""
    called: set[nn.Module] = set()
    hosted = CodeFormer(SMALL_CONFIG, dtype=torch.bfloat16, operations=casting_operations(called))
    hosted.load_state_dict(network.state_dict())
    rounded = seeded_network(SMALL_CONFIG).to(torch.bfloat16).float()
    with torch.no_grad():
        restored_B3HW = hosted.restore(faces_B3HW, 0.5)
    assert restored_B3HW.dtype == torch.float32
    assert rms(restored_B3HW - rounded.restore(faces_B3HW, 0.5)) < 1e-5 * rms(restored_B3HW)
    assert called == {module for module in hosted.modules() if list(module.parameters(recurse=False))}


def test_the_layers_are_made_where_and_as_told():
    network = CodeFormer(SMALL_CONFIG, device="meta", dtype=torch.float16)
    assert {(parameter.device.type, parameter.dtype) for parameter in network.parameters()} == {("meta", torch.float16)}


# --- memory layout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_channels_last_all_the_way(network, faces_B3HW, memory_format):
    given = faces_B3HW.contiguous(memory_format=memory_format)
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    restored_B3HW = network.restore(given, 0.5)
    for hook in hooks:
        hook.remove()
    assert len(seen) > 40
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in seen)
    assert restored_B3HW.is_contiguous(memory_format=torch.channels_last)
    assert rms(restored_B3HW - network.restore(faces_B3HW, 0.5)) == 0
    for whole in (network, seeded_network(SMALL_CONFIG.autoencoder)):
        weights = [module.weight for module in whole.modules() if isinstance(module, nn.Conv2d)]
        assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_rearranged_for_training_on_a_cpu(network, faces_B3HW):
    """No weight and no map is turned on the way, but attention's small ones; and the faces are the same."""
    plain = seeded_network(SMALL_CONFIG).requires_grad_(True)
    plain.arrange(torch.contiguous_format)
    seen: list[Tensor] = []
    for name, module in plain.named_modules():
        if isinstance(module, nn.Conv2d) and not name.endswith("attention.out") and ".attentions." not in name:
            assert module.weight.is_contiguous()
            module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    codes_BT = plain.quantize(plain.encode(faces_B3HW))
    made_B3HW = plain.decode(codes_BT).detach()
    assert len(seen) > 20 and all(output.is_contiguous() for output in seen)
    assert rms(made_B3HW - network.decode(codes_BT)) < 1e-5 * rms(made_B3HW)


# --- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"fuse_sizes": (32, 48)}, r"fuse_sizes \[48\] are not among the levels \(64, 32, 16\)"),
        ({"width": 36}, "width 36 must be a multiple of heads 8"),
    ],
)
def test_impossible_codeformers_are_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        replace(SMALL_CONFIG, **change)


def test_impossible_autoencoders_are_refused():
    with pytest.raises(ValueError, match="image_size 66 must be a multiple of 4, because 3 channel_multipliers"):
        replace(SMALL_CONFIG.autoencoder, image_size=66)
    for channels in (1, 27, 72):
        odd = replace(SMALL_CONFIG, autoencoder=replace(SMALL_CONFIG.autoencoder, base_channels=channels))
        with pytest.raises(ValueError, match=f"even number of channels, above 64 a multiple of 32, got {channels}"):
            CodeFormer(odd)


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (32, 16), (64, 32), (128, 32), (512, 32)])
def test_groups_are_the_published_ones_and_never_of_a_single_channel(channels, groups):
    assert group_norm(channels, None, None, nn).num_groups == groups


@pytest.mark.parametrize("base_channels", [16, 32])
def test_a_narrow_network_can_say_how_bright_a_picture_is(base_channels):
    """A last norm with one channel in a group would give every picture the same mean."""
    config = replace(SMALL_CONFIG.autoencoder, base_channels=base_channels, channel_multipliers=(1, 2, 2))
    network = seeded_network(config)
    with torch.no_grad():
        features_BCHW = torch.randn(2, base_channels, 64, 64)
        features_BCHW[1, ::2] += 3
        means_B3 = network.generator.conv_out(network.generator.norm_out(features_BCHW)).mean(dim=(2, 3))
    assert (means_B3[0] - means_B3[1]).abs().max() > 0.05


def test_typed_containers_are_torchs_own():
    """Whoever looks for nn.ModuleList, torch.compile among them, finds it."""
    assert containers.ModuleList is nn.ModuleList and containers.ModuleDict is nn.ModuleDict
