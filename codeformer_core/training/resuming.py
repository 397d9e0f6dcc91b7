"""Going on from a checkpoint: only with the stage, configuration and teacher it was made with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config import RunConfig
from .config.reading import as_mapping
from .data.files import FaceSource
from .engine.checkpoint import Checkpoints, read_meta
from .engine.trainer import Trainer
from .networks import fingerprint
from .stages.stage import Stage

logger = logging.getLogger(__name__)


def newest_to_resume(folder: Path, checkpoints: Checkpoints, *, resume: bool) -> Path | None:
    """The checkpoint to go on from. Raises ValueError for a folder that holds a run which isn't to go on."""
    newest = checkpoints.newest()
    if newest is not None and not resume:
        raise ValueError(
            f"{folder} holds a run already ({newest.name}): --resume goes on with it, or name another folder"
        )
    if newest is None and resume:
        logger.warning("%s holds no checkpoint yet: starting from the beginning", folder)
    return newest


def about_run(config: RunConfig, stage: Stage, source: FaceSource) -> dict[str, Any]:
    """What a checkpoint says of its run."""
    teacher = stage.teacher
    return {
        "config": as_mapping(config),
        "faces": source.fingerprint,
        "teacher": None if teacher is None else fingerprint(teacher.network),
    }


def resume_from(newest: Path, checkpoints: Checkpoints, trainer: Trainer, name: str, said: Mapping[str, Any]) -> int:
    """-> the step to go on from. Raises ValueError for a checkpoint of another stage, configuration or teacher."""
    meta = read_meta(newest)
    if meta.stage != name:
        raise ValueError(f"{newest} is of {meta.stage}, this is {name}; name another folder with -o")
    differences = _differences(_binding(meta.about["config"], name), _binding(said["config"], name))
    if differences:
        shown = "; ".join(f"{key} is {there!r} there and {here!r} here" for key, there, here in differences[:5])
        raise ValueError(f"{newest} was made with another configuration: {shown}. Use the same, or another folder (-o)")
    if meta.about["teacher"] != said["teacher"]:
        raise ValueError(f"{newest} has the teacher {meta.about['teacher']}, this run {said['teacher']}; name the same")
    if meta.about["faces"] != said["faces"]:
        logger.warning(
            "the faces have changed since %s was saved: from here on they come in another order", newest.name
        )
    trainer.state.restore(checkpoints.load(newest))
    return meta.step


def _binding(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The parts of a configuration that a run can't change on the way. More steps may be asked for, but where the
    learning rate falls towards the last one: it would jump up again."""
    stage = dict(config["stages"][name])
    if stage["schedule"]["kind"] != "cosine":
        del stage["iterations"]
    return {
        "network": config["network"],
        "discriminator": config["discriminator"],
        "lpips_backbone": config["lpips_backbone"],
        "degradations": config["degradations"],
        "seed": config["engine"]["seed"],
        "flip": config["data"]["flip"],
        f"stages.{name}": stage,
    }


def _differences(there: Any, here: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        found = []
        for name in sorted({*there, *here}):
            found += _differences(there.get(name), here.get(name), f"{key}.{name}".lstrip("."))
        return found
    return [] if there == here else [(key, there, here)]
