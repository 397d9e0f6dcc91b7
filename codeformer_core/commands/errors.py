"""What a failed command says: one line with the cause and the fix, and the exit code that goes with it."""

from __future__ import annotations

import signal

from ..runtime.errors import problem_of

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

# import name -> what to give to pip, where the two differ
_PIP_NAMES = {"cv2": "opencv-python", "PIL": "pillow"}
# What OpenCV, numpy and torch write when the memory is at its end; torch has no class of its own for it on a CPU.
_OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "Insufficient memory")

# Kind of error about an input -> the option that helps.
FIXES = {
    "file_exists": "--overwrite replaces it",
    "unfinished": "--resume continues it, --overwrite starts again",
    "no_parser": "--download fetches it",
    "detector_weights": "Give it as --detector",
}


class UsageError(ValueError):
    """The command as it was typed can't be carried out; nothing was begun."""


class Stopped(KeyboardInterrupt):
    """The system or another program asked this one to end, as Ctrl-C does."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number


def one_line(error: BaseException) -> str:
    """The error in one line, with the file's name where it is about one."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        text = f"the package {package!r} is not installed. Run pip install {_PIP_NAMES.get(package, package)}"
    if fix := FIXES.get(problem_of(error) or ""):
        text = f"{text}. {fix}"
    if _is_out_of_memory(error):
        details = f" ({text})" if text else ""
        text = f"out of memory; use a smaller image or a smaller --upscale{details}"
    expected = isinstance(error, ValueError | OSError | ImportError | MemoryError | RuntimeError)
    if not expected or not text:
        # An error nobody planned for: its kind says more than its words.
        text = f"{type(error).__name__}: {text} (unexpected; --debug shows where)"
    return " ".join(text.split())


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    return not isinstance(error, ValueError | OSError) and any(words in str(error) for words in _OUT_OF_MEMORY)
