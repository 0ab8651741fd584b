"""Trains the trials of a search, on this machine or a cluster, and records their results in a journal.

    training = Training(settings, {None: table}, "compiled", threads=2)
    for result in training.run(trials):
        ...

The result of a trial does not depend on other trials, on their order, or on interruptions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from layersearch.engines.dispatch import make_trainer
from layersearch.engines.lifecycle import Checkpoints, InMemory, Trainer, is_long
from layersearch.engines.settings import SplitTable, TrainingSettings
from layersearch.engines.stack.engine import run_stacks, stacked_trainer
from layersearch.engines.stack.plan import room_of
from layersearch.engines.workers import available_cores, run_trials
from layersearch.journal.journal import Journal
from layersearch.journal.records import Key
from layersearch.space.trials import Trial, TrialResult

if TYPE_CHECKING:
    from layersearch.engines.machines import Machines


@dataclass(frozen=True)
class Training:
    """Everything that is needed to train trials and to keep their results.

    With a journal, trials whose results it contains are not trained again, and new results are written to it at once.
    """

    settings: TrainingSettings
    tables: Mapping[int | None, SplitTable]  # by fold; without cross-validation the only fold is None
    engine: str
    threads: int
    journal: Journal | None = None
    stops: Callable[[], bool] = field(default=lambda: False)  # returns whether to stop training
    on_fewer: Callable[[int], None] = field(default=lambda threads: None)  # called if memory allows fewer threads
    machines: Machines | None = None  # a cluster that trains instead of this machine
    states: dict[int, InMemory] = field(default_factory=dict)  # without a journal: checkpoints by number of epochs

    @property
    def input_dim(self) -> int:
        """F, the number of columns of the table."""
        return next(iter(self.tables.values())).input_dim

    def settings_for(self, factor: int = 1, pause_after: int | None = None) -> TrainingSettings:
        """Returns the settings with `factor` times as many epochs, or with a pause after `pause_after` epochs."""
        return replace(self.settings, epochs=factor * self.settings.epochs, pause_after=pause_after)

    def trainer(
        self, factor: int = 1, pause_after: int | None = None, folds: Collection[int | None] | None = None
    ) -> Trainer:
        """Returns a function that trains one trial, starting from its checkpoint if it has one.

        Args:
            factor: multiplies the number of epochs.
            pause_after: number of epochs after which trainings pause; None for no pause.
            folds: the folds of the trials; None for all.
        """
        settings = self.settings_for(factor, pause_after)
        tables = {fold: table for fold, table in self.tables.items() if folds is None or fold in folds}
        return make_trainer(self.engine, tables, settings, self._checkpoints(settings.epochs))

    def run(self, trials: Sequence[Trial], factor: int = 1, *, pause_after: int | None = None) -> Iterator[TrialResult]:
        """Trains trials and yields their results, first those in the journal, then the others as they finish.

        When `stops` returns True, the remaining trials have no result.

        Args:
            trials: the trials to train.
            factor: multiplies the number of epochs.
            pause_after: number of epochs after which trainings pause; None for no pause.
        """
        kept = self.kept(trials, factor, pause_after=pause_after)
        yield from kept.values()
        for result in self._run(trials, [trial for trial in trials if trial not in kept], factor, pause_after):
            if self.journal:
                may_be_chosen = factor == 1 and result.trial.fold is None
                with_weights = may_be_chosen and is_long(result.seconds * self.members)  # time in a stack of its own
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
        """Trains the `missing` trials among all `trials`, on this machine or the cluster."""
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
        """The number of trials in a full stack; 1 for the other engines."""
        return self.settings.room.members if self.settings.room else 1

    def kept(
        self, trials: Sequence[Trial], factor: int = 1, *, pause_after: int | None = None
    ) -> dict[Trial, TrialResult]:
        """Returns the results of those trials that are in the journal."""
        if self.journal is None:
            return {}
        found = {trial: self._find(trial, factor * self.settings.epochs, pause_after) for trial in trials}
        return {trial: result for trial, result in found.items() if result}

    def _find(self, trial: Trial, epochs: int, pause_after: int | None) -> TrialResult | None:
        """Returns a trial's result at the pause from the journal, or its final result if it ended before."""
        assert self.journal is not None
        result = self.journal.find(Key(trial, epochs, pause_after))
        if result is None and pause_after is not None:
            end = self.journal.find(Key(trial, epochs))
            if end and (end.failed_epoch or len(end.test_losses)) <= pause_after:
                return end
        return result

    def drop(self, trials: Sequence[Trial]) -> None:
        """Removes the checkpoints of paused trials that will not continue."""
        for trial in trials:
            self._checkpoints(self.settings.epochs).remove(trial)

    def with_weights(self, result: TrialResult) -> TrialResult | None:
        """Returns the result with its weights, training again if they were not kept, and saves them in the journal.

        Returns None if `stops` returns True before.
        """
        if result.has_failed:
            return result
        if not result.parameters.size:
            trial = [result.trial]
            here = replace(self, machines=None, threads=1)  # faster than fetching the weights from the cluster
            made = list(here._run(trial, trial, factor=1, pause_after=None))
            if not made:
                return None
            result = made[0]
        if self.journal:
            self.journal.append_weights(Key(result.trial, self.settings.epochs), result)
            self._checkpoints(self.settings.epochs).remove(result.trial)
        return result

    def with_all_weights(self, results: Sequence[TrialResult]) -> list[TrialResult] | None:
        """Returns several results with their weights, like `with_weights`, but trains many at a time.

        Returns None if `stops` returns True before.
        """
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
        """Writes the journal to disk and returns whether to stop; called a few times a second."""
        if self.journal:
            self.journal.sync()
        return self.stops()
