"""What of an archive is done, on the target itself: a line for each finished image, which is also its metadata.

`_bulk/settings.json` says how everything was made, `_bulk/journal` has the lines, each beginning with the key of the
image. A line is written when the result lies there whole. Where a result holds many images, their lines name it and how
many they are: only together they count. A line that is cut short counts as none.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from ...runtime.atomic import flush_folder
from ...runtime.errors import ExistingFileError
from ...runtime.foreign import is_object
from .listing import OWN_FOLDER
from .storage import file_names, is_empty, is_local, joined, open_file, read_range, remove_file, write_file

# Changes with what the lines mean.
_VERSION = 1
# Where nothing can be appended to a file, lines are written together: after so many, or so many seconds.
_LINES, _SECONDS = 1000, 30.0


class Journal:
    def __init__(self, target: str, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """The journal of a target, begun or continued.

        settings: what decides how results look.
        overwrite: begin again, whatever lies there.
        Raises ExistingFileError without it where the target was made with other settings, or not by us.
        """
        self._folder = joined(target, OWN_FOLDER, "journal")
        self._settings = joined(target, OWN_FOLDER, "settings.json")
        self._stream: BinaryIO | None = None
        self._waiting: list[bytes] = []
        self._written = time.monotonic()
        found = self._found_settings()
        # As they are read again: tuples are lists there.
        wanted: dict[str, Any] = json.loads(json.dumps({"version": _VERSION, **settings}))
        if overwrite:
            self._begin_again()
        elif found is None and not is_empty(target, OWN_FOLDER):
            raise ExistingFileError(f"{target}: holds files already, which results could replace; name an empty folder")
        elif found is not None and found != wanted:
            raise ExistingFileError(f"{target}: was made with other settings ({_difference(found, wanted)})")
        if found != wanted:
            write_file(self._settings, (json.dumps(wanted, indent=1) + "\n").encode())
        used = [int(name[:6]) for name in file_names(self._folder) if name[:6].isdigit()]
        self._number = max(used, default=-1) + 1

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Note finished images. Raises OSError."""
        lines = [json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records]
        if is_local(self._folder):
            if self._stream is None:
                Path(self._folder).mkdir(parents=True, exist_ok=True)
                self._stream = open(joined(self._folder, self._next_name()), "ab")  # noqa: SIM115
                flush_folder(Path(self._folder))
            self._stream.write(b"".join(lines))
            self._stream.flush()
            return
        self._waiting += lines
        if len(self._waiting) >= _LINES or time.monotonic() - self._written >= _SECONDS:
            self._write_waiting()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._write_waiting()

    def _write_waiting(self) -> None:
        if self._waiting:
            write_file(joined(self._folder, self._next_name()), b"".join(self._waiting))
            self._waiting = []
        self._written = time.monotonic()

    def _next_name(self) -> str:
        name = f"{self._number:06d}.jsonl"
        self._number += 1
        return name

    def _found_settings(self) -> dict[str, Any] | None:
        try:
            return _parsed(read_range(self._settings))
        except FileNotFoundError:
            return None

    def _begin_again(self) -> None:
        for name in file_names(self._folder):
            remove_file(joined(self._folder, name))


def finished_records(target: str, packed: bool) -> Iterator[dict[str, Any]]:
    """What the journal of a target says of the images whose results lie there whole.

    packed: whether the results hold many images.
    """
    packs = complete_packs(target) if packed else ()
    for name in _files(target):
        for record in _records(target, name):
            if not record.get("of") or record["result"] in packs:
                yield record


def complete_packs(target: str) -> set[str]:
    """The places of results that hold many images and are noted with all of these."""
    complete: set[str] = set()
    for name in _files(target):
        # All lines of such a result are in one file, to which they are written at once.
        noted: Counter[str] = Counter()
        for record in _records(target, name):
            if record.get("of"):
                noted[record["result"]] += 1
                if noted[record["result"]] == record["of"]:
                    complete.add(record["result"])
    return complete


def _files(target: str) -> list[str]:
    return [name for name in file_names(joined(target, OWN_FOLDER, "journal")) if name.endswith(".jsonl")]


def _records(target: str, name: str) -> Iterator[dict[str, Any]]:
    with open_file(joined(target, OWN_FOLDER, "journal", name)) as stream:
        for line in stream:
            if (record := _parsed(line)) is not None:
                yield record


def _parsed(line: bytes) -> dict[str, Any] | None:
    """None for a line that was cut short."""
    try:
        value: object = json.loads(line)
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if is_object(value) else None


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """fidelity: 0.5, now 0.7"""
    names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    told: list[str] = []
    for name in names:
        before, now = found.get(name), wanted.get(name)
        if is_object(before) and is_object(now):
            told.append(_difference(before, now))
        else:
            told.append(f"{name}: {json.dumps(before)}, now {json.dumps(now)}")
    return "; ".join(told)
