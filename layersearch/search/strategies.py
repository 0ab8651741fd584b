"""The strategies of a search: which configurations are trained, in which order and for how many epochs.

    plan = halving(configurations, epochs=20, min_epochs=2, factor=3)
    for event in follow(plan, training, trials_of, collector, history):
        ...                                     # a BatchStart, then the result of each of its trials

A strategy is a generator. It yields a `Batch` of configurations to train, is sent their results, one for each
configuration in the same order, and ends when the search is over. It depends only on the results of the configurations
it requested, so that the same results always give the same search. `bayesian.py` defines the strategy that needs
Optuna; `running._strategy` chooses among all.

Sources: random search, Bergstra & Bengio 2012, https://jmlr.org/papers/v13/bergstra12a.html; successive halving,
Jamieson & Talwalkar 2016, arXiv:1502.07943.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from layersearch.randomness import stream_key
from layersearch.search.history import History
from layersearch.search.plan import rungs
from layersearch.space.configurations import Configuration, Space
from layersearch.space.ranking import ConfigurationResult, ResultCollector, loss_so_far
from layersearch.space.trials import Trial, TrialResult

if TYPE_CHECKING:
    from layersearch.engines.training import Training

Plan = Generator["Batch", list[ConfigurationResult], None]


class Batch(NamedTuple):
    """Configurations to train at the same time, for all epochs or until they pause after `pause_after` epochs."""

    configurations: Sequence[Configuration]
    pause_after: int | None = None


class BatchStart(NamedTuple):
    """The event that announces a batch."""

    batch: Batch
    trials: Sequence[Trial]  # the trials to train, without those that failed or stopped early in an earlier batch


def follow(
    plan: Plan,
    training: Training,
    trials_of: Callable[[Sequence[Configuration]], Sequence[Trial]],
    collector: ResultCollector,
    history: History,
) -> Iterator[BatchStart | TrialResult]:
    """Trains the batches that a plan requests, until the plan ends or `training` is asked to stop.

    If it is asked to stop, unfinished configurations are excluded from the collector's ranking.

    Args:
        plan: the strategy.
        training: trains the trials.
        trials_of: returns the trials of configurations, in the order in which to start them.
        collector: receives each result before it is yielded.
        history: receives each configuration when its batch ends.

    Yields:
        The start of each batch, and after it the result of each of its trials.
    """
    settled: set[Trial] = set()  # trials that finished, failed or stopped early
    paused: set[Configuration] = set()
    batch = _next_batch(plan, None)
    while batch:
        training.drop(trials_of(list(paused - set(batch.configurations))))
        trials = [trial for trial in trials_of(batch.configurations) if trial not in settled]
        trained = {trial.config for trial in trials}
        yield BatchStart(batch, trials)
        n_done = 0
        for result in training.run(trials, pause_after=batch.pause_after):
            n_done += 1
            if not result.is_paused:
                settled.add(result.trial)
            collector.add(result)
            yield result
        done = batch.configurations
        if n_done < len(trials):
            done = [config for config in done if settled.issuperset(trials_of([config]))]
            collector.exclude(set(batch.configurations) - set(done))
        results = [collector.configuration(config) for config in done]
        for configuration in results:
            if configuration.config in trained:
                history.add(configuration)
        if n_done < len(trials):
            return
        paused = {configuration.config for configuration in results if configuration.drop}
        batch = _next_batch(plan, results)


def _next_batch(plan: Plan, results: list[ConfigurationResult] | None) -> Batch | None:
    """Sends results to the plan (None at the start), and returns its next batch, or None if it has ended."""
    try:
        return next(plan) if results is None else plan.send(results)
    except StopIteration:
        return None


def everything(configurations: Iterable[Configuration]) -> Plan:
    """Returns a plan that trains all these configurations in one batch, for grid and random search."""
    yield Batch(list(configurations))


def draw_distinct(space: Space, n: int, seed: int) -> list[Configuration]:
    """Returns `n` configurations drawn without replacement, or all if there are fewer.

    A smaller `n` with the same seed gives the first of the same configurations.
    """
    generator = random.Random(stream_key(seed, "random search"))
    drawn: dict[Configuration, None] = {}
    while len(drawn) < min(n, space.size):
        drawn[space.sample(generator)] = None
    return list(drawn)


def halving(configurations: Iterable[Configuration], *, epochs: int, min_epochs: int, factor: int) -> Plan:
    """Returns a plan for successive halving.

    All configurations are started. At each rung (see `rungs`) the best 1/`factor` of the remaining configurations
    continue training, and the others are dropped. Configurations are compared by their test loss at that epoch, a mean
    over repeats and folds; if it is equal, the smaller model is better, and a failed configuration is always the worst.
    Trainings that stopped early count with the loss of the weights that they kept.
    """
    running = list(configurations)
    for pause_after in rungs(epochs, min_epochs, factor):
        results = yield Batch(running, pause_after)
        n_kept = -(-len(running) // factor)
        ranked = sorted(results, key=lambda result: (loss_so_far(result), result.model_params))
        kept = {result.config for result in ranked[:n_kept]}
        running = [config for config in running if config in kept]
    yield Batch(running)
