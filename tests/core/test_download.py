"""Downloads from a real HTTP server on the loopback that can misbehave in every way seen in the wild."""

import hashlib
import logging
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import codeformer_core.weights.download as download_module
from codeformer_core.runtime.lock import locked
from codeformer_core.weights.catalog import CatalogEntry
from codeformer_core.weights.download import DownloadError, addresses, download

BODY = bytes(range(256)) * 1200
BLOCK = 16 * 1024


@dataclass
class Route:
    """How the server answers for one path. cuts: bytes after which it hangs up, one per request."""

    body: bytes = BODY
    ranges: bool = True
    tells_length: bool = True
    cuts: list[int] = field(default_factory=list)
    status: int = 200
    content_type: str = "application/octet-stream"
    redirect: str = ""
    pause: float = 0.0
    stall: float = 0.0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path = urlsplit(self.path).path
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        route = self.server.routes[path]
        if route.redirect:
            self.send_response(302)
            self.send_header("Location", route.redirect)
            self.end_headers()
            return
        start = int(asked.split("=")[1].rstrip("-")) if asked and route.ranges else 0
        if route.status != 200:
            self.send_response(route.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if start >= len(route.body) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(route.body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", route.content_type)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(route.body) - 1}/{len(route.body)}")
        if route.tells_length:
            self.send_header("Content-Length", str(len(route.body) - start))
        self.end_headers()
        end = min(len(route.body), start + route.cuts.pop(0)) if route.cuts else len(route.body)
        self._send(route, start, end)

    def _send(self, route: Route, start: int, end: int) -> None:
        try:
            for at in range(start, end, BLOCK):
                self.wfile.write(route.body[at : min(at + BLOCK, end)])
                time.sleep(route.pause)
            if end < len(route.body):
                self.server.leaving.wait(route.stall)
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up += 1

    def log_message(self, *_):
        """Nothing on the tests' output."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes: dict[str, Route] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.leaving = threading.Event()
        self.hung_up = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    @property
    def ranges_asked(self) -> list[str | None]:
        return [asked for _, asked in self.requests]


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.leaving.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)


def entry_for(url: str, *mirrors: str, body: bytes | None = BODY, confirmed: bool = True) -> CatalogEntry:
    return CatalogEntry(
        name="faces",
        filename="faces.pth",
        task="restoration",
        url=url,
        mirrors=mirrors,
        size=None if body is None else len(body),
        sha256=None if body is None else hashlib.sha256(body).hexdigest(),
        sha256_confirmed=confirmed and body is not None,
        licence="MIT",
        licence_note="made for a test",
        folder="facerestore_models",
    )


def fetch(entry: CatalogEntry, folder: Path, on_progress=None, **options) -> Path:
    """With short waits: the tests' server is next door."""
    return download(entry, folder, on_progress, **{"timeout": 5.0, "retry_delay": 0.01, **options})


def only_the_file(folder: Path) -> bool:
    return [path.name for path in folder.iterdir()] == ["faces.pth"]


@pytest.mark.parametrize("tells_length", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_download(server, tmp_path, tells_length, ranges):
    server.routes["/faces"] = Route(tells_length=tells_length, ranges=ranges)
    seen = []
    path = fetch(entry_for(server.url("/faces")), tmp_path / "new" / "folder", lambda *state: seen.append(state))
    assert path == tmp_path / "new" / "folder" / "faces.pth"
    assert path.read_bytes() == BODY and only_the_file(path.parent)
    assert seen[0] == (0, len(BODY)) and seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_nothing_known_of_the_file(server, tmp_path):
    server.routes["/faces"] = Route()
    seen = []
    path = fetch(entry_for(server.url("/faces"), body=None), tmp_path, lambda done, total: seen.append(total))
    assert path.read_bytes() == BODY and seen[0] is None and seen[-1] == len(BODY)


def test_redirects_keep_the_range(server, tmp_path):
    server.routes["/release"] = Route(redirect="/storage")
    server.routes["/storage"] = Route()
    (tmp_path / "faces.pth.part").write_bytes(BODY[:1000])
    assert fetch(entry_for(server.url("/release")), tmp_path).read_bytes() == BODY
    assert server.requests == [("/release", "bytes=1000-"), ("/storage", "bytes=1000-")]


def test_part_is_continued(server, tmp_path):
    server.routes["/faces"] = Route()
    (tmp_path / "faces.pth.part").write_bytes(BODY[:100_000])
    seen = []
    path = fetch(entry_for(server.url("/faces")), tmp_path, lambda done, total: seen.append(done))
    assert path.read_bytes() == BODY and only_the_file(tmp_path)
    assert server.ranges_asked == ["bytes=100000-"] and seen[0] == 100_000


def test_part_is_started_over_where_the_server_knows_no_ranges(server, tmp_path):
    server.routes["/faces"] = Route(ranges=False)
    (tmp_path / "faces.pth.part").write_bytes(b"x" * 100_000)
    assert fetch(entry_for(server.url("/faces")), tmp_path).read_bytes() == BODY
    assert server.ranges_asked == ["bytes=100000-"]


def test_whole_part_needs_no_network(tmp_path):
    (tmp_path / "faces.pth.part").write_bytes(BODY)
    assert fetch(entry_for(closed_address()), tmp_path).read_bytes() == BODY
    assert only_the_file(tmp_path)


def test_whole_part_of_unknown_size(server, tmp_path):
    server.routes["/faces"] = Route()
    (tmp_path / "faces.pth.part").write_bytes(BODY)
    entry = replace(entry_for(server.url("/faces")), size=None)
    assert fetch(entry, tmp_path).read_bytes() == BODY
    assert len(server.requests) == 1, "the answer 416 tells that nothing is missing"


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_part_that_is_too_long(server, tmp_path, size):
    server.routes["/faces"] = Route()
    (tmp_path / "faces.pth.part").write_bytes(BODY + b"and more")
    entry = replace(entry_for(server.url("/faces")), size=size)
    assert fetch(entry, tmp_path).read_bytes() == BODY


def test_damaged_part_is_mended_by_starting_over(server, tmp_path):
    server.routes["/faces"] = Route()
    (tmp_path / "faces.pth.part").write_bytes(b"?" * 100_000)
    assert fetch(entry_for(server.url("/faces")), tmp_path).read_bytes() == BODY
    assert server.ranges_asked == ["bytes=100000-", None]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("tells_length", [True, False])
def test_broken_transfers_are_continued(server, tmp_path, ranges, tells_length):
    server.routes["/faces"] = Route(cuts=[50_000, 70_000], ranges=ranges, tells_length=tells_length)
    assert fetch(entry_for(server.url("/faces")), tmp_path).read_bytes() == BODY
    if ranges:
        assert server.ranges_asked == [None, "bytes=50000-", "bytes=120000-"]


def test_endless_truncation_gives_up_and_keeps_the_part(server, tmp_path):
    server.routes["/faces"] = Route(cuts=[1000] * 50)
    entry = entry_for(server.url("/faces"))
    with pytest.raises(DownloadError, match=r"stopped after 4,000 of 307,200 bytes") as caught:
        fetch(entry, tmp_path)
    assert "4,000 bytes are kept in faces.pth.part" in str(caught.value)
    assert caught.value.__cause__ is not None
    server.routes["/faces"] = Route()
    assert fetch(entry, tmp_path).read_bytes() == BODY
    assert server.ranges_asked[-1] == "bytes=4000-"


def test_stalled_connection_is_continued(server, tmp_path):
    # Long enough that waiting for its end would be seen.
    server.routes["/faces"] = Route(cuts=[60_000], stall=600.0)
    assert fetch(entry_for(server.url("/faces")), tmp_path, timeout=0.3).read_bytes() == BODY
    assert server.ranges_asked == [None, "bytes=60000-"]


def test_cancel_during_a_stall_is_heard(server, tmp_path):
    server.routes["/faces"] = Route(cuts=[60_000], stall=600.0)
    start = time.monotonic()

    def cancel(done, total):
        if time.monotonic() - start > 0.3:
            raise InterruptedError("cancelled")

    with pytest.raises(InterruptedError, match="cancelled"):
        fetch(entry_for(server.url("/faces")), tmp_path, cancel, timeout=600.0)
    assert (tmp_path / "faces.pth.part").read_bytes() == BODY[:60_000]


class CancelledError(Exception):
    pass


def test_cancel_and_resume(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "REPORT_EVERY", 0.0)
    server.routes["/faces"] = Route(pause=0.005)
    entry = entry_for(server.url("/faces"))

    def cancel(done, total):
        if done >= 100_000:
            raise CancelledError

    with pytest.raises(CancelledError):
        fetch(entry, tmp_path, cancel)
    assert [path.name for path in tmp_path.iterdir()] == ["faces.pth.part"]
    kept = (tmp_path / "faces.pth.part").stat().st_size
    assert 100_000 <= kept < len(BODY)
    assert fetch(entry, tmp_path).read_bytes() == BODY
    assert server.ranges_asked == [None, f"bytes={kept}-"]


def test_cancel_before_the_first_byte_leaves_nothing(server, tmp_path):
    server.routes["/faces"] = Route()

    def cancel(done, total):
        raise CancelledError

    with pytest.raises(CancelledError):
        fetch(entry_for(server.url("/faces")), tmp_path, cancel)
    assert list(tmp_path.iterdir()) == []


def test_wrong_hash_is_refused(server, tmp_path):
    server.routes["/faces"] = Route(body=BODY[::-1])
    entry = entry_for(server.url("/faces"))
    with pytest.raises(DownloadError) as caught:
        fetch(entry, tmp_path)
    message = str(caught.value)
    assert "faces.pth" in message and entry.sha256 in message
    assert hashlib.sha256(BODY[::-1]).hexdigest() in message
    assert list(tmp_path.iterdir()) == [], "no part stays that would spoil the next try"


def test_wrong_hash_from_a_single_source_only_warns(server, tmp_path, caplog):
    server.routes["/faces"] = Route(body=b"another version")
    with caplog.at_level(logging.WARNING):
        path = fetch(entry_for(server.url("/faces"), confirmed=False), tmp_path)
    assert path.read_bytes() == b"another version"
    assert "faces.pth differs" in caplog.text and "single source" in caplog.text


def test_single_source_does_not_excuse_a_mended_file(server, tmp_path):
    server.routes["/faces"] = Route()
    (tmp_path / "faces.pth.part").write_bytes(b"?" * 1000)
    assert fetch(entry_for(server.url("/faces"), confirmed=False), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("tells_length", [True, False])
def test_wrong_size_is_refused(server, tmp_path, tells_length):
    server.routes["/faces"] = Route(body=BODY + b"longer", tells_length=tells_length)
    with pytest.raises(DownloadError, match="307,200"):
        fetch(entry_for(server.url("/faces")), tmp_path)
    assert not list(tmp_path.iterdir())


def test_login_page_is_refused(server, tmp_path):
    server.routes["/faces"] = Route(body=b"<html>Welcome to our hotel</html>", content_type="text/html")
    with pytest.raises(DownloadError, match="web page"):
        fetch(entry_for(server.url("/faces"), body=None), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "first",
    [
        Route(status=404),
        Route(status=503),
        Route(body=b"wrong"),
        Route(body=BODY[::-1]),
        Route(cuts=[0] * 9),
        Route(body=b"<html>", content_type="text/html; charset=utf-8"),
    ],
    ids=["404", "503", "size", "hash", "hangs up", "web page"],
)
def test_mirror_is_used_when_the_first_address_fails(server, tmp_path, first):
    server.routes |= {"/first": first, "/second": Route()}
    path = fetch(entry_for(server.url("/first"), server.url("/second")), tmp_path)
    assert path.read_bytes() == BODY and only_the_file(tmp_path)
    assert server.requests[-1][0] == "/second"


def test_mirror_continues_what_the_first_address_began(server, tmp_path):
    server.routes |= {"/first": Route(cuts=[90_000, 0, 0, 0, 0]), "/second": Route()}
    path = fetch(entry_for(server.url("/first"), server.url("/second")), tmp_path)
    assert path.read_bytes() == BODY
    assert server.requests[-1] == ("/second", "bytes=90000-")


def test_passing_errors_are_tried_again_and_lasting_ones_not(server, tmp_path):
    server.routes |= {"/busy": Route(status=503), "/gone": Route(status=404)}
    with pytest.raises(DownloadError, match="HTTP 503"):
        fetch(entry_for(server.url("/busy"), server.url("/gone")), tmp_path, attempts=3)
    assert [path for path, _ in server.requests] == ["/busy", "/busy", "/busy", "/gone"]


def closed_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/faces.pth"


def test_no_network_says_what_to_do(tmp_path):
    first, second = closed_address(), closed_address()
    entry = entry_for(first, second)
    with pytest.raises(DownloadError) as caught:
        fetch(entry, tmp_path / "models")
    message = str(caught.value)
    for needed in (first, second, "refused", str(tmp_path / "models" / "faces.pth"), "307,200 bytes"):
        assert needed in message
    assert entry.sha256 in message and isinstance(caught.value, OSError)
    assert list((tmp_path / "models").iterdir()) == []


def test_good_file_is_kept_without_network(tmp_path):
    (tmp_path / "faces.pth").write_bytes(BODY)
    assert fetch(entry_for(closed_address()), tmp_path) == tmp_path / "faces.pth"


def test_bad_file_in_the_way_is_not_overwritten(tmp_path):
    (tmp_path / "faces.pth").write_bytes(b"half")
    with pytest.raises(DownloadError, match=r"is there already, but it has 4 bytes, expected 307,200"):
        fetch(entry_for(closed_address()), tmp_path)
    assert (tmp_path / "faces.pth").read_bytes() == b"half"


def test_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "models").write_bytes(b"")
    with pytest.raises(DownloadError, match=r"faces\.pth can't be written in .*models.*Choose another"):
        fetch(entry_for(closed_address()), tmp_path / "models" / "faces")


def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("permissions of a folder don't bind this user (root or Windows)")
    try:
        with pytest.raises(DownloadError, match=r"faces\.pth can't be written in .*Permission denied"):
            fetch(entry_for(closed_address()), tmp_path)
    finally:
        tmp_path.chmod(0o755)


def test_too_little_room_is_seen_before_the_first_byte(server, tmp_path, monkeypatch):
    server.routes["/faces"] = Route()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5000, 5000))
    with pytest.raises(DownloadError, match=r"faces\.pth needs 307,200 more bytes .* 5,000 are free"):
        fetch(entry_for(server.url("/faces"), server.url("/faces")), tmp_path)
    assert list(tmp_path.iterdir()) == [] and len(server.requests) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_disk_full_in_the_middle(server, tmp_path):
    server.routes["/faces"] = Route()
    (tmp_path / "faces.pth.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"faces\.pth: the disk of .* is full"):
        fetch(entry_for(server.url("/faces")), tmp_path)


def test_hf_endpoint_replaces_hugging_face(server, tmp_path, monkeypatch):
    server.routes["/datasets/x/faces.pth"] = Route()
    entry = entry_for(closed_address(), "https://huggingface.co/datasets/x/faces.pth")
    assert addresses(entry, {})[1] == "https://huggingface.co/datasets/x/faces.pth"
    monkeypatch.setenv("HF_ENDPOINT", server.url("/"))
    assert addresses(entry)[0] == entry.url
    assert fetch(entry, tmp_path).read_bytes() == BODY


def test_hf_endpoint_leaves_lookalikes_alone():
    entry = entry_for("https://huggingface.co.evil.example/faces.pth")
    assert addresses(entry, {"HF_ENDPOINT": "https://mirror"}) == [entry.url]


def test_proxy_from_the_environment(server, tmp_path, monkeypatch):
    server.routes["/faces"] = Route()
    monkeypatch.setenv("http_proxy", server.url(""))
    assert fetch(entry_for("http://models.invalid/faces"), tmp_path).read_bytes() == BODY
    assert server.requests == [("http://models.invalid/faces", None)]


def test_two_processes_fetch_once(server, tmp_path):
    server.routes["/faces"] = Route(pause=0.03)
    entry = entry_for(server.url("/faces"))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=download, args=(entry, tmp_path)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "faces.pth").read_bytes() == BODY and only_the_file(tmp_path)
    assert len(server.requests) == 1


