"""What a run has to do: all images of the archive with their state, in a file, because they may be too many for memory.

The file is made anew from the listing and the journal by each run.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ...runtime.errors import ExistingFileError
from .source import BulkSource
from .storage import printable

WAITING, DONE, FAILED, UNCHANGED = 0, 1, 2, 3
_TABLES = """
CREATE TABLE finished (key TEXT PRIMARY KEY, result BLOB UNIQUE, name BLOB) WITHOUT ROWID;
CREATE TABLE images (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, result BLOB UNIQUE, source TEXT, state INTEGER,
    attempts INTEGER DEFAULT 0, stage TEXT DEFAULT '', reason TEXT DEFAULT ''
);
"""
# Rows that are read together.
_ROWS = 1000


@dataclass(frozen=True)
class Failure:
    """An image that could not be restored.

    stage: in which step.
    attempts: how often it was tried.
    """

    source: BulkSource
    stage: str
    reason: str
    attempts: int


class Index:
    def __init__(self, path: Path) -> None:
        """path: a file that isn't there."""
        self._connection = sqlite3.connect(path, isolation_level=None)
        # What a crash destroys is made anew anyway.
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        self._connection.close()

    def add_finished(self, finished: Iterable[tuple[str, str, str]]) -> None:
        """finished: keys of images that another run has done, with the places of their results and their names.

        Of two that have the same place, the later one counts: its result has replaced the other.
        """
        rows = ((key, _stored(result), _stored(name)) for key, result, name in finished)
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT OR REPLACE INTO finished VALUES (?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def add(self, sources: Iterable[tuple[BulkSource, str]]) -> Iterator[int]:
        """Takes in the images, an image that is named twice once; yields how many there are, now and then.

        sources: each with the place of its result.
        Raises ValueError where two images would get the same result, ExistingFileError where one would replace the
        result that another run has made of another image.
        """
        connection = self._connection
        connection.execute("BEGIN")
        count = 0
        for source, result in sources:
            key = source.key
            done = connection.execute("SELECT 1 FROM finished WHERE key = ?", (key,)).fetchone() is not None
            if not done:
                self._check_free(source, result)
            row = (key, _stored(result), json.dumps(source.as_record()), UNCHANGED if done else WAITING)
            try:
                connection.execute("INSERT INTO images (key, result, source, state) VALUES (?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:
                other = connection.execute("SELECT key, source FROM images WHERE result = ?", row[1:2]).fetchone()
                if other is None or other[0] == key:
                    continue
                raise ValueError(
                    f"{_source(other[1]).name} and {source.name} would both be written to {result}: rename one of "
                    "them, or restore them into different targets"
                ) from None
            count += 1
            if count % _ROWS == 0:
                yield count
        connection.execute("COMMIT")
        yield count

    def _check_free(self, source: BulkSource, result: str) -> None:
        query = "SELECT name FROM finished WHERE result = ?"
        found = self._connection.execute(query, (_stored(result),)).fetchone()
        if found is not None and found[0] != _stored(source.name):
            raise ExistingFileError(
                f"{result} in the target is the result of {os.fsdecode(found[0])}, which that of {source.name} would "
                "replace: restore it into another target"
            )

    def waiting(self, *, at_random: int = 0) -> Iterator[BulkSource]:
        """What is to be done, in the order of the listing. Results may be marked in the meantime.

        at_random: so many of them instead, any.
        """
        if at_random:
            # Keys are digests, so their order is chance.
            query = "SELECT source FROM images WHERE state = ? ORDER BY key LIMIT ?"
            yield from (_source(text) for (text,) in self._connection.execute(query, (WAITING, at_random)).fetchall())
            return
        last = -1
        query = "SELECT id, source FROM images WHERE state = ? AND id > ? ORDER BY id LIMIT ?"
        while rows := self._connection.execute(query, (WAITING, last, _ROWS)).fetchall():
            yield from (_source(text) for _, text in rows)
            last = rows[-1][0]

    def mark_done(self, key: str) -> bool:
        """False where it was done already."""
        query = "UPDATE images SET state = ? WHERE key = ? AND state != ?"
        return self._connection.execute(query, (DONE, key, DONE)).rowcount == 1

    def note_failure(self, key: str, stage: str, reason: str) -> None:
        """The image stays waiting; its last failure is remembered."""
        query = "UPDATE images SET attempts = attempts + 1, stage = ?, reason = ? WHERE key = ? AND state = ?"
        self._connection.execute(query, (stage, printable(reason), key, WAITING))

    def give_up(self, attempts: int) -> None:
        """What still waits has failed.

        attempts: how often all of it was tried.
        """
        lost = "its worker ended without a word, as with too little memory, every time it was tried"
        query = "UPDATE images SET state = ?, attempts = ?, reason = CASE reason WHEN '' THEN ? ELSE reason END "
        query += "WHERE state = ?"
        self._connection.execute(query, (FAILED, attempts, lost, WAITING))

    def count(self, *states: int) -> int:
        marks = ", ".join("?" * len(states))
        query = f"SELECT COUNT(*) FROM images WHERE state IN ({marks})"
        return int(self._connection.execute(query, states).fetchone()[0])

    def failures(self) -> Iterator[Failure]:
        query = "SELECT source, stage, reason, attempts FROM images WHERE state = ? ORDER BY id"
        for text, stage, reason, attempts in self._connection.execute(query, (FAILED,)):
            yield Failure(_source(text), stage, reason, attempts)


def _stored(text: str) -> bytes:
    """SQLite has no text for names that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _source(text: str) -> BulkSource:
    return BulkSource(**cast("dict[str, Any]", json.loads(text)))
