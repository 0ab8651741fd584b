"""Unusual input that is valid: it is read, and a notice says how it was understood."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import TINY, run
from made_tables import N, copus_frame, with_cell, write
from refusals import ON_WINDOWS, assert_refused, european

from layersearch.table.formats import read_table, with_header


def accepted(folder: Path, *arguments: object) -> list[str]:
    """Runs the command and returns its notices, without the one on shared IDs."""
    done = run(folder / "new", *TINY, *arguments)
    assert done.status == 0
    notices = [line.removeprefix("Note: ") for line in done.err.splitlines() if line.startswith("Note: ")]
    return [notice for notice in notices if not notice.startswith("rows share")]


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_european_spreadsheet_is_read_and_said(tmp_path: Path, delimiter: str, encoding: str) -> None:
    notes = ["3,5 of 7, élève", "7,25"]
    frame = copus_frame().assign(Note=[notes[0]] * (N - 1) + notes[1:])
    frame[["L", "WG"]] = -0.0, 1.25e-05
    frame.loc[3, "WG"] = np.nan
    frame.to_csv(tmp_path / "a.csv", index=False, sep=delimiter, decimal=",", encoding=encoding)
    sheet = read_table(tmp_path / "a.csv").sheets[""]
    read = with_header(sheet, "a.csv")
    numbers = frame.columns.drop(["Bcluster", "Note"])
    assert np.array_equal(read[numbers].astype(float), frame[numbers], equal_nan=True)
    assert set(read["Note"]) == set(notes)
    notices = accepted(tmp_path, "--data_path", tmp_path / "a.csv")
    assert "decimal commas were read as decimal points" in notices
    assert any("are separated by" in notice for notice in notices)


def test_thousands_are_no_decimals_but_leading_zeros_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(european("WG", ["0,125", "1,234"]))
    read = with_header(read_table(tmp_path / "a.csv").sheets[""], "a.csv")
    assert read["WG"].tolist()[:2] == ["0.125", "1.234"]


@pytest.mark.parametrize(
    "name", ["a b.csv", 'it\'s "mine".csv', "été 数据 🙂.csv", "x/../a.csv", "$HOME%s{0}.csv", "-.csv"]
)
def test_a_path_may_look_strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if ON_WINDOWS and '"' in name:
        pytest.skip("no such names there")
    (tmp_path / "x").mkdir()
    write(copus_frame(), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert run(Path("out", "x", "..", name, "y"), *TINY, f"--data_path={name}").status == 0


@pytest.mark.skipif(ON_WINDOWS, reason="no such names there")
def test_a_line_break_in_a_path_stays_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\x1b[2J.csv"
    path.write_text("x\n1\n")
    assert "a\\nb\\x1b[2J.csv: no column for" in assert_refused(tmp_path, "--data_path", path)


def test_percentages_above_100_are_allowed_and_said(tmp_path: Path) -> None:
    path = write(with_cell("WG", 5, 128.57), tmp_path / "a.csv")
    assert accepted(tmp_path, "--data_path", path) == ["1 cell above 100 % (up to 128.57), used as they are"]


def test_fractions_among_percentages_are_allowed_and_said(tmp_path: Path) -> None:
    frame = copus_frame()
    frame[["CG", "WG"]] /= 100
    (notice,) = accepted(tmp_path, "--data_path", write(frame, tmp_path / "a.csv"))
    assert notice.startswith("mixed scales: no value exceeds 1 in CG, WG, while others go up to ")
    assert "multiply them by 100" in notice


def test_a_latent_size_beyond_the_columns_is_allowed_and_said(tmp_path: Path) -> None:
    path = write(copus_frame(), tmp_path / "a.csv")
    assert accepted(tmp_path, "--data_path", path, "--latent_dim", "30") == [
        "--latent_dim 30 does not compress 24 columns"
    ]


def test_a_halving_that_drops_nothing_is_said(tmp_path: Path) -> None:
    path = write(copus_frame(), tmp_path / "a.csv")
    (notice,) = accepted(tmp_path, "--data_path", path, "--search", "halving", "--min_epochs", "50")
    assert notice.startswith("--min_epochs 50 with --epochs")


@pytest.mark.parametrize(
    "flags", [[], ["--input_normalization", "none"], ["--study", "input_normalization=layer,none"]]
)
def test_columns_that_a_layernorm_leaves_nothing_of_are_said(tmp_path: Path, flags: list[str]) -> None:
    path = write(copus_frame(), tmp_path / "a.csv")
    for columns, left in (("L", "nothing of a single column"), ("L,WG", "only the order of two columns")):
        done = run(tmp_path / columns, *TINY, "--data_path", path, "--latent_dim", "1", "--columns", columns, *flags)
        assert (f"leaves {left}; give --input_normalization none" in done.err) is (not flags)


def test_a_workbook_of_several_sheets_is_read_and_said(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        pd.DataFrame({"About": ["classes"]}).to_excel(book, sheet_name="Cover", index=False)
        copus_frame().to_excel(book, sheet_name="Data", index=False)
    notices = accepted(tmp_path, "--data_path", tmp_path / "a.xlsx")
    assert notices == ["read from sheet 'Data', the first of 2 to hold the columns"]


def test_formulas_in_labels_are_neutralised_in_what_is_written(tmp_path: Path) -> None:
    formulas = ["=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)", "-2+3", '=HYPERLINK("http://x","y")']
    frame = copus_frame().assign(Bcluster=formulas * 4).rename(columns={"T_O": "=1+1"})
    path = write(frame, tmp_path / "a.csv")
    done = run(tmp_path / "new", *TINY, "--data_path", path, "--latent_dim", "2")
    assert done.status == 0
    written = (tmp_path / "new" / "latent_codes_latent2.csv").read_text(encoding="utf-8")
    header, *rows = csv.reader(io.StringIO(written, newline=""))
    assert [f"'{formula}" for formula in formulas] == [row[header.index("Bcluster")] for row in rows[:5]]
    assert not [cell for row in [header, *rows] for cell in row if cell.startswith(("=", "+", "@"))]


@pytest.mark.parametrize(
    "name", ["self", "index", "latent_1", "row", "a, b", 'say "x"', "$x^", "数", " ", "=x", "__len__"]
)
def test_other_columns_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = write(copus_frame().rename(columns={"T_O": name}), tmp_path / "a.csv")
    assert accepted(tmp_path, "--data_path", path) == []


def test_the_largest_of_numbers_are_used(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [9e37, -9e37, 0, 1] * 5, "b": [1e-45, 0] * 10, "c": range(N)})
    path = write(frame, tmp_path / "a.csv")
    assert accepted(tmp_path, "--data_path", path, "--columns", "numeric", "--latent_dim", "2") == []
