"""Searches by each strategy that were stopped anywhere end with the bits of ones that were not."""

from __future__ import annotations

import itertools
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import soak
from commands import VALIDATOR, Run, assert_one_line, run
from faults import after_record, let_trainings_end, raising
from journals import journal_path, line_ends
from resumption import KilledError, goes_on_from, note_trials, outputs, run_until
from strategy_runs import REPEATS, arguments_for, config_of, entries, note_epochs

from layersearch.engines import dispatch, training
from layersearch.journal.checkpoints import Checkpoints
from layersearch.space.trials import Trial, TrialResult

ByStrategy = Callable[[str], Run]
RESUMED = [
    "random",
    "halving",
    "bayesian",
    "two objectives",
    "stopping",
    "stopping, folds",
    "halving and stopping",
    "halving, all stopping",
]
STUDY = "optuna_latent3.log"
RESULTS = ["hyperparam_results_latent3.json", "hyperparam_results_latent3.csv", "best_model_latent3.pth"]


def assert_same(done: Run, whole: Run) -> None:
    assert (done.status, done.err) == (0, "")
    assert soak.differences(outputs(whole.folder), outputs(done.folder)) == []


def some(ends: Sequence[int], n: int) -> list[int]:
    """So many of them, evenly, the first and the last included."""
    return [ends[round(number * (len(ends) - 1) / (n - 1))] for number in range(n)]


@pytest.mark.parametrize("title", RESUMED)
def test_from_records_all_along_the_journal_the_search_ends_with_the_same_bits(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, title: str
) -> None:
    """Without the states of trials that paused, and without Optuna's file: both are made again."""
    whole = by_strategy(title)
    left = journal_path(whole.folder).read_bytes()
    for size in some(line_ends(left), 3):
        done = goes_on_from(left[:size], tmp_path / str(size), "--data_path", table, *arguments_for(title))
        assert_same(done, whole)


@pytest.mark.parametrize("title", ["halving", "halving and stopping"])
@pytest.mark.parametrize("number", [1, 18, 20, 31])
def test_halving_that_was_killed_goes_on_from_its_states_and_trains_no_epoch_twice(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str, number: int
) -> None:
    trained = note_epochs(monkeypatch)
    arguments = ["--data_path", table, *arguments_for(title), "--threads", 1]
    run_until(number, tmp_path, *arguments)
    before = Counter(trained)
    assert list(tmp_path.glob("checkpoint_*"))
    assert_same(run(tmp_path, *arguments), by_strategy(title))
    assert not list(tmp_path.glob("checkpoint_*"))
    twice = {trial for (trial, _), times in trained.items() if times > 1}
    assert len(twice) <= 1, "what was trained while it was killed"
    assert before
    epochs = sum(len(curve) for entry in entries(by_strategy(title)).values() for curve in entry["curves"]["test"])
    assert len(trained) == epochs


@pytest.mark.parametrize("damage", ["removed", "cut off", "one changed byte", "empty", "of another trial"])
def test_a_state_that_is_lost_or_damaged_is_made_again(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, damage: str
) -> None:
    arguments = ["--data_path", table, *arguments_for("halving"), "--threads", 1]
    run_until(20, tmp_path, *arguments)
    paths = sorted(tmp_path.glob("checkpoint_*"))
    assert len(paths) > 2
    contents = [path.read_bytes() for path in paths]
    for path, content, another in zip(paths, contents, [*contents[1:], contents[0]], strict=True):
        if damage == "removed":
            path.unlink()
        elif damage == "one changed byte":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        else:
            path.write_bytes({"cut off": content[:-99], "empty": b"", "of another trial": another}[damage])
    assert_same(run(tmp_path, *arguments), by_strategy("halving"))
    assert not list(tmp_path.glob("checkpoint_*"))


def test_killed_between_a_state_and_its_record_it_goes_on(by_strategy: ByStrategy, table: Path, tmp_path: Path) -> None:
    arguments = ["--data_path", table, *arguments_for("halving"), "--threads", 1]
    for number in (3, 19, 2):
        run_until(number, tmp_path, *arguments, owner=Checkpoints, method="save")
    assert_same(run(tmp_path, *arguments), by_strategy("halving"))


def test_killed_between_a_record_and_the_removal_of_its_state_it_leaves_none(
    by_strategy: ByStrategy, table: Path, tmp_path: Path
) -> None:
    arguments = ["--data_path", table, *arguments_for("halving"), "--threads", 1]
    for number in (2, 5):
        run_until(number, tmp_path, *arguments, owner=Checkpoints, method="remove")
    assert_same(run(tmp_path, *arguments), by_strategy("halving"))
    assert not list(tmp_path.glob("checkpoint_*"))


