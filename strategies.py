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
from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

from randomness import stream_key
from search import Configuration, Space
from selection import ConfigurationResult, loss_so_far

Plan = Generator["Batch", list[ConfigurationResult], None]


class Batch(NamedTuple):
    """Configurations to train side by side; all the way, or until they pause after so many epochs."""

    configurations: Sequence[Configuration]
    pause_after: int | None = None


def everything(configurations: Iterable[Configuration]) -> Plan:
    """All of them: grid and random search."""
    yield Batch(list(configurations))


def draw_distinct(space: Space, n: int, seed: int) -> list[Configuration]:
    """`n` configurations drawn without replacement, all of them if there are no more; those of a smaller `n` first."""
    generator = random.Random(stream_key(seed, "random search"))
    if space.size <= n:
        everything = list(space.configurations())
        generator.shuffle(everything)
        return everything
    drawn: dict[Configuration, None] = {}
    while len(drawn) < n:
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
