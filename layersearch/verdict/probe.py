"""The convergence probe: would the search have said something else after longer training?

    plan = plan_probe(verdict, ranking, cost, search_cost)     # None if even the least costs too much
    probe = read_probe(plan, results, epochs=20, part=part, relative_sd=0.05)
    probe.is_long_enough, probe.suggested_epochs

Cosine annealing brings the learning rate to zero at the end of whatever length was asked for, so a curve always
looks flat at its end; only a longer run shows that a short one was too short. The best, the smallest of the tied and
one from the middle of the ranking are trained 2 and 4 times as long, with the same repeats. Nothing of this enters
the ranking. Plain NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from layersearch.space.configurations import Configuration, Trial, TrialResult
from layersearch.space.ranking import ConfigurationResult
from layersearch.verdict.uncertainty import ScoredPart, weigh_fixed
from layersearch.verdict.verdict import Verdict

FACTORS = (2, 4)  # times the epochs asked for
REPEATS = 3  # at most
FREE = 2.5  # seconds of one core that no one minds
USUAL_SD = 0.05  # of a training's loss, relative to it, where the search does not tell: as on the published table
MATTERS = 0.05  # a fall of the loss, relative to it, that noise alone should not explain away
MOST_DOUBLINGS = 3  # beyond the longest run: further than that nothing can be foreseen
NICE = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True)
class ProbePlan:
    """Which configurations are trained how much longer, and how often."""

    configurations: tuple[ConfigurationResult, ...]  # the best first
    factors: tuple[int, ...]
    trials: tuple[Trial, ...]  # of each factor


@dataclass(frozen=True)
class Probe:
    """What longer training does. C configurations, the best first."""

    epochs: tuple[int, ...]  # those asked for, then longer ones
    repeats: int
    configs: tuple[Configuration, ...]
    is_cross_validated: bool  # then of the first fold alone
    losses: np.ndarray  # [C, len(epochs)] mean over the repeats
    noise: float  # two standard errors of `fall`
    overtaking: tuple[Configuration, Configuration] | None  # the first beats the second after the longest only
    suggested_epochs: int | None  # None where those asked for are enough, or longer ones worse

    @property
    def fall(self) -> float:
        """By how much the losses fall from the shortest to the longest, on average; negative where they rise."""
        return float((self.losses[:, 0] - self.losses[:, -1]).mean())

    @property
    def is_long_enough(self) -> bool:
        """Whether longer training leaves the losses where they were, but for noise, or raises them."""
        return self.suggested_epochs is None and not self.is_unclear

    @property
    def is_unclear(self) -> bool:
        """Whether the losses fall by much, though no more than by the luck of so few trainings."""
        return self.suggested_epochs is None and self.fall > MATTERS * float(self.losses[:, 0].mean())

    @property
    def overfits(self) -> bool:
        """Whether longer training makes the losses worse, beyond the noise."""
        return self.fall < -self.noise


def plan_probe(
    verdict: Verdict,
    ranking: Sequence[ConfigurationResult],
    cost: Callable[[ConfigurationResult], float],
    search_cost: float,
) -> ProbePlan | None:
    """As much as costs no more than a tenth of the search, or `FREE` seconds; None if that is nothing.

    `cost`: of one training of the length asked for, in seconds of one core, as `search_cost`. A rule of nominal costs,
    not of measured times, so that the same command always probes the same.
    """
    finished = [c for c in ranking if c.failure is None]
    probed = {c.config: c for c in (verdict.best, verdict.simplest, finished[len(finished) // 2])}
    everything = tuple(probed.values())
    budget = max(search_cost / 10, FREE)
    fold = verdict.best.trials[0].trial.fold
    for configurations in (everything, everything[:1]):
        for factors in (FACTORS, FACTORS[:1]):
            for repeats in range(min(REPEATS, verdict.best.repeats), 0, -1):
                if sum(map(cost, configurations)) * sum(factors) * repeats <= budget:
                    trials = tuple(
                        Trial(c.config, c.first_repeat + r, fold) for c in configurations for r in range(repeats)
                    )
                    return ProbePlan(configurations, factors, trials)
    return None


def read_probe(
    plan: ProbePlan,
    results: Mapping[int, Sequence[TrialResult]],
    *,
    epochs: int,
    part: ScoredPart,
    relative_sd: float | None,
) -> Probe | None:
    """From the results of each factor; None if one of the best's diverged.

    `part`: the rows that the trials are scored on. `relative_sd`: of one training's loss, by luck; None if unknown.
    """
    repeats = len(plan.trials) // len(plan.configurations)
    asked = [result for c in plan.configurations for result in c.trials if result.trial in plan.trials]
    by_length = [_by_configuration(trials) for trials in (asked, *(results[factor] for factor in plan.factors))]
    survivors = [c.config for c in plan.configurations if all(c.config in length for length in by_length)]
    if plan.configurations[0].config not in survivors:
        return None
    weighed = [[weigh_fixed([length[config]], [part]) for length in by_length] for config in survivors]
    losses = np.array([[loss for loss, _ in row] for row in weighed])
    measured = [c.final_test_loss for c in plan.configurations if c.config in survivors]
    influences = np.array([[influence for _, influence in row] for row in weighed])  # [C, lengths, G]

    by_training = ((USUAL_SD if relative_sd is None else relative_sd) * losses) ** 2 / repeats  # [C, lengths]

    def noise(weights: np.ndarray) -> float:
        """Two standard errors of the weighted sum [C, lengths] of the losses."""
        by_rows = (np.tensordot(weights, influences, axes=2) ** 2).sum()
        return float(2 * np.sqrt(by_rows + (weights**2 * by_training).sum()))

    trend, last_step = (np.zeros_like(losses) for _ in range(2))
    trend[:, [0, -1]] = last_step[:, [-2, -1]] = np.array([1.0, -1.0]) / len(losses)
    return Probe(
        epochs=tuple(epochs * factor for factor in (1, *plan.factors)),
        repeats=repeats,
        configs=tuple(survivors),
        is_cross_validated=plan.trials[0].fold is not None,
        losses=losses,
        noise=noise(trend),
        overtaking=_overtaking(survivors, measured, losses, noise),
        suggested_epochs=_suggest(losses.mean(axis=0), epochs, plan.factors, noise(trend), noise(last_step)),
    )


def _by_configuration(results: Sequence[TrialResult]) -> dict[Configuration, np.ndarray]:
    """Row errors [N_part, 2], the mean over the repeats, of each configuration of which none diverged."""
    results = sorted(results, key=lambda result: result.trial.repeat)  # they come as they finish; sums depend on that
    configs = {result.trial.config for result in results}
    failed = {result.trial.config for result in results if result.has_failed}
    return {
        config: np.stack([r.row_errors for r in results if r.trial.config == config]).mean(axis=0, dtype=np.float64)
        for config in configs - failed
    }


def _overtaking(
    configs: Sequence[Configuration],
    measured: Sequence[float],
    losses: np.ndarray,
    noise: Callable[[np.ndarray], float],
) -> tuple[Configuration, Configuration] | None:
    """Two of which the first lost in the search (`measured`) and wins at the longest, there beyond the noise."""
    for one, other in permutations(range(len(configs)), 2):
        lead = np.zeros_like(losses)
        lead[[one, other], -1] = -1.0, 1.0
        if measured[one] > measured[other] and (lead * losses).sum() > noise(lead):
            return configs[one], configs[other]
    return None


def _suggest(losses: np.ndarray, epochs: int, factors: Sequence[int], noise: float, last_noise: float) -> int | None:
    """How many epochs would bring the mean losses [lengths] down to where doubling them gains less than the noise.

    Each doubling is taken to gain the same share of what the one before gained. None where those asked for are enough.
    """
    if losses[0] - losses[-1] <= noise:
        return None
    longest, first_gain, last_gain = epochs * factors[-1], losses[0] - losses[1], losses[-2] - losses[-1]
    if last_gain <= last_noise:
        return _nice(epochs * (1, *factors)[int(losses.argmin())])
    share = float(np.clip(last_gain / max(first_gain, 1e-12), 0.1, 0.9)) if len(factors) > 1 else 0.5
    doublings = math.ceil(math.log(last_noise / last_gain) / math.log(share)) if last_noise > 0 else math.inf
    return _nice(longest * 2 ** int(min(doublings - 1, MOST_DOUBLINGS)))  # the last of them gains too little


def _nice(epochs: int) -> int:
    """The nearest round number, by ratio."""
    power = 10 ** math.floor(math.log10(epochs))
    nearest: float = min((nice * power for nice in NICE), key=lambda number: abs(math.log(number / epochs)))
    return round(nearest)
