"""The table of observations as a dataset, and the scaling of its columns.

    dataset = COPUSDataset("data/stains.csv")        # dataset.data: [N, F] raw values, NaN where missing
    train, test = dataset.split(seed=42)             # folds inside `train`: dataset.folds(train, 5, seed=42)
    scaling, notices = fit_scaling("robust", dataset.data, train, dataset.columns)
    x = scaling.apply(dataset.get_batch(train[:32]))  # [B, F] in [0, 1]

    python dataset.py --download                      # the published table, to data/stains.csv (command/download.py)

How files are read, columns chosen, cells checked and rows split is in `layersearch/table/`. Everything a user can get
wrong is a `DataError` of one line. Nothing here knows of models.

The protocol and its codes: Smith et al. 2013, doi:10.1187/cbe.13-08-0154. The published table: Stains et
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

# What is imported from here, be it defined here or in layersearch/table.
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
    """A table in memory: the features as one tensor, all other columns unchanged.

    Args:
        data_path: .csv, .tsv/.tab, .xlsx (the first sheet that holds the columns) or .parquet.
        columns: "copus" (the 24 codes, in any spelling that `code_of` in layersearch/table/copus.py knows),
            "numeric" (every column whose cells are all numbers, without labels, identifiers, indices and empty
            columns), or comma-separated names.
        device: of `data` and of the tensors of row numbers.
        label_column: a column of `others` to colour pictures by; by default 'Cluster' or 'Bcluster', if present.
        group_column: a column of `others`; rows with the same value form a group, which no split divides.
        stratify_column: a column of `others`; every split keeps the proportions of its values.

    A cell is missing if it is empty or (but in .parquet) says NA, NaN, n/a or another of pandas' defaults.
    A row without a value in any feature column is left out, with a notice; `data`, `others` and
    `row_numbers` stay aligned. Negative values are an error with "copus" and allowed otherwise.

    Attributes:
        data: [N, F] float32, raw values, NaN where a cell is missing.
        columns: names of the F features; with "copus" the codes, otherwise as in the file.
        others: the N rows of all other columns (IDs, labels, comments), untouched.
        row_numbers: [N] row of each observation in the file, as a spreadsheet shows it.
        groups, strata: [N] int64, the number of each row's group or stratum, counted from 0 in order of appearance;
            None if no column is named. A row without a value is a group of its own; all such rows form one stratum.
        n_groups: the number of groups, or None.
        notices: what the user should know, one line each; `split` and `folds` add to it.

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
        """Returns which rows hold at least one value, [N] bool. Raises DataError if fewer than MIN_ROWS do."""
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
        """Returns raw values: [F] of a single row, [B, F] of several."""
        return self.data[rows]

    @property
    def n_samples(self) -> int:
        """The number of rows in use, N."""
        return self.data.shape[0]

    @property
    def n_features(self) -> int:
        """The number of feature columns, F."""
        return self.data.shape[1]

    def get_batch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Returns the raw values of the rows `indices` [B]: [B, F]."""
        return self.data[torch.as_tensor(indices, dtype=torch.int64, device=self.data.device)]

    def get_column(self, name: str) -> Tensor:
        """Returns the raw values of a feature, [N]. Raises KeyError if no feature has this name."""
        if name not in self.columns:
            raise KeyError(f"no feature '{name}' ({closest([name], self.columns)})")
        return self.data[:, self.columns.index(name)]

    def get_info(self) -> dict[str, Any]:
        """Returns a description of the table that can be written as JSON."""
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
        """Returns 80 % of the rows to train on and 20 % to test on, as `split_rows` draws them. Raises DataError."""
        split, notices = split_rows(self.n_samples, seed, self._groups, self._strata)
        ids = [name for name in map(str, self.others) if is_id(name)]
        if not self._groups and (leak := leak_notice(self.others[ids])):
            notices.append(leak)
        self._say(notices)
        return Split(*(rows.to(self.data.device) for rows in split))

    def folds(self, train: Tensor, k: int, seed: int) -> list[Split]:
        """Returns k cross-validation folds of the rows `train`, as `fold_rows` draws them. Raises DataError."""
        folds, notices = fold_rows(train.cpu().numpy(), k, seed, self._groups, self._strata)
        self._say(notices)
        return [Split(*(rows.to(self.data.device) for rows in fold)) for fold in folds]

    def validation(self, train: Tensor, fraction: float, seed: int) -> Split:
        """Divides the rows `train` into those to train on and a fraction to validate on. Raises DataError.

        `validation_rows` says how.
        """
        rows = validation_rows(train.cpu().numpy(), fraction, seed, self._groups, self._strata)
        return Split(*(torch.from_numpy(part).to(self.data.device) for part in rows))

    def _say(self, notices: Iterable[str]) -> None:
        self.notices += [notice for notice in notices if notice not in self.notices]


# --- Scaling ---------------------------------------------------------------------------------------

SCALINGS = ("robust", "percent", "none")
PERCENTILES = (1, 99)  # of the training rows, which "robust" maps to 0 and 1


@dataclass(frozen=True, eq=False)
class Scaling:
    """A linear scaling of each column that maps `low` to 0 and `high` to 1; "robust" also clips to [0, 1].

    Attributes:
        kind: one of SCALINGS.
        low, high: [F] float32, in the table's units. A column where they are equal is scaled to 0.
    """

    kind: str
    low: np.ndarray
    high: np.ndarray

    def apply(self, values: Tensor) -> Tensor:
        """Returns the raw values [*, F] scaled; NaN stays NaN."""
        low, span = self._low_and_span(values)
        scaled = torch.where(span > 0, (values - low) / span, values * 0)
        return scaled.clamp(0, 1) if self.kind == "robust" else scaled

    def invert(self, scaled: Tensor) -> Tensor:
        """Returns the scaled values [*, F] in raw units; what `apply` clipped stays clipped."""
        low, span = self._low_and_span(scaled)
        return scaled * span + low

    def _low_and_span(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.as_tensor(self.low, device=like.device)
        return low, torch.as_tensor(self.high, device=like.device) - low

    def to_dict(self) -> dict[str, Any]:
        """Returns the scaling for JSON. `from_dict` restores it exactly, since a float holds every float32."""
        saved = {"kind": self.kind, "low": self.low.tolist(), "high": self.high.tolist()}
        return saved | ({"percentiles": list(PERCENTILES)} if self.kind == "robust" else {})

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Scaling:
        """Restores a scaling from what `to_dict` returned. Raises ValueError for an unknown kind."""
        if saved["kind"] not in SCALINGS:
            raise ValueError(f"no scaling is called {saved['kind']!r}")
        low, high = (np.array(saved[bound], dtype=np.float32) for bound in ("low", "high"))
        return cls(saved["kind"], low, high)


def fit_scaling(kind: str, data: Tensor, rows: Tensor, columns: Sequence[str]) -> tuple[Scaling, list[str]]:
    """Fits a scaling to the training rows alone.

    Args:
        kind: "robust" (the 1st percentile to 0, the 99th to 1), "percent" (÷ 100) or "none".
        data: [N, F] raw values, NaN where missing.
        rows: the training rows.
        columns: F names, for the notices.

    Returns:
        The scaling, and notices of one line each. Where the two percentiles of a column are equal, as for one that
        is nearly always zero, its minimum and maximum over the training rows are used instead. Where these are equal
        too, or the column has no value in the training rows, it is scaled to 0.
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
