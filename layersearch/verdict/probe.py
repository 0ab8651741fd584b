"""The convergence probe: trains a few configurations longer to see whether the number of epochs was sufficient.

    plan = plan_probe(verdict, ranking, cost, search_cost)     # None if even the smallest probe costs too much
    probe = read_probe(plan, results, epochs=20, part=part, relative_sd=0.05)
    probe.is_long_enough, probe.suggested_epochs

Cosine annealing brings the learning rate to zero at the end of a training of any length, so a loss curve always looks
flat at its end. Only a longer training shows that a short one was too short. The best measured configuration, the
recommended one and one from the middle of the ranking are trained 2 and 4 times as long, in the same repeats; fewer of
them, twice as long or in fewer repeats where that would cost too much. The results do not enter the ranking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from layersearch.space.configurations import Configuration
from layersearch.space.ranking import ConfigurationResult
from layersearch.space.trials import Trial, TrialResult
from layersearch.table.scoring import ScoredPart
from layersearch.verdict.evidence import loss_and_influences
from layersearch.verdict.verdict import Verdict

FACTORS = (2, 4)  # multiples of the number of epochs of the search
REPEATS = 3  # at most
FREE = 2.5  # seconds of one core that a probe may always take
USUAL_SD = 0.05  # relative standard deviation of one training's loss, where the search has none: the published table's
MATTERS = 0.05  # relative decrease of the loss that is reported even if it may be noise
MOST_DOUBLINGS = 3  # beyond the longest training; an extrapolation over more is not credible
ROUND_NUMBERS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)  # times a power of ten


@dataclass(frozen=True)
class ProbePlan:
    """Which configurations are trained longer, by which factors and in which trials."""

    configurations: tuple[ConfigurationResult, ...]  # the best measured first
    factors: tuple[int, ...]
    trials: tuple[Trial, ...]  # the same for each factor


@dataclass(frozen=True)
class Probe:
    """The effect of longer training on C configurations, of which the best measured is the first."""

    epochs: tuple[int, ...]  # those of the search, then the longer ones
    repeats: int
    configs: tuple[Configuration, ...]
    is_cross_validated: bool  # if so, only the first fold is trained
    losses: np.ndarray  # [C, len(epochs)] mean test losses over the repeats
    noise: float  # two standard errors of `fall`
    overtaking: tuple[Configuration, Configuration] | None  # the first beats the second only in the longest training
    suggested_epochs: int | None  # None where the epochs of the search suffice, or more are worse

    @property
    def fall(self) -> float:
        """The mean decrease of the losses from the shortest to the longest training; negative for an increase."""
        return float((self.losses[:, 0] - self.losses[:, -1]).mean())

    @property
    def is_long_enough(self) -> bool:
        """Whether longer training does not lower the losses beyond the noise."""
        return self.suggested_epochs is None and not self.is_unclear

    @property
    def is_unclear(self) -> bool:
        """Whether the losses decrease substantially, but within the noise of so few trainings."""
        return self.suggested_epochs is None and self.fall > MATTERS * float(self.losses[:, 0].mean())

    @property
    def overfits(self) -> bool:
        """Whether longer training raises the losses beyond the noise."""
        return self.fall < -self.noise


def plan_probe(
    verdict: Verdict,
    ranking: Sequence[ConfigurationResult],
    cost: Callable[[ConfigurationResult], float],
    search_cost: float,
) -> ProbePlan | None:
    """Returns the largest probe that costs at most a tenth of the search, or `FREE` seconds; None if there is none.

    Args:
        verdict: on the search.
        ranking: best first.
        cost: returns the nominal cost of one training of the search's length, in seconds of one core. It is not
            measured, so that the same command always makes the same probe.
        search_cost: of the whole search, in the same unit.
    """
    finished = [c for c in ranking if c.failure is None]
    probed = {c.config: c for c in (verdict.best, verdict.recommended, finished[len(finished) // 2])}
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
    """Returns what the longer trainings show; None if one of the best measured configuration diverged.

    Args:
        plan: the probe.
        results: by factor, the results of the plan's trials in any order.
        epochs: of the search.
        part: the rows that the trials are scored on.
        relative_sd: standard deviation of one training's loss, relative to the loss; None if unknown.
    """
    repeats = len(plan.trials) // len(plan.configurations)
    asked = [result for c in plan.configurations for result in c.trials if result.trial in plan.trials]
    by_length = [_by_configuration(trials) for trials in (asked, *(results[factor] for factor in plan.factors))]
    survivors = [c.config for c in plan.configurations if all(c.config in length for length in by_length)]
    if plan.configurations[0].config not in survivors:
        return None
    weighed = [[loss_and_influences([length[config]], [part]) for length in by_length] for config in survivors]
    losses = np.array([[loss for loss, _ in row] for row in weighed])
    measured = [c.final_test_loss for c in plan.configurations if c.config in survivors]
    influences = np.array([[influence for _, influence in row] for row in weighed])  # [C, lengths, G]

    by_training = ((USUAL_SD if relative_sd is None else relative_sd) * losses) ** 2 / repeats  # [C, lengths]

    def noise(weights: np.ndarray) -> float:
        """Returns two standard errors of the sum of the losses with these weights [C, lengths]."""
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
    """Returns the mean row errors over the repeats, [N_part, 2], of each configuration without a diverged training."""
    results = sorted(results, key=lambda result: result.trial.repeat)  # a fixed order, on which the sums' bits depend
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
    """Returns a pair of which the first was worse in the search and is better, beyond the noise, after the longest."""
    for one, other in permutations(range(len(configs)), 2):
        lead = np.zeros_like(losses)
        lead[[one, other], -1] = -1.0, 1.0
        if measured[one] > measured[other] and (lead * losses).sum() > noise(lead):
            return configs[one], configs[other]
    return None


def _suggest(losses: np.ndarray, epochs: int, factors: Sequence[int], noise: float, last_noise: float) -> int | None:
    """Returns the number of epochs from which doubling them lowers the mean losses [lengths] by less than the noise.

    The gain of each further doubling is extrapolated as a constant share of the gain of the one before. None where the
    epochs of the search suffice.
    """
    if losses[0] - losses[-1] <= noise:
        return None
    longest, first_gain, last_gain = epochs * factors[-1], losses[0] - losses[1], losses[-2] - losses[-1]
    if last_gain <= last_noise:
        return _rounded(epochs * (1, *factors)[int(losses.argmin())])
    share = float(np.clip(last_gain / max(first_gain, 1e-12), 0.1, 0.9)) if len(factors) > 1 else 0.5
    doublings = math.ceil(math.log(last_noise / last_gain) / math.log(share)) if last_noise > 0 else math.inf
    return _rounded(longest * 2 ** int(min(doublings - 1, MOST_DOUBLINGS)))  # the last doubling is not worth its cost


def _rounded(epochs: int) -> int:
    """Returns the nearest round number, by ratio."""
    power = 10 ** math.floor(math.log10(epochs))
    nearest: float = min(
        (factor * power for factor in ROUND_NUMBERS), key=lambda number: abs(math.log(number / epochs))
    )
    return round(nearest)
