"""The command with early stopping: where trainings stop, what they keep, and that no test row has a say in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import ROWS, TINY, VALIDATOR, Run, run
from strategy_runs import EPOCHS, FIELD, STOPPING, arguments_for, entries

from dataset import COPUSDataset
from losses import sparse_aware_loss
from models import load_best

ByStrategy = Callable[[str], Run]
PATIENCE, MIN_DELTA = int(STOPPING[1]), float(STOPPING[3])
TITLES = ["stopping", "stopping, folds", "stopping, groups"]
# Losses of a handful of rows, summed in another order.
SUM_TOLERANCE = 1e-5


def best_of(losses: list[float]) -> int:
    """The epoch, from 1, after which nothing fell by more than MIN_DELTA."""
    best = 0
    for number, loss in enumerate(losses):
        best = number if loss < losses[best] - MIN_DELTA else best
    return best + 1


@pytest.mark.parametrize("title", TITLES)
def test_each_training_stops_when_its_validation_loss_no_longer_falls(by_strategy: ByStrategy, title: str) -> None:
    results = by_strategy(title).results()
    VALIDATOR.validate(results)
    stopped_early = 0
    for entry in results["all_results"]:
        curves = entry["curves"]
        assert len(entry["stopped_epoch"]) == len(entry["best_epoch"]) == len(curves["test"])
        for number, losses in enumerate(curves["validation"]):
            stopped, best = entry["stopped_epoch"][number], entry["best_epoch"][number]
            assert len(losses) == len(curves["test"][number]) == len(curves["train"][number]) == stopped
            assert best == best_of(losses)
            assert stopped == min(best + PATIENCE, EPOCHS)
            stopped_early += stopped < EPOCHS
    assert stopped_early


def test_the_final_losses_are_those_of_the_best_epoch(by_strategy: ByStrategy) -> None:
    for entry in entries(by_strategy("stopping")).values():
        for number, loss in enumerate(entry["test_loss_per_repeat"]):
            assert loss == entry["curves"]["test"][number][entry["best_epoch"][number] - 1]


def test_without_patience_nothing_is_said_of_stopping(by_strategy: ByStrategy) -> None:
    results = by_strategy("grid").results()
    assert results["data"]["validation_rows"] == 0
    for entry in results["all_results"]:
        assert entry["stopped_epoch"] is entry["best_epoch"] is None
        assert set(entry["curves"]) == {"train", "test"}


@pytest.mark.parametrize("title", TITLES)
def test_validation_rows_are_taken_from_the_training_part(by_strategy: ByStrategy, title: str) -> None:
    done = by_strategy(title)
    data = done.results()["data"]
    assert data["train_rows"] + data["validation_rows"] + data["test_rows"] == ROWS
    assert data["test_rows"] == 12
    assert 0 < data["validation_rows"] <= 8
    said = f"{data['train_rows']} for training, {data['validation_rows']} to decide when to stop and 12 for testing"
    assert said in done.out


@pytest.mark.parametrize(("fraction", "n"), [("0.25", 12), ("0.5", 24), ("0.001", 1), ("0.999", 47)])
def test_the_fraction_is_that_of_the_training_rows(table: Path, tmp_path: Path, fraction: str, n: int) -> None:
    arguments = [*TINY, "--patience", 1, "--epochs", 3, "--validation_fraction", fraction]
    done = run(tmp_path, "--data_path", table, *arguments)
    assert done.results()["data"]["validation_rows"] == n
    assert done.results()["data"]["train_rows"] == 48 - n


def test_test_rows_do_not_decide_when_to_stop(by_strategy: ByStrategy, table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    dataset = COPUSDataset(table)
    split = dataset.split(42)
    columns = list(frame.select_dtypes("number").columns.intersection(dataset.columns))
    assert columns
    shuffled = np.random.default_rng(0).permutation(split.test.numpy())
    frame.loc[split.test.numpy(), columns] = frame.loc[shuffled, columns[::-1]].to_numpy()
    other = tmp_path / "other.csv"
    frame.to_csv(other, index=False)
    done = run(tmp_path / "out", "--data_path", other, *arguments_for("stopping"))
    found, expected = entries(done), entries(by_strategy("stopping"))
    assert found.keys() == expected.keys()
    for config, entry in found.items():
        assert entry["curves"]["train"] == expected[config]["curves"]["train"]
        assert entry["curves"]["validation"] == expected[config]["curves"]["validation"]
        assert entry["best_epoch"] == expected[config]["best_epoch"]
        assert entry["curves"]["test"] != expected[config]["curves"]["test"]


def test_the_saved_model_has_the_best_weights(by_strategy: ByStrategy, table: Path) -> None:
    """Of every row a loss: that of the test rows is the one stated, that of the validation rows their lowest."""
    done = by_strategy("stopping")
    saved, best = load_best(done.folder, 3), done.results()["best_configuration"]
    entry = done.results()["all_results"][0]
    number = best["saved_model"]["repeat"] - 1
    dataset = COPUSDataset(table)
    split = dataset.split(42)
    validation = dataset.validation(split.train, 0.1, 42).test
    for rows, stated in [
        (split.test, best["saved_model"]["test_loss"]),
        (split.test, entry["test_loss_per_repeat"][number]),
        (validation, entry["curves"]["validation"][number][entry["best_epoch"][number] - 1]),
    ]:
        target = saved.scaling.apply(dataset.data)[rows]
        with torch.no_grad():
            loss = float(sparse_aware_loss(saved.model(target.nan_to_num(nan=0.0))[0], target))
        assert loss == pytest.approx(stated, rel=SUM_TOLERANCE)


@pytest.mark.parametrize(("patience", "is_told"), [(5, False), (6, True), (50, True)])
def test_a_patience_that_never_runs_out_is_told(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, patience: int, *, is_told: bool
) -> None:
    own = ["--initial_lr", "0.02", "--hidden_dims_search", "8"]
    done = run(tmp_path, "--data_path", table, *FIELD, *own, "--patience", patience)
    assert done.status == 0
    notice = f"Note: --patience {patience} with --epochs 6: no training stops early\n"
    assert done.err == (notice if is_told else "")
    for entry in entries(done).values():
        assert entry["stopped_epoch"] == [6, 6]
    assert "Note" not in by_strategy("stopping").err


@pytest.mark.parametrize("engine", ["compiled", "reference", "stacked"])
def test_both_engines_stop_trainings(table: Path, tmp_path: Path, engine: str) -> None:
    arguments = [*TINY, "--epochs", 6, *STOPPING, "--min_delta", 1e9, "--engine", engine, "--threads", 1]
    done = run(tmp_path, "--data_path", table, *arguments)
    (entry,) = done.results()["all_results"]
    assert (entry["best_epoch"], entry["stopped_epoch"]) == ([1], [2])
