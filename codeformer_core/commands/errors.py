"""What a failed command says: one line with the cause and the cure, and the exit code that goes with it."""

from __future__ import annotations

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(ValueError):
    """The command as it was typed can't be carried out; nothing was begun."""


def one_line(error: BaseException) -> str:
    """The error in one line, with the file's name where it is about one."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error)
    if isinstance(error, MemoryError) and not text:
        text = "out of memory; use a smaller picture or a smaller --upscale"
    expected = isinstance(error, ValueError | OSError | ImportError | MemoryError | RuntimeError)
    if not expected or not text:
        # An error nobody planned for: its kind says more than its words.
        text = f"{type(error).__name__}: {text} (unexpected; --debug shows where)"
    return " ".join(text.split())
