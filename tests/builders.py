"""Made-up results in the shapes of real ones, for tests of what comes after the training.

    ranking = make_ranking(enumerate_configurations([16, 32, 64], 3), repeats=5, epochs=20)

Losses follow the figures measured on the real table: about 0.038 for the best, 0.065 for the worst,
0.001 standard deviation over repeats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search import Configuration, Trial, TrialResult, count_parameters
from selection import ConfigurationResult, rank_configurations

INPUT_DIM = 24


def make_trial(
    config: Configuration, repeat: int = 0, *, loss: float = 0.04, epochs: int = 20, steepness: float = 2.5
) -> TrialResult:
    """A trial whose test loss falls from (1 + steepness) × loss to exactly `loss`."""
    rng = np.random.default_rng([repeat, *config])
    falling = np.exp(-5 * np.arange(epochs) / max(epochs - 1, 1)) - np.exp(-5)
    test = loss * (1 + steepness * falling * rng.uniform(0.9, 1.1, epochs) * (epochs > 1))
    return TrialResult(
        trial=Trial(config, repeat),
        train_losses=1.1 * test,
        test_losses=test,
        final_train_loss=float(0.97 * test[-1]),
        final_test_loss=float(test[-1]),
        row_errors=np.zeros((0, 2), np.float32),
        parameters=np.zeros(0, np.float32),
        seconds=0.1,
    )


def make_failed_trial(config: Configuration, repeat: int = 0, *, failed_epoch: int = 3) -> TrialResult:
    """A trial that stopped being finite in `failed_epoch`: its curves end before it."""
    curve = np.full(failed_epoch - 1, 0.5)
    nothing = np.zeros(0, np.float32)
    return TrialResult(
        Trial(config, repeat), curve, curve, None, None, nothing.reshape(0, 2), nothing, 0.1, failed_epoch
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
    epochs: int = 20,
    latent_dim: int = 3,
    seed: int = 0,
    failed: Sequence[Configuration] = (),
) -> list[ConfigurationResult]:
    """A ranked search: narrow and deep configurations are worse, `failed` ones diverge in their last repeat."""
    rng = np.random.default_rng(seed)
    widest = max(max(config) for config in configurations)
    results = []
    for config in configurations:
        narrowness = (widest / min(config) - 1) * len(config) / 9
        mean = 0.0376 * (64 / widest) ** 0.1 * (1 + 0.75 * np.tanh(narrowness)) + rng.normal(0, 0.0006)
        for repeat in range(repeats):
            if config in failed and repeat == repeats - 1:
                results.append(make_failed_trial(config, repeat))
            else:
                results.append(make_trial(config, repeat, loss=mean + rng.normal(0, 0.001), epochs=epochs))
    params = {config: count_parameters(INPUT_DIM, latent_dim, config) for config in configurations}
    return rank_configurations(results, params)
