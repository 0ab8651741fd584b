"""Tables of many rows: what is kept of a training stays small, and the verdict is that on all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import run
from journals import write_journal
from made_tables import copus_frame, low_rank_table, write
from row_errors import draw_row_errors, made_cells, made_configuration
from test_verdict import EQUALS, PARAMS

from layersearch.engines import reference
from layersearch.engines.dispatch import make_trainer
from layersearch.engines.reference import reference_trainer
from layersearch.engines.settings import SplitTable, TrainingSettings
from layersearch.loading.loaded import load
from layersearch.options import DataOptions, TrainingOptions
from layersearch.space.ranking import rank_configurations
from layersearch.space.trials import Trial, TrialResult
from layersearch.table import scoring
from layersearch.table.scoring import MAX_UNITS, ScoredPart, bundle_rows, scored_part
from layersearch.verdict.verdict import Verdict, judge

SETTINGS = TrainingSettings(
    latent_dim=2, epochs=3, batch_size=16, initial_lr=0.003, eta_min=1e-6, weight_decay=1e-3, dropout=0.1, seed=5
)
RECORD_BYTES = 45_000  # of a training's record in the journal, as docs/resuming.md says, and 35 for each epoch
ROUNDING = 1e-5  # sums over bundles are kept in single precision


class Rows:
    """Rows that are scored, some 13 to a bundle, and errors on them; kept one by one or in bundles."""

    def __init__(self, n_rows: int, groups: np.ndarray | None = None) -> None:
        self.cells, self.groups = made_cells(n_rows), groups
        bundles = bundle_rows(n_rows, groups)
        self.table = SplitTable(torch.zeros(n_rows, 1), torch.arange(0), torch.arange(n_rows), None, bundles)

    def part(self, *, bundled: bool) -> ScoredPart:
        """The rows, or the bundles."""
        cells = self.table.bundled(self.cells) if bundled else self.cells
        return scored_part(cells, self.groups, self.table.bundles if bundled else None)


def judge_both(folds: Sequence[Rows], *, repeats: int = 4) -> tuple[Verdict, Verdict]:
    """The verdict on rows, and that on bundles, of the same search; with baselines."""
    rng = np.random.default_rng(0)
    rows = [fold.part(bundled=False) for fold in folds]
    bundles = [fold.part(bundled=True) for fold in folds]
    difficulty = [draw_row_errors(part, 1, mean=1.0, luck=0.0, rng=rng) for part in rows]
    on_rows: list[TrialResult] = []
    for config, mean in EQUALS.items():
        levels = mean * (1 + 0.03 * rng.standard_normal((len(rows), repeats, 1, 1)))
        errors = [(hard * level).astype(np.float32) for hard, level in zip(difficulty, levels, strict=True)]
        on_rows += made_configuration(errors, rows, config).trials
    on_bundles = [
        replace(result, row_errors=folds[result.trial.fold or 0].table.bundled(result.row_errors)) for result in on_rows
    ]
    easy = [0.041 * hard[0] for hard in difficulty]
    options: dict[str, Any] = {"confidence": 0.95, "seed": 0}
    return (
        judge(rank_configurations(on_rows, PARAMS), rows, {"PCA": easy}, **options),
        judge(
            rank_configurations(on_bundles, PARAMS),
            bundles,
            {"PCA": [fold.table.bundled(errors) for fold, errors in zip(folds, easy, strict=True)]},
            **options,
        ),
    )


def figures(verdict: Verdict) -> list[float]:
    """All that it measures."""
    found = [verdict.optimism or 0.0, verdict.relative_sd, verdict.training_df]
    for baseline in verdict.baselines:
        assert baseline.difference_interval is not None
        found += [baseline.loss, *baseline.difference_interval]
    for standing in verdict.standings.values():
        assert standing.standard_error is not None
        assert standing.difference_interval is not None
        found += [standing.standard_error, *standing.difference_interval]
    return found


@pytest.fixture
def few_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 100 rows are many."""
    monkeypatch.setattr(scoring, "MAX_UNITS", 100)


