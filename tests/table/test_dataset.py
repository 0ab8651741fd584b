"""Choosing the columns of a table, checking, splitting and scaling it. test_tables.py tests reading the file."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_tables import N, copus_frame, error_of, with_cell, write
from torch import Tensor

from dataset import (
    COPUS_CODES,
    INSTRUCTOR_CODES,
    STUDENT_CODES,
    COPUSDataset,
    DataError,
    Scaling,
    fit_scaling,
)
from layersearch.table.copus import code_of

# --- Choosing a sheet, checking cells --------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet"])
def test_numbers_kept_as_text_are_numbers(tmp_path: Path, name: str) -> None:
    frame = copus_frame()
    as_text = frame.assign(CG=frame["CG"].astype(str))
    assert torch.equal(
        COPUSDataset(write(as_text, tmp_path / name)).get_column("CG"),
        torch.tensor(frame["CG"].to_numpy(), dtype=torch.float32),
    )


def test_identifiers_that_a_number_would_alter_stay_text(tmp_path: Path) -> None:
    frame = copus_frame().assign(Room=[f"{i:03}" for i in range(N)], Key=[f"90071992547409{i}" for i in range(10, 30)])
    others = COPUSDataset(write(frame, tmp_path / "a.csv")).others
    assert others["Room"].tolist() == frame["Room"].tolist()
    assert others["Key"].tolist() == frame["Key"].tolist()


def test_first_sheet_that_holds_the_columns_is_read(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        pd.DataFrame({"About": ["classes"]}).to_excel(book, sheet_name="Cover", index=False)
        pd.DataFrame().to_excel(book, sheet_name="Empty")
        copus_frame().to_excel(book, sheet_name="Data", index=False)
        copus_frame().to_excel(book, sheet_name="Copy", index=False)
    assert COPUSDataset(tmp_path / "a.xlsx").notices == ["read from sheet 'Data', the first of 3 to hold the columns"]


def test_fault_of_the_largest_sheet_is_reported(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        pd.DataFrame({"About": ["classes"]}).to_excel(book, sheet_name="Cover", index=False)
        copus_frame().drop(columns="PRD").to_excel(book, sheet_name="Data", index=False)
    message = error_of(tmp_path / "a.xlsx")
    assert "sheet 'Data': no column for the COPUS code PRD" in message


def test_parquet_index_is_no_feature(tmp_path: Path) -> None:
    frame = copus_frame().set_index(pd.Index(np.arange(N) * 2.0))
    dataset = COPUSDataset(write(frame, tmp_path / "a.parquet"), "numeric")
    assert dataset.columns == [*COPUS_CODES, "T_O"]
    assert any("__index_level_0__" in notice for notice in dataset.notices)


def test_ten_rows_are_enough(tmp_path: Path) -> None:
    assert len(COPUSDataset(write(copus_frame(10), tmp_path / "a.csv"))) == 10


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("lots", "is not a number; correct it, or empty the cell if the value is missing"),
        ("60%", "is not a number"),
        ("1_000", "is not a number"),
        ("12,5", "is not a number (a decimal comma?); save the table with decimal points"),
        ("True", "is not a number"),
        ("inf", "is not finite"),
        ("1e39", "is not finite"),
        ("-0.1", "is negative"),
    ],
)
def test_faulty_cell_is_named_by_row_column_and_value(tmp_path: Path, value: str, complaint: str) -> None:
    message = error_of(write(with_cell("WG", 5, value), tmp_path / "a.csv"))
    assert f"row 5, column 'WG': '{value}' {complaint}" in message


def test_table_of_codes_alone_has_no_other_columns(tmp_path: Path) -> None:
    others = COPUSDataset(write(copus_frame()[list(COPUS_CODES)], tmp_path / "a.csv")).others
    assert others.shape == (N, 0)


@pytest.mark.parametrize("value", [True, datetime.datetime(2020, 1, 2)])
def test_typed_cell_that_is_no_number_is_refused(tmp_path: Path, value: object) -> None:
    message = error_of(write(with_cell("WG", 5, value), tmp_path / "a.xlsx"))
    assert f"row 5, column 'WG': '{value}' is not a number" in message


@pytest.mark.parametrize("values", [np.arange(N) % 2 == 0, pd.date_range("2020-01-01", periods=N)])
def test_typed_column_that_is_no_number_is_refused(tmp_path: Path, values: Any) -> None:
    path = write(copus_frame().assign(WG=values), tmp_path / "a.parquet")
    assert "row 2, column 'WG'" in error_of(path)


@pytest.mark.parametrize("columns", ["numeric", "L,WG"])
def test_negative_value_is_allowed_outside_copus(tmp_path: Path, columns: str) -> None:
    dataset = COPUSDataset(write(with_cell("WG", 5, -3.5), tmp_path / "a.csv"), columns)
    assert dataset.get_column("WG")[3] == -3.5


def test_column_without_any_value_is_refused(tmp_path: Path) -> None:
    message = error_of(write(copus_frame().assign(WG=np.nan), tmp_path / "a.csv"))
    assert "column 'WG' has no value in any row" in message


def test_row_without_any_value_is_left_out_of_everything(tmp_path: Path) -> None:
    frame = copus_frame().assign(Key=range(N))
    frame.loc[[3, 7], list(COPUS_CODES)] = np.nan
    dataset = COPUSDataset(write(frame, tmp_path / "a.csv"))
    assert dataset.notices == ["left out, since no feature has a value there: row 5, 9"]
    kept = [i for i in range(N) if i not in (3, 7)]
    assert dataset.others["Key"].tolist() == kept
    assert dataset.row_numbers.tolist() == [i + 2 for i in kept]
    assert len(dataset) == N - 2
    assert dataset.get_column("L").tolist() == pytest.approx(frame["L"][kept].tolist())


def test_constant_column_is_said(tmp_path: Path) -> None:
    dataset = COPUSDataset(write(copus_frame().assign(TQ=0.0), tmp_path / "a.csv"))
    assert dataset.notices == ["the same value in every row, so nothing to learn from: TQ (0)"]


def test_values_above_100_are_said(tmp_path: Path) -> None:
    frame = with_cell("WG", 5, 128.57)
    frame.loc[0, "L"] = 100.5
    assert COPUSDataset(write(frame, tmp_path / "a.csv")).notices == [
        "2 cells above 100 % (up to 128.57), used as they are"
    ]
    assert not COPUSDataset(tmp_path / "a.csv", "L,WG").notices


def test_fractions_are_said(tmp_path: Path) -> None:
    frame = copus_frame()
    frame[list(COPUS_CODES)] /= 100
    (notice,) = COPUSDataset(write(frame, tmp_path / "a.csv")).notices
    assert "fractions" in notice
    assert "do not use --scaling percent" in notice


# --- Columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [*COPUS_CODES, "T_O"])
def test_every_code_stands_for_itself(code: str) -> None:
    assert code_of(code) == code


@pytest.mark.parametrize(
    ("spelling", "code"),
    [
        ("AnQ", "S_Anq"),
        ("SAnQ", "S_Anq"),
        ("S.AnQ", "S_Anq"),
        ("Student.AnQ", "S_Anq"),
        ("TAnQ", "T_ANQ"),
        ("I.AnQ", "T_ANQ"),
        ("Instructor AnQ", "T_ANQ"),
        ("InstructorAnQ", "T_ANQ"),
        ("1o1", "ONE_O_ONE"),
        ("OoO", "ONE_O_ONE"),
        ("I.1o1", "ONE_O_ONE"),
        ("D/V", "DV"),
        ("Adm", "ADMIN"),
        ("Instructor.Adm", "ADMIN"),
        ("Prd", "PRD"),
        ("RtW", "RTW"),
        ("FUp", "FUP"),
        ("PQ", "T_PQ"),
        ("T.PQ", "T_PQ"),
        ("W", "S_W"),
        ("S.W", "S_W"),
        ("TW", "T_W"),
        ("I.W", "T_W"),
        ("Instructor_W", "T_W"),
        ("O", "S_O"),
        ("Student O", "S_O"),
        ("T.O", "T_O"),
        ("T/Q", "TQ"),
        ("S.T/Q", "TQ"),
        ("StudentSQ", "SQ"),
        ("Students.L", "L"),
        ("student_ind", "Ind"),
        ("S.Lec", None),  # no student lectures
        ("I.SQ", None),
        ("AnQ.1", None),
        ("Semester", None),
        ("Size", None),
        ("SL", None),  # a letter in front counts only as a word of its own
        ("", None),
    ],
)
def test_spelling_stands_for_its_code(spelling: str, code: str | None) -> None:
    assert code_of(spelling) == code


def test_other_spellings_are_mapped_and_said_in_one_line(tmp_path: Path) -> None:
    names = {code: f"S.{code.removeprefix('S_')}" for code in STUDENT_CODES}
    names |= {code: f"I.{code.removeprefix('T_')}" for code in INSTRUCTOR_CODES} | {"ONE_O_ONE": "1o1"}
    frame = copus_frame()
    shuffled = frame.rename(columns=names)[list(reversed(frame.rename(columns=names).columns))]
    dataset = COPUSDataset(write(shuffled, tmp_path / "a.csv"))
    assert dataset.columns == list(COPUS_CODES)
    assert torch.equal(dataset.data, torch.tensor(frame[list(COPUS_CODES)].to_numpy(), dtype=torch.float32))
    (notice,) = dataset.notices
    assert notice.startswith("columns read as COPUS codes: 'S.L' as L, ")
    assert "'1o1' as ONE_O_ONE" in notice
    assert dataset.get_info()["mapped_columns"] == names


def test_exact_name_wins_over_another_spelling(tmp_path: Path) -> None:
    frame = copus_frame().assign(SAnQ="x")
    frame.insert(0, "AnQ", "x")  # one before and one after the exact name
    dataset = COPUSDataset(write(frame, tmp_path / "a.csv"))
    assert dataset.sources["S_Anq"] == "S_Anq"
    assert {"AnQ", "SAnQ"} <= set(dataset.others)


def test_two_spellings_of_one_code_are_refused(tmp_path: Path) -> None:
    frame = copus_frame().rename(columns={"S_Anq": "AnQ"}).assign(SAnQ=1.0)
    assert "'AnQ', 'SAnQ' may each be S_Anq" in error_of(write(frame, tmp_path / "a.csv"))


def test_missing_codes_are_listed_with_the_closest_names(tmp_path: Path) -> None:
    frame = copus_frame().rename(columns={"ADMIN": "ADMlN", "PRD": "zzz"})
    message = error_of(write(frame, tmp_path / "a.csv"))
    assert "no column for the COPUS codes PRD, ADMIN (closest: 'ADMlN')" in message
    assert "--columns numeric or --columns NAME,NAME" in message


def test_numeric_leaves_out_labels_identifiers_text_and_empty_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"": range(N), "x": np.arange(N) / 2, "student_id": range(N), "y": [-1, 1] * (N // 2)})
    frame = frame.assign(Cluster=1, group=range(N), note=["7", "ill"] * (N // 2), blank=np.nan, index=range(N))
    dataset = COPUSDataset(write(frame, tmp_path / "a.csv"), "numeric", label_column="group")
    assert dataset.columns == ["x", "y"]
    assert dataset.notices == [
        "not used as features, since not all cells are numbers: 'note' (row 3: ill)",
        "not used as features (label, identifier, index or empty):"
        " 'Unnamed: 0', 'student_id', 'Cluster', 'group', 'blank', 'index'",
    ]
    assert list(dataset.others.columns) == ["Unnamed: 0", "student_id", "Cluster", "group", "note", "blank", "index"]


def test_numeric_without_a_number_is_refused(tmp_path: Path) -> None:
    assert "no column holds numbers alone" in error_of(
        write(copus_frame()[["Bcluster"]], tmp_path / "a.csv"), "numeric"
    )


def test_listed_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    frame = copus_frame().rename(columns={"S_Anq": "S.AnQ"}).assign(**{"a, b": 1.0, "Mean Score": 2.0})
    dataset = COPUSDataset(write(frame, tmp_path / "a.csv"), 'WG, L, AnQ, "a, b", mean_score')
    assert dataset.columns == ["WG", "L", "S.AnQ", "a, b", "Mean Score"]
    assert torch.equal(dataset.get_column("WG"), torch.tensor(frame["WG"].to_numpy(), dtype=torch.float32))
    spelled, constant = dataset.notices
    assert spelled == "columns found under another spelling: 'S.AnQ' for AnQ, 'Mean Score' for mean_score"
    assert "a, b (1), Mean Score (2)" in constant


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ("L,Indd", "no column 'Indd' (closest: 'Ind')"),
        ("L,WG,L", "names the column 'L' twice"),
        (" , ", "names no column"),
        ("score", "'score' may be 'Score', 'SCORE'; write the name in full"),
        ("L,Bcluster", "row 2, column 'Bcluster': 'Mostly lecture' is not a number"),
    ],
)
def test_faulty_list_of_columns_is_one_clear_line(tmp_path: Path, columns: str, complaint: str) -> None:
    path = write(copus_frame().assign(Score=1.0, SCORE=2.0), tmp_path / "a.csv")
    assert complaint in error_of(path, columns)


def test_label_is_found_given_or_absent(tmp_path: Path) -> None:
    frame = copus_frame().assign(Cluster=[1, 2] * (N // 2), Group="a")
    path = write(frame, tmp_path / "a.csv")
    assert COPUSDataset(path).label_column == "Cluster"
    assert COPUSDataset(path, label_column="Group").label_column == "Group"
    assert COPUSDataset(path, "L,Cluster").label_column == "Bcluster", "a feature is no label"
    assert COPUSDataset(write(frame.drop(columns="Cluster"), path)).label_column == "Bcluster"
    assert COPUSDataset(write(frame.drop(columns="Bcluster"), path), "L,Cluster").label_column is None
    assert COPUSDataset(write(copus_frame()[list(COPUS_CODES)], path)).label_column is None


def test_faulty_label_is_one_clear_line(tmp_path: Path) -> None:
    path = write(copus_frame(), tmp_path / "a.csv")
    assert "--label_column: no column 'bclusters' (closest: 'Bcluster')" in error_of(path, label_column="bclusters")
    assert "'L' is both --label_column and a feature" in error_of(path, label_column="L")


def test_instructor_id_in_one_word_is_an_identifier_and_grid_is_none(tmp_path: Path) -> None:
    frame = copus_frame()[["L", "WG"]].assign(InstructorID=range(N), studentId=range(N), grid=range(N), GRID=range(N))
    assert COPUSDataset(write(frame, tmp_path / "a.csv"), "numeric").columns == ["L", "WG", "grid", "GRID"]


# --- Groups and strata -----------------------------------------------------------------------------


def refusal(path: Path, columns: str = "copus", **flags: str) -> str:
    with pytest.raises(DataError) as caught:
        COPUSDataset(path, columns, **flags)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_groups_and_strata_are_those_of_the_rows_in_use(tmp_path: Path) -> None:
    frame = copus_frame().astype({"Instructor ID": float})
    frame.loc[0, list(COPUS_CODES)] = np.nan  # left out
    frame.loc[[1, 2], "Instructor ID"] = np.nan
    path = write(frame, tmp_path / "a.csv")
    dataset = COPUSDataset(path, group_column="Instructor ID", stratify_column="Bcluster")
    assert dataset.groups is not None
    assert dataset.groups.tolist() == [0, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7]
    assert dataset.n_groups == 8
    assert dataset.strata is not None
    assert dataset.strata.tolist() == [0, 1] * 9 + [0]
    info = json.loads(json.dumps(dataset.get_info(), allow_nan=False))
    assert (info["group_column"], info["groups"], info["stratify_column"]) == ("Instructor ID", 8, "Bcluster")
    plain = COPUSDataset(path)
    assert (plain.groups, plain.n_groups, plain.strata) == (None, None, None)
    assert [plain.get_info()[name] for name in ("group_column", "groups", "stratify_column")] == [None] * 3


def test_split_and_folds_keep_groups_apart_and_strata_alike(tmp_path: Path) -> None:
    path = write(copus_frame(120), tmp_path / "a.csv")  # 40 instructors with 3 rows each
    dataset = COPUSDataset(path, group_column="Instructor ID", stratify_column="Bcluster")
    assert dataset.groups is not None
    assert dataset.strata is not None
    train, test = dataset.split(42)
    folds = dataset.folds(train, 4, 42)
    assert sorted(torch.cat([train, test]).tolist()) == list(range(120))
    assert sorted(torch.cat([fold.test for fold in folds]).tolist()) == sorted(train.tolist())
    for one, other in [(train, test), *folds]:
        assert not set(dataset.groups[one]) & set(dataset.groups[other])
        assert dataset.strata[other].mean() == pytest.approx(0.5, abs=0.1)
    assert dataset.notices == []
    assert all(torch.equal(a, b) for a, b in zip(dataset.split(42), (train, test), strict=True))


def test_plain_folds_are_of_the_training_rows_alone(dataset: COPUSDataset) -> None:
    train, _ = dataset.split(42)
    folds = dataset.folds(train, 5, 42)
    assert [len(fold.test) for fold in folds] == [4, 3, 3, 3, 3]
    assert sorted(torch.cat([fold.test for fold in folds]).tolist()) == sorted(train.tolist())
    with pytest.raises(DataError, match="--cv_folds 17: more folds than rows in"):
        dataset.folds(train, 17, 42)


def test_notices_of_splits_and_folds_are_given_once(tmp_path: Path) -> None:
    frame = copus_frame().assign(Level=["x"] * 16 + ["y"] * 4)
    dataset = COPUSDataset(write(frame, tmp_path / "a.csv"), stratify_column="Level")
    assert dataset.notices == []
    for _ in range(2):
        dataset.folds(dataset.split(42).train, 6, 42)
    rare, leak, rare_in_folds = dataset.notices
    assert rare == "fewer than 5 rows for 1 value of 'Level', so perhaps in no test row"
    assert leak.startswith("rows share 'Instructor ID' (7 values in 20 rows), so rows of the same instructor")
    assert rare_in_folds == "fewer than 6 training rows for 1 value of 'Level', so not in every fold"


def test_an_index_that_repeats_is_no_leak(tmp_path: Path) -> None:
    frame = copus_frame().drop(columns="Instructor ID").assign(index=np.arange(N) // 2)
    frame.insert(0, "", np.arange(N) // 2)
    dataset = COPUSDataset(write(frame, tmp_path / "a.csv"))
    dataset.split(42)
    assert dataset.notices == []


def test_numeric_leaves_out_the_group_and_the_stratify_column(tmp_path: Path) -> None:
    frame = copus_frame()[["L", "WG"]].assign(room=np.arange(N) // 4, size=np.arange(N) // 5, Cluster=1)
    path = write(frame, tmp_path / "a.csv")
    assert COPUSDataset(path, "numeric").columns == ["L", "WG", "room", "size"]
    dataset = COPUSDataset(path, "numeric", group_column="room", stratify_column="size", label_column="size")
    assert dataset.columns == ["L", "WG"]
    assert dataset.label_column == "size"


@pytest.mark.parametrize("flag", ["group_column", "stratify_column"])
def test_faulty_group_or_stratify_column_is_one_clear_line(tmp_path: Path, flag: str) -> None:
    path = write(copus_frame().assign(one="x", Key=range(N)), tmp_path / "a.csv")
    assert f"--{flag}: no column 'instructor' (closest: " in refusal(path, **{flag: "instructor"})
    assert f"'L' is both --{flag} and a feature; take it out of" in refusal(path, **{flag: "L"})
    assert f"'T_O' is both --{flag} and a feature" in refusal(path, "L,T_O", **{flag: "T_O"})
    assert f"--{flag} 'one': all 20 rows have the same value" in refusal(path, **{flag: "one"})
    assert f"--{flag} 'Key': no two of the 20 rows share a value" in refusal(path, **{flag: "Key"})


# --- The dataset -----------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path: Path) -> COPUSDataset:
    return COPUSDataset(write(copus_frame(), tmp_path / "a.csv"))


def test_rows_and_columns_are_indexed(dataset: COPUSDataset) -> None:
    assert len(dataset) == dataset.n_samples == N
    assert dataset.n_features == 24
    assert torch.equal(dataset[3], dataset.data[3])
    assert torch.equal(dataset[2:5], dataset.data[2:5])
    assert torch.equal(dataset[torch.tensor([5, 1])], dataset.data[[5, 1]])
    assert torch.equal(dataset.get_batch([5, 1]), dataset.data[[5, 1]])
    assert torch.equal(dataset.get_batch(torch.tensor([5, 1])), dataset.data[[5, 1]])
    assert torch.equal(dataset.get_column("CG"), dataset.data[:, COPUS_CODES.index("CG")])
    with pytest.raises(KeyError, match="no feature 'CGG'"):
        dataset.get_column("CGG")
    with pytest.raises(IndexError):
        dataset[N]


def test_info_is_strict_json_and_true(dataset: COPUSDataset) -> None:
    info = json.loads(json.dumps(dataset.get_info(), allow_nan=False))
    assert info["path"] == dataset.path.as_posix()
    assert info["sha256"] == hashlib.sha256(dataset.path.read_bytes()).hexdigest()
    assert (info["rows"], info["columns"], info["missing_cells"]) == (N, list(COPUS_CODES), 0)
    assert info["zero_cells"] == int((copus_frame()[list(COPUS_CODES)] == 0).to_numpy().sum())
    assert info["other_columns"] == ["Instructor ID", "T_O", "Bcluster"]
    assert info["label_column"] == "Bcluster"


def test_split_is_the_documented_permutation(dataset: COPUSDataset) -> None:
    state = torch.random.get_rng_state()
    train, test = dataset.split(42)
    assert torch.equal(state, torch.random.get_rng_state())
    assert (len(train), len(test)) == (16, 4)
    expected = torch.randperm(N, generator=torch.Generator().manual_seed(42))
    assert torch.equal(torch.cat([train, test]), expected)
    assert train.dtype == torch.int64
    assert not torch.equal(dataset.split(43).train, train)


# --- Scaling ---------------------------------------------------------------------------------------


def test_robust_scaling_maps_training_percentiles_to_0_and_1() -> None:
    data = torch.arange(202.0)[:, None] * torch.tensor([1.0, -3.0])  # [202, 2]
    data[101:] = 1e6  # test rows: must not be looked at
    scaling, notices = fit_scaling("robust", data, torch.arange(101), ["a", "b"])
    assert notices == []
    assert scaling.low.tolist() == [1, -297]
    assert scaling.high.tolist() == [99, -3]
    scaled = scaling.apply(torch.tensor([[1.0, -3], [99, -297], [50, -150], [-5, 7], [torch.nan, 1e9]]))
    expected = torch.tensor([[0, 1], [1, 0], [0.5, 0.5], [0, 1], [torch.nan, 1]])
    torch.testing.assert_close(scaled, expected, rtol=0, atol=0, equal_nan=True)


def test_missing_cells_do_not_count_in_the_percentiles() -> None:
    data = torch.cat([torch.arange(101.0), torch.full((50,), torch.nan)])[:, None]
    scaling, _ = fit_scaling("robust", data, torch.arange(151), ["a"])
    assert (scaling.low.item(), scaling.high.item()) == (1, 99)


def test_column_without_spread_falls_back_with_one_notice_each() -> None:
    data = torch.zeros(300, 4)  # columns: rare, constant while training, empty while training, ordinary
    data[7, 0], data[250, 1] = 40, 9
    data[:200, 2] = torch.nan
    data[:, 3] = torch.arange(300)
    scaling, notices = fit_scaling("robust", data, torch.arange(200), ["rare", "still", "void", "plain"])
    assert notices == [
        "scaled by minimum and maximum, since their 1st and 99th percentile are equal: rare",
        "scaled to 0, since constant in the training rows: still",
        "scaled to 0, since without a value in the training rows: void",
    ]
    scaled = scaling.apply(data)
    assert scaled[7, 0] == 1
    assert scaled[250, 1] == 0
    assert scaled[250, 2] == 0
    assert scaled[0, 2].isnan()
    json.dumps(scaling.to_dict(), allow_nan=False)


def test_percent_and_none_do_not_clip() -> None:
    data = torch.tensor([[128.57, -4.0, torch.nan]])
    for kind, divisor in (("percent", 100), ("none", 1)):
        scaling, notices = fit_scaling(kind, data, torch.tensor([0]), ["a", "b", "c"])
        torch.testing.assert_close(scaling.apply(data), data / divisor, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(scaling.invert(data / divisor), data, rtol=1e-6, atol=0, equal_nan=True)
        assert notices == []


def test_scaling_survives_json_bit_for_bit(dataset: COPUSDataset) -> None:
    scaling, _ = fit_scaling("robust", dataset.data / 3, dataset.split(42).train, dataset.columns)
    again = Scaling.from_dict(json.loads(json.dumps(scaling.to_dict())))
    assert again.kind == "robust"
    assert again.low.tobytes() == scaling.low.tobytes()
    assert again.high.dtype == np.float32
    assert torch.equal(again.apply(dataset.data), scaling.apply(dataset.data))


def test_invert_undoes_apply_within_the_clip(dataset: COPUSDataset) -> None:
    data = dataset.data + 10  # so that no column starts at 0
    scaling, _ = fit_scaling("robust", data, dataset.split(42).train, dataset.columns)
    clipped = torch.minimum(torch.maximum(data, torch.tensor(scaling.low)), torch.tensor(scaling.high))
    torch.testing.assert_close(scaling.invert(scaling.apply(data)), clipped, rtol=1e-6, atol=1e-5)


# --- The real table --------------------------------------------------------------------------------


def test_real_table_is_read_as_published(real_table: Path) -> None:
    dataset = COPUSDataset(real_table)
    assert (dataset.n_samples, dataset.n_features) == (2008, 24)
    assert [len(rows) for rows in dataset.split(42)] == [1607, 401]
    assert dataset.get_info()["missing_cells"] == 0
    assert dataset.get_info()["zero_cells"] / dataset.data.numel() == pytest.approx(0.5526, abs=1e-4)
    above, leak = dataset.notices
    assert above == "4 cells above 100 % (up to 128.571), used as they are"
    assert leak == (
        "rows share 'Instructor ID' (547 values in 1727 rows), so rows of the same instructor train and test and the"
        ' losses look better than they are for new ones; to keep them apart: --group_column "Instructor ID"'
    )
    assert dataset.others["Instructor ID"].nunique() == 547
    assert dataset.others["Instructor ID"].isna().sum() == 281
    assert dataset.others["Bcluster"].value_counts().tolist() == [1106, 541, 361]


def test_instructors_of_the_real_table_are_kept_apart(real_table: Path) -> None:
    dataset = COPUSDataset(real_table, group_column="Instructor ID", stratify_column="Cluster")
    assert dataset.groups is not None
    assert dataset.n_groups == 547 + 281
    train, test = dataset.split(42)
    assert len(test) / len(dataset) == pytest.approx(0.2, abs=0.01)
    assert not set(dataset.groups[train]) & set(dataset.groups[test])
    clusters = dataset.others["Cluster"]
    tested = clusters.iloc[test.numpy()]
    assert (tested.value_counts() / clusters.value_counts()).tolist() == pytest.approx([0.2] * 7, abs=0.02)
    assert len(dataset.notices) == 1  # of the cells above 100 %


def baseline_losses(scaled: Tensor, train: Tensor, test: Tensor) -> list[float]:
    """Loss on the test rows of the training rows' column means, and of PCA with 2, 3, 4, 8 components."""
    mean, target = scaled[train].mean(0), scaled[test]
    axes = torch.linalg.svd(scaled[train] - mean, full_matrices=False).Vh
    losses = []
    for k in (0, 2, 3, 4, 8):
        error = (mean + (target - mean) @ axes[:k].T @ axes[:k] - target) ** 2
        losses.append((0.7 * error[target != 0].mean() + 0.3 * error.mean()).item())
    return losses


def test_baselines_of_the_real_table_are_as_measured(real_table: Path) -> None:
    """The published figures were measured with percentiles of all rows; those of the training rows are ours."""
    dataset = COPUSDataset(real_table)
    train, test = dataset.split(42)
    everything = torch.arange(len(dataset))
    leaking, _ = fit_scaling("robust", dataset.data, everything, dataset.columns)
    honest, _ = fit_scaling("robust", dataset.data, train, dataset.columns)
    measured = baseline_losses(leaking.apply(dataset.data).double(), train, test)
    assert measured == pytest.approx([0.0753, 0.0473, 0.0393, 0.0337, 0.0178], abs=5e-5)
    ours = baseline_losses(honest.apply(dataset.data).double(), train, test)
    assert ours == pytest.approx([0.0773, 0.0487, 0.0406, 0.0349, 0.0183], abs=5e-5)
