"""File formats, detected from the bytes alone: a kind of weights file, or words for what the file is instead.

Nothing is unpickled here.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from .safetensors_cache import MAX_HEADER_SIZE

Kind = Literal["safetensors", "torch zip", "pickle", "none"]

# Bytes of a pickle that are looked at for the names it imports: those of a checkpoint take a few 100 kB.
_LONGEST_PICKLE = 64 * 2**20
# How many times its own size a zip may unpack to. Weights hardly shrink; only a file made to fill the memory does.
_MAX_UNPACKED = 20
# Pickles in a row that torch's format before 1.6 begins with.
_LEGACY_PICKLES = 5

_MAGICS = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"RIFF", "a WebP, WAV or AVI file"),
    (b"%PDF", "a PDF document"),
    (b"GGUF", "a GGUF file, the format of language models"),
    (b"\x89HDF", "an HDF5 file, the format of Keras"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)

# What any torch checkpoint imports; anything else in a refused pickle is worth naming.
_HARMLESS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_\w+|torch\.(\w+Storage|Size|device|dtype|float\w*|int\w*)"
    r"|torch\.storage\.\w+|torch\._tensor\.\w+|torch\.nn\.parameter\.Parameter"
)


@dataclass(frozen=True)
class FileKind:
    """kind: how to read the file, "none" when it holds no weights.
    found: what it is instead, in words.
    """

    kind: Kind
    found: str = ""


def sniff(path: Path, expected_size: int | None = None) -> FileKind:
    """Look at the first bytes of `path`, and at the tables of archives.

    expected_size: bytes, for the words only.
    Raises OSError when the file can't be read.
    """
    size = path.stat().st_size
    if size == 0:
        return FileKind("none", "an empty file of 0 bytes")
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(b"PK\x03\x04"):
        return _sniff_zip(path, size, expected_size)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= length <= MAX_HEADER_SIZE:
        return _sniff_safetensors(path, size, length)
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return FileKind("pickle")
    return FileKind("none", _stranger(path, start))


def truncated(size: int, expected_size: int | None) -> str:
    """The words for a file whose end is missing."""
    if expected_size is not None and size < expected_size:
        return f"truncated: {size:,} of {expected_size:,} bytes"
    return f"truncated or damaged: {size:,} bytes, and its end is missing"


def damaged_record(path: Path) -> str | None:
    """The first record of a zip that can't be read or doesn't fit its own checksum, or None.

    torch itself doesn't compare the checksums.
    """
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            # torch can be told to write no checksums; their place is 0 then.
            if info.CRC == 0:
                continue
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                return info.filename
            try:
                with archive.open(info) as record:
                    while record.read(2**20):
                        pass
            except (zipfile.BadZipFile, zlib.error, EOFError):
                return info.filename
    return None


def is_stored_plainly(path: Path) -> bool:
    """Whether no record of a zip is compressed, so that it can be mapped into memory as it lies there."""
    with zipfile.ZipFile(path) as archive:
        return all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def unusual_imports(path: Path, kind: Kind) -> list[str]:
    """Names the pickle in `path` would import and a torch checkpoint has no need of, such as posix.system.

    Read from the pickle's instructions without following them. Empty where they can't be read.
    """
    if kind == "torch zip":
        try:
            from torch.serialization import get_unsafe_globals_in_checkpoint

            return sorted(get_unsafe_globals_in_checkpoint(str(path)))
        except Exception:  # noqa: BLE001
            # A malformed pickle can raise anything, and torch before 2.6 has no such function. It is refused anyway.
            return []
    with path.open("rb") as file:
        names = _imports(file.read(_LONGEST_PICKLE))
    return [name for name in dict.fromkeys(names) if not _HARMLESS.fullmatch(name)]


def _imports(data: bytes) -> list[str]:
    """The imports of pickles outside of zips, which torch's own scan doesn't open."""
    stream: BinaryIO = io.BytesIO(data)
    names: list[str] = []
    for _ in range(_LEGACY_PICKLES):
        # The two newest strings are what STACK_GLOBAL takes; MEMOIZE and GET only pass strings on.
        strings: list[str] = []
        memo: dict[int, str] = {}
        try:
            for code, argument, _position in pickletools.genops(stream):
                if code.name == "GLOBAL" and isinstance(argument, str):
                    names.append(argument.replace(" ", ".", 1))
                elif code.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                elif code.name == "MEMOIZE":
                    memo[len(memo)] = strings[-1] if strings else ""
                elif code.name in ("BINPUT", "LONG_BINPUT") and isinstance(argument, int):
                    memo[argument] = strings[-1] if strings else ""
                elif code.name in ("BINGET", "LONG_BINGET") and isinstance(argument, int):
                    strings.append(memo.get(argument, ""))
                elif isinstance(argument, str):
                    strings.append(argument)
        except ValueError:
            # The end of the data, or bytes that are not a pickle: what was seen so far is the answer.
            break
    return names


def _sniff_zip(path: Path, size: int, expected_size: int | None) -> FileKind:
    if not zipfile.is_zipfile(path):
        return FileKind("none", truncated(size, expected_size))
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            unpacked = sum(info.file_size for info in archive.infolist())
    except zipfile.BadZipFile:
        return FileKind("none", truncated(size, expected_size))
    last = {name.rsplit("/", 1)[-1] for name in names}
    if "constants.pkl" in last:
        # Never handed to torch: a program runs where weights are only read.
        return FileKind("none", "a TorchScript program, which holds code and not only weights")
    if unpacked > _MAX_UNPACKED * size:
        return FileKind("none", f"a zip of {size:,} bytes that unpacks to {unpacked:,}, which no weights do")
    if "data.pkl" in last:
        return FileKind("torch zip")
    inside = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return FileKind("none", f"a zip that holds no torch checkpoint (in it: {inside or 'nothing'})")


def _sniff_safetensors(path: Path, size: int, length: int) -> FileKind:
    if size < 8 + length:
        return FileKind("none", f"truncated: {size:,} of at least {8 + length:,} bytes")
    with path.open("rb") as file:
        file.seek(8)
        text = file.read(length)
    try:
        header = json.loads(text)
        ends = [item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return FileKind("none", "a safetensors file with a damaged header")
    if size < whole:
        return FileKind("none", f"truncated: {size:,} of {whole:,} bytes")
    return FileKind("safetensors")


def _stranger(path: Path, start: bytes) -> str:
    if start.startswith(b"version https://git-lfs"):
        meant = re.search(rb"\nsize (\d+)", start)
        stands_for = f" that stands for {int(meant[1]):,} bytes" if meant else ""
        return f"a Git LFS pointer{stands_for}, not the file itself"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<!--")):
        return "an HTML page"
    if text.startswith(b"<?xml"):
        return "an XML page, probably a server's error message"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it, or save the weights with a torch of 1.6 or newer"
    if path.suffix.lower() == ".onnx":
        return "an ONNX model, which is not a checkpoint of weights"
    for magic, words in _MAGICS:
        if start.startswith(magic):
            return words
    if not start.strip(b"\0"):
        return "nothing but zero bytes at its beginning: a download that broke off"
    if start.isascii() and start.decode("ascii").replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return f"a text beginning with {start[:40].decode('ascii')!r}"
    return f"of no known kind (its first bytes: {start[:8].hex(' ')})"
