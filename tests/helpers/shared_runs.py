"""Runs of the command that many tests look at, made once in a test session and shared by all its workers.

done = shared_runs.make_once("folds", lambda folder: run(folder, "--data_path", table, *FOLDED))

pytest-xdist runs a session fixture once in each worker process. What is made here is kept in a folder that all workers
see, under a lock, as its documentation describes:
https://pytest-xdist.readthedocs.io/en/stable/how-to.html#making-session-scoped-fixtures-execute-only-once
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock  # comes with torch

Made = TypeVar("Made")


class SharedRuns:
    """Makes each thing once in a test session.

    Args:
        place: A folder that all workers of the session see.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._made: dict[str, object] = {}
        self._digests: dict[str, str] = {}

    def make_once(self, name: str, make: Callable[[Path], Made]) -> Made:
        """Returns what `make` returned when it was first called under this name, in any worker.

        Args:
            name: The name of the folder that `make` gets; unique among all tests.
            make: Is given the path of a folder, which it may make and fill. What it returns must be picklable.
        """
        if name not in self._made:
            record = self.place / f"{name}.pickle"
            with FileLock(f"{record}.lock"):
                if not record.exists():
                    made = make(self.place / name)
                    record.write_bytes(pickle.dumps((made, _digest(self.place / name))))
            self._made[name], self._digests[name] = pickle.loads(record.read_bytes())
        return self._made[name]  # type: ignore[return-value]

    def assert_untouched(self) -> None:
        """Fails if a test has changed a file of what this worker looked at."""
        touched = [name for name, digest in self._digests.items() if _digest(self.place / name) != digest]
        assert not touched, f"tests have changed what others look at: {touched}"


def open_shared_runs(factory: pytest.TempPathFactory) -> SharedRuns:
    """Returns the runs of this test session, whose folder is that of the session's temporary files."""
    base = factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    place.mkdir(exist_ok=True)
    return SharedRuns(place)


def _digest(folder: Path) -> str:
    """Returns a digest of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()
