"""Events as text: totals first, single images only where there is something to say of them, then what made the result.

The texts are in `report_texts`; this module knows no language.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal, Protocol

from ..faces.events import METHOD_KINDS, SKIP_KINDS, Event, Value
from .report_texts import LANGUAGES
from .report_texts.texts import Texts

Language = Literal["en", "zh"]

# Up to so many images, each has its line.
SMALL_BATCH = 4
# Where the images would take more lines, equal facts are put together.
MAX_LINES = 32
# So many numbers of images, or ranges of them, are named.
MAX_RANGES = 8


class HasEvents(Protocol):
    """A result that can be reported."""

    @property
    def events(self) -> Sequence[Event]: ...


def report(
    result: HasEvents | Iterable[Event], language: Language = "en", cures: Mapping[str, str] | None = None
) -> str:
    """What was done, in a few lines. See `report_lines`."""
    return "\n".join(report_lines(result, language, cures))


def report_lines(
    result: HasEvents | Iterable[Event], language: Language = "en", cures: Mapping[str, str] | None = None
) -> list[str]:
    """The lines of a report.

    result: what carries events, or the events themselves.
    cures: kind of event -> what to do about it in the front end, a sentence that is added once.
    """
    events = list(result) if isinstance(result, Iterable) else list(result.events)
    return _Writer(LANGUAGES[language], cures or {}).lines(events)


@dataclass(frozen=True)
class _Span:
    """The smallest and the largest of several numbers."""

    low: float
    high: float


class _Fields(Formatter):
    """The format specifications that `Texts` adds, and words in its language."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    def format_field(self, value: Value | _Span, format_spec: str) -> str:
        one, has_words, many = format_spec.partition("|")
        if has_words:
            return f"{self.format_field(value, '')} {one if value == 1 else many}"
        if isinstance(value, _Span):
            low, high = (self.format_field(end, format_spec) for end in (value.low, value.high))
            return low if low == high else self.texts.span.format(low=low, high=high)
        if format_spec == "percent":
            return _percent(value)
        if isinstance(value, tuple):
            return self.texts.item.join(self.texts.words.get(each, each) for each in value)
        if isinstance(value, str):
            return self.texts.words.get(value, value)
        return format(value, format_spec)


