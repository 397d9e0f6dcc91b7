"""The only file that imports the host: folders, devices, memory, progress, interrupt, settings, callbacks, its classes.

Written for A1111 1.10, Forge and SD.Next; what differs between hosts is decided here and nowhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import logging
import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import gradio as gr
import torch
from modules import devices, errors, paths, script_callbacks, scripts, scripts_postprocessing, shared
from modules.call_queue import queue_lock as queue_lock
from PIL import Image

import codeformer_core as core

logger = logging.getLogger(__name__)

# Base classes of what the host finds in scripts/.
Script: Any = scripts.Script
ALWAYS_VISIBLE: Any = scripts.AlwaysVisible
ExtrasScript: Any = scripts_postprocessing.ScriptPostprocessing
IS_SDNEXT = importlib.util.find_spec("modules.scripts_manager") is not None
# Whether scripts get an image again after the host has laid the rest of the picture over an inpainted part.
HAS_AFTER_OVERLAY = hasattr(Script, "postprocess_image_after_composite")
# SD.Next has no face restorers any more.
FaceRestoration: Any = object
with suppress(ImportError):
    FaceRestoration = importlib.import_module("modules.face_restoration").FaceRestoration


class Interrupted(Exception):
    """The user pressed Interrupt or Skip while faces were being restored."""


# --- where models lie ------------------------------------------------------------------------------------------------


class WebUIFolders:
    """The folders that the host keeps its face models in, then those of this pack's names below its models folder.

    The host's detectors and parsers lie beside GFPGAN. Downloads go into the host's folders, where it finds them, too.
    """

    def roots(self) -> list[Path]:
        return list(dict.fromkeys([_flag("codeformer", "Codeformer"), _flag("gfpgan", "GFPGAN"), _models()]))

    def of(self, kind: str) -> list[Path]:
        own = {"codeformer": ("codeformer", "Codeformer"), "facerestore_models": ("codeformer", "Codeformer")}
        own |= {"gfpgan": ("gfpgan", "GFPGAN"), "facedetection": ("gfpgan", "GFPGAN")}
        first = [_flag(*own[kind])] if kind in own else []
        return list(dict.fromkeys([*first, *core.folders_named(_models(), kind)]))


def _models() -> Path:
    return Path(paths.models_path)


def _flag(name: str, folder: str) -> Path:
    """The folder of --codeformer-models-path or --gfpgan-models-path, which SD.Next has not got."""
    return Path(getattr(shared.cmd_opts, f"{name}_models_path", None) or _models() / folder)


# --- device and memory -----------------------------------------------------------------------------------------------


def make_host(on_cpu: bool) -> core.Host:
    """What runs our networks: the host's memory manager where it has one (Forge, reForge), else modules are moved.

    on_cpu: the user wants faces restored on the CPU whatever the host uses.
    """
    folders = WebUIFolders()
    found = None if on_cpu else _memory_manager()
    if found is None:
        return core.TorchHost(
            torch.device("cpu") if on_cpu else _device(),
            folders,
            low_vram=_wants_low_vram,
            new_progress=Progress,
            on_check=check_interrupted,
        )
    management, patcher_class = found
    return core.PatcherHost(
        management=cast(core.MemoryManagement, management),
        patcher_class=patcher_class,
        operations=torch.nn,
        folders=folders,
        new_progress=Progress,
        on_check=check_interrupted,
        forces_full_load="force_full_load" in inspect.signature(management.load_models_gpu).parameters,
    )


def _memory_manager() -> tuple[ModuleType, Callable[..., Any]] | None:
    """Forge's manager, or reForge's and Classic's, and the class of its patchers."""
    for package, manager, patcher in (
        ("backend", "backend.memory_management", "backend.patcher.base"),
        ("ldm_patched", "ldm_patched.modules.model_management", "ldm_patched.modules.model_patcher"),
    ):
        if importlib.util.find_spec(package) and importlib.util.find_spec(manager):
            return importlib.import_module(manager), importlib.import_module(patcher).ModelPatcher
    return None


def _device() -> torch.device:
    """Honours --use-cpu codeformer."""
    return torch.device(getattr(devices, "device_codeformer", None) or devices.device)


def _wants_low_vram() -> bool:
    return any(getattr(shared.cmd_opts, flag, False) for flag in ("lowvram", "medvram", "medvram_sdxl"))


def wants_cpu() -> bool:
    """The flag of preload.py."""
    return bool(getattr(shared.cmd_opts, "codeformer_pack_cpu", False))


def unloads_after_each_run() -> bool:
    """The host's own setting for face restorers."""
    return bool(getattr(shared.opts, "face_restoration_unload", False))


def collect_memory() -> None:
    devices.torch_gc()


# --- progress and interrupt ------------------------------------------------------------------------------------------

_FLAGS = ("interrupted", "skipped", "stopping_generation")
# Those that were set when our work began: an interrupt during the sampling is not one of ours.
_seen: set[str] = set()


@contextmanager
def working() -> Generator[None]:
    """Around one run: gradients, autocast and inference mode off; interrupts count from here on."""
    _seen.clear()
    _seen.update(flag for flag in _FLAGS if getattr(shared.state, flag, False))
    text = getattr(shared.state, "textinfo", None)
    try:
        # Weights loaded in Forge's inference mode could not be moved outside of it.
        with torch.inference_mode(False), torch.no_grad(), _without_autocast():
            yield
    finally:
        shared.state.textinfo = text


