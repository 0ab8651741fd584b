"""Reads tables in Excel workbooks, .xlsx. `open_table` (formats.py) calls `open_excel`.

A whole sheet is held in memory, since its width is known only when all its rows have been read.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd

from layersearch.table import limits

EXCEL_ROWS = 1_048_576
ZIP_RATIO = 200  # no real workbook unpacks to more than this multiple of its size
# Texts that mark a missing value: the defaults of `pandas.read_csv`.
_MISSING = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
}  # fmt: skip

Cells = tuple[list[Any], Iterator[pd.DataFrame]]  # the first row, and the rows below it in pieces


def open_excel(source: limits.Source, n_rows: int | None, notices: list[str], stack: ExitStack) -> dict[str, Cells]:
    """Reads the sheets and cuts them into pieces of `n_rows` rows, or one piece (None). Raises ValueError."""
    import openpyxl

    source = source.in_memory(is_text=False)
    content = source.content
    assert content is not None
    source.refuse_foreign(limits.EXCEL_START)
    _refuse_zip_bomb(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # openpyxl warns of styles and extensions that it drops
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
        sheets = {str(sheet.title): _read_sheet(sheet, len(content)) for sheet in book.worksheets}
    return {name: _cut(cells, n_rows) for name, cells in sheets.items() if cells.size}


def _refuse_zip_bomb(content: bytes) -> None:
    """Raises ValueError if the size that the archive declares is too large; zipfile unpacks no more than that."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > limits.MAX_BYTES or size > max(10 * limits.UNSUSPICIOUS, ZIP_RATIO * len(content)):
        raise ValueError(f"it would unpack to {size:,} bytes, more than a table would; save the table anew")


def _read_sheet(sheet: Any, n_bytes: int) -> pd.DataFrame:
    """Returns all cells with their types; missing cells are None.

    A row or cell may declare a very distant position, so the size is checked after each row.
    """
    sheet.reset_dimensions()
    rows: dict[int, list[Any]] = {}
    n_rows = width = n_characters = 0
    for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
        if number > EXCEL_ROWS:
            raise ValueError(f"sheet '{sheet.title}' has rows beyond {EXCEL_ROWS:,}, the last there can be")
        row = [None if isinstance(cell, str) and cell.strip() in _MISSING else cell for cell in values]
        while row and row[-1] is None:
            row.pop()
        if row:
            rows[number], n_rows, width = row, number, max(width, len(row))
            n_characters += sum(len(cell) for cell in row if isinstance(cell, str))
            limits.refuse_excess(n_rows, width, n_bytes, "packed")
            limits.refuse_text(n_characters)
    cells = np.full((n_rows, width), None, dtype=object)
    for number, row in rows.items():
        cells[number - 1, : len(row)] = row
    return pd.DataFrame(cells)


def _cut(cells: pd.DataFrame, n_rows: int | None) -> Cells:
    rows = cells.iloc[1:]
    size = n_rows or len(rows) or 1
    pieces = (rows.iloc[start : start + size] for start in range(0, len(rows), size))
    return cells.iloc[0].tolist(), pieces
