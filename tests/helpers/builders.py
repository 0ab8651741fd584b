"""Made-up results in the shapes of real ones, for tests of what comes after the training.

    ranking = make_ranking(enumerate_configurations([16, 32, 64], 3), repeats=5, epochs=20)
    verdict = make_verdict(ranking)
    history = make_history(ranking)
    ranking = make_study_ranking([(64,), (32,)], read_factors("dropout=0,0.1"), {("dropout", 0.0): -0.1})

The losses resemble those of the real table: about 0.038 for the best configuration, 0.065 for the worst, a standard
deviation of 0.001 over repeats; the baselines have the losses of the published table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any
from zlib import crc32

import numpy as np

from layersearch.report.results import Results, Written
from layersearch.search.history import History
from layersearch.search.running import Searched
from layersearch.space.configurations import (
    Configuration,
    Layers,
    Variant,
    count_parameters,
    decoder_dims,
    encoder_dims,
    layers_of,
)
from layersearch.space.factors import Factors, Level, cross
from layersearch.space.ranking import ConfigurationResult, loss_so_far, rank_configurations
from layersearch.space.trials import Trial, TrialResult
from layersearch.table.scoring import ScoredPart, scored_part
from layersearch.verdict.conclusion import Best
from layersearch.verdict.probe import Probe
from layersearch.verdict.uncertainty import Interval
from layersearch.verdict.verdict import Estimate, Recommendation, Verdict, judge
from losses import sum_weights

INPUT_DIM = 24
N_ROWS = 60  # of each part
BASELINES = MappingProxyType(
    {"column means": 0.077, "best constant": 0.067, "PCA": 0.0406, "linear autoencoder": 0.0345}
)
PATIENCE = 3  # of those that stop early
NOTHING = np.zeros(0, np.float32)


@cache
def make_part(fold: int | None = None) -> ScoredPart:
    """Returns the rows that every made-up trial of this fold is scored on; None without folds."""
    nonzero = np.random.default_rng([1, 0 if fold is None else fold]).integers(5, 17, N_ROWS)
    return scored_part(np.column_stack([nonzero, np.full(N_ROWS, INPUT_DIM)]))


def make_parts(folds: int = 1) -> list[ScoredPart]:
    """Returns one part for each fold, or a single one without folds."""
    return [make_part(fold) for fold in range(folds)] if folds > 1 else [make_part()]


def make_row_errors(loss: float, fold: int | None, *seeds: Sequence[int]) -> np.ndarray:
    """Returns squared errors [N_ROWS, 2] float64 with this loss; each further seed adds to how the rows differ.

    Some rows are hard for every model, which is most of what makes a loss vary by row.
    """
    cells = make_part(fold).cells
    hardness = np.random.default_rng([2, fold or 0]).gamma(4, 0.25, N_ROWS)
    for seed, spread in zip(seeds, (0.1, 0.05), strict=False):
        hardness = hardness * np.exp(spread * np.random.default_rng([3, *seed]).normal(size=N_ROWS))
    errors = hardness[:, None] * cells * [1.3, 1.0]
    weights = np.array(sum_weights(*cells.sum(axis=0).tolist()))
    return np.asarray(errors * (loss / float(errors.sum(axis=0) @ weights)))


def _seed_of(config: Configuration) -> list[int]:
    """Returns a seed that tells configurations apart, also by their decoders and options."""
    if isinstance(config, Variant):
        return [*_seed_of(config.layers), crc32(repr(config.options).encode())]
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
    """Returns a trial whose test loss falls from (1 + steepness) × loss to exactly `loss`, as its row errors say."""
    rng = np.random.default_rng([repeat, *_seed_of(config), *([] if fold is None else [fold])])
    falling = np.exp(-5 * np.arange(epochs) / max(epochs - 1, 1)) - np.exp(-5)
    test = loss * (1 + steepness * falling * rng.uniform(0.9, 1.1, epochs) * (epochs > 1))
    return TrialResult(
        trial=Trial(config, repeat, fold),
        train_losses=1.1 * test,
        test_losses=test,
        final_train_loss=float(0.97 * test[-1]),
        final_test_loss=float(test[-1]),
        row_errors=make_row_errors(loss, fold, _seed_of(layers_of(config)), [repeat, *_seed_of(config)]).astype("f4"),
        parameters=np.zeros(0, np.float32),
        seconds=0.1,
    )


def make_stopped_trial(*trial: Any, loss: float = 0.04, stopped_epoch: int = 12) -> TrialResult:
    """Returns a trial that stopped `PATIENCE` epochs after its best, at 1.1 × the loss that it kept."""
    best = max(1, stopped_epoch - PATIENCE)
    result = make_trial(*trial, loss=loss, epochs=best)
    after = np.linspace(1, 1.1, stopped_epoch - best + 1)[1:]
    return replace(
        result,
        train_losses=np.append(result.train_losses, 0.9 * result.train_losses[-1] * after),
        test_losses=np.append(result.test_losses, loss * after),
        validation_losses=np.append(1.02 * result.test_losses, loss * after),
        best_epoch=best,
    )


def pause_trial(result: TrialResult, after: int) -> TrialResult:
    """Returns the trial as it was after so many epochs; unchanged if it had ended by then."""
    if len(result.test_losses) < after or result.has_failed:
        return result
    return replace(
        result,
        train_losses=result.train_losses[:after],
        test_losses=result.test_losses[:after],
        final_train_loss=None,
        final_test_loss=None,
        row_errors=NOTHING.reshape(0, 2),
        parameters=NOTHING,
        seconds=result.seconds * after / len(result.test_losses),
        is_paused=True,
    )


def make_failed_trial(
    config: Configuration, repeat: int = 0, fold: int | None = None, *, failed_epoch: int = 3
) -> TrialResult:
    """Returns a trial that stopped being finite in `failed_epoch`, so that its curves end before it."""
    curve = np.full(failed_epoch - 1, 0.5)
    return TrialResult(
        Trial(config, repeat, fold), curve, curve, None, None, NOTHING.reshape(0, 2), NOTHING, 0.1, failed_epoch
    )


def make_paused_trial(
    config: Configuration, repeat: int = 0, fold: int | None = None, *, epoch: int = 3
) -> TrialResult:
    """Returns a trial that was not trained any further after `epoch`."""
    return pause_trial(make_trial(config, repeat, fold, loss=0.06, epochs=epoch), epoch)


def make_configuration(
    config: Configuration, losses: Sequence[float], *, epochs: int = 20, latent_dim: int = 3, steepness: float = 2.5
) -> ConfigurationResult:
    """Returns a configuration whose repeats have these final losses."""
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
    stopped: Mapping[Configuration, int] = MappingProxyType({}),
) -> list[ConfigurationResult]:
    """Returns a ranked search in which narrow and deep configurations are worse.

    The last repeat of each `failed` configuration fails. The `dropped` ones were dropped after 3 epochs. The first
    repeat of each of those that `stopped` early ended at this epoch, each further repeat an epoch later. The folds get
    harder by 0.002 each.
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
                    if config in stopped:
                        epoch = stopped[config] + repeat
                        results.append(make_stopped_trial(config, repeat, fold, loss=loss, stopped_epoch=epoch))
                    else:
                        results.append(make_trial(config, repeat, fold, loss=loss, epochs=epochs))
    params = {config: count_parameters(INPUT_DIM, latent_dim, config) for config in configurations}
    return rank_configurations(results, params)


