"""Reading a table from its file, as `COPUSDataset` does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import torch
from conftest import ROOT
from made_tables import N, copus_frame, error_of, with_cell, write

from dataset import COPUS_CODES, COPUSDataset
from layersearch.table.formats import DataError


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.tsv", "a.tab", "a.xlsx", "a.parquet"])
def test_every_format_gives_the_same_tensor_and_others(tmp_path: Path, name: str) -> None:
    frame = copus_frame()
    dataset = COPUSDataset(write(frame, tmp_path / name))
    assert dataset.data.dtype == torch.float32
    assert torch.equal(dataset.data, torch.tensor(frame[list(COPUS_CODES)].to_numpy(), dtype=torch.float32))
    assert dataset.columns == list(COPUS_CODES)
    expected = frame[["Instructor ID", "T_O", "Bcluster"]]
    pd.testing.assert_frame_equal(dataset.others, expected, check_dtype=False)
    assert pd.api.types.is_integer_dtype(dataset.others["Instructor ID"])
    assert dataset.notices == []


@pytest.mark.parametrize(("delimiter", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_delimiter_in_csv_is_recognised_and_said(tmp_path: Path, delimiter: str, word: str) -> None:
    copus_frame().to_csv(tmp_path / "a.csv", index=False, sep=delimiter)
    dataset = COPUSDataset(tmp_path / "a.csv")
    assert dataset.n_features == 24
    assert dataset.notices == [f"the columns are separated by {word}, not commas"]


@pytest.mark.parametrize(
    ("encoding", "notice"),
    [("utf-8", None), ("utf-8-sig", None), ("utf-16", "UTF-16"), ("latin-1", "Windows-1252")],
)
def test_encoding_is_recognised_and_said(tmp_path: Path, encoding: str, notice: str | None) -> None:
    frame = copus_frame().assign(Comment="élève")
    frame = frame[[*COPUS_CODES, "Comment"]]  # a byte order mark would spoil the first code
    frame.to_csv(tmp_path / "a.csv", index=False, encoding=encoding)
    dataset = COPUSDataset(tmp_path / "a.csv")
    assert set(dataset.others["Comment"]) == {"élève"}
    assert (notice is None and not dataset.notices) or (notice is not None and notice in dataset.notices[0])


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "n/a", " "])
def test_missing_cell_stays_missing(tmp_path: Path, missing: str) -> None:
    dataset = COPUSDataset(write(with_cell("CG", 4, missing), tmp_path / "a.csv"))
    assert dataset.data.isnan().nonzero().tolist() == [[2, COPUS_CODES.index("CG")]]
    assert dataset.get_info()["missing_cells"] == 1


@pytest.mark.parametrize("missing", ["", " ", "NA", "#N/A", "null", None])
def test_missing_cell_of_a_workbook_stays_missing(tmp_path: Path, missing: str | None) -> None:
    frame = with_cell("CG", 4, missing)
    frame.loc[:, "Bcluster"] = missing  # the last column, so that rows end early
    dataset = COPUSDataset(write(frame, tmp_path / "a.xlsx"))
    assert dataset.data.isnan().nonzero().tolist() == [[2, COPUS_CODES.index("CG")]]
    assert dataset.others["Bcluster"].isna().all()


def test_rows_of_a_workbook_may_be_empty_or_longer_than_the_header(tmp_path: Path) -> None:
    frame = with_cell("WG", 9, "lots").rename(columns={"Bcluster": ""}).astype(object)
    frame.loc[1:3] = np.nan
    message = error_of(write(frame, tmp_path / "a.xlsx"))
    assert "row 9, column 'WG': 'lots' is not a number" in message


def test_parquet_with_equal_names_is_refused(tmp_path: Path) -> None:
    cells = pyarrow.array([1.0] * N)
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([cells, cells], names=["x", "x"]), tmp_path / "a.parquet")
    assert "more than one column is named 'x'" in error_of(tmp_path / "a.parquet")


SOUND = copus_frame().to_csv(index=False)
FAULTY_FILES: dict[str, tuple[str, bytes | None, str]] = {
    "missing": ("a.csv", None, "no such file"),
    "unknown suffix": ("a.txt", b"L,Ind\n1,2\n", "the suffix '.txt' is not known; allowed: .csv, .tsv"),
    "no bytes": ("a.csv", b"", "is empty"),
    "blank": ("a.csv", b"\n \n\n", "is empty"),
    "header only": ("a.csv", SOUND.split("\n")[0].encode(), "a header and no row below it"),
    "too few rows": ("a.csv", "\n".join(SOUND.split("\n")[:10]).encode(), "9 rows with values; at least 10 are needed"),
    "duplicate column": ("a.csv", SOUND.replace("Ind,", "L,").encode(), "more than one column is named 'L'; rename"),
    "ragged": ("a.csv", (SOUND + "1,2,3" + 30 * ",4").encode(), "cannot be read as .csv: line 22 has 33 cells and"),
    "binary": ("a.csv", b"\x7fELF\r\n\0\0", "not text"),
    "cut UTF-16": ("a.csv", SOUND.encode("utf-16")[:-1], "cannot be read as .csv"),
    "not a workbook": ("a.xlsx", SOUND.encode(), "cannot be read as .xlsx"),
    "cut workbook": ("a.xlsx", b"PK\x03\x04 and no more", "cannot be read as .xlsx"),
    "not parquet": ("a.parquet", SOUND.encode(), "cannot be read as .parquet"),
}


@pytest.mark.parametrize("fault", FAULTY_FILES)
def test_faulty_file_is_one_clear_line(tmp_path: Path, fault: str) -> None:
    name, content, expected = FAULTY_FILES[fault]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=expected):
        COPUSDataset(tmp_path / name)
    error_of(tmp_path / name)


def test_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in error_of(tmp_path)


def test_line_breaks_in_names_and_cells_do_not_break_messages(tmp_path: Path) -> None:
    frame = with_cell("WG", 5, "see\nnotes").rename(columns={"WG": "Student\nWG"})
    assert "row 5, column 'Student WG': 'see notes' is not" in error_of(write(frame, tmp_path / "a.xlsx"))


def test_blank_lines_count_as_rows(tmp_path: Path) -> None:
    lines = with_cell("WG", 5, "lots").to_csv(index=False).split("\n")
    (tmp_path / "a.csv").write_text("\n".join([*lines[:3], "", *lines[3:]]))
    assert "row 6, column 'WG'" in error_of(tmp_path / "a.csv")


def test_openpyxl_is_imported_only_where_used() -> None:
    code = "import sys, dataset; sys.exit('openpyxl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
