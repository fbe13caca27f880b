"""Names on disk: which input an output path belongs to, for batches of any length."""

import hashlib
import os
import threading


class SpilledNames:
    """A map from output paths to what made them, in a temporary file that nobody else sees.

    A dictionary would take 400 bytes a file: 40 GB for 100 million. Safe to use from any thread.
    """

    def __init__(self) -> None:
        import sqlite3

        self._mutex = threading.Lock()
        # An empty name is SQLite's private temporary database; pages beyond the cache go to disk.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -4096"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.execute(
            "CREATE TABLE name (digest BLOB PRIMARY KEY, origin BLOB NOT NULL) WITHOUT ROWID"
        )

    def setdefault(self, path: str, origin: str) -> str:
        """Return what the path belongs to; `origin` where it belonged to nothing."""
        digest = hashlib.blake2b(os.fsencode(path), digest_size=16).digest()
        with self._mutex:
            added = self._db.execute(
                "INSERT OR IGNORE INTO name VALUES (?, ?)", (digest, os.fsencode(origin))
            ).rowcount
            if added:
                return origin
            found = self._db.execute("SELECT origin FROM name WHERE digest = ?", (digest,))
            return os.fsdecode(found.fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
