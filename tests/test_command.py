"""The command from its arguments to its files, as a user runs it."""

from __future__ import annotations

import importlib
import io
import json
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest
import torch
from builders import make_failed_trial

import hyperparam_optimizer
import latent_plots
import loading
import plots
import probe
import training
import verdict_plot
from arguments import PROG, SAMPLE_PATH, parse_arguments
from console import Console
from dataset import COPUSDataset, fit_scaling
from loading import Loaded
from losses import sparse_aware_loss
from models import flatten, load_best
from report import config_text, loss_text
from search import Trial, TrialResult
from selection import rank_configurations
from training import Training

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "results_schema.json").read_text(encoding="utf-8"))
ROWS = 60
SMALL = ["--hidden_dims_search", "8,16", "--max_layers", "2", "--epochs", "3", "--repeats", "2", "--threads", "2"]
SMALL_CONFIGURATIONS = 5
TINY = ["--hidden_dims_search", "4", "--max_layers", "1", "--epochs", "1", "--repeats", "1"]

# Two orders of summation over the 3 epochs of a short run; a training only drifts apart slowly.
ENGINE_TOLERANCE = 1e-4
# A code as text and back, and matrix products of another shape.
CODE_TOLERANCE = 1e-5


class Run(NamedTuple):
    """What a run of the command left behind."""

    status: object
    out: str
    err: str
    folder: Path
    global_state_kept: bool

    def results(self) -> dict[str, Any]:
        """The JSON."""
        (path,) = self.folder.glob("hyperparam_results_latent*.json")
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document

    def files(self) -> set[str]:
        """The names of all files."""
        return {path.name for path in self.folder.iterdir()}


def run(folder: Path, *arguments: object, pictures: bool = False) -> Run:
    """Runs the command in this process. Pictures take most of a short run's time, so most runs leave them out."""
    out, err = io.StringIO(), io.StringIO()
    before = global_state()
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        if not pictures:
            stack.enter_context(mock.patch.object(hyperparam_optimizer, "write_pictures"))
        try:
            status: object = hyperparam_optimizer.main([*map(str, arguments), "--output_dir", str(folder)])
        except SystemExit as exit_:
            status = exit_.code
    return Run(status, out.getvalue(), err.getvalue(), folder, global_state() == before)


def global_state() -> tuple[object, ...]:
    """What all code of a process shares and a run may not change: the random generators, torch's threads."""
    numpys = pickle.dumps(np.random.get_state())  # noqa: NPY002 - the global generator is what is looked at
    return random.getstate(), numpys, torch.get_rng_state().tolist(), torch.get_num_threads()


def but_for_time(results: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in results.items() if name not in ("timestamp", "timing")}


def but_for_threads(results: dict[str, Any]) -> dict[str, Any]:
    kept = but_for_time(results)
    for part in ("args", "environment"):
        kept[part] = {name: value for name, value in kept[part].items() if name not in ("threads", "output_dir")}
    return kept


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own table: the bundled sample's rows with the fewest zeros, so that no column is constant.

    No ID is shared. There are 15 schools of 4 rows, one country, and two terms.
    """
    path = tmp_path_factory.mktemp("table") / "mine.csv"
    sample = pd.read_csv(SAMPLE_PATH)
    fullest = (sample != 0).sum(axis=1).nlargest(ROWS).index
    row = np.arange(ROWS)
    mine = sample.loc[fullest].drop(columns="Course ID").assign(School=row // 4, Country="here", Term=row % 2)
    mine["Instructor ID"] = row + 1
    mine.to_csv(path, index=False)
    return path


def make_diverge(monkeypatch: pytest.MonkeyPatch, fails: Callable[[Trial], bool]) -> None:
    """From now on these trials diverge."""
    make_trainer = training.make_trainer

    def make_failing(*arguments: Any) -> Callable[[Trial], TrialResult]:
        train = make_trainer(*arguments)
        return lambda trial: make_failed_trial(trial.config, trial.repeat, trial.fold) if fails(trial) else train(trial)

    monkeypatch.setattr(training, "make_trainer", make_failing)


@pytest.fixture(scope="module")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search with pictures and a saved model."""
    folder = tmp_path_factory.mktemp("finished") / "new" / "out put é"
    return run(folder, "--data_path", table, "--save_models", *SMALL, pictures=True)


