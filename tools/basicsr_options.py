"""`python -m tools.basicsr_options YML -o YAML`: an option file of the published trainer -> a configuration of ours.

Nothing of BasicSR is imported: option files are plain YAML, and its package doesn't import beside torchvision 0.17 or
newer.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codeformer_core.cli import run_program
from codeformer_core.commands.console import Console
from codeformer_core.commands.errors import OK, UsageError
from codeformer_core.training.config import PRESETS

_DESCRIPTION = "Read an option file of BasicSR for CodeFormer's trainer, and write it as a configuration."

# What the options leave out because the published network has it built in.
_CODE_CHANNELS, _RESIDUAL_BLOCKS, _ATTENTION_SIZES, _BETA = 256, 2, (16,), 0.25
_ADAPTIVE_SCALE = 0.8
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = (0.5, 1.5), (0.5, 1.5), (0.0, 1.5), 0.1

# How the trainer runs, reports and finds its files: this project's own options say that.
_WITHOUT_EFFECT = (
    "name", "is_train", "dist", "rank", "world_size", "auto_resume", "root_path", "find_unused_parameters",
    "path.param_key_g", "path.param_key_d", "path.strict_load_g", "path.strict_load_d",
    "val.", "logger.", "dist_params.", "train.manual_seed", "datasets.val.", "datasets.train.name",
    "datasets.train.type", "datasets.train.io_backend.", "datasets.train.filename_tmpl",
    "datasets.train.dataset_enlarge_ratio", "datasets.train.prefetch_mode", "datasets.train.num_prefetch_queue",
    "datasets.train.phase", "datasets.train.scale",
)  # fmt: skip
# What this project always does; a file that asks for something else gets a message.
_ALWAYS: Mapping[str, tuple[object, ...]] = {
    "datasets.train.mean": ([0.5, 0.5, 0.5],),
    "datasets.train.std": ([0.5, 0.5, 0.5],),
    "datasets.train.blur_kernel_size": (41,),
    "datasets.train.use_motion_kernel": (False,),
    "datasets.train.kernel_list": (["iso", "aniso"],),
    "datasets.train.kernel_prob": ([0.5, 0.5],),
    "network_g.quantizer": ("nearest",),
    "network_vqgan.quantizer": ("nearest",),
    "network_vqgan.type": ("VQAutoEncoder",),
    "network_g.type": ("CodeFormer", "VQAutoEncoder"),
    "network_g.fix_modules": (["quantize", "generator"],),
    "network_d.type": ("VQGANDiscriminator",),
    "network_d.nc": (3,),
    "train.optim_g.type": ("Adam",),
    "train.optim_d.type": ("Adam",),
    "train.optim_g.weight_decay": (0,),
    "train.optim_d.weight_decay": (0,),
    "train.warmup_iter": (-1, 0),
    "train.net_g_start_iter": (0,),
    "train.net_d_iters": (1,),
    "train.pixel_opt.type": ("L1Loss",),
    "train.pixel_opt.reduction": ("mean",),
    "train.perceptual_opt.type": ("LPIPSLoss",),
    "train.perceptual_opt.use_input_norm": (True,),
    "train.perceptual_opt.range_norm": (True,),
    "train.gan_opt.type": ("GANLoss",),
    "train.gan_opt.gan_type": ("hinge",),
}
_MODELS = {"VQGANModel": "stage1", "CodeFormerIdxModel": "stage2", "CodeFormerJointModel": "stage3"}
_MODELS["CodeFormerModel"] = "inpainting"


@dataclass(frozen=True)
class OptionFile:
    """What an option file says.

    stage: stage1, stage2, stage3, colorization or inpainting.
    config: our keys and values, sections of a run's config; what the file doesn't say isn't in it, so it is laid over a
    preset.
    not_understood: "key: value" of every option that has no counterpart and isn't null.
    """

    stage: str
    config: Mapping[str, Any]
    not_understood: tuple[str, ...]


def read_option_file(path: str | os.PathLike[str]) -> OptionFile:
    """A BasicSR option file for one of CodeFormer's trainings. Needs no basicsr.

    Raises ValueError naming the file and the key: not YAML, tags that would run code, another model_type, values of
    another kind, or two keys that contradict each other.
    """
    path = Path(path)
    options = _Options(str(path), _flat(_load(path), ""))
    stage = _stage(options)
    config = _without_none(
        {
            "network": _network(options, stage),
            "discriminator": {
                "channels": options.take("network_d.ndf", int),
                "layers": options.take("network_d.n_layers", int),
            },
            "data": {
                "faces": options.take("datasets.train.dataroot_gt", str),
                "flip": options.take("datasets.train.use_hflip", bool),
                "workers": options.take("datasets.train.num_worker_per_gpu", int),
            },
            "engine": {"seed": options.take("manual_seed", int)},
            "degradations": _degradations(options, stage),
            "stages": {stage: _stage_section(options, stage)},
        }
    )
    return OptionFile(stage, config, options.leftovers())


@dataclass
class _Options:
    """Options by dotted key; those that were asked for are ticked off."""

    source: str
    values: dict[str, Any]
    used: set[str] = field(default_factory=set)

    def take(self, key: str, kind: Callable[[Any], Any], default: Any = None) -> Any:
        """The value as `kind`; `default` where there is none or null."""
        self.used.add(key)
        value = self.values.get(key)
        if value is None:
            return default
        try:
            if kind in (int, float) and isinstance(value, bool):
                raise ValueError(value)
            if kind is bool and not isinstance(value, bool):
                raise ValueError(value)
            converted = kind(value)
            if kind is int and converted != float(value):
                raise ValueError(value)
            if kind is float and not math.isfinite(converted):
                raise ValueError(value)
            return converted
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{self.source}: {key} is {value!r}, expected {_KINDS.get(kind, 'numbers')}") from error

    def agreed(self, keys: tuple[str, ...], kind: Callable[[Any], Any], default: Any = None) -> Any:
        """The one value that any of `keys` has."""
        found = {key: self.take(key, kind) for key in keys}
        given = {key: value for key, value in found.items() if value is not None}
        first = next(iter(given.items()), None)
        for key, value in given.items():
            if first is not None and value != first[1]:
                raise ValueError(f"{self.source}: {first[0]} is {first[1]} and {key} is {value}; they must be one")
        return default if first is None else first[1]

    def leftovers(self) -> tuple[str, ...]:
        rest = []
        for key, value in self.values.items():
            if value is None or key in self.used or value in _ALWAYS.get(key, ()):
                continue
            if not any(key == known or (known.endswith(".") and key.startswith(known)) for known in _WITHOUT_EFFECT):
                rest.append(f"{key}: {value}")
        return tuple(rest)


def _stage(options: _Options) -> str:
    model = options.take("model_type", str, "")
    if model not in _MODELS:
        raise ValueError(
            f"{options.source}: model_type is {model or 'missing'!r}; option files of CodeFormer have "
            f"{', '.join(sorted(_MODELS))}"
        )
    stage = _MODELS[model]
    if stage == "stage2" and "datasets.train.color_jitter_prob" in options.values:
        return "colorization"
    if stage == "inpainting" and not options.take("datasets.train.gen_inpaint_mask", bool, False):
        raise ValueError(f"{options.source}: CodeFormerModel is for inpainting, but gen_inpaint_mask isn't true")
    return stage


def _network(options: _Options, stage: str) -> dict[str, Any]:
    places = ("network_g",) if stage == "stage1" else ("network_vqgan", "network_g")

    def agreed(name: str, kind: Callable[[Any], Any], default: Any = None) -> Any:
        return options.agreed(tuple(f"{place}.{name}" for place in places), kind, default)

    sizes = options.agreed(
        (*(f"{place}.img_size" for place in places), "datasets.train.gt_size", "datasets.train.in_size"), int
    )
    network = {
        "image_size": sizes,
        "base_channels": agreed("nf", int),
        "channel_multipliers": agreed("ch_mult", _whole_numbers),
        "residual_blocks": agreed("res_blocks", int, _RESIDUAL_BLOCKS),
        "attention_sizes": agreed("attn_resolutions", _whole_numbers, list(_ATTENTION_SIZES)),
        "codebook_size": agreed("codebook_size", int),
        "code_channels": agreed("emb_dim", int, _CODE_CHANNELS),
    }
    if stage == "stage1":
        return network
    width = options.take("network_g.dim_embd", int)
    return network | {
        "width": width,
        "layers": options.take("network_g.n_layers", int),
        "heads": options.take("network_g.n_head", int),
        "mlp_width": None if width is None else 2 * width,
        "fuse_sizes": options.take("network_g.connect_list", _whole_numbers),
    }


def _stage_section(options: _Options, stage: str) -> dict[str, Any]:
    _tick_off_repetitions(options, stage)
    rate = options.take("train.optim_g.lr", float)
    per_gpu = options.take("datasets.train.batch_size_per_gpu", int)
    gpus = options.take("num_gpu", int)
    iterations = options.take("train.total_iter", int)
    return {
        "iterations": iterations,
        "batch_size": None if per_gpu is None or gpus is None else per_gpu * gpus,
        "learning_rate": rate,
        "betas": options.take("train.optim_g.betas", _numbers),
        "ema": options.take("train.ema_decay", float),
        "schedule": _schedule(options, iterations, rate),
        "losses": _losses(options, stage),
        "adversarial": _adversarial(options) if "train.gan_opt.loss_weight" in options.values else None,
    }


def _tick_off_repetitions(options: _Options, stage: str) -> None:
    """What another key or the kind of stage says already; where it says something else it isn't understood."""
    values = options.values
    if values.get("train.optim_d.betas") == values.get("train.optim_g.betas"):
        options.used.add("train.optim_d.betas")
    if not values.get("datasets.train.use_motion_kernel"):
        options.used.add("datasets.train.motion_kernel_prob")
    if values.get("train.fidelity_weight") == (1 if stage == "inpainting" else 0):
        options.used.add("train.fidelity_weight")
    if "train.gan_opt.loss_weight" not in values:
        options.used.update(("train.use_adaptive_weight", "train.net_d_start_iter", "train.optim_d.lr"))


