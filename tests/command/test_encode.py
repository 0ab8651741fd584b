"""The command `--encode` writes correct numbers for any table that fits, and refuses any other with one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from commands import Run, assert_one_line, run
from made_tables import copus_frame, with_cell, write

from dataset import COPUS_CODES, Scaling
from layersearch.command import encode as encode_command
from layersearch.latent.codes import Encoded, encode_values
from models import DynamicAutoencoder, SavedModel, load_best

N_ROWS = 50


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .pth of an untrained model of the COPUS codes in percent, with made-up results beside it."""
    return leave_model(tmp_path_factory.mktemp("model"), list(COPUS_CODES), "copus", high=80.0)


def leave_model(folder: Path, columns: list[str], chosen: str, *, high: float, kind: str = "robust") -> Path:
    network = DynamicAutoencoder(len(columns), 2, [8], generator=torch.Generator().manual_seed(1))
    low, highs = [0.0] * len(columns), [high] * len(columns)
    best = {
        "model_info": network.get_model_info(),
        "saved_model": {"file": "best_model_latent2.pth"},
        "training_errors": np.linspace(0.1, 2.0, 1001).tolist(),
        "test_errors": np.linspace(0.195, 2.095, 1001).tolist(),  # one in twenty is beyond all training errors
    }
    results = {
        "args": {"columns": chosen},
        "data": {"columns": columns, "scaling": {"kind": kind, "low": low, "high": highs}, "test_rows": 1001},
        "best_configuration": best,
    }
    (folder / "hyperparam_results_latent2.json").write_text(json.dumps(results), encoding="utf-8")
    torch.save(network.state_dict(), folder / "best_model_latent2.pth")
    return folder / "best_model_latent2.pth"


def encode(path: Path, model: Path, folder: Path, *arguments: object) -> Run:
    return run(folder, "--encode", path, "--model", model, *arguments)


def encoded(path: Path, model: Path, folder: Path) -> pd.DataFrame:
    done = encode(path, model, folder)
    assert done.status == 0, done.err
    return pd.read_csv(folder / f"encoded_{path.stem}.csv", dtype=str, keep_default_na=False)


# --- Numbers ---------------------------------------------------------------------------------------


