"""`train all`: from aligned faces to a measured model within a given time, continuing wherever it was ended.

The folder: plan.json, a folder for each part (stage1-half, stage1, stage2, stage3), then model.safetensors,
evaluation/, and README.md, the model card.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..metrics.feature_weights import INSTALL, PACKAGE, find_feature_weights
from ..models.saving import save_network
from ..networks.codeformer import CodeFormer
from ..runtime.atomic import write_whole
from ..weights.metadata import CheckpointMetadata
from . import WEIGHTS_NAME
from .config import RunConfig
from .config.reading import as_mapping, build
from .data.sources import open_faces
from .engine.checkpoint import Checkpoints, read_meta
from .engine.processes import Processes
from .engine.trainer import Progress
from .evaluation.card import card_markdown
from .evaluation.choose import MetricFiles, choose_metrics
from .evaluation.evaluate import evaluate_model
from .evaluation.report import write_report
from .folder import whole_claimed
from .networks import read_network
from .plan import PLAN_NAME, Part, Plan, PlannedPart, check_parts, config_of, make_plan, parts_of, read_plan, sized_for
from .run import train
from .setup import RunFiles
from .speed import measure_speed

logger = logging.getLogger(__name__)

CARD_NAME = "README.md"
EVALUATION_NAME = "evaluation"
# What a run leaves beside its plan and its parts.
MADE = (WEIGHTS_NAME, CARD_NAME, EVALUATION_NAME)
# Measuring takes a minute, or this share of the time where that is less.
MEASURING_SECONDS, MEASURING_SHARE = 60.0, 0.1
DEGRADATIONS = ("clean", "photo", "small", "large")
FIDELITIES = (0.0, 0.5, 1.0)
MAX_EVALUATED = 64

OnProgress = Callable[[str, Progress], None]
OnEvaluated = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Whole:
    """A run of all stages.

    folder: of the run.
    stopped_by: the signal that ended it before all was done; then the next three are None.
    weights, card, evaluation: what it left.
    """

    folder: Path
    stopped_by: int | None
    weights: Path | None = None
    card: Path | None = None
    evaluation: Path | None = None


def train_all(
    config: RunConfig,
    folder: Path,
    minutes: float,
    processes: Processes,
    on_progress: OnProgress = lambda part, progress: None,
    on_evaluated: OnEvaluated = lambda done, total, text: None,
) -> Whole:
    """Run all parts that the budget names, or what is left of them, then export, measure and write the card.

    config: with faces and, for the evaluation, validation faces.
    minutes: for everything; a plan that is there already stays as it is.
    Raises ValueError, before the first step, for what doesn't fit together or a time that is too short.
    """
    if minutes <= 0:
        raise ValueError(f"--minutes must be above 0, got {minutes:g}")
    check_parts(config)
    with whole_claimed(folder, processes):
        return _train_all(config, folder, minutes, processes, on_progress, on_evaluated)


def _train_all(
    config: RunConfig,
    folder: Path,
    minutes: float,
    processes: Processes,
    on_progress: OnProgress,
    on_evaluated: OnEvaluated,
) -> Whole:
    plan = _settled_plan(config, folder, minutes, processes)
    for planned in plan.parts:
        if _is_done(folder, planned, processes):
            continue
        place = folder / planned.part.name
        files = _files_of(folder, plan, planned)
        has_begun = _checkpoints(folder, planned, processes).newest() is not None
        result = train(
            config_of(config, planned),
            planned.part.stage,
            dataclasses.replace(files, folder=place, resume=has_begun),
            processes,
            lambda progress, name=planned.part.name: on_progress(name, progress),
        )
        if result.stopped_by is not None:
            return Whole(folder, result.stopped_by)
        # The first process writes the weights that all of them read next.
        processes.wait()
    if not processes.is_first:
        return Whole(folder, None)
    return _finish(config, folder, plan, processes.device, on_evaluated)


def _settled_plan(config: RunConfig, folder: Path, minutes: float, processes: Processes) -> Plan:
    """The plan that is there, held against what is asked for now, or a new one."""
    plan = read_plan(folder)
    if plan is not None:
        _require_same(plan, config, minutes, folder)
        return plan
    begun = time.monotonic()
    faces = len(open_faces(config.data, "train", config.network.image_size))
    if _has_validation(config):
        open_faces(config.data, "validation", config.network.image_size)
    parts = parts_of(config)
    seconds = min(MEASURING_SECONDS, MEASURING_SHARE * 60 * minutes) / len(parts)
    speeds: dict[Part, float] = {}
    for part in parts:
        speeds[part] = measure_speed(sized_for(config, part), part.stage, processes, seconds)
        logger.info("%s: %.3g faces/s", part.name, speeds[part])
    left = processes.mean(torch.tensor(60 * minutes - (time.monotonic() - begun), device=processes.device))
    plan = make_plan(config, minutes, float(left), speeds, faces)
    if processes.is_first:
        plan.write(folder)
    processes.wait()
    return plan


def _require_same(plan: Plan, config: RunConfig, minutes: float, folder: Path) -> None:
    """Where faces lie and how a machine is used may change; what is learned may not."""
    if tuple(planned.part for planned in plan.parts) != parts_of(config):
        names = ", ".join(planned.part.name for planned in plan.parts)
        raise ValueError(
            f"{folder / PLAN_NAME}: its parts are {names}; the configuration has "
            f"{', '.join(part.name for part in parts_of(config))}. Name a new folder with -o"
        )
    if plan.minutes != minutes:
        raise ValueError(
            f"{folder} was planned for {plan.minutes:g} minutes, --minutes says {minutes:g}; give the same, or a new "
            "folder with -o"
        )
    there, here = (
        {key: value for key, value in mapping.items() if key not in ("data", "engine")}
        # Built and written again, because an older plan doesn't name what was added since.
        for mapping in (
            as_mapping(build(RunConfig, plan.config, f"{folder / PLAN_NAME}: its configuration")),
            as_mapping(config),
        )
    )
    different = sorted(key for key in {*there, *here} if there.get(key) != here.get(key))
    if different:
        raise ValueError(
            f"{folder} was planned with another configuration ({', '.join(different)}); give the same --config and "
            "--set, or a new folder with -o"
        )


def _checkpoints(folder: Path, planned: PlannedPart, processes: Processes) -> Checkpoints:
    return Checkpoints(folder / planned.part.name / "checkpoints", 1, processes)


def _is_done(folder: Path, planned: PlannedPart, processes: Processes) -> bool:
    newest = _checkpoints(folder, planned, processes).newest()
    if newest is None or read_meta(newest).step < planned.iterations:
        return False
    return _are_weights_of(folder / planned.part.name / WEIGHTS_NAME, read_meta(newest).step)


def _are_weights_of(path: Path, step: int) -> bool:
    """Whether the file is whole and of this step. Weights are written after the checkpoint: a kill in between leaves
    those of an earlier step."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            metadata = CheckpointMetadata.read(path)
    except (OSError, SafetensorError):
        return False
    return metadata is not None and metadata.trained.get("steps") == str(step)


