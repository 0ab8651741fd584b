"""The table of observations: choosing its columns, checking, scaling, splitting.

    dataset = COPUSDataset("data/stains.csv")        # dataset.data: [N, F] raw values, NaN where missing
    train, test = dataset.split(seed=42)             # folds inside `train`: dataset.folds(train, 5, seed=42)
    scaling, notices = fit_scaling("robust", dataset.data, train, dataset.columns)
    x = scaling.apply(dataset.get_batch(train[:32]))  # [B, F] in [0, 1]

    python dataset.py --download                      # the published table, to data/stains.csv (download.py)

Files are read by `tables.py`, rows are split by `splits.py`. Everything a user can get wrong is a `DataError` of
one line, which can be imported from here too. Nothing here knows of models.

The protocol and its codes: Smith et al. 2013, doi:10.1187/cbe.13-08-0154. The published table: Stains et
al. 2018, doi:10.1126/science.aap8892.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from layersearch.table.copus import PROFILE_COLUMN
from layersearch.table.formats import DataError as DataError
from layersearch.table.formats import Sheet, Table, read_table, with_header
from layersearch.table.splits import Split, fold_rows, leak_notice, mark_rows, split_rows, validation_rows
from layersearch.words import one_line, quoted_list, shortened

# The 24 features, in the order of the published table; T_O is a code and a column there, but no feature.
STUDENT_CODES = ("L", "Ind", "CG", "WG", "OG", "S_Anq", "SQ", "WC", "PRD", "SP", "TQ", "S_W", "S_O")
INSTRUCTOR_CODES = ("Lec", "RTW", "FUP", "T_PQ", "CQ", "T_ANQ", "MG", "ONE_O_ONE", "DV", "ADMIN", "T_W")
COPUS_CODES = STUDENT_CODES + INSTRUCTOR_CODES
LABEL_COLUMNS = (PROFILE_COLUMN, "Bcluster")  # looked for in this order
MIN_ROWS = 10
LARGEST = 1e38  # of a cell, either side of 0: the span of a column is then finite in single precision


# --- Choosing columns ------------------------------------------------------------------------------


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())


def _flat(name: str) -> str:
    return "".join(_words(name))


def _known_spellings() -> tuple[dict[str, str], dict[str, str]]:
    """Flattened spelling -> code, of the student codes and of the instructor codes (T_O included)."""
    student = {_flat(code): code for code in STUDENT_CODES}
    student |= {_flat(code[2:]): code for code in STUDENT_CODES if code.startswith("S_")}
    instructor = {_flat(code): code for code in (*INSTRUCTOR_CODES, "T_O")}
    for code in [code for code in instructor.values() if code.startswith("T_")]:
        instructor |= {_flat(code[2:]): code, _flat("i" + code[2:]): code}
    instructor |= {"1o1": "ONE_O_ONE", "1on1": "ONE_O_ONE", "ooo": "ONE_O_ONE", "adm": "ADMIN"}
    return student, instructor


_STUDENT, _INSTRUCTOR = _known_spellings()
_PREFIXES = (
    *((prefix, _STUDENT) for prefix in ("students", "student", "s")),
    *((prefix, _INSTRUCTOR) for prefix in ("instructors", "instructor", "teachers", "teacher", "i", "t")),
)


def code_of(name: str) -> str | None:
    """The COPUS code that a column name stands for, or None.

    Case and punctuation do not count: '1o1', 'D/V', 'RtW', 'Adm'. 'S', 'Student', 'I', 'T', 'Instructor'
    and the like may stand in front ('S.AnQ', 'Instructor W'); a single letter only as a word of its own.
    AnQ, W and O exist for both sides. Without a prefix they are the student's: the instructor's are
    commonly written TAnQ, TW, TO.
    """
    flat = _flat(name)
    if code := _STUDENT.get(flat) or _INSTRUCTOR.get(flat):
        return code
    for prefix, codes in _PREFIXES:
        own_word = len(prefix) > 1 or _words(name)[:1] == [prefix]
        if own_word and flat.startswith(prefix) and (code := codes.get(flat.removeprefix(prefix))):
            return code
    return None


OTHER_COLUMNS = "rename columns, or choose with --columns numeric or --columns NAME,NAME,…"


def choose_copus(names: Collection[str], where: str, remedy: str = OTHER_COLUMNS) -> dict[str, str]:
    """Code -> column of the file, for the 24 codes. Raises DataError where one is missing or ambiguous."""
    found: dict[str, list[str]] = {code: [code] if code in names else [] for code in COPUS_CODES}
    for name in names:
        code = code_of(name)
        if code in found and found[code] != [code]:
            found[code].append(name)
    for code, same in found.items():
        if len(same) > 1:
            raise DataError(f"{where}: {quoted_list(same)} may each be {code}; rename the one that is to {code}")
    if missing := [code for code, same in found.items() if not same]:
        raise DataError(
            f"{where}: no column for the COPUS code{'s' * (len(missing) > 1)} {', '.join(missing)}"
            f" ({_closest(missing, names)}); {remedy}"
        )
    return {code: same[0] for code, same in found.items()}


def _choose_numeric(frame: pd.DataFrame, where: str, roles: Collection[str], notices: list[str]) -> dict[str, str]:
    """Every column whose cells are all numbers or missing, but for `roles`, labels, identifiers and empty ones."""
    not_numbers, not_measured, chosen = [], [], []
    for name in frame.columns:
        cells = frame[name]
        wrong = np.isnan(_to_numbers(cells)) & cells.notna().to_numpy()
        if wrong.any():
            first = int(wrong.argmax())
            not_numbers.append(f"'{name}' (row {cells.index[first]}: {one_line(cells.iloc[first]):.20})")
        elif name in (*roles, *LABEL_COLUMNS) or _is_identifier(name) or cells.isna().all():
            not_measured.append(name)
        else:
            chosen.append(name)
    if not chosen:
        raise DataError(f"{where}: no column holds numbers alone; choose with --columns NAME,NAME,…")
    if not_numbers:
        notices.append(f"not used as features, since not all cells are numbers: {quoted_list(not_numbers, quote='')}")
    if not_measured:
        notices.append(f"not used as features (label, identifier, index or empty): {quoted_list(not_measured)}")
    return {name: name for name in chosen}


def _is_identifier(name: str) -> bool:
    return _is_id(name) or name.startswith(("Unnamed: ", "__index_level_")) or _words(name)[-1:] == ["index"]


def _is_id(name: str) -> bool:
    """'Instructor ID', 'instructor_id', 'InstructorID', but no word that ends in 'id'."""
    return _words(re.sub("(?<=[a-z])(?=[A-Z])", " ", name))[-1:] == ["id"]


def _choose_listed(frame: pd.DataFrame, where: str, columns: str, notices: list[str]) -> dict[str, str]:
    """The columns named, in that order: exact names first, then other spellings. Raises DataError."""
    # Quotes keep a comma in a name. Names of a file have no line breaks, see `with_header`.
    shown = shortened(columns, 80)
    try:
        cells = next(csv.reader([one_line(columns)], skipinitialspace=True), [])
    except csv.Error as error:
        raise DataError(f"--columns '{shown}': {error}; give names, comma-separated") from None
    wanted = [name.strip() for name in cells if name.strip()]
    if not wanted:
        raise DataError(f"--columns '{shown}': names no column; give copus, numeric, or column names")
    chosen: dict[str, str] = {}
    for name in wanted:
        column = find_column(name, frame.columns, f"{where}: --columns", "; write the name in full")
        if column in chosen:
            raise DataError(f"--columns '{shown}': names the column '{column}' twice; leave one out")
        chosen[column] = name
    tell_respelled({name: column for column, name in chosen.items()}, notices)
    return {name: name for name in chosen}


def find_column(name: str, names: Collection[str], where: str, remedy: str, lack: str = "") -> str:
    """The one of these names that is this one, or the only other spelling of it.

    Raises DataError, with `remedy` where there are several, with `lack` where there is none.
    """
    same = [name] if name in names else [other for other in names if _same_column(name, other)]
    if len(same) > 1:
        raise DataError(f"{where}: '{name}' may be {quoted_list(same)}{remedy}")
    if not same:
        raise DataError(f"{where}: no column '{name}' ({_closest([name], names)}){lack}")
    return same[0]


def tell_respelled(sources: Mapping[str, str], notices: list[str]) -> None:
    """Notes which names the file spells in another way; `sources`: name -> column of the file."""
    if respelled := [f"'{column}' for {name}" for name, column in sources.items() if column != name]:
        notices.append(f"columns found under another spelling: {quoted_list(respelled, quote='')}")


def _same_column(name: str, other: str) -> bool:
    return _flat(name) == _flat(other) or (code_of(name) is not None and code_of(name) == code_of(other))


class Choice(NamedTuple):
    """A sheet and its columns: the rows, feature -> its column, the label column, a name for messages."""

    frame: pd.DataFrame
    sources: dict[str, str]
    label: str | None
    where: str
    notices: list[str]


def _choose(path: Path, table: Table, columns: str, roles: Mapping[str, str]) -> Choice:
    """The first sheet that holds the columns; `roles`: flag -> column that it names, which may be no feature.

    Raises the largest sheet's DataError if none does.
    """
    errors: dict[str, DataError] = {}
    for name, sheet in table.sheets.items():
        try:
            where = f"{path}, sheet '{name}'" if len(table.sheets) > 1 else str(path)
            choice = _choose_in(sheet, where, columns, roles)
        except DataError as error:
            errors[name] = error
            continue
        if len(table.sheets) > 1:
            choice.notices.append(f"read from sheet '{name}', the first of {len(table.sheets)} to hold the columns")
        return choice
    raise errors[max(errors, key=lambda name: table.sheets[name].rows.size)]


def _choose_in(sheet: Sheet, where: str, columns: str, roles: Mapping[str, str]) -> Choice:
    frame = with_header(sheet, where)
    for flag, name in roles.items():
        if name not in frame.columns:
            raise DataError(f"{where}: {flag}: no column '{name}' ({_closest([name], frame.columns)})")
    notices: list[str] = []
    if columns == "copus":
        sources = choose_copus(frame.columns, where)
    elif columns == "numeric":
        sources = _choose_numeric(frame, where, roles.values(), notices)
    else:
        sources = _choose_listed(frame, where, columns, notices)
    for flag, name in roles.items():
        if name in sources.values():
            raise DataError(f"{where}: '{name}' is both {flag} and a feature; take it out of one of them")
    tell_renamed(sources, notices)
    found = next((name for name in LABEL_COLUMNS if name in frame.columns and name not in sources.values()), None)
    return Choice(frame, sources, roles.get("--label_column", found), where, notices)


def tell_renamed(sources: Mapping[str, str], notices: list[str]) -> None:
    """Notes which columns were taken for which codes; `sources`: code -> column of the file."""
    if renamed := [f"'{source}' as {name}" for name, source in sources.items() if name != source]:
        notices.append(f"columns read as COPUS codes: {quoted_list(renamed, limit=24, quote='')}")


def _closest(wanted: Iterable[str], present: Iterable[str]) -> str:
    """For messages: the names present that resemble those wanted, or else the first ones."""
    folded = {name.casefold(): name for name in present}
    near = [folded[m] for name in wanted for m in difflib.get_close_matches(name.casefold(), folded, n=1)]
    return f"closest: {quoted_list(dict.fromkeys(near))}" if near else f"there are: {quoted_list(folded.values())}"


# --- Checking cells --------------------------------------------------------------------------------


def _to_numbers(cells: pd.Series) -> np.ndarray:
    """[N] float64; NaN where a cell is missing or no number. True/False and dates are no numbers."""
    if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells):
        return cells.to_numpy(np.float64, na_value=np.nan)
    if not isinstance(cells.dtype, pd.StringDtype):
        cells = cells.astype(object)
        allowed = (isinstance(cell, str | Real | Decimal) and not isinstance(cell, bool | np.bool_) for cell in cells)
        cells = cells.where(np.fromiter(allowed, bool, len(cells)))
    return pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def check_cells(cells: pd.Series, where: str, *, percentages: bool) -> np.ndarray:
    """[N] float32 values of a feature column (or a piece of one), NaN where missing. Raises DataError.

    A negative value is a fault in `percentages` only; any other table may hold some.
    """
    values = _to_numbers(cells)
    faults = {
        "is not a number": np.isnan(values) & cells.notna().to_numpy(),
        f"is not finite, or beyond {LARGEST:g}": ~(np.abs(values) < LARGEST) & ~np.isnan(values),
        "is negative, which a percentage of intervals cannot be": percentages & (values < 0),
    }
    for complaint, wrong in faults.items():
        if wrong.any():
            first = int(wrong.argmax())
            cell = one_line(cells.iloc[first])
            if re.fullmatch(r"-?\d+,\d+", cell):
                complaint += " (a decimal comma?); save the table with decimal points"
            else:
                complaint += "; correct it, or empty the cell if the value is missing"
            raise DataError(f"{where}: row {cells.index[first]}, column '{cells.name}': '{cell:.40}' {complaint}")
    return values.astype(np.float32)


def _checked(cells: pd.Series, where: str, *, percentages: bool) -> np.ndarray:
    """The same of a whole column, which must hold a value."""
    values = check_cells(cells, where, percentages=percentages)
    if np.isnan(values).all():
        raise DataError(f"{where}: column '{cells.name}' has no value in any row; fill it or leave it out of --columns")
    return values


def _describe(values: np.ndarray, columns: Sequence[str], *, percentages: bool) -> list[str]:
    """Notices on values [N, F] that training can go on with. Every column holds at least one value."""
    notices = []
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    if constant := [f"{columns[i]} ({low[i]:g})" for i in np.flatnonzero(low == high).tolist()]:
        notices.append(f"the same value in every row, so nothing to learn from: {quoted_list(constant, quote='')}")
    if percentages and 0 < high.max() <= 1:
        notices.append(
            f"no value exceeds {high.max():g}, so these are fractions or 0/1 marks, not percentages;"
            " do not use --scaling percent, which divides by 100"
        )
    elif percentages and (small := [columns[i] for i in np.flatnonzero((high > 0) & (high <= 1)).tolist()]):
        notices.append(
            f"mixed scales: no value exceeds 1 in {quoted_list(small, limit=24, quote='')}, while others go up to"
            f" {high.max():g}; if these are fractions among percentages, multiply them by 100"
        )
    if percentages and (above := int((values > 100).sum())):
        notices.append(f"{above} cell{'s' * (above > 1)} above 100 % (up to {high.max():g}), used as they are")
    return notices


def _plain_types(cells: pd.Series) -> pd.Series:
    """Text that holds numbers becomes numbers, but not where that would alter an ID ('007', 16 digits)."""
    cells = cells.infer_objects()
    if pd.api.types.is_numeric_dtype(cells) or cells.isna().all():
        return cells
    numbers = not (np.isnan(_to_numbers(cells)) & cells.notna().to_numpy()).any()
    if not numbers or cells.astype(str).str.fullmatch(r"\s*[+-]?(0\d+|\d{16,})\s*").any():
        return cells
    return pd.to_numeric(cells)


# --- The dataset -----------------------------------------------------------------------------------


class COPUSDataset:
    """A table in memory: features as one tensor, everything else as it was.

    Args:
        data_path: .csv, .tsv/.tab, .xlsx (the first sheet that holds the columns) or .parquet.
        columns: "copus" (the 24 codes, by any spelling that `code_of` knows), "numeric" (every column
            whose cells are all numbers, without labels, identifiers, indices and empty columns), or
            comma-separated names.
        device: where `data` and the index tensors live.
        label_column: a column of `others` to colour by; by default 'Cluster' or 'Bcluster' if there.
        group_column: a column of `others`; rows with the same value are a group, which no split divides.
        stratify_column: a column of `others`, whose values every split shares out alike.

    A cell is missing if it is empty or (but in .parquet) says NA, NaN, n/a or another of pandas' defaults.
    A row without a value in any feature column is left out, with a notice; `data`, `others` and
    `row_numbers` stay aligned. Negative values are an error with "copus" and allowed otherwise.

    Attributes:
        data: [N, F] float32, raw values, NaN where a cell is missing.
        columns: names of the F features; with "copus" the codes, otherwise as in the file.
        others: the N rows of all other columns (IDs, labels, comments), untouched.
        row_numbers: [N] row of each observation in the file, as a spreadsheet shows it.
        groups, strata: [N] int64, the number of each row's group or stratum, from 0 as they first appear; None
            where no column is named. A row without a value is a group of its own; all such rows are a stratum.
        n_groups: how many groups there are, or None.
        notices: what the user should know, one line each; `split` and `folds` add to them.

    Raises:
        DataError: for anything that is wrong with the file, its cells or the columns asked for.
    """

    def __init__(
        self,
        data_path: str | Path,
        columns: str = "copus",
        *,
        device: str | torch.device = "cpu",
        label_column: str | None = None,
        group_column: str | None = None,
        stratify_column: str | None = None,
    ) -> None:
        self.path = Path(data_path)
        table = read_table(self.path)
        flags = {"label": label_column, "group": group_column, "stratify": stratify_column}
        roles = {f"--{role}_column": name for role, name in flags.items() if name is not None}
        choice = _choose(self.path, table, columns, roles)
        self.sha256 = table.sha256
        self.notices = table.notices + choice.notices
        self.sources, self.label_column = choice.sources, choice.label
        frame, where, percentages = choice.frame, choice.where, columns == "copus"
        values = np.stack(
            [_checked(frame[name], where, percentages=percentages) for name in self.sources.values()], axis=1
        )  # F x [N] -> [N, F]
        kept = self._rows_with_values(values, frame, where)
        values, frame = values[kept], frame[kept]
        self.columns = list(self.sources)
        self.notices += _describe(values, self.columns, percentages=percentages)
        self.data = torch.from_numpy(values).to(device)
        self.row_numbers = frame.index.to_numpy()
        others = frame.drop(columns=list(self.sources.values())).reset_index(drop=True)
        for name, cells in others.items():
            others[name] = _plain_types(cells)
        self.others = others
        self._groups, self._strata = mark_rows(self.others, group_column, stratify_column, where)
        self.groups = self._groups.numbers if self._groups else None
        self.n_groups = self._groups.n_values if self._groups else None
        self.strata = self._strata.numbers if self._strata else None

    def _rows_with_values(self, values: np.ndarray, frame: pd.DataFrame, where: str) -> np.ndarray:
        """[N] bool: rows that hold a feature at all. Raises DataError if fewer than MIN_ROWS do."""
        kept: np.ndarray = ~np.isnan(values).all(axis=1)
        if not kept.all():
            rows = [str(row) for row in frame.index[~kept]]
            self.notices.append(f"left out, since no feature has a value there: row {quoted_list(rows, quote='')}")
        if kept.sum() < MIN_ROWS:
            raise DataError(f"{where}: {kept.sum()} rows with values; at least {MIN_ROWS} are needed")
        return kept

    def __len__(self) -> int:
        return self.n_samples

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        """[F] for an int, else [B, F]: raw values."""
        return self.data[rows]

    @property
    def n_samples(self) -> int:
        """N, the rows in use."""
        return self.data.shape[0]

    @property
    def n_features(self) -> int:
        """F, the feature columns."""
        return self.data.shape[1]

    def get_batch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """[B, F] raw values of the rows `indices` [B]."""
        return self.data[torch.as_tensor(indices, dtype=torch.int64, device=self.data.device)]

    def get_column(self, name: str) -> Tensor:
        """[N] raw values of a feature. Raises KeyError for a name that is none."""
        if name not in self.columns:
            raise KeyError(f"no feature '{name}' ({_closest([name], self.columns)})")
        return self.data[:, self.columns.index(name)]

    def get_info(self) -> dict[str, Any]:
        """What describes the table, ready for JSON."""
        return {
            "path": self.path.as_posix(),
            "sha256": self.sha256,
            "rows": self.n_samples,
            "columns": list(self.columns),
            "missing_cells": int(self.data.isnan().sum()),
            "zero_cells": int((self.data == 0).sum()),
            "mapped_columns": {name: source for name, source in self.sources.items() if name != source},
            "label_column": self.label_column,
            "group_column": self._groups.column if self._groups else None,
            "groups": self.n_groups,
            "stratify_column": self._strata.column if self._strata else None,
            "other_columns": [str(name) for name in self.others.columns],
            "notices": list(self.notices),
        }

    def split(self, seed: int) -> Split:
        """80 % of the rows train, 20 % test, as `split_rows` says. Raises DataError."""
        split, notices = split_rows(self.n_samples, seed, self._groups, self._strata)
        ids = [name for name in map(str, self.others) if _is_id(name)]
        if not self._groups and (leak := leak_notice(self.others[ids])):
            notices.append(leak)
        self._say(notices)
        return Split(*(rows.to(self.data.device) for rows in split))

    def folds(self, train: Tensor, k: int, seed: int) -> list[Split]:
        """K folds of the rows `train`, as `fold_rows` says. Raises DataError."""
        folds, notices = fold_rows(train.cpu().numpy(), k, seed, self._groups, self._strata)
        self._say(notices)
        return [Split(*(rows.to(self.data.device) for rows in fold)) for fold in folds]

    def validation(self, train: Tensor, fraction: float, seed: int) -> Split:
        """The rows `train` without a fraction of them, and that, as `validation_rows` says. Raises DataError."""
        rows = validation_rows(train.cpu().numpy(), fraction, seed, self._groups, self._strata)
        return Split(*(torch.from_numpy(part).to(self.data.device) for part in rows))

    def _say(self, notices: Iterable[str]) -> None:
        self.notices += [notice for notice in notices if notice not in self.notices]


# --- Scaling ---------------------------------------------------------------------------------------

SCALINGS = ("robust", "percent", "none")
PERCENTILES = (1, 99)  # of the training rows, which "robust" takes to 0 and 1


@dataclass(frozen=True, eq=False)
class Scaling:
    """A linear map per column: `low` goes to 0, `high` to 1; "robust" also clips to [0, 1].

    `kind`: one of SCALINGS. `low`, `high`: [F] float32 in the table's units; where they are equal the
    column scales to 0.
    """

    kind: str
    low: np.ndarray
    high: np.ndarray

    def apply(self, values: Tensor) -> Tensor:
        """[*, F] raw -> scaled; NaN stays NaN."""
        low, span = self._low_and_span(values)
        scaled = torch.where(span > 0, (values - low) / span, values * 0)
        return scaled.clamp(0, 1) if self.kind == "robust" else scaled

    def invert(self, scaled: Tensor) -> Tensor:
        """[*, F] scaled -> raw units; what `apply` clipped stays clipped."""
        low, span = self._low_and_span(scaled)
        return scaled * span + low

    def _low_and_span(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.as_tensor(self.low, device=like.device)
        return low, torch.as_tensor(self.high, device=like.device) - low

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` gives back the same bits, since a float holds every float32 exactly."""
        saved = {"kind": self.kind, "low": self.low.tolist(), "high": self.high.tolist()}
        return saved | ({"percentiles": list(PERCENTILES)} if self.kind == "robust" else {})

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Scaling:
        """The inverse of `to_dict`. Raises ValueError for an unknown kind."""
        if saved["kind"] not in SCALINGS:
            raise ValueError(f"no scaling is called {saved['kind']!r}")
        low, high = (np.array(saved[bound], dtype=np.float32) for bound in ("low", "high"))
        return cls(saved["kind"], low, high)