def make_study_ranking(
    layers: Sequence[Layers],
    factors: Factors,
    changes: Mapping[tuple[str, Level], float] = MappingProxyType({}),
    *,
    together: Mapping[tuple[tuple[str, Level], ...], float] = MappingProxyType({}),
    repeats: int = 5,
    folds: int = 0,
    epochs: int = 20,
    seed: int = 0,
    shared_luck: float = 0.03,
    own_luck: float = 0.01,
    failed: Collection[Configuration] = (),
) -> list[ConfigurationResult]:
    """Returns a ranked study in which levels change the loss by these shares of 0.04.

    Some levels change it `together` by more than the sum of their changes. The luck of a repeat is shared by all
    variants of a configuration, that of a training is its own; both are standard deviations relative to 0.04. The
    `failed` variants fail.
    """
    rng = np.random.default_rng(seed)
    results = []
    for one in layers:
        shared = rng.normal(0, shared_luck, (repeats, max(folds, 1)))
        for config in cross([one], factors):
            chosen = set(config.options)
            change = sum(c for level, c in changes.items() if level in chosen)
            change += sum(c for levels, c in together.items() if chosen >= set(levels))
            for repeat in range(repeats):
                for fold in range(folds) if folds else [None]:
                    luck = shared[repeat, fold or 0] + rng.normal(0, own_luck)
                    if config in failed:
                        results.append(make_failed_trial(config, repeat, fold))
                    else:
                        loss = 0.04 * (1 + change + luck)
                        results.append(make_trial(config, repeat, fold, loss=loss, epochs=epochs))
    params = {config: count_parameters(INPUT_DIM, 3, config) for config in cross(layers, factors)}
    return rank_configurations(results, params)


