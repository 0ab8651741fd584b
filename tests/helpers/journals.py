"""Made-up trainings, journals of them, and the exact comparison of either.

records = write_journal(folder, [make_result(1), make_result(2)])
assert bits(found) == bits(result)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from builders import make_failed_trial

from layersearch.journal.journal import Journal, open_journal
from layersearch.journal.records import Identity, Key
from layersearch.space.trials import Trial, TrialResult, TrialState

EPOCHS = 3
IDENTITY: Identity = {
    "table": "ab12",
    "--epochs": EPOCHS,
    "--scaling": "robust",
    "--group_column": None,
    "program": "cd34",
    "engine": "compiled",
    "processor": "Abacus 1",
    "torch": "2.13.0",
}
OTHER: Identity = {**IDENTITY, "--epochs": 50}
ARRAYS = ("train_losses", "test_losses", "row_errors", "parameters")
FIGURES = ("final_train_loss", "final_test_loss", "seconds", "failed_epoch", "out_of_memory")


def make_result(number: int, *, fold: int | None = None, n_parameters: int = 5) -> TrialResult:
    """Returns a training made of random bits, NaN and infinities included, different for each `number`."""
    random = np.random.default_rng([number, 0 if fold is None else fold + 1])

    def noise(*shape: int, bits: int) -> np.ndarray:
        return random.integers(0, 2**bits, shape, dtype=f"u{bits // 8}").view(f"f{bits // 8}")

    return TrialResult(
        trial=Trial((number + 1, 2), number, fold),
        train_losses=noise(EPOCHS, bits=64),
        test_losses=noise(EPOCHS, bits=64),
        final_train_loss=float(random.random()),
        final_test_loss=float(random.random()),
        row_errors=noise(4, 2, bits=32),
        parameters=noise(n_parameters, bits=32),
        seconds=float(random.random()),
    )


RESULTS = [make_result(0), make_result(1, fold=2), make_failed_trial((3, 3), 2), make_result(3)]


def make_state(number: int) -> TrialState:
    """Returns the state of a trial that is half done."""
    result = make_result(number)
    moments = np.stack([result.parameters[::-1], result.parameters])
    return TrialState(2, result.train_losses, result.test_losses, result.parameters, moments, result.seconds)


def bits(result: TrialResult | None, *, seconds: bool = True) -> tuple[object, ...] | None:
    """Returns everything in a result for an exact comparison: of arrays the type, the shape and the bytes."""
    if result is None:
        return None
    arrays = [getattr(result, name) for name in ARRAYS]
    figures = [repr(getattr(result, name)) for name in FIGURES if seconds or name != "seconds"]
    return (result.trial, *figures, *((array.dtype.str, array.shape, array.tobytes()) for array in arrays))


def state_bits(state: TrialState | None) -> tuple[object, ...] | None:
    """Returns everything in a trial's state for an exact comparison."""
    if state is None:
        return None
    arrays = (state.train_losses, state.test_losses, state.parameters, state.moments)
    return (state.epoch, state.seconds, *((array.dtype.str, array.shape, array.tobytes()) for array in arrays))


def without_weights(result: TrialResult) -> tuple[object, ...] | None:
    """Returns `bits` as if the weights had not been kept."""
    return bits(TrialResult(**{**vars(result), "parameters": np.empty(0, dtype=np.float32)}))


def open_here(
    folder: Path, identity: Identity = IDENTITY, *, fresh: bool = False, notices: list[str] | None = None
) -> Journal:
    """Opens the journal for latent size 3."""
    return open_journal(folder, 3, identity, fresh=fresh, notices=[] if notices is None else notices)


def journal_path(folder: Path, latent_dim: int = 3) -> Path:
    """Returns the path of the journal in a folder."""
    return folder / f"journal_latent{latent_dim}.jsonl"


def write_journal(folder: Path, results: Sequence[TrialResult], *, weights: Sequence[int] = ()) -> Path:
    """Writes a journal of results, with the weights of the repeats in `weights`, and returns its path."""
    with open_here(folder) as journal:
        for result in results:
            journal.append(Key(result.trial, EPOCHS), result, with_weights=result.trial.repeat in weights)
    return journal_path(folder)


def found(folder: Path, results: Sequence[TrialResult] = RESULTS, notices: list[str] | None = None) -> list[object]:
    """Returns the bits of what a newly opened journal has of these trainings."""
    with open_here(folder, notices=notices) as opened:
        return [bits(opened.find(Key(result.trial, EPOCHS))) for result in results]


def line_ends(data: bytes) -> list[int]:
    """Returns the position behind each line, its newline included."""
    return [place + 1 for place, byte in enumerate(data) if byte == ord("\n")]


def read_lines(path: Path) -> list[Mapping[str, Any]]:
    """Returns the records in the file."""
    return [json.loads(line.split(" ", 1)[1]) for line in path.read_text(encoding="utf-8").splitlines()]
