"""The verdict as a user meets it: folds, groups, the chosen configuration, the probe, from the command to its files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import (
    SMALL,
    TINY,
    VALIDATOR,
    Run,
    assert_one_line,
    but_for_threads,
    make_diverge,
    run,
)

from dataset import COPUSDataset, fit_scaling
from layersearch.command.arguments import parse_arguments
from layersearch.command.request import read_request
from layersearch.engines import training
from layersearch.engines.settings import TrainingSettings
from layersearch.engines.training import Training
from layersearch.loading.loaded import Loaded, load
from layersearch.space.naming import config_text
from layersearch.space.trials import Trial
from layersearch.verdict import probe
from layersearch.words import loss_text
from models import flatten, load_best

# ----------------------------------------------------------------------------------------- the verdict


def as_trained(table: Path, *arguments: object) -> tuple[Training, Loaded]:
    """What a command with these arguments trains with, to do it again by hand."""
    request = read_request(parse_arguments([*map(str, arguments), "--data_path", str(table)]))
    loaded = load(request.data, request.training, torch.device("cpu"), seed=request.search.seed)
    settings = TrainingSettings.of(request.training, request.sizes.latent_dim, request.search.seed)
    return Training(settings, loaded.tables, "compiled", threads=2), loaded


def saved_parameters(done: Run) -> np.ndarray:
    """The weights in the .pth file, as one vector."""
    return flatten(load_best(done.folder, 3).model)


FOLDED = [*SMALL, "--cv_folds", "3", "--save_models"]


@pytest.fixture(scope="module")
def folded(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search on three folds."""
    return run(tmp_path_factory.mktemp("folded"), "--data_path", table, *FOLDED)


def test_with_folds_results_follow_the_schema_and_the_loss_is_a_mean_over_them(folded: Run) -> None:
    results = folded.results()
    VALIDATOR.validate(results)
    assert folded.status == 0
    assert "x 2 repeats x 3 folds of 3 epochs" in folded.out
    assert "(3 folds x 2 repeats)" in folded.out
    assert re.search(r"\(.*2 repeats, first fold\)", folded.out), "what was probed"
    for entry in results["all_results"]:
        assert np.shape(entry["test_loss_per_fold"]) == (2, 3)
        assert entry["final_test_loss"] == pytest.approx(np.mean(entry["test_loss_per_fold"]), rel=1e-12)
        assert np.shape(entry["curves"]["test"]) == (6, 3)
    assert results["verdict"]["optimism"] is None
    assert results["verdict"]["n_resampled"] == 48, "every training row is scored in one fold"


def test_with_folds_the_honest_loss_and_the_saved_model_are_those_of_training_on_all_training_rows(
    folded: Run, table: Path
) -> None:
    best = folded.results()["best_configuration"]
    training, _ = as_trained(table, *FOLDED)
    refits = [training.trainer()(Trial(tuple(best["config"]), repeat)) for repeat in range(2)]
    low, high = best["honest_test_loss_interval"]
    assert low < best["honest_test_loss"] < high
    assert best["honest_test_loss"] == pytest.approx(np.mean([refit.final_test_loss for refit in refits]), rel=1e-12)
    assert f"Honest test loss: {loss_text(best['honest_test_loss'])} [" in folded.out
    trained = refits[best["saved_model"]["repeat"] - 1]
    assert trained.final_train_loss == min(refit.final_train_loss or np.inf for refit in refits)
    assert np.array_equal(saved_parameters(folded), trained.parameters)
    stated = best["saved_model"]
    assert (stated["train_loss"], stated["test_loss"]) == (trained.final_train_loss, trained.final_test_loss)


def test_with_folds_the_test_rows_change_the_honest_loss_alone(folded: Run, table: Path, tmp_path: Path) -> None:
    frame, dataset = pd.read_csv(table), COPUSDataset(table)
    test = dataset.split(42).test.numpy()
    frame.loc[test, dataset.columns] = 100 - frame.loc[test, dataset.columns]
    frame.to_csv(tmp_path / "mine.csv", index=False)
    other = run(tmp_path / "output", "--data_path", tmp_path / "mine.csv", *FOLDED)
    before, after = folded.results(), other.results()
    assert after["all_results"] == before["all_results"]
    assert after["pareto_front"] == before["pareto_front"]
    for results in (before, after):
        del results["verdict"]["statement"]  # it names the honest loss
    assert after["verdict"] == before["verdict"]
    assert after["best_configuration"]["honest_test_loss"] != before["best_configuration"]["honest_test_loss"]
    assert np.array_equal(saved_parameters(other), saved_parameters(folded))