def _without_autocast() -> AbstractContextManager[Any]:
    """Older torch refuses the name of a device for which it has no autocast."""
    kind = _device().type
    return torch.autocast(kind, enabled=False) if kind in ("cuda", "cpu", "xpu") else nullcontext()


def check_interrupted() -> None:
    """Raises Interrupted when the user has pressed Interrupt or Skip since our work began."""
    for flag in _FLAGS:
        if getattr(shared.state, flag, False) and flag not in _seen:
            raise Interrupted(f"{flag.replace('_', ' ')} by the user")


class Progress:
    """An `on_progress(stage, done, total)` that shows the stage beside the host's bar and obeys Interrupt."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        check_interrupted()
        shared.state.textinfo = f"{stage} {done}/{total}"


# --- settings, requests, reports -------------------------------------------------------------------------------------


def setting(name: str, default: Any) -> Any:
    """The value of one of the host's or our settings; overridden ones count."""
    value = getattr(shared.opts, name, None)
    return default if value is None else value


def speaks_chinese() -> bool:
    return str(setting("localization", "")).lower().startswith(("zh", "chinese"))


def without_base(message: str) -> str:
    """`message` with files below the host's data folder named from there: models/Codeformer/...

    It goes into pictures, which people share.
    """
    return message.replace(f"{_models().parent}{os.sep}", "")


def log_error(message: str) -> None:
    """Into the console, and the host's list of errors; with the traceback of what is being handled."""
    errors.report(message, exc_info=True)


def option_info(*args: Any, **kwargs: Any) -> Any:
    return shared.OptionInfo(*args, **kwargs)


def add_settings(section: tuple[str, str], infos: dict[str, Any]) -> None:
    """A section beside those of the host's own face restorers."""
    for name, info in infos.items():
        info.section, info.category_id = section, "postprocessing"
        shared.opts.add_option(name, info)


def on_setting_changed(name: str, callback: Callable[[], None]) -> None:
    shared.opts.onchange(name, callback, call=False)


def serves_requests() -> bool:
    return bool(getattr(shared.cmd_opts, "api", False) or getattr(shared.cmd_opts, "nowebui", False))


def logins() -> dict[str, str]:
    """User -> password of the host's requests; empty where they need none."""
    theirs = getattr(getattr(shared, "api", None), "credentials", None)
    if isinstance(theirs, dict):
        return theirs
    given = getattr(shared.cmd_opts, "api_auth", None) or ""
    pairs = (pair.strip().partition(":") for pair in str(given).split(",") if pair.strip())
    return {user: password for user, _, password in pairs}


# --- what is registered ----------------------------------------------------------------------------------------------


def on_script_unloaded(callback: Callable[[], None]) -> None:
    script_callbacks.on_script_unloaded(callback)


def on_app_started(callback: Callable[[Any, Any], None]) -> None:
    script_callbacks.on_app_started(callback)


def on_before_ui(callback: Callable[[], None]) -> None:
    script_callbacks.on_before_ui(callback)


def on_after_component(callback: Callable[..., None]) -> None:
    script_callbacks.on_after_component(callback)


def face_restorers() -> list[Any] | None:
    return getattr(shared, "face_restorers", None)


def own_codeformer() -> Any:
    """The host's module whose `codeformer` its Extras use."""
    try:
        return importlib.import_module("modules.codeformer_model")
    except ImportError:
        return None


def xyz_grids() -> list[Any]:
    """The modules of the X/Y/Z plot that are loaded."""
    return [data.module for data in scripts.scripts_data if Path(data.path).name == "xyz_grid.py"]


def accordion(**kwargs: Any) -> Any:
    """A switch that opens what belongs to it; its value is whether it is on."""
    if IS_SDNEXT:
        return _AccordionWithSwitch(**kwargs)
    return importlib.import_module("modules.ui_components").InputAccordion(False, **kwargs)


class _AccordionWithSwitch:
    """SD.Next's own kind has lost the script of the page that works it."""

    def __init__(self, label: str, elem_id: str) -> None:
        self._accordion = gr.Accordion(label, open=False, elem_id=elem_id)

    def __enter__(self) -> Any:
        self._accordion.__enter__()
        return gr.Checkbox(False, label="Enabled", elem_id=f"{self._accordion.elem_id}-checkbox")

    def __exit__(self, *exception: object) -> None:
        self._accordion.__exit__(*exception)


# --- Extras ----------------------------------------------------------------------------------------------------------


def batch_job() -> tuple[str, int]:
    """When the running job began, as the host tells it, and how many images it has."""
    return str(shared.state.job_timestamp), int(shared.state.job_count or 0)


def image_name() -> str | None:
    """File of the image that Extras work on; None for a single one."""
    name = getattr(shared.state, "textinfo", None)
    return name if isinstance(name, str) and name else None


def new_video(source: Path) -> Path:
    """Where the restored film of this one goes, beside the host's own."""
    named = (setting(name, "") for name in ("outdir_video", "outdir_extras_samples"))
    folder = next((Path(each) for each in named if each), Path("outputs"))
    folder = folder if folder.is_absolute() else Path(paths.data_path) / folder
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{source.stem}_restored{number or ''}.mp4" for number in itertools.count())
    return next(folder / name for name in names if not (folder / name).exists())


def unreadable_beside(file: str) -> list[tuple[str, str]]:
    """Files in this one's folder that the host leaves out of a batch without a word, with the reason."""
    found: list[tuple[str, str]] = []
    for path in map(Path, shared.listfiles(str(Path(file).parent))):
        try:
            with Image.open(path):
                pass
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            found.append((path.name, str(error).split("\n")[0]))
    return found
