"""Errors about weight files; a module of its own, because reading files takes far longer to import."""

from __future__ import annotations

from ..runtime.errors import InputProblem


class WeightsError(ValueError):
    """A file that can't be used as weights: names it, what was found, and the fix.

    kind: as that of `InputError`.
    """

    def __init__(self, message: str, kind: InputProblem | None = None) -> None:
        super().__init__(message)
        self.kind = kind