def _files_of(folder: Path, plan: Plan, planned: PlannedPart) -> RunFiles:
    """What each part begins from."""
    part = planned.part
    files = RunFiles(folder / part.name)
    if part.stage == "stage1":
        halves = [other.part for other in plan.parts if other.part.half_size]
        return files if part.half_size or not halves else dataclasses.replace(files, start=folder / halves[0].name)
    files = dataclasses.replace(files, teacher=folder / "stage1")
    return files if part.stage == "stage2" else dataclasses.replace(files, start=folder / "stage2")


def _finish(config: RunConfig, folder: Path, plan: Plan, device: torch.device, on_evaluated: OnEvaluated) -> Whole:
    """Export, measure, describe. All of it is made anew after a kill in between."""
    trained = read_network(folder / plan.parts[-1].part.name)
    network = trained.network
    assert isinstance(network, CodeFormer)
    steps = {part.part.name: str(part.iterations) for part in plan.parts}
    weights, card = folder / WEIGHTS_NAME, folder / CARD_NAME
    save_network(
        weights,
        network,
        network.config,
        trained.task,
        dtype=torch.float16,
        trained=steps,
        fidelity=config.stages[plan.parts[-1].part.stage].recommended_fidelity,
        also=trained.also,
    )
    facts = _facts(config, plan)
    if not _has_validation(config):
        lines = [f"- **{name}**: {text}" for name, text in facts.items()]
        text = "\n".join([*lines, "", "Not measured: no validation faces were named.", ""])
        write_whole(card, f"# {folder.name}\n\n{text}".encode())
        return Whole(folder, None, weights, card)
    others = config.stages[plan.parts[-1].part.stage].other_tasks
    # What the file holds is measured, not what was trained.
    exported = read_network(weights).network.float().to(device)
    assert isinstance(exported, CodeFormer)
    faces = open_faces(config.data, "validation", config.network.image_size)
    evaluation = evaluate_model(
        exported,
        None,
        faces,
        {name: config.degradation(name) for name in (*DEGRADATIONS, *others)},
        FIDELITIES,
        choose_metrics(MetricFiles(lpips_backbone=config.lpips_backbone), device, None),
        tasks=others,
        device=device,
        count=MAX_EVALUATED,
        on_progress=on_evaluated,
    )
    write_report(evaluation, folder / EVALUATION_NAME, f"Evaluation of {folder.name}", facts)
    write_whole(card, f"# {folder.name}\n\n{card_markdown(evaluation, facts)}".encode())
    return Whole(folder, None, weights, card, folder / EVALUATION_NAME)


def _has_validation(config: RunConfig) -> bool:
    return config.data.validation is not None or config.data.manifest is not None


def _facts(config: RunConfig, plan: Plan) -> Mapping[str, str]:
    """What a reader of the card wants to know of the training."""
    faces = len(open_faces(config.data, "train", config.network.image_size))
    learned = ", ".join(
        f"{part.part.name} {part.iterations} steps of {config.stages[part.part.stage].batch_size}"
        for part in plan.parts
    )
    facts: dict[str, Any] = {
        "Faces": f"{faces}, {config.network.image_size} pixels",
        "Time": f"{plan.minutes:g} minutes were planned",
        "Steps": learned,
        "Losses": "; ".join(f"{part.part.name}: {_losses(config, part)}" for part in plan.parts),
    }
    asks_for_looks = any(config.stages[part.part.stage].losses.perceptual > 0 for part in plan.parts)
    if asks_for_looks and config.lpips_backbone is None and find_feature_weights() is None:
        facts["Missing"] = f"{PACKAGE} ({INSTALL}): image gradients took the place of the perceptual loss"
    return facts


def _losses(config: RunConfig, planned: PlannedPart) -> str:
    section = config_of(config, planned).stages[planned.part.stage]
    weights = {name: weight for name, weight in vars(section.losses).items() if weight > 0 and name != "beta"}
    named = [f"{name} {weight:g}" for name, weight in weights.items()]
    if section.uses_discriminator:
        named.append(f"adversarial {section.adversarial.weight:g} from step {section.adversarial.starts_after}")
    return ", ".join(named)
