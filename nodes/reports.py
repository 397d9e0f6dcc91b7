"""What the nodes say: reports in the user's language, and errors, each with what to do about it in the editor."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from comfy_api.latest import io

from .. import codeformer_core as core
from . import host


class NodeError(ValueError):
    """An error of a node. The editor shows the name of its class before the message, and that of the module, which
    begins with the folder of this pack: here a plain word stands for both."""


NodeError.__module__, NodeError.__qualname__ = "builtins", "Error"

AnyNode = TypeVar("AnyNode", bound=type[io.ComfyNode])

# Kind of event -> what to do about it here.
CURES = {
    "en": {
        "other_image": "Connect the images in which the faces were found",
        "mask_mesh": "For the hair choose parsenet in Load Face Restore Model and connect it",
        "mask_outline_instead": "For the face's own shape choose a parser in Load Face Restore Model and connect it",
        "mask_box_instead": "For the face's own shape choose parsenet in Load Face Restore Model",
        "mask_without_face": "Connect the FACES that were found before it was marked",
        "empty_mask": "Draw a mask, or disconnect it so that white pixels count",
        "no_white_pixel": "Connect a mask, or paint what is to be filled white",
        "no_mask": "Connect a mask, or switch white_pixels on",
        "not_square": "Connect faces for that",
        "starter": "Choose it in Load Face Restore Model",
        "rounded": "Choose the wanted dtype in Load Face Restore Model",
    },
    "zh": {
        "other_image": "请连接找到人脸时的图片",
        "mask_mesh": "要包含头发，请在“加载人脸修复模型”中选择 parsenet 并连接",
        "mask_outline_instead": "要按脸形贴回，请在“加载人脸修复模型”中选择解析模型并连接",
        "mask_box_instead": "要按脸形贴回，请在“加载人脸修复模型”中选择 parsenet",
        "mask_without_face": "请连接标记之前找到的 FACES",
        "empty_mask": "请绘制遮罩，或断开遮罩以使用白色像素",
        "no_white_pixel": "请连接遮罩，或把要补全的部分涂成白色",
        "no_mask": "请连接遮罩，或打开 white_pixels",
        "not_square": "为此请连接 faces",
        "starter": "请在“加载人脸修复模型”中选择",
        "rounded": "请在“加载人脸修复模型”中选择所需的 dtype",
    },
}
# Kind of error about an input -> the same.
FIXES = {
    "faces_of_other_images": "Connect the same images to both nodes.",
    "crops_of_other_faces": "Connect the FACES of the Crop Faces node that made the crops.",
    "no_parser": "Connect face_restore_model, with parsenet chosen as parser in Load Face Restore Model.",
    "no_face_mesh": "Connect Detect Face Landmarks (MediaPipe), run on the same images.",
    "unreadable_picks": "Clear the face picker.",
    "identity_not_square": "Connect the crops of Crop Faces, or set identity to none.",
    "detector_weights": "Use it in Load Face Detector.",
    "upscaler_weights": "Use it in Load Upscale Model.",
    "task_not_said": "Set the input task of Load Face Restore Model.",
}


def report(result: core.HasEvents | Iterable[core.Event], *more: core.Event | None) -> str:
    """The report of a result, in the language that the user has set. more: what else is to know."""
    language = "zh" if host.locale().startswith("zh") else "en"
    events = result if isinstance(result, Iterable) else result.events
    return core.report([*events, *filter(None, more)], language, CURES[language])


def sentence(kind: core.EventKind, values: Mapping[str, core.Value]) -> str:
    """What the report says of one event, without the totals that it begins with."""
    return report([core.Event(kind, values=values)]).splitlines()[-1]


def with_fixes(node: AnyNode) -> AnyNode:
    """The node, whose errors about inputs and files end in what to do about them here."""
    execute = node.execute.__func__  # type: ignore[attr-defined]

    @functools.wraps(execute)
    def explained(cls: Any, *args: Any, **kwargs: Any) -> io.NodeOutput:
        try:
            return execute(cls, *args, **kwargs)
        except (ValueError, OSError, ImportError) as error:
            fix = FIXES.get(core.problem_of(error) or "")
            message = str(error) if fix is None else f"{str(error).rstrip('.')}. {fix}"
            raise NodeError(host.without_base(message)) from error

    node.execute = classmethod(explained)  # type: ignore[assignment]
    return node