def halve(ranking: Sequence[ConfigurationResult], rungs: Sequence[int], factor: int = 3) -> list[ConfigurationResult]:
    """Returns what successive halving leaves of a ranked search that drops configurations after these epochs."""
    params = {c.config: c.model_params for c in ranking}
    results = []
    running = list(ranking)
    for after in rungs:
        paused = [replace(c, trials=tuple(pause_trial(result, after) for result in c.trials)) for c in running]
        by_loss = np.argsort([loss_so_far(c) for c in paused], kind="stable")
        n_kept = -(-len(running) // factor)
        results += [result for place in by_loss[n_kept:] for result in paused[place].trials]
        running = [running[place] for place in sorted(by_loss[:n_kept])]
    results += [result for c in running for result in c.trials]
    return rank_configurations(results, params)


def make_history(
    ranking: Sequence[ConfigurationResult],
    strategy: str = "grid",
    *,
    space_size: int | None = None,
    epochs: int = 20,
    threads: int = 2,
    seed: int = 0,
) -> History:
    """Returns the history of a search in a random order; all configurations paused where any was dropped."""
    history = History(strategy, space_size or len(ranking), epochs, threads)
    order = [ranking[place] for place in np.random.default_rng(seed).permutation(len(ranking))]
    for after in sorted({c.drop.epoch for c in ranking if c.drop}):
        for c in order:
            history.add(replace(c, trials=tuple(pause_trial(result, after) for result in c.trials)))
        order = [c for c in order if not c.failure or (c.drop and c.drop.epoch > after)]
    for c in order:
        history.add(c)
    return history


def make_verdict(
    ranking: Sequence[ConfigurationResult],
    *,
    baselines: Mapping[str, float] = BASELINES,
    confidence: float = 0.95,
    objectives: Sequence[str] = ("loss", "params"),
) -> Verdict:
    """Returns the verdict on a made-up ranking, against baselines with these losses."""
    folds = ranking[0].folds
    numbers = range(folds) if folds > 1 else [None]
    errors = {
        name: [make_row_errors(loss, fold, list(name.encode())) for fold in numbers] for name, loss in baselines.items()
    }
    parts = make_parts(folds)
    return judge(ranking, parts, errors, confidence=confidence, seed=0, components=3, objectives=objectives)


def recommending(verdict: Verdict, configuration: ConfigurationResult, bound: float = 0.0021) -> Verdict:
    """Returns the verdict with another recommended configuration, shown to be at most `bound` above the best."""
    is_best = configuration.config == verdict.best.config
    return replace(verdict, recommendation=Recommendation(configuration, None if is_best else bound, None, True))


def recommending_smallest_tied(verdict: Verdict) -> Verdict:
    """Returns the verdict as if the smallest of the tied had been shown to be as good as the best."""
    return recommending(verdict, min(verdict.tied, key=lambda c: c.model_params)) if verdict.tied else verdict


MODEL_INFO = {
    "input_dim": 24,
    "latent_dim": 3,
    "hidden_dims": (64, 64),
    "dropout": 0.1,
    "total_params": 12491,
    "encoder_params": 6000,
    "decoder_params": 6443,
}
PROBE = Probe(
    epochs=(20, 40, 80),
    repeats=3,
    configs=((64, 64), (64,)),
    is_cross_validated=False,
    losses=np.array([[0.04, 0.03, 0.025], [0.05, 0.03, 0.02]]),
    noise=0.001,
    overtaking=None,
    suggested_epochs=300,
)


WRITTEN = Written(model_file="best_model_latent3.pth", model_sha256="ab" * 32)


def make_results(ranking: Sequence[ConfigurationResult], *, history: History | None = None) -> Results:
    """Returns the results of a made-up ranking; of a grid search, without another history."""
    searched = Searched(list(ranking), history or make_history(ranking), len(ranking))
    if not ranking or ranking[0].failure:
        return Results(searched)
    verdict = recommending_smallest_tied(make_verdict(ranking))
    best = Best(
        verdict.best,
        MODEL_INFO,
        trained=verdict.best.best_trained,
        honest=Estimate(0.041, 0.001, Interval(0.039, 0.043)) if verdict.best.is_cross_validated else None,
    )
    return Results(searched, verdict, best, probe=PROBE, n_test=401)
