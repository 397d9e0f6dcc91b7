"""Option files of BasicSR become our configuration; nothing of the package runs."""

from __future__ import annotations

import textwrap

import pytest

from codeformer_core.degradation import PRESETS
from codeformer_core.training.config.reading import read_config
from tools.basicsr_options import main, read_option_file


def option_file(tmp_path, text: str, name: str = "options.yml"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


STAGE_2 = """
    model_type: CodeFormerIdxModel
    num_gpu: 4
    manual_seed: 7
    datasets:
      train:
        dataroot_gt: my/faces
        in_size: 256
        gt_size: 256
        mean: [0.5, 0.5, 0.5]
        use_hflip: false
        use_corrupt: true
        blur_kernel_size: 41
        use_motion_kernel: false
        motion_kernel_prob: 0.001
        blur_sigma: [2, 9]
        downsample_range: [3, 20]
        noise_range: [1, 11]
        jpeg_range: [40, 70]
        latent_gt_path: ~
        num_worker_per_gpu: 3
        batch_size_per_gpu: 5
    network_g:
      type: CodeFormer
      dim_embd: 256
      n_head: 4
      n_layers: 5
      codebook_size: 512
      connect_list: ['32', '64']
      fix_modules: ['quantize','generator']
    network_vqgan:
      type: VQAutoEncoder
      img_size: 256
      nf: 32
      ch_mult: [1, 2, 2, 4]
      quantizer: 'nearest'
      codebook_size: 512
    train:
      use_hq_feat_loss: true
      feat_loss_weight: 0.75
      cross_entropy_loss: true
      entropy_loss_weight: 0.25
      fidelity_weight: 0
      optim_g:
        type: Adam
        lr: !!float 2e-4
        weight_decay: 0
        betas: [0.9, 0.95]
      scheduler:
        type: MultiStepLR
        milestones: [100, 200]
        gamma: 0.25
      total_iter: 300
      warmup_iter: -1
      ema_decay: 0.9
    val:
      val_freq: !!float 5e10
"""


def test_a_stage_2_file_becomes_a_config(tmp_path):
    options = read_option_file(option_file(tmp_path, STAGE_2))
    assert options.stage == "stage2" and options.not_understood == ()
    config = read_config("published", sections=options.config)
    assert config.network.image_size == 256 and config.network.base_channels == 32
    assert config.network.channel_multipliers == (1, 2, 2, 4) and config.network.codebook_size == 512
    assert (config.network.width, config.network.layers, config.network.heads) == (256, 5, 4)
    assert config.network.mlp_width == 512 and config.network.fuse_sizes == (32, 64)
    assert config.network.residual_blocks == 2 and config.network.attention_sizes == (16,)
    assert config.network.code_channels == 256
    stage = config.stages["stage2"]
    assert (stage.iterations, stage.batch_size, stage.learning_rate) == (300, 20, 2e-4)
    assert stage.betas == (0.9, 0.95) and stage.ema == 0.9
    assert (stage.schedule.kind, stage.schedule.milestones, stage.schedule.factor) == ("steps", (100, 200), 0.25)
    assert (stage.losses.features, stage.losses.codes, stage.losses.pixel) == (0.75, 0.25, 0)
    assert config.engine.seed == 7 and config.data.faces == "my/faces" and not config.data.flip
    degradation = config.degradation(stage.mixture[0].cycle[0].degradation)
    assert degradation.blur_sigma == (2, 9) and degradation.downscale == (3, 20)
    assert degradation.noise == (1, 11) and degradation.jpeg_quality == (40, 70) and degradation.color is None


def test_a_stage_1_file_becomes_a_config(tmp_path):
    options = read_option_file(
        option_file(
            tmp_path,
            """
            model_type: VQGANModel
            num_gpu: 8
            datasets: {train: {batch_size_per_gpu: 4, use_corrupt: false}}
            network_g: {img_size: 512, nf: 48, ch_mult: [1, 1, 2, 2, 4, 4], codebook_size: 300, beta: 0.5}
            network_d: {type: VQGANDiscriminator, nc: 3, ndf: 16, n_layers: 3}
            train:
              optim_g: {type: Adam, lr: 7e-5, betas: [0.9, 0.99]}
              optim_d: {type: Adam, lr: 3e-5, betas: [0.9, 0.99]}
              scheduler: {type: CosineAnnealingRestartLR, periods: [1000], restart_weights: [1], eta_min: 6e-5}
              total_iter: 1000
              pixel_opt: {type: L1Loss, loss_weight: 2.0, reduction: mean}
              perceptual_opt: {type: LPIPSLoss, loss_weight: 0.5}
              gan_opt: {type: GANLoss, gan_type: hinge, loss_weight: 1.0}
              net_d_start_iter: 77
            """,
        )
    )
    assert options.stage == "stage1" and options.not_understood == ()
    config = read_config("published", sections=options.config)
    stage = config.stages["stage1"]
    assert stage.batch_size == 32 and stage.learning_rate == 7e-5
    assert (stage.schedule.kind, stage.schedule.final) == ("cosine", 6e-5)
    assert (stage.losses.pixel, stage.losses.perceptual, stage.losses.codebook) == (2, 0.5, 1)
    assert stage.losses.beta == 0.5 and stage.adversarial.starts_after == 77
    assert stage.adversarial.learning_rate == 3e-5 and stage.adversarial.adaptive_scale == 0.8
    assert config.discriminator.channels == 16 and config.discriminator.layers == 3
    assert config.network.codebook_size == 300 and config.network.width == 512  # the preset's


def test_colorization_inpainting_and_stage_3_are_told_apart(tmp_path):
    colorization = read_option_file(
        option_file(
            tmp_path,
            STAGE_2.replace("jpeg_range", "color_jitter_prob: 0.4\n        gray_prob: 0.2\n        jpeg_range"),
        )
    )
    assert colorization.stage == "colorization" and colorization.not_understood == ()
    color = colorization.config["degradations"]["colorization"]["color"]
    assert (color["shift_share"], color["gray_share"], color["hue"]) == (0.4, 0.2, 0.1)
    assert read_config("published", sections=colorization.config).degradation("colorization").color is not None

    fusion = STAGE_2.replace("CodeFormerIdxModel", "CodeFormerJointModel").replace(
        "latent_gt_path", "blur_sigma_large: [3, 8]\n        downsample_range_large: [5, 6]\n        latent_gt_path"
    )
    stage3 = read_option_file(option_file(tmp_path, fusion))
    assert stage3.stage == "stage3"
    config = read_config("published", sections=stage3.config)
    assert config.degradation("small").blur_sigma == (2, 9)
    assert config.degradation("large").blur_sigma == (3, 8) and config.degradation("large").noise is None

    inpainting = STAGE_2.replace("CodeFormerIdxModel", "CodeFormerModel").replace(
        "fidelity_weight: 0", "fidelity_weight: 1.0"
    )
    with pytest.raises(ValueError, match="gen_inpaint_mask"):
        read_option_file(option_file(tmp_path, inpainting))
    found = read_option_file(
        option_file(
            tmp_path, inpainting.replace("use_corrupt: true", "gen_inpaint_mask: true\n        use_corrupt: false")
        )
    )
    assert found.stage == "inpainting" and "degradations" not in found.config
    assert read_config("published", sections=found.config).degradation("inpainting") == PRESETS["inpainting"]


def test_what_has_no_counterpart_is_listed(tmp_path):
    text = STAGE_2.replace("blur_kernel_size: 41", "blur_kernel_size: 21").replace("type: Adam", "type: AdamW")
    text = text.replace("latent_gt_path: ~", "latent_gt_path: codes.pth").replace("warmup_iter: -1", "warmup_iter: 500")
    text = text.replace("type: MultiStepLR", "type: LinearLR").replace("fidelity_weight: 0", "fidelity_weight: 0.5")
    options = read_option_file(option_file(tmp_path, text + "      my_own_loss: {weight: 3}\n"))
    assert set(options.not_understood) == {
        "datasets.train.blur_kernel_size: 21",
        "datasets.train.latent_gt_path: codes.pth",
        "train.optim_g.type: AdamW",
        "train.warmup_iter: 500",
        "train.scheduler.type: LinearLR",
        "train.scheduler.milestones: [100, 200]",
        "train.scheduler.gamma: 0.25",
        "train.fidelity_weight: 0.5",
    } | {entry for entry in options.not_understood if "my_own_loss" in entry}
    assert "schedule" not in options.config["stages"]["stage2"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("num_gpu: 4", "num_gpu: auto", r"num_gpu is 'auto', expected a whole number"),
        ("ch_mult: [1, 2, 2, 4]", "ch_mult: 4", r"network_vqgan\.ch_mult is 4, expected a list of whole numbers"),
        ("total_iter: 300", "total_iter: 300.5", r"train\.total_iter is 300\.5"),
        ("lr: !!float 2e-4", "lr: .nan", r"train\.optim_g\.lr is nan, expected a number"),
        ("use_hflip: false", "use_hflip: 1", r"use_hflip is 1, expected true or false"),
        ("img_size: 256", "img_size: 512", r"network_vqgan\.img_size is 512 and datasets\.train\.gt_size is 256"),
        (
            "n_layers: 5\n      codebook_size: 512",
            "n_layers: 5\n      codebook_size: 99",
            r"codebook_size is 512 and .*99",
        ),
        ("CodeFormerIdxModel", "ESRGANModel", r"model_type is 'ESRGANModel'.*CodeFormerIdxModel"),
        ("model_type: CodeFormerIdxModel", "", r"model_type is 'missing'"),
    ],
)
def test_wrong_values_are_named(tmp_path, old, new, words):
    assert old in STAGE_2
    with pytest.raises(ValueError, match=rf"options\.yml: .*{words}"):
        read_option_file(option_file(tmp_path, STAGE_2.replace(old, new, 1)))