class _Writer:
    def __init__(self, texts: Texts, cures: Mapping[str, str]) -> None:
        self.texts = texts
        self.cures = dict(cures)
        self.fields = _Fields(texts)

    def lines(self, events: Sequence[Event]) -> list[str]:
        of_all = [event for event in events if event.image is None and event.kind != "faces"]
        method = sorted(
            (event for event in of_all if event.kind in METHOD_KINDS), key=lambda event: METHOD_KINDS.index(event.kind)
        )
        return [
            *self._images(events),
            *self._table([event for event in events if event.kind == "measured"]),
            *(self._with_cures(self._text(event), [event]) for event in of_all if event.kind not in METHOD_KINDS),
            *([self._with_cures(self.texts.comma.join(map(self._text, method)), method)] if method else []),
        ]

    def _images(self, events: Sequence[Event]) -> list[str]:
        """The totals, then the images, or their facts where these are too many."""
        steps = _steps_of(events)
        numbers = sorted(image for image in steps if image is not None)
        details = [event for event in events if event.image is not None and event.kind not in ("faces", "measured")]
        total = self._steps(_total(steps.values()))
        is_single = len(numbers) == 1
        if len(numbers) > 1 and total:
            total = self._format(self.texts.images, count=len(numbers), text=total)
        shown = {event.image for event in details if event.image is not None}
        shown |= set(numbers) if 1 < len(numbers) <= SMALL_BATCH else set()
        if len(shown) + sum(event.face is not None for event in details) > MAX_LINES:
            lines = self._grouped(details)
        else:
            lines = [
                line
                for image in sorted(shown)
                for line in self._image(
                    image, steps.get(image), [event for event in details if event.image == image], is_single
                )
            ]
        return [*([total] if total else []), *lines]

    def _image(self, image: int, steps: Counter[str] | None, events: Sequence[Event], is_single: bool) -> list[str]:
        """One image: its counts and what is to know of it in a line, then a line for each of its faces."""
        of_image = [self._with_cures(self._text(event), [event]) for event in events if event.face is None]
        of_faces = [f"  {self._face(event)}" for event in events if event.face is not None]
        if is_single:
            return [*of_image, *of_faces]
        text = self.texts.and_then.join([*([self._steps(steps)] if steps else []), *of_image])
        if not text:
            return [self._format(self.texts.image, number=image + 1, text=line.strip()) for line in of_faces]
        return [self._format(self.texts.image, number=image + 1, text=text), *of_faces]

    def _face(self, event: Event) -> str:
        assert event.face is not None
        x, y = event.face.center_xy
        text = self._with_cures(self._text(event), [event])
        place = self.texts.face_number if "number" in event.values else self.texts.face_at
        return self._format(place, text=text, x=x, y=y, number=event.values.get("number", 0))

    def _grouped(self, events: Sequence[Event]) -> list[str]:
        """A line for each fact, with the numbers of its images; values that differ become spans."""
        groups: dict[object, list[Event]] = {}
        for event in events:
            words = tuple((name, value) for name, value in event.values.items() if isinstance(value, str | tuple))
            groups.setdefault((event.kind, event.face is None, words), []).append(event)
        lines: list[str] = []
        for group in groups.values():
            first = group[0]
            text = self._format(self.texts.events[first.kind], **_merged([event.values for event in group]))
            template = self.texts.in_images if first.face is None else self.texts.faces_in_images
            images = sorted({event.image + 1 for event in group if event.image is not None})
            line = self._format(template, text=text, count=len(group), images=self._ranges(images))
            lines.append(self._with_cures(line, [first]))
        return lines

    def _ranges(self, numbers: Sequence[int]) -> str:
        """ "1, 3-5 and 20 more" """
        ranges: list[tuple[int, int]] = []
        for number in numbers:
            if ranges and number == ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        text = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges[:MAX_RANGES])
        left = sum(last - first + 1 for first, last in ranges[MAX_RANGES:])
        return self._format(self.texts.more_images, images=text, count=left) if left else text

    def _table(self, events: Sequence[Event]) -> list[str]:
        """A row for each image, and their means."""
        if not events:
            return []
        names = list(events[0].values)
        rows = [(str((event.image or 0) + 1), [event.values[name] for name in names]) for event in events]
        if len(rows) > 1:
            columns = zip(*(values for _, values in rows), strict=True)
            rows.append((self.texts.mean, [math.fsum(column) / len(events) for column in columns]))  # type: ignore[arg-type]
        table = [[self.texts.column, *names], *([label, *map(_number, values)] for label, values in rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]

    def _steps(self, steps: Mapping[str, int]) -> str:
        words = self.texts.steps
        templates = (self.texts.first_step, *[self.texts.next_step] * len(steps))
        return self.texts.comma.join(
            self._format(template, count=count, step=words[step])
            for template, (step, count) in zip(templates, steps.items(), strict=False)
        )

    def _text(self, event: Event) -> str:
        return self._format(self.texts.events[event.kind], **event.values)

    def _format(self, template: str, **values: Any) -> str:
        return self.fields.vformat(template, (), values)

    def _with_cures(self, text: str, events: Iterable[Event]) -> str:
        """Each cure once in a report."""
        cures = [cure for event in events if (cure := self.cures.pop(event.kind, None))]
        return self.texts.sentence.join([text, *cures])


def _steps_of(events: Iterable[Event]) -> dict[int | None, Counter[str]]:
    """How many faces of each image every step had, those that were skipped last."""
    steps: dict[int | None, Counter[str]] = {}
    skipped: Counter[int | None] = Counter()
    for event in events:
        if event.kind == "faces":
            steps.setdefault(event.image, Counter()).update(event.values)  # type: ignore[arg-type]
        elif event.kind in SKIP_KINDS:
            skipped[event.image] += 1
    for image, count in skipped.items():
        steps.setdefault(image, Counter())["skipped"] = count
    return steps


def _total(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    if "skipped" in total:
        total["skipped"] = total.pop("skipped")
    return total


def _merged(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name, first in values[0].items():
        if isinstance(first, str | tuple):
            merged[name] = first
        else:
            numbers = [each[name] for each in values]
            merged[name] = first if min(numbers) == max(numbers) else _Span(min(numbers), max(numbers))
    return merged


def _percent(share: Any) -> str:
    if isinstance(share, float | int) and 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def _number(value: Any) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
