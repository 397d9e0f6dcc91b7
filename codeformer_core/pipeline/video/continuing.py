"""A run that continues another one: what must be the same for it, and what is left of the one before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...runtime.errors import UnfinishedWorkError
from ..fingerprints import digest_of_weights
from ..options import RestoreOptions
from ..restore import Models
from .encoding import Encoding
from .job import VideoJob
from .journal import Journal, parts_folder, remove_parts, source_identity
from .options import VideoOptions


def settings_of(
    job: VideoJob, models: Models, options: RestoreOptions, video: VideoOptions, encoding: Encoding
) -> dict[str, Any]:
    """What must be the same for a run that continues another one; plain values."""
    plain = {
        "source": source_identity(job.source),
        "part": [job.start, job.end],
        "compare": job.compare,
        "options": {**dataclasses.asdict(options), "batch_size": None},
        "video": dataclasses.asdict(video),
        "encoding": dataclasses.asdict(encoding),
        "restorer": [models.restorer.name, digest_of_weights(models.restorer)],
        "detector": getattr(models.detector, "name", ""),
        "parser": getattr(models.parser, "name", ""),
    }
    return _as_json(plain)


def _as_json(value: Any) -> Any:
    """As it is when it was written and read again."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(each) for key, each in value.items()}  # type: ignore[misc]
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]  # type: ignore[misc]
    return value


def journal_of(job: VideoJob, settings: Mapping[str, Any]) -> Journal:
    """What a run before has left, if it is to be continued; else an empty one without settings."""
    folder = parts_folder(job.target)
    if not folder.exists():
        return Journal(folder)
    found = Journal.read(folder)
    if job.resume and found is not None:
        kept = {key: value for key, value in found.settings.items() if key != "batch_size"}
        different = [key for key in settings if kept.get(key) != settings[key]]
        if different:
            raise ValueError(
                f"{folder}: was begun with another {', '.join(different)}, and can't be continued with this one. "
                "Use the same as then, or allow to overwrite it to start again"
            )
        return found
    if found is not None and found.done and not job.overwrite:
        raise UnfinishedWorkError(f"{folder}: holds {found.done} finished frames of a run that was stopped")
    remove_parts(folder)
    return Journal(folder)
