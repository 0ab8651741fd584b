"""Made-up results in the shapes of real ones, for tests of what comes after the training.

    ranking = make_ranking(enumerate_configurations([16, 32, 64], 3), repeats=5, epochs=20)
    verdict = make_verdict(ranking)

Losses follow the figures measured on the real table: about 0.038 for the best, 0.065 for the worst,
0.001 standard deviation over repeats; PCA has 0.0406, the column means 0.077.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType

import numpy as np

from losses import sum_weights
from search import Configuration, Trial, TrialResult, count_parameters, decoder_dims, encoder_dims
from selection import ConfigurationResult, rank_configurations
from uncertainty import ScoredPart, scored_part
from verdict import Verdict, judge

INPUT_DIM = 24
N_ROWS = 60  # of each part
BASELINES = MappingProxyType({"column means": 0.077, "PCA": 0.0406})


@cache
def make_part(fold: int | None = None) -> ScoredPart:
    """The rows that every made-up trial of this fold (None: without folds) is scored on."""
    nonzero = np.random.default_rng([1, 0 if fold is None else fold]).integers(5, 17, N_ROWS)
    return scored_part(np.column_stack([nonzero, np.full(N_ROWS, INPUT_DIM)]))


def make_parts(folds: int = 1) -> list[ScoredPart]:
    """One part per fold; without folds the one that all trials are scored on."""
    return [make_part(fold) for fold in range(folds)] if folds > 1 else [make_part()]


def make_row_errors(loss: float, fold: int | None, *seeds: Sequence[int]) -> np.ndarray:
    """[N_ROWS, 2] float64 squared errors whose loss is `loss`; each further seed adds to how rows differ.

    Some rows are harder than others whatever the model: that is most of what makes a loss vary by row.
    """
    cells = make_part(fold).cells
    hardness = np.random.default_rng([2, fold or 0]).gamma(4, 0.25, N_ROWS)
    for seed, spread in zip(seeds, (0.1, 0.05), strict=False):
        hardness = hardness * np.exp(spread * np.random.default_rng([3, *seed]).normal(size=N_ROWS))
    errors = hardness[:, None] * cells * [1.3, 1.0]
    weights = np.array(sum_weights(*cells.sum(axis=0).tolist()))
    return np.asarray(errors * (loss / float(errors.sum(axis=0) @ weights)))


def _seed_of(config: Configuration) -> list[int]:
    """Of a pair both halves, told apart."""
    return [*encoder_dims(config), 0, *decoder_dims(config)] if isinstance(config[0], tuple) else list(config)


def make_trial(
    config: Configuration,
    repeat: int = 0,
    fold: int | None = None,
    *,
    loss: float = 0.04,
    epochs: int = 20,
    steepness: float = 2.5,
) -> TrialResult:
    """A trial whose test loss falls from (1 + steepness) × loss to exactly `loss`, as its row errors say."""
    rng = np.random.default_rng([repeat, *_seed_of(config), *([] if fold is None else [fold])])
    falling = np.exp(-5 * np.arange(epochs) / max(epochs - 1, 1)) - np.exp(-5)
    test = loss * (1 + steepness * falling * rng.uniform(0.9, 1.1, epochs) * (epochs > 1))
    return TrialResult(
        trial=Trial(config, repeat, fold),
        train_losses=1.1 * test,
        test_losses=test,
        final_train_loss=float(0.97 * test[-1]),
        final_test_loss=float(test[-1]),
        row_errors=make_row_errors(loss, fold, _seed_of(config), [repeat, *_seed_of(config)]).astype(np.float32),
        parameters=np.zeros(0, np.float32),
        seconds=0.1,
    )


def make_failed_trial(
    config: Configuration, repeat: int = 0, fold: int | None = None, *, failed_epoch: int = 3
) -> TrialResult:
    """A trial that stopped being finite in `failed_epoch`: its curves end before it."""
    curve = np.full(failed_epoch - 1, 0.5)
    nothing = np.zeros(0, np.float32)
    return TrialResult(
        Trial(config, repeat, fold), curve, curve, None, None, nothing.reshape(0, 2), nothing, 0.1, failed_epoch
    )


def make_paused_trial(
    config: Configuration, repeat: int = 0, fold: int | None = None, *, epoch: int = 3
) -> TrialResult:
    """A trial that was not trained any further after `epoch`."""
    nothing = np.zeros(0, np.float32)
    return replace(
        make_trial(config, repeat, fold, loss=0.06, epochs=epoch),
        final_train_loss=None,
        final_test_loss=None,
        row_errors=nothing.reshape(0, 2),
        is_paused=True,
    )


def make_configuration(
    config: Configuration, losses: Sequence[float], *, epochs: int = 20, latent_dim: int = 3, steepness: float = 2.5
) -> ConfigurationResult:
    """A configuration whose repeats end at `losses`."""
    trials = [make_trial(config, r, loss=x, epochs=epochs, steepness=steepness) for r, x in enumerate(losses)]
    return ConfigurationResult(config, count_parameters(INPUT_DIM, latent_dim, config), tuple(trials))


def make_ranking(
    configurations: Sequence[Configuration],
    *,
    repeats: int = 5,
    folds: int = 0,
    epochs: int = 20,
    latent_dim: int = 3,
    seed: int = 0,
    failed: Sequence[Configuration] = (),
    dropped: Sequence[Configuration] = (),
) -> list[ConfigurationResult]:
    """A ranked search: narrow and deep configurations are worse, `failed` ones diverge in their last repeat.

    `dropped` ones were left behind after 3 epochs. Of `folds`, later ones are harder: by 0.002 each.
    """
    rng = np.random.default_rng(seed)
    widths = {config: encoder_dims(config) + decoder_dims(config) for config in configurations}
    widest = max(map(max, widths.values()))
    results = []
    for config in configurations:
        narrowness = (widest / min(widths[config]) - 1) * len(widths[config]) / 18
        mean = 0.0376 * (64 / widest) ** 0.1 * (1 + 0.75 * np.tanh(narrowness)) + rng.normal(0, 0.0006)
        for repeat in range(repeats):
            for fold in range(folds) if folds else [None]:
                if config in failed and repeat == repeats - 1:
                    results.append(make_failed_trial(config, repeat, fold))
                elif config in dropped:
                    results.append(make_paused_trial(config, repeat, fold))
                else:
                    loss = mean + rng.normal(0, 0.001) + 0.002 * (fold or 0)
                    results.append(make_trial(config, repeat, fold, loss=loss, epochs=epochs))
    params = {config: count_parameters(INPUT_DIM, latent_dim, config) for config in configurations}
    return rank_configurations(results, params)


def make_verdict(
    ranking: Sequence[ConfigurationResult],
    *,
    baselines: Mapping[str, float] = BASELINES,
    confidence: float = 0.95,
    objectives: Sequence[str] = ("loss", "params"),
) -> Verdict:
    """The verdict over a made-up ranking, against baselines of these losses."""
    folds = ranking[0].folds
    numbers = range(folds) if folds > 1 else [None]
    errors = {
        name: [make_row_errors(loss, fold, list(name.encode())) for fold in numbers] for name, loss in baselines.items()
    }
    return judge(ranking, make_parts(folds), errors, confidence=confidence, seed=0, objectives=objectives)
