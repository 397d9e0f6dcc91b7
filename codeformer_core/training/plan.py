"""How `train all` divides its time: which parts run, each with how many steps. Written once, so that a run that was
killed goes through the same steps as one that was not."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.atomic import write_whole
from .config import RunConfig, StageSection
from .config.reading import as_mapping, build
from .config.run import NetworkSection
from .setup import check_pixel_path

PLAN_NAME = "plan.json"
# Of the time; the rest is for loading, saving, validating and the evaluation at the end.
TRAINING_SHARE = 0.9
SAVE_SECONDS = 300
VALIDATIONS = 8


@dataclass(frozen=True)
class Part:
    """One stage of the whole.

    name: its folder.
    stage: its name in the configuration.
    half_size: faces of half the side.
    """

    name: str
    stage: str
    half_size: bool


@dataclass(frozen=True)
class PlannedPart:
    """A part with its number of steps.

    part: see `Part`.
    iterations, save_every, validate_every: steps.
    faces_per_second: as measured beforehand.
    """

    part: Part
    iterations: int
    save_every: int
    validate_every: int
    faces_per_second: float


@dataclass(frozen=True)
class Plan:
    """A run's plan.

    minutes: the whole's time.
    config: the whole's configuration as plain values.
    parts: in their order.
    """

    minutes: float
    config: dict[str, Any]
    parts: tuple[PlannedPart, ...]

    def write(self, folder: Path) -> None:
        """Whole or not at all. Raises OSError naming the file."""
        write_whole(folder / PLAN_NAME, json.dumps(dataclasses.asdict(self), indent=1).encode())


def read_plan(folder: Path) -> Plan | None:
    """None where there is none yet. Raises ValueError naming a file that is damaged."""
    path = folder / PLAN_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        parts = tuple(build(PlannedPart, part, "parts") for part in content["parts"])
        if not parts or min(min(part.iterations, part.save_every, part.validate_every) for part in parts) < 1:
            raise ValueError("parts: each needs at least one step")
        return Plan(float(content["minutes"]), dict(content["config"]), parts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: can't be read ({error}); name a new folder with -o") from error


def parts_of(config: RunConfig) -> tuple[Part, ...]:
    """The parts that have a share of the budget. Raises ValueError where there is no budget."""
    if config.budget is None:
        raise ValueError("budget is missing: say how the time is divided, as the presets do")
    whole = tuple(Part(name, name, half_size=False) for name in ("stage1", "stage2", "stage3"))
    return (Part("stage1-half", "stage1", half_size=True), *whole) if config.budget.half_size > 0 else whole


def check_parts(config: RunConfig) -> None:
    """Raises ValueError for sizes that a part can't have: worth knowing before hours of aligning photos."""
    for part in parts_of(config):
        sized_for(config, part)
    check_pixel_path(config)


def make_plan(config: RunConfig, minutes: float, seconds_left: float, speeds: Mapping[Part, float], faces: int) -> Plan:
    """Steps from time and speed.

    minutes: asked for.
    seconds_left: of them.
    speeds: faces per second of each part.
    faces: in the training set.
    Raises ValueError, with the minutes that would be enough, where a part could not see every face once.
    """
    assert config.budget is not None
    shares = {part: getattr(config.budget, "half_size" if part.half_size else part.stage) for part in speeds}
    total = sum(shares.values())
    seconds = {part: TRAINING_SHARE * seconds_left * share / total for part, share in shares.items()}
    if any(faces / speed > seconds[part] for part, speed in speeds.items()):
        # Nothing may be left by now, so this is counted from the faces and not from what is missing.
        training = max(faces / speed * total / shares[part] for part, speed in speeds.items())
        spent = minutes - seconds_left / 60
        needed = math.ceil(10 * (spent + training / TRAINING_SHARE / 60)) / 10
        raise ValueError(
            f"--minutes {minutes:g}: too short for every stage to see each of the {faces} faces once; at the speed "
            f"measured here it takes {needed:g} minutes. Give --minutes {math.ceil(needed * 1.1)} or more, or fewer "
            "faces"
        )
    planned: list[PlannedPart] = []
    for part, speed in speeds.items():
        batch = config.stages[part.stage].batch_size
        iterations = max(1, round(seconds[part] * speed / batch))
        save_every = max(1, min(iterations, round(SAVE_SECONDS * speed / batch)))
        planned.append(PlannedPart(part, iterations, save_every, max(1, iterations // VALIDATIONS), speed))
    return Plan(minutes, as_mapping(config), tuple(planned))


def config_of(config: RunConfig, planned: PlannedPart) -> RunConfig:
    """The configuration a part runs with."""
    config = sized_for(config, planned.part)
    section = scaled(config.stages[planned.part.stage], planned.iterations)
    engine = dataclasses.replace(config.engine, save_every=planned.save_every, validate_every=planned.validate_every)
    return dataclasses.replace(config, engine=engine, stages={**config.stages, planned.part.stage: section})


def scaled(section: StageSection, iterations: int) -> StageSection:
    """The same stage in another number of steps: what happens at a step happens at the same share of the whole."""

    def at(step: int) -> int:
        return round(step * iterations / section.iterations)

    starts_after = section.adversarial.starts_after
    adversarial = dataclasses.replace(section.adversarial, starts_after=at(starts_after))
    schedule = dataclasses.replace(
        section.schedule, milestones=tuple(at(milestone) for milestone in section.schedule.milestones)
    )
    mixture = tuple(
        phase if phase.until is None else dataclasses.replace(phase, until=at(phase.until)) for phase in section.mixture
    )
    return dataclasses.replace(
        section,
        iterations=iterations,
        adversarial=adversarial,
        schedule=schedule,
        mixture=mixture,
        revive_codes_until=at(section.revive_codes_until),
    )


def sized_for(config: RunConfig, part: Part) -> RunConfig:
    """config, or for a part of half the size with every size of an image halved.

    Raises ValueError where a network of half the size can't be built.
    """
    if not part.half_size:
        return config
    try:
        return _halved(config)
    except ValueError as error:
        raise ValueError(
            f"budget.half_size {getattr(config.budget, 'half_size', 0):g}: the network of image_size "
            f"{config.network.image_size} has none of half the size ({error}). Set budget.half_size=0, or another "
            "image_size"
        ) from error


def _halved(config: RunConfig) -> RunConfig:
    network: NetworkSection = dataclasses.replace(
        config.network,
        image_size=_half(config.network.image_size),
        attention_sizes=tuple(map(_half, config.network.attention_sizes)),
        fuse_sizes=tuple(map(_half, config.network.fuse_sizes)),
    )
    stages = {
        name: stage
        if stage.fuse_sizes is None
        else dataclasses.replace(stage, fuse_sizes=tuple(map(_half, stage.fuse_sizes)))
        for name, stage in config.stages.items()
    }
    return dataclasses.replace(config, network=network, stages=stages)


def _half(size: int) -> int:
    if size % 2:
        raise ValueError(f"{size} can't be halved")
    return size // 2
