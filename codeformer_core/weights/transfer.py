"""One HTTP request as a stream of blocks that never keeps its caller waiting.

The network is read in a thread of its own, so that a caller hears something several times a second even while
a name is being resolved or a connection stalls, and can cancel then.
"""

from __future__ import annotations

import queue
import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse

# Bytes asked for at a time, and blocks that may wait to be written.
BLOCK = 2**18
WAITING_BLOCKS = 32
# Seconds after which the caller gets None when nothing has arrived.
TICK = 0.2

USER_AGENT = "comfyui-codeformer"
# Statuses that may be gone at the next try: request timeout, too early, too many requests.
_PASSING = {408, 425, 429}


class TransferError(OSError):
    """Why an address didn't give the file. temporary: whether trying it again can help."""

    def __init__(self, reason: str, *, temporary: bool) -> None:
        super().__init__(reason)
        self.temporary = temporary


class RangeRefused(TransferError):
    """The server has no bytes at the place asked for. total: the size it says the file has, if it says so."""

    def __init__(self, total: int | None) -> None:
        super().__init__("the server has no bytes after those that are here already", temporary=True)
        self.total = total


@dataclass(frozen=True)
class Head:
    """What the answer announces. start: place of its first byte; total: bytes of the whole file, if told."""

    start: int
    total: int | None


def stream(url: str, start: int, timeout: float) -> Generator[Head | bytes | None, None, None]:
    """Ask for the file at `url` from byte `start` on: yields a Head, then its bytes, and None at idle ticks.

    timeout: seconds without any byte after which the connection counts as dead. Proxies come from the
    environment. Close the iterator (contextlib.closing) to cancel. Raises TransferError.
    """
    items: queue.Queue = queue.Queue(WAITING_BLOCKS)
    stop = threading.Event()
    threading.Thread(target=_run, args=(url, start, timeout, items, stop), daemon=True).start()
    try:
        while True:
            try:
                item = items.get(timeout=TICK)
            except queue.Empty:
                yield None
                continue
            if item is _END:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()


_END = object()


class _StoppedError(Exception):
    """The caller has gone."""


def _run(url: str, start: int, timeout: float, items: queue.Queue, stop: threading.Event) -> None:
    def put(item: object) -> None:
        while not stop.is_set():
            try:
                return items.put(item, timeout=TICK)
            except queue.Full:
                continue
        raise _StoppedError

    try:
        try:
            _request(url, start, timeout, put)
            put(_END)
        except _StoppedError:
            raise
        except Exception as error:  # noqa: BLE001
            # An error of this thread must reach the caller, whatever it is.
            put(error)
    except _StoppedError:
        return


def _request(url: str, start: int, timeout: float, put: Callable[[object], None]) -> None:
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    # An opener of its own: urlopen keeps its first one, and with it the proxies of that moment.
    opener = urllib.request.build_opener()
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
            put(_head(response, start))
            while block := response.read1(BLOCK):
                put(block)
    except TransferError:
        raise
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error) from error
    except (OSError, HTTPException) as error:
        raise _broken(error, timeout) from error


def _head(response: HTTPResponse, start: int) -> Head:
    if "text/html" in response.headers.get("Content-Type", ""):
        raise TransferError("sent a web page instead of the file (the login page of this network?)", temporary=False)
    if response.status == 200:
        length = response.headers.get("Content-Length", "")
        return Head(0, int(length) if length.isdigit() else None)
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if response.status != 206 or told is None or int(told[1]) != start:
        raise TransferError(
            f"HTTP {response.status} with Content-Range {response.headers.get('Content-Range')!r}, "
            f"asked for bytes from {start}",
            temporary=False,
        )
    return Head(start, None if told[2] == "*" else int(told[2]))


def _refusal(error: urllib.error.HTTPError) -> TransferError:
    if error.code == 416:
        told = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", "").strip())
        return RangeRefused(int(told[1]) if told else None)
    temporary = error.code >= 500 or error.code in _PASSING
    return TransferError(f"HTTP {error.code} {error.reason}", temporary=temporary)


def _broken(error: OSError | HTTPException, timeout: float) -> TransferError:
    """The failure in words. A connection that was never made is not tried again: the next address is."""
    before = isinstance(error, urllib.error.URLError)
    cause = error.reason if before and isinstance(error.reason, BaseException) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = (
            f"its certificate can't be verified ({cause.verify_message}); on macOS run Python's "
            "'Install Certificates.command', behind a company's proxy set SSL_CERT_FILE to its certificate"
        )
        return TransferError(text, temporary=False)
    if isinstance(cause, socket.gaierror):
        return TransferError(f"its name can't be resolved ({cause.strerror}); no network?", temporary=False)
    if isinstance(cause, TimeoutError):
        return TransferError(f"no answer for {timeout:g} seconds", temporary=not before)
    return TransferError(str(cause) or type(cause).__name__, temporary=not before)
