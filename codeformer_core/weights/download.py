"""Download of catalog files: resumed, checked, moved into place at once, safe beside another process.

The network is read in a thread of its own, so that a listener hears something several times a second even while a name
is being resolved or a connection stalls, and can cancel then.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import queue
import re
import shutil
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from io import FileIO
from pathlib import Path

from ..runtime.lock import LockError, locked
from .catalog import CatalogEntry

log = logging.getLogger(__name__)

OnProgress = Callable[[int, "int | None"], None]

# Room left free on the disk after a download, in bytes.
SPARE_SPACE = 16 * 2**20
# Bytes after which a connection counts as having worked: its next failure is a first one again.
GOOD_RUN = 2**20
# Seconds between two calls of on_progress while bytes arrive, and while none do.
REPORT_EVERY = 0.1
TICK = 0.2
# Bytes asked for at a time, and blocks that may wait to be written.
BLOCK = 2**18
WAITING_BLOCKS = 32

USER_AGENT = "comfyui-codeformer"
_HUGGING_FACE = "https://huggingface.co"
# Statuses that may be gone at the next try: request timeout, too early, too many requests.
_PASSING = {408, 425, 429}


class DownloadError(OSError):
    """A download failed; the message says what was tried and how to get the file by hand."""


class _TransferError(OSError):
    """Why an address didn't give the file.

    temporary: whether trying it again can help.
    """

    def __init__(self, reason: str, *, temporary: bool) -> None:
        super().__init__(reason)
        self.temporary = temporary


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

    on_progress: called with the bytes done and the bytes in all (None: unknown) several times a second, also while
    waiting for another process or a slow server. What it raises cancels the download and comes out of here.
    timeout: seconds without a byte after which a connection counts as dead.
    attempts: tries per address without progress.
    retry_delay: seconds before the second try, doubling.
    Raises DownloadError when no address gives the right file, or the folder can't be written.
    """
    target = Path(destination_folder) / entry.filename
    job = _Download(entry, target, on_progress, timeout, attempts, retry_delay)
    if target.is_file():
        return job.accept_existing()
    if not addresses(entry):
        raise DownloadError(f"{entry.filename} can't be downloaded: {entry.how_to_get}")
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{entry.filename}.lock")
    try:
        with locked(lock, lambda: job.report(_size(job.part), entry.size, always=True)):
            if target.is_file():
                return job.accept_existing()
            try:
                job.fetch()
            finally:
                if job.part.is_file() and not _size(job.part):
                    job.part.unlink()
            with _writing(target):
                os.replace(job.part, target)
    except LockError as error:
        raise _cannot_write(target, error) from error
    size = _size(target)
    job.report(size, size, always=True)
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
    """The file's sha256 in lowercase hex.

    on_block: called after every MiB; may raise to stop.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
            if on_block is not None:
                on_block()
    return digest.hexdigest()


def mismatch(path: Path, entry: CatalogEntry, on_block: Callable[[], None] | None = None) -> str | None:
    """How `path` differs from what `entry` promises (size first, then sha256); None when it doesn't.

    on_block: called after every MiB; may raise to stop.
    """
    size = _size(path)
    if entry.size is not None and size != entry.size:
        return f"it has {size:,} bytes, expected {entry.size:,}"
    if entry.sha256 is not None and (found := sha256_of(path, on_block)) != entry.sha256:
        return f"its sha256 is {found}, expected {entry.sha256}"
    return None


@dataclass
class _Download:
    """One file on its way to `target`, by way of `part`.

    reported: when the listener was called last.
    """

    entry: CatalogEntry
    target: Path
    on_progress: OnProgress | None
    timeout: float
    attempts: int
    retry_delay: float
    reported: float = -math.inf

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.entry.filename}.part")

    @property
    def is_lenient(self) -> bool:
        """Whether a mismatch only warns: the hash, and the size that came with it, are from a single source."""
        return self.entry.sha256 is not None and not self.entry.sha256_confirmed

    @property
    def exact_size(self) -> int | None:
        """Bytes that the file must have, or None where any number will do."""
        return None if self.is_lenient else self.entry.size

    def report(self, done: int, total: int | None, *, always: bool = False) -> None:
        """At most every REPORT_EVERY seconds: listeners may be slow."""
        now = time.monotonic()
        if self.on_progress is not None and (always or now - self.reported >= REPORT_EVERY):
            self.reported = now
            self.on_progress(done, total)

    def accept_existing(self) -> Path:
        problem = self._problem(self.target)
        if problem is not None and not self.is_lenient:
            raise DownloadError(
                f"{self.target} is there already, but {problem}. Move or delete it, then download again."
            )
        if problem is not None:
            self._warn(problem)
        return self.target

    def fetch(self) -> None:
        """Bring `part` to the whole, checked file.

        Raises DownloadError.
        """
        tried: list[tuple[str, _TransferError]] = []
        for url in addresses(self.entry):
            try:
                return self._fetch_from(url)
            except _TransferError as error:
                log.info("%s: %s", url, error)
                tried.append((url, error))
        raise DownloadError(self._all_failed(tried)) from tried[-1][1]

    def _fetch_from(self, url: str) -> None:
        failures, started_over = 0, False
        self._drop_longer_part()
        while True:
            before = _size(self.part)
            continued = True
            try:
                if before != self.entry.size:
                    continued = self._transfer(url) > 0
            except _TransferError as error:
                self._drop_longer_part()
                gained = _size(self.part) - before
                failures = 0 if gained >= GOOD_RUN else failures + 1
                if failures >= self.attempts or not (error.temporary or gained > 0):
                    raise
                log.info("%s: %s; trying again", url, error)
                self._pause(self.retry_delay * 2 ** max(failures - 1, 0))
                continue
            problem = self._problem(self.part)
            if problem is None:
                return
            if continued and not started_over:
                # The pieces may come from different files: only bytes of one transfer can speak against this address.
                started_over = True
                self.part.unlink()
                continue
            if self.is_lenient:
                return self._warn(problem)
            self.part.unlink()
            raise _TransferError(f"gave a wrong file: {problem}", temporary=False)

    def _transfer(self, url: str) -> int:
        """One request: append to `part`, or write it anew where the server starts from the beginning.

        Returns the file position of its first byte.
        Raises _TransferError.
        """
        done, exact = _size(self.part), self.exact_size
        with closing(_stream(url, done, self.timeout)) as pieces:
            head = None
            while head is None:
                self.report(done, self.entry.size)
                head = next(pieces)
            assert isinstance(head, _Head)
            if exact is not None and head.total not in (None, exact):
                raise _TransferError(f"offers a file of {head.total:,} bytes, expected {exact:,}", temporary=False)
            total, done = head.total if head.total is not None else self.entry.size, head.start
            if total is not None:
                self._require_space(total - done)
            with _writing(self.part):
                file = self.part.open("ab" if done else "wb", buffering=0)
            with file:
                self.report(done, total, always=True)
                for piece in pieces:
                    if isinstance(piece, bytes):
                        _write(file, piece, self.part)
                        done += len(piece)
                        if exact is not None and done > exact:
                            # A server that tells no length may never end.
                            raise _TransferError(f"sends more than the {exact:,} bytes expected", temporary=False)
                    self.report(done, total)
                # Before the file gets its name: after a power cut a name must not stand for bytes that never reached
                # the disk.
                with _writing(self.part):
                    os.fsync(file.fileno())
        if total is not None and done < total:
            raise _TransferError(f"stopped after {done:,} of {total:,} bytes", temporary=True)
        return head.start

    def _problem(self, path: Path) -> str | None:
        size = _size(path)
        return mismatch(path, self.entry, lambda: self.report(size, size))

    def _warn(self, problem: str) -> None:
        log.warning("%s differs from what is known of it (from a single source): %s", self.target, problem)

    def _drop_longer_part(self) -> None:
        if self.exact_size is not None and _size(self.part) > self.exact_size:
            self.part.unlink()

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.report(_size(self.part), self.entry.size)
            time.sleep(min(left, REPORT_EVERY))

    def _require_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if free < needed + SPARE_SPACE:
            raise DownloadError(
                f"{self.entry.filename} needs {needed:,} more bytes in {self.part.parent}, where {free:,} are free. "
                "Make room, or choose another folder; what has arrived is kept."
            )

    def _all_failed(self, tried: list[tuple[str, _TransferError]]) -> str:
        lines = [f"{self.entry.filename} could not be downloaded:"]
        lines += [f"  {url}: {error}" for url, error in tried]
        lines.append(
            "Check the network (HTTPS_PROXY names a proxy, HF_ENDPOINT a mirror of Hugging Face), or download it "
            f"by hand and put it here: {self.target}"
        )
        lines.append(f"Expected: {self.entry.expectation}.")
        if have := _size(self.part):
            lines.append(f"{have:,} bytes are kept in {self.part.name}; the next download continues from there.")
        return "\n".join(lines)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _write(file: FileIO, piece: bytes, part: Path) -> None:
    rest = memoryview(piece)
    while rest:
        with _writing(part):
            rest = rest[file.write(rest) :]


@contextmanager
def _writing(path: Path) -> Generator[None]:
    """Errors of the disk become a DownloadError that names the file and the fix."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> DownloadError:
    name = path.name.removesuffix(".part")
    if error.errno == errno.ENOSPC:
        return DownloadError(
            f"{name}: the disk of {path.parent} is full. Make room and download again: it continues from there."
        )
    return DownloadError(
        f"{name} can't be written in {path.parent}: {error.strerror or error}. Choose another folder, or "
        "change its permissions."
    )


