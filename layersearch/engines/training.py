"""Training trials: by which engine, how many at a time, and what of them is kept.

    training = Training(settings, {None: table}, "compiled", threads=2)
    for result in training.run(trials):
        ...

`reference.py` defines what is right, on any device; `compiled.py` is the fast one on the CPU, `stacked.py` that for
GPUs. All start from the same initial weights and use the same batches and dropout patterns (`randomness.py`). A trial's
numbers do not depend on what else runs, in what order, or how often it was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from layersearch.engines.compiled import compiled_trainer
from layersearch.engines.lifecycle import (
    Checkpoints,
    InMemory,
    SplitTable,
    Trainer,
    TrainingSettings,
    build_model,
    is_long,
)
from layersearch.engines.reference import ROWS_AT_A_TIME, reference_trainer
from layersearch.engines.stack.engine import check, run_stacks, stacked_trainer
from layersearch.engines.stack.plan import room_of
from layersearch.engines.workers import available_cores, run_trials
from layersearch.journal.journal import Journal
from layersearch.journal.records import Key
from layersearch.space.trials import Trial, TrialResult
from models import DynamicAutoencoder, encode_rows, load_flat

if TYPE_CHECKING:
    from layersearch.engines.machines import Machines


def make_trainer(
    engine: str,
    tables: Mapping[int | None, SplitTable],
    settings: TrainingSettings,
    checkpoints: Checkpoints | None = None,
) -> Trainer:
    """The function that trains one trial on `engine` ("compiled", "reference" or "stacked") and its fold's table."""
    make = {"compiled": compiled_trainer, "reference": reference_trainer, "stacked": _alone}[engine]
    trainers = {fold: make(table, settings, checkpoints) for fold, table in tables.items()}
    return lambda trial: trainers[trial.fold](trial)


def _alone(table: SplitTable, settings: TrainingSettings, checkpoints: Checkpoints | None = None) -> Trainer:
    """The stacked engine with one trial in a stack, which has the bits that it has among others."""
    train = stacked_trainer(table, settings, checkpoints)
    return lambda trial: next(train([trial]))


