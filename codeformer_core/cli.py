"""The command line: `python -m codeformer_core restore | demo | weights ...`, installed as `codeformer`.

Exit codes: 0 done; 1 something failed, and a line on stderr says what; 2 the command was typed wrongly, and
nothing was begun; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from .commands.errors import FAILED, INTERRUPTED, USAGE, UsageError, one_line

# verb -> (module with add_arguments(parser) and run(args) -> exit code, what it does). Only the module that
# is asked for is imported, and modules import torch when they run, so that --help comes at once.
_COMMANDS = {
    "restore": (".commands.restore", "restore the faces in pictures"),
    "demo": (".commands.demo", "restore the example photo"),
    "weights": (".weights.command", "list, download, convert and verify model files"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name, default sys.argv."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser, command = _build_parser(chosen)
    try:
        args = parser.parse_args(words)
    except SystemExit as stop:  # argparse has printed the help (0) or what is wrong (2)
        return stop.code if isinstance(stop.code, int) else USAGE
    assert command is not None  # a missing or unknown verb has been refused by the parser
    try:
        return command.run(args)
    except KeyboardInterrupt:
        return _fail("stopped", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); Python would complain once more when it flushes at the
        # end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - nothing is swallowed: it is printed and decides the exit code
        if args.debug:
            traceback.print_exc()
        return _fail(one_line(error), USAGE if isinstance(error, UsageError) else FAILED)


def _build_parser(chosen: str | None):
    """The parser, and the chosen command's module (None when there is no such command)."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where an error came from")
    parser = argparse.ArgumentParser(
        prog="codeformer", description="Face restoration by CodeFormer.", epilog="`VERB --help` explains a verb."
    )
    verbs = parser.add_subparsers(dest="command", required=True, metavar="VERB")
    command = None
    for name, (module, description) in _COMMANDS.items():
        verb = verbs.add_parser(name, help=description, description=description, parents=[common])
        if name == chosen:
            command = importlib.import_module(module, __package__)
            command.add_arguments(verb)
    return parser, command


def _fail(text: str, code: int) -> int:
    print(f"codeformer: {text}", file=sys.stderr)
    return code
