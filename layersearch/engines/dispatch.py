"""Selects an engine by name, and computes a digest of its arithmetic on this machine.

    train = make_trainer("compiled", {None: table}, settings)
    result = train(trial)

`reference.py` runs on any device and defines correct results; `compiled.py` is the fast engine for the CPU, and
`stack/engine.py` the one for GPUs. All engines start from the same initial weights and use the same batch orders and
dropout patterns (`randomness.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from layersearch.engines.compiled import compiled_trainer
from layersearch.engines.lifecycle import Checkpoints, Trainer
from layersearch.engines.reference import reference_trainer
from layersearch.engines.settings import SplitTable, TrainingSettings
from layersearch.engines.stack.engine import check, stacked_trainer
from layersearch.space.trials import Trial


def make_trainer(
    engine: str,
    tables: Mapping[int | None, SplitTable],
    settings: TrainingSettings,
    checkpoints: Checkpoints | None = None,
) -> Trainer:
    """Returns a function that trains one trial on the named engine.

    Args:
        engine: "compiled", "reference" or "stacked".
        tables: the split table of each fold; without cross-validation the only fold is None.
        settings: settings common to all trials.
        checkpoints: storage for the states of unfinished trainings; by default in memory.
    """
    make = {"compiled": compiled_trainer, "reference": reference_trainer, "stacked": _stacked_alone}[engine]
    trainers = {fold: make(table, settings, checkpoints) for fold, table in tables.items()}
    return lambda trial: trainers[trial.fold](trial)


def _stacked_alone(table: SplitTable, settings: TrainingSettings, checkpoints: Checkpoints | None = None) -> Trainer:
    """Returns a trainer with a stack for each trial; its results are bitwise those of any other stack."""
    train = stacked_trainer(table, settings, checkpoints)
    return lambda trial: next(train([trial]))


def try_out(engine: str) -> str:
    """Trains a small trial on the CPU and returns a digest of its parameters and errors, 16 hexadecimal digits.

    The result depends on the processor, the libraries and their settings, which version numbers do not fully describe.
    Two machines with equal digests are taken to compute the same bits. For the compiled engine this also compiles the
    kernel, or loads it from Numba's cache.

    Raises:
        ImportError: the engine is "compiled" and Numba is not installed.
    """
    if engine == "stacked":
        return check(torch.device("cpu")).digest or ""
    values = torch.arange(40 * 24).remainder(97).reshape(40, 24) / 97  # the same on every machine
    table = SplitTable(values, torch.arange(33), torch.arange(33, 40))
    settings = TrainingSettings(
        latent_dim=3, epochs=2, batch_size=32, initial_lr=0.01, eta_min=1e-6, weight_decay=1e-4, dropout=0.1, seed=0
    )
    result = make_trainer(engine, {None: table}, settings)(Trial((33, 17), 0))
    digest = hashlib.blake2b(result.parameters.tobytes() + result.row_errors.tobytes(), digest_size=8)
    return digest.hexdigest()
