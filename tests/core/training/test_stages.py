"""What each stage's losses reach, what stays frozen to the bit, and how codes come back to life."""

from __future__ import annotations

import pytest
import torch

from codeformer_core.networks.codeformer import CodeFormer
from codeformer_core.networks.discriminator import Discriminator, DiscriminatorConfig
from codeformer_core.networks.vqgan import VQAutoencoder
from codeformer_core.training.engine.adversary import Adversary
from codeformer_core.training.engine.freezing import MODULES, freeze_all_but, initialise
from codeformer_core.training.engine.processes import Processes
from codeformer_core.training.engine.revival import CodeRevival
from codeformer_core.training.losses.image import ImageLosses
from codeformer_core.training.losses.perceptual import gradient_loss
from codeformer_core.training.networks import read_network
from codeformer_core.training.stages.autoencoder import AutoencoderStage
from codeformer_core.training.stages.codes import CodesStage
from codeformer_core.training.stages.fusion import FusionStage
from codeformer_core.training.stages.stage import Faces, Output, Teacher

ALONE = Processes(0, 1, torch.device("cpu"))
LOSSES = ImageLosses(gradient_loss, None)


@pytest.fixture
def networks(tiny):
    """A CodeFormer whose every part does something, and its teacher."""
    sizes = tiny("network.fuse_sizes=[8, 32]", "network.pixel_path={sigmas: [1, 2], width: 4}").network
    teacher = VQAutoencoder(sizes.autoencoder())
    initialise(teacher, 0)
    torch.nn.init.normal_(teacher.codebook.weight)
    network = CodeFormer(sizes.codeformer())
    initialise(network, 1)
    network.load_state_dict(teacher.state_dict(), strict=False)
    torch.nn.init.normal_(network.pixel_path.gate_out.weight)
    return network, Teacher(teacher)


@pytest.fixture
def faces():
    generator = torch.Generator().manual_seed(0)
    clean, degraded = (torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1 for _ in range(2))
    return lambda fidelity=None: Faces(clean, degraded, None, fidelity)


