"""The journal: results of trainings on disk, so that a search that is killed at any moment can be resumed.

    with open_journal(output_dir, 3, identity, fresh=False, notices=notices) as journal:
        journal.find(Key(trial, epochs=20))                               # the result, or None
        journal.append(Key(trial, epochs=20), result, with_weights=False)

Each training appends a line to the file `journal_latent3.jsonl` (`records.py`). If the program is killed, only the last
line can be damaged; a damaged line is dropped and its trial is trained again. Weights are kept only if training them
again would take long or if they are those of the chosen model. A long trial has its own checkpoint until it is finished
(`checkpoints.py`).
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from layersearch.errors import UsageError
from layersearch.journal.checkpoints import Checkpoints
from layersearch.journal.records import (
    NOTHING,
    UNREADABLE,
    Identity,
    Key,
    Records,
    checksum,
    encode_result,
    encode_weights,
    read_identity,
    read_records,
    to_json,
    write_records,
)
from layersearch.space.trials import TrialResult
from layersearch.words import count

SYNC_SECONDS = 1.0  # interval at which appended lines are flushed to the disk with fsync
WORDING = "because"  # an entry of an identity that is not compared, but explains why the data may differ


def open_journal(folder: Path, latent_dim: int, identity: Identity, *, fresh: bool, notices: list[str]) -> Journal:
    """Opens the journal in `folder` to resume its search, or starts a new one.

    Args:
        folder: The folder of the journal.
        latent_dim: Latent dimension, which is part of the file's name.
        identity: Everything that shapes the trials of this search.
        fresh: Whether to start a new journal beside the old one, which it replaces when its search is complete. Until
            then both are kept, and a later run resumes the one whose identity equals its own.
        notices: A list to which a line is added for each damage that is found.

    Raises:
        UsageError: The journal belongs to another search; the message names the differences.
    """
    path = folder / f"journal_latent{latent_dim}.jsonl"
    new = folder / f"journal_latent{latent_dim}.new.jsonl"
    others: list[str] = []
    for candidate in () if fresh else (new, path):
        theirs = _identity_or_set_aside(candidate, notices) if candidate.exists() else None
        if theirs is None:
            continue
        if _compared(theirs) == _compared(identity):
            records = read_records(candidate)
            if records.n_damaged:
                dropped = count(records.n_damaged, "record")
                notices.append(f"{candidate}: {dropped} damaged at its end or within, and dropped; it is made again")
            return Journal(candidate, path, records)
        others.append(f"{candidate} belongs to another search ({_difference(theirs, identity)})")
    if others:
        raise UsageError(f"{others[-1]}; give another --output_dir, or --fresh to train anew")
    start = new if fresh and (path.exists() or new.exists()) else path
    records = Records(identity, secrets.token_hex(8))
    write_records(start, records)
    return Journal(start, path, records, is_fresh=fresh)


class Journal:
    """The trainings of one search, in memory and on disk. Only `checkpoints` may be used by several threads."""

    def __init__(self, path: Path, final_path: Path, records: Records, *, is_fresh: bool = False) -> None:
        self.path = path
        self.is_fresh = is_fresh  # started anew, although an older journal may exist
        self._final_path = final_path
        self._records = records
        if not records.is_sound:
            write_records(path, records)
        self._open()

    def _open(self) -> None:
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - closed by __exit__
        self._is_synced, self._last_sync = True, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._file.closed:
            with suppress(OSError):
                self.sync(at_once=True)
        self._file.close()

    @property
    def last_finished(self) -> datetime:
        """The time at which the last training finished. Raises ValueError if there is none."""
        return max(map(datetime.fromisoformat, self._records.finished.values()))

    @property
    def n_finished(self) -> int:
        """Number of trainings in the journal."""
        return len(self._records.results)

    @property
    def digest(self) -> str:
        """Digest of the identity, which names the search."""
        return checksum(to_json(_compared(self._records.identity)))

    def find(self, key: Key) -> TrialResult | None:
        """Returns the result of a training, with its weights if these were kept; None if there is no result."""
        result = self._records.results.get(key)
        weights = self._records.weights.get(key)
        return result if result is None or weights is None else replace(result, parameters=weights)

    def append(self, key: Key, result: TrialResult, *, with_weights: bool) -> None:
        """Appends the result of a training, unless it did not fit into memory: there may be more memory next time.

        Raises:
            OSError: The line could not be written; the file is unchanged.
        """
        if result.out_of_memory:
            return
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self._records.results[key] = replace(result, parameters=NOTHING)
        self._records.finished[key] = now
        self._write(encode_result(key, result, now))
        if with_weights:
            self.append_weights(key, result)

    def append_weights(self, key: Key, result: TrialResult) -> None:
        """Appends the weights of a training whose result was appended."""
        if result.parameters.size and key not in self._records.weights:
            self._records.weights[key] = result.parameters
            self._write(encode_weights(key, result.parameters))

    def sync(self, *, at_once: bool = False) -> None:
        """Flushes the appended lines to the disk, unless this was done in the last `SYNC_SECONDS`.

        Call it regularly during a search. If the file has been removed, it is written again.

        Args:
            at_once: Whether to flush in any case.

        Raises:
            OSError: The lines could not be flushed, or another process has replaced the file.
        """
        if not at_once and time.monotonic() - self._last_sync < SYNC_SECONDS:
            return
        self._last_sync = time.monotonic()
        if not self._is_synced:
            os.fsync(self._file.fileno())
            self._is_synced = True
        if not self.path.exists():
            self._rewrite()  # the file or its folder was removed
        elif not os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno())):
            raise OSError(f"{self.path}: replaced by another process; is there a second search in this folder?")

    def complete(self, chosen: TrialResult | None, epochs: int) -> None:
        """Removes what only an unfinished search needs; called after its results have been written.

        Only the weights of `chosen` are kept. A journal that was started anew replaces the old one.
        """
        keep = {Key(chosen.trial, epochs)} if chosen else set()
        superfluous = self._records.weights.keys() - keep
        for key in superfluous:
            del self._records.weights[key]
        if superfluous:
            self._rewrite()
        done_with = f"{self._checkpoint_prefix}*.npz"
        if self.path != self._final_path:
            self._file.close()
            os.replace(self.path, self._final_path)
            self.path = self._final_path
            self._open()
            done_with = f"{self._checkpoints}*.npz"  # also the checkpoints of the replaced search
        for left in self.path.parent.glob(done_with):
            left.unlink(missing_ok=True)

    def checkpoints(self, epochs: int) -> Checkpoints:
        """Returns the checkpoints of this search's unfinished trials of `epochs` epochs."""
        return Checkpoints(self.path.parent, self._checkpoint_prefix, epochs)

    @property
    def _checkpoints(self) -> str:
        return self._final_path.stem.replace("journal", "checkpoint") + "_"

    @property
    def _checkpoint_prefix(self) -> str:
        return self._checkpoints + self._records.run

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._file.fileno()).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(size)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._is_synced = False

    def _rewrite(self) -> None:
        self._file.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_records(self.path, self._records)
        self._open()


