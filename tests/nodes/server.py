"""A real ComfyUI server on loopback, on the CPU, and the few calls the tests make to it.

The server's base directory is a temporary folder with the pack linked into its `custom_nodes`.
"""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.processes import end, free_port, start

from .environments import environment_python, host_environment
from .hosts import BrokenHost, Host, last_line

REPOSITORY = Path(__file__).resolve().parents[2]
PACK = "ComfyUI-CodeFormer"
START_SECONDS = 300
PROMPT_SECONDS = 300

Prompt = dict[str, dict[str, Any]]


class ServerFailed(Exception):
    """The server refused a request or ended; the message holds what it said."""


@dataclass(frozen=True)
class Done:
    """A finished prompt: `status` is "success", "error" or "interrupted"."""

    status: str
    messages: list[Any]
    outputs: dict[str, dict[str, Any]]

    @property
    def error(self) -> str:
        """What the user reads when a node raised."""
        return next((data["exception_message"] for kind, data in self.messages if kind == "execution_error"), "")


class Server:
    """Starts on entering the `with` block, which may raise BrokenHost; on leaving, the whole process group is ended."""

    def __init__(self, host: Host, base: Path, pack: Path = REPOSITORY) -> None:
        self.host = host
        self.base = base
        self.port = free_port()
        self.log_file = base / "server.log"
        for folder in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        _link(base / "custom_nodes" / PACK, pack)

    def __enter__(self) -> Server:
        arguments = ["--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        arguments += ["--base-directory", str(self.base), "--disable-auto-launch", "--disable-api-nodes"]
        arguments += ["--database-url", "sqlite:///:memory:"]
        if (self.base / "extra_model_paths.yaml").exists():
            arguments += ["--extra-model-paths-config", str(self.base / "extra_model_paths.yaml")]
        command = [str(environment_python(self.host)), "main.py", *arguments]
        self.process = start(command, self.host.root, host_environment(self.host), self.log_file)
        try:
            self._wait_until_up()
        except BaseException:
            end(self.process)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        end(self.process)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def get_text(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return answer.read().decode()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise ServerFailed(error.read().decode()) from error
        return json.loads(content) if content else None

    def queue(self, prompt: Prompt) -> str:
        """Posts an API-format prompt and returns its id. Raises ServerFailed when validation refuses a part of it."""
        answer = self.post("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
        if answer["node_errors"]:
            raise ServerFailed(json.dumps(answer["node_errors"]))
        return answer["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = PROMPT_SECONDS) -> Done:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                messages = entry["status"]["messages"]
                kinds = {kind for kind, _ in messages}
                status = "interrupted" if "execution_interrupted" in kinds else entry["status"]["status_str"]
                return Done(status, messages, entry["outputs"])
            if self.process.poll() is not None:
                raise ServerFailed(f"the server ended while it worked on a prompt:\n{self.log[-4000:]}")
            time.sleep(0.1)
        raise ServerFailed(f"prompt not done after {seconds} s:\n{self.log[-4000:]}")

    def run(self, prompt: Prompt) -> Done:
        return self.wait(self.queue(prompt))

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def free(self) -> None:
        """Unloads models and forgets cached results; done by the server's worker shortly afterwards."""
        self.post("/free", {"unload_models": True, "free_memory": True})

    def put_picture(self, name: str, picture: Image.Image) -> str:
        """Puts a picture where the Load Image node finds it."""
        picture.save(self.base / "input" / name)
        return name

    def pictures(self, done: Done, node: str) -> list[np.ndarray]:
        """The files that a Save Image node wrote, as uint8 HWC arrays."""
        if done.status != "success":
            raise ServerFailed(f"{done.status}: {done.error}\n{self.log[-4000:]}")
        files = [
            self.base / "output" / image["subfolder"] / image["filename"] for image in done.outputs[node]["images"]
        ]
        return [np.asarray(Image.open(file)) for file in files]

    def _wait_until_up(self) -> None:
        """Raises BrokenHost when the server ends instead or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BrokenHost(self._said("ended while starting"))
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise BrokenHost(self._said(f"is not up after {START_SECONDS} s"))

    def _said(self, what: str) -> str:
        place = f"ComfyUI {self.host.version} in {self.host.root}"
        return f"{place} {what}; the last line of {self.log_file}: {last_line(self.log)}"


def _link(target: Path, pack: Path) -> None:
    try:
        target.symlink_to(pack, target_is_directory=True)
    except OSError:  # Windows without the right to make links
        shutil.copytree(pack, target, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__"))
