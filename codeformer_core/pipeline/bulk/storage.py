"""Files by their address: a path of this machine, or s3://, gs://, hdfs:// and whatever else fsspec knows."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from ...runtime.atomic import write_whole

# Where an object appears whole when its last byte is there. Elsewhere it is written under another name and renamed.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "memory"}
# Names of the properties that change with a file's content, as file systems report them; most reliable first.
_VERSIONS = ("ETag", "etag", "md5Hash", "generation", "checksum", "mtime", "LastModified", "last_modified", "created")
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://|^[a-z]+::")


def is_local(address: str) -> bool:
    return _URL.match(address) is None


def normal_address(address: str) -> str:
    """One spelling: absolute for a path of this machine, without file:// and a slash at the end."""
    address = address.removeprefix("file://") or "/"
    if is_local(address):
        return os.path.abspath(address).replace(os.sep, "/")
    return address.rstrip("/") if "::" in address else address_in(*open_storage(address))


def joined(address: str, *names: str) -> str:
    return "/".join((address.rstrip("/"), *names))


def open_storage(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and its path there. Raises ImportError naming the package to install."""
    # Here and not above: the local path needs none of it.
    import fsspec

    try:
        storage, path = cast("tuple[Any, str]", fsspec.url_to_fs(address))
        return storage, path
    except ImportError as error:
        raise ImportError(f"{address}: {error}; pip installs the package for it", name=error.name) from error
    except ValueError as error:
        raise ValueError(f"{address}: {error}") from error


def address_in(storage: Any, path: str) -> str:
    """The address of a path that `storage` has given."""
    address = str(storage.unstrip_protocol(path)).removeprefix("file://")
    return address.rstrip("/")


def version_of(info: Mapping[str, Any]) -> str:
    """Changes when the file does: what fsspec tells of it."""
    found = next((info[name] for name in _VERSIONS if info.get(name) is not None), "")
    return str(found)


def version_of_status(status: os.stat_result) -> str:
    """The same for a file of this machine."""
    return str(status.st_mtime_ns)


def printable(text: str) -> str:
    """Text for tables, where a name that is not UTF-8 can't stand."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_range(address: str, offset: int = 0, size: int | None = None) -> bytes:
    """The bytes of a file, or `size` of them from `offset` on. Raises OSError."""
    if is_local(address):
        with open(address, "rb") as stream:
            stream.seek(offset)
            return stream.read() if size is None else stream.read(size)
    storage, path = open_storage(address)
    if size is None:
        return bytes(storage.cat_file(path))
    return bytes(storage.cat_file(path, start=offset, end=offset + size))


def write_file(address: str, data: bytes, parts: str | None = None) -> None:
    """Write a file whole or not at all; its folders are made. Raises OSError.

    parts: folder for a file of this machine until it is whole; beside it if None.
    """
    if is_local(address):
        path = Path(address)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data, None if parts is None else Path(parts))
        return
    storage, path = open_storage(address)
    if address.partition("://")[0] in _OBJECT_STORES:
        storage.pipe_file(path, data)
        return
    folder, _, name = path.rpartition("/")
    storage.makedirs(folder, exist_ok=True)
    temporary = f"{folder}/.{name}.{os.getpid()}.part"
    storage.pipe_file(temporary, data)
    if storage.exists(path):
        storage.rm_file(path)
    storage.mv(temporary, path)


def remove_file(address: str) -> None:
    """Delete a file, if it is there."""
    if is_local(address):
        Path(address).unlink(missing_ok=True)
        return
    storage, path = open_storage(address)
    if storage.exists(path):
        storage.rm_file(path)


def file_names(address: str) -> list[str]:
    """Names of the files in a folder, sorted; none where there is no folder."""
    if is_local(address):
        folder = Path(address)
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file()) if folder.is_dir() else []
    storage, path = open_storage(address)
    storage.invalidate_cache()
    if not storage.isdir(path):
        return []
    entries: list[dict[str, Any]] = storage.ls(path, detail=True)
    return sorted(str(entry["name"]).rpartition("/")[2] for entry in entries if entry["type"] == "file")


def is_empty(address: str, but_for: str) -> bool:
    """Whether a folder isn't there, or holds nothing but one of that name."""
    if is_local(address):
        return not os.path.isdir(address) or all(entry.name == but_for for entry in os.scandir(address))
    storage, path = open_storage(address)
    if not storage.isdir(path):
        return True
    names: list[str] = storage.ls(path, detail=False)
    return all(name.rstrip("/").rpartition("/")[2] == but_for for name in names)


@contextmanager
def open_file(address: str) -> Generator[Any]:
    """A file to read and to seek in."""
    if is_local(address):
        with open(address, "rb") as stream:
            yield stream
        return
    storage, path = open_storage(address)
    with storage.open(path, "rb") as stream:
        yield stream
