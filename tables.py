"""Reading a table as it lies in its file: .csv, .tsv/.tab, .xlsx or .parquet, without a view on its columns.

    table = read_table(Path("data/stains.csv"))    # table.sheets: names in the first row, and the rows below
    frame = with_header(sheet, "data/stains.csv")  # for one of table.sheets.values()

`COPUSDataset` (dataset.py) is what uses it. Everything a user can get wrong is a `DataError` of one line.
Rows are numbered as a spreadsheet shows them: the header is row 1.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

SUFFIXES = (".csv", ".tsv", ".tab", ".xlsx", ".parquet")

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}


class DataError(ValueError):
    """A fault in the user's table or in what was asked of it; the message is one line."""


class Sheet(NamedTuple):
    """The names in the first row, and the rows below it."""

    header: list[Any]
    rows: pd.DataFrame


class Table(NamedTuple):
    """A file as read. Formats without sheets have a single one, named ""."""

    sheets: dict[str, Sheet]
    sha256: str
    notices: list[str]


def read_table(path: Path) -> Table:
    """Reads a whole .csv, .tsv/.tab, .xlsx or .parquet file. Raises DataError."""
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give a table ({', '.join(SUFFIXES)})")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: the suffix '{suffix}' is not known; allowed: {', '.join(SUFFIXES)}")
    notices: list[str] = []
    try:
        content = path.read_bytes()
        if suffix == ".xlsx":
            sheets = _read_excel(content)
        elif suffix == ".parquet":
            sheets = {"": _read_parquet(content)}
        else:
            sheets = {"": _read_text(content, "," if suffix == ".csv" else "\t", notices)}
    except Exception as error:  # the parsers raise a dozen kinds for a damaged file; all mean the same here
        reason = one_line(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read as {suffix}: {reason}") from error
    sheets = {name: sheet for name, sheet in sheets.items() if sheet.header}
    if not sheets:
        raise DataError(f"{path}: is empty")
    return Table(sheets, hashlib.sha256(content).hexdigest(), notices)


def _below_first_row(cells: pd.DataFrame) -> Sheet:
    return Sheet(cells.iloc[0].tolist(), cells.iloc[1:]) if cells.size else Sheet([], cells)


def _read_text(content: bytes, expected: str, notices: list[str]) -> Sheet:
    """Cells as text. `expected` is the delimiter that the suffix promises; another one is recognised."""
    text = _decode(content, notices)
    if not text.strip():
        return Sheet([], pd.DataFrame())
    header = text.splitlines()[0]
    delimiter = max(_DELIMITERS, key=lambda d: (len(next(csv.reader([header], delimiter=d), [])), d == expected))
    if delimiter != expected:
        notices.append(f"the columns are separated by {_DELIMITERS[delimiter]}, not {_DELIMITERS[expected]}")
    # Blank lines are kept, so that rows count as in a spreadsheet.
    cells = pd.read_csv(
        io.StringIO(text), sep=delimiter, header=None, dtype=str, skip_blank_lines=False, skipinitialspace=True
    )
    return _below_first_row(cells)


def _decode(content: bytes, notices: list[str]) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        notices.append("the file is encoded as UTF-16")
        return content.decode("utf-16")
    if b"\0" in content:
        raise ValueError("it is not text (NUL bytes); save the table as UTF-8 text, or give the file its real suffix")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        notices.append("the file is not UTF-8 and was read as Windows-1252 (Latin-1)")
        return content.decode("cp1252", errors="replace")


def _read_excel(content: bytes) -> dict[str, Sheet]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # openpyxl on styles and extensions that it drops
        sheets = pd.read_excel(io.BytesIO(content), sheet_name=None, header=None, dtype=object, engine="openpyxl")
    return {str(name): _below_first_row(cells) for name, cells in sheets.items()}


def _read_parquet(content: bytes) -> Sheet:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(io.BytesIO(content)).read()
    numbered = table.rename_columns([str(i) for i in range(table.num_columns)])  # pandas refuses equal names
    return Sheet(table.column_names, numbered.to_pandas(ignore_metadata=True))


def with_header(sheet: Sheet, where: str) -> pd.DataFrame:
    """The rows under their column names; the index holds row numbers as a spreadsheet shows them.

    A column without a name becomes 'Unnamed: <position>'. Raises DataError for a name that occurs twice
    and for a table without rows; `where` names the file in it.
    """
    names = ["" if pd.isna(name) else one_line(name) for name in sheet.header]
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: more than one column is named {listing(twice)}; rename all but one")
    if not len(sheet.rows):
        raise DataError(f"{where}: there is a header and no row below it")
    return pd.DataFrame(sheet.rows.set_axis(names, axis=1)).set_axis(pd.RangeIndex(2, len(sheet.rows) + 2))


def one_line(thing: object) -> str:
    """For messages: its text without line breaks or repeated blanks."""
    return " ".join(str(thing).split())


def listing(names: Iterable[str], *, limit: int = 8, quote: str = "'") -> str:
    """For messages: names with commas between them, at most `limit`."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"{quote}{name}{quote}" for name in names[:limit]) + more