@dataclass(frozen=True)
class _Head:
    """Headers of the answer.

    start: place of its first byte in the file.
    total: bytes of the whole file; None where the server doesn't say.
    """

    start: int
    total: int | None


def _stream(url: str, start: int, timeout: float) -> Generator[_Head | bytes | None, None, None]:
    """Ask for the file at `url` from byte `start` on: yields a _Head, then its bytes, and None at idle ticks.

    Proxies come from the environment. Close the iterator (contextlib.closing) to cancel.

    timeout: seconds without a byte after which the connection counts as dead.
    Raises _TransferError.
    """
    items: queue.Queue[_Head | bytes | Exception] = queue.Queue(WAITING_BLOCKS)
    closed = threading.Event()

    def work() -> None:
        for item in _messages(url, start, timeout):
            while True:
                if closed.is_set():
                    return
                with suppress(queue.Full):
                    items.put(item, timeout=TICK)
                    break

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            try:
                item = items.get(timeout=TICK)
            except queue.Empty:
                yield None
                continue
            if isinstance(item, Exception):
                raise item
            if item == b"":
                return
            yield item
    finally:
        closed.set()


def _messages(url: str, start: int, timeout: float) -> Iterator[_Head | bytes | Exception]:
    """The answer's head, its blocks and an empty block at its end; or the error that ended it."""
    try:
        yield from _request(url, start, timeout)
        yield b""
    except urllib.error.HTTPError as error:
        error.close()
        yield _TransferError(f"HTTP {error.code} {error.reason}", temporary=error.code >= 500 or error.code in _PASSING)
    except _TransferError as error:
        yield error
    except (OSError, HTTPException) as error:
        yield _broken(error, timeout)
    except Exception as error:  # noqa: BLE001
        # An error of this thread must reach the caller, whatever it is.
        yield error