# ------------------------------------------------------------------------------------- a finished run


def test_a_finished_run_exits_with_0_and_leaves_every_file(finished: Run) -> None:
    assert finished.status == 0
    assert finished.files() == {
        "hyperparam_search_latent3.png",
        "config_performance_latent3.png",
        "verdict_latent3.png",
        "hyperparam_results_latent3.json",
        "hyperparam_results_latent3.csv",
        "best_model_latent3.pth",
        "latent_codes_latent3.csv",
    }


def test_the_closing_summary_has_the_promised_form(finished: Run) -> None:
    results = finished.results()
    best, statement = results["best_configuration"], results["verdict"]["statement"]
    assert len(statement) > 3
    verdict = "\n".join(statement)
    summary = f"""\
======================================================================
HYPERPARAMETER OPTIMIZATION COMPLETED
======================================================================
Best configuration: {config_text(best["config"])}
Best final test loss: {loss_text(best["final_test_loss"], best["final_test_loss_sd"])} (2 repeats)
Best model parameters: {best["model_params"]}
Best model saved: {finished.folder / "best_model_latent3.pth"}

{verdict}

Generating visualizations...
Performance plot: {finished.folder / "hyperparam_search_latent3.png"}
Configuration scatter: {finished.folder / "config_performance_latent3.png"}
Verdict plot: {finished.folder / "verdict_latent3.png"}
Results saved: {finished.folder / "hyperparam_results_latent3.json"}
"""
    assert finished.out.endswith(f"\n{summary}")
    assert re.search(r"^Best final test loss: 0\.\d{4} ± 0\.\d{4} \(2 repeats\)$", finished.out, re.MULTILINE)


def test_the_run_says_what_it_will_do_before_it_does_it(finished: Run) -> None:
    first, *rest = finished.out.splitlines()
    assert first == "Searching 5 configurations x 2 repeats of 3 epochs, latent dimension 3"
    assert "Table: 60 rows x 24 columns from mine.csv, 48 for training and 12 for testing" in rest
    assert any(line.startswith("  10 of 10 trainings, best so far [") for line in rest)


def test_the_results_follow_the_schema(finished: Run) -> None:
    results = finished.results()
    jsonschema.validate(results, SCHEMA)
    assert results["total_configurations"] == len(results["all_results"]) == SMALL_CONFIGURATIONS
    assert results["data"]["synthetic"] is False
    assert results["args"]["epochs"] == 3
    assert results["timing"]["total"] == pytest.approx(sum(s for n, s in results["timing"].items() if n != "total"))


def test_the_best_is_the_first_of_a_sorted_ranking(finished: Run) -> None:
    results = finished.results()
    losses = [entry["final_test_loss"] for entry in results["all_results"]]
    assert losses == sorted(losses)
    assert results["best_configuration"]["config"] == results["all_results"][0]["config"]
    assert results["best_configuration"]["final_test_loss"] == losses[0]


def test_the_csv_holds_the_same_ranking(finished: Run) -> None:
    ranking = pd.read_csv(finished.folder / "hyperparam_results_latent3.csv")
    results = finished.results()["all_results"]
    baselines = finished.results()["verdict"]["baselines"]
    names = [config_text(entry["config"]) for entry in results] + [baseline["name"] for baseline in baselines]
    assert list(ranking["configuration"]) == names
    losses = [entry["final_test_loss"] for entry in results] + [baseline["loss"] for baseline in baselines]
    np.testing.assert_allclose(ranking["final_test_loss"], losses, rtol=1e-15)  # older pandas reads the last bit wrong
    differences = [entry["difference_to_best"] for entry in results]
    np.testing.assert_allclose(ranking["difference_to_best"][: len(results)], differences, rtol=1e-14)