@pytest.mark.usefixtures("few_units")
@pytest.mark.parametrize(
    "groups", [None, np.arange(1300) // 3 % 400, np.arange(1300) % 40], ids=["rows", "400 groups", "40 groups"]
)
def test_the_verdict_on_bundles_is_that_on_rows(groups: np.ndarray | None) -> None:
    many = Rows(1300, groups)
    on_rows, on_bundles = judge_both([many])
    assert len(many.part(bundled=True).cells) <= 100 < len(many.part(bundled=False).cells)
    assert on_bundles.n_resampled == on_rows.n_resampled == (1300 if groups is None else groups.max() + 1)
    assert [c.config for c in on_bundles.tied] == [c.config for c in on_rows.tied]
    assert len(on_rows.tied) > 1
    assert on_rows.optimism
    assert figures(on_bundles) == pytest.approx(figures(on_rows), rel=ROUNDING, abs=1e-8)


@pytest.mark.usefixtures("few_units")
def test_the_verdict_over_folds_is_nearly_the_same_on_bundles() -> None:
    """Other rows make a bundle; the variance of a standard error over 100 of them is a share of about 1 / 200."""
    on_rows, on_bundles = judge_both([Rows(1300), Rows(1310), Rows(1290)])
    errors = [[s.standard_error for s in verdict.standings.values()] for verdict in (on_rows, on_bundles)]
    assert errors[1] == pytest.approx(errors[0], rel=0.25)
    assert on_bundles.n_resampled == on_rows.n_resampled == 3900
    assert on_bundles.baselines[0].loss == pytest.approx(on_rows.baselines[0].loss, rel=ROUNDING)


def test_bundles_hold_whole_groups() -> None:
    assert bundle_rows(MAX_UNITS) is None
    groups = np.arange(3 * MAX_UNITS) // 2 + 7
    for numbers in (None, groups):
        bundles = bundle_rows(3 * MAX_UNITS, numbers)
        assert bundles is not None
        assert bundles.max() + 1 == MAX_UNITS
        units = np.arange(3 * MAX_UNITS) if numbers is None else groups - 7
        assert all(len(np.unique(bundles[units == unit])) == 1 for unit in (0, 1, 5000))


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_training_keeps_the_sums_of_bundles(engine: str) -> None:
    table = low_rank_table()
    bundles = np.arange(len(table.test)) % 5
    tables = (table, replace(table, bundles=bundles))
    rows, sums = (make_trainer(engine, {None: some}, SETTINGS)(Trial((9,), 0)) for some in tables)
    assert sums.row_errors.shape == (5, 2)
    assert sums.row_errors.dtype == np.float32
    for bundle in range(5):
        expected = rows.row_errors[bundles == bundle].sum(axis=0, dtype=np.float64)
        assert sums.row_errors[bundle] == pytest.approx(expected, rel=1e-6)
    assert sums.final_test_loss == rows.final_test_loss
    assert np.array_equal(sums.parameters, rows.parameters)


def test_the_record_of_a_training_on_a_million_rows_keeps_its_budget(tmp_path: Path) -> None:
    many, epochs = Rows(200_000), 20
    errors = np.random.default_rng(0).random((200_000, 2), dtype=np.float32)
    curve = np.random.default_rng(1).random(epochs)
    kept = many.table.bundled(errors)
    result = TrialResult(Trial((64, 64), 0), curve, curve, 0.1, 0.2, kept, np.zeros(0, np.float32), 1.0)
    assert kept.nbytes <= 8 * MAX_UNITS
    empty = write_journal(tmp_path, []).stat().st_size
    size = write_journal(tmp_path, [result]).stat().st_size - empty
    assert size <= RECORD_BYTES + 35 * epochs


@pytest.mark.usefixtures("few_units")
@pytest.mark.parametrize(
    "flags", [[], ["--group_column", "Instructor ID"], ["--cv_folds", "3"], ["--patience", "2"]], ids=" ".join
)
def test_the_command_on_many_rows(tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With bundles it says what it says without, up to the bundling of folds; also when it resumes."""
    table = write(copus_frame(700), tmp_path / "table.csv")
    small: list[object] = ["--hidden_dims_search", "4,8", "--max_layers", 1, "--epochs", 2, "--repeats", 2]
    small += ["--data_path", table]
    first = run(tmp_path / "bundles", *small, *flags)
    again = run(tmp_path / "bundles", *small, *flags, "--confidence", "0.9")
    assert first.status == again.status == 0
    assert "already trained" in again.out
    journal = (tmp_path / "bundles" / "journal_latent3.jsonl").stat().st_size
    monkeypatch.setattr(scoring, "MAX_UNITS", MAX_UNITS)
    whole = run(tmp_path / "rows", *small, *flags)
    assert journal < 0.9 * (tmp_path / "rows" / "journal_latent3.jsonl").stat().st_size
    found, expected = ([r["standard_error"] for r in some.results()["all_results"]] for some in (first, whole))
    again_found = first.results()["verdict"]["n_resampled"], whole.results()["verdict"]["n_resampled"]
    assert again_found[0] == again_found[1]
    assert found == pytest.approx(expected, rel=0.3)


def test_other_bundles_are_other_data(tmp_path: Path) -> None:
    """What a journal holds of one bundling is not taken for that of another."""
    table = write(copus_frame(), tmp_path / "table.csv")
    loaded = load(DataOptions(data_path=str(table)), TrainingOptions(), torch.device("cpu"), seed=42)
    bundlings = [None, np.arange(4) % 2, np.arange(4) // 2]
    digests = {loaded._replace(tables={None: replace(loaded.table, bundles=b)}).digest for b in bundlings}
    assert len(digests) == 3


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_dropout_masks_made_a_few_steps_at_a_time_are_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    table, trial = low_rank_table(), Trial((9, 4), 1)  # 81 training rows: 6 steps, the last one ragged
    whole = reference_trainer(table, SETTINGS)(trial)
    monkeypatch.setattr(reference, "MASK_ENTRIES", steps * 16 * 26)
    made: list[int] = []
    make = reference.dropout_masks

    def note(*arguments: Any) -> list[torch.Tensor]:
        made.append(arguments[4])
        return make(*arguments)

    monkeypatch.setattr(reference, "dropout_masks", note)
    parts = reference_trainer(table, SETTINGS)(trial)
    assert made[: -(-6 // steps)] == [min(steps, 6)] * (6 // min(steps, 6))
    assert parts.train_losses.tobytes() == whole.train_losses.tobytes()
    assert parts.parameters.tobytes() == whole.parameters.tobytes()
