"""The ledger of a batch: what finished, so that an interrupted batch goes on.

One SQLite file. An entry is an input under a recipe, where the recipe is a digest of imgconv's
version, the kernels' numbers and every option that changes pixels or bytes. An entry is claimed
before work with a digest of the input and the outputs that were free to be made, and finished
after the outputs are published with their sizes and times. So after a SIGKILL an output is
either recorded, or belongs to a claim whose process is gone and may be made again; a file that
was there before the batch is never taken for one of its own.

Any number of processes may share a ledger: SQLite's write lock orders their claims, and a
process is alive while it holds a lock on its byte of FILE-lock, which the system drops however
the process ends. The file belongs on a local disk. Commits survive the death of the process; a
power cut may lose the last ones, and then `--skip-existing` passes over the outputs they made.
"""

import contextlib
import hashlib
import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass

import numpy as np

from imgconv import __version__
from imgconv.batch.ledger_file import CLAIMED, DONE, FAILED, Locks, connect
from imgconv.errors import OutputError
from imgconv.io import remote
from imgconv.io.publish import exists
from imgconv.io.remote import is_url
from imgconv.pipeline.settings.table import Table

_PIECE = 1 << 20


@dataclass(frozen=True)
class Stamp:
    """A file's size, time of last change in ns, and the digest of its content if it was read."""

    size: int
    mtime: int
    digest: bytes = b""


@dataclass(frozen=True)
class Claim:
    """The right to make an entry's outputs; `replace`: those that exist are the ledger's own."""

    entry: int
    stamp: Stamp | None
    replace: bool


class Taken(Exception):
    """The entry is being worked on by another live process."""


class Finished(Exception):
    """The entry is done and its outputs are as they were left."""

    def __init__(self, outputs: list[str]) -> None:
        super().__init__(outputs)
        self.outputs = outputs


def digest_of(value: object) -> bytes:
    """Digest of plain values, arrays and dataclasses of them, the same in every process."""
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, value)
    return digest.digest()


def _feed(digest: hashlib.blake2b, value: object) -> None:
    if isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype} {value.shape} ".encode() + value.tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        digest.update(type(value).__name__.encode())
        for field in fields(value):
            digest.update(field.name.encode())
            _feed(digest, getattr(value, field.name))
    elif isinstance(value, Table):
        _feed(digest, value.deciding())
    elif isinstance(value, dict):
        _feed(digest, sorted(value.items()))
    elif isinstance(value, (tuple, list)):
        digest.update(b"(")
        for item in value:
            _feed(digest, item)
            digest.update(b",")
        digest.update(b")")
    elif callable(value):
        pass  # named by the text beside it
    else:
        digest.update(f"{type(value).__name__} {value!r} ".encode())


