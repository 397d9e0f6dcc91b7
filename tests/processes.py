"""Servers that tests start as processes of their own, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command: list[str], folder: Path, environment: dict[str, str], log_file: Path) -> subprocess.Popen[bytes]:
    """A process group of its own.

    log_file: gets all that it says.
    """
    with log_file.open("w") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL, to its process group."""
    if os.name == "nt":
        process.kill()
        process.wait(10)
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                continue