def test_latent_codes_name_rows_as_a_spreadsheet_does_where_one_was_left_out(table: Path, tmp_path: Path) -> None:
    lines = table.read_text(encoding="utf-8").splitlines()
    lines.insert(4, "," * lines[0].count(","))  # row 5 holds nothing
    gappy = tmp_path / "gappy.csv"
    gappy.write_text("\n".join(lines), encoding="utf-8")
    done = run(tmp_path / "output", *TINY, "--data_path", gappy, pictures=True)
    rows = list(pd.read_csv(done.folder / "latent_codes_latent3.csv")["row"])
    assert rows == [2, 3, 4, *range(6, ROWS + 3)]


def test_the_saved_model_encodes_raw_values_to_the_written_codes(finished: Run, table: Path) -> None:
    saved = load_best(finished.folder, 3)
    codes = pd.read_csv(finished.folder / "latent_codes_latent3.csv")
    raw = pd.read_csv(table)[saved.columns].to_numpy(np.float32)
    written = codes[["latent_1", "latent_2", "latent_3"]].to_numpy()
    assert len(codes) == ROWS
    assert written.std(axis=0).min() > 100 * CODE_TOLERANCE, "codes that differ"
    np.testing.assert_allclose(saved.encode(raw).numpy(), written, rtol=0, atol=CODE_TOLERANCE)
    assert (codes["split"] == "test").sum() == 12
    assert list(codes["Bcluster"]) == list(pd.read_csv(table)["Bcluster"])


def test_the_saved_model_is_of_the_repeat_with_the_lowest_training_loss(finished: Run) -> None:
    results = finished.results()
    train_losses = results["all_results"][0]["train_loss_per_repeat"]
    saved = results["best_configuration"]["saved_model"]
    assert saved["file"] == "best_model_latent3.pth"
    assert saved["repeat"] == 1 + int(np.argmin(train_losses))
    assert saved["train_loss"] == min(train_losses)


def test_the_saved_model_has_the_losses_that_the_results_state(finished: Run, table: Path) -> None:
    saved, results = load_best(finished.folder, 3), finished.results()["best_configuration"]["saved_model"]
    dataset = COPUSDataset(table)
    scaled = saved.scaling.apply(dataset.data)
    for rows, stated in zip(dataset.split(42), (results["train_loss"], results["test_loss"]), strict=True):
        loss = sparse_aware_loss(saved.model(scaled[rows])[0].detach(), scaled[rows])
        assert float(loss) == pytest.approx(stated, rel=CODE_TOLERANCE)


def test_a_second_run_gives_the_same_results(finished: Run, table: Path) -> None:
    again = run(finished.folder, "--data_path", table, "--save_models", *SMALL)
    assert but_for_time(again.results()) == but_for_time(finished.results())


def test_a_run_is_the_same_on_one_thread_and_on_many(table: Path, tmp_path: Path) -> None:
    one = run(tmp_path / "1", "--data_path", table, *SMALL, "--threads", 1).results()
    three = run(tmp_path / "3", "--data_path", table, *SMALL, "--threads", 3).results()
    assert (one["environment"]["threads"], three["environment"]["threads"]) == (1, 3)
    assert but_for_threads(one) == but_for_threads(three)