def test_the_training_table_gets_the_codes_that_the_search_wrote(table: Path, finished: Run, tmp_path: Path) -> None:
    mine = encoded(table, finished.folder / "best_model_latent3.pth", tmp_path)
    theirs = pd.read_csv(finished.folder / "latent_codes_latent3.csv", dtype=str, keep_default_na=False)
    assert [*mine.columns[:6], *mine.columns[6:]] == [
        *("row", "latent_1", "latent_2", "latent_3", "reconstruction_error", "error_percentile"), *theirs.columns[6:]
    ]  # fmt: skip
    for name in ("row", "latent_1", "latent_2", "latent_3", "reconstruction_error"):
        assert np.allclose(mine[name].astype(float), theirs[name].astype(float), rtol=1e-5, atol=1e-6)
    train = mine[theirs["split"] == "train"]
    errors, percentiles = (train[name].astype(float) for name in ("reconstruction_error", "error_percentile"))
    smaller = [100 * np.mean(errors < error) for error in errors]
    one_row = 100 / len(errors)  # rounding may change the order of nearly equal errors
    assert np.allclose(percentiles, smaller, atol=one_row + 0.1)
    assert mine["School"].tolist() == theirs["School"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx", ".parquet"])
def test_the_file_does_not_depend_on_the_pieces(
    suffix: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = copus_frame(N_ROWS)
    hours = pd.to_timedelta(np.arange(N_ROWS) // 40, "h")  # midnight in most pieces
    frame["When"] = pd.date_range("2020-01-01", periods=N_ROWS, freq="D") + hours
    frame["Seats"] = pd.array([None, *range(1, N_ROWS)], dtype="Int64")
    frame["Note"] = ["@x", None, "007", *["x"] * (N_ROWS - 3)]
    frame["Open"] = pd.array([True, False, None, *[True] * (N_ROWS - 3)], dtype="boolean")
    path = write(frame, tmp_path / f"a{suffix}")
    contents = set()
    for size in (3, 17, 10_000):
        monkeypatch.setattr(encode_command, "ROWS_AT_A_TIME", size)
        encoded(path, model, tmp_path / str(size))
        contents.add((tmp_path / str(size) / "encoded_a.csv").read_bytes())
    assert len(contents) == 1
    table = pd.read_csv(tmp_path / "3" / "encoded_a.csv", dtype=str, keep_default_na=False)
    assert table["row"].tolist() == [str(row) for row in range(2, N_ROWS + 2)]
    assert table["Note"][:3].tolist() == ["'@x", "", "007"]


def test_all_formats_give_the_same_numbers(model: Path, tmp_path: Path) -> None:
    frame = copus_frame(N_ROWS)
    tables = [encoded(write(frame, tmp_path / f"{s}.{s}"), model, tmp_path) for s in ("csv", "tsv", "xlsx", "parquet")]
    for other in tables[1:]:
        assert tables[0].iloc[:, :5].equals(other.iloc[:, :5])
    assert len(set(tables[0]["error_percentile"])) > 10


def test_other_spellings_delimiters_and_decimal_commas_are_understood(model: Path, tmp_path: Path) -> None:
    frame = copus_frame(N_ROWS)
    expected = encoded(write(frame, tmp_path / "a.csv"), model, tmp_path)
    respelled = frame.rename(columns={"S_Anq": "AnQ", "ONE_O_ONE": "1o1", "DV": "D/V", "T_W": "Instructor W"})
    respelled = respelled[respelled.columns[::-1]]
    respelled.to_csv(tmp_path / "b.csv", sep=";", decimal=",", index=False, encoding="utf-16")
    done = encode(tmp_path / "b.csv", model, tmp_path)
    found = pd.read_csv(tmp_path / "encoded_b.csv", dtype=str, keep_default_na=False)
    assert found.iloc[:, :5].equals(expected.iloc[:, :5])
    assert list(found.columns[5:]) == ["Bcluster", "T_O", "Instructor ID"]
    for part in ("UTF-16", "semicolons", "decimal commas", "'1o1' as ONE_O_ONE"):
        assert part in done.err


def test_named_columns_are_found_by_other_spellings(tmp_path: Path) -> None:
    model = leave_model(tmp_path, ["Time on task", "mean.score", "x"], "Time on task,mean.score,x", high=2.0)
    frame = pd.DataFrame({"x": [1, -1], "Mean Score": [0.5, None], "time_on_task": [1, 2], "y": ["a", "b"]})
    done = encode(write(frame, tmp_path / "a.csv"), model, tmp_path)
    assert done.status == 0
    assert "'Mean Score' for mean.score" in done.err
    found = pd.read_csv(tmp_path / "encoded_a.csv")
    expected = load_best(tmp_path, 2).encode(np.array([[1, 0.5, 1], [2, np.nan, -1]], np.float32))
    assert np.allclose(found[["latent_1", "latent_2"]], expected, atol=1e-6)


def test_a_column_that_two_of_the_model_may_mean_is_one_line(tmp_path: Path) -> None:
    model = leave_model(tmp_path, ["a b", "A.B", "x"], "a b,A.B,x", high=2.0)
    path = write(pd.DataFrame({"a_b": [1, 2], "x": [1, 2]}), tmp_path / "a.csv")
    message = assert_one_line(encode(path, model, tmp_path / "new"), 2)
    assert message.endswith("'a_b' may be 'a b' and 'A.B' of the model; rename it to one of them")


def test_a_single_row_and_columns_without_a_value_are_enough(model: Path, tmp_path: Path) -> None:
    frame = copus_frame().iloc[[1]].assign(WG=None)
    done = encode(write(frame, tmp_path / "a.csv"), model, tmp_path)
    assert done.status == 0
    assert "1 missing cell:" in done.err
    assert "Table: 1 row x 24 columns from a.csv" in done.out
    assert len(pd.read_csv(tmp_path / "encoded_a.csv")) == 1


def test_a_row_without_a_value_has_no_code(model: Path, tmp_path: Path) -> None:
    frame = copus_frame(N_ROWS)
    frame.loc[[3, 7], list(COPUS_CODES)] = np.nan
    done = encode(write(frame, tmp_path / "a.csv"), model, tmp_path)
    assert "row 5, 9 (2 in all)" in done.err
    found = pd.read_csv(tmp_path / "encoded_a.csv", dtype=str, keep_default_na=False).iloc[:, 1:5]
    assert (found.loc[[3, 7]] == "").all(axis=None)
    assert (found.drop([3, 7]) != "").all(axis=None)


# --- Messages --------------------------------------------------------------------------------------


def test_the_summary_counts_rows_beyond_the_marks_and_clipped_cells(model: Path, tmp_path: Path) -> None:
    frame = copus_frame(N_ROWS)
    done = encode(write(frame, tmp_path / "a.csv"), model, tmp_path)
    percentiles = pd.read_csv(tmp_path / "encoded_a.csv")["error_percentile"]
    n95, n99 = int((percentiles >= 95).sum()), int((percentiles >= 99).sum())
    said = f"than 95 %: {2 * n95:.1f} % ({n95}; of the search's test rows 10.0 %), than 99 %: {2 * n99:.1f} % ({n99};"
    assert said in done.out
    clipped = int((frame[list(COPUS_CODES)].to_numpy() > 80).sum())
    assert f"{clipped} cells ({100 * clipped / N_ROWS / 24:.1f} %) beyond the 1st to 99th" in done.err
    assert done.out.splitlines()[0] == "Encoding a.csv with best_model_latent2.pth"
    assert done.out.splitlines()[-1] == f"Encoded table: {tmp_path / 'encoded_a.csv'}"
    assert encode(tmp_path / "a.csv", model, tmp_path, "--quiet").out == "".join(done.out.splitlines(True)[-2:])


@pytest.mark.parametrize(("high", "factor", "words"), [(80.0, 0.01, "MULTIPLY"), (0.9, 1, "DIVIDE"), (80.0, 1, "")])
def test_fractions_for_a_model_of_percentages_are_reported_even_when_quiet(
    high: float, factor: float, words: str, tmp_path: Path
) -> None:
    model = leave_model(tmp_path, list(COPUS_CODES), "copus", high=high)
    frame = copus_frame(N_ROWS)
    frame[list(COPUS_CODES)] *= factor
    done = encode(write(frame, tmp_path / "a.csv"), model, tmp_path, "--quiet")
    assert done.status == 0
    assert (words in done.err) if words else not done.err


# --- Tables that do not fit ------------------------------------------------------------------------

MISFITS: dict[str, tuple[Callable[[], pd.DataFrame], tuple[str, ...]]] = {
    "a code missing": (
        lambda: copus_frame().drop(columns="ADMIN"), ("no column for the COPUS code ADMIN", "the model needs"),
    ),
    "text": (lambda: with_cell("WG", 5, "lots"), ("row 5, column 'WG': 'lots' is not a number", "empty the cell")),
    "a negative percentage": (lambda: with_cell("L", 9, -1), ("row 9, column 'L': '-1' is negative",)),
    "infinity": (lambda: with_cell("L", 9, "inf"), ("row 9, column 'L': 'inf' is not finite",)),
    "no rows": (lambda: copus_frame().iloc[:0], ("a header and no row below it",)),
    "a name twice": (lambda: copus_frame().rename(columns={"Ind": "L"}), ("more than one column is named 'L'",)),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_a_table_that_does_not_fit_is_one_line_and_nothing_is_made(case: str, model: Path, tmp_path: Path) -> None:
    make, parts = MISFITS[case]
    make().to_csv(tmp_path / "a.csv", index=False)
    message = assert_one_line(encode(tmp_path / "a.csv", model, tmp_path / "new"), 2)
    assert [part for part in (str(tmp_path / "a.csv"), *parts) if part not in message] == []
    assert not (tmp_path / "new").exists()


def test_a_fault_in_a_later_piece_leaves_no_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_command, "ROWS_AT_A_TIME", 4)
    path = write(with_cell("WG", 15, "lots"), tmp_path / "a.csv")
    message = assert_one_line(encode(path, model, tmp_path / "new"), 2)
    assert "row 15, column 'WG'" in message
    assert {p.name for p in (tmp_path / "new").iterdir()} <= {".lock"}


def test_asked_to_stop_it_leaves_no_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_command, "ROWS_AT_A_TIME", 4)
    calls: list[int] = []

    def stop_at_third(*arguments: Any) -> Encoded:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return encode_values(*arguments)

    monkeypatch.setattr(encode_command, "encode_values", stop_at_third)
    done = encode(write(copus_frame(), tmp_path / "a.csv"), model, tmp_path / "new")
    assert (done.status, done.err) == (130, "hyperparam_optimizer.py: interrupted\n")
    assert len(calls) == 3
    assert {p.name for p in (tmp_path / "new").iterdir()} <= {".lock"}


def test_the_table_and_what_else_is_there_stay_as_they_are(model: Path, tmp_path: Path) -> None:
    path = write(copus_frame(), tmp_path / "a.csv")
    before = path.read_bytes()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "encoded_a.csv").symlink_to(path) if os.name != "nt" else None
    assert encode(path, model, tmp_path).status == 0
    assert path.read_bytes() == before
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert b"latent_1" in (tmp_path / "encoded_a.csv").read_bytes()


# --- Models that cannot be used --------------------------------------------------------------------


def change(model: Path, folder: Path, **changes: Any) -> Path:
    """Copies the model and changes the best configuration of its results."""
    copied = Path(shutil.copytree(model.parent, folder / "copy")) / model.name
    results = copied.with_name("hyperparam_results_latent2.json")
    document = json.loads(results.read_text(encoding="utf-8"))
    document["best_configuration"] |= changes
    results.write_text(json.dumps(document), encoding="utf-8")
    return copied


def renamed(model: Path, folder: Path) -> Path:
    return change(model, folder).rename(folder / "copy" / "mine.pth")


def moved(model: Path, folder: Path) -> Path:
    return change(model, folder).rename(folder / "best_model_latent2.pth")


def with_other_weights(model: Path, folder: Path) -> Path:
    path = change(model, folder)
    torch.save(DynamicAutoencoder(24, 2, [9]).state_dict(), path)
    return path


MODELS: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "renamed": (renamed, "call it best_model_latentN.pth or ensemble_latentN.pth again"),
    "moved": (moved, "hyperparam_results_latent2.json is not beside it"),
    "other weights": (with_other_weights, "not the weights of this model"),
    "of a search that saved none": (lambda m, f: change(m, f, saved_model=None), "run it again with --save_models"),
    "of another file": (lambda m, f: change(m, f, saved_model={"file": "x.pth"}), "x.pth"),
    "of an earlier version": (lambda m, f: change(m, f, training_errors=None), "is of an earlier version"),
    "with damaged quantiles": (lambda m, f: change(m, f, training_errors=[1.0, 0.5]), "run the search again"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_cannot_be_used_is_refused_with_one_line(case: str, model: Path, tmp_path: Path) -> None:
    make, part = MODELS[case]
    path = write(copus_frame(), tmp_path / "a.csv")
    message = assert_one_line(encode(path, make(model, tmp_path), tmp_path / "new"), 2)
    assert message.startswith("error: --model ")
    assert part in message
    assert not (tmp_path / "new").exists()


def test_every_flag_of_a_search_is_one_line(model: Path, tmp_path: Path) -> None:
    path = write(copus_frame(), tmp_path / "a.csv")
    done = encode(path, model, tmp_path / "new", "--epochs", "20", "--seed=42", "--save_models")
    assert done.status == 2
    words = "does not go with --encode, which trains nothing; leave it out"
    lines = [line.removeprefix("hyperparam_optimizer.py: error: ") for line in done.err.splitlines()]
    assert lines == [f"--{flag} {words}" for flag in ("seed", "epochs", "save_models")]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--encode", "no.csv", "--model", "no.pth"], "--encode 'no.csv': there is no such file"),
        (["--encode", "TABLE"], "--encode needs --model"),
        (["--model", "MODEL"], "--model goes with --encode TABLE; leave it out"),
        (["--encode", "TABLE", "--model", "TABLE"], "give a file that ends in .pth"),
        (["--encode", "MODEL", "--model", "MODEL"], "give a file that ends in .csv"),
    ],
)
def test_encode_and_model_go_together(arguments: list[str], part: str, model: Path, tmp_path: Path) -> None:
    path = write(copus_frame(), tmp_path / "a.csv")
    places = {"TABLE": str(path), "MODEL": str(model)}
    done = run(tmp_path / "new", *(places.get(argument, argument) for argument in arguments))
    assert done.status == 2
    assert part in done.err
    assert not (tmp_path / "new").exists()


def test_without_a_scaling_range_the_unit_cannot_be_checked() -> None:
    scaling = Scaling("none", np.zeros(4, np.float32), np.ones(4, np.float32))
    saved = SavedModel(DynamicAutoencoder(4, 2, [5]), list("abcd"), scaling, is_copus=True)
    assert encode_command._unit_misfit(saved, 50.0) is None
