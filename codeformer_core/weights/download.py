"""Download of catalog files: resumed, checked, moved into place at once, safe beside another process."""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ..runtime.lock import LockError, locked
from .catalog import CatalogEntry
from .transfer import Head, RangeRefused, TransferError, stream

log = logging.getLogger(__name__)

OnProgress = Callable[[int, "int | None"], None]

# Room left free on the disk after a download, in bytes.
SPARE_SPACE = 16 * 2**20
# Bytes after which a connection counts as having worked: its next failure is a first one again.
GOOD_RUN = 2**20
# Seconds between two calls of on_progress while bytes arrive.
REPORT_EVERY = 0.1

_HUGGING_FACE = "https://huggingface.co"


class DownloadError(OSError):
    """A download failed; the message says what was tried and how to get the file by hand."""


@dataclass
class _Progress:
    """Passes the state on to the listener, at most every REPORT_EVERY seconds: listeners may be slow."""

    on_progress: OnProgress | None
    last: float = field(default=-math.inf)

    def __call__(self, done: int, total: int | None, *, always: bool = False) -> None:
        now = time.monotonic()
        if self.on_progress is not None and (always or now - self.last >= REPORT_EVERY):
            self.last = now
            self.on_progress(done, total)


def download(
    entry: CatalogEntry,
    destination_folder: Path,
    on_progress: OnProgress | None = None,
    *,
    timeout: float = 20.0,
    attempts: int = 4,
    retry_delay: float = 1.0,
) -> Path:
    """Fetch `entry` into `destination_folder` and return its path; a good file that is there already is kept.

    Bytes gather in <file>.part, which an interrupted download leaves behind and the next one continues.
    on_progress(bytes done, bytes in all or None): called several times a second, also while waiting for
    another process or a slow server; what it raises cancels the download and comes out of here. timeout:
    seconds without a byte; attempts: tries per address without progress; retry_delay: seconds before the
    second try, doubling. Raises DownloadError when no address gives the right file, or the folder can't be
    written.
    """
    folder = Path(destination_folder)
    target, part = folder / entry.filename, folder / f"{entry.filename}.part"
    report = _Progress(on_progress)
    if target.is_file():
        return _accept_existing(target, entry, report)
    if not addresses(entry):
        raise DownloadError(f"{entry.filename} can't be downloaded: {entry.how_to_get}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        # The lock's wait calls the listener; LockError is the lock's own trouble and nobody else's.
        with locked(folder / f".{entry.filename}.lock", lambda: report(_size(part), entry.size, always=True)):
            if target.is_file():
                return _accept_existing(target, entry, report)
            try:
                _fetch(entry, part, report, _Patience(timeout, attempts, retry_delay))
            finally:
                if part.is_file() and not _size(part):
                    part.unlink()
            try:
                os.replace(part, target)
            except OSError as error:
                raise _cannot_write(target, error) from error
    except LockError as error:
        raise _cannot_write(target, error) from error
    size = _size(target)
    report(size, size, always=True)
    return target


def addresses(entry: CatalogEntry, environ: Mapping[str, str] = os.environ) -> list[str]:
    """The addresses of `entry` in the order they are tried; HF_ENDPOINT replaces https://huggingface.co.

    None for a file that is nowhere but in this package.
    """
    endpoint = environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    found = [url for url in (entry.url, *entry.mirrors) if url is not None]
    if endpoint:
        found = [endpoint + url[len(_HUGGING_FACE) :] if url.startswith(_HUGGING_FACE + "/") else url for url in found]
    return list(dict.fromkeys(found))


def sha256_of(path: Path, on_block: Callable[[], None] | None = None) -> str:
    """The file's sha256 in lowercase hex. on_block: called after every MiB; may raise to stop."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
            if on_block is not None:
                on_block()
    return digest.hexdigest()


def mismatch(path: Path, entry: CatalogEntry, on_block: Callable[[], None] | None = None) -> str | None:
    """How `path` differs from what `entry` promises (size first, then sha256), or None when it doesn't."""
    size = _size(path)
    if entry.size is not None and size != entry.size:
        return f"it has {size:,} bytes, expected {entry.size:,}"
    if entry.sha256 is not None and (found := sha256_of(path, on_block)) != entry.sha256:
        return f"its sha256 is {found}, expected {entry.sha256}"
    return None


@dataclass(frozen=True)
class _Patience:
    timeout: float
    attempts: int
    retry_delay: float


def _is_lenient(entry: CatalogEntry) -> bool:
    """Whether a mismatch only warns: the hash, and the size that came with it, are from a single source."""
    return entry.sha256 is not None and not entry.sha256_confirmed


def _accept_existing(target: Path, entry: CatalogEntry, report: _Progress) -> Path:
    size = _size(target)
    problem = mismatch(target, entry, lambda: report(size, size))
    if problem is None:
        return target
    if not _is_lenient(entry):
        raise DownloadError(f"{target} is there already, but {problem}. Move or delete it, then download again.")
    log.warning("%s differs from what is known of it (from a single source): %s", target, problem)
    return target


def _fetch(entry: CatalogEntry, part: Path, report: _Progress, patience: _Patience) -> None:
    tried: list[tuple[str, TransferError]] = []
    for url in addresses(entry):
        try:
            return _fetch_from(url, entry, part, report, patience)
        except TransferError as error:
            log.info("%s: %s", url, error)
            tried.append((url, error))
    raise DownloadError(_all_failed(entry, part, tried)) from tried[-1][1]


def _fetch_from(url: str, entry: CatalogEntry, part: Path, report: _Progress, patience: _Patience) -> None:
    """Bring `part` to the whole, checked file with bytes from `url`. Raises TransferError."""
    failures, started_over = 0, False
    if entry.size is not None and _size(part) > entry.size and not _is_lenient(entry):
        part.unlink()
    while True:
        before = _size(part)
        mended = True
        try:
            if entry.size is None or before != entry.size:
                mended = _transfer(url, entry, part, report, patience.timeout) > 0
        except TransferError as error:
            if entry.size is not None and _size(part) > entry.size and not _is_lenient(entry):
                part.unlink()
            gained = _size(part) - before
            failures = 0 if gained >= GOOD_RUN else failures + 1
            if failures >= patience.attempts or not (error.temporary or gained > 0):
                raise
            log.info("%s: %s; trying again", url, error)
            _pause(patience.retry_delay * 2 ** max(failures - 1, 0), part, entry, report)
            continue
        size = _size(part)
        problem = mismatch(part, entry, lambda size=size: report(size, size))
        if problem is None:
            return
        if mended and not started_over:
            # The pieces may come from different files: only bytes of one go can speak against this address.
            started_over = True
            part.unlink()
            continue
        if _is_lenient(entry):
            log.warning("%s differs from what is known of it (from a single source): %s", entry.filename, problem)
            return
        part.unlink()
        raise TransferError(f"gave a wrong file: {problem}", temporary=False)


def _transfer(url: str, entry: CatalogEntry, part: Path, report: _Progress, timeout: float) -> int:
    """One request: append to `part`, or write it anew where the server knows no ranges.

    Returns the file position of its first byte. Raises TransferError.
    """
    done = _size(part)
    with closing(stream(url, done, timeout)) as pieces:
        try:
            head = None
            while head is None:
                report(done, entry.size)
                head = next(pieces)
        except RangeRefused as refused:
            if refused.total == done:
                return done
            part.unlink()
            raise
        assert isinstance(head, Head)
        _check_offer(head, entry)
        total, done = head.total if head.total is not None else entry.size, head.start
        if total is not None:
            _require_space(part, total - done)
        try:
            file = part.open("ab" if done else "wb", buffering=0)
        except OSError as error:
            raise _cannot_write(part, error) from error
        with file:
            report(done, total, always=True)
            for piece in pieces:
                if isinstance(piece, bytes):
                    _write(file, piece, part)
                    done += len(piece)
                    _check_length(done, entry)
                report(done, total)
            _sync(file, part)
    if total is not None and done < total:
        raise TransferError(f"stopped after {done:,} of {total:,} bytes", temporary=True)
    return head.start


def _check_offer(head: Head, entry: CatalogEntry) -> None:
    if entry.size is not None and head.total not in (None, entry.size) and not _is_lenient(entry):
        raise TransferError(f"offers a file of {head.total:,} bytes, expected {entry.size:,}", temporary=False)


def _check_length(done: int, entry: CatalogEntry) -> None:
    # A server that tells no length may never end.
    if entry.size is not None and done > entry.size and not _is_lenient(entry):
        raise TransferError(f"sends more than the {entry.size:,} bytes expected", temporary=False)


def _write(file, piece: bytes, part: Path) -> None:
    rest = memoryview(piece)
    while rest:
        try:
            rest = rest[file.write(rest) :]
        except OSError as error:
            raise _cannot_write(part, error) from error


def _sync(file, part: Path) -> None:
    # Before the file gets its name: after a power cut a name must not stand for bytes that never reached the
    # disk.
    try:
        os.fsync(file.fileno())
    except OSError as error:
        raise _cannot_write(part, error) from error


def _pause(seconds: float, part: Path, entry: CatalogEntry, report: _Progress) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        report(_size(part), entry.size)
        time.sleep(min(left, REPORT_EVERY))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _require_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed + SPARE_SPACE:
        raise DownloadError(
            f"{part.name.removesuffix('.part')} needs {needed:,} more bytes in {part.parent}, where {free:,} "
            "are free. Make room, or choose another folder; what has arrived is kept."
        )


def _cannot_write(path: Path, error: OSError) -> DownloadError:
    name = path.name.removesuffix(".part")
    if error.errno == errno.ENOSPC:
        return DownloadError(
            f"{name}: the disk of {path.parent} is full. Make room and download again: it goes on from there."
        )
    return DownloadError(
        f"{name} can't be written in {path.parent}: {error.strerror or error}. Choose another folder, or "
        "change its permissions."
    )


def _all_failed(entry: CatalogEntry, part: Path, tried: list[tuple[str, TransferError]]) -> str:
    lines = [f"{entry.filename} could not be downloaded:"]
    lines += [f"  {url}: {error}" for url, error in tried]
    lines.append(
        "Check the network (HTTPS_PROXY names a proxy, HF_ENDPOINT a mirror of Hugging Face), or download it "
        f"by hand and put it here: {part.parent / entry.filename}"
    )
    lines.append(f"Expected: {entry.expectation}.")
    if have := _size(part):
        lines.append(f"{have:,} bytes are kept in {part.name}; the next download goes on from there.")
    return "\n".join(lines)
