"""The command line: `python -m codeformer_core VERB ...`, or `codeformer VERB ...`.

Exit codes: 0 done; 1 something failed, and a line on stderr says what; 2 the command was typed wrongly, and
nothing was begun; 130 stopped by Ctrl-C, 143 and 129 by a request to end or a closed terminal.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from .commands.console import Console
from .commands.errors import FAILED, INTERRUPTED, USAGE, Stopped, UsageError, one_line

# verb -> (module with add_arguments(parser) and run(args) -> exit code, what it does). Only the module that
# is asked for is imported, and modules import torch when they run, so that --help comes at once.
_COMMANDS = {
    "restore": (".commands.restore", "restore the faces in pictures"),
    "bulk": (".commands.bulk", "restore an archive of any size, on one machine or a Ray cluster"),
    "video": (".commands.video", "restore the faces in a video, or list who is in it"),
    "colorize": (".commands.colorize", "give colour to the faces in pictures"),
    "inpaint": (".commands.inpaint", "fill what is painted over in the faces of pictures"),
    "demo": (".commands.demo", "restore the example photo"),
    "weights": (".commands.weights", "list, download, convert and verify model files"),
    "train": (".commands.train", "train a model of your own, from photos to a file"),
    "dictionary": (".commands.dictionary", "make a dictionary of your own faces for DFDNet"),
    "evaluate": (".commands.evaluate", "measure restored faces, or a model"),
}

_DEBUG = "--debug"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name, default sys.argv."""
    words, debug = _without_debug(argv)
    return _guarded("codeformer", debug, lambda: _run(words, debug))


def run_program(
    name: str,
    description: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a program beside the command line, with its signals, messages and exit codes. argv: as for `main`."""
    words, debug = _without_debug(argv)
    parser = argparse.ArgumentParser(prog=name, description=description)
    add_arguments(parser)
    return _guarded(name, debug, lambda: _parse_and_run(parser, run, words, debug))


def _without_debug(argv: Sequence[str] | None) -> tuple[list[str], bool]:
    """Taken out here, so that it may stand before or behind any verb."""
    words = list(sys.argv[1:] if argv is None else argv)
    return [word for word in words if word != _DEBUG], _DEBUG in words


def _guarded(name: str, debug: bool, work: Callable[[], int]) -> int:
    """What `work` returns; anything it raises becomes a line on stderr and an exit code."""
    _prepare_streams()
    try:
        with _stopped_by_signals():
            return work()
    except Stopped as stop:
        return _fail(name, str(stop), stop.exit_code)
    except KeyboardInterrupt:
        return _fail(name, "stopped", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); Python would complain once more when it flushes at the
        # end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - nothing is swallowed: it is printed and decides the exit code
        if debug:
            traceback.print_exc()
        return _fail(name, one_line(error), USAGE if isinstance(error, UsageError) else FAILED)


def _run(words: list[str], debug: bool) -> int:
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser, command = _build_parser(chosen)
    # A missing or unknown verb is refused by the parser.
    return _parse_and_run(parser, command.run if command is not None else lambda _: USAGE, words, debug)


def _parse_and_run(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], words: list[str], debug: bool
) -> int:
    try:
        args = parser.parse_args(words, argparse.Namespace(debug=debug))
    except SystemExit as stop:  # argparse has printed the help (0) or what is wrong (2)
        return stop.code if isinstance(stop.code, int) else USAGE
    return run(args)


def _prepare_streams() -> None:
    """Output that is closed goes nowhere, and a file name the terminal has no letters for is shown with marks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the program ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")


@contextmanager
def _stopped_by_signals() -> Generator[None]:
    """A request to end becomes `Stopped`, so that files half written are cleared away as after Ctrl-C."""

    def stop(number: int, _frame: object) -> None:
        raise Stopped(number)

    # Only the main thread may set handlers; Windows knows no SIGHUP.
    settable = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if settable and hasattr(signal, name)]
    # What somebody else has set, nohup above all, stays as it is.
    numbers = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _build_parser(chosen: str | None):
    """The parser, and the chosen command's module (None when there is no such command)."""
    parser = argparse.ArgumentParser(
        prog="codeformer",
        description="Face restoration by CodeFormer and its relatives.",
        epilog=f"`VERB --help` explains a verb; {_DEBUG} with any of them shows where an error came from.",
    )
    verbs = parser.add_subparsers(dest="command", required=True, metavar="VERB")
    command = None
    for name, (module, description) in _COMMANDS.items():
        verb = verbs.add_parser(name, help=description, description=description)
        if name == chosen:
            command = importlib.import_module(module, __package__)
            command.add_arguments(verb)
    return parser, command


def _fail(name: str, text: str, code: int) -> int:
    Console(sys.stdout, sys.stderr).complain(f"{name}: {text}")
    return code
