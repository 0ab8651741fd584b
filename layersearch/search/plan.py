"""What a search sets out to do: which configurations it tries, how often, and in batches of which size.

    plan = SearchPlan(SearchOptions(repeats=3), Space([16, 32, 64], max_layers=3), epochs=20)
    plan.n_to_try                       # 19

Nothing heavy is imported here: the console announces a search with it before torch is loaded.
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
    """What a search sets out to do."""

    options: SearchOptions
    space: Space
    epochs: int  # of a training of full length
    folds: int = 0  # of the training rows; 0 without cross-validation
    factors: Factors = ()  # of a study
    study_configs: int = 0  # the best so many of the search are crossed with the factors; 0: all are, from the start

    @property
    def trials_each(self) -> int:
        """The number of trainings of one configuration."""
        return self.options.repeats * (self.folds or 1)

    @property
    def n_to_try(self) -> int:
        """The number of configurations that the search sets out to try."""
        samples = self.options.search in ("random", "bayesian")
        return min(self.options.trials, self.space.size) if samples else self.space.size

    @property
    def n_trainings(self) -> int:
        """The number of trainings in all batches of the search, a study of its best not counted."""
        return self.trials_each * sum(self.batch_sizes)

    @property
    def first_rung(self) -> int:
        """The number of epochs after which successive halving drops configurations for the first time."""
        return self.options.min_epochs or max(1, self.epochs // 20)

    @property
    def batch_sizes(self) -> list[int]:
        """The numbers of configurations that train in each batch of the search."""
        sizes = [self.n_to_try]
        if self.options.search == "halving":
            for _ in rungs(self.epochs, self.first_rung, self.options.halving_factor):
                sizes.append(-(-sizes[-1] // self.options.halving_factor))
        return sizes

    def proposed_at_a_time(self, cores: int) -> int:
        """Returns how many configurations Bayesian search proposes before it learns their results."""
        return self.options.batch_trials or -(-cores // self.trials_each)

    def largest_batch(self, cores: int) -> int:
        """Returns how many configurations train side by side at most."""
        first = self.proposed_at_a_time(cores) if self.options.search == "bayesian" else self.batch_sizes[0]
        return max(first, self.study_configs * count_options(self.factors))

    def trials(
        self, configurations: Sequence[Configuration], input_dim: int, latent_dim: int, *, first_repeat: int = 0
    ) -> list[Trial]:
        """Returns all trainings of these configurations, their repeats counted from `first_repeat`, costliest first."""
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
    """Returns the epochs after which the worse part is dropped: `min_epochs`, then `factor` times as many each time."""
    after = []
    while min_epochs < epochs:
        after.append(min_epochs)
        min_epochs *= factor
    return after
