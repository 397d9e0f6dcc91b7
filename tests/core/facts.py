"""What results say, as facts to compare; how that reads is the business of test_report alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codeformer_core.faces.events import Event, SkippedFace
from codeformer_core.pipeline.report import report

Fact = tuple[str, int | None, Mapping[str, Any]]


def facts(result: Any, *kinds: str) -> list[Fact]:
    """(kind, image, values) of each event of a result, or of events; kinds: only of these, where any are named."""
    events: Iterable[Event] = result if isinstance(result, Iterable) else result.events
    return [(event.kind, event.image, dict(event.values)) for event in events if not kinds or event.kind in kinds]


def kinds(result: Any) -> set[str]:
    return {kind for kind, _, _ in facts(result)}


def steps(result: Any) -> dict[int | None, dict[str, Any]]:
    """How many faces of each image every step had."""
    counted: dict[int | None, dict[str, Any]] = {}
    for _, image, values in facts(result, "faces"):
        counted.setdefault(image, {}).update(values)
    return counted


def why(skipped: Sequence[SkippedFace]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(entry.kind, dict(entry.values)) for entry in skipped]


def line_of(kind: str, **values: Any) -> str:
    """What an English report says of such an event."""
    return report([Event(kind, values=values)])  # type: ignore[arg-type]  # pyright knows the kinds by their words
