"""Images in the rows of Parquet files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from .packages import require
from .source import BulkSource, safe_place
from .storage import is_local, open_storage

# Rows whose keys are read together while a file is listed.
_ROWS = 8192
_KEYS = ("key", "__key__", "path", "file_name", "filename", "name", "id")


def parquet_rows(
    address: str, version: str, place: str, image_column: str | None, key_column: str | None
) -> Iterator[BulkSource]:
    """A source for each row; of the images not a byte is read.

    place: of the file below the target, without its ending.
    image_column: None for the only one that holds bytes, also inside a structure, as Hugging Face has it.
    key_column: of the images' names; None for one that is usually called so, else the row's number.
    Raises ValueError naming the columns where none fits.
    """
    with _opened(address) as file:
        schema = file.schema_arrow
        column = _image_column(address, schema, image_column)
        names = [name for name in ([key_column] if key_column else _KEYS) if name in schema.names]
        if key_column and not names:
            raise ValueError(f"{address}: no column {key_column!r}, only {', '.join(schema.names)}")
        inside = f"{column.rpartition('.')[0]}.path"
        key = names[0] if names else inside if _has(schema, inside) else None
        for row, value in enumerate(_values(file, key) if key else _nameless(file)):
            name = f"{row:09d}" if value is None else safe_place(str(value))
            yield BulkSource(address, f"{place}/{name}", version, f"row {row}", row, column=column)


def read_row(address: str, column: str, row: int) -> bytes:
    """The bytes of one image. Rows of one group are read together. Raises ValueError for an empty one."""
    starts = _row_groups(address)
    group = next(number for number in range(len(starts) - 1) if starts[number + 1] > row)
    value: Any = _read_group(address, column, group)[row - starts[group]].as_py()
    if not value:
        raise ValueError(f"{address}: row {row} holds no image")
    return bytes(value)


def _opened(address: str) -> Any:
    parquet = require("pyarrow.parquet")
    try:
        if is_local(address):
            return parquet.ParquetFile(address)
        storage, path = open_storage(address)
        return parquet.ParquetFile(storage.open(path, "rb"))
    except require("pyarrow").ArrowInvalid as error:
        raise ValueError(f"{address}: not a Parquet file, or a damaged one ({error})") from error


@lru_cache(maxsize=64)
def _row_groups(address: str) -> tuple[int, ...]:
    """The first row of each group, and the number of rows."""
    with _opened(address) as file:
        starts = [0]
        for group in range(file.num_row_groups):
            starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
        return tuple(starts)


@lru_cache(maxsize=2)
def _read_group(address: str, column: str, group: int) -> Any:
    with _opened(address) as file:
        table = file.read_row_group(group, columns=[column])
    array = table.column(column.partition(".")[0])
    for name in column.split(".")[1:]:
        array = require("pyarrow.compute").struct_field(array, name)
    return array


def _image_column(address: str, schema: Any, wanted: str | None) -> str:
    arrow = require("pyarrow")
    found: list[str] = []
    for entry in schema:
        if arrow.types.is_struct(entry.type):
            found += [f"{entry.name}.{inner.name}" for inner in entry.type if _is_bytes(arrow, inner.type)]
        elif _is_bytes(arrow, entry.type):
            found.append(entry.name)
    if wanted is not None:
        chosen = [name for name in found if name == wanted or name.partition(".")[0] == wanted]
    else:
        chosen = found
    if len(chosen) != 1:
        told = f"no column {wanted!r} of bytes" if wanted else f"{len(found)} columns of bytes"
        raise ValueError(f"{address}: {told}; its columns are {', '.join(schema.names)}. Name the one with the images")
    return chosen[0]


def _is_bytes(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _has(schema: Any, column: str) -> bool:
    name, _, inner = column.partition(".")
    return name in schema.names and any(field.name == inner for field in schema.field(name).type)


def _nameless(file: Any) -> Iterator[None]:
    return itertools.repeat(None, int(file.metadata.num_rows))


def _values(file: Any, column: str) -> Iterator[Any]:
    """A column's values, a part of it at a time."""
    name, _, inner = column.partition(".")
    for batch in file.iter_batches(_ROWS, columns=[column]):
        for value in batch.column(name).to_pylist():
            yield value and value[inner] if inner else value
