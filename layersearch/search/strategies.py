"""Which of the space's configurations are trained, in which order and how far.

    plan = halving(configurations, epochs=20, min_epochs=2, factor=3)
    batch = next(plan)                          # Batch: configurations, and after how many epochs they pause
    batch = plan.send(results)                  # the results of the last, one a configuration, in its order

A strategy is a generator of batches and ends when the search is over. It sees nothing but the results of what it
asked for, in the order in which it asked: so the same results give the same search, whenever they came. The trials of
a batch are every repeat and fold of its configurations. `bayesian.py` holds the one that needs Optuna.

Successive halving: Jamieson & Talwalkar 2016, arXiv:1502.07943. Random search: Bergstra & Bengio 2012,
https://jmlr.org/papers/v13/bergstra12a.html.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from layersearch.randomness import stream_key
from layersearch.search.history import History
from layersearch.space.configurations import Configuration, Space
from layersearch.space.ranking import ConfigurationResult, ResultCollector, loss_so_far
from layersearch.space.trials import Trial, TrialResult

if TYPE_CHECKING:
    from layersearch.engines.training import Training

Plan = Generator["Batch", list[ConfigurationResult], None]


class Batch(NamedTuple):
    """Configurations to train side by side; all the way, or until they pause after so many epochs."""

    configurations: Sequence[Configuration]
    pause_after: int | None = None


def follow(
    plan: Plan,
    training: Training,
    trials_of: Callable[[Sequence[Configuration]], Sequence[Trial]],
    collector: ResultCollector,
    history: History,
    *,
    on_batch: Callable[[Batch, Sequence[Trial]], None] = lambda batch, trials: None,
    on_result: Callable[[TrialResult], None] = lambda result: None,
) -> set[Configuration]:
    """Trains what `plan` asks for until it ends, or `training` is told to stop; all results go to `collector`.

    `trials_of`: the trials of some configurations, in the order in which they are started. Returns the configurations
    that would have gone on.
    """
    is_settled: dict[Trial, bool] = {}
    batch, paused = next(plan, None), set[Configuration]()
    while batch:
        training.drop(trials_of(list(paused - set(batch.configurations))))
        trials = [t for t in trials_of(batch.configurations) if not is_settled.get(t)]
        go_on = {trial.config for trial in trials}  # the others have stopped early, or failed
        on_batch(batch, trials)
        n_done = 0
        for trained in training.run(trials, pause_after=batch.pause_after):
            n_done += 1
            is_settled[trained.trial] = not trained.is_paused
            collector.add(trained)
            on_result(trained)
        if n_done < len(trials):
            done = [config for config in batch.configurations if all(map(is_settled.get, trials_of([config])))]
            for config in done:
                if config in go_on:
                    history.add(collector.configuration(config))
            return set(batch.configurations) - set(done)
        results = [collector.configuration(config) for config in batch.configurations]
        for result in results:
            if result.config in go_on:
                history.add(result)
        paused = {result.config for result in results if result.drop}
        try:
            batch = plan.send(results)
        except StopIteration:
            break
    return set()


def everything(configurations: Iterable[Configuration]) -> Plan:
    """All of them: grid and random search."""
    yield Batch(list(configurations))


def draw_distinct(space: Space, n: int, seed: int) -> list[Configuration]:
    """`n` configurations drawn without replacement, all of them if there are no more; those of a smaller `n` first."""
    generator = random.Random(stream_key(seed, "random search"))
    drawn: dict[Configuration, None] = {}
    while len(drawn) < min(n, space.size):
        drawn[space.sample(generator)] = None
    return list(drawn)


def rungs(epochs: int, min_epochs: int, factor: int) -> list[int]:
    """After how many epochs the worse part is dropped: `min_epochs`, then `factor` times as many each time."""
    after = []
    while min_epochs < epochs:
        after.append(min_epochs)
        min_epochs *= factor
    return after


def halving(configurations: Iterable[Configuration], *, epochs: int, min_epochs: int, factor: int) -> Plan:
    """All start; at each rung the best 1/`factor` of those still in it go on from where they are, the rest are dropped.

    Best is whose test loss (mean over repeats and folds) is lowest at that epoch; ties go to the smaller model. What
    has failed is dropped first, what has stopped early stays in the comparison with the loss it stopped at.
    """
    running = list(configurations)
    for pause_after in rungs(epochs, min_epochs, factor):
        results = yield Batch(running, pause_after)
        n_kept = -(-len(running) // factor)
        ranked = sorted(results, key=lambda result: (loss_so_far(result), result.model_params))
        kept = {result.config for result in ranked[:n_kept]}
        running = [config for config in running if config in kept]
    yield Batch(running)
