"""A real WebUI on loopback, on the CPU, with this pack and a test extension in a data folder of its own."""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.nodes.hosts import BrokenHost, last_line
from tests.processes import end, free_port, start

from .hosts import WebUIHost

REPOSITORY = Path(__file__).resolve().parents[2]
PACK = "comfyui-codeformer"
SUPPLYING = Path(__file__).with_name("supplying")
START_SECONDS = 600
REQUEST_SECONDS = 300
# What the log says once requests may come; with --nowebui the server begins after its times are told.
STARTED, STARTED_WITHOUT_PAGE = "Startup time:", "Uvicorn running on"

# The tests' faces are pasted as the network paints them.
AS_IT_IS = {"when_worse": "paste", "color_match": "off"}


# A small network of the tests' own, which paints no real faces.
MODEL = "small_codeformer.pth"


@dataclass(frozen=True)
class Answer:
    """status: of HTTP. body: the JSON."""

    status: int
    body: Any


class WebUI:
    """Starts on entering the `with` block, which may raise BrokenHost; on leaving, the whole process group is ended."""

    def __init__(self, host: WebUIHost, data: Path, picture: Path, *more_flags: str) -> None:
        """data: an empty folder for everything that the host writes.
        picture: what is handed to the host in the place of a diffused one.
        """
        self.host, self.data, self.picture, self.more_flags = host, data, picture, more_flags
        self.port = free_port()
        self.log_file = data / "server.log"
        self.root = host.copied(data / "program")
        extensions = data / "extensions"
        extensions.mkdir(parents=True, exist_ok=True)
        for name, folder in ((PACK, REPOSITORY), (SUPPLYING.name, SUPPLYING)):
            (extensions / name).symlink_to(folder, target_is_directory=True)

    def __enter__(self) -> WebUI:
        flags = ["--skip-prepare-environment", "--skip-torch-cuda-test", "--api", "--no-download-sd-model"]
        flags += ["--skip-version-check", "--codeformer-pack-cpu"]
        flags += ["--server-name", "127.0.0.1", "--port", str(self.port), "--data-dir", str(self.data)]
        flags += ["--gradio-allowed-path", str(self.root)]
        environment = os.environ | {
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "CODEFORMER_TEST_PICTURE": str(self.picture),
        }
        command = [str(self.host.python), "launch.py", *flags, *self.host.flags, *self.more_flags]
        self.process = start(command, self.root, environment, self.log_file)
        try:
            self.wait_for(STARTED_WITHOUT_PAGE if "--nowebui" in self.more_flags else STARTED, START_SECONDS)
        except BaseException:
            end(self.process)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        end(self.process)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_for(self, text: str, seconds: float, times: int = 1) -> None:
        """Until the log holds the text so many times. No request may come before it has started."""
        deadline = time.monotonic() + seconds
        while self.log.count(text) < times:
            if self.process.poll() is not None:
                raise BrokenHost(f"{self.host.name} ended while starting: {last_line(self.log)}")
            if time.monotonic() > deadline:
                raise BrokenHost(f"{self.host.name}: no {text!r} after {seconds:.0f} s: {last_line(self.log)}")
            time.sleep(0.2)

    def get(self, path: str) -> Any:
        answer = self.request(path, None)
        assert answer.status == 200, answer
        return answer.body

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.request(path, body)
        assert answer.status == 200, answer
        return answer.body

    def request(self, path: str, body: Any, *, raw: bytes | None = None, login: str | None = None) -> Answer:
        """login: user and password, with a colon between them."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        if login is not None:
            request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
                return Answer(answer.status, json.loads(answer.read() or b"null"))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.loads(error.read() or b"null"))

    def set_options(self, **options: Any) -> None:
        self.post("/sdapi/v1/options", options)

    def generate(self, kind: str = "txt2img", **changes: Any) -> tuple[list[np.ndarray], list[str]]:
        """The pictures and their infotexts. changes: of the request."""
        body = {"prompt": "a face", "width": 512, "height": 512, "steps": 1, "sampler_name": "Euler", "seed": 1}
        answer = self.post(f"/sdapi/v1/{kind}", body | changes)
        return [pixels(image) for image in answer["images"]], json.loads(answer["info"])["infotexts"]

    def panel(self, **values: Any) -> dict[str, Any]:
        """Arguments that switch the panel on with these values; the settings hold for the others."""
        return {"alwayson_scripts": {"CodeFormer pack": {"args": [values]}}}


def pixels(image: str) -> np.ndarray:
    """uint8 HWC of a picture in base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))))


def encoded(picture: Path | Image.Image, infotext: str = "") -> str:
    """In base64. infotext: written into a PNG; any spares Forge's Extras a slow search for a hidden one."""
    if isinstance(picture, Path):
        return base64.b64encode(picture.read_bytes()).decode()
    stream = io.BytesIO()
    text = PngInfo()
    if infotext:
        text.add_text("parameters", infotext)
    picture.save(stream, "PNG", pnginfo=text)
    return base64.b64encode(stream.getvalue()).decode()


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """The share of pixels that differ."""
    assert before.shape == after.shape
    return float((before != after).any(-1).mean())


def told(infotext: str) -> dict[str, str]:
    """Keys and values of an infotext's last line; no value of ours holds a comma, but for failures in quotes."""
    pairs = (part.partition(": ") for part in infotext.splitlines()[-1].split(", "))
    return {key: value for key, _, value in pairs}