def test_another_seed_gives_another_split_and_other_trainings(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = run(tmp_path / "split", "--data_path", table, *SMALL, "--seed", 43).results()
    assert other["data"]["scaling"] != finished.results()["data"]["scaling"]
    split = COPUSDataset.split
    monkeypatch.setattr(COPUSDataset, "split", lambda dataset, _: split(dataset, 42))
    other = run(tmp_path / "trainings", "--data_path", table, *SMALL, "--seed", 43).results()
    assert other["data"] == finished.results()["data"]
    assert other["all_results"][0]["final_test_loss"] != finished.results()["all_results"][0]["final_test_loss"]


def test_no_global_state_is_touched(finished: Run, table: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    assert finished.global_state_kept
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(2)  # unlike the one that the reference engine trains on
    assert run(tmp_path, "--data_path", table, *SMALL, "--engine", "reference").global_state_kept


# ------------------------------------------------------------------------------------------ variations


def test_one_layer_gives_the_single_layer_configurations_alone(table: Path, tmp_path: Path) -> None:
    results = run(tmp_path, "--data_path", table, *SMALL, "--max_layers", 1, "--epochs", 1).results()
    assert sorted(entry["config"] for entry in results["all_results"]) == [[8], [16]]


def test_two_latent_dimensions_draw_the_latent_space_without_a_saved_model(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--latent_dim", 2, "--max_layers", 1, pictures=True)
    assert (tmp_path / "latent_space_2d_best_config.png").read_bytes().startswith(b"\x89PNG")
    assert f"\nLatent space plot: {tmp_path / 'latent_space_2d_best_config.png'}\n" in done.out
    assert not list(tmp_path.glob("*.pth"))
    assert "Best model saved" not in done.out
    assert done.results()["best_configuration"]["saved_model"] is None


def test_one_repeat_claims_no_spread_and_no_verdict(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--repeats", 1)
    results = done.results()
    jsonschema.validate(results, SCHEMA)
    assert re.search(r"^Best final test loss: 0\.\d{4}$", done.out, re.MULTILINE)
    assert "luck cannot be told from merit" in done.out
    assert "proven" not in done.out
    assert [results["verdict"][name] for name in ("proven", "tied", "optimism", "repeats_to_settle")] == [None] * 4
    unknown = ("final_test_loss_sd", "standard_error", "difference_to_best", "probability_best", "tied")
    assert all(entry[name] is None for entry in results["all_results"] for name in unknown)


def test_quiet_prints_the_closing_summary_alone(table: Path, tmp_path: Path) -> None:
    loud = run(tmp_path, "--data_path", table, *SMALL)
    quiet = run(tmp_path, "--data_path", table, *SMALL, "--quiet")
    assert quiet.out == loud.out[loud.out.index("=====") :]
    assert quiet.err == ""


def test_duplicate_widths_are_noticed_and_used_once(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--hidden_dims_search", " 8, 16,8 ", "--epochs", 1)
    assert "Note: --hidden_dims_search names 8 more than once; used once\n" in done.err
    assert done.results()["total_configurations"] == SMALL_CONFIGURATIONS


def test_a_latent_space_that_does_not_compress_is_noticed(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--latent_dim", 30, "--epochs", 1)
    assert done.status == 0
    assert "Note: --latent_dim 30 does not compress 24 columns\n" in done.err


def test_a_batch_may_be_larger_than_the_table(table: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", "--data_path", table, *SMALL, "--batch_size", 48).results()
    larger = run(tmp_path / "larger", "--data_path", table, *SMALL, "--batch_size", 2**31 - 1).results()
    assert larger["all_results"] == whole["all_results"]


def test_the_engines_agree(finished: Run, table: Path, tmp_path: Path) -> None:
    reference = run(tmp_path, "--data_path", table, *SMALL, "--engine", "reference").results()
    compiled = finished.results()
    assert (reference["environment"]["engine"], compiled["environment"]["engine"]) == ("reference", "compiled")
    losses_of = {tuple(entry["config"]): entry["test_loss_per_repeat"] for entry in compiled["all_results"]}
    for entry in reference["all_results"]:
        expected = pytest.approx(entry["test_loss_per_repeat"], rel=ENGINE_TOLERANCE)
        assert losses_of[tuple(entry["config"])] == expected


# ----------------------------------------------------------------------------------------- the verdict


def as_trained(table: Path, *arguments: object) -> tuple[Training, Loaded]:
    """What a command with these arguments trains with, to do it again by hand."""
    parsed = parse_arguments([*map(str, arguments), "--data_path", str(table)])
    loaded = loading.load(parsed, torch.device("cpu"), Console(quiet=True))
    settings = hyperparam_optimizer.training_settings(parsed)
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
    jsonschema.validate(results, SCHEMA)
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
    jsonschema.validate(results, SCHEMA)
    assert results["all_results"] == folded.results()["all_results"]
    assert results["verdict"]["tied"] == folded.results()["verdict"]["tied"]
    assert "Honest" not in done.out
    if n_diverging == 1:
        assert results["best_configuration"]["honest_test_loss"] is None
        assert results["best_configuration"]["saved_model"]["repeat"] == 2
    else:
        assert "it has no honest test loss" in done.err
        assert results["best_configuration"] is None
        assert not {"best_model_latent3.pth", "latent_codes_latent3.csv"} & done.files()


def test_no_picture_of_a_model_is_named_where_there_is_none(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_diverge(monkeypatch, lambda trial: trial.fold is None)
    done = run(tmp_path, "--data_path", table, *FOLDED, "--latent_dim", 2)
    assert "latent_space_2d" not in done.out


# Trained for long enough that the best is not the smallest.
LONGER = [*SMALL, "--epochs", "40", "--save_models", "--no_probe"]


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
    jsonschema.validate(simplest, SCHEMA)
    assert best["best_configuration"]["config"] == best["verdict"]["best_measured"]["config"]
    assert simplest["best_configuration"]["config"] == simplest["verdict"]["recommended"]["config"]
    assert simplest["best_configuration"]["model_params"] < best["best_configuration"]["model_params"]
    assert config_text(simplest["best_configuration"]["config"]) in best_and_simplest[1].out.split("Verdict")[0]
    for results in (best, simplest):
        results["verdict"]["statement"] = [line for line in results["verdict"]["statement"] if "Honest" not in line]
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
    jsonschema.validate(results, SCHEMA)
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
    jsonschema.validate(results, SCHEMA)
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
    jsonschema.validate(results, SCHEMA)
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
    kept = run(tmp_path / "output", "--data_path", tmp_path / "shared.csv", *TINY, "--group_column", "School ID")
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
        (["--confidence", 1], "--confidence 1.0:"),
        (["--confidence", 0], "--confidence 0.0:"),
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


# -------------------------------------------------------------------------------- the bundled sample


@pytest.fixture
def pictures_notes(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The small line of each picture that is asked for; none is drawn."""
    notes: list[str | None] = []
    for module, draw in (
        (plots, "plot_search"),
        (plots, "plot_configurations"),
        (verdict_plot, "plot_verdict"),
        (latent_plots, "plot_latent_space"),
    ):
        monkeypatch.setattr(module, draw, lambda *_, note=None, **__: notes.append(note))
    return notes


def test_without_a_table_the_sample_is_used_and_said_so_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures_notes: list[str | None]
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = tmp_path / "program" / "sample.csv"  # not beside a real table that a developer has downloaded
    sample.parent.mkdir()
    sample.write_bytes(SAMPLE_PATH.read_bytes())
    monkeypatch.setattr(loading, "SAMPLE_PATH", sample)
    done = run(Path("output"), *TINY, "--latent_dim", 2, pictures=True)
    assert done.status == 0
    assert "SYNTHETIC" in done.err
    data = done.results()["data"]
    assert data["synthetic"] is True
    assert data["path"] == sample.as_posix()
    assert len(pictures_notes) == 4
    assert all(note and "synthetic" in note.lower() for note in pictures_notes)


def test_the_sample_is_synthetic_when_named_too_and_said_so_even_when_quiet(tmp_path: Path) -> None:
    done = run(tmp_path / "output", *TINY, "--data_path", SAMPLE_PATH, "--quiet")
    assert "SYNTHETIC" in done.err
    assert done.results()["data"]["synthetic"] is True


def test_started_elsewhere_the_real_table_beside_the_program_is_found(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    beside = tmp_path / "program" / "stains.csv"
    beside.parent.mkdir()
    beside.write_bytes(table.read_bytes())
    monkeypatch.setattr(loading, "SAMPLE_PATH", beside.with_name("sample.csv"))
    done = run(Path("output"), *TINY)
    assert done.results()["data"]["path"] == beside.as_posix()
    assert done.results()["data"]["synthetic"] is False


def test_a_table_at_the_default_place_is_used(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures_notes: list[str | None]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stains.csv").write_bytes(table.read_bytes())
    done = run(Path("output"), *TINY, "--latent_dim", 2, pictures=True)
    assert done.err == ""
    assert done.results()["data"]["synthetic"] is False
    assert done.results()["data"]["rows"] == ROWS
    assert pictures_notes == [None] * 4


def test_a_table_that_is_named_and_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(tmp_path / "output", "--data_path", "data/stains.csv")
    assert (done.status, done.out) == (2, "")
    assert done.err == f"{PROG}: error: --data_path 'data/stains.csv': there is no such file\n"
    assert not done.folder.exists()


# -------------------------------------------------------------------------------------------- failures


def assert_one_line(done: Run, status: int) -> str:
    """Checks status and stderr's single line; returns what it says."""
    assert done.status == status
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"{PROG}: ")
    return done.err.removeprefix(f"{PROG}: ").rstrip("\n")


def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    assert "bad.csv" in assert_one_line(run(tmp_path / "out", "--data_path", bad, *SMALL), 2)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_search_that_fails_entirely_exits_with_1_and_lists_the_failures(
    table: Path, tmp_path: Path, engine: str
) -> None:
    arguments = ["--data_path", table, *SMALL, "--initial_lr", 1e30, "--save_models", "--engine", engine]
    done = run(tmp_path, *arguments, "--quiet", pictures=True)
    assert "every configuration failed" in assert_one_line(done, 1)
    assert done.out == ""
    assert done.files() == {"hyperparam_results_latent3.json", "hyperparam_results_latent3.csv"}
    results = done.results()
    jsonschema.validate(results, SCHEMA)
    assert (results["best_configuration"], results["verdict"], results["pareto_front"]) == (None, None, [])
    assert all(entry["status"].startswith("failed: not finite at epoch 1") for entry in results["all_results"])
    ranking = pd.read_csv(tmp_path / "hyperparam_results_latent3.csv")
    assert len(ranking) == SMALL_CONFIGURATIONS
    assert ranking["status"].str.startswith("failed").all()
    assert ranking["rank"].isna().all()


def test_a_configuration_that_fails_is_listed_last_and_leaves_the_others_as_they_were(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = tuple(finished.results()["best_configuration"]["config"])
    make_diverge(monkeypatch, lambda trial: trial.config == best)
    done = run(tmp_path, "--data_path", table, *SMALL)
    results = done.results()
    jsonschema.validate(results, SCHEMA)
    assert done.status == 0
    assert results["all_results"][-1]["config"] == list(best)
    assert results["all_results"][-1]["final_test_loss"] is None
    expected = [entry["test_loss_per_repeat"] for entry in finished.results()["all_results"][1:]]
    assert [entry["test_loss_per_repeat"] for entry in results["all_results"][:-1]] == expected


def test_the_last_of_a_rankings_failures_never_leads() -> None:
    assert rank_configurations([make_failed_trial((8,))], {(8,): 1})[0].failure


@pytest.fixture
def fresh_kernel() -> Iterator[None]:
    """The next `import kernel` runs its code anew; what it imports of Numba stays imported."""
    modules = {name: sys.modules.pop(name, None) for name in ("kernel", "tile")}
    yield
    for name, module in modules.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.fixture
def without_numba(fresh_kernel: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Numba were not installed."""
    monkeypatch.setitem(sys.modules, "numba", None)


@pytest.mark.usefixtures("without_numba")
def test_without_numba_the_reference_engine_takes_over_with_a_notice(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--epochs", 1)
    assert done.status == 0
    assert "Note: Numba is not installed" in done.err
    assert done.results()["environment"]["engine"] == "reference"


@pytest.mark.usefixtures("without_numba")
def test_the_compiled_engine_cannot_be_forced_without_numba(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--engine", "compiled")
    assert "--engine compiled needs Numba" in assert_one_line(done, 2)


@pytest.mark.usefixtures("fresh_kernel")
def test_a_kernel_cache_that_can_be_written_nowhere_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    caching = pytest.importorskip("numba.core.caching")
    places = getattr(caching, "CacheImpl", None) or caching._CacheImpl  # its name before Numba 0.62
    monkeypatch.setattr(places, "_locator_classes", [])
    kernel = importlib.import_module("kernel")
    values = np.zeros(3, np.float32)
    kernel._fill(values, np.float32(2))
    assert values.tolist() == [2, 2, 2]
    assert kernel._fill.stats.cache_path is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_a_cuda_device_is_one_line(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--device", "cuda")
    assert "--device cuda" in assert_one_line(done, 2)


def test_an_output_folder_that_cannot_be_made_is_said_before_anything_is_trained(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(training, "run_trials", lambda *_: pytest.fail("trained all the same"))
    assert "--output_dir" in assert_one_line(run(tmp_path / "x", "--data_path", table, *SMALL), 2)


def test_results_that_cannot_be_written_are_one_line(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("report.write_json", refuse)
    done = run(tmp_path, "--data_path", table, *SMALL)
    assert assert_one_line(done, 1) == "error: [Errno 28] No space left on device: 'somewhere'"


def test_ctrl_c_is_one_line_and_leaves_no_file(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_trials = training.run_trials

    def interrupted(*arguments: Any) -> Iterator[TrialResult]:
        yield next(run_trials(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "run_trials", interrupted)
    done = run(tmp_path, "--data_path", table, *SMALL)
    assert assert_one_line(done, 130) == "interrupted"
    assert not list(tmp_path.iterdir())


def test_a_reader_that_went_away_ends_the_run_without_a_traceback(table: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / PROG), "--data_path", str(table), "--output_dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


# -------------------------------------------------------------------------------------- the real table


def test_the_basic_command_on_the_real_table(real_table: Path, tmp_path: Path) -> None:
    space = ["--latent_dim", 3, "--hidden_dims_search", "16,32,64", "--max_layers", 3]
    done = run(tmp_path, "--data_path", real_table, *space, "--epochs", 20, "--repeats", 1)
    results = done.results()
    assert done.status == 0
    assert results["total_configurations"] == 19
    assert results["best_configuration"]["final_test_loss"] <= 0.042
    assert results["data"]["synthetic"] is False
    assert (results["data"]["train_rows"], results["data"]["test_rows"]) == (1607, 401)
    sizes = {tuple(entry["config"]): entry["model_params"] for entry in results["all_results"]}
    assert sizes[64, 64] == 12_491


# Rounding grows to 0.0002 at most over 1,020 steps of Adam from the same start: a fifth of the spread over repeats.
REAL_TABLE_TOLERANCE = 5e-4  # of a loss, absolute


def test_engines_give_the_same_losses_on_the_real_table(real_table: Path, tmp_path: Path) -> None:
    space = ["--data_path", real_table, "--hidden_dims_search", "64", "--max_layers", 2, "--repeats", 1]
    compiled, reference = (run(tmp_path / engine, *space, "--engine", engine) for engine in ("compiled", "reference"))
    losses = [
        {tuple(entry["config"]): entry["curves"]["test"][0] for entry in done.results()["all_results"]}
        for done in (compiled, reference)
    ]
    assert list(losses[0]) == [(64, 64), (64,)]
    for config, curve in losses[0].items():
        np.testing.assert_allclose(curve, losses[1][config], rtol=0, atol=REAL_TABLE_TOLERANCE)
