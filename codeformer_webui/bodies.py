"""The bodies of our requests: read, checked, and answered. Imports nothing of the host or of its web framework."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

import codeformer_core as core

from . import images
from .options import NAMES, Wanted, check_names

TASK_FIELDS = ("image", "mask_image", "task", "upscale", "aligned")
# Kind of answer for a failure, see `failure`.
UNPROCESSABLE, MODEL_MISSING, NO_MEMORY, FAILED, STOPPED = 422, 424, 507, 500, 409


@dataclass(frozen=True, eq=False)
class RestoreRequest:
    """image: upright. mask: white is filled; for task "inpaint". wanted: the settings with the request's values."""

    image: Image.Image
    mask: Image.Image | None
    task: str
    wanted: Wanted
    upscale: float
    aligned: bool


def read_restore(body: Any, settings: Wanted, tasks: tuple[str, ...]) -> RestoreRequest:
    """The request in a JSON body. Raises ValueError naming the field and the fix."""
    fields = _object(body)
    names = tuple(name for name in NAMES if name != "order")
    check_names(fields, (*TASK_FIELDS, *names))
    task = fields.get("task", tasks[0])
    if task not in tasks:
        raise ValueError(f"task must be one of {', '.join(tasks)}, got {task!r}")
    aligned = fields.get("aligned", False)
    if not isinstance(aligned, bool):
        raise ValueError(f"aligned must be true or false, got {aligned!r}")
    wanted = settings.with_values({name: fields[name] for name in names if name in fields})
    upscale = fields.get("upscale", core.options_of(core.RestoreOptions)["upscale"].default)
    if isinstance(upscale, bool):
        raise ValueError(f"upscale must be a number, got {upscale}")
    wanted.restore_options(upscale)
    image = images.from_base64(fields.get("image"))
    mask = images.from_base64(fields["mask_image"], "mask_image") if fields.get("mask_image") else None
    return RestoreRequest(image, mask, task, wanted, float(upscale), aligned)


def read_find(body: Any, settings: Wanted) -> tuple[Image.Image, Wanted]:
    """Image and choices of a request to find faces. Raises as `read_restore`."""
    fields = _object(body)
    names = ("detector", "confidence", "min_face_size", "max_face_size")
    check_names(fields, ("image", *names))
    return images.from_base64(fields.get("image")), settings.with_values(
        {name: fields[name] for name in names if name in fields}
    )


def face_of(face: core.Face) -> dict[str, Any]:
    """One face for an answer: pixels of the image that came."""
    return {
        "box": [round(value, 2) for value in face.box_xyxy],
        "landmarks": [[round(x, 2), round(y, 2)] for x, y in face.landmarks_xy],
        "score": round(face.score, 4),
    }


def failure(error: BaseException) -> tuple[int, dict[str, str]]:
    """Status and body for what went wrong; the detail says what and how to mend it."""
    status = FAILED
    if isinstance(error, (core.WeightsError, core.DownloadError, ImportError)):
        status = MODEL_MISSING
    elif isinstance(error, (core.NotEnoughMemory, MemoryError)) or (
        isinstance(error, RuntimeError) and core.is_out_of_memory(error)
    ):
        status = NO_MEMORY
    elif isinstance(error, ValueError):
        status = UNPROCESSABLE
    names = {
        UNPROCESSABLE: "invalid request",
        MODEL_MISSING: "model missing",
        NO_MEMORY: "not enough memory",
        FAILED: "failed",
    }
    return status, {"error": names[status], "detail": str(error) or type(error).__name__}


def schema(example: Mapping[str, Any], required: tuple[str, ...] = ("image",)) -> dict[str, Any]:
    """For the host's page of its requests."""
    kinds = {str: "string", float: "number", bool: "boolean", int: "number"}
    properties = {
        name: {"type": kinds.get(type(value), "string"), "nullable": value is None, "default": value}
        for name, value in example.items()
    }
    content = {"application/json": {"schema": {"type": "object", "required": list(required), "properties": properties}}}
    return {"requestBody": {"content": content, "required": True}}


def restore_example(tasks: tuple[str, ...]) -> dict[str, Any]:
    """Field -> default of a request to restore."""
    names = {name: value for name, value in dataclasses.asdict(Wanted()).items() if name != "order"}
    return {"image": "", "mask_image": "", "task": tasks[0], "upscale": 1.0, "aligned": False, **names}


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ValueError(f"the body must be a JSON object, got {type(body).__name__}")
    return body
