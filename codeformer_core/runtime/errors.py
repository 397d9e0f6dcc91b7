"""Errors about an input, of a kind that a front end can add its own fix to."""

from __future__ import annotations

from typing import Literal

InputProblem = Literal[
    "faces_of_other_images",
    "crops_of_other_faces",
    "no_parser",
    "no_face_mesh",
    "unreadable_picks",
    "identity_not_square",
    "detector_weights",
    "upscaler_weights",
    "task_not_said",
    "file_exists",
    "unfinished",
]


class InputError(ValueError):
    """An input that can't be worked with; the message names it and the fix.

    kind: what is wrong with it.
    """

    def __init__(self, message: str, kind: InputProblem) -> None:
        super().__init__(message)
        self.kind = kind


class ExistingFileError(FileExistsError):
    """A file that would have to be replaced, and is kept."""

    kind: InputProblem = "file_exists"


class UnfinishedWorkError(FileExistsError):
    """What a stopped run has done, and is kept."""

    kind: InputProblem = "unfinished"


def problem_of(error: BaseException) -> str | None:
    """The kind of an error that has one."""
    return getattr(error, "kind", None)
