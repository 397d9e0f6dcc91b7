"""What a long command shows: result lines on stdout; on stderr errors, warnings and, in a terminal, a bar."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

_BAR_WIDTH = 24
# Seconds between two drawings of the bar; terminals are slow.
_REDRAW_EVERY = 0.1
# Seconds between two lines in a log file, where there is no bar.
LINE_EVERY = 30.0


class Console:
    """Two streams and the one line on stderr that rewrites itself; without a terminal, a plain line now and then."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self.out = out
        self.err = err
        self.in_terminal = err.isatty()
        self._shown = 0
        self._drawn_at = float("-inf")
        self._said_at: float | None = None

    def line(self, text: str) -> None:
        self._write(self.out, text)

    def complain(self, text: str) -> None:
        self._write(self.err, text)

    def progress(self, share: float, text: str, *, at_once: bool = False) -> None:
        """Draw the bar.

        share: how much of everything is done, 0..1.
        at_once: even if it was drawn just now.
        """
        now = time.monotonic()
        if not self.in_terminal:
            self._say(now, f"{share:4.0%} {text}")
            return
        if now - self._drawn_at < _REDRAW_EVERY and not at_once:
            return
        filled = round(_BAR_WIDTH * min(max(share, 0.0), 1.0))
        drawn = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {share:4.0%} {text}"
        drawn = drawn[: shutil.get_terminal_size().columns - 1]
        self.err.write("\r" + self._printable(drawn.ljust(self._shown), self.err))
        self.err.flush()
        self._shown, self._drawn_at = len(drawn), now

    def _say(self, now: float, text: str) -> None:
        """A long job shows in a log that it is still running; a short one leaves no such line."""
        if self._said_at is None:
            self._said_at = now
        elif now - self._said_at >= LINE_EVERY:
            self._said_at = now
            self._write(self.err, text)

    def clear(self) -> None:
        """Take the bar away; the next line starts at the left."""
        if self._shown:
            self.err.write("\r" + " " * self._shown + "\r")
            self.err.flush()
        self._shown, self._drawn_at = 0, float("-inf")

    @contextmanager
    def showing_logs(self, logger: logging.Logger, level: int = logging.WARNING) -> Generator[None]:
        """Records of `logger` appear as lines on stderr, without tearing the bar, until the block ends."""
        handler = _LogLines(self)
        old_level = logger.level
        logger.addHandler(handler)
        logger.setLevel(level)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(old_level)
            self.clear()

    def _write(self, stream: TextIO, text: str) -> None:
        self.clear()
        stream.write(self._printable(text, stream) + "\n")
        stream.flush()

    @staticmethod
    def _printable(text: str, stream: TextIO) -> str:
        """File names may hold characters that the terminal's encoding doesn't have, or that steer a terminal."""
        encoding = stream.encoding or "utf-8"
        steerless = "".join("?" if ord(letter) < 32 and letter not in "\n\t" else letter for letter in text)
        return steerless.encode(encoding, "replace").decode(encoding)


class _LogLines(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.complain(f"{record.levelname.lower()}: {record.getMessage()}")
