"""Reading a TensorFlow Lite file, and making the face mesh network's file out of MediaPipe's."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from codeformer_core.networks.face_mesh import SEEN_SIDE, FaceMesh
from codeformer_core.weights.folders import ASSETS_FOLDER
from tools.convert_face_mesh import MEMBER, SHA256, convert, half_tensors, our_names, read_model

from ..wheels import wheel_in_cache

WHEEL = "mediapipe-0.10.14-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
HALF, FLOAT = 1, 0


def table(fields: list[bytes | None], children: dict[int, bytes]) -> bytes:
    """A flatbuffer's table with its list of offsets before it. fields: values of four bytes; children: what the fields
    of these numbers point to, already a vector or a table whose start is its first byte."""
    count = len(fields)
    offsets, body = [], b""
    for index, value in enumerate(fields):
        there = value is not None or index in children
        offsets.append(4 + len(body) if there else 0)
        body += (value or bytes(4)) if there else b""
    listed = struct.pack(f"<HH{count}H", 4 + 2 * count, 4 + len(body), *offsets)
    listed += bytes(-len(listed) % 4)
    data = bytearray(listed + struct.pack("<i", len(listed)) + body)
    for index, child in children.items():
        at = len(listed) + offsets[index]
        start = child.start if isinstance(child, Placed) else 0
        struct.pack_into("<I", data, at, len(data) + start - at)
        data += child
    return Placed(bytes(data), len(listed))


class Placed(bytes):
    """Bytes of a table; start: where the table itself begins among them."""

    start: int

    def __new__(cls, data: bytes, start: int) -> Placed:
        made = super().__new__(cls, data)
        made.start = start
        return made


def vector(elements: bytes, count: int) -> bytes:
    return struct.pack("<I", count) + elements + bytes(-len(elements) % 4)


def tables(entries: list[Placed]) -> bytes:
    data = bytearray(struct.pack("<I", len(entries)) + bytes(4 * len(entries)))
    for index, entry in enumerate(entries):
        at = 4 + 4 * index
        struct.pack_into("<I", data, at, len(data) + entry.start - at)
        data += entry
    return bytes(data)


def tensor(name: str, shape: tuple[int, ...], kind: int, buffer: int) -> Placed:
    children = {0: vector(struct.pack(f"<{len(shape)}i", *shape), len(shape)), 3: vector(name.encode(), len(name))}
    return table([None, struct.pack("<b3x", kind), struct.pack("<I", buffer), None], children)


def model(*constants: tuple[str, np.ndarray]) -> bytes:
    """A TensorFlow Lite file with these constants, and a tensor without values."""
    buffers = [table([None], {}), *(table([None], {0: vector(v.tobytes(), v.nbytes)}) for _, v in constants)]
    kinds = {"float16": HALF, "float32": FLOAT}
    given = [
        tensor(name, values.shape, kinds[str(values.dtype)], place) for place, (name, values) in enumerate(constants, 1)
    ]
    subgraph = table([None], {0: tables([tensor("empty", (1, 2), HALF, 0), *given])})
    root = table([None] * 5, {2: tables([subgraph]), 4: tables(buffers)})
    return struct.pack("<I", 4 + root.start) + root


def test_constants_in_half_precision_are_read_with_names_and_shapes():
    weights = np.arange(6, dtype=np.float16).reshape(1, 2, 3)
    found = dict(half_tensors(model(("a/Kernel", weights), ("single", np.ones(2, np.float32)))))
    assert list(found) == ["a/Kernel"] and np.array_equal(found["a/Kernel"], weights)
    assert found["a/Kernel"].dtype == np.float16


def test_names_are_those_of_our_network():
    names = our_names()
    assert len(set(names.values())) == len(names)
    assert set(names.values()) == set(FaceMesh().state_dict())


def test_axes_become_torchs():
    rng = np.random.default_rng(0)
    constants = []
    for theirs, ours in our_names().items():
        shape = tuple(FaceMesh().state_dict()[ours].shape)
        if theirs.startswith("depthwise") and len(shape) == 4:
            shape = (1, *shape[2:], shape[0])
        elif len(shape) == 4:
            shape = (shape[0], *shape[2:], shape[1])
        elif theirs.endswith("Alpha"):
            shape = (1, 1, *shape)
        constants.append((theirs, rng.normal(size=shape).astype(np.float16)))
    made = convert(model(*constants))
    assert {key: values.shape for key, values in made.items()} == {
        key: tuple(values.shape) for key, values in FaceMesh().state_dict().items()
    }
    given = dict(constants)
    assert made["blocks.2.depthwise.weight"][5, 0, 1, 2] == given["depthwise_conv2d_3/Kernel"][0, 1, 2, 5]
    assert made["flag.output.weight"][0, 7, 1, 2] == given["conv2d_31/Kernel"][0, 1, 2, 7]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no conv2d_1/Bias, .*Give the wheel of mediapipe 0\.10\.14"):
        convert(model(("a", np.ones(1, np.float16))))
    (tmp_path / "other.tflite").write_bytes(b"other")
    with pytest.raises(ValueError, match=rf"other\.tflite: sha256 d9298a10.*expected {SHA256}"):
        read_model(tmp_path / "other.tflite")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr(MEMBER, b"other")
    with pytest.raises(ValueError, match=r"other\.whl: sha256 d9298a10"):
        read_model(tmp_path / "other.whl")


@pytest.mark.slow
def test_the_shipped_file_is_made_of_mediapipes_and_gives_what_opencv_gives(tmp_path):
    """pip brings the wheel of 36 MB into the tests' cache once."""
    import cv2
    import torch

    from codeformer_core.faces.face_mesh import build_face_mesh
    from codeformer_core.weights.reading import read_state_dict

    source = wheel_in_cache(WHEEL)
    made = tmp_path / "made.safetensors"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-m", "tools.convert_face_mesh", str(source), str(made)], check=True, cwd=root)
    shipped = ASSETS_FOLDER / "face_mesh.safetensors"
    assert made.read_bytes() == shipped.read_bytes()
    (tmp_path / "mesh.tflite").write_bytes(read_model(source))
    theirs = cv2.dnn.readNetFromTFLite(str(tmp_path / "mesh.tflite"))
    seen = torch.rand(1, 3, SEEN_SIDE, SEEN_SIDE, generator=torch.Generator().manual_seed(0))
    theirs.setInput(seen.numpy())
    with torch.no_grad():
        points_1N3, _ = build_face_mesh(read_state_dict(shipped))(seen)
    assert np.abs(theirs.forward("conv2d_21").reshape(-1, 3) - points_1N3[0].numpy()).max() < 2e-3