def _schedule(options: _Options, iterations: int | None, rate: float | None) -> dict[str, Any] | None:
    """The two that the published files use; another one stays among what wasn't understood."""
    key = "train.scheduler."
    kind = options.values.get(key + "type")
    if kind == "MultiStepLR":
        options.used.add(key + "type")
        milestones = options.take(key + "milestones", _whole_numbers, [])
        factor = options.take(key + "gamma", float, 0.1)
        return {"kind": "steps", "final": 0.0, "milestones": milestones, "factor": factor}
    whole = options.values.get(key + "periods") == [iterations]
    if kind == "CosineAnnealingRestartLR" and whole and options.values.get(key + "restart_weights", [1]) == [1]:
        options.used.update((key + "type", key + "periods", key + "restart_weights"))
        final = options.take(key + "eta_min", float, 0.0)
        if rate is not None and final > rate:
            raise ValueError(f"{options.source}: scheduler.eta_min {final:g} is above optim_g.lr {rate:g}")
        return {"kind": "cosine", "final": final, "milestones": [], "factor": 1.0}
    return None


def _losses(options: _Options, stage: str) -> dict[str, float] | None:
    """A loss that the file's `train` section leaves out has no weight; a file without that section says nothing."""
    if not any(key.startswith("train.") for key in options.values):
        return None
    features = options.take("train.feat_loss_weight", float, 1.0)
    codes = options.take("train.entropy_loss_weight", float, 0.5)
    autoencoder = stage == "stage1"
    return {
        "pixel": options.take("train.pixel_opt.loss_weight", float, 0.0),
        "perceptual": options.take("train.perceptual_opt.loss_weight", float, 0.0),
        "codebook": 1.0 if autoencoder else 0.0,
        "beta": options.take("network_g.beta", float, _BETA) if autoencoder else 0.0,
        "features": features if options.take("train.use_hq_feat_loss", bool, False) else 0.0,
        "codes": codes if options.take("train.cross_entropy_loss", bool, False) else 0.0,
    }


