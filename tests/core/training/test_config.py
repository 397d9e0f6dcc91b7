"""Presets hold the published numbers; files are read strictly, with the nearest name for a mistyped key."""

from __future__ import annotations

import json

import pytest
import torch

from codeformer_core.networks.codeformer import PUBLISHED_CODEFORMER, CodeFormer
from codeformer_core.networks.discriminator import Discriminator, DiscriminatorConfig, score_size
from codeformer_core.networks.vqgan import VQAutoencoder
from codeformer_core.training.config import PRESETS, read_config
from codeformer_core.training.config.reading import as_mapping, build
from codeformer_core.training.config.run import RunConfig
from codeformer_core.training.engine.schedules import rate_at


def parameters(network: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def test_there_are_the_six_presets():
    assert PRESETS == ("paper", "published", "refine", "small", "smoke", "starter")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_all_stages_and_survives_json(name):
    config = read_config(name)
    assert list(config.stages) == ["stage1", "stage2", "stage3", "colorization", "inpainting"]
    assert build(RunConfig, json.loads(json.dumps(as_mapping(config))), "again") == config


def test_published_sizes():
    config = read_config("published")
    assert config.network.codeformer() == PUBLISHED_CODEFORMER
    with torch.device("meta"):
        assert parameters(CodeFormer(config.network.codeformer())) == pytest.approx(94.11, abs=0.01)
        assert parameters(VQAutoencoder(config.network.autoencoder())) == pytest.approx(63.74, abs=0.01)
        sizes = config.discriminator
        discriminator = Discriminator(DiscriminatorConfig(sizes.channels, sizes.layers, sizes.norm))
        assert parameters(discriminator) == pytest.approx(6.96, abs=0.01)
        assert discriminator(torch.empty(1, 3, 512, 512)).shape == (1, 1, 30, 30)
    assert score_size(DiscriminatorConfig(64, 4, "batch"), 512) == 30


@pytest.mark.parametrize(
    ("stage", "iterations", "batch", "rate", "ema", "starts_after", "scale"),
    [
        ("stage1", 1_600_000, 32, 7e-5, 0.995, 30001, 0.8),
        ("stage2", 500_000, 32, 1e-4, 0.995, None, None),
        ("stage3", 150_000, 24, 5e-5, 0.997, 5001, 0.1),
        ("colorization", 500_000, 32, 1e-4, 0.995, None, None),
        ("inpainting", 300_000, 12, 7e-5, 0.997, 296001, 0.1),
    ],
)
def test_published_stages(stage, iterations, batch, rate, ema, starts_after, scale):
    section = read_config("published").stages[stage]
    assert (section.iterations, section.batch_size, section.learning_rate, section.ema) == (
        iterations,
        batch,
        rate,
        ema,
    )
    assert section.uses_discriminator == (starts_after is not None)
    if starts_after is not None:
        assert (section.adversarial.starts_after, section.adversarial.adaptive_scale) == (starts_after, scale)
    assert section.betas == (0.9, 0.99)


def test_published_schedules():
    stages = read_config("published").stages

    def rate(name: str, step: int) -> float:
        section = stages[name]
        return rate_at(step, section.learning_rate, section.schedule, section.iterations)

    assert rate("stage1", 0) == 7e-5 and rate("stage1", 1_600_000) == pytest.approx(6e-5)
    assert rate("stage1", 800_000) == pytest.approx(6.5e-5)
    assert [rate("stage2", step) for step in (399_999, 400_000, 450_000)] == [1e-4, 0.5e-4, 0.25e-4]
    assert rate("stage3", 150_000) == pytest.approx(2e-5)
    assert rate("inpainting", 250_000) == pytest.approx(3.5e-5)


def test_published_mixture_of_stage3():
    config = read_config("published")
    section = config.stages["stage3"]

    def at(step: int) -> tuple[str, float | None]:
        entry = section.step_at(step)
        return entry.degradation, entry.fidelity

    assert at(0) == at(39_999) == ("small", 1.0)
    assert at(40_000) == at(79_999) == ("small", 1.3)
    assert at(80_000) == at(119_999) == ("large", None)
    later = [at(step) for step in range(120_000, 120_030)]
    assert later.count(("small", 1.3)) == 2 and later.count(("large", None)) == 28
    assert config.degradation("large").downscale == (4, 30)


def test_frozen_parts_of_the_published_stages():
    stages = read_config("published").stages
    assert stages["stage1"].train == ("encoder", "codebook", "generator")
    assert stages["stage2"].train == stages["colorization"].train == ("encoder", "transformer", "head")
    assert stages["stage3"].train == ("encoder", "transformer", "head", "fusion")
    assert stages["inpainting"].train == stages["stage3"].train
    assert stages["inpainting"].fuse_sizes == (32, 64, 128)


def test_the_papers_own_numbers():
    stages = read_config("paper").stages
    assert [stages[name].iterations for name in ("stage1", "stage2", "stage3")] == [1_500_000, 200_000, 20_000]
    assert [stages[name].learning_rate for name in ("stage1", "stage2", "stage3")] == [8e-5, 8e-5, 2e-5]
    assert all(stages[name].batch_size == 16 for name in ("stage1", "stage2", "stage3"))
    section = stages["stage2"]
    assert rate_at(199_999, section.learning_rate, section.schedule, section.iterations) == 8e-5


def test_small_is_a_codeformer_of_8_million_parameters():
    config = read_config("small")
    with torch.device("meta"):
        network = CodeFormer(config.network.codeformer())
    assert config.network.image_size == 512
    assert 7.5 < parameters(network) < 8.3
    assert parameters(network) * 2 < 17.0  # MB in half precision


def test_a_file_begins_from_a_preset_and_changes_what_it_names(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("preset: small\nstages:\n  stage2: {learning_rate: 2e-4, batch_size: 4}\n")
    config, small = read_config(str(mine)), read_config("small")
    assert config.stages["stage2"].learning_rate == 2e-4 and config.stages["stage2"].batch_size == 4
    assert config.stages["stage2"].iterations == small.stages["stage2"].iterations
    assert config.stages["stage1"] == small.stages["stage1"]
    (tmp_path / "more.json").write_text(json.dumps({"preset": "mine.yaml", "engine": {"seed": 7}}))
    more = read_config(str(tmp_path / "more.json"), ["engine.keep=9"])
    assert (more.engine.seed, more.engine.keep, more.stages["stage2"].batch_size) == (7, 9, 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stages.stage1.learningrate=1", ["stages.stage1", "learningrate", "did you mean 'learning_rate'"]),
        ("engin.seed=1", ["engin", "did you mean 'engine'"]),
        ("stages.stage1.batch_size=two", ["stages.stage1", "batch_size", "whole number", "'two'"]),
        ("stages.stage1.batch_size=true", ["batch_size", "whole number"]),
        ("stages.stage1.batch_size=0", ["batch_size", "at least 1", "0"]),
        ("stages.stage1.learning_rate=.nan", ["learning_rate", "number"]),
        ("stages.stage1.learning_rate=-1", ["learning_rate", "above 0"]),
        ("stages.stage1.ema=1", ["ema", "below 1"]),
        ("stages.stage1.train=[encoder, decoder]", ["train", "decoder", "generator"]),
        ("stages.stage1.betas=[0.9]", ["betas", "2 values"]),
        ("stages.stage1.betas=[2, 3]", ["betas", "below 1"]),
        ("stages.stage1.train=[]", ["train", "encoder, codebook, generator"]),
        ("stages.stage1.task=restoration", ["stage1", "restoration", "autoencoder"]),
        ("stages.stage1.losses.pixel=-1", ["pixel", "0 or more"]),
        ("stages.stage1.losses={pixel: 0, perceptual: 0, identity: 0}", ["adaptive_scale", "losses.pixel", "all 0"]),
        ("stages.stage1.schedule.final=1", ["schedule.final", "learning_rate"]),
        ("stages.stage2.train=[encoder, transformer, head, fusion]", ["stage2", "train", "fusion"]),
        ("stages.stage2.starts_from=nothing", ["starts_from", "nothing"]),
        ("stages.inpainting.train=[encoder, transformer, fusion]", ["inpainting", "head"]),
        (
            "stages.stage2.mixture=[{until: null, cycle: [{degradation: small, fidelity: 1, steps: 1}]}]",
            ["stage2", "fidelity"],
        ),
        ("stages.stage2.schedule.kind=linear", ["schedule", "constant, cosine, steps", "linear"]),
        ("stages.stage2.mixture=[]", ["stage2", "mixture"]),
        (
            "stages.stage2.mixture=[{until: null, cycle: [{degradation: smal, fidelity: null, steps: 1}]}]",
            ["smal", "small"],
        ),
        ("stages.stage3.mixture=[{until: 5, cycle: [{degradation: small, fidelity: 1, steps: 1}]}]", ["until", "[5]"]),
        ("stages.stage3.fuse_sizes=[33]", ["stage3", "33"]),
        ("network.image_size=500", ["500", "multiple of 32"]),
        ("network.heads=7", ["256", "7"]),
        ("engine.precision=float16", ["precision", "float32, bfloat16", "float16"]),
        ("data.cache=ram", ["data", "cache", "ram"]),
        (
            "degradations.mine={blur_sigma: [3, 1], downscale: null, noise: null, jpeg_quality: null, color: null, "
            "brush: null}",
            ["degradations.mine", "blur_sigma"],
        ),
        ("discriminator.norm=instance", ["norm", "batch, group"]),
        ("network.layers=0", ["network", "layers", "at least 1"]),
        ("network.heads=-4", ["network", "heads", "at least 1"]),
        ("network.fuse_sizes=[0]", ["fuse_sizes", "at least 1"]),
        ("discriminator.layers=-1", ["discriminator", "layers"]),
        ("engine.device=foo", ["engine", "device", "'foo'"]),
        ("engine.seed=99999999999999999999999", ["engine", "seed"]),
        ("engine.seed=2024-99-99", ["--set", "not YAML"]),
        (f"stages.stage1.learning_rate=1{'0' * 400}", ["learning_rate", "number"]),
        (f"engine.seed={'[' * 5000}", ["--set", "nested too deeply"]),
        ("no equals sign", ["--set", "KEY=VALUE"]),
        ("engine.seed=[", ["not YAML"]),
    ],
)
def test_what_is_wrong_is_named_with_the_cure(change, words):
    with pytest.raises(ValueError) as error:
        read_config("small", [change])
    for word in words:
        assert word in str(error.value), (word, str(error.value))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("list.yaml", "- 1\n- 2\n", ["list.yaml", "keys and values"]),
        ("twice.yaml", "preset: small\nengine: {seed: 1}\nengine: {keep: 2}\n", ["twice.yaml", "'engine'", "twice"]),
        ("twice.json", '{"preset": "small", "preset": "paper"}', ["twice.json", "'preset'", "twice"]),
        ("broken.json", "{", ["broken.json", "not JSON"]),
        ("alone.yaml", "engine: {seed: 1}\n", ["missing", "network", "start from a preset"]),
        ("loop.yaml", "preset: loop.yaml\n", ["begin from each other"]),
        ("tags.yaml", "!!python/object/apply:os.system ['true']\n", ["tags.yaml", "not YAML"]),
    ],
)
def test_files_that_are_no_configuration(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as error:
        read_config(str(tmp_path / name))
    for word in words:
        assert word in str(error.value), (word, str(error.value))


def test_a_missing_preset_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'published'"):
        read_config("publishd")
