"""Ranks configurations by the results of their trials.

    ranking = rank_configurations(results, model_params)   # best first, failed configurations last

Symbols:
    R repeats · K folds (1 without folds) · E epochs
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from layersearch.space.configurations import Configuration, decoder_dims, encoder_dims, options_of
from layersearch.space.trials import Trial, TrialResult

BYTES_PER_PARAMETER = 16  # during training: the parameter, its gradient and two moments of AdamW


class Drop(NamedTuple):
    """The epoch after which a configuration was not trained further, and its mean test loss at that epoch."""

    epoch: int
    loss: float


@dataclass(frozen=True)
class ConfigurationResult:
    """The results of all trials of one configuration, and summaries of them."""

    config: Configuration
    model_params: int
    trials: tuple[TrialResult, ...]  # R x K, ordered by repeat, then by fold

    @cached_property
    def failure(self) -> str | None:
        """Why the configuration is not ranked: its first failed trial, or where it was dropped; None if ranked."""
        for result in self.trials:
            if result.out_of_memory:
                size = BYTES_PER_PARAMETER * self.model_params / 1e6
                return f"failed: no memory for its {self.model_params} parameters ({size:,.0f} MB)"
            if result.failed_epoch is not None:
                repeat = result.trial.repeat - self.first_repeat + 1
                which = [f"repeat {repeat} of {self.repeats}"] if self.repeats > 1 else []
                which += [] if result.trial.fold is None else [f"fold {result.trial.fold + 1} of {self.folds}"]
                where = f" ({', '.join(which)})" if which else ""
                return f"failed: not finite at epoch {result.failed_epoch}{where}"
        return f"dropped at epoch {self.drop.epoch} (loss {self.drop.loss:.4g})" if self.drop else None

    @cached_property
    def drop(self) -> Drop | None:
        """The epoch and loss at which the search dropped this configuration; None if it did not."""
        if not any(result.is_paused for result in self.trials) or any(result.has_failed for result in self.trials):
            return None
        return Drop(max(len(result.test_losses) for result in self.trials if result.is_paused), loss_so_far(self))

    @property
    def repeats(self) -> int:
        """Number of repeats."""
        return len({result.trial.repeat for result in self.trials})

    @property
    def first_repeat(self) -> int:
        """Number of the first repeat; not 0 if earlier repeats were used to choose the configuration."""
        return self.trials[0].trial.repeat

    @property
    def folds(self) -> int:
        """Number of folds; 1 without cross-validation."""
        return len({result.trial.fold for result in self.trials})

    @property
    def status(self) -> str:
        """The word "ok", or why the configuration is not ranked."""
        return self.failure or "ok"

    @property
    def is_cross_validated(self) -> bool:
        """Whether the configuration was scored on folds of the training rows."""
        return self.trials[0].trial.fold is not None

    @property
    def train_loss_per_repeat(self) -> list[float | None]:
        """Final training loss of each repeat, a mean over its folds, [R]; None if a fold failed."""
        return _mean_per_repeat(self._by_fold([result.final_train_loss for result in self.trials]))

    @cached_property
    def losses(self) -> np.ndarray:
        """Final test loss of each trial, [R, K]; NaN if it failed."""
        return self._by_fold([result.final_test_loss for result in self.trials])

    @property
    def test_loss_per_repeat(self) -> list[float | None]:
        """Final test loss of each repeat, a mean over its folds, [R]; None if a fold failed."""
        return _mean_per_repeat(self.losses)

    def _by_fold(self, losses: list[float | None]) -> np.ndarray:
        return np.array(losses, dtype=float).reshape(self.repeats, self.folds)  # None becomes NaN

    @cached_property
    def final_test_loss(self) -> float:
        """Mean final test loss over repeats and folds; NaN if a trial failed."""
        return float(self.losses.mean())

    @cached_property
    def final_test_loss_sd(self) -> float | None:
        """Sample standard deviation of the final test loss over the repeats; None with one repeat or a failed trial."""
        if self.failure or self.repeats < 2:
            return None
        return float(self.losses.mean(axis=1).std(ddof=1))

    @property
    def test_curves(self) -> np.ndarray:
        """Test loss of each trial by epoch, [R x K, E], for a configuration that did not fail.

        The curve of a trial that stopped early is continued with the loss of its final weights.
        """
        longest = max(len(result.test_losses) for result in self.trials)
        return np.stack([_continued_curve(result, longest) for result in self.trials])

    @property
    def best_trained(self) -> TrialResult:
        """The trial with the lowest final training loss; the test rows do not influence this choice."""
        return min(self.trials, key=lambda result: loss_or_infinity(result.final_train_loss))


def rank_configurations(
    results: Iterable[TrialResult], model_params: Mapping[Configuration, int]
) -> list[ConfigurationResult]:
    """Sorts the configurations of these trials by mean final test loss, with failed configurations last.

    Among configurations with equal losses, the smaller model comes first. The order of `results` does not matter.

    Args:
        results: The results of all trials of each configuration.
        model_params: The number of parameters of each configuration.
    """
    grouped: dict[Configuration, list[TrialResult]] = defaultdict(list)
    for result in results:
        grouped[result.trial.config].append(result)
    configurations = [
        ConfigurationResult(config, model_params[config], tuple(sorted(trials, key=_trial_key)))
        for config, trials in grouped.items()
    ]
    return sorted(configurations, key=_rank_key)


def _trial_key(result: TrialResult) -> tuple[int, int]:
    return result.trial.repeat, result.trial.fold or 0


def loss_so_far(configuration: ConfigurationResult) -> float:
    """Returns the mean of the latest test losses of all trials, finished or paused; infinite if one failed."""
    losses = [result.test_losses[-1] if result.is_paused else result.final_test_loss for result in configuration.trials]
    return float(np.mean([loss_or_infinity(loss) for loss in losses]))


def _mean_per_repeat(losses: np.ndarray) -> list[float | None]:
    return [None if np.isnan(loss) else loss for loss in losses.mean(axis=1).tolist()]


def _continued_curve(result: TrialResult, epochs: int) -> np.ndarray:
    kept = result.test_losses[-1] if result.final_test_loss is None else result.final_test_loss
    return np.pad(result.test_losses, (0, epochs - len(result.test_losses)), constant_values=kept)


def _rank_key(configuration: ConfigurationResult) -> tuple[Any, ...]:
    """Sorts finished configurations by loss, before dropped ones (last dropped first), before failed ones."""
    config, drop = configuration.config, configuration.drop
    group = 0 if configuration.failure is None else 1 if drop else 2
    loss = drop.loss if drop else loss_or_infinity(configuration.final_test_loss)
    return (
        group,
        -drop.epoch if drop else 0,
        loss,
        configuration.model_params,
        (encoder_dims(config), decoder_dims(config)),
        tuple(options_of(config).items()),
    )


class ResultCollector:
    """Collects results in any order during a search, and keeps track of the best configuration so far.

    The weights of a trial are kept only while its configuration is the best or unfinished, so that memory does not grow
    with the number of configurations.

    Args:
        trials_each: Number of trials of each configuration.
        model_params: The number of parameters of each configuration.
    """

    def __init__(self, trials_each: int, model_params: Mapping[Configuration, int]) -> None:
        self.best: ConfigurationResult | None = None
        self._trials_each = trials_each
        self._model_params = model_params
        self._results: dict[Configuration, dict[Trial, TrialResult]] = defaultdict(dict)
        self._excluded: set[Configuration] = set()

    def add(self, result: TrialResult) -> None:
        """Adds the result of a trial that has finished, or that has reached its next pause."""
        results = self._results[result.trial.config]
        results[result.trial] = result
        if len(results) < self._trials_each or any(trained.is_paused for trained in results.values()):
            return  # the weights are still needed, to continue the training or if the configuration becomes the best
        finished = self.configuration(result.trial.config)
        contenders = [finished] if self.best is None else [self.best, finished]
        leader = min(contenders, key=_rank_key)
        self.best = None if leader.failure else leader
        for loser in contenders:
            if loser is not self.best:
                losing = self._results[loser.config]
                losing.update({trial: _without_weights(result) for trial, result in losing.items()})

    def configuration(self, config: Configuration) -> ConfigurationResult:
        """Returns the result of a configuration whose trials have all been added."""
        return rank_configurations(self._results[config].values(), self._model_params)[0]

    def exclude(self, configurations: Iterable[Configuration]) -> None:
        """Leaves these configurations out of the ranking, since the search was interrupted before they finished."""
        self._excluded.update(configurations)

    def ranking(self) -> list[ConfigurationResult]:
        """Returns the ranking (`rank_configurations`) of all configurations whose trials have all been added."""
        known = {config: results for config, results in self._results.items() if config not in self._excluded}
        complete = [results for results in known.values() if len(results) == self._trials_each]
        return rank_configurations([result for results in complete for result in results.values()], self._model_params)


def _without_weights(result: TrialResult) -> TrialResult:
    return replace(result, parameters=np.empty(0, dtype=np.float32))


def loss_or_infinity(loss: float | None) -> float:
    """Returns the loss, or infinity if it is None or NaN, for comparisons."""
    return np.inf if loss is None or np.isnan(loss) else loss
