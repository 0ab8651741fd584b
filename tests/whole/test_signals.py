"""Ctrl-C, SIGTERM and SIGHUP at every stage of a run: what is reported, what is left, and how the search goes on."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from builders import make_failed_trial
from commands import SMALL, SMALL_CONFIGURATIONS, VALIDATOR, Run, assert_one_line, run
from faults import (
    after_record,
    assert_nothing_is_left_over,
    assert_same_results,
    before_call,
    impatient,
    nothing_is_trained,
    raising,
    snapshot,
    stopping_after_record,
)

from layersearch.engines import choice as engine_choice
from layersearch.engines import workers
from layersearch.loading import loaded as loaded_module
from layersearch.pictures import search_pictures
from layersearch.report import publish
from layersearch.space.trials import Trial, TrialResult
from layersearch.verdict import conclusion

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals are raised as on Linux and macOS")

IN_ORDER = [*SMALL, "--threads", 1]  # the first four trainings are those of the two largest configurations
TRAINED, STATED = 4, 2
KINDS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
INTERRUPTED = "Note: interrupted, {} of 5 configurations trained; the same command goes on from here\n"


@pytest.fixture(autouse=True)
def _killed_by_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that would end the process raises instead."""

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)


def stopped_at(monkeypatch: pytest.MonkeyPatch, number: int, *arguments: object, kind: str = "SIGINT") -> Run:
    """A run that gets a signal when so many trainings are kept."""
    with monkeypatch.context() as patches:
        stopping_after_record(patches, number, raising(getattr(signal, kind)))
        return run(*arguments)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------ while it trains


