"""The only file that imports the host: folders, devices, memory manager, progress, cancel, placement of results.

Written for ComfyUI 0.3.64 and later; what differs between versions is decided here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io, ui
from torch import Tensor, nn

from ..codeformer_core.runtime.memory import is_out_of_memory

logger = logging.getLogger(__name__)

# Folders below the host's models folder that this pack adds; a folder the user has configured himself stays first.
MODEL_FOLDERS = ("facerestore_models", "codeformer", "facedetection")
UPSCALE_TILE = 512
UPSCALE_SMALLEST_TILE = 128
UPSCALE_OVERLAP = 32
# Bytes of activations per value of a tile, the host's own estimate for its upscale node.
UPSCALE_BYTES_PER_VALUE = 384.0

AnyInput = TypeVar("AnyInput", bound=io.Input)


class Patcher(Protocol):
    """What this pack uses of the host's ModelPatcher."""

    model: nn.Module
    load_device: torch.device


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


def register_folders() -> None:
    """Adds our folders behind those the user has configured; never replaces any."""
    for name in MODEL_FOLDERS:
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))


def model_files(folder: str) -> list[str]:
    """Names of all files in a folder the host knows, the user's extra paths included; with subfolders in the name."""
    return folder_paths.get_filename_list(folder)


def model_path(folder: str, name: str) -> Path | None:
    """The file called `name` in one of the folder's paths; a name that tries to leave them finds nothing."""
    found = folder_paths.get_full_path(folder, name)
    return Path(found) if found else None


def model_roots() -> list[Path]:
    """Where codeformer_core's own search looks: the models folder, then every configured path of our folders."""
    configured = [Path(path) for name in MODEL_FOLDERS for path in folder_paths.get_folder_paths(name)]
    return list(dict.fromkeys([Path(folder_paths.models_dir), *configured]))


def download_folder(folder: str) -> Path:
    """Where a download belongs: the first path of this folder, the one the user prefers."""
    return Path(folder_paths.get_folder_paths(folder)[0])


def temporary_folder() -> Path:
    """For files of one run; the host empties it when it starts."""
    return Path(folder_paths.get_temp_directory())


def compute_device() -> torch.device:
    return management.get_torch_device()


def offload_device() -> torch.device:
    """Where weights wait while they are not needed."""
    return management.unet_offload_device()


def supported_dtype(wanted: torch.dtype) -> torch.dtype:
    """`wanted`, or float32 with a warning where the device computes it slowly or not at all."""
    if wanted == torch.bfloat16 and not management.should_use_bf16(compute_device()):
        logger.warning("this device has no fast bfloat16; the faces are restored in float32")
        return torch.float32
    return wanted


def operations() -> ModuleType | Any:
    """Layers that take their weights from wherever the memory manager left them, so it can stream them."""
    return comfy.ops.manual_cast


def managed(module: nn.Module) -> Patcher:
    """Puts a module under the host's memory manager. The newest hosts have a dynamic patcher of their own choice."""
    patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher_class(module, load_device=compute_device(), offload_device=offload_device())


def load(patcher: Patcher, memory_required: float = 0, streamable: bool = False) -> torch.device:
    """Brings a module to its device, evicting others where needed, and returns the device.

    memory_required: bytes of activations. streamable: the module was built with `operations()`; when memory is short
    its weights may stay behind and come layer by layer. Other modules are loaded whole.
    """
    management.load_models_gpu([patcher], memory_required=memory_required, force_full_load=not streamable)
    return patcher.load_device


def check_cancelled() -> None:
    """Raises the host's own exception when the user pressed cancel."""
    management.throw_exception_if_processing_interrupted()


class Progress:
    """An `on_progress(stage, done, total)` that moves the host's bar, one run of it per stage, and obeys cancel."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        check_cancelled()
        if stage != self._stage:
            self._stage, self._bar = stage, comfy.utils.ProgressBar(total)
        self._bar.update_absolute(done, total)


def download_progress() -> Callable[[int, int | None], None]:
    """An `on_progress(bytes_done, bytes_total)` for downloads, which obeys cancel."""
    progress = Progress()

    def report(done: int, total: int | None) -> None:
        progress("download", done, total or max(done, 1))

    return report


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


def _load_upscaler(upscale_model: Any, images_BHWC: Tensor) -> torch.device:
    memory = UPSCALE_TILE**2 * 3 * 4 * max(upscale_model.scale, 1.0) * UPSCALE_BYTES_PER_VALUE
    memory += images_BHWC[0].nelement() * 4 * (1 + upscale_model.scale**2)
    if hasattr(upscale_model, "patcher"):
        return load(upscale_model.patcher, memory)
    # 0.3.64's upscalers have no patcher; its own node moves them like this.
    device = compute_device()
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
            if not is_out_of_memory(error) or tile // 2 < UPSCALE_SMALLEST_TILE:
                raise
        tile //= 2
        management.soft_empty_cache()


def _checked_upscale(upscale_model: Any, part_1CHW: Tensor) -> Tensor:
    check_cancelled()
    return upscale_model(part_1CHW.float())
