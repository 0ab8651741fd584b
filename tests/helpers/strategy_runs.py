"""Small searches by every strategy, for tests that run the command.

done = by_strategy("halving")              # the fixture of conftest.py: each is run once
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from commands import Run

from layersearch.engines import dispatch, training
from layersearch.space.configurations import Configuration, Space
from layersearch.space.trials import Trial, TrialResult

FIELD = ["--hidden_dims_search", "4,8,16", "--max_layers", "2", "--epochs", "6", "--repeats", "2", "--threads", "2"]
FIELD += ["--no_probe", "--save_models"]
SPACE = Space([4, 8, 16], 2)  # 9 configurations
REPEATS, EPOCHS = 2, 6
HALVING = ["--search", "halving", "--halving_factor", "2", "--min_epochs", "1"]
RUNGS, IN_RUNG = (1, 2, 4), (9, 5, 3, 2)  # epochs; configurations up to each and, at last, to the end
BAYESIAN = ["--search", "bayesian", "--trials", "7", "--batch_trials", "2"]
STOPPING = ["--patience", "1", "--min_delta", "0.002", "--initial_lr", "0.02"]  # about half of them stop
STRATEGIES: Mapping[str, Sequence[str]] = {
    "grid": [],
    "random": ["--search", "random", "--trials", "5"],
    "halving": HALVING,
    "bayesian": BAYESIAN,
    "two objectives": [*BAYESIAN, "--objectives", "loss,params"],
    "stopping": STOPPING,
    "stopping, folds": [*STOPPING, "--hidden_dims_search", "8", "--cv_folds", "2"],
    "stopping, groups": [*STOPPING, "--hidden_dims_search", "8", "--group_column", "School"],
    "halving and stopping": [*HALVING, *STOPPING],
    "halving, all stopping": [*HALVING, *STOPPING, "--min_delta", "1e9"],  # after 2 epochs
    "halving, folds": [*HALVING, "--hidden_dims_search", "4,16", "--cv_folds", "2"],
    "any": ["--arrangement", "any"],
    "asymmetric": ["--arrangement", "asymmetric", "--hidden_dims_search", "4,8", "--search", "random", "--trials", "9"],
    "bayesian, asymmetric": ["--arrangement", "asymmetric", *BAYESIAN],
    "halving, any": ["--arrangement", "any", *HALVING],
    "range": ["--width_range", "4:64:4", "--search", "random", "--trials", "4", "--max_layers", "3"],
}


def arguments_for(title: str) -> list[str]:
    """The arguments of one of them, but for the table's."""
    own = list(STRATEGIES[title])
    return [*(FIELD[2:] if "--width_range" in own else FIELD), *own]


def config_of(entry: Mapping[str, Any]) -> Configuration:
    """From an entry of the JSON."""
    config = entry["config"]
    return tuple(map(tuple, config)) if isinstance(config[0], list) else tuple(config)


def entries(done: Run) -> dict[Configuration, dict[str, Any]]:
    """Of the JSON's `all_results`, by configuration."""
    return {config_of(entry): entry for entry in done.results()["all_results"]}


def note_epochs(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[Trial, int]]:
    """From now on, how often each epoch of each trial is trained; by the compiled engine."""
    from layersearch.engines.kernel import step as kernel

    trained: Counter[tuple[Trial, int]] = Counter()
    current, lock = threading.local(), threading.Lock()
    make_trainer, train_epochs = dispatch.make_trainer, kernel.train_epochs

    def make_noting(*given: Any) -> Callable[[Trial], TrialResult]:
        train = make_trainer(*given)

        def noting(trial: Trial) -> TrialResult:
            current.trial = trial
            return train(trial)

        return noting

    def note(*given: Any) -> int:
        first_epoch, rates = given[7], given[8]
        n_epochs: int = train_epochs(*given)
        assert isinstance(rates, np.ndarray)
        if hasattr(current, "trial"):  # else it tries the engine out
            with lock:
                trained.update((current.trial, first_epoch + number) for number in range(n_epochs))
        return n_epochs

    monkeypatch.setattr(training, "make_trainer", make_noting)
    monkeypatch.setattr(kernel, "train_epochs", note)
    return trained
