"""What is done of a video, on the disk: whole parts, and a journal that says what they hold.

A folder beside the result has the parts; the journal's first line says of what and how, and each further line is a
part: the times of its frames, what was seen in them, and what the next part needs to know. A line is written when its
part is whole and on the disk, so a killed run loses one part at most.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ...runtime.atomic import flush, flush_folder
from ...runtime.foreign import is_object
from ..fingerprints import digest_of_ends
from .look import Look
from .write import Part

# Frames of a part, at least, and from which on a cut ends it.
PART_FRAMES = 250
PART_FRAMES_AT_CUT = 125
_JOURNAL = "journal.jsonl"
# Changes with what the lines mean.
_VERSION = 1


def source_identity(path: Path) -> dict[str, Any]:
    """Tells a file from another one, and from what it was before it changed."""
    status = path.stat()
    return {"size": status.st_size, "modified": status.st_mtime_ns, "sha256_of_ends": digest_of_ends(path)}


def parts_folder(target: Path) -> Path:
    """Where the parts of a result are."""
    return target.with_name(f"{target.name}.parts")


@dataclass
class Journal:
    """What another run has done, and what this one adds.

    folder: of the parts.
    parts: whole ones, in order.
    looks: what was seen, by the number of the frame; more frames than the parts have.
    state: what the next part needs to know.
    settings: the first line's, as they were when the work was begun.
    """

    folder: Path
    parts: list[Part] = field(default_factory=list[Part])
    looks: dict[int, Look] = field(default_factory=dict[int, Look])
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def done(self) -> int:
        """Frames of the whole parts."""
        return sum(len(part.pts) for part in self.parts)

    @classmethod
    def begin(cls, folder: Path, settings: Mapping[str, Any]) -> Journal:
        """An empty one; parts that lie there are removed. Raises OSError."""
        remove_parts(folder)
        folder.mkdir(parents=True)
        made = cls(folder, settings=dict(settings))
        made._append({"version": _VERSION, **settings})
        return made

    @classmethod
    def read(cls, folder: Path) -> Journal | None:
        """What a run before left; None where it left nothing that can be continued."""
        try:
            lines = (folder / _JOURNAL).read_text("utf-8").splitlines()
        except OSError:
            return None
        found = [line for text in lines if (line := _parsed(text)) is not None]
        if not found or found[0].get("version") != _VERSION:
            return None
        made = cls(folder, settings={key: value for key, value in found[0].items() if key != "version"})
        number = 0
        for line in found[1:]:
            part = Part(folder / str(line["file"]), tuple(cast("list[int]", line["pts"])))
            if not part.path.is_file():
                break
            made.parts.append(part)
            made.state = cast("dict[str, Any]", line["state"])
            for record in cast("list[dict[str, Any]]", line["looks"]):
                made.looks[number] = Look.of_record(number, record)
                number += 1
        return made

    def next_path(self) -> Path:
        """The file of the next part."""
        return self.folder / f"{len(self.parts):06d}.mkv"

    def add(self, part: Part, looks: list[dict[str, Any]], state: Mapping[str, Any]) -> None:
        """Note a whole part. Raises OSError.

        looks: records of the frames that were seen since the last part.
        state: what the next part needs to know.
        """
        flush(part.path)
        self.parts.append(part)
        self._append({"file": part.path.name, "pts": part.pts, "looks": looks, "state": dict(state)})

    def remove(self) -> None:
        remove_parts(self.folder)

    def _append(self, line: Mapping[str, Any]) -> None:
        path = self.folder / _JOURNAL
        text = json.dumps(line, separators=(",", ":")) + "\n"
        with path.open("a+b") as stream:
            # A line that a killed run cut short must not swallow this one.
            if stream.tell() and not _ends_with_newline(path):
                stream.write(b"\n")
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        flush_folder(self.folder)


def remove_parts(folder: Path) -> None:
    """Deletes a folder of parts; nothing else is ever in it."""
    if folder.is_dir():
        shutil.rmtree(folder)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _parsed(text: str) -> dict[str, Any] | None:
    """None for a line that was cut short."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if is_object(value) else None