def test_waiting_for_another_process_reports_and_can_be_cancelled(tmp_path):
    (tmp_path / "faces.pth.part").write_bytes(BODY[:500])
    seen = []

    def cancel(done, total):
        seen.append((done, total))
        if len(seen) == 2:
            raise CancelledError

    with locked(tmp_path / ".faces.pth.lock", lambda: None), pytest.raises(CancelledError):
        fetch(entry_for(closed_address()), tmp_path, cancel)
    assert seen == [(500, len(BODY))] * 2


def test_waiter_takes_the_file_the_other_finished(tmp_path):
    holding = locked(tmp_path / ".faces.pth.lock", lambda: None)
    holding.__enter__()

    def finish(done, total):
        if not (tmp_path / "faces.pth").exists():
            (tmp_path / "faces.pth").write_bytes(BODY)
            holding.__exit__(None, None, None)

    assert fetch(entry_for(closed_address()), tmp_path, finish).read_bytes() == BODY


def test_lock_of_a_killed_process_holds_nobody(server, tmp_path):
    server.routes["/faces"] = Route()
    lock = tmp_path / ".faces.pth.lock"
    program = (
        "import pathlib, sys, time\n"
        "from codeformer_core.runtime.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), lambda: None):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    root = Path(download_module.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait()
    assert lock.exists()
    assert fetch(entry_for(server.url("/faces")), tmp_path).read_bytes() == BODY
    assert only_the_file(tmp_path)
