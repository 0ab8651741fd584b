"""The command with each strategy: what it trains, what it says, and that it agrees with the full grid bit for bit."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
from commands import TINY, VALIDATOR, Run, assert_one_line, but_for_time, make_diverge, run
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from resumption import note_trials
from strategy_runs import (
    BAYESIAN,
    EPOCHS,
    FIELD,
    HALVING,
    IN_RUNG,
    REPEATS,
    RUNGS,
    SPACE,
    STRATEGIES,
    arguments_for,
    config_of,
    entries,
    note_epochs,
)

from dataset import COPUSDataset
from layersearch.engines import training
from layersearch.engines.workers import run_trials
from layersearch.search.bayesian import STUDY_NAME
from layersearch.search.strategies import draw_distinct
from layersearch.space.configurations import Space, join_dims
from layersearch.space.naming import config_text
from losses import sparse_aware_loss
from models import load_best

ByStrategy = Callable[[str], Run]
SAMPLING = ("random", "bayesian", "two objectives")
STUDY = "optuna_latent3.log"


def load_study(path: Path) -> optuna.Study:
    return optuna.load_study(study_name=STUDY_NAME, storage=JournalStorage(JournalFileBackend(str(path))))


def tried_of(done: Run) -> list[Any]:
    """The configurations of the history, in its order."""
    return [config_of(step) for step in done.results()["search"]["history"]]


# ------------------------------------------------------------------------------------- every strategy


@pytest.mark.parametrize("title", STRATEGIES)
def test_every_strategy_leaves_results_that_follow_the_schema_and_add_up(by_strategy: ByStrategy, title: str) -> None:
    done = by_strategy(title)
    results = done.results()
    VALIDATOR.validate(results)
    search, everything = results["search"], results["all_results"]
    assert results["complete"] is True
    assert search["tried"] == len(everything) == results["total_configurations"] == len(set(tried_of(done)))
    assert search["tried"] == search["finished"] + search["dropped"] + search["failed"]
    assert search["finished"] == sum(entry["status"] == "ok" for entry in everything)
    assert search["dropped"] == sum(entry["dropped_at_epoch"] is not None for entry in everything)
    losses = [entry["final_test_loss"] for entry in everything[: search["finished"]]]
    assert losses == sorted(losses)
    assert search["history"][-1]["best_loss"] == losses[0]
    epochs = sum(len(curve) for entry in everything for curve in entry["curves"]["test"])
    assert search["history"][-1]["trainings"] == pytest.approx(epochs / EPOCHS)
    assert done.global_state_kept
    assert not list(done.folder.glob("checkpoint*"))
    assert len(pd.read_csv(done.folder / "hyperparam_results_latent3.csv")) == len(everything) + 4


@pytest.mark.parametrize(
    ("title", "first", "last"),
    [
        ("grid", "Searching 9 configurations x 2 repeats of 6 epochs, latent dimension 3", None),
        (
            "random",
            "Searching 5 of 9 configurations, at random, x 2 repeats of 6 epochs, latent dimension 3",
            "Search: random, 5 of 9 configurations tried",
        ),
        (
            "halving",
            "Searching 9 configurations by successive halving x 2 repeats of 6 epochs, latent dimension 3",
            "Search: halving, 9 of 9 configurations tried, 7 dropped early",
        ),
        (
            "bayesian",
            "Searching 7 of 9 configurations, bayesian, x 2 repeats of 6 epochs, latent dimension 3",
            "Search: bayesian, 7 of 9 configurations tried",
        ),
        (
            "halving, folds",
            "Searching 5 configurations by successive halving x 2 repeats x 2 folds of 6 epochs, latent dimension 3",
            "Search: halving, 5 of 5 configurations tried, 4 dropped early",
        ),
    ],
)
def test_the_console_says_which_strategy_runs_and_ran(
    by_strategy: ByStrategy, title: str, first: str, last: str | None
) -> None:
    lines = by_strategy(title).out.splitlines()
    assert lines[0] == first
    assert [line for line in lines if line.startswith("Search: ")] == ([last] if last else [])
    goes_on = [line for line in lines if line.startswith("Going on with the best")]
    if title == "halving":
        assert goes_on == [f"Going on with the best {n} of 9 configurations" for n in IN_RUNG[1:]]
    else:
        assert bool(goes_on) == title.startswith("halving")
    trained = next(line for line in reversed(lines) if " trainings" in line).split()
    assert trained[0] == trained[2], "the count of trainings comes out"


def test_the_verdict_speaks_of_what_was_trained_alone(by_strategy: ByStrategy) -> None:
    for title, scope in [("random", "5 configurations tried"), ("halving", "2 configurations trained to the end")]:
        results = by_strategy(title).results()
        (headline, *rest), verdict = results["verdict"]["statement"], results["verdict"]
        assert scope in headline
        assert any(scope.split(" ", 2)[2] in line for line in rest if "Baselines" in line)
        ranked = [config_of(entry) for entry in results["all_results"] if entry["status"] == "ok"]
        assert {tuple(config) for config in verdict["tied"]} <= set(ranked)
        assert {config_of(point) for point in results["pareto_front"]} <= set(ranked)
    assert any("optimistic by an unknown amount" in line for line in rest)
    assert " tried" not in "".join(by_strategy("grid").results()["verdict"]["statement"])


def test_the_grids_summary_is_what_it_was(by_strategy: ByStrategy) -> None:
    done = by_strategy("grid")
    summary = done.out[done.out.index("=" * 70) :].splitlines()
    assert summary[1:3] == ["HYPERPARAMETER OPTIMIZATION COMPLETED", "=" * 70]
    starts = ["Best configuration: ", "Best final test loss: ", "Best model parameters: ", "Best model saved: ", ""]
    assert all(line.startswith(start) for line, start in zip(summary[3:], starts, strict=False))
    assert summary[8].startswith("Verdict: ")


# ----------------------------------------------------------------------------------- against the grid


@pytest.mark.parametrize("title", ["random", "halving", "bayesian", "two objectives"])
def test_what_is_trained_to_its_end_has_the_grids_bits(by_strategy: ByStrategy, title: str) -> None:
    grid, found = entries(by_strategy("grid")), entries(by_strategy(title))
    for config, entry in found.items():
        if entry["status"] == "ok":
            for name in ("test_loss_per_repeat", "train_loss_per_repeat", "curves", "model_params"):
                assert entry[name] == grid[config][name], (config, name)


def test_what_halving_drops_has_the_beginnings_of_the_grids_curves(by_strategy: ByStrategy) -> None:
    grid, found = entries(by_strategy("grid")), entries(by_strategy("halving"))
    dropped = [entry for entry in found.values() if entry["dropped_at_epoch"]]
    counts = Counter(entry["dropped_at_epoch"] for entry in dropped)
    assert counts == {epoch: before - after for epoch, before, after in zip(RUNGS, IN_RUNG, IN_RUNG[1:], strict=False)}
    for entry in dropped:
        epoch = entry["dropped_at_epoch"]
        for part in ("train", "test"):
            whole = grid[config_of(entry)]["curves"][part]
            assert entry["curves"][part] == [curve[:epoch] for curve in whole]
        lasts = [curve[-1] for curve in entry["curves"]["test"]]
        assert entry["loss_when_dropped"] == pytest.approx(sum(lasts) / REPEATS, rel=1e-12)
        assert entry["status"] == f"dropped at epoch {epoch} (loss {entry['loss_when_dropped']:.4g})"
        assert entry["rank"] is entry["final_test_loss"] is entry["tied"] is None
        assert entry["test_loss_per_repeat"] == [None, None]


def test_halving_keeps_the_best_at_each_rung(by_strategy: ByStrategy) -> None:
    grid, found = entries(by_strategy("grid")), entries(by_strategy("halving"))
    running = set(grid)
    for epoch, n_kept in zip(RUNGS, IN_RUNG[1:], strict=True):
        loss = {config: sum(curve[epoch - 1] for curve in grid[config]["curves"]["test"]) for config in running}
        kept = set(sorted(running, key=loss.__getitem__)[:n_kept])
        assert {config for config in running if found[config]["dropped_at_epoch"] == epoch} == running - kept
        running = kept
    assert {config for config, entry in found.items() if entry["status"] == "ok"} == running


@pytest.mark.parametrize("title", ["halving", "halving and stopping", "halving, all stopping", "halving, folds"])
def test_halving_trains_no_epoch_twice(
    by_strategy: ByStrategy, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    trained = note_epochs(monkeypatch)
    done = run(tmp_path, "--data_path", table, *arguments_for(title))
    assert but_for_time(done.results())["all_results"] == by_strategy(title).results()["all_results"]
    assert set(trained.values()) == {1}
    epochs = sum(len(curve) for entry in entries(done).values() for curve in entry["curves"]["test"])
    anew = sum(trial.fold is None for trial, _ in trained) if "folds" in title else 0
    assert len(trained) == epochs + anew
    trained.clear()
    assert run(tmp_path, "--data_path", table, *arguments_for(title)).status == 0
    assert not trained, "a finished search trains nothing"


def test_a_failed_configuration_is_dropped_as_failed(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_diverge(monkeypatch, lambda trial: trial.config == (16, 4) and trial.repeat == 1)
    done = run(tmp_path, "--data_path", table, *FIELD, *HALVING)
    search, entry = done.results()["search"], entries(done)[16, 4]
    assert (search["failed"], search["dropped"], search["finished"]) == (1, 6, 2)
    assert entry["status"].startswith("failed: not finite")
    assert entry["dropped_at_epoch"] is None
    assert "Search: halving, 9 of 9 configurations tried, 6 dropped early, 1 failed" in done.out
    VALIDATOR.validate(done.results())


# --------------------------------------------------------------------------------------------- random


def test_a_longer_random_search_begins_like_a_shorter_one(by_strategy: ByStrategy, table: Path, tmp_path: Path) -> None:
    five = by_strategy("random")
    eight = run(tmp_path, "--data_path", table, *FIELD, "--search", "random", "--trials", "8")
    assert tried_of(eight)[:5] == tried_of(five) == draw_distinct(SPACE, 5, 42)
    assert entries(five).keys() < entries(eight).keys()
    all_of_them = run(tmp_path, "--data_path", table, *FIELD, "--search", "random", "--trials", "500")
    assert entries(all_of_them).keys() == set(SPACE.configurations())
    assert "Search: random, 9 of 9 configurations tried" in all_of_them.out
    assert "5 configurations tried" not in all_of_them.out


# ------------------------------------------------------------------------------------------- bayesian


def test_bayesian_search_gives_the_same_results_again(by_strategy: ByStrategy, table: Path, tmp_path: Path) -> None:
    again = run(tmp_path, "--data_path", table, *arguments_for("bayesian"), "--threads", 1)
    results, expected = (but_for_time(done.results()) for done in (again, by_strategy("bayesian")))
    assert results["search"] == expected["search"]
    assert results["all_results"] == expected["all_results"]
    other = run(tmp_path / "other", "--data_path", table, *arguments_for("bayesian"), "--seed", 1)
    assert tried_of(other) != tried_of(again)


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (100, [7])])
def test_so_many_configurations_are_trained_side_by_side(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, sizes: list[int]
) -> None:
    runs: list[int] = []

    def note(trials: Any, *given: Any, **options: Any) -> Any:
        runs.append(len(trials))
        return run_trials(trials, *given, **options)

    monkeypatch.setattr(training, "run_trials", note)
    run(tmp_path, "--data_path", table, *FIELD, *BAYESIAN, "--batch_trials", batch)
    assert [n // REPEATS for n in runs if n] == sizes


@pytest.mark.parametrize(("title", "names"), [("bayesian", ["loss"]), ("two objectives", ["loss", "log10 params"])])
def test_the_study_opens_in_optuna_and_holds_what_was_found(
    by_strategy: ByStrategy, title: str, names: list[str]
) -> None:
    done = by_strategy(title)
    study, found = load_study(done.folder / STUDY), entries(done)
    assert study.metric_names == names
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)
    told = {eval(trial.user_attrs["configuration"]): trial.values for trial in study.trials}
    assert told.keys() == found.keys()
    for config, values in told.items():
        assert values[0] == found[config]["final_test_loss"]
        if len(values) == 2:
            assert 10 ** values[1] == pytest.approx(found[config]["model_params"])
    assert list(dict.fromkeys(eval(trial.user_attrs["configuration"]) for trial in study.trials)) == tried_of(done)


def test_objectives_given_by_name_steer_the_search(by_strategy: ByStrategy) -> None:
    assert tried_of(by_strategy("two objectives"))[:5] == tried_of(by_strategy("bayesian"))[:5], "drawn at random"
    assert len(load_study(by_strategy("two objectives").folder / STUDY).directions) == 2
    assert len(load_study(by_strategy("bayesian").folder / STUDY).directions) == 1


def test_a_failure_is_told_as_one_and_never_trained_again(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_diverge(monkeypatch, lambda trial: len(trial.config) == 2)
    trials = note_trials(monkeypatch)
    done = run(tmp_path, "--data_path", table, *FIELD, *BAYESIAN, "--trials", 9)
    assert done.status == 0
    search = done.results()["search"]
    assert (search["tried"], search["failed"], search["finished"]) == (9, 6, 3)
    assert len(trials) == len(set(trials)) == 18
    for trial in load_study(tmp_path / STUDY).trials:
        assert (trial.state == optuna.trial.TrialState.FAIL) == (len(eval(trial.user_attrs["configuration"])) == 2)


def test_a_study_of_another_search_is_refused_by_one_line(by_strategy: ByStrategy, table: Path, tmp_path: Path) -> None:
    for name, content in {"another": (by_strategy("bayesian").folder / STUDY).read_bytes(), "none": b"hello"}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / STUDY).write_bytes(content)
        arguments = ["--data_path", table, *FIELD, *BAYESIAN, "--seed", 1, "--quiet"]
        line = assert_one_line(run(folder, *arguments), 2)
        assert STUDY in line
        assert "another search" in line
        assert "--fresh" in line
        assert (folder / STUDY).read_bytes() == content
        assert run(folder, *arguments, "--fresh").status == 0
        assert len(load_study(folder / STUDY).trials) >= 7


def test_without_optuna_bayesian_search_alone_is_refused(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "layersearch.search.bayesian", raising=False)
    arguments = ["--data_path", table, *TINY, "--quiet"]
    line = assert_one_line(run(tmp_path, *arguments, "--search", "bayesian", "--trials", 1), 2)
    assert line.startswith("error: --search bayesian needs Optuna")
    assert "pip install optuna" in line
    assert run(tmp_path, *arguments, "--search", "random", "--trials", 1).status == 0


# ------------------------------------------------------------------------------- free architectures


def test_arrangements_search_all_that_they_allow(by_strategy: ByStrategy) -> None:
    assert entries(by_strategy("any")).keys() == set(Space([4, 8, 16], 2, "any").configurations())
    pairs = entries(by_strategy("asymmetric")).keys()
    assert pairs < set(Space([4, 8], 2, "asymmetric").configurations())
    assert any(isinstance(config[0], tuple) for config in pairs)
    mirrored = [config for config in pairs if not isinstance(config[0], tuple)]
    assert mirrored, "one that mirrors itself is written as before"
    ranged = entries(by_strategy("range")).keys()
    assert all(set(config) <= set(range(4, 65, 4)) for config in ranged)
    assert len(ranged) == 4


def test_what_a_freer_space_shares_with_the_grid_has_its_bits(by_strategy: ByStrategy) -> None:
    grid, free = entries(by_strategy("grid")), entries(by_strategy("any"))
    assert grid.keys() < free.keys()
    for config, entry in grid.items():
        assert free[config]["curves"] == entry["curves"]


@pytest.mark.parametrize("title", ["halving", "stopping", "any", "asymmetric", "bayesian, asymmetric", "range"])
def test_the_saved_model_is_the_chosen_one_with_its_loss(by_strategy: ByStrategy, table: Path, title: str) -> None:
    done = by_strategy(title)
    saved, best = load_best(done.folder, 3), done.results()["best_configuration"]
    halves = [tuple(best["model_info"][name]) for name in ("hidden_dims", "decoder_dims")]
    assert config_of(best) == join_dims(*halves)
    assert halves == [tuple(saved.model.hidden_dims), tuple(saved.model.decoder_dims)]
    dataset = COPUSDataset(table)
    target = saved.scaling.apply(dataset.data)[dataset.split(42).test]
    with torch.no_grad():
        loss = float(sparse_aware_loss(saved.model(target.nan_to_num(nan=0.0))[0], target))
    assert loss == pytest.approx(best["saved_model"]["test_loss"], rel=1e-5)


# --------------------------------------------------------------------------------------------- listing


def test_the_list_trains_nothing_and_writes_nothing(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = note_trials(monkeypatch)
    for arrangement, n in [("decreasing", 9), ("any", 12), ("asymmetric", 81)]:
        done = run(
            tmp_path / "new", "--data_path", table, *FIELD, "--arrangement", arrangement, "--list_configurations"
        )
        assert (done.status, done.err) == (0, "")
        heading, *rows, total = done.out.splitlines()
        assert heading.split() == ["parameters", "s/training", "s", "in", "total", "hidden", "layers"]
        space = Space([4, 8, 16], 2, arrangement)
        assert [row.split(maxsplit=3)[3] for row in rows] == [config_text(config) for config in space.configurations()]
        assert total.startswith(f"{n} configurations x 2 repeats, about ")
    assert not (tmp_path / "new").exists()
    assert trials == []


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--search", "random", "--trials", "0"], "--search random needs to know how many"),
        (["--search", "bayesian"], "--search bayesian needs to know how many"),
        (["--trials", "5"], "--trials goes with --search random or bayesian"),
        (["--search", "halving", "--halving_factor", "1"], "--halving_factor 1: give a whole number from 2"),
        (["--width_range", "64:4"], "--width_range '64:4': it ends below its start; give 4:64"),
        (["--width_range", ""], "--width_range '': give low:high"),
        (["--min_delta", "0.1"], "--min_delta goes with --patience"),
        (["--batch_trials", "2"], "--batch_trials goes with --search bayesian"),
        (["--search", "halving", "--min_epochs", "-1"], "--min_epochs -1: give a whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_with_a_strategy_is_one_line_and_no_folder(
    table: Path, tmp_path: Path, flags: list[str], said: str
) -> None:
    line = assert_one_line(run(tmp_path / "new", "--data_path", table, *flags), 2)
    assert line.startswith(f"error: {said}")
    assert not (tmp_path / "new").exists()
