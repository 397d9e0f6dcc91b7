"""The lock between processes."""

import errno
import logging
import multiprocessing
import threading
from pathlib import Path

import filelock
import pytest

from codeformer_core.runtime.lock import LockError, locked

ROUNDS = 40


class GaveUpError(Exception):
    pass


def give_up():
    raise GaveUpError


def test_the_file_is_there_during_the_block_only(tmp_path):
    with locked(tmp_path / "lock", give_up):
        assert (tmp_path / "lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_block_frees_the_lock(tmp_path):
    with pytest.raises(GaveUpError), locked(tmp_path / "lock", give_up):
        raise GaveUpError
    with locked(tmp_path / "lock", give_up):
        pass


def test_a_taken_lock_asks_whether_to_wait(tmp_path):
    with locked(tmp_path / "lock", give_up):
        with pytest.raises(GaveUpError), locked(tmp_path / "lock", give_up):
            pytest.fail("the lock was given twice")
        assert (tmp_path / "lock").exists()


def test_a_waiter_gets_the_lock_when_it_is_freed(tmp_path):
    waiting, got = threading.Event(), threading.Event()

    def wait() -> None:
        with locked(tmp_path / "lock", waiting.set, poll=0.01):
            got.set()

    with locked(tmp_path / "lock", give_up):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(10) and not got.is_set()
    assert got.wait(10)
    thread.join()
    assert list(tmp_path.iterdir()) == []


def count_up(folder: Path) -> None:
    """A read and a write that lose a step wherever two processes are in the block at once."""
    for _ in range(ROUNDS):
        with locked(folder / "lock", lambda: None, poll=0.001):
            number = int((folder / "number").read_text())
            (folder / "number").write_text(str(number + 1))


def test_processes_exclude_each_other_though_the_file_is_removed_each_time(tmp_path):
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count_up, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == str(3 * ROUNDS)


def test_a_file_where_the_folder_should_be_is_a_lock_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LockError) as caught, locked(tmp_path / "file" / "lock", give_up):
        pytest.fail("there is nothing to lock")
    assert caught.value.strerror


def test_a_file_system_without_locks_runs_the_block_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(self, **options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    ran = False
    with caplog.at_level(logging.WARNING), locked(tmp_path / "lock", give_up):
        ran = True
    assert ran and "no locks" in caplog.text