# Which search a journal belongs to


def _identity_or_set_aside(path: Path, notices: list[str]) -> Identity | None:
    """Returns the identity in a journal; renames the file and adds a notice if its first line is damaged."""
    try:
        return read_identity(path)
    except UNREADABLE:
        names = (path.with_suffix(f".damaged{number or ''}") for number in itertools.count())
        aside = next(name for name in names if not name.exists())
        os.replace(path, aside)
        notices.append(f"{path} is damaged at its start and was set aside as {aside.name}; all is trained again")
        return None


def _compared(identity: Identity) -> Identity:
    return {name: value for name, value in identity.items() if name != WORDING}


def _difference(theirs: Identity, ours: Identity) -> str:
    """Describes the differences between two identities: `--epochs 50, now 20`."""
    differences = []
    for name in _differing(_compared(theirs), _compared(ours)):
        if name != "data":
            differences.append(_difference_in(name, theirs, ours))
            continue
        reasons = [reason.get(WORDING, {}) for reason in (theirs, ours)]
        causes = [_difference_in(cause, *reasons) for cause in _differing(*reasons)]
        differences += causes or ["the table, read in another way"]
    return "; ".join(dict.fromkeys(differences))


def _differing(theirs: Identity, ours: Identity) -> list[str]:
    return [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]


def _difference_in(name: str, theirs: Identity, ours: Identity) -> str:
    if name in ("table", "program", "arithmetic"):
        return f"another {name}"
    return f"{name} {theirs.get(name)!r}, now {ours.get(name)!r}"
