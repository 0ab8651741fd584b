"""Writing files so that nothing is ever half there, and keeping a folder to oneself.

with exclusive(folder):                     # no second process
    with replacing(path) as temporary:      # on any fault the old file stays as it was
        temporary.write_bytes(...)
    with publishing(folder) as draft:       # several files: all of them, or none
        (draft / "results.json").write_text(...)
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

LOCK, HOLDER = ".lock", ".running"
LEFTOVER = re.compile(r"\..+\.\d+\.tmp(\.\w+)?")


class OccupiedError(Exception):
    """Another process holds the folder; the message says which."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is synced to disk and moved onto `path`.

    On any exception the temporary file is removed and what stood at `path` is untouched. The
    temporary name keeps the suffix, since writers choose their format by it.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """Yields an empty folder for drafts; on success all files in it are moved into `folder`, which is made if need be.

    On any exception the drafts are removed and `folder` is untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".draft.{os.getpid()}.tmp"
    draft.mkdir()
    try:
        yield draft
        for path in sorted(draft.iterdir()):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process left of `replacing` and `publishing`; to be called by who holds the folder."""
    for left in [path for path in folder.iterdir() if LEFTOVER.fullmatch(path.name)]:
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the folder against other processes, until it is left or the process ends, however it does.

    Raises:
        OccupiedError: another process holds it.
    """
    from filelock import FileLock, Timeout

    holder = folder / HOLDER
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        try:
            who = holder.read_text(encoding="utf-8")
        except OSError:  # it has only just come
            who = "another process"
        raise OccupiedError(who) from None
    try:
        remove_leftovers(folder)
        holder.write_text(f"process {os.getpid()}, since {datetime.now():%Y-%m-%d %H:%M:%S}", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()
