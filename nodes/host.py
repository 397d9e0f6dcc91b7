"""The only file that imports the host: folders, devices, memory manager, progress, cancel, placement of results.

Written for ComfyUI 0.3.64 and later; what differs between versions is decided here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import ComfyAPI, InputImpl, io, ui
from comfy_execution.graph_utils import GraphBuilder
from PIL import Image
from torch import Tensor

from .. import codeformer_core as core

logger = logging.getLogger(__name__)

UPSCALE_TILE = 512
UPSCALE_SMALLEST_TILE = 128
UPSCALE_OVERLAP = 32
# Bytes of activations per value of a tile, the host's own estimate for its upscale node.
UPSCALE_BYTES_PER_VALUE = 384.0

# Pictures of what a running node is at: their longer side, and how long one stays at least.
PREVIEW_SIDE = 512
PREVIEW_SECONDS = 0.5

AnyInput = TypeVar("AnyInput", bound=io.Input)


def aliased(schema: io.Schema, *names: str) -> io.Schema:
    """`schema` with these search words."""
    return _extended(schema, search_aliases=list(names))


def with_view(schema: io.Schema) -> io.Schema:
    """`schema` of a node whose `ui` output is shown in it: sent to the editor also when the result was cached."""
    return _extended(schema, has_intermediate_output=True)


def _extended(schema: io.Schema, **changes: Any) -> io.Schema:
    """Changes to fields that 0.3.64 has not got are left out there."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return dataclasses.replace(schema, **{name: value for name, value in changes.items() if name in known})


def advanced(widget: AnyInput) -> AnyInput:
    """Marks an input that the editor hides until asked. 0.3.64 knows the flag only as an entry of extra_dict."""
    widget.extra_dict = {**widget.extra_dict, "advanced": True}
    return widget


async def replace_node(old: str, new: str, widgets: list[str], inputs: list[dict[str, Any]]) -> None:
    """Offers `new` for the missing node `old`, whose first output stays the first, in workflows and prompts.

    widgets: those of the old node in the order in which a workflow holds their values.
    inputs: for each input of the new node "new_id" and either "old_id" or "set_value".
    0.3.64 replaces no nodes, and neither does a host whose modules are loaded without its server.
    """
    registry = getattr(ComfyAPI(), "node_replacement", None)
    server = getattr(sys.modules.get("server"), "PromptServer", None)
    if registry is None or not hasattr(server, "instance"):
        return
    # As text, which the editor takes for the number and the server for another one. The server's own way of giving a
    # link another output fails (0.33.0, KeyError) where the node at its end was replaced before; none is needed here.
    outputs = [{"new_idx": 0, "old_idx": "0"}]
    make: Any = io
    await registry.register(make.NodeReplace(new, old, widgets, inputs, outputs))


def new_graph() -> GraphBuilder:
    """For a node that stands for several: empty, to be filled and handed back as `NodeOutput.expand`."""
    return GraphBuilder()


def without_base(message: str) -> str:
    """`message` with files below the host's models folder named from there: models/facerestore_models/..."""
    return message.replace(f"{Path(folder_paths.models_dir).parent}{os.sep}", "")


def temporary_folder() -> Path:
    """For files of one run; the host empties it when it starts."""
    return Path(folder_paths.get_temp_directory())


def locale() -> str:
    """The editor's language as the user has set it, such as "zh".

    "en" where nobody has, and where each user has their own settings: a node doesn't know whose run it is.
    """
    settings = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
    try:
        chosen = json.loads(settings.read_text(encoding="utf-8")).get("Comfy.Locale")
    except (OSError, ValueError, AttributeError):  # not there, half written, not an object
        return "en"
    return chosen if isinstance(chosen, str) else "en"


def check_cancelled() -> None:
    """Raises the host's own exception when the user pressed cancel."""
    management.throw_exception_if_processing_interrupted()


class Progress:
    """An `on_progress(stage, done, total)` that moves the host's bar, one run of it per stage, and obeys cancel."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._bar: Any = None
        self._shown = -math.inf

    def __call__(self, stage: str, done: int, total: int) -> None:
        check_cancelled()
        if stage != self._stage:
            self._stage, self._bar = stage, comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done, total)

    def show(self, image_HW3: Tensor) -> None:
        """Shows a picture (RGB [0, 1]) in the running node, in place of the last one; a few a second are enough."""
        now = time.monotonic()
        if self._bar is None or now - self._shown < PREVIEW_SECONDS:
            return
        self._shown = now
        height, width = image_HW3.shape[:2]
        shrink = min(1.0, PREVIEW_SIDE / max(height, width))
        small_1HW3 = core.resize(image_HW3[None], max(1, round(height * shrink)), max(1, round(width * shrink)))
        levels_HW3 = small_1HW3[0].clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
        self._bar.update_absolute(self._bar.current, preview=("JPEG", Image.fromarray(levels_HW3), PREVIEW_SIDE))


class ComfyFolders:
    """The folders that ComfyUI knows, the user's extra paths included. Asked anew each time: packs add to them."""

    def __init__(self) -> None:
        # Kind -> what the host's list held after `register`; and what was warned of as lost since.
        self._registered: dict[str, list[Path]] = {}
        self._missed: set[Path] = set()

    def register(self) -> None:
        """Adds our folders behind those the user has configured; never replaces any."""
        for kind in core.MODEL_FOLDERS:
            folder_paths.add_model_folder_path(kind, str(Path(folder_paths.models_dir) / kind))
            self._registered[kind] = [Path(path) for path in folder_paths.get_folder_paths(kind)]

    def roots(self) -> list[Path]:
        configured = [folder for kind in core.MODEL_FOLDERS for folder in self.of(kind)]
        return list(dict.fromkeys([Path(folder_paths.models_dir), *configured]))

    def of(self, kind: str) -> list[Path]:
        """With those that another pack has put out of the host's list, and those that are spelled otherwise."""
        names = [name for name in folder_paths.folder_names_and_paths if name.lower() == kind.lower()]
        configured = [
            Path(path)
            for name in sorted(names, key=lambda name: name != kind)
            for path in folder_paths.get_folder_paths(name)
        ]
        lost = [path for path in self._registered.get(kind, []) if path not in configured]
        for path in lost:
            if path not in self._missed:
                self._missed.add(path)
                logger.warning(
                    "another pack has replaced ComfyUI's folders for %s, and %s is lost from them: this pack still "
                    "looks there, others don't",
                    kind,
                    path,
                )
        return list(dict.fromkeys([*configured, *lost, *core.folders_named(Path(folder_paths.models_dir), kind)]))


