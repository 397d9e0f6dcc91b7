"""Packages that only archives need; they come with the extra `bulk`."""

from __future__ import annotations

import importlib
from typing import Any


def require(name: str) -> Any:
    """The module of that name. Raises ImportError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != missing:
            raise
        raise ImportError(
            f"the package {missing!r} is not installed. Run pip install 'comfyui-codeformer[bulk]'", name=error.name
        ) from error