@pytest.mark.parametrize("kind", KINDS)
def test_while_it_trains_what_is_finished_is_reported_and_the_same_command_goes_on(
    kind: str, finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [tmp_path, "--data_path", table, "--save_models", *IN_ORDER]
    done = stopped_at(monkeypatch, TRAINED, *arguments, kind=kind)
    assert done.status == KINDS[kind]
    assert done.err == INTERRUPTED.format(STATED)
    assert "\nHYPERPARAMETER OPTIMIZATION INTERRUPTED\n" in done.out
    results = done.results()
    VALIDATOR.validate(results)
    assert results["complete"] is False
    assert results["total_configurations"] == SMALL_CONFIGURATIONS
    assert sorted(entry["config"] for entry in results["all_results"]) == [[16, 8], [16, 16]]
    assert results["best_configuration"]["saved_model"]["file"] == "best_model_latent3.pth"
    assert pd.read_csv(tmp_path / "hyperparam_results_latent3.csv")["rank"].notna().sum() == STATED
    assert_nothing_is_left_over(tmp_path)
    again = run(*arguments, latent=True)  # type: ignore[arg-type]
    assert (again.status, again.err) == (0, "")
    assert "2 of 5 configurations already trained at" in again.out
    assert_same_results(tmp_path, finished.folder)


def test_an_interrupted_search_has_its_pictures(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping_after_record(monkeypatch, TRAINED, raising(signal.SIGINT))
    done = run(tmp_path, "--data_path", table, *IN_ORDER, pictures=True)
    assert done.status == 130
    assert len(list(tmp_path.glob("*.png"))) == 8
    assert f"Results saved: {tmp_path / 'hyperparam_results_latent3.json'}" in done.out


def test_before_any_configuration_is_finished_there_is_an_empty_ranking(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [tmp_path, "--data_path", table, "--save_models", *IN_ORDER]
    done = stopped_at(monkeypatch, 1, *arguments)
    assert (done.status, done.err) == (130, INTERRUPTED.format(0))
    results = done.results()
    VALIDATOR.validate(results)
    assert (results["complete"], results["best_configuration"], results["all_results"]) == (False, None, [])
    assert pd.read_csv(tmp_path / "hyperparam_results_latent3.csv").empty
    assert "HYPERPARAMETER OPTIMIZATION" not in done.out
    run(*arguments, latent=True)  # type: ignore[arg-type]
    assert_same_results(tmp_path, finished.folder)


def test_a_signal_sent_twice_at_once_still_reports(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping_after_record(monkeypatch, TRAINED, raising(signal.SIGTERM, times=2))
    done = run(tmp_path, "--data_path", table, *IN_ORDER)
    assert (done.status, done.err) == (143, INTERRUPTED.format(STATED))


def test_trainings_that_are_shorter_than_their_upkeep_do_not_outrun_a_signal() -> None:
    asked: list[object] = []
    trials = [Trial((width,), 0) for width in range(1, 2001)]
    for result in workers.run_trials(trials, make_failed_trial_of, threads=2, stops=lambda: bool(asked)):
        asked.append(result)
        time.sleep(0.001)
    assert len(asked) < len(trials) / 2


def make_failed_trial_of(trial: Trial) -> TrialResult:
    time.sleep(0.0005)
    return make_failed_trial(trial.config, trial.repeat)


def test_a_second_signal_leaves_at_once_and_all_that_is_trained_is_kept(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [tmp_path, "--data_path", table, "--save_models", *IN_ORDER]
    with monkeypatch.context() as patches:
        impatient(patches)
        done = stopped_at(patches, 1, *arguments)
        assert done.status == 130
    with monkeypatch.context() as patches:
        impatient(patches)
        stopping_after_record(patches, TRAINED - 1, raising(signal.SIGINT, times=2))
        done = run(*arguments, latent=True)  # type: ignore[arg-type]
    assert assert_one_line(done, 130) == "interrupted"
    assert_nothing_is_left_over(tmp_path)
    again = run(*arguments, latent=True)  # type: ignore[arg-type]
    assert "2 of 5 configurations already trained" in again.out
    assert_same_results(tmp_path, finished.folder)


def test_a_signal_that_the_parent_ignores_changes_nothing(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        after_record(monkeypatch, 1, raising(signal.SIGHUP))
        done = run(tmp_path, "--data_path", table, "--save_models", *SMALL, latent=True)
    finally:
        signal.signal(signal.SIGHUP, former)
    assert (done.status, done.err) == (0, "")
    assert_same_results(tmp_path, finished.folder)


# ----------------------------------------------------------------------------- around complete results


@pytest.mark.parametrize("more", [["--fresh"], ["--repeats", 3]])
def test_complete_results_stay_where_a_later_search_is_interrupted(
    more: list[object], finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "output"
    shutil.copytree(finished.folder, folder)
    before = snapshot(folder)
    arguments = [folder, "--data_path", table, "--save_models", *IN_ORDER, *more]
    done = stopped_at(monkeypatch, 3, *arguments)
    assert done.status == 130
    kept = snapshot(folder)
    partial = {name for name in kept if name.startswith("interrupted/")}
    assert {name: text for name, text in kept.items() if name not in partial} == before
    assert {"interrupted/hyperparam_results_latent3.json", "interrupted/hyperparam_results_latent3.csv"} <= partial
    assert_nothing_is_left_over(folder)
    run(*[argument for argument in arguments if argument != "--fresh"])  # type: ignore[arg-type]
    anew = run(tmp_path / "anew", *arguments[1:])
    assert_same_results(folder, anew.folder)


# --------------------------------------------------------------------------------- after the training


def test_during_the_probe_there_is_a_verdict_without_it(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [tmp_path, "--data_path", table, "--save_models", *SMALL]
    with monkeypatch.context() as patches:
        before_call(patches, conclusion, "plan_probe", raising(signal.SIGTERM))
        done = run(*arguments, latent=True)  # type: ignore[arg-type]
    results = done.results()
    VALIDATOR.validate(results)
    assert (done.status, done.err) == (143, INTERRUPTED.format(5))
    assert results["complete"] is False
    assert results["verdict"]["probe"] is None
    assert results["verdict"]["tied"] == finished.results()["verdict"]["tied"]
    assert run(*arguments, latent=True).status == 0  # type: ignore[arg-type]
    assert_same_results(tmp_path, finished.folder)


def test_after_the_folds_the_refit_is_left_to_the_next_run(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = ["--data_path", table, "--save_models", *IN_ORDER, "--max_layers", 1, "--cv_folds", 2]
    done = stopped_at(monkeypatch, 8, tmp_path / "stopped", *folded)
    results = done.results()
    VALIDATOR.validate(results)
    assert (done.status, results["complete"]) == (130, False)
    best = results["best_configuration"]
    assert (best["model"], best["honest_test_loss"], best["saved_model"]) == (None, None, None)
    assert "Best model saved" not in done.out
    assert not list(done.folder.glob("latent_codes*"))
    assert run(tmp_path / "stopped", *folded).status == 0
    whole = run(tmp_path / "whole", *folded)
    assert_same_results(done.folder, whole.folder)


def test_during_the_report_the_first_signal_waits_for_it(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_call(monkeypatch, publish, "write_csv", raising(signal.SIGINT))
    done = run(tmp_path, "--data_path", table, "--save_models", *SMALL, latent=True)
    assert (done.status, done.err) == (130, "")
    assert done.results()["complete"] is True
    assert_same_results(tmp_path, finished.folder)


def test_the_second_leaves_while_a_picture_is_drawn_and_the_old_results_stay(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "output"
    shutil.copytree(finished.folder, folder)
    before = snapshot(folder)
    arguments = ["--data_path", table, "--save_models", *SMALL, "--repeats", 3]

    def twice() -> None:  # in another thread, where a signal that follows at once would be the same to Python
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    with monkeypatch.context() as patches:
        impatient(patches)
        before_call(patches, search_pictures, "draw_sizes", twice)
        done = run(folder, *arguments, pictures=True)
    assert assert_one_line(done, 130) == "interrupted"
    assert snapshot(folder) == before
    assert_nothing_is_left_over(folder)
    nothing_is_trained(monkeypatch)
    assert run(folder, *arguments).status == 0
    assert snapshot(folder) != before


# ------------------------------------------------------------------------------------- while it starts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("owner", "stage"), [(loaded_module, "load"), (engine_choice, "try_out")])
def test_while_it_starts_it_just_ends(
    kind: str,
    owner: object,
    stage: str,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before_call(monkeypatch, owner, stage, raising(getattr(signal, kind)))
    before_call(monkeypatch, workers, "run_trials", lambda: pytest.fail("it trains"))
    done = run(tmp_path / "output", "--data_path", table, *SMALL)
    assert done.status == KINDS[kind]
    assert capfd.readouterr().err == "hyperparam_optimizer.py: interrupted\n"
    assert not done.folder.exists()
