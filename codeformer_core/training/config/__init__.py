"""The configuration of a run: dataclasses, the files they are read from, and the presets that ship with the package."""

from .reading import PRESETS, read_config
from .run import (
    Adversarial,
    DiscriminatorSection,
    Engine,
    LossWeights,
    NetworkSection,
    Phase,
    RunConfig,
    Schedule,
    StageSection,
    Step,
)

__all__ = [
    "PRESETS",
    "Adversarial",
    "DiscriminatorSection",
    "Engine",
    "LossWeights",
    "NetworkSection",
    "Phase",
    "RunConfig",
    "Schedule",
    "StageSection",
    "Step",
    "read_config",
]