FOLDERS = ComfyFolders()
HOST = core.PatcherHost(
    management=cast(core.MemoryManagement, management),
    # The newest hosts have a dynamic patcher of their own choice.
    patcher_class=getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher),
    operations=comfy.ops.manual_cast,
    folders=FOLDERS,
    new_progress=Progress,
    on_check=check_cancelled,
)


def upscaler(upscale_model: Any) -> Callable[[Tensor], Tensor]:
    """The host's UPSCALE_MODEL as a function of pictures_BHWC (RGB [0, 1]) at the model's own scale, in tiles."""

    def upscale(images_BHWC: Tensor) -> Tensor:
        device = _load_upscaler(upscale_model, images_BHWC)
        try:
            scaled = [_upscale_tiled(upscale_model, image_HWC[None], device) for image_HWC in images_BHWC]
        finally:
            if not hasattr(upscale_model, "patcher"):
                upscale_model.to("cpu")
        return torch.cat(scaled).clamp_(0, 1)

    return upscale


def placed(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Results where and as the host wants to hand them on."""
    dtype = getattr(management, "intermediate_dtype", lambda: torch.float32)()
    return [tensor.to(device=management.intermediate_device(), dtype=dtype) for tensor in tensors]


def preview_images(images_BHW3: Tensor) -> list[dict[str, str]]:
    """Saves pictures (RGB [0, 1]) where the editor finds them until the host ends; per picture how the editor asks for
    it: filename, subfolder, type."""
    return [dict(saved) for saved in ui.PreviewImage(images_BHW3.float()).values]


@dataclasses.dataclass(frozen=True)
class VideoPart:
    """A video's file and the part of it that is meant, in seconds; end None for the file's end."""

    path: Path
    start: float
    end: float | None


@contextmanager
def video_file(video: Any) -> Generator[VideoPart]:
    """The file of a VIDEO, which nobody changes. What is no plain file becomes one, until the block ends."""
    source = video.get_stream_source() if type(video) is InputImpl.VideoFromFile else None
    # A host that knows more of a file than its trim (a crop) must write it itself.
    known = {"_VideoFromFile__file", "_VideoFromFile__start_time", "_VideoFromFile__duration"}
    if isinstance(source, str | os.PathLike) and set(vars(video)) <= known:
        start, duration = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))()
        yield VideoPart(Path(source), start, start + duration if duration else None)
        return
    path = _new_file("given.mp4")
    try:
        video.save_to(str(path))
        yield VideoPart(path, 0.0, None)
    finally:
        path.unlink(missing_ok=True)


def new_video(source: Path) -> Path:
    """Where a restored video goes: the host empties the folder when it starts and ends."""
    return _new_file(f"{source.stem}_restored.mp4")


def _new_file(name: str) -> Path:
    folder = temporary_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"codeformer_{uuid.uuid4().hex[:12]}_{name}"


def video_of(path: Path) -> Any:
    """The VIDEO of a file."""
    return InputImpl.VideoFromFile(str(path))


def _load_upscaler(upscale_model: Any, images_BHWC: Tensor) -> torch.device:
    memory = UPSCALE_TILE**2 * 3 * 4 * max(upscale_model.scale, 1.0) * UPSCALE_BYTES_PER_VALUE
    memory += images_BHWC[0].nelement() * 4 * (1 + upscale_model.scale**2)
    if hasattr(upscale_model, "patcher"):
        return HOST.bring(upscale_model.patcher, memory)
    # 0.3.64's upscalers have no patcher; its own node moves them like this.
    device = HOST.compute_device()
    management.free_memory(memory + management.module_size(upscale_model.model), device)
    upscale_model.to(device)
    return device


def _upscale_tiled(upscale_model: Any, image_1HWC: Tensor, device: torch.device) -> Tensor:
    picture_1CHW = image_1HWC.movedim(-1, 1).to(device)
    tile = UPSCALE_TILE
    while True:
        size = {"tile_x": tile, "tile_y": tile, "overlap": UPSCALE_OVERLAP}
        steps = comfy.utils.get_tiled_scale_steps(picture_1CHW.shape[3], picture_1CHW.shape[2], **size)
        try:
            return comfy.utils.tiled_scale(
                picture_1CHW,
                lambda part_1CHW: _checked_upscale(upscale_model, part_1CHW),
                **size,
                upscale_amount=upscale_model.scale,
                output_device=management.intermediate_device(),
                pbar=comfy.utils.ProgressBar(steps),
            ).movedim(1, -1)
        except RuntimeError as error:
            if not core.is_out_of_memory(error) or tile // 2 < UPSCALE_SMALLEST_TILE:
                raise
        tile //= 2
        management.soft_empty_cache()


def _checked_upscale(upscale_model: Any, part_1CHW: Tensor) -> Tensor:
    check_cancelled()
    return upscale_model(part_1CHW.float())
