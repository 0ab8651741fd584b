"""Writes files atomically, and locks a folder against other processes.

with exclusive(folder):                     # HeldError if another process uses the folder
    with replacing(path) as temporary:      # on any exception the old file is unchanged
        temporary.write_bytes(...)
    with publishing(folder) as draft:       # replaces several files, or on any exception none
        (draft / "results.json").write_text(...)
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

LOCK, HOLDER = ".lock", ".running"
PROGRAM = Path(__file__).resolve().parent.parent  # the folder of hyperparam_optimizer.py
INTERRUPTED = "interrupted"  # subfolder for the results of an interrupted search, if complete ones exist already
DRAFTS, REPLACED = ".hyperparam_drafts.", ".replaced"
LEFTOVER = re.compile(r"\.(journal|checkpoint)_latent\d+\S*\.\d+\.tmp\.\w+")  # matches only the program's own files


class HeldError(Exception):
    """Raised if another process uses the folder; the message says which, and what to do."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; on success it is synced to disk and renamed to `path`.

    On any exception the temporary file is removed and `path` is unchanged. The temporary name has the same suffix,
    since writers choose their format by it.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    folder = path.parent.parent if path.parent.name.startswith(DRAFTS) else path.parent
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # report the path that the user knows
            raise OSError(error.errno, error.strerror or str(error), str(folder / path.name)) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Syncs the entries of a folder to disk, on systems that support it."""
    with suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def drafting(folder: Path) -> Iterator[Path]:
    """Yields an empty temporary folder in `folder`, which is removed at the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    drafts = Path(tempfile.mkdtemp(prefix=DRAFTS, dir=folder))
    try:
        yield drafts
    finally:
        shutil.rmtree(drafts, ignore_errors=True)


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """Yields a folder for drafts; on success all files in it are moved into `folder`, which is created if necessary.

    On any exception the drafts are removed and `folder` is unchanged. If the process is killed while files are being
    moved, the next `remove_leftovers` moves the rest.
    """
    with drafting(folder) as drafts:
        yield drafts
        _move_all(drafts, folder)


def _move_all(drafts: Path, folder: Path) -> None:
    """Moves all files in `drafts` into `folder`, or on any exception none."""
    replaced = drafts / REPLACED
    replaced.mkdir()  # this also tells `remove_leftovers` that the drafts are complete
    begun: list[Path] = []
    try:
        for path in sorted(path for path in drafts.iterdir() if path.is_file()):
            target = folder / path.name
            if target.is_dir() and not target.is_symlink():
                raise IsADirectoryError(f"{target} is a folder")
            begun.append(target)
            if os.path.lexists(target):
                os.replace(target, replaced / path.name)
            os.replace(path, target)
        _sync_folder(folder)
    except BaseException:
        for target in begun:
            if not os.path.lexists(drafts / target.name):
                os.replace(target, drafts / target.name)
            if os.path.lexists(replaced / target.name):
                os.replace(replaced / target.name, target)
        raise


def remove_leftovers(folder: Path) -> None:
    """Finishes or removes the temporary files of a killed process; call it only within `exclusive`."""
    for left in list(folder.iterdir()):
        if LEFTOVER.fullmatch(left.name):
            left.unlink(missing_ok=True)
        elif left.name.startswith(DRAFTS) and left.is_dir() and not left.is_symlink():
            if (left / REPLACED).is_dir():  # the process was killed while moving files
                for path in [path for path in left.iterdir() if path.is_file()]:
                    os.replace(path, folder / path.name)
            shutil.rmtree(left, ignore_errors=True)


def _write_holder(path: Path) -> None:
    try:
        path.write_text(f"process {os.getpid()}, since {datetime.now():%Y-%m-%d %H:%M:%S}", encoding="utf-8")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Locks a folder against other processes within the block, and removes the leftovers of a killed process.

    The operating system releases the lock when the process ends, even if it is killed.

    Raises:
        HeldError: another process has locked the folder, or it cannot be locked.
    """
    from filelock import FileLock, Timeout

    holder = folder / HOLDER
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        try:
            who = holder.read_text(encoding="utf-8")
        except OSError:  # the other process has not written its name yet
            who = "another process"
        raise HeldError(f"another run is at work there ({who}); wait, or give another") from None
    except OSError as error:
        raise HeldError(f"it cannot be locked ({error}); give another") from None
    try:
        for place in (folder, folder / INTERRUPTED):
            if place.is_dir():
                remove_leftovers(place)
        _write_holder(holder)
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


SAMPLE_PATH = PROGRAM / "data" / "sample.csv"


def refuse_shadows(names: Iterable[str]) -> None:
    """Checks that these top-level modules are the program's own, not files of the same name found first on sys.path.

    Raises:
        ImportError: another file, for example in the folder of a notebook, would be imported; the message names it.
    """
    for name in names:
        loaded = sys.modules.get(name)
        spec = getattr(loaded, "__spec__", None) if loaded else find_spec(name)
        found = Path(spec.origin) if spec and spec.origin else None
        if found and found.resolve() != PROGRAM / f"{name}.py":
            raise ImportError(
                f"{found} is in the way of {PROGRAM / f'{name}.py'}, since Python finds it first; "
                "rename it, or move it out of the folder that you import from",
                name=name,
                path=str(found),
            )
