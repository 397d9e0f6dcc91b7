"""Continuing from a checkpoint: only with the stage, configuration and teacher it was made with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..runtime.foreign import is_mapping
from .config import RunConfig
from .config.reading import as_mapping, build
from .data.files import FaceSource
from .engine.checkpoint import Checkpoints, read_meta
from .engine.trainer import Trainer
from .networks import fingerprint
from .stages.stage import Stage

logger = logging.getLogger(__name__)


def about_run(config: RunConfig, stage: Stage, source: FaceSource) -> dict[str, Any]:
    """What a checkpoint says of its run."""
    teacher = stage.teacher
    return {
        "config": as_mapping(config),
        "faces": source.fingerprint,
        "teacher": None if teacher is None else fingerprint(teacher.network),
    }


def resume_from(newest: Path, checkpoints: Checkpoints, trainer: Trainer, name: str, said: Mapping[str, Any]) -> int:
    """The step to continue from. Raises ValueError for a checkpoint of another stage, configuration or teacher."""
    meta = read_meta(newest)
    if meta.stage != name:
        raise ValueError(f"{newest} is of {meta.stage}, this is {name}; name another folder with -o")
    # Built and written again, because an older run doesn't name what was added since.
    there = as_mapping(build(RunConfig, meta.about["config"], f"{newest}: its configuration"))
    if differences := _differences(_learned(there, name), _learned(said["config"], name)):
        shown = "; ".join(f"{key} is {before!r} there and {now!r} here" for key, before, now in differences[:5])
        raise ValueError(f"{newest} was made with another configuration: {shown}. Use the same, or another folder (-o)")
    for key, before, now in _differences(_pace(there, name), _pace(said["config"], name)):
        logger.warning("continuing with %s %r; up to here it was %r", key, now, before)
    if meta.about["teacher"] != said["teacher"]:
        raise ValueError(f"{newest} has the teacher {meta.about['teacher']}, this run {said['teacher']}; name the same")
    if meta.about["faces"] != said["faces"]:
        logger.warning(
            "the faces have changed since %s was saved: from here on they come in another order", newest.name
        )
    trainer.state.restore(checkpoints.load(newest))
    return meta.step


# How fast is learned and how long: a run may continue with other values, and says so.
_PACE = ("iterations", "learning_rate", "schedule", "rate_factors", "clip")


def _learned(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The parts of a configuration that a run can't change on the way."""
    stage = {key: value for key, value in config["stages"][name].items() if key not in _PACE}
    stage["adversarial"] = {key: value for key, value in stage["adversarial"].items() if key not in _PACE}
    used = {entry["degradation"] for phase in stage["mixture"] for entry in phase["cycle"]}
    return {
        "network": config["network"],
        "discriminator": config["discriminator"],
        "lpips_backbone": config["lpips_backbone"],
        "degradations": {key: value for key, value in config["degradations"].items() if key in used},
        "engine": {"seed": config["engine"]["seed"]},
        "data": {key: config["data"][key] for key in ("flip", "tones")},
        "stages": {name: stage},
    }


def _pace(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    stage = config["stages"][name]
    values = {key: stage[key] for key in _PACE}
    return {f"stages.{name}": {**values, "adversarial": {"learning_rate": stage["adversarial"]["learning_rate"]}}}


def _differences(there: object, here: object, key: str = "") -> list[tuple[str, object, object]]:
    if is_mapping(there) and is_mapping(here):
        found: list[tuple[str, object, object]] = []
        for name in sorted(map(str, {*there, *here})):
            found += _differences(there.get(name), here.get(name), f"{key}.{name}".lstrip("."))
        return found
    return [] if there == here else [(key, there, here)]
