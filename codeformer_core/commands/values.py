"""Numbers and devices as typed, checked by argparse, so that errors come before any work."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import Any, Protocol

from ..pipeline.options import options_of


class HasArguments(Protocol):
    """A parser, or a group of its arguments; what argparse calls both is private."""

    def add_argument(self, *flags: str, **options: Any) -> argparse.Action: ...


def number(lowest: float, highest: float = math.inf) -> Callable[[str], float]:
    """A converter for argparse: a finite number within both ends."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (lowest <= value <= highest and math.isfinite(value)):
            wanted = f"{lowest:g} or more" if math.isinf(highest) else f"from {lowest:g} to {highest:g}"
            raise argparse.ArgumentTypeError(f"expected a number {wanted}, got {text!r}")
        return value

    return convert


def whole(least: int) -> Callable[[str], int]:
    """A converter for argparse: a whole number of at least `least`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return value

    return convert


def add_option(
    parser: HasArguments,
    record: type,
    field: str,
    *flags: str,
    help: str,
    **given: Any,
) -> None:
    """Gives `parser` the argument for an option, with the option's own range or choices; a switch for yes or no.

    record, field: where the option is.
    flags: its names on the command line.
    given: what else `add_argument` is to know; the default is the option's own.
    """
    option = options_of(record)[field]
    if isinstance(option.default, bool):
        parser.add_argument(*flags, action="store_true", help=help, **given)
        return
    if option.choices:
        parser.add_argument(*flags, choices=option.choices, help=help, **{"default": option.default, **given})
        return
    highest = math.inf if option.maximum is None else option.maximum
    kind = number(-math.inf if option.minimum is None else option.minimum, highest)
    parser.add_argument(*flags, type=kind, help=help, **{"default": option.default, **given})


def device(text: str) -> str:
    """A converter for argparse: auto, cpu, mps, cuda or cuda:N."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,2})?", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda, cuda:N or mps, got {text!r}")
    return text


def duration(seconds: float) -> str:
    """1:30 or 1:01:30, and days where it takes some."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours / 24:,.1f} days"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