@pytest.mark.parametrize("title", ["bayesian", "two objectives"])
def test_a_bayesian_search_that_was_killed_asks_for_the_same(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    arguments = ["--data_path", table, *arguments_for(title), "--threads", 1]
    for number in (1, 4, 6):
        run_until(number, tmp_path, *arguments)
        assert (tmp_path / STUDY).exists()
    trials = note_trials(monkeypatch)
    done = run(tmp_path, *arguments)
    assert_same(done, by_strategy(title))
    assert "11 trainings already done at" in done.out
    assert 0 <= len(trials) - (7 * REPEATS - 11) <= 1, "the weights of the chosen one, too"
    trials.clear()
    assert_same(run(tmp_path, *arguments), by_strategy(title))
    assert trials == []


def test_a_study_that_was_cut_off_is_no_obstacle(by_strategy: ByStrategy, table: Path, tmp_path: Path) -> None:
    arguments = ["--data_path", table, *arguments_for("bayesian"), "--threads", 1]
    run_until(6, tmp_path, *arguments)
    path = tmp_path / STUDY
    path.write_bytes(path.read_bytes()[:-7])
    assert_same(run(tmp_path, *arguments), by_strategy("bayesian"))


def test_one_strategy_takes_over_what_another_has_trained(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = journal_path(by_strategy("grid").folder).read_bytes()
    trials = note_trials(monkeypatch)
    for title in ("random", "bayesian", "two objectives"):
        done = goes_on_from(left, tmp_path / title, "--data_path", table, *arguments_for(title))
        for name in RESULTS:
            assert outputs(done.folder)[name] == outputs(by_strategy(title).folder)[name], name
    assert len(trials) <= 3, "the weights of those that the grid did not choose"


# -------------------------------------------------------------------------------------- interrupted


def interrupted_after(number: int, folder: Path, *arguments: object) -> Run:
    """Runs the command, which is asked to stop when so many trainings are in its journal, and ends no other."""
    make_trainer, started, is_over = dispatch.make_trainer, itertools.count(1), threading.Event()

    def make_waiting(*given: Any) -> Callable[[Trial], TrialResult]:
        train = make_trainer(*given)

        def train_or_wait(trial: Trial) -> TrialResult:
            if next(started) > number:
                is_over.wait(60)
                raise KilledError
            return train(trial)

        return train_or_wait

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "make_trainer", make_waiting)
        after_record(patch, number, raising(signal.SIGTERM))
        done = run(folder, *arguments)
        is_over.set()
    let_trainings_end()
    return done


@pytest.mark.parametrize(("number", "dropped"), [(10, 0), (17, 0), (18, 4), (21, 4), (30, 6), (36, 7)])
def test_an_interrupted_halving_calls_nothing_dropped_that_would_have_gone_on(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, number: int, dropped: int
) -> None:
    """Its rungs come after 18, 28 and 34 trainings."""
    whole = entries(by_strategy("halving"))
    arguments = ["--data_path", table, *arguments_for("halving"), "--threads", 1]
    done = interrupted_after(number, tmp_path, *arguments)
    assert done.status == 143
    results = done.results()
    VALIDATOR.validate(results)
    assert results["complete"] is False
    assert results["total_configurations"] == 9
    assert results["search"]["dropped"] == dropped
    for config, entry in entries(done).items():
        if entry["dropped_at_epoch"]:
            assert entry["dropped_at_epoch"] == whole[config]["dropped_at_epoch"]
            assert entry["curves"] == whole[config]["curves"]
        else:
            assert entry["final_test_loss"] == whole[config]["final_test_loss"]
    assert results["search"]["tried"] == len(results["all_results"])
    assert_same(run(tmp_path, *arguments), by_strategy("halving"))


@pytest.mark.parametrize("title", ["bayesian", "stopping"])
def test_an_interrupted_search_reports_what_it_has_and_goes_on(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, title: str
) -> None:
    arguments = ["--data_path", table, *arguments_for(title), "--threads", 1]
    done = interrupted_after(5, tmp_path, *arguments)
    assert done.status == 143
    results = done.results()
    VALIDATOR.validate(results)
    assert (results["complete"], len(results["all_results"])) == (False, 2)
    assert results["total_configurations"] == by_strategy(title).results()["total_configurations"]
    assert {config_of(step) for step in results["search"]["history"]} == set(entries(done))
    whole = entries(by_strategy(title))
    for config, entry in entries(done).items():
        assert entry["curves"] == whole[config]["curves"]
    assert_same(run(tmp_path, *arguments), by_strategy(title))


# ----------------------------------------------------------------------------------- another search


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--patience", "2"], "--patience 1, now 2"),
        (["--min_delta", "0"], "--min_delta 0.002, now 0.0"),
        (["--validation_fraction", "0.2"], "--validation_fraction 0.1, now 0.2"),
    ],
)
def test_what_would_stop_trainings_elsewhere_is_another_search(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, flags: list[str], said: str
) -> None:
    folder = Path(shutil.copytree(by_strategy("stopping").folder, tmp_path / "copied"))
    before = outputs(folder)
    line = assert_one_line(run(folder, "--data_path", table, *arguments_for("stopping"), *flags, "--quiet"), 2)
    assert f"journal_latent3.jsonl belongs to another search ({said})" in line
    assert outputs(folder) == before


@pytest.mark.parametrize("flags", [["--halving_factor", "3"], ["--min_epochs", "2"]])
def test_other_rungs_go_on_with_what_there_is(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, flags: list[str]
) -> None:
    arguments = ["--data_path", table, *arguments_for("halving"), *flags, "--threads", 1]
    scratch = run(tmp_path / "scratch", *arguments)
    run_until(20, tmp_path / "on", "--data_path", table, *arguments_for("halving"), "--threads", 1)
    done = run(tmp_path / "on", *arguments)
    assert (done.status, done.err) == (0, "")
    for name in RESULTS:
        assert outputs(done.folder)[name] == outputs(scratch.folder)[name], name
    assert entries(done) != entries(by_strategy("halving"))
