"""The command with the stacked engine, on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import ENGINE_TOLERANCE, SMALL, Run, assert_one_line, run
from journals import journal_path
from resumption import goes_on_from, outputs, reports, run_until
from strategy_runs import HALVING, STOPPING

from layersearch.engines import compiled, lifecycle
from layersearch.journal.checkpoints import Checkpoints
from layersearch.journal.journal import Journal

STACKED = ["--engine", "stacked", "--device", "cpu", "--save_models"]
SMALL = SMALL[: SMALL.index("--threads")]  # it has none
SEARCHES = {
    "plain": SMALL,
    "folds": [*SMALL, "--hidden_dims_search", "8", "--cv_folds", "2"],
    "halving": [*SMALL, "--epochs", "6", "--no_probe", *HALVING, *STOPPING],
}


@pytest.fixture(scope="module")
def stacked_runs(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The searches, never interrupted."""
    folder = tmp_path_factory.mktemp("stacked")
    done = {title: run(folder / title, "--data_path", table, *flags, *STACKED) for title, flags in SEARCHES.items()}
    for some in done.values():
        assert (some.status, some.err, some.global_state_kept) == (0, "", True)
    return done


def test_it_agrees_with_the_compiled_engine(stacked_runs: dict[str, Run], finished: Run) -> None:
    stacked, compiled = stacked_runs["plain"].results(), finished.results()
    assert (stacked["environment"]["engine"], stacked["environment"]["device"]) == ("stacked", "cpu")
    losses_of = {tuple(entry["config"]): entry["test_loss_per_repeat"] for entry in compiled["all_results"]}
    assert len(stacked["all_results"]) == len(losses_of)
    for entry in stacked["all_results"]:
        assert losses_of[tuple(entry["config"])] == pytest.approx(entry["test_loss_per_repeat"], rel=ENGINE_TOLERANCE)


def test_it_says_how_many_are_trained_at_a_time_and_why(stacked_runs: dict[str, Run], table: Path) -> None:
    assert "\nEngine: stacked, 8 trainings at a time on cpu, where it is for testing\n" in stacked_runs["plain"].out


@pytest.mark.parametrize(("title", "number"), [("plain", 1), ("plain", 4), ("folds", 4), ("halving", 4)])
def test_it_goes_on_where_it_was_with_the_same_bits(
    title: str, number: int, stacked_runs: dict[str, Run], table: Path, tmp_path: Path
) -> None:
    """Killed after so many trainings are in the journal: their places stay empty in what is trained then."""
    arguments = ["--data_path", table, *SEARCHES[title], *STACKED]
    run_until(number, tmp_path / "killed", *arguments, owner=Journal)
    left = journal_path(tmp_path / "killed").read_bytes()
    done = goes_on_from(left, tmp_path / "on", *arguments)
    assert done.status == 0
    assert outputs(done.folder) == outputs(stacked_runs[title].folder)


def test_states_that_were_saved_at_different_epochs_go_on_in_one_stack(
    stacked_runs: dict[str, Run], table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "CALL_SECONDS", 0.0)
    arguments = ["--data_path", table, *SEARCHES["plain"], *STACKED]
    expected = outputs(run(tmp_path / "whole", *arguments).folder)  # weights are kept there
    run_until(8, tmp_path / "on", *arguments, owner=Checkpoints, method="save")  # of 6 after each epoch
    assert len(list((tmp_path / "on").glob("checkpoint_*"))) == 6
    assert run(tmp_path / "on", *arguments).status == 0
    assert outputs(tmp_path / "on") == expected


def test_a_finished_search_makes_the_models_weights_again_alone_with_the_same_bits(
    stacked_runs: dict[str, Run], table: Path, tmp_path: Path
) -> None:
    """In a stack of its own, of the same room."""
    whole = stacked_runs["halving"]
    lines = journal_path(whole.folder).read_bytes().splitlines(keepends=True)
    left = b"".join(line for line in lines if b'"kind":"weights"' not in line)
    done = goes_on_from(left, tmp_path / "again", "--data_path", table, *SEARCHES["halving"], *STACKED)
    assert reports(done.folder) == reports(whole.folder)


def test_more_repeats_train_only_what_is_missing(stacked_runs: dict[str, Run], table: Path, tmp_path: Path) -> None:
    left = journal_path(stacked_runs["plain"].folder).read_bytes()
    done = goes_on_from(left, tmp_path / "more", "--data_path", table, *SMALL, *STACKED, "--repeats", 3)
    assert "10 of 15 trainings already done" in done.out
    before = {tuple(e["config"]): e["test_loss_per_repeat"] for e in stacked_runs["plain"].results()["all_results"]}
    for entry in done.results()["all_results"]:
        assert entry["test_loss_per_repeat"][:2] == before[tuple(entry["config"])]
        assert np.isfinite(entry["test_loss_per_repeat"]).all()


def test_threads_are_not_its_affair(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, *STACKED, "--epochs", 1, "--threads", 3)
    assert done.err == "Note: --threads 3: the stacked engine trains one stack at a time\n"


def test_a_search_of_another_engine_is_not_mixed_in(stacked_runs: dict[str, Run], table: Path, tmp_path: Path) -> None:
    left = journal_path(stacked_runs["plain"].folder).read_bytes()
    done = goes_on_from(left, tmp_path / "other", "--data_path", table, *SMALL)
    assert "engine 'stacked', now 'compiled'" in assert_one_line(done, 2)


def test_configurations_are_listed_with_their_share_of_a_stacks_time(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, *STACKED, "--list_configurations")
    assert done.status == 0
    assert len(done.out.splitlines()) == 5 + 2