def _adversarial(options: _Options) -> dict[str, Any]:
    adapts = options.take("train.use_adaptive_weight", bool, True)
    scale = options.take("train.scale_adaptive_gan_weight", float, _ADAPTIVE_SCALE)
    return {
        "weight": options.take("train.gan_opt.loss_weight", float, 0.0),
        "starts_after": options.take("train.net_d_start_iter", int),
        "adaptive_scale": scale if adapts else 0.0,
        "learning_rate": options.take("train.optim_d.lr", float),
    }


def _degradations(options: _Options, stage: str) -> dict[str, Any]:
    """Under the names that the presets' mixtures use, so that these take their place."""
    names = {"stage2": {"": "stage2"}, "colorization": {"": "colorization"}, "stage3": {"": "small", "_large": "large"}}
    corrupts = options.take("datasets.train.use_corrupt", bool, True)
    found = {}
    for ending, name in names.get(stage, {}).items() if corrupts else []:
        key = "datasets.train."
        found[name] = {
            "blur_sigma": options.take(f"{key}blur_sigma{ending}", _numbers),
            "downscale": options.take(f"{key}downsample_range{ending}", _numbers),
            "noise": options.take(f"{key}noise_range{ending}", _numbers),
            "jpeg_quality": options.take(f"{key}jpeg_range{ending}", _whole_numbers),
            "color": _color(options) if stage == "colorization" else None,
            "brush": None,
        }
    return found


