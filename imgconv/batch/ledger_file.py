"""The file of a ledger: its tables in SQLite, and the locks that tell which runs are alive."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator

from imgconv.errors import UsageError

DEFAULT = "imgconv-ledger.sqlite"
CLAIMED, DONE, FAILED = "claimed", "done", "failed"
_PATIENCE = 60  # seconds that a lock is waited for
_APPLICATION = 0x696D6763
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY, host TEXT NOT NULL, process INTEGER NOT NULL,
    started REAL NOT NULL, ended REAL, recipe BLOB NOT NULL, options TEXT NOT NULL);
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, input BLOB NOT NULL, recipe BLOB NOT NULL, run INTEGER NOT NULL,
    state TEXT NOT NULL, digest BLOB, size INTEGER, mtime INTEGER, at REAL NOT NULL, error TEXT,
    UNIQUE (input, recipe));
CREATE TABLE output (
    path BLOB PRIMARY KEY, entry INTEGER NOT NULL, size INTEGER, mtime INTEGER) WITHOUT ROWID;
CREATE INDEX entry_state ON entry (state);
CREATE INDEX output_entry ON output (entry);
"""


class Locks:
    """One byte of FILE-lock for each run, locked while its process lives.

    `alive` tries the lock, so it is called within a write transaction, or on a run that nobody
    claims from: two who tried at once would see each other. A process never asks after itself,
    since locks of one process do not exclude each other.
    """

    def __init__(self, path: str) -> None:
        self._own: int | None = None
        self._file = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def hold(self, run: int) -> None:
        import fcntl

        self._own = run
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, run)

    def alive(self, run: int) -> bool:
        import fcntl

        if run == self._own:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, run)
        except OSError:
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, run)
        return False

    def close(self) -> None:
        os.close(self._file)


def connect(path: str, create: bool) -> sqlite3.Connection:
    if not create and not os.path.isfile(path):
        raise UsageError(f"{path}: no such ledger; --ledger or --resume makes one")
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return _opened(path, create)
        except sqlite3.Error as error:
            # SQLite itself does not wait where two processes make a ledger's log at once.
            if "locked" not in str(error) or time.monotonic() > end:
                raise UsageError(f"{path}: not a ledger that can be used: {error}") from None
            time.sleep(0.01)


def _opened(path: str, create: bool) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        # A file of this name may have come with the folder: nothing that it defines is trusted.
        db.execute("PRAGMA trusted_schema = OFF")
        application, version = _pragma(db, "application_id"), _pragma(db, "user_version")
        if application != _APPLICATION:
            if application or not create or db.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise UsageError(f"{path}: an SQLite file of another program, expected a ledger")
            _create(db)
        elif version != _SCHEMA_VERSION:
            raise UsageError(f"{path}: ledger of version {version}, expected {_SCHEMA_VERSION}")
        # A commit without its own fsync takes 0.2 ms instead of 4.8 ms.
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        db.close()
        raise
    return db


def _create(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    if _pragma(db, "application_id") != _APPLICATION:
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    db.execute("COMMIT")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


@contextlib.contextmanager
def reading(path: str) -> Iterator[sqlite3.Connection]:
    db = connect(path, create=False)
    try:
        yield db
    except sqlite3.Error as error:
        raise UsageError(f"{path}: not a ledger that can be used: {error}") from None
    finally:
        db.close()
