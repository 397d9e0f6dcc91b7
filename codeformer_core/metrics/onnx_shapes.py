"""The input and output shapes that an ONNX file states, read from its bytes without the package `onnx`.

Source: onnx.proto3 and the protobuf wire format: a field is a key (number << 3 | kind) and a value; kind 0 is a number,
1 and 5 are 8 and 4 bytes, 2 is a length and that many bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Numbers of the fields that lead to a shape.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_TENSOR_NAME = 8
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE = 1, 2, 1, 1

Shape = tuple[int | None, ...]
View = memoryview


@dataclass(frozen=True)
class OnnxShapes:
    """inputs, outputs: name -> shape; None stands for a side left open. Weights are not inputs."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


def read_onnx_shapes(path: Path) -> OnnxShapes:
    """Raises ValueError naming the file when it is not an ONNX model, OSError when it can't be read."""
    data = path.read_bytes()
    if not data:
        raise ValueError(f"{path} is an empty file, not an ONNX model")
    try:
        return _graph_shapes(memoryview(data))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not an ONNX model, or a damaged one") from error


def _graph_shapes(data: View) -> OnnxShapes:
    graphs = [value for number, value in _fields(data) if number == _MODEL_GRAPH and isinstance(value, View)]
    if not graphs:
        raise IndexError("no graph")
    weights: set[str] = set()
    inputs: dict[str, Shape] = {}
    outputs: dict[str, Shape] = {}
    for number, value in _fields(graphs[0]):
        if not isinstance(value, View):
            continue
        if number == _GRAPH_INITIALIZER:
            weights.add(_text(value, _TENSOR_NAME))
        elif number in (_GRAPH_INPUT, _GRAPH_OUTPUT):
            (inputs if number == _GRAPH_INPUT else outputs)[_text(value, _VALUE_NAME)] = _shape(value)
    # Files of older exporters list the weights among the inputs.
    return OnnxShapes({name: shape for name, shape in inputs.items() if name not in weights}, outputs)


def _shape(value_info: View) -> Shape:
    sides: list[int | None] = []
    for shape in _inner(_inner(_inner([value_info], _VALUE_TYPE), _TYPE_TENSOR), _TENSOR_SHAPE):
        for side in _inner([shape], _SHAPE_DIM):
            numbers = [value for number, value in _fields(side) if number == _DIM_VALUE and isinstance(value, int)]
            # Exporters also write 0 for "any number".
            sides.append((numbers[0] or None) if numbers else None)
    return tuple(sides)


def _inner(messages: list[View], wanted: int) -> list[View]:
    return [
        value
        for message in messages
        for number, value in _fields(message)
        if number == wanted and isinstance(value, View)
    ]


def _text(message: View, wanted: int) -> str:
    return "".join(bytes(value).decode() for value in _inner([message], wanted)[:1])


def _fields(data: View) -> Iterator[tuple[int, int | View]]:
    """(number, value) of every field.

    Raises IndexError where the bytes don't fit the format.
    """
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if kind == 2:
            length, position = _varint(data, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise IndexError(f"field of kind {kind}")
        if position + length > len(data):
            raise IndexError("a field reaches behind the end")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: View, position: int) -> tuple[int, int]:
    """Seven bits a byte, lowest first; the top bit says that more follow."""
    value = 0
    for index in range(10):
        byte = data[position + index]
        value |= (byte & 127) << (7 * index)
        if not byte & 128:
            return value, position + index + 1
    raise IndexError("a number of more than ten bytes")
