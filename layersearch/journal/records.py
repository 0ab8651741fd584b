"""Reads and writes the journal's file. Each line is one record: a checksum, then a JSON object.

    write_records(path, Records(identity, run))
    records = read_records(path)                # without damaged lines
    records.results[Key(trial, epochs=20)]

The first record identifies the search to which the journal belongs. Each further record holds the result of a training
or its final weights. Arrays are written as base64 of their little-endian bytes, so that they are read back exactly.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from layersearch.files import replacing
from layersearch.space.configurations import Layers, Variant, layers_of, options_of
from layersearch.space.trials import Trial, TrialResult

NOTHING = np.empty(0, dtype=np.float32)
UNREADABLE = (ValueError, KeyError, TypeError)  # raised by a damaged line, or by one of another program
Identity = Mapping[str, Any]  # everything that shapes a trial, by name, as JSON values
PLAIN = ("final_train_loss", "final_test_loss", "seconds", "failed_epoch", "is_paused", "best_epoch")
ARRAYS = ("train_losses", "test_losses", "validation_losses", "row_errors")


class Key(NamedTuple):
    """Identifies a training in the journal; the convergence probe trains a trial again for more epochs."""

    trial: Trial
    epochs: int
    pause_after: int | None = None


@dataclass
class Records:
    """The contents of a journal."""

    identity: Identity
    run: str  # a random text, which differs each time that a search is started anew
    results: dict[Key, TrialResult] = field(default_factory=dict)  # without weights
    weights: dict[Key, np.ndarray] = field(default_factory=dict)  # [P] float32
    finished: dict[Key, str] = field(default_factory=dict)  # time of the end, ISO 8601 with an offset
    n_damaged: int = 0  # number of lines that were dropped
    is_sound: bool = True  # whether no line was damaged or incomplete


def write_records(path: Path, records: Records) -> None:
    """Writes a whole journal, replacing an existing file."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(_encode({"kind": "search", "identity": records.identity, "run": records.run}))
        for key, result in records.results.items():
            file.write(encode_result(key, result, records.finished[key]))
        for key, weights in records.weights.items():
            file.write(encode_weights(key, weights))


def read_records(path: Path) -> Records:
    """Reads a journal, leaving out damaged lines.

    Raises:
        ValueError, KeyError, TypeError: The first line is damaged.
    """
    with open(path, "rb") as file:
        line = file.readline()
        records = _decode_search(line)
        for line in file:
            try:
                _take(records, _decode(line))
            except UNREADABLE:
                records.n_damaged += 1
    records.is_sound = line.endswith(b"\n") and not records.n_damaged
    records.weights = {key: weights for key, weights in records.weights.items() if key in records.results}
    return records


def read_identity(path: Path) -> Identity:
    """Reads only the identity of the search to which a journal belongs. Raises the same errors as `read_records`."""
    with open(path, "rb") as file:
        return _decode_search(file.readline()).identity


def _take(records: Records, record: Mapping[str, Any]) -> None:
    """Adds a decoded line to the records."""
    key = _key_of(record)
    if record["kind"] == "weights":
        records.weights[key] = _array(record["parameters"], "<f4")
        return
    validation = record["validation_losses"]
    records.results[key] = TrialResult(
        trial=key.trial,
        train_losses=_array(record["train_losses"], "<f8"),
        test_losses=_array(record["test_losses"], "<f8"),
        row_errors=_array(record["row_errors"], "<f4").reshape(-1, 2),
        parameters=NOTHING,
        validation_losses=None if validation is None else _array(validation, "<f8"),
        **{name: record[name] for name in PLAIN},
    )
    records.finished[key] = record["finished"]


# Lines


def encode_result(key: Key, result: TrialResult, finished: str) -> bytes:
    """Returns the line of a training's result, without its weights."""
    plain = {name: getattr(result, name) for name in PLAIN}
    arrays = {name: getattr(result, name) for name in ARRAYS}
    texts = {name: None if array is None else _text(array) for name, array in arrays.items()}
    return _encode({"kind": "trial", **_key_fields(key), "finished": finished, **plain, **texts})


def encode_weights(key: Key, weights: np.ndarray) -> bytes:
    """Returns the line of a training's weights."""
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
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()).decode()


def _array(text: str, dtype: str) -> np.ndarray:
    values: np.ndarray = np.frombuffer(base64.b64decode(text), dtype=dtype)
    return values.astype(values.dtype.newbyteorder("="))  # a copy, since the decoded bytes cannot be written to


def _encode(record: Mapping[str, Any]) -> bytes:
    text = to_json(record)
    return f"{checksum(text)} {text}\n".encode()


def _decode(line: bytes) -> dict[str, Any]:
    """Returns the record in a line. Raises ValueError if the line is damaged."""
    digest, _, text = line.decode().rstrip("\n").partition(" ")
    if digest != checksum(text):
        raise ValueError("the checksum is wrong")
    record: dict[str, Any] = json.loads(text)
    return record


def _decode_search(line: bytes) -> Records:
    first = _decode(line)
    return Records(dict(first["identity"]), first["run"])


def to_json(value: Mapping[str, Any]) -> str:
    """Returns the value as JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def checksum(text: str) -> str:
    """Returns the checksum of a record's JSON, as 16 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
