"""Axes of the host's X/Y/Z plot. An axis sets an attribute of the host's processing object, which our hooks read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import codeformer_core as core

from . import host, models
from .options import AUTOMATIC, DEFAULTS, NAME, label_of

ATTRIBUTE = "codeformer_pack_"
NUMBERS = ("fidelity", "opacity")


def register() -> None:
    """Adds our axes to every X/Y/Z plot that is loaded, once."""
    for grid in host.xyz_grids():
        labels = {option.label for option in grid.axis_options}
        grid.axis_options.extend(option for option in _axes(grid) if option.label not in labels)


def values_of(p: Any) -> dict[str, Any]:
    """What the axes say of this run."""
    found = {name: getattr(p, ATTRIBUTE + name, None) for name in (*NUMBERS, "model")}
    return {name: value for name, value in found.items() if value is not None}


def _axes(grid: Any) -> list[Any]:
    numbers = [
        grid.AxisOption(f"[{NAME}] {label_of(name)}", float, _apply(name), confirm=_in_range(name)) for name in NUMBERS
    ]
    model = grid.AxisOption(
        f"[{NAME}] Model", str, _apply("model"), confirm=_are_there, cost=0.5, choices=models.restorers
    )
    return [*numbers, model]


def _apply(name: str) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, x: Any, xs: Any) -> None:
        setattr(p, ATTRIBUTE + name, x)

    return apply


def _in_range(name: str) -> Callable[[Any, Sequence[float]], None]:
    def confirm(p: Any, xs: Sequence[float]) -> None:
        for x in xs:
            DEFAULTS.with_values({name: x})

    return confirm


def _are_there(p: Any, xs: Sequence[str]) -> None:
    for x in xs:
        if problem := models.library().problem(x, core.RESTORER):
            raise ValueError(problem)


__all__ = ["AUTOMATIC", "register", "values_of"]
