"""Made-up tables of observations, valid or with one fault, and the error message that reading one gives.

path = write(copus_frame(), tmp_path / "a.xlsx")
message = error_of(write(with_cell("WG", 5, "lots"), tmp_path / "a.csv"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dataset import COPUS_CODES, COPUSDataset, DataError
from layersearch.engines.settings import SplitTable

N = 20


def copus_frame(n: int = N) -> pd.DataFrame:
    """Returns a valid table: IDs, the 24 codes as percentages with zeros, T_O and a label."""
    rng = np.random.default_rng(7)
    values = np.round(rng.uniform(0, 100, (n, 24)) * (rng.random((n, 24)) < 0.6), 1)
    values[0], values[1] = 0.0, 50.0  # no column is constant
    frame = pd.DataFrame(values, columns=list(COPUS_CODES))
    frame.insert(0, "Instructor ID", np.arange(n) // 3 + 1)
    return frame.assign(T_O=1.5, Bcluster=["Mostly lecture", "Transitioning"] * (n // 2) + ["Transitioning"] * (n % 2))


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Writes the table in the format of the suffix and returns the path."""
    match path.suffix.lower():
        case ".xlsx":
            frame.to_excel(path, index=False)
        case ".parquet":
            frame.to_parquet(path)
        case ".csv":
            frame.to_csv(path, index=False)
        case _:
            frame.to_csv(path, index=False, sep="\t")
    return path


def with_cell(column: str, row: int, value: Any) -> pd.DataFrame:
    """Returns the valid table with one cell replaced; `row` is counted as in a spreadsheet."""
    frame = copus_frame().astype({column: object})
    frame.loc[row - 2, column] = value
    return frame


def error_of(path: Path, columns: str = "copus", label_column: str | None = None) -> str:
    """Returns the message of the DataError that reading the file raises, and checks that it is one line."""
    with pytest.raises(DataError) as caught:
        COPUSDataset(path, columns, label_column=label_column)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message or "--columns" in message
    return message


def low_rank_table() -> SplitTable:
    """Returns 100 rows x 7 columns of rank 2, with zeros and a few missing cells: 81 training rows and 19 test rows."""
    random = np.random.default_rng(1)
    values = np.maximum(random.normal(size=(100, 2)) @ random.normal(size=(2, 7)), 0).astype(np.float32)
    values[random.random(values.shape) < 0.03] = np.nan
    order = torch.from_numpy(random.permutation(100))
    return SplitTable(torch.from_numpy(values), order[:81], order[81:])
