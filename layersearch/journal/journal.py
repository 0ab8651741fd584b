"""What is trained already, on disk: so that a search that is killed at any moment goes on where it was.

    with open_journal(output_dir, 3, identity, fresh=False, notices=notices) as journal:
        journal.find(trial, epochs=20)                              # its result, or None
        journal.append(result, epochs=20, with_weights=False)       # on disk before the next one

One file, `journal_latent3.jsonl`, a record a line: JSON behind a checksum. The first says which search it belongs to.
A kill can only tear the last line; a line with a wrong checksum is dropped and its trial trained again. Weights are
kept where to train them again would take long, and of the chosen model. The state of a trial that takes long lies in a
file of its own (`checkpoints.py`) until it is finished.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from layersearch.errors import UsageError
from layersearch.files import replacing
from layersearch.journal.checkpoints import Checkpoints
from layersearch.space.configurations import Layers, Variant, layers_of, options_of
from layersearch.space.trials import Trial, TrialResult
from layersearch.words import count

SYNC_SECONDS = 1.0  # after which what is appended is on the disk, as far as the system's fsync goes
NOTHING = np.empty(0, dtype=np.float32)
UNREADABLE = (ValueError, KeyError, TypeError)  # what a damaged line raises, or one that another program has made
Identity = Mapping[str, Any]  # all that shapes a trial, by name, in what JSON knows
WORDING = "because"  # in an identity: not compared, but says why the data may differ


class Key(NamedTuple):
    """A training: a probe trains the same trial for more epochs."""

    trial: Trial
    epochs: int
    pause_after: int | None = None


@dataclass
class Records:
    """What a journal holds."""

    identity: Identity
    run: str  # random; a search that is started anew gets another
    results: dict[Key, TrialResult] = field(default_factory=dict)  # without weights
    weights: dict[Key, np.ndarray] = field(default_factory=dict)  # [P] float32
    finished: dict[Key, str] = field(default_factory=dict)  # when, ISO 8601 with an offset
    n_damaged: int = 0  # lines that were dropped
    is_sound: bool = True  # every line is whole


def open_journal(folder: Path, latent_dim: int, identity: Identity, *, fresh: bool, notices: list[str]) -> Journal:
    """Goes on with the journal in `folder`, or starts one.

    With `fresh` a new one is started beside it, which takes its place when it is complete; until then both are kept,
    and a later run goes on with the one that is its own. `notices` gets a line for every damage found.

    Raises:
        UsageError: what is there belongs to another search; the message names what differs.
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
    return Journal(start, path, records)


class Journal:
    """The trainings of one search, in memory and on disk. For one thread, but for `checkpoints`."""

    def __init__(self, path: Path, final_path: Path, records: Records) -> None:
        self.path = path
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
        """When the last training was finished. Raises ValueError where none is."""
        return max(map(datetime.fromisoformat, self._records.finished.values()))

    @property
    def n_finished(self) -> int:
        """How many trainings it holds."""
        return len(self._records.results)

    @property
    def digest(self) -> str:
        """Which search it belongs to."""
        return _digest(_to_json(_compared(self._records.identity)))

    def find(self, key: Key) -> TrialResult | None:
        """The result of this training, with its weights where they were kept; None if there is none."""
        result = self._records.results.get(key)
        weights = self._records.weights.get(key)
        return result if result is None or weights is None else replace(result, parameters=weights)

    def append(self, key: Key, result: TrialResult, *, with_weights: bool) -> None:
        """Keeps the result of a training. One for which there was no memory is not kept: there may be more next time.

        Raises:
            OSError: it could not be written; what was there before is as it was.
        """
        if result.out_of_memory:
            return
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self._records.results[key] = replace(result, parameters=NOTHING)
        self._records.finished[key] = now
        self._write(_encode_result(key, result, now))
        if with_weights:
            self.append_weights(key, result)

    def append_weights(self, key: Key, result: TrialResult) -> None:
        """Keeps the weights of a training whose result is kept."""
        if result.parameters.size and key not in self._records.weights:
            self._records.weights[key] = result.parameters
            self._write(_encode_weights(key, result.parameters))

    def sync(self, *, at_once: bool = False) -> None:
        """Brings what was appended to the disk, if that was not done in the last `SYNC_SECONDS`.

        To be called every now and then. A journal that has vanished is written anew. `at_once`: do not wait.

        Raises:
            OSError: it could not; or another process has put a file in the journal's place.
        """
        if not at_once and time.monotonic() - self._last_sync < SYNC_SECONDS:
            return
        self._last_sync = time.monotonic()
        if not self._is_synced:
            os.fsync(self._file.fileno())
            self._is_synced = True
        if not self.path.exists():
            self._rewrite()  # someone removed it, or the whole folder
        elif not os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno())):
            raise OSError(f"{self.path}: replaced by another process; is there a second search in this folder?")

    def complete(self, chosen: TrialResult | None, epochs: int) -> None:
        """The search is finished and reported: drops what only an unfinished one needs.

        Of all weights those of `chosen` stay. A journal that was started anew takes the place of the old one.
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
            done_with = f"{self._checkpoints}*.npz"  # of the search that this one has replaced, too
        for left in self.path.parent.glob(done_with):
            left.unlink(missing_ok=True)

    def checkpoints(self, epochs: int) -> Checkpoints:
        """Where the states of trials of so many epochs are kept while they are trained."""
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


# Files


def write_records(path: Path, records: Records) -> None:
    """Writes a whole journal, in place of the one that may be there."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(_encode({"kind": "search", "identity": records.identity, "run": records.run}))
        for key, result in records.results.items():
            file.write(_encode_result(key, result, records.finished[key]))
        for key, weights in records.weights.items():
            file.write(_encode_weights(key, weights))