def parts_with_gradients(network) -> set[str]:
    """Names of top-level modules that have a gradient other than zero."""
    return {
        name.split(".")[0]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


def test_stage1_reaches_everything(networks, faces):
    network = networks[1].network.requires_grad_(True)
    output = AutoencoderStage(network, LOSSES, 0.25)(faces())
    output.terms["pixel"].backward(retain_graph=True)
    # Straight through: the picture's loss reaches the encoder, but not the codebook.
    assert parts_with_gradients(network) == {"encoder", "generator"}
    network.zero_grad()
    output.terms["codebook"].backward()
    assert parts_with_gradients(network) == {"encoder", "codebook"}


def test_stage2_labels_are_the_teachers_codes_of_the_clean_face(networks, faces):
    network, teacher = networks
    output = CodesStage(network, teacher)(faces())
    assert torch.equal(output.codes_BT, teacher.network.quantize(teacher.network.encode(faces().clean_B3HW)))
    assert output.made_B3HW is None and set(output.terms) == {"features", "codes"}


def test_stage2_takes_precomputed_codes_as_they_are(networks, faces):
    network, teacher = networks
    stage = CodesStage(network, teacher)
    on_the_fly = stage(faces())
    given = Faces(faces().clean_B3HW, faces().degraded_B3HW, on_the_fly.codes_BT, None)
    precomputed = stage(given)
    for name, term in on_the_fly.terms.items():
        assert torch.equal(term, precomputed.terms[name])
    other = Faces(given.clean_B3HW, given.degraded_B3HW, (given.codes_BT + 1) % 16, None)
    assert not torch.equal(stage(other).terms["codes"], precomputed.terms["codes"])


def test_stage2_features_train_the_encoder_and_codes_the_transformer(networks, faces):
    network, teacher = networks
    freeze_all_but(network, ("encoder", "transformer", "head"))
    output = CodesStage(network, teacher)(faces())
    output.terms["features"].backward(retain_graph=True)
    assert parts_with_gradients(network) == {"encoder"}
    network.zero_grad()
    output.terms["codes"].backward()
    assert parts_with_gradients(network) == {"encoder", *MODULES["transformer"], *MODULES["head"]}


@pytest.mark.parametrize(
    ("term", "reached"),
    [
        ("pixel", {"fusions", "pixel_path"}),
        ("perceptual", {"fusions", "pixel_path"}),
        ("gates", {"pixel_path"}),
        ("pixel_before_path", {"fusions"}),
    ],
)
def test_image_losses_of_stage3_reach_only_fusion_and_pixel_path(networks, faces, term, reached):
    network, teacher = networks
    # Everything may learn here, so that whatever is reached shows.
    network.requires_grad_(True)
    stage = FusionStage(network, teacher, LOSSES, adain=False)
    output = stage(faces(fidelity=1.0))
    output.terms[term].backward(retain_graph=True)
    assert parts_with_gradients(network) - {"generator"} == reached
    network.zero_grad()
    (output.terms["features"] + output.terms["codes"]).backward()
    assert parts_with_gradients(network).isdisjoint({"fusions", "pixel_path"})


def test_the_adversarial_loss_of_stage3_reaches_only_the_fusion_blocks(networks, faces):
    network, teacher = networks
    freeze_all_but(network, ("encoder", "transformer", "head", "fusion", "pixel_path"))
    stage = FusionStage(network, teacher, LOSSES, adain=False)
    discriminator = Discriminator(DiscriminatorConfig(8, 2, "group"))
    config = tiny_adversarial(scale=0.1)
    adversary = Adversary(discriminator, config, (0.9, 0.99), ALONE, matches_features=True)
    output = stage(faces(fidelity=1.0))
    assert output.made_B3HW is not None
    added, shown = adversary.terms(output.made_B3HW, faces().clean_B3HW, output.terms["pixel"], 1.0, stage.last_layer)
    added.backward()
    assert parts_with_gradients(network) == {"fusions", "pixel_path"}
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    assert 0 <= float(shown["adversarial_weight"]) <= 0.1 + 1e-6
    largest = network.fusions["32"]
    assert stage.last_layer is largest.shift_out.weight


def test_the_adaptive_weight_is_the_ratio_of_gradients_at_the_last_layer(networks, faces):
    network, teacher = networks
    freeze_all_but(network, ("fusion",))
    stage = FusionStage(network, teacher, LOSSES, adain=False)
    discriminator = Discriminator(DiscriminatorConfig(8, 2, "group"))
    adversary = Adversary(discriminator, tiny_adversarial(scale=0.1), (0.9, 0.99), ALONE, matches_features=False)
    output = stage(faces(fidelity=1.0))
    image = output.terms["pixel"] * 1e-3
    _, shown = adversary.terms(output.made_B3HW, faces().clean_B3HW, image, 1.0, stage.last_layer)
    by_image = torch.autograd.grad(image, stage.last_layer, retain_graph=True)[0].norm()
    by_scores = torch.autograd.grad(-discriminator(output.made_B3HW).mean(), stage.last_layer)[0].norm()
    assert float(shown["adversarial_weight"]) == pytest.approx(
        0.1 * min(float(by_image / (by_scores + 1e-4)), 1), rel=1e-4
    )


def test_codes_only_makes_no_picture(networks, faces):
    output = FusionStage(*networks, LOSSES, adain=False)(faces(fidelity=None))
    assert output.made_B3HW is None and set(output.terms) == {"features", "codes"}


@pytest.mark.parametrize("adain", [False, True])
@pytest.mark.parametrize("taught", [False, True])
def test_stage3_makes_what_the_network_restores(networks, faces, adain, taught):
    network, teacher = networks
    output = FusionStage(network, teacher if taught else None, LOSSES, adain)(faces(fidelity=0.7))
    restored = network.restore(faces().degraded_B3HW, 0.7, adain)
    assert (output.codes_BT is not None) == taught == ("codes" in output.terms)
    torch.testing.assert_close(output.made_B3HW, restored, rtol=0, atol=1e-5)


def test_freezing_refuses_a_part_that_is_not_there(networks):
    with pytest.raises(ValueError, match="no fusion"):
        freeze_all_but(networks[1].network, ("fusion",))


def test_all_parameters_belong_to_a_part(networks):
    named = {module for modules in MODULES.values() for module in modules}
    assert {name.split(".")[0] for name, _ in networks[0].named_parameters()} == named


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3", "colorization", "inpainting"])
def test_frozen_parts_do_not_move_by_one_bit(stage, tiny, run_stage, tiny_teacher, tiny_codes_run, tmp_path):
    config = tiny(f"stages.{stage}.iterations=3", f"stages.{stage}.adversarial.starts_after=1")
    if config.stages[stage].fuse_sizes is not None:
        config = tiny(f"stages.{stage}.iterations=3", f"stages.{stage}.fuse_sizes=[8, 16]")
    files = {} if stage == "stage1" else {"teacher": tiny_teacher}
    if stage == "stage3":
        files["start"] = tiny_codes_run
    run_stage(config, stage, tmp_path / "run", **files)
    trained = read_network(tmp_path / "run").network.state_dict()
    before = read_network(tiny_codes_run if stage == "stage3" else tiny_teacher).network.state_dict()
    learning = {module for part in config.stages[stage].train for module in MODULES[part]}
    frozen = [name for name in before if name.split(".")[0] not in learning and not name.startswith("fusions")]
    if stage != "stage1":
        assert {"codebook", "generator"} <= {name.split(".")[0] for name in frozen}
        for name in frozen:
            assert torch.equal(before[name], trained[name]), name
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], trained[name])}
    if stage != "stage1":
        assert moved <= learning and "encoder" in moved


