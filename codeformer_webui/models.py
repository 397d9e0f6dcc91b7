"""The models of this host: one library for each device, chosen by the settings."""

from __future__ import annotations

from functools import cache
from typing import Any

import codeformer_core as core

from . import host
from .options import NO_MODEL, Wanted

HOST_DEVICE, CPU = "the host's", "CPU"


def _how_to_fetch(choice: str, _entry: Any) -> str:
    return f"choose {choice + core.DOWNLOAD!r}"


@cache
def libraries(on_cpu: bool) -> tuple[core.ModelLibrary, core.ModelLibrary]:
    """For the first and for the second restorer, so that each remembers its own."""
    runs_on = host.make_host(on_cpu)
    return (
        core.ModelLibrary(runs_on, how_to_fetch=_how_to_fetch),
        core.ModelLibrary(runs_on, how_to_fetch=_how_to_fetch),
    )


def library() -> core.ModelLibrary:
    return _chosen()[0]


def bundles(wanted: Wanted, task: str | None = None) -> list[core.ModelBundle]:
    """The restorers to apply in turn, loaded; detector and parser are those of the first.

    task: "colorization" or "inpainting": what auto chooses for, by one model alone; None: restoration.
    Raises WeightsError and DownloadError with what to do, ImportError for a missing package.
    """
    first, second = _chosen()
    bundle = first.remembered(core.ModelChoices(wanted.model, wanted.detector, wanted.parser, task=task))
    if task is not None or wanted.second_model == NO_MODEL:
        second.forget()
        return [bundle]
    other = second.remembered(core.ModelChoices(wanted.second_model, wanted.detector, wanted.parser))
    return [bundle, bundle.with_restorer(other.restorer)]


def after_a_run(keep_loaded: bool) -> None:
    """Gives memory back as the user and the host want it."""
    for each in _chosen():
        if not keep_loaded:
            each.forget()
        elif host.unloads_after_each_run() and isinstance(each.host, core.TorchHost):
            each.host.release()
    if not keep_loaded:
        host.collect_memory()


def restorers() -> list[str]:
    return [core.AUTO, *library().restorers()]


def listed(choice: str) -> str | None:
    """The entry of the list of restorers that stands for the same file; None where that is not here."""
    choices = restorers()
    if choice in choices:
        return choice
    found = library()
    path = found.find(choice, core.RESTORER)
    return next((each for each in choices[1:] if path and found.find(each, core.RESTORER) == path), None)


def detectors() -> list[str]:
    """Without the restorers, which lie in the same folder as the host's detectors."""
    found = library()
    others = found.restorers()
    return [core.AUTO, *(name for name in found.detectors() if name not in others)]


def parsers() -> list[str]:
    return [core.AUTO, *library().parsers()]


def _chosen() -> tuple[core.ModelLibrary, core.ModelLibrary]:
    return libraries(host.wants_cpu() or host.setting("codeformer_pack_device", HOST_DEVICE) == CPU)
