"""What of an archive is done, on the target itself: a line for each finished image, which is also its metadata.

`_bulk/settings.json` says how everything was made, `_bulk/journal` has the lines, each beginning with the key of the
image. A line is written when the result lies there whole. Where a result holds many images, their lines name it and how
many they are: only together they count. A line that is cut short counts as none.
"""

from __future__ import annotations

import json
import os
import re
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
# Bytes in which the last line of a file begins.
_TAIL = 16 << 20


class Journal:
    def __init__(self, target: str, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """The journal of a target, begun or continued by `begin`.

        settings: what decides how results look.
        overwrite: begin again, whatever lies there.
        Raises ExistingFileError without it where the target was made with other settings, or not by us.
        """
        self._folder = _folder(target)
        self._settings = joined(target, OWN_FOLDER, "settings.json")
        self._stream: BinaryIO | None = None
        self._waiting: list[bytes] = []
        self._written = time.monotonic()
        found = self._found_settings()
        # As they are read again: tuples are lists there.
        self._wanted: dict[str, Any] = json.loads(json.dumps({"version": _VERSION, **settings}))
        self.continues = found == self._wanted and not overwrite
        self._number = 0
        if self.continues or overwrite or is_empty(target, OWN_FOLDER):
            return
        if found is None:
            raise ExistingFileError(f"{target}: holds files already, which results could replace; name an empty folder")
        raise ExistingFileError(f"{target}: was made with other settings ({_difference(found, self._wanted)})")

    def begin(self) -> None:
        """Before the first result. Nothing is changed until then."""
        names = _files(self._folder)
        if self.continues:
            self._number = _number(names[-1]) + 1 if names else 0
            if names and is_local(self._folder):
                _end_last_line(Path(self._folder, names[-1]))
            return
        for name in names:
            remove_file(joined(self._folder, name))
        write_file(self._settings, (json.dumps(self._wanted, indent=1) + "\n").encode())

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Note finished images. Raises OSError."""
        lines = [json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records]
        if not lines:
            return
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


def finished_records(target: str, packed: bool) -> Iterator[dict[str, Any]]:
    """What the journal of a target says of the images whose results lie there whole.

    packed: whether the results hold many images.
    A result that was deleted counts as none, but in a folder of a store nobody looks: that would be a call for each.
    """
    packs = complete_packs(target) if packed else ()
    look = is_local(target)
    for name in _files(_folder(target)):
        for record in _records(target, name):
            result = record["result"]
            if result in packs if packed else not look or os.path.exists(joined(target, result)):
                yield record


def complete_packs(target: str) -> set[str]:
    """The names of results that hold many images, lie in the target and are noted with all of these images."""
    complete: set[str] = set()
    for name in _files(_folder(target)):
        # All lines of such a result are in one file, to which they are written at once.
        noted: Counter[str] = Counter()
        for record in _records(target, name):
            if record.get("of"):
                noted[record["result"]] += 1
                if noted[record["result"]] == record["of"]:
                    complete.add(record["result"])
    return complete.intersection(file_names(target))


def _folder(target: str) -> str:
    return joined(target, OWN_FOLDER, "journal")


def _files(folder: str) -> list[str]:
    """In the order in which they were written."""
    names = [name for name in file_names(folder) if re.match(r"\d+\.jsonl$", name)]
    return sorted(names, key=_number)


def _number(name: str) -> int:
    return int(name.partition(".")[0])


def _end_last_line(path: Path) -> None:
    """Where a run was killed while it wrote: at half a line other readers of the journal would stop."""
    with path.open("r+b") as stream:
        start = max(0, stream.seek(0, os.SEEK_END) - _TAIL)
        stream.seek(start)
        tail = stream.read()
        end = tail.rfind(b"\n") + 1
        if _parsed(tail[end:]) is None:
            stream.truncate(start + end)
        else:
            stream.write(b"\n")


def _records(target: str, name: str) -> Iterator[dict[str, Any]]:
    with open_file(joined(_folder(target), name)) as stream:
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
