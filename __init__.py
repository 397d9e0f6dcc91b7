"""ComfyUI loads this file. Nothing else runs until the host asks for the nodes."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """-> comfy_api's ComfyExtension with the pack's nodes."""
    from .nodes import CodeFormerExtension

    return CodeFormerExtension()