def test_ordered_dicts_are_read_and_other_tags_refused(tmp_path):
    ordered = """
        !!python/object/apply:collections.OrderedDict
        - - - model_type
            - VQGANModel
          - - num_gpu
            - 2
          - - datasets
            - !!python/object/apply:collections.OrderedDict
              - - - train
                  - {batch_size_per_gpu: 3}
    """
    options = read_option_file(option_file(tmp_path, ordered))
    assert options.stage == "stage1" and options.config["stages"]["stage1"]["batch_size"] == 6
    marker = tmp_path / "ran"
    for tag in (f"!!python/object/apply:os.system ['touch {marker}']", "!!python/name:os.system ''"):
        with pytest.raises(ValueError, match=r"code\.yml: no option file in plain YAML"):
            read_option_file(option_file(tmp_path, f"model_type: {tag}", "code.yml"))
    assert not marker.exists()


@pytest.mark.parametrize("text", ["[1, 2]", "", "a: [", "\x00"])
def test_other_files_are_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"other\.yml"):
        read_option_file(option_file(tmp_path, text, "other.yml"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.yml: there is no such option file"):
        read_option_file(tmp_path / "nowhere.yml")


def test_the_program_writes_a_configuration_over_the_published_preset(tmp_path, capsys):
    """Not over the default, whose revived codes and group norm that trainer doesn't have."""
    options = option_file(
        tmp_path,
        """
        model_type: VQGANModel
        manual_seed: 0
        num_gpu: 2
        my_own_option: 3
        datasets: {train: {dataroot_gt: some/faces, batch_size_per_gpu: 3}}
        """,
    )
    output = tmp_path / "mine.yaml"
    assert main([str(options), "-o", str(output)]) == 0
    said = capsys.readouterr()
    assert f"codeformer train stage1 --config {output}" in said.out and "ignored: my_own_option: 3" in said.err
    config, published = read_config(str(output)), read_config("published")
    assert config.data.faces == "some/faces" and config.stages["stage1"].batch_size == 6
    assert config.network == published.network and config.discriminator == published.discriminator
    assert config.stages["stage1"].revive_codes_every == 0
    assert main([str(options), "-o", str(output)]) == 2 and "exists already" in capsys.readouterr().err


def test_every_kind_of_stage_can_be_written(tmp_path):
    for name in ("stage2", "colorization"):
        text = STAGE_2
        if name == "colorization":
            text = text.replace("jpeg_range", "color_jitter_prob: 0.4\n        gray_prob: 0.2\n        jpeg_range")
        options = option_file(tmp_path, text, f"{name}.yml")
        assert main([str(options), "-o", str(tmp_path / f"{name}.yaml")]) == 0
        written = read_config(str(tmp_path / f"{name}.yaml"))
        assert written == read_config("published", sections=read_option_file(options).config)