def test_no_new_part_keeps_its_first_weights(tiny, run_stage, tiny_teacher, tmp_path):
    """A head that never learns would answer with random codes for ever."""
    for stage in ("stage2", "colorization", "inpainting"):
        config = tiny(f"stages.{stage}.iterations=2", "stages.inpainting.fuse_sizes=[8, 16]")
        run_stage(config, stage, tmp_path / stage, teacher=tiny_teacher)
        trained = read_network(tmp_path / stage).network
        fresh = CodeFormer(trained.config)
        initialise(fresh, config.engine.seed)
        for part in ("transformer", "head", "fusion"):
            for module in MODULES[part]:
                before = dict(getattr(fresh, module).named_parameters())
                after = dict(getattr(trained, module).named_parameters())
                assert before.keys() == after.keys()
                moved = any(not torch.equal(before[name], after[name]) for name in before)
                assert moved or not before, (stage, module)


def test_a_network_without_trained_fusion_has_none(tiny_codes_run):
    """Stage II and colorization: w does nothing, rather than mix random features in."""
    network = read_network(tiny_codes_run).network
    assert network.config.fuse_sizes == ()
    faces = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(network.restore(faces, 0.0), network.restore(faces, 1.0))


def revived_by(every: int, until: int, step: int, *codes_and_latents):
    codebook = torch.zeros(4, 2)
    revival = CodeRevival(4, every, until, seed=3, processes=ALONE)
    outputs = [Output({}, None, codes, codes, latent) for codes, latent in codes_and_latents]
    return revival.after_step(step, codebook, outputs), codebook


def test_revival_gives_unused_codes_a_latent_of_the_faces():
    latent = torch.arange(1, 9.0).reshape(1, 2, 2, 2)
    codes = torch.tensor([[0, 0, 2, 2]])
    assert revived_by(2, 9, 0, (codes, latent))[0] is None
    revived, codebook = revived_by(2, 9, 1, (codes, latent))
    assert revived is not None and revived.tolist() == [1, 3]
    vectors = {tuple(row) for row in latent.flatten(2)[0].T.tolist()}
    assert tuple(codebook[1].tolist()) in vectors and tuple(codebook[3].tolist()) in vectors
    assert torch.equal(codebook[[0, 2]], torch.zeros(2, 2))
    again = revived_by(2, 9, 1, (codes, latent))[1]
    assert torch.equal(codebook, again), "the same faces and step revive alike"
    assert revived_by(2, 1, 1, (codes, latent))[0] is None, "not after its last step"
    assert revived_by(0, 9, 1, (codes, latent))[0] is None


def test_revival_looks_at_all_micro_batches():
    latent = torch.arange(1, 17.0).reshape(2, 2, 2, 2)
    codes = torch.tensor([[0, 0, 2, 2], [3, 3, 0, 0]])
    whole = revived_by(1, 9, 0, (codes, latent))
    parts = revived_by(1, 9, 0, (codes[:1], latent[:1]), (codes[1:], latent[1:]))
    assert whole[0] is not None and whole[0].tolist() == [1]
    assert torch.equal(whole[0], parts[0]) and torch.equal(whole[1], parts[1])


def test_a_revived_code_has_no_past_in_the_average_and_in_adam(tiny, run_stage, tmp_path):
    """Revived at the last step: the exported codebook is the network's own, and its moments there are zero."""
    from codeformer_core.training.engine.checkpoint import Checkpoints

    changes = ("stages.stage1.iterations=3", "stages.stage1.revive_codes_every=3", "stages.stage1.ema=0.99")
    config = tiny(*changes, "network.codebook_size=512")
    run_stage(config, "stage1", tmp_path / "run")
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", 9, ALONE)
    newest = checkpoints.newest()
    assert newest is not None
    state = checkpoints.load(newest)
    moments = state["optimizer.codebook.weight.exp_avg"]
    revived = (moments == 0).all(1)
    assert revived.any() and not revived.all()
    exported = read_network(tmp_path / "run").network.codebook.weight
    assert torch.equal(exported[revived], state["network.codebook.weight"][revived])
    assert not torch.equal(exported[~revived], state["network.codebook.weight"][~revived])


def tiny_adversarial(scale: float):
    from codeformer_core.training.config import Adversarial

    return Adversarial(weight=1.0, starts_after=0, adaptive_scale=scale, learning_rate=1e-3)


def test_norms_under_autocast_keep_bfloat16_and_nearly_the_numbers():
    """Otherwise a GPU would keep float32 copies of the largest maps."""
    from codeformer_core.networks.kernels import apply_norm

    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(32, 64)
    torch.nn.init.normal_(norm.weight)
    exact = torch.randn(2, 64, 16, 16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        normed = apply_norm(norm, exact.bfloat16())
    assert normed.dtype == torch.bfloat16
    normed.float().square().mean().backward()
    assert exact.grad is not None and norm.weight.grad is not None
    torch.testing.assert_close(normed.float(), norm(exact), rtol=0.03, atol=0.03)


def test_norms_whose_input_needs_no_gradient_train():
    """torch's own kernel for channels_last crashes the process here."""
    from codeformer_core.networks.kernels import apply_norm

    norm = torch.nn.GroupNorm(32, 64)
    features = torch.randn(2, 64, 8, 8).to(memory_format=torch.channels_last)
    apply_norm(norm, features).square().sum().backward()
    expected = torch.nn.GroupNorm(32, 64)
    expected(features.contiguous()).square().sum().backward()
    torch.testing.assert_close(norm.weight.grad, expected.weight.grad)