def test_each_fold_is_scaled_by_its_own_training_rows(table: Path) -> None:
    _, loaded = as_trained(table, *FOLDED)
    assert loaded.folds == [0, 1, 2]
    outer = set(loaded.table.test.tolist())
    for fold in [None, *loaded.folds]:
        part = loaded.tables[fold]
        scaling, _ = fit_scaling("robust", loaded.dataset.data, part.train, loaded.dataset.columns)
        assert torch.equal(part.values, scaling.apply(loaded.dataset.data))
        if fold is not None:
            assert not torch.equal(part.values, loaded.table.values)
            assert outer.isdisjoint(part.train.tolist() + part.test.tolist())


def test_with_folds_a_run_is_the_same_twice_and_on_one_thread(folded: Run, table: Path, tmp_path: Path) -> None:
    again = run(tmp_path, "--data_path", table, *FOLDED, "--threads", 1)
    assert but_for_threads(again.results()) == but_for_threads(folded.results())
    assert (again.folder / "best_model_latent3.pth").read_bytes() == (
        folded.folder / "best_model_latent3.pth"
    ).read_bytes()


@pytest.mark.parametrize("n_diverging", [1, 2])
def test_what_diverges_when_the_chosen_is_trained_on_all_training_rows_leaves_the_verdict_as_it_is(
    folded: Run, table: Path, tmp_path: Path, n_diverging: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_diverge(monkeypatch, lambda trial: trial.fold is None and trial.repeat < n_diverging)
    done = run(tmp_path, "--data_path", table, *FOLDED)
    results = done.results()
    VALIDATOR.validate(results)
    assert results["all_results"] == folded.results()["all_results"]
    assert results["verdict"]["tied"] == folded.results()["verdict"]["tied"]
    assert "Honest" not in done.out
    if n_diverging == 1:
        assert results["best_configuration"]["honest_test_loss"] is None
        assert results["best_configuration"]["saved_model"]["repeat"] == 2
    else:
        assert "it has no honest test loss" in done.err
        best = results["best_configuration"]
        assert best["config"] == folded.results()["best_configuration"]["config"]
        assert (best["honest_test_loss"], best["model"], best["saved_model"]) == (None, None, None)
        assert not {"best_model_latent3.pth", "latent_codes_latent3.csv"} & done.files()


def test_no_picture_of_a_model_is_named_where_there_is_none(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_diverge(monkeypatch, lambda trial: trial.fold is None)
    done = run(tmp_path, "--data_path", table, *FOLDED, "--latent_dim", 2)
    assert "latent_space_2d" not in done.out


# Trained for long enough that the best is not the smallest; a smaller one may be twice as bad.
LONGER = [*SMALL, "--epochs", "40", "--save_models", "--no_probe", "--margin", "1"]


@pytest.fixture(scope="module", params=[(), ("--cv_folds", "3")], ids=["split", "folds"])
def best_and_simplest(
    request: pytest.FixtureRequest, table: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Run, list[str]]:
    """The same search by both `--select`, with its arguments."""
    arguments = [*LONGER, *request.param]
    best, simplest = (
        run(tmp_path_factory.mktemp(select), "--data_path", table, *arguments, "--select", select)
        for select in ("best", "simplest")
    )
    return best, simplest, arguments


def test_select_changes_the_best_configuration_and_nothing_else(best_and_simplest: tuple[Run, Run, list[str]]) -> None:
    best, simplest = (done.results() for done in best_and_simplest[:2])
    VALIDATOR.validate(simplest)
    assert best["best_configuration"]["config"] == best["verdict"]["best_measured"]["config"]
    assert simplest["best_configuration"]["config"] == simplest["verdict"]["recommended"]["config"]
    assert simplest["best_configuration"]["model_params"] < best["best_configuration"]["model_params"]
    assert config_text(simplest["best_configuration"]["config"]) in best_and_simplest[1].out.split("Verdict")[0]
    for results in (best, simplest):
        results["verdict"]["statement"] = [
            line for line in results["verdict"]["statement"] if "Honest" not in line and "The model of" not in line
        ]
    for part in ("all_results", "verdict", "pareto_front", "data", "environment", "total_configurations"):
        assert simplest[part] == best[part]


def test_the_simplest_is_saved_with_the_weights_that_its_training_gives_each_time(
    best_and_simplest: tuple[Run, Run, list[str]], table: Path
) -> None:
    _, simplest, arguments = best_and_simplest
    chosen = simplest.results()["best_configuration"]
    training, _ = as_trained(table, *arguments)
    again = training.trainer()(Trial(tuple(chosen["config"]), chosen["saved_model"]["repeat"] - 1))
    assert np.array_equal(saved_parameters(simplest), again.parameters)
    assert chosen["saved_model"]["test_loss"] == again.final_test_loss


@pytest.mark.parametrize("objectives", ["loss,params,time", "time,loss"])
def test_objectives_decide_what_is_on_the_front(table: Path, tmp_path: Path, objectives: str) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--objectives", objectives)
    results = done.results()
    VALIDATOR.validate(results)
    assert results["verdict"]["objectives"] == objectives.split(",")
    front = [entry["config"] for entry in results["all_results"] if entry["pareto"]]
    assert front
    assert sorted(front) == sorted(entry["config"] for entry in results["pareto_front"])
    ranking = pd.read_csv(tmp_path / "hyperparam_results_latent3.csv", dtype=str)
    assert list(ranking["configuration"][ranking["pareto"] == "True"]) == [config_text(config) for config in front]


def test_the_probe_is_no_part_of_the_ranking(finished: Run, table: Path, tmp_path: Path) -> None:
    without = run(tmp_path, "--data_path", table, *SMALL, "--save_models", "--no_probe")
    assert "Probing" in finished.out
    assert "Probing" not in without.out
    results, probed = without.results(), finished.results()
    VALIDATOR.validate(results)
    assert results["verdict"].pop("probe") is None
    assert probed["verdict"].pop("probe")["epochs"] == [3, 6, 12]
    assert "first fold" not in finished.out
    statement = results["verdict"].pop("statement")
    assert probed["verdict"].pop("statement")[:-1] == statement
    for part in ("all_results", "verdict", "best_configuration", "pareto_front"):
        assert results[part] == probed[part]


def test_a_probe_that_would_cost_too_much_is_left_out_and_said(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "FREE", 0.0)
    done = run(tmp_path, "--data_path", table, *SMALL)
    assert "Longer training is not probed" in done.out
    assert done.results()["verdict"]["probe"] is None


@pytest.mark.parametrize("folds", [0, 3])
def test_groups_stay_whole_and_are_what_is_resampled(table: Path, tmp_path: Path, folds: int) -> None:
    arguments = [*SMALL, "--group_column", "School", "--stratify_column", "Term", "--cv_folds", str(folds)]
    done = run(tmp_path, "--data_path", table, *arguments)
    results = done.results()
    VALIDATOR.validate(results)
    _, loaded = as_trained(table, *arguments)
    schools, terms = loaded.dataset.others["School"].to_numpy(), loaded.dataset.others["Term"].to_numpy()
    scored: set[int] = set()
    for part in loaded.tables.values():
        assert set(schools[part.train.numpy()]).isdisjoint(schools[part.test.numpy()])
        assert terms[part.test.numpy()].mean() == 0.5
    for fold in loaded.folds:
        scored.update(schools[loaded.tables[fold].test.numpy()].tolist())
    assert (results["verdict"]["resampled"], results["verdict"]["n_resampled"]) == ("groups", len(scored))
    assert (results["data"]["group_column"], results["data"]["groups"]) == ("School", 15)
    assert results["data"]["stratify_column"] == "Term"


def test_rows_that_share_an_id_are_noticed_with_the_flag_that_keeps_them_apart(table: Path, tmp_path: Path) -> None:
    pd.read_csv(table).rename(columns={"School": "School ID"}).to_csv(tmp_path / "shared.csv", index=False)
    done = run(tmp_path / "output", "--data_path", tmp_path / "shared.csv", *TINY)
    assert done.err.count("\n") == 1
    assert done.err.startswith("Note: rows share 'School ID'")
    assert done.err.endswith('--group_column "School ID"\n')
    kept = run(tmp_path / "kept", "--data_path", tmp_path / "shared.csv", *TINY, "--group_column", "School ID")
    assert kept.err == ""


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--cv_folds", 49], "--cv_folds 49: more folds than rows in the training part (48)"),
        (["--cv_folds", 13, "--group_column", "School"], "--cv_folds 13: more folds than groups of 'School'"),
        (["--cv_folds", 1], "--cv_folds 1:"),
        (["--group_column", "Nowhere"], "--group_column: no column 'Nowhere'"),
        (["--group_column", "Country"], "--group_column 'Country': all 60 rows have the same value"),
        (["--group_column", "Instructor ID"], "--group_column 'Instructor ID': no two of the 60 rows share a value"),
        (["--group_column", "Term"], "--group_column 'Term': its 2 groups"),
        (["--stratify_column", "Nowhere"], "--stratify_column: no column 'Nowhere'"),
        (["--stratify_column", "Country"], "--stratify_column 'Country': all 60 rows have the same value"),
        (["--confidence", 1], "--confidence 1:"),
        (["--confidence", 0], "--confidence 0:"),
        (["--objectives", "loss,speed"], "'speed' is no objective"),
        (["--select", "simplest", "--repeats", 1], "--select simplest needs"),
    ],
)
def test_what_cannot_be_split_or_judged_is_one_line_before_any_training(
    table: Path, tmp_path: Path, arguments: list[object], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "run_trials", lambda *_: pytest.fail("trained all the same"))
    done = run(tmp_path / "output", "--data_path", table, *SMALL, *arguments)
    assert fault in assert_one_line(done, 2)
    assert not done.folder.exists() or not done.files()