@dataclass(frozen=True)
class Training:
    """How trials are trained, and kept: everything that all of them share.

    With a journal nothing is trained that it holds already, and everything that is trained goes there at once.
    """

    settings: TrainingSettings
    tables: Mapping[int | None, SplitTable]  # by fold; None: the training and test rows
    engine: str
    threads: int
    journal: Journal | None = None
    stops: Callable[[], bool] = field(default=lambda: False)  # whether to train no more
    on_fewer: Callable[[int], None] = field(default=lambda threads: None)  # told where memory is short
    machines: Machines | None = None  # that train, in place of this one's cores
    states: dict[int, InMemory] = field(default_factory=dict)  # of what pauses, by epochs, where there is no journal

    def settings_for(self, factor: int = 1, pause_after: int | None = None) -> TrainingSettings:
        """The settings of trials that are `factor` times as long as asked for, or pause after so many epochs."""
        return replace(self.settings, epochs=factor * self.settings.epochs, pause_after=pause_after)

    def trainer(
        self, factor: int = 1, pause_after: int | None = None, folds: Collection[int | None] | None = None
    ) -> Trainer:
        """The function that trains a trial (of these folds, by default of any), from where it paused if it did."""
        settings = self.settings_for(factor, pause_after)
        tables = {fold: table for fold, table in self.tables.items() if folds is None or fold in folds}
        return make_trainer(self.engine, tables, settings, self._checkpoints(settings.epochs))

    def run(self, trials: Sequence[Trial], factor: int = 1, *, pause_after: int | None = None) -> Iterator[TrialResult]:
        """Trains all, `factor` times as long as asked for, as many at a time as there are threads.

        Yields results as they finish, those of the journal first, and fewer than asked for once `stops` says so.
        """
        kept = self.kept(trials, factor, pause_after=pause_after)
        yield from kept.values()
        for result in self._run(trials, [trial for trial in trials if trial not in kept], factor, pause_after):
            if self.journal:
                may_be_chosen = factor == 1 and result.trial.fold is None
                with_weights = may_be_chosen and is_long(result.seconds * self.members)  # to train it again, alone
                key = Key(result.trial, factor * self.settings.epochs, pause_after if result.is_paused else None)
                self.journal.append(key, result, with_weights=with_weights)
            if not result.is_paused:
                self._checkpoints(factor * self.settings.epochs).remove(result.trial)
            yield result
        if self.journal:
            self.journal.sync(at_once=True)

    def _run(
        self, trials: Sequence[Trial], missing: Sequence[Trial], factor: int, pause_after: int | None
    ) -> Iterator[TrialResult]:
        """Trains those `missing` of all `trials`, many at a time, here or on other machines."""
        settings, stops = self.settings_for(factor, pause_after), self._sync_and_ask
        checkpoints = self._checkpoints(settings.epochs)
        if self.machines:
            return self.machines.run_trials(missing, self.engine, self.tables, settings, checkpoints, stops=stops)
        if self.engine == "stacked":
            trainers = {fold: stacked_trainer(table, settings, checkpoints) for fold, table in self.tables.items()}
            room = settings.room or room_of(trials)
            return run_stacks(trials, missing, trainers, room, stops=stops, on_fewer=self.on_fewer)
        train = self.trainer(factor, pause_after, {trial.fold for trial in missing})
        return run_trials(missing, train, self.threads, stops=stops, on_fewer=self.on_fewer)

    @property
    def members(self) -> int:
        """How many trials a stack has room for; 1 with the other engines."""
        return self.settings.room.members if self.settings.room else 1

    def kept(
        self, trials: Sequence[Trial], factor: int = 1, *, pause_after: int | None = None
    ) -> dict[Trial, TrialResult]:
        """Those that the journal holds."""
        if self.journal is None:
            return {}
        found = {trial: self._find(trial, factor * self.settings.epochs, pause_after) for trial in trials}
        return {trial: result for trial, result in found.items() if result}

    def _find(self, trial: Trial, epochs: int, pause_after: int | None) -> TrialResult | None:
        """What the journal holds of this one: where it paused, or its end if it came to that by then."""
        assert self.journal is not None
        result = self.journal.find(Key(trial, epochs, pause_after))
        if result is None and pause_after is not None:
            end = self.journal.find(Key(trial, epochs))
            if end and (end.failed_epoch or len(end.test_losses)) <= pause_after:
                return end
        return result

    def drop(self, trials: Sequence[Trial]) -> None:
        """These have paused and will not go on."""
        for trial in trials:
            self._checkpoints(self.settings.epochs).remove(trial)

    def with_weights(self, result: TrialResult) -> TrialResult | None:
        """The same result, its weights made again if they were not kept; from now on they are. None if told to stop."""
        if result.has_failed:
            return result
        if not result.parameters.size:
            trial = [result.trial]
            here = replace(self, machines=None, threads=1)  # sooner than sending its weights
            made = list(here._run(trial, trial, factor=1, pause_after=None))
            if not made:
                return None
            result = made[0]
        if self.journal:
            self.journal.append_weights(Key(result.trial, self.settings.epochs), result)
            self._checkpoints(self.settings.epochs).remove(result.trial)
        return result

    def with_all_weights(self, results: Sequence[TrialResult]) -> list[TrialResult] | None:
        """The same results, as `with_weights` of each, many at a time. None if told to stop."""
        trials = [result.trial for result in results]
        known = {
            result.trial: result
            for result in [*self.kept(trials).values(), *results]
            if result.parameters.size or result.has_failed
        }
        missing = [trial for trial in trials if trial not in known]
        here = replace(self, machines=None, threads=available_cores()) if self.machines else self
        for made in here._run(trials, missing, factor=1, pause_after=None):
            if self.journal:
                self.journal.append_weights(Key(made.trial, self.settings.epochs), made)
            self._checkpoints(self.settings.epochs).remove(made.trial)
            known[made.trial] = made
        return [known[trial] for trial in trials] if len(known) == len(trials) else None

    def _checkpoints(self, epochs: int) -> Checkpoints:
        return self.journal.checkpoints(epochs) if self.journal else self.states.setdefault(epochs, InMemory())

    def _sync_and_ask(self) -> bool:
        """Whether to stop; asked a few times a second, which also brings the journal to the disk."""
        if self.journal:
            self.journal.sync()
        return self.stops()


def try_out(engine: str) -> str:
    """Trains a small trial on the CPU: compiles the kernel, or loads it from Numba's cache, where `engine` has one.

    Returns the digest of its bits. They depend on the processor, on libraries and on settings of theirs that no
    version tells.

    Raises:
        ImportError: Numba is not installed.
    """
    if engine == "stacked":
        return check(torch.device("cpu")).digest or ""
    values = torch.arange(40 * 24).remainder(97).reshape(40, 24) / 97  # exact anywhere
    table = SplitTable(values, torch.arange(33), torch.arange(33, 40))
    settings = TrainingSettings(
        latent_dim=3, epochs=2, batch_size=32, initial_lr=0.01, eta_min=1e-6, weight_decay=1e-4, dropout=0.1, seed=0
    )
    make = {"compiled": compiled_trainer, "reference": reference_trainer}[engine]
    result = make(table, settings)(Trial((33, 17), 0))
    digest = hashlib.blake2b(result.parameters.tobytes() + result.row_errors.tobytes(), digest_size=8)
    return digest.hexdigest()


def trained_model(result: TrialResult, table: SplitTable, settings: TrainingSettings) -> DynamicAutoencoder:
    """The model that a trial ended with, in eval mode, on the CPU."""
    model = build_model(result.trial, table.input_dim, settings)
    load_flat(model, result.parameters)
    return model.eval()


@torch.no_grad()
def encode_table(model: DynamicAutoencoder, table: SplitTable) -> tuple[np.ndarray, np.ndarray]:
    """Of every row: latent coordinates [N, L], and mean squared error over its observed cells [N], in scaled units."""
    codes, errors = [], []
    for values in table.values.cpu().split(ROWS_AT_A_TIME):
        latent, error = encode_rows(model, values)
        codes.append(latent)
        errors.append(error)
    return torch.cat(codes).numpy(), torch.cat(errors).numpy()