def read_records(path: Path) -> Records:
    """Reads a journal without its damaged lines. Raises one of UNREADABLE if the first is among them."""
    with open(path, "rb") as file:
        line = file.readline()
        first = _decode(line)
        records = Records(dict(first["identity"]), first["run"])
        for line in file:
            try:
                _take(records, _decode(line))
            except UNREADABLE:
                records.n_damaged += 1
    records.is_sound = line.endswith(b"\n") and not records.n_damaged
    records.weights = {key: weights for key, weights in records.weights.items() if key in records.results}
    return records


def _identity_or_set_aside(path: Path, notices: list[str]) -> Identity | None:
    """Which search a journal belongs to. One whose first line does not tell is renamed; `notices` gets a line."""
    try:
        with open(path, "rb") as file:
            first = _decode(file.readline())
        str(first["run"])
        return dict(first["identity"])
    except UNREADABLE:
        names = (path.with_suffix(f".damaged{number or ''}") for number in itertools.count())
        aside = next(name for name in names if not name.exists())
        os.replace(path, aside)
        notices.append(f"{path} is damaged at its start and was set aside as {aside.name}; all is trained again")
        return None


def _take(records: Records, record: Mapping[str, Any]) -> None:
    key = _key_of(record)
    if record["kind"] == "weights":
        records.weights[key] = _array(record["parameters"], "<f4")
        return
    validation = record["validation_losses"]
    records.results[key] = TrialResult(
        trial=key.trial,
        train_losses=_array(record["train_losses"], "<f8"),
        test_losses=_array(record["test_losses"], "<f8"),
        final_train_loss=record["final_train_loss"],
        final_test_loss=record["final_test_loss"],
        row_errors=_array(record["row_errors"], "<f4").reshape(-1, 2),
        parameters=NOTHING,
        seconds=record["seconds"],
        failed_epoch=record["failed_epoch"],
        is_paused=record["is_paused"],
        best_epoch=record["best_epoch"],
        validation_losses=None if validation is None else _array(validation, "<f8"),
    )
    records.finished[key] = record["finished"]


# Lines


PLAIN = ("final_train_loss", "final_test_loss", "seconds", "failed_epoch", "is_paused", "best_epoch")
ARRAYS = ("train_losses", "test_losses", "validation_losses", "row_errors")


def _encode_result(key: Key, result: TrialResult, finished: str) -> bytes:
    plain = {name: getattr(result, name) for name in PLAIN}
    arrays = {name: getattr(result, name) for name in ARRAYS}
    texts = {name: None if array is None else _text(array) for name, array in arrays.items()}
    return _encode({"kind": "trial", **_key_fields(key), "finished": finished, **plain, **texts})


def _encode_weights(key: Key, weights: np.ndarray) -> bytes:
    return _encode({"kind": "weights", **_key_fields(key), "parameters": _text(weights)})


def _key_fields(key: Key) -> dict[str, Any]:
    trial = key.trial
    options = {"options": options_of(trial.config)} if isinstance(trial.config, Variant) else {}
    of_trial = {"config": layers_of(trial.config), **options, "repeat": trial.repeat, "fold": trial.fold}
    return {**of_trial, "epochs": key.epochs, "pause_after": key.pause_after}


def _key_of(record: Mapping[str, Any]) -> Key:
    layers, options = _tuples(record["config"]), record.get("options")
    config = layers if options is None else Variant(layers, tuple(options.items()))
    trial = Trial(config, record["repeat"], record["fold"])
    return Key(trial, record["epochs"], record["pause_after"])


def _tuples(layers: list[Any]) -> Layers:
    return tuple(_tuples(part) if isinstance(part, list) else part for part in layers)


def _text(array: np.ndarray) -> str:
    """An array's bytes, little-endian, as base64."""
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()).decode()


def _array(text: str, dtype: str) -> np.ndarray:
    values: np.ndarray = np.frombuffer(base64.b64decode(text), dtype=dtype)
    return values.astype(values.dtype.newbyteorder("="))  # a copy, since these bytes cannot be written to


def _encode(record: Mapping[str, Any]) -> bytes:
    text = _to_json(record)
    return f"{_digest(text)} {text}\n".encode()


def _decode(line: bytes) -> dict[str, Any]:
    """The record of a line. Raises ValueError where it is damaged."""
    digest, _, text = line.decode().rstrip("\n").partition(" ")
    if digest != _digest(text):
        raise ValueError("the checksum is wrong")
    record: dict[str, Any] = json.loads(text)
    return record


def _to_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _compared(identity: Identity) -> Identity:
    return {name: value for name, value in identity.items() if name != WORDING}


def _difference(theirs: Identity, ours: Identity) -> str:
    """`--epochs 50, now 20`, for all that differs."""
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
