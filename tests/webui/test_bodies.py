"""The bodies of our requests, read and checked; pictures in them. Without a host."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

import codeformer_core as cf
from codeformer_webui import bodies, images
from codeformer_webui.options import DEFAULTS, Wanted

TASKS = ("restore", "inpaint")


@pytest.fixture
def picture() -> str:
    return images.to_base64(Image.new("RGB", (8, 6), (10, 20, 30)))


def test_the_settings_hold_for_what_is_not_named(picture):
    settings = Wanted(fidelity=0.2, opacity=0.5)
    asked = bodies.read_restore({"image": picture, "opacity": 0.75, "upscale": 2}, settings, TASKS)
    assert asked.wanted == Wanted(fidelity=0.2, opacity=0.75)
    assert (asked.task, asked.upscale, asked.aligned, asked.mask) == ("restore", 2.0, False, None)
    assert bodies.read_restore({"image": picture, "fidelity": None}, settings, TASKS).wanted.fidelity is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"fidelity": 2}, "fidelity must be from 0 to 1, got 2"),
        ({"upscale": 0.5}, "upscale"),
        ({"upscale": True}, "upscale must be a number"),
        ({"upscale": "2"}, "upscale must be a number"),
        ({"aligned": 1}, "aligned must be true or false"),
        ({"task": "paint"}, "restore, inpaint"),
        ({"order": "after the inpaint overlay"}, "unknown: order"),
        ({"image": None}, "base64"),
        ({"image": 5}, "base64"),
        ({"mask_image": "!!"}, "mask_image"),
        ({"mask": "circle"}, "face, head, outline, box"),
    ],
)
def test_what_is_wrong_is_named(picture, fields, says):
    with pytest.raises(ValueError, match=says):
        bodies.read_restore({"image": picture} | fields, DEFAULTS, TASKS)


def test_a_body_must_be_an_object():
    for body in (None, [], "text", 3):
        with pytest.raises(ValueError, match="JSON object"):
            bodies.read_find(body, DEFAULTS)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("x"), 422),
        (cf.WeightsError("x"), 424),
        (cf.DownloadError("x"), 424),
        (ImportError("x"), 424),
        (cf.NotEnoughMemory("x"), 507),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 507),
        (MemoryError(), 507),
        (RuntimeError("x"), 500),
        (KeyError("x"), 500),
    ],
)
def test_each_failure_has_its_status(error, status):
    got, body = bodies.failure(error)
    assert got == status and body["error"] and body["detail"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "1"])
def test_pictures_there_and_back(mode):
    image = Image.linear_gradient("L").convert(mode) if mode != "LA" else Image.new("LA", (256, 256), (90, 40))
    tensor = images.to_tensor(images.from_base64(images.to_base64(image)))
    channels = 4 if mode in ("RGBA", "LA") else 3
    assert tensor.shape == (1, 256, 256, channels) and tensor.dtype == torch.float32
    expected = np.asarray(image.convert("RGBA" if channels == 4 else "RGB"))
    assert np.array_equal(images.to_array(tensor), expected)


def test_pictures_are_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, "JPEG", exif=exif)
    text = base64.b64encode(stream.getvalue()).decode()
    assert images.from_base64(text).size == (6, 8)


def test_the_schema_names_every_field():
    example = bodies.restore_example(TASKS)
    schema = bodies.schema(example)["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(example) and schema["required"] == ["image"]
    assert {"fidelity", "opacity", "model", "upscale", "aligned", "task"} <= set(example)
    assert schema["properties"]["fidelity"]["nullable"]
