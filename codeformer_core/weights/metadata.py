"""Checkpoint metadata stored in safetensors headers: what shapes can't tell.

One entry, "codeformer", holds JSON: {"version": 1, "architecture", "task", "tasks", "image_size", "heads",
"pixel_path", "fidelity", "trained"}. It is as trustworthy as the file it came in, so it is read with limits and never
decides alone: `Architecture.read` holds it against the shapes. Nothing here raises for a bad header; importing this
module needs no torch.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from ..runtime.foreign import is_array, is_object
from .safetensors_cache import read_header

log = logging.getLogger(__name__)

ENTRY = "codeformer"
VERSION = 1
# Characters of the entry. Ours take a few hundred; the tensors' own part of a header takes some 40,000.
LONGEST_ENTRY = 65_536
# Characters of a foreign value that a message repeats.
_LONGEST_QUOTE = 60


@dataclass(frozen=True)
class CheckpointMetadata:
    """Metadata of a checkpoint; None where it says nothing usable.

    architecture: id, such as "codeformer".
    task: what the network was trained for.
    also: further tasks that it learned.
    image_size: side of its faces in pixels.
    heads: of the transformer's attention.
    pixel_path: sigmas in pixels that cut the pixel path's bands, finest first.
    fidelity: what its makers recommend, 0..1.
    trained: free text about the training.
    unusable: key -> what was found where a number belongs.
    """

    architecture: str | None = None
    task: str | None = None
    image_size: int | None = None
    heads: int | None = None
    pixel_path: tuple[float, ...] | None = None
    fidelity: float | None = None
    trained: Mapping[str, str] = field(default_factory=dict[str, str])
    unusable: Mapping[str, str] = field(default_factory=dict[str, str])
    also: tuple[str, ...] = ()

    def to_header(self) -> dict[str, str]:
        """The header's entry.

        Raises ValueError where `trained` is not text or too long to be read back.
        """
        for key, value in self.trained.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise ValueError(f"trained: {quoted(key)}: {quoted(value)} must be text; turn both into str")
        content = {
            "version": VERSION,
            "architecture": self.architecture,
            "task": self.task,
            "tasks": [self.task, *self.also] if self.also else None,
            "image_size": self.image_size,
            "heads": self.heads,
            "pixel_path": self.pixel_path,
            "fidelity": self.fidelity,
            "trained": dict(self.trained),
        }
        text = json.dumps({key: value for key, value in content.items() if value is not None})
        if len(text) > LONGEST_ENTRY:
            raise ValueError(
                f"trained: {len(text):,} characters in a file's header, at most {LONGEST_ENTRY:,} are read back; "
                "say less there"
            )
        return {ENTRY: text}

    @classmethod
    def read(cls, path: Path) -> CheckpointMetadata | None:
        """The metadata in the header of `path`; None for files without any, and for those that aren't safetensors.

        What can't be used is left out and logged as a warning with the file's name and the key.
        """
        metadata = (read_header(path) or {}).get("__metadata__")
        if not is_object(metadata) or ENTRY not in metadata:
            return None
        content = _parse(metadata[ENTRY], path)
        if content is None:
            return None
        version = content.get("version")
        if version != VERSION or isinstance(version, bool):
            log.warning(
                "%s: its header's %s is of version %s, this program knows %d: what it says is taken as far as known",
                path,
                ENTRY,
                quoted(version),
                VERSION,
            )
        numbers = {key: content.get(key) for key in ("image_size", "heads")}
        usable = {key: value for key, value in numbers.items() if _is_count(value)}
        unusable = {key: quoted(value) for key, value in numbers.items() if value is not None and key not in usable}
        sigmas = content.get("pixel_path")
        pixel_path = tuple(map(float, sigmas)) if _are_sizes(sigmas) else None
        if sigmas is not None and pixel_path is None:
            unusable["pixel_path"] = quoted(sigmas)
        return cls(
            architecture=_text(content, "architecture", path),
            task=_text(content, "task", path),
            also=_also(content, path),
            image_size=usable.get("image_size"),
            heads=usable.get("heads"),
            pixel_path=pixel_path,
            fidelity=_fidelity(content, path),
            trained=_trained(content, path),
            unusable=unusable,
        )


def quoted(value: object) -> str:
    """A foreign value for a message: short, in one line, without letters that steer a terminal."""
    if is_object(value) or is_array(value):
        # Never spelled out: what was parsed just so at the limit of nesting might not be written back.
        return f"a {'list' if is_array(value) else 'JSON object'} of {len(value)}"
    text = json.dumps(value, default=lambda other: type(other).__name__)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


def _parse(entry: object, path: Path) -> dict[str, object] | None:
    content: object = None
    if not isinstance(entry, str):
        problem = f"is a {type(entry).__name__}, not text"
    elif len(entry) > LONGEST_ENTRY:
        problem = f"has {len(entry):,} characters, at most {LONGEST_ENTRY:,} are read"
    else:
        try:
            content = json.loads(entry)
        except (ValueError, RecursionError) as error:
            problem = f"is not JSON ({type(error).__name__}: {error})"
        else:
            problem = "" if is_object(content) else f"is {quoted(content)}, not an object with keys"
    if is_object(content) and not problem:
        return content
    log.warning("%s: its header's %s %s; it is ignored, and the shapes alone decide", path, ENTRY, problem)
    return None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_sizes(value: object) -> TypeGuard[list[float]]:
    """A list of numbers above 0."""
    return is_array(value) and bool(value) and all(_is_size(size) for size in value)


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _fidelity(content: Mapping[str, object], path: Path) -> float | None:
    value = content.get("fidelity")
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1):
        return value
    log.warning(
        "%s: its header's %s.fidelity is %s, not a number from 0 to 1; it is ignored", path, ENTRY, quoted(value)
    )
    return None


def _text(content: Mapping[str, object], key: str, path: Path) -> str | None:
    value = content.get(key)
    if value is None or isinstance(value, str):
        return value
    log.warning("%s: its header's %s.%s is %s, not text; it is ignored", path, ENTRY, key, quoted(value))
    return None


def _also(content: Mapping[str, object], path: Path) -> tuple[str, ...]:
    value = content.get("tasks")
    if value is None:
        return ()
    if is_array(value) and (tasks := [task for task in value if isinstance(task, str)]) == value:
        return tuple(dict.fromkeys(task for task in tasks if task != content.get("task")))
    log.warning("%s: its header's %s.tasks is %s, not a list of tasks; it is ignored", path, ENTRY, quoted(value))
    return ()


def _trained(content: Mapping[str, object], path: Path) -> dict[str, str]:
    value = content.get("trained")
    if value is None:
        return {}
    if not is_object(value):
        log.warning("%s: its header's %s.trained is %s, not an object; it is ignored", path, ENTRY, quoted(value))
        return {}
    texts = {key: text for key, text in value.items() if isinstance(text, str)}
    if left_out := sorted(value.keys() - texts.keys()):
        log.warning(
            "%s: its header's %s.trained.%s is %s, not text; left out, and %d more like it",
            path,
            ENTRY,
            quoted(left_out[0]),
            quoted(value[left_out[0]]),
            len(left_out) - 1,
        )
    return texts