def fit_scaling(kind: str, data: Tensor, rows: Tensor, columns: Sequence[str]) -> tuple[Scaling, list[str]]:
    """Fits a scaling on the training rows alone; returns it with notices, one line each.

    Args:
        kind: "robust" (the 1st percentile to 0, the 99th to 1), "percent" (÷ 100) or "none".
        data: [N, F] raw values, NaN where missing.
        rows: the training rows.
        columns: F names, for the notices.

    Where the two percentiles of a column are equal (it is hardly ever anything but zero), its minimum
    and maximum over the training rows stand in; where these are equal too, or the column has no value in
    them, it scales to 0.
    """
    if kind != "robust":
        unit, n_columns = {"percent": 100, "none": 1}[kind], data.shape[1]
        return Scaling(kind, np.zeros(n_columns, np.float32), np.full(n_columns, unit, np.float32)), []
    values = data[rows].cpu().numpy()  # [N_train, F]
    empty = np.isnan(values).all(axis=0)
    values = np.where(empty, np.float32(0), values)
    low, high = np.nanpercentile(values.astype(np.float64), PERCENTILES, axis=0).astype(np.float32)
    rare = low == high
    low, high = np.where(rare, np.nanmin(values, axis=0), low), np.where(rare, np.nanmax(values, axis=0), high)
    fates: dict[str, np.ndarray] = {
        "scaled by minimum and maximum, since their 1st and 99th percentile are equal": rare & (low < high),
        "scaled to 0, since constant in the training rows": (low == high) & ~empty,
        "scaled to 0, since without a value in the training rows": empty,
    }
    notices = [
        f"{fate}: {quoted_list((columns[i] for i in np.flatnonzero(which).tolist()), quote='')}"
        for fate, which in fates.items()
        if which.any()
    ]
    return Scaling(kind, low, high), notices


if __name__ == "__main__":
    import sys

    from layersearch.command.download import main

    sys.exit(main())
