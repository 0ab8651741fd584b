"""The table of observations as a dataset, and the scaling of its columns.

    dataset = COPUSDataset("data/stains.csv")        # dataset.data: [N, F] raw values, NaN where missing
    train, test = dataset.split(seed=42)             # folds inside `train`: dataset.folds(train, 5, seed=42)
    scaling, notices = fit_scaling("robust", dataset.data, train, dataset.columns)
    x = scaling.apply(dataset.get_batch(train[:32]))  # [B, F] in [0, 1]

    python dataset.py --download                      # downloads the published table to data/stains.csv

`layersearch/table/` reads files, chooses columns, checks cells and splits rows. Every error that a user can cause is a
`DataError` with a message of one line.

The COPUS protocol and its codes: Smith et al. 2013, doi:10.1187/cbe.13-08-0154. The published table: Stains et
al. 2018, doi:10.1126/science.aap8892.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from layersearch.table.checks import check_column, describe_values, plain_types
from layersearch.table.columns import choose_sheet, closest, is_id
from layersearch.table.copus import COPUS_CODES, INSTRUCTOR_CODES, STUDENT_CODES
from layersearch.table.formats import DataError, read_table
from layersearch.table.splits import Split, fold_rows, leak_notice, mark_rows, split_rows, validation_rows
from layersearch.words import quoted_list

# The public names, some of which are defined in layersearch/table.
__all__ = [
    "COPUS_CODES",
    "INSTRUCTOR_CODES",
    "MIN_ROWS",
    "PERCENTILES",
    "SCALINGS",
    "STUDENT_CODES",
    "COPUSDataset",
    "DataError",
    "Scaling",
    "fit_scaling",
]

MIN_ROWS = 10


class COPUSDataset:
    """A table in memory, with the features as one tensor and all other columns unchanged.

    Args:
        data_path: .csv, .tsv/.tab, .xlsx (the first sheet that holds the columns) or .parquet.
        columns: "copus" (the 24 codes, in any spelling that `code_of` in layersearch/table/copus.py knows),
            "numeric" (every column whose cells are all numbers, without labels, identifiers, indices and empty
            columns), or comma-separated names.
        device: where `data` and the row indices of splits are stored.
        label_column: a column of `others` to colour pictures by; by default 'Cluster' or 'Bcluster', if present.
        group_column: a column of `others`; rows with the same value form a group, which no split divides.
        stratify_column: a column of `others`; every split keeps the proportions of its values.

    A cell is missing if it is empty or, except in .parquet, one of pandas' default markers (NA, NaN, n/a, …).
    Rows in which all features are missing are left out, with a notice. Negative values are an error with "copus" and
    allowed otherwise.

    Attributes:
        data: [N, F] float32, raw values, NaN where a cell is missing.
        columns: names of the F features; with "copus" the codes, otherwise as in the file.
        others: all other columns (IDs, labels, comments) of the same N rows, unchanged.
        row_numbers: [N] row of each observation in the file, as a spreadsheet shows it.
        groups, strata: [N] int64, the number of each row's group or stratum, counted from 0 in order of appearance;
            None if no column is named. A row without a value is a group of its own; all such rows form one stratum.
        n_groups: the number of groups, or None.
        notices: messages for the user, one line each; `split` and `folds` add to them.

    Raises:
        DataError: the file cannot be read, a cell is invalid, or a requested column is missing or ambiguous.
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
        choice = choose_sheet(self.path, table, columns, roles)
        self.sha256 = table.sha256
        self.notices = table.notices + choice.notices
        self.sources, self.label_column = choice.sources, choice.label
        frame, where, percentages = choice.frame, choice.where, columns == "copus"
        values = np.stack(
            [check_column(frame[name], where, percentages=percentages) for name in self.sources.values()], axis=1
        )  # F x [N] -> [N, F]
        kept = self._rows_with_values(values, frame, where)
        values, frame = values[kept], frame[kept]
        self.columns = list(self.sources)
        self.notices += describe_values(values, self.columns, percentages=percentages)
        self.data = torch.from_numpy(values).to(device)
        self.row_numbers = frame.index.to_numpy()
        others = frame.drop(columns=list(self.sources.values())).reset_index(drop=True)
        for name, cells in others.items():
            others[name] = plain_types(cells)
        self.others = others
        self._groups, self._strata = mark_rows(self.others, group_column, stratify_column, where)
        self.groups = self._groups.numbers if self._groups else None
        self.n_groups = self._groups.n_values if self._groups else None
        self.strata = self._strata.numbers if self._strata else None

    def _rows_with_values(self, values: np.ndarray, frame: pd.DataFrame, where: str) -> np.ndarray:
        """Returns a mask of the rows with at least one value, [N] bool. Raises DataError if fewer than MIN_ROWS."""
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
        """Returns the raw values of one row, [F], or of several, [B, F]."""
        return self.data[rows]

    @property
    def n_samples(self) -> int:
        """N, the number of rows in use."""
        return self.data.shape[0]

    @property
    def n_features(self) -> int:
        """F, the number of feature columns."""
        return self.data.shape[1]

    def get_batch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Returns the raw values [B, F] of the rows `indices` [B]."""
        return self.data[torch.as_tensor(indices, dtype=torch.int64, device=self.data.device)]

    def get_column(self, name: str) -> Tensor:
        """Returns the raw values of a feature, [N]. Raises KeyError if no feature has this name."""
        if name not in self.columns:
            raise KeyError(f"no feature '{name}' ({closest([name], self.columns)})")
        return self.data[:, self.columns.index(name)]

    def get_info(self) -> dict[str, Any]:
        """Returns a JSON-serializable description of the table."""
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
        """Splits the rows into 80 % for training and 20 % for testing; see `split_rows`. Raises DataError."""
        split, notices = split_rows(self.n_samples, seed, self._groups, self._strata)
        ids = [name for name in map(str, self.others) if is_id(name)]
        if not self._groups and (leak := leak_notice(self.others[ids])):
            notices.append(leak)
        self._say(notices)
        return Split(*(rows.to(self.data.device) for rows in split))

    def folds(self, train: Tensor, k: int, seed: int) -> list[Split]:
        """Splits the rows `train` into k cross-validation folds; see `fold_rows`. Raises DataError."""
        folds, notices = fold_rows(train.cpu().numpy(), k, seed, self._groups, self._strata)
        self._say(notices)
        return [Split(*(rows.to(self.data.device) for rows in fold)) for fold in folds]

    def validation(self, train: Tensor, fraction: float, seed: int) -> Split:
        """Holds out a fraction of the rows `train` for validation; see `validation_rows`. Raises DataError."""
        rows = validation_rows(train.cpu().numpy(), fraction, seed, self._groups, self._strata)
        return Split(*(torch.from_numpy(part).to(self.data.device) for part in rows))

    def _say(self, notices: Iterable[str]) -> None:
        self.notices += [notice for notice in notices if notice not in self.notices]


# --- Scaling ---------------------------------------------------------------------------------------

SCALINGS = ("robust", "percent", "none")
PERCENTILES = (1, 99)  # the percentiles of the training rows that "robust" maps to 0 and 1


@dataclass(frozen=True, eq=False)
class Scaling:
    """A linear scaling of each column that maps `low` to 0 and `high` to 1; "robust" also clips to [0, 1].

    Attributes:
        kind: one of SCALINGS.
        low, high: [F] float32, in the units of the table. A column in which they are equal is scaled to 0.
    """

    kind: str
    low: np.ndarray
    high: np.ndarray

    def apply(self, values: Tensor) -> Tensor:
        """Scales raw values [*, F]; NaN stays NaN."""
        low, span = self._low_and_span(values)
        scaled = torch.where(span > 0, (values - low) / span, values * 0)
        return scaled.clamp(0, 1) if self.kind == "robust" else scaled

    def invert(self, scaled: Tensor) -> Tensor:
        """Converts scaled values [*, F] back to raw units; values that `apply` clipped are not restored."""
        low, span = self._low_and_span(scaled)
        return scaled * span + low

    def _low_and_span(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.as_tensor(self.low, device=like.device)
        return low, torch.as_tensor(self.high, device=like.device) - low

    def to_dict(self) -> dict[str, Any]:
        """Returns the scaling as a JSON-serializable dict, from which `from_dict` restores the same bits."""
        saved = {"kind": self.kind, "low": self.low.tolist(), "high": self.high.tolist()}
        return saved | ({"percentiles": list(PERCENTILES)} if self.kind == "robust" else {})

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Scaling:
        """Restores a scaling from the result of `to_dict`. Raises ValueError if its kind is unknown."""
        if saved["kind"] not in SCALINGS:
            raise ValueError(f"no scaling is called {saved['kind']!r}")
        low, high = (np.array(saved[bound], dtype=np.float32) for bound in ("low", "high"))
        return cls(saved["kind"], low, high)


def fit_scaling(kind: str, data: Tensor, rows: Tensor, columns: Sequence[str]) -> tuple[Scaling, list[str]]:
    """Fits a scaling to the training rows.

    For "robust", a column whose two percentiles are equal (for example because it is nearly always zero) is scaled by
    its minimum and maximum instead. If these are equal too, or all its values are missing, it is scaled to 0.

    Args:
        kind: "robust" (1st percentile to 0, 99th to 1), "percent" (divided by 100) or "none".
        data: [N, F] raw values, NaN where missing.
        rows: indices of the training rows.
        columns: the F column names, for the notices.

    Returns:
        The scaling, and notices for the user, one line each.
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

    sys.exit(main(check=COPUSDataset))