def stamp_of(source: str) -> Stamp | None:
    """Return what identifies an input, or None where there is nothing to come back to.

    Of an object in a store that is the store's own digest: it is not fetched.
    """
    if is_url(source):
        found = remote.stamp(source)
        return found and Stamp(*found)
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(source, "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            while piece := file.read(_PIECE):
                digest.update(piece)
    except (OSError, ValueError):
        return None
    return Stamp(before.st_size, before.st_mtime_ns, digest.digest())


class Ledger:
    """An open ledger and this process's run in it. Methods may be called from any thread.

    Raises UsageError for a file that cannot be opened or is no ledger.
    """

    def __init__(
        self, path: str, recipe: object, options: dict[str, object], *,
        resume: bool = False, overwrite: bool = False,
    ) -> None:  # fmt: skip
        self.path, self.resume, self.overwrite = path, resume, overwrite
        self.recipe = digest_of([__version__, recipe, options])
        self._mutex = threading.Lock()
        self._db = connect(path, create=True)
        self._locks = Locks(path)
        shown = json.dumps({k: v for k, v in options.items() if v not in (None, False, 0)})
        with self._change() as db:
            self.run = db.execute(
                "INSERT INTO run (host, process, started, recipe, options) VALUES (?,?,?,?,?)",
                (socket.gethostname(), os.getpid(), time.time(), self.recipe, shown),
            ).lastrowid
            assert self.run is not None
            self._locks.hold(self.run)

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start."""
        with self._mutex:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise OutputError(f"{self.path}: ledger: {error}") from None

    def claim(self, source: str, outputs: list[str]) -> Claim:
        """Claim an input; raise Finished or Taken where there is nothing to do for us.

        outputs: paths that are planned, taken to be free unless they exist.
        """
        key = _key(source)
        entry = self._finished_withoutreading(key, outputs) if self.resume else None
        if entry is not None:
            raise Finished(entry)
        stamp = stamp_of(source)
        with self._change() as db:
            row = db.execute(
                "SELECT id, state, run, digest FROM entry WHERE input = ? AND recipe = ?",
                (key, self.recipe),
            ).fetchone()
            if row and row[1] == CLAIMED and row[2] != self.run and self._locks.alive(row[2]):
                raise Taken(source)
            if row and self.resume and stamp and self._stands(db, row, stamp, key, outputs):
                raise Finished(outputs)
            entry_id = self._begin(db, key, stamp)
            replace = self._may_replace(db, outputs) if self.resume else False
            free = [path for path in outputs if replace or not exists(path)]
            db.executemany(
                "INSERT OR REPLACE INTO output (path, entry) VALUES (?, ?)",
                [(_key(path), entry_id) for path in free],
            )
        return Claim(entry_id, stamp, replace or self.overwrite)

    def _finished_withoutreading(self, key: bytes, outputs: list[str]) -> list[str] | None:
        """The outputs of a done entry whose input has the size and time it had, else None."""
        status = _stat(os.fsdecode(key))
        if status is None:
            return None
        with self._mutex:
            row = self._db.execute(
                "SELECT id, size, mtime FROM entry WHERE input = ? AND recipe = ? AND state = ?",
                (key, self.recipe, DONE),
            ).fetchone()
            if not row or row[1:] != status:
                return None
            return outputs if self._intact(self._db, row[0], outputs) else None

    def _stands(
        self,
        db: sqlite3.Connection,
        row: tuple[int, str, int, bytes | None],
        stamp: Stamp,
        key: bytes,
        outputs: list[str],
    ) -> bool:
        """Whether an entry needs no work although the input's time is new or its claim died."""
        entry, state, _, digest = row
        if state == DONE:
            stands = digest == stamp.digest and self._intact(db, entry, outputs)
        else:
            # Replaced in place before the process died: doing it again would filter twice.
            in_place = [_key(path) for path in outputs] == [key]
            stands = state == CLAIMED and in_place and digest not in (None, stamp.digest)
        if stands:
            db.execute(
                "UPDATE entry SET state = ?, size = ?, mtime = ?, digest = ? WHERE id = ?",
                (DONE, stamp.size, stamp.mtime, stamp.digest, entry),
            )
            if state != DONE:
                _record_outputs(db, entry, outputs)
        return stands

    def _intact(self, db: sqlite3.Connection, entry: int, outputs: list[str]) -> bool:
        """Whether the planned outputs were recorded for the entry and all are as they were left."""
        recorded = db.execute("SELECT path, size, mtime FROM output WHERE entry = ?", (entry,))
        left = {path: stat for path, *stat in recorded}
        return all(_key(path) in left for path in outputs) and all(
            _stat(os.fsdecode(path)) == tuple(stat) for path, stat in left.items()
        )

    def _may_replace(self, db: sqlite3.Connection, outputs: list[str]) -> bool:
        """Whether every output that exists was made under this ledger and not changed since."""
        for path in outputs:
            if not exists(path):
                continue
            row = db.execute(
                "SELECT size, mtime FROM output WHERE path = ?", (_key(path),)
            ).fetchone()
            if row is None or (row[0] is not None and row != _stat(path)):
                return False
        return True

    def _begin(self, db: sqlite3.Connection, key: bytes, stamp: Stamp | None) -> int:
        size, mtime, digest = (stamp.size, stamp.mtime, stamp.digest) if stamp else (None,) * 3
        row = db.execute(
            "INSERT INTO entry (input, recipe, run, state, digest, size, mtime, at)"
            " VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (input, recipe) DO UPDATE SET"
            " run = excluded.run, state = excluded.state, digest = excluded.digest,"
            " size = excluded.size, mtime = excluded.mtime, at = excluded.at, error = NULL"
            " RETURNING id",
            (key, self.recipe, self.run, CLAIMED, digest, size, mtime, time.time()),
        ).fetchone()
        return int(row[0])

    def finish(self, claim: Claim, source: str, outputs: Iterable[str], in_place: bool) -> None:
        """Record an entry as done, with its outputs as they now are."""
        stamp = stamp_of(source) if in_place else claim.stamp
        if stamp and not in_place and _stat(source) != (stamp.size, stamp.mtime):
            stamp = None  # changed while we read it: which content was filtered is not known
        size, mtime, digest = (stamp.size, stamp.mtime, stamp.digest) if stamp else (None,) * 3
        with self._change() as db:
            db.execute(
                "UPDATE entry SET state = ?, at = ?, size = ?, mtime = ?, digest = ? WHERE id = ?",
                (DONE, time.time(), size, mtime, digest, claim.entry),
            )
            _record_outputs(db, claim.entry, outputs)

    def fail(self, claim: Claim, error: Exception) -> None:
        """Record why an entry could not be done, and let go of the outputs that were not made."""
        with self._change() as db:
            paths = db.execute("SELECT path FROM output WHERE entry = ?", (claim.entry,)).fetchall()
            missing = [path for path in paths if not exists(os.fsdecode(path[0]))]
            db.executemany("DELETE FROM output WHERE path = ?", missing)
            db.execute(
                "UPDATE entry SET state = ?, at = ?, error = ? WHERE id = ?",
                (FAILED, time.time(), str(error), claim.entry),
            )

    def close(self, completed: bool) -> None:
        """End the run; `completed`: it came to the end of its inputs."""
        if completed:
            with self._change() as db:
                db.execute("UPDATE run SET ended = ? WHERE id = ?", (time.time(), self.run))
        with self._mutex, contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._locks.close()


def _record_outputs(db: sqlite3.Connection, entry: int, outputs: Iterable[str]) -> None:
    db.execute("DELETE FROM output WHERE entry = ?", (entry,))
    db.executemany(
        "INSERT OR REPLACE INTO output (path, entry, size, mtime) VALUES (?, ?, ?, ?)",
        [(_key(path), entry, *(_stat(path) or (None, None))) for path in outputs],
    )


def _key(path: str) -> bytes:
    if path.startswith("sample:") or is_url(path):
        return os.fsencode(path)
    return os.fsencode(os.path.abspath(path))


def _stat(path: str) -> tuple[int, int] | None:
    if is_url(path):
        found = remote.stamp(path)
        return found and found[:2]
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
