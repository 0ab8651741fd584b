"""Turns the cells of feature columns into numbers, and reports what is wrong or unusual about them.

    values = check_column(frame["Lec"], "data/stains.csv", percentages=True)     # [N] float32

`COPUSDataset` (dataset.py) checks whole columns; `--encode` checks pieces of them with `check_cells`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real

import numpy as np
import pandas as pd

from layersearch.table.limits import DataError
from layersearch.words import one_line, quoted_list

LARGEST = 1e38  # bound on a cell's absolute value, so that the range of a column is finite in single precision


def to_numbers(cells: pd.Series) -> np.ndarray:
    """Returns the numbers in a column, [N] float64; NaN where a cell is missing or not a number.

    True, False and dates do not count as numbers.
    """
    if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells):
        return cells.to_numpy(np.float64, na_value=np.nan)
    if not isinstance(cells.dtype, pd.StringDtype):
        cells = cells.astype(object)
        allowed = (isinstance(cell, str | Real | Decimal) and not isinstance(cell, bool | np.bool_) for cell in cells)
        cells = cells.where(np.fromiter(allowed, bool, len(cells)))
    return pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def check_cells(cells: pd.Series, where: str, *, percentages: bool) -> np.ndarray:
    """Returns the values of a feature column, or of a piece of one: [N] float32, NaN where missing.

    Args:
        cells: The column, [N], indexed by row number.
        where: The name of the table in messages.
        percentages: Whether negative values are refused.

    Raises:
        DataError: A cell is not a finite number; the message names the first such cell.
    """
    values = to_numbers(cells)
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


def check_column(cells: pd.Series, where: str, *, percentages: bool) -> np.ndarray:
    """Returns the values of a whole feature column as `check_cells` does, and raises DataError if all are missing."""
    values = check_cells(cells, where, percentages=percentages)
    if np.isnan(values).all():
        raise DataError(f"{where}: column '{cells.name}' has no value in any row; fill it or leave it out of --columns")
    return values


def describe_values(values: np.ndarray, columns: Sequence[str], *, percentages: bool) -> list[str]:
    """Returns notices on values [N, F] that are unusual, but not an error. Each column must hold at least one value."""
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


def plain_types(cells: pd.Series) -> pd.Series:
    """Converts a column of texts that are all numbers to numbers, and returns any other column unchanged.

    IDs that the conversion would alter, such as '007' or one of 16 digits, stay text.
    """
    cells = cells.infer_objects()
    if pd.api.types.is_numeric_dtype(cells) or cells.isna().all():
        return cells
    numbers = not (np.isnan(to_numbers(cells)) & cells.notna().to_numpy()).any()
    if not numbers or cells.astype(str).str.fullmatch(r"\s*[+-]?(0\d+|\d{16,})\s*").any():
        return cells
    return pd.to_numeric(cells)
