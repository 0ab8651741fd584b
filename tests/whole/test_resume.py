"""A search that was stopped at any moment goes on where it was and ends with the bits of one that was not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soak
from commands import SMALL, Run, assert_one_line, run
from journals import journal_path, line_ends, read_lines
from resumption import (
    N_TRIALS,
    SEARCHES,
    KilledError,
    goes_on_from,
    note_trials,
    outputs,
    reports,
    run_until,
    trained_again,
)

from layersearch.files import DRAFTS
from layersearch.journal import identity, journal
from layersearch.search import running
from layersearch.space.trials import Trial


@pytest.fixture
def whole(wholes: Mapping[str, Run]) -> Run:
    return wholes["plain"]


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Path:
    """A copy of the finished search's folder, to run the command in."""
    return Path(shutil.copytree(finished.folder, tmp_path / "copied"))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """All trials that are trained from now on."""
    return note_trials(monkeypatch)


# -------------------------------------------------------------------------------------- every moment


@pytest.mark.parametrize("title", SEARCHES)
def test_from_records_and_from_the_middle_of_records_the_search_ends_with_the_same_bits(
    wholes: Mapping[str, Run], table: Path, tmp_path: Path, title: str
) -> None:
    left = journal_path(wholes[title].folder).read_bytes()
    expected = outputs(wholes[title].folder)
    ends = [0, *line_ends(left)]
    kinds = [line["kind"] for line in read_lines(journal_path(wholes[title].folder))]
    assert kinds.count("weights") == 1
    assert kinds.count("trial") > N_TRIALS, "the probe's are there too"
    # Once cut off inside and once behind a record, in turn. What is cut off leaves the records before it.
    sizes = [(start + end) // 2 if number % 2 else end for number, (start, end) in enumerate(pairwise(ends))]
    inside_last = (ends[-2] + ends[-1]) // 2
    for size in sorted({0, ends[1] // 2, *(sizes if title == "plain" else sizes[::4]), inside_last, ends[-1]}):
        done = goes_on_from(left[:size], tmp_path / str(size), "--data_path", table, *SEARCHES[title])
        assert done.status == 0, done.err
        assert soak.differences(expected, outputs(done.folder)) == [], size
        assert done.err.count("\n") == done.err.count("Note:") == (size not in ends[1:]), done.err
        assert done.out.count("already") == (size >= ends[2])


@pytest.mark.parametrize("number", [1, 2])
def test_a_run_that_ends_while_its_reports_are_put_in_place_is_put_right_by_the_next(
    whole: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    replace, moved = os.replace, [0]

    def replace_some(source: Path, target: Path) -> None:
        if DRAFTS in str(source) and Path(target).parent == tmp_path:
            moved[0] += 1
        if moved[0] == number + 1:
            raise KilledError
        if moved[0] <= number:  # who is killed does not clean up
            replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_some)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(KilledError):
            run(tmp_path, "--data_path", table, *SEARCHES["plain"])
    assert list(tmp_path.glob(f"{DRAFTS}*"))
    assert run(tmp_path, "--data_path", table, *SEARCHES["plain"]).status == 0
    assert outputs(tmp_path) == outputs(whole.folder)


# ------------------------------------------------------------------------------------- what it says


def set_clock(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls.fromisoformat(text)

    monkeypatch.setattr(journal, "datetime", Clock)
    monkeypatch.setattr(running, "datetime", Clock)


@pytest.mark.parametrize(
    ("trials", "now", "said"),
    [
        (7, "2026-03-01T18:00:00", "3 of 5 configurations already trained at 14:03; continuing"),
        (7, "2026-03-02T01:00:00", "3 of 5 configurations already trained at 2026-03-01 14:03; continuing"),
        (1, "2026-03-01T18:00:00", "1 of 10 trainings already done at 14:03; continuing"),
        (10, "2026-03-01T13:00:00", "5 of 5 configurations already trained at 14:03; writing the reports anew"),
    ],
)
def test_it_says_how_much_is_trained_already_and_since_when(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: int, now: str, said: str
) -> None:
    arguments = ["--data_path", table, *SMALL, "--threads", 1]
    set_clock(monkeypatch, "2026-03-01T14:03:59")
    run_until(trials, tmp_path, *arguments)
    set_clock(monkeypatch, now)
    done = run(tmp_path, *arguments)
    assert said in done.out.splitlines()
    assert done.err == ""
    again = run(tmp_path, *arguments)
    assert "; writing the reports anew" in again.out


def test_a_run_from_scratch_speaks_of_no_other(whole: Run) -> None:
    assert "already" not in whole.out
    assert whole.err == ""


# ------------------------------------------------------------------------------- a finished search


def test_a_finished_search_trains_nothing_and_writes_its_reports_anew(
    finished: Run, copied: Path, table: Path, trained: list[Trial]
) -> None:
    folder = copied
    for path in folder.glob("*latent3.*"):
        if not path.name.startswith("journal"):
            path.unlink()
    assert run(folder, "--data_path", table, "--save_models", *SMALL, pictures=True).status == 0
    assert outputs(folder) == outputs(finished.folder)
    assert sum(name.endswith(".png") for name in outputs(folder)) == 8
    assert trained == []


@pytest.mark.parametrize(
    "flags",
    [
        ["--confidence", "0.9"],
        ["--select", "simplest"],
        ["--label_column", "Term"],
        ["--objectives", "loss,time"],
        ["--no_probe"],
        ["--repeats", "1"],
        ["--hidden_dims_search", "8"],
        ["--quiet"],
    ],
    ids=" ".join,
)
def test_what_shapes_no_training_may_change_and_trains_nothing_but_weights(
    whole: Run, table: Path, tmp_path: Path, trained: list[Trial], flags: list[str]
) -> None:
    left = journal_path(whole.folder).read_bytes()
    arguments = ["--data_path", table, *SMALL, *flags]
    done = goes_on_from(left, tmp_path / "on", *arguments)
    assert done.status == 0, done.err
    assert trained_again(trained, left, done.folder) <= 1, "the weights of another chosen configuration"
    assert not trained or {"--select", "--repeats", "--hidden_dims_search"} & set(flags), "that, or another probe"
    scratch = run(tmp_path / "scratch", *arguments)
    if "loss,time" not in flags:
        assert reports(done.folder) == reports(scratch.folder)


@pytest.mark.parametrize("flags", [["--repeats", "3"], ["--hidden_dims_search", "8,12,16"], ["--max_layers", "3"]])
@pytest.mark.parametrize("title", SEARCHES)
def test_a_larger_search_takes_over_what_is_trained_and_equals_one_from_scratch(
    wholes: Mapping[str, Run], table: Path, tmp_path: Path, trained: list[Trial], title: str, flags: list[str]
) -> None:
    left = journal_path(wholes[title].folder).read_bytes()
    arguments = ["--data_path", table, *SEARCHES[title], *flags]
    scratch = run(tmp_path / "scratch", *arguments)
    asked = trained.copy()
    trained.clear()
    larger = goes_on_from(left, tmp_path / "larger", *arguments)
    assert reports(larger.folder) == reports(scratch.folder)
    assert 0 < len(trained) < len(asked)
    assert trained_again(trained, left, larger.folder) <= 1, "the weights of the chosen configuration"


# ------------------------------------------------------------------------------------ another search


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--epochs", "4"], "--epochs 3, now 4"),
        (["--seed", "1"], "--seed 42, now 1"),
        (["--batch_size", "8"], "--batch_size 32, now 8"),
        (["--initial_lr", "0.01"], "--initial_lr 0.001, now 0.01"),
        (["--eta_min", "0"], "--eta_min 1e-06, now 0.0"),
        (["--weight_decay", "0"], "--weight_decay 0.0001, now 0.0"),
        (["--dropout", "0"], "--dropout 0.1, now 0.0"),
        (["--scaling", "percent"], "--scaling 'robust', now 'percent'"),
        (["--columns", "numeric"], "--columns 'copus', now 'numeric'"),
        (["--cv_folds", "3"], "--cv_folds 0, now 3"),
        (["--group_column", "School"], "--group_column None, now 'School'"),
        (["--stratify_column", "Term"], "--stratify_column None, now 'Term'"),
        (["--patience", "2"], "--patience 0, now 2"),
        (["--engine", "reference"], "engine 'compiled', now 'reference'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_would_change_a_training_is_refused_by_one_line_and_nothing_is_touched(
    copied: Path, table: Path, flags: list[str], said: str
) -> None:
    before = snapshot(copied)
    line = assert_one_line(run(copied, "--data_path", table, *SMALL, "--quiet", *flags), 2)
    assert f"belongs to another search ({said}" in line
    assert "journal_latent3.jsonl belongs to another search" in line
    assert "give another --output_dir, or --fresh" in line
    assert snapshot(copied) == before


def test_another_table_or_program_or_version_is_refused_too(
    copied: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(copied)
    other = tmp_path / "mine.csv"
    pd.read_csv(table).iloc[:-1].to_csv(other, index=False)
    line = assert_one_line(run(copied, "--data_path", other, *SMALL, "--quiet"), 2)
    assert "(another table)" in line
    same = tmp_path / "moved.csv"
    same.write_bytes(table.read_bytes())
    for name, value, said in [
        ("_program_digest", lambda: "0", "(another program)"),
        ("_processor", lambda: "Abacus 1", "now 'Abacus 1'"),
        ("_version", lambda name: "0.1" if name == "torch" else identity.__dict__["version"](name), "now '0.1'"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(identity, name, value)
            assert said in assert_one_line(run(copied, "--data_path", same, *SMALL, "--quiet"), 2)
    assert snapshot(copied) == before


# --------------------------------------------------------------------------------------------- fresh


def test_fresh_trains_all_again_with_the_same_bits(
    whole: Run, table: Path, tmp_path: Path, trained: list[Trial]
) -> None:
    left = journal_path(whole.folder).read_bytes()
    done = goes_on_from(left, tmp_path / "on", "--data_path", table, *SEARCHES["plain"], "--fresh")
    assert len(trained) >= N_TRIALS
    assert "already" not in done.out
    found, expected = outputs(done.folder), outputs(whole.folder)
    results = "hyperparam_results_latent3.json"
    assert str(found.pop(results)).replace('"fresh": true', '"fresh": false') == expected.pop(results)
    assert found == expected


def test_until_a_fresh_search_is_complete_the_old_one_stays(table: Path, tmp_path: Path, trained: list[Trial]) -> None:
    arguments = ["--data_path", table, *SMALL, "--threads", 1]
    run(tmp_path, *arguments)
    before = snapshot(tmp_path)
    other = [*arguments, "--epochs", 2]
    run_until(6, tmp_path, *other, "--fresh")
    after = snapshot(tmp_path)
    assert set(after) - set(before) == {"journal_latent3.new.jsonl"}
    assert {name: after[name] for name in before} == before
    trained.clear()
    assert run(tmp_path, *arguments).status == 0
    assert trained == [], "the old one is whole"
    done = run(tmp_path, *other)
    assert "3 of 5 configurations already trained" in done.out
    assert done.status == 0
    found = outputs(tmp_path)
    assert found == outputs(run(tmp_path.with_name("scratch"), *other).folder)