def _color(options: _Options) -> dict[str, Any]:
    key = "datasets.train."
    return {
        "shift": options.take(key + "color_jitter_shift", float, 20.0),
        "shift_share": options.take(key + "color_jitter_prob", float, 0.0),
        "brightness": options.take(key + "brightness", _numbers, list(_BRIGHTNESS)),
        "contrast": options.take(key + "contrast", _numbers, list(_CONTRAST)),
        "saturation": options.take(key + "saturation", _numbers, list(_SATURATION)),
        "hue": options.take(key + "hue", _one_side, _HUE),
        "jitter_share": options.take(key + "color_jitter_pt_prob", float, 0.0),
        "gray_share": options.take(key + "gray_prob", float, 0.0),
    }


def _numbers(value: Any) -> list[float]:
    if not isinstance(value, list) or any(isinstance(item, bool) for item in value):
        raise ValueError(value)
    return [float(item) for item in value]


def _whole_numbers(value: Any) -> list[int]:
    """Also of words: the files write '32' among the fuse sizes."""
    numbers = [int(item) for item in _numbers(value)]
    if numbers != _numbers(value):
        raise ValueError(value)
    return numbers


def _one_side(value: Any) -> float:
    """0.1 of 0.1 or (-0.1, 0.1)."""
    if isinstance(value, list):
        low, high = _numbers(value)
        if low != -high:
            raise ValueError(value)
        return high
    return float(value)


_KINDS: Mapping[Callable[[Any], Any], str] = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    bool: "true or false",
    _numbers: "a list of numbers",
    _whole_numbers: "a list of whole numbers",
}


def _load(path: Path) -> Mapping[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain values only, and the one tag that BasicSR's own copies of option files may hold."""

    def ordered_dict(loader: Loader, node: yaml.Node) -> dict[Any, Any]:
        if isinstance(node, yaml.SequenceNode):  # written as a call whose one argument is a list of pairs
            pairs = loader.construct_sequence(node, deep=True)
            return dict(pairs[0]) if pairs else {}
        assert isinstance(node, yaml.MappingNode)
        return loader.construct_mapping(node, deep=True)

    for tag in ("python/object/apply:collections.OrderedDict", "omap"):
        Loader.add_constructor(f"tag:yaml.org,2002:{tag}", ordered_dict)
    try:
        # The loader is a safe one: it makes nothing but lists, mappings, words and numbers.
        options = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such option file") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"{path}: no option file in plain YAML ({' '.join(str(error).split())[:300]})") from error
    if not isinstance(options, Mapping):
        raise ValueError(f"{path}: an option file holds keys and values, this one {type(options).__name__}")
    return options


def _flat(options: Mapping[Any, Any], prefix: str) -> dict[str, Any]:
    """Nested mappings -> dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _without_none(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the file doesn't say is left out, but for a degradation's steps, where none means: leave the step out."""
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            inner = dict(value) if key == "degradations" else _without_none(value)
            if inner:
                kept[key] = inner
        elif value is not None:
            kept[key] = value
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; `argv` without the program's name, default sys.argv."""
    return run_program("python -m tools.basicsr_options", _DESCRIPTION, add_arguments, run, argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("options", type=Path, metavar="YML", help="an option file of BasicSR for CodeFormer's trainer")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="YAML", help="the configuration to write")
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="published",
        help="what the option file leaves out comes from this preset (default %(default)s: the published sizes)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the configuration; options without a counterpart are named on stderr. Returns the exit code."""
    import yaml

    console = Console(sys.stdout, sys.stderr)
    if args.output.exists():
        raise UsageError(f"{args.output} exists already; name another file with -o")
    options = read_option_file(args.options)
    text = yaml.safe_dump({"preset": args.preset, **options.config}, sort_keys=False)
    args.output.write_text(text, encoding="utf-8")
    for option in options.not_understood:
        console.complain(f"{args.options}: no counterpart here, ignored: {option}")
    console.line(f"{args.output}: for `codeformer train {options.stage} --config {args.output}`")
    return OK


if __name__ == "__main__":
    sys.exit(main())
