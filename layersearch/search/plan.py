"""The plan of a search: which configurations it tries, how often, and in batches of which size.

    plan = SearchPlan(SearchOptions(repeats=3), Space([16, 32, 64], max_layers=3), epochs=20)
    plan.n_to_try                       # 19

This module does not import torch, so that the console can announce a search before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from layersearch.options import SearchOptions
from layersearch.space.configurations import Configuration, Space
from layersearch.space.factors import CrossedSpace, Factors, count_options
from layersearch.space.trials import Trial, plan_trials
from layersearch.words import count

MANNERS = {"grid": "", "random": ", at random,", "halving": " by successive halving", "bayesian": ", bayesian,"}


@dataclass(frozen=True)
class SearchPlan:
    """The configurations and the trainings that a search intends."""

    options: SearchOptions
    space: Space
    epochs: int  # number of epochs of a full training
    folds: int = 0  # number of folds of the training rows; 0 without cross-validation
    factors: Factors = ()  # the factors of a study
    study_configs: int = 0  # number of the best configurations to cross with the factors; 0: the space is crossed

    @property
    def trials_each(self) -> int:
        """The number of trainings of one configuration."""
        return self.options.repeats * (self.folds or 1)

    @property
    def n_to_try(self) -> int:
        """The number of configurations that the search tries if it is not interrupted."""
        samples = self.options.search in ("random", "bayesian")
        return min(self.options.trials, self.space.size) if samples else self.space.size

    @property
    def n_trainings(self) -> int:
        """The number of trainings in all batches of the search, not counting a later study of the best."""
        return self.trials_each * sum(self.batch_sizes)

    @property
    def first_rung(self) -> int:
        """The number of epochs after which successive halving drops configurations for the first time."""
        return self.options.min_epochs or max(1, self.epochs // 20)

    @property
    def batch_sizes(self) -> list[int]:
        """The number of configurations in each batch of the search."""
        sizes = [self.n_to_try]
        if self.options.search == "halving":
            for _ in rungs(self.epochs, self.first_rung, self.options.halving_factor):
                sizes.append(-(-sizes[-1] // self.options.halving_factor))
        return sizes

    def proposed_at_a_time(self, cores: int) -> int:
        """Returns the number of configurations that a Bayesian search proposes at a time."""
        return self.options.batch_trials or -(-cores // self.trials_each)

    def largest_batch(self, cores: int) -> int:
        """Returns the largest number of configurations that are trained at the same time."""
        first = self.proposed_at_a_time(cores) if self.options.search == "bayesian" else self.batch_sizes[0]
        return max(first, self.study_configs * count_options(self.factors))

    def trials(
        self, configurations: Sequence[Configuration], input_dim: int, latent_dim: int, *, first_repeat: int = 0
    ) -> list[Trial]:
        """Returns all trainings of these configurations, longest first, with repeats counted from `first_repeat`."""
        trials = plan_trials(
            configurations, self.options.repeats, input_dim=input_dim, latent_dim=latent_dim, folds=self.folds
        )
        return [replace(trial, repeat=first_repeat + trial.repeat) for trial in trials] if first_repeat else trials

    def in_words(self, latent_dim: int) -> str:
        """Returns `Searching 19 configurations x 5 repeats of 20 epochs, latent dimension 3`."""
        n, options = self.n_to_try, count_options(self.factors)
        what = (
            count(n, "configuration") if n == self.space.size else f"{n} of {count(self.space.size, 'configuration')}"
        )
        if isinstance(self.space, CrossedSpace):
            what = f"{count(n // options, 'configuration')} x {options} options"
        times = [what + MANNERS[self.options.search], count(self.options.repeats, "repeat")]
        times += [count(self.folds, "fold")] if self.folds else []
        then = f", then the best {self.study_configs} x {options} options" if self.study_configs else ""
        epochs = count(self.epochs, "epoch")
        return f"Searching {' x '.join(times)} of {epochs}{then}, latent dimension {latent_dim}"


def rungs(epochs: int, min_epochs: int, factor: int) -> list[int]:
    """Returns the epochs after which successive halving drops configurations: `min_epochs` times powers of `factor`."""
    after = []
    while min_epochs < epochs:
        after.append(min_epochs)
        min_epochs *= factor
    return after
