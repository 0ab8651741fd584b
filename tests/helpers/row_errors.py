"""Configurations made up from the errors of their rows, for tests of the verdict's statistics.

part = scored_part(made_cells())
errors = draw_row_errors(part, repeats=5, rng=rng)                # [R, N, 2]
evidence = evidence_of(errors, part)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from layersearch.space.configurations import Configuration
from layersearch.space.ranking import ConfigurationResult
from layersearch.space.trials import Trial, TrialResult
from layersearch.table.scoring import ScoredPart
from layersearch.verdict.evidence import Evidence, collect_evidence
from losses import sum_weights

N_ROWS, N_COLUMNS = 120, 6


def made_cells(n_rows: int = N_ROWS, seed: int = 0) -> np.ndarray:
    """Returns numbers of non-zero and of observed cells in each row, [N, 2]."""
    rng = np.random.default_rng(seed)
    observed = N_COLUMNS - rng.integers(0, 2, n_rows)
    return np.stack([rng.integers(0, 4, n_rows), observed], axis=1)


def loss_of(errors: np.ndarray, cells: np.ndarray) -> float:
    """Returns the loss of rows with these errors and cells, each [N, 2]."""
    return float(errors.sum(axis=0) @ np.array(sum_weights(*cells.sum(axis=0).tolist())))


def made_configuration(
    errors_by_part: Sequence[np.ndarray], parts: Sequence[ScoredPart], config: Configuration = (8,)
) -> ConfigurationResult:
    """Returns a configuration with the row errors [R, N_part, 2] of each part; one part means no folds."""
    trials = []
    for repeat in range(len(errors_by_part[0])):
        for fold, (errors, part) in enumerate(zip(errors_by_part, parts, strict=True)):
            loss = loss_of(errors[repeat], part.cells)
            trial = Trial(config, repeat, fold if len(parts) > 1 else None)
            curve = np.array([loss])
            trials.append(TrialResult(trial, curve, curve, loss, loss, errors[repeat], np.empty(0, np.float32), 1.0))
    return ConfigurationResult(config, 100, tuple(trials))


def evidence_of(errors: np.ndarray, part: ScoredPart) -> Evidence:
    """Returns the evidence of a single configuration with these row errors [R, N, 2] of one part."""
    return collect_evidence([made_configuration([errors], [part])], [part])


def draw_row_errors(
    part: ScoredPart, repeats: int, *, mean: float = 0.04, luck: float = 0.05, rng: np.random.Generator
) -> np.ndarray:
    """Returns row errors [R, N, 2] of which rows differ in difficulty, and trainings in luck of this relative size."""
    difficulty = rng.gamma(2.0, 0.5, len(part.cells))
    training = 1 + luck * rng.standard_normal(repeats)
    noise = rng.gamma(20.0, 0.05, (repeats, len(part.cells)))
    level = mean * training[:, None] * difficulty * noise  # [R, N]
    return np.asarray(level[..., None] * part.cells)
