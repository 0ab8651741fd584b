"""Short trainings, and whether two of their results have the same bits.

assert same_bits(make_trainer(engine, {None: table}, SETTINGS)(TRIALS[0]), result)
"""

from __future__ import annotations

import numpy as np

from layersearch.engines.settings import TrainingSettings
from layersearch.space.trials import Trial, TrialResult

SETTINGS = TrainingSettings(
    latent_dim=2, epochs=4, batch_size=16, initial_lr=0.003, eta_min=1e-6, weight_decay=1e-3, dropout=0.1, seed=5
)
TRIALS = [Trial(config, repeat) for config in [(16, 8), (9,), (20, 20)] for repeat in range(2)]
ENGINES = ("compiled", "reference", "stacked")


def same_bits(a: TrialResult, b: TrialResult) -> bool:
    arrays = ("train_losses", "test_losses", "row_errors", "parameters")
    return (
        all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)
        and a.final_train_loss == b.final_train_loss
        and a.final_test_loss == b.final_test_loss
    )


def by_trial(results: list[TrialResult]) -> dict[Trial, TrialResult]:
    return {result.trial: result for result in results}