def _request(url: str, start: int, timeout: float) -> Iterator[_Head | bytes]:
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    # An opener of its own: urlopen keeps its first one, and with it the proxies of that moment.
    opener = urllib.request.build_opener()
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
            yield _head(response, start)
            while block := response.read1(BLOCK):
                yield block
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        # Nothing lies behind the bytes that are here: they are the whole file, or too many.
        error.close()
        if error.headers.get("Content-Range", "").strip() == f"bytes */{start}":
            yield _Head(start, start)
        else:
            yield from _request(url, 0, timeout)


def _head(response: HTTPResponse, start: int) -> _Head:
    if "text/html" in response.headers.get("Content-Type", ""):
        raise _TransferError("sent a web page instead of the file (the login page of this network?)", temporary=False)
    if response.status == 200:
        length = response.headers.get("Content-Length", "")
        return _Head(0, int(length) if length.isdigit() else None)
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if response.status != 206 or told is None or int(told[1]) != start:
        raise _TransferError(
            f"HTTP {response.status} with Content-Range {response.headers.get('Content-Range')!r}, "
            f"asked for bytes from {start}",
            temporary=False,
        )
    return _Head(start, None if told[2] == "*" else int(told[2]))


def _broken(error: OSError | HTTPException, timeout: float) -> _TransferError:
    """The failure in words. A connection that was never made is not tried again: the next address is."""
    before = isinstance(error, urllib.error.URLError)
    cause = error.reason if before and isinstance(error.reason, BaseException) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = (
            f"its certificate can't be verified ({cause.verify_message}); on macOS run Python's "
            "'Install Certificates.command', behind a company's proxy set SSL_CERT_FILE to its certificate"
        )
        return _TransferError(text, temporary=False)
    if isinstance(cause, socket.gaierror):
        return _TransferError(f"its name can't be resolved ({cause.strerror}); no network?", temporary=False)
    if isinstance(cause, TimeoutError):
        return _TransferError(f"no answer for {timeout:g} seconds", temporary=not before)
    return _TransferError(str(cause) or type(cause).__name__, temporary=not before)
