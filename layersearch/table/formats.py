"""Reads a table from a .csv, .tsv/.tab, .xlsx or .parquet file, whole or piece by piece.

    table = read_table(Path("data/stains.csv"))            # table.sheets: the column names and the rows of each sheet
    frame = with_header(sheet, "data/stains.csv")          # for one of table.sheets.values()

    with open_table(Path("classes.csv"), 16_384, notices) as sheets:     # memory does not grow with the number of rows
        for name, (header, pieces) in sheets.items(): ...

Both use the same reader: a whole table is read as a single piece. `COPUSDataset` (dataset.py) reads whole tables, and
`--encode` reads pieces. Every fault in a user's file raises a `DataError` with a message of one line. Rows are numbered
as in a spreadsheet, where the header is row 1.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from layersearch.table.delimited import open_delimited
from layersearch.table.excel import open_excel
from layersearch.table.limits import DataError as DataError  # callers import the reader and its error from here
from layersearch.table.limits import Source, reading
from layersearch.table.parquet import open_parquet
from layersearch.words import one_line, quoted_list

OPENERS = {
    ".csv": open_delimited,
    ".tsv": open_delimited,
    ".tab": open_delimited,
    ".xlsx": open_excel,
    ".parquet": open_parquet,
}
SUFFIXES = tuple(OPENERS)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Pieces(NamedTuple):
    """A sheet that is being read: the cells of its first row, and the rows below it in pieces."""

    header: list[Any]
    pieces: Iterator[pd.DataFrame]


class Sheet(NamedTuple):
    """A sheet as read: the cells of its first row, and the rows below."""

    header: list[Any]
    rows: pd.DataFrame


class Table(NamedTuple):
    """A file as read. Formats without sheets have a single one, named ""."""

    sheets: dict[str, Sheet]
    sha256: str
    notices: list[str]


def read_table(path: Path) -> Table:
    """Reads a whole table. Raises DataError."""
    _check_path(path)
    with reading(path):
        source = Source(path).in_memory(is_text=_is_text(path))
    notices: list[str] = []
    with _opened(source, None, notices) as opened:
        sheets = {
            name: Sheet(header, next(pieces, pd.DataFrame(columns=range(len(header)))))
            for name, (header, pieces) in opened.items()
        }
    assert source.content is not None
    return Table(sheets, hashlib.sha256(source.content).hexdigest(), notices)


@contextmanager
def open_table(path: Path, n_rows: int, notices: list[str]) -> Iterator[dict[str, Pieces]]:
    """Opens a table to be read in pieces of at most `n_rows` rows.

    The cells are the same as from `read_table`, whatever the size of a piece. A text file is therefore read two or
    three times: its encoding and decimal commas are known only once all of it has been read. An .xlsx sheet, which has
    at most 1,048,576 rows, is held in memory.

    Args:
        path: The file.
        n_rows: The largest number of rows in a piece.
        notices: A list to which notices about the file are added, one line each.

    Yields:
        The sheets by name; formats without sheets have a single one, named "".

    Raises:
        DataError: The table cannot be read; this may also be raised when the next piece is read.
    """
    _check_path(path)
    with _opened(Source(path), n_rows, notices) as sheets:
        yield sheets


@contextmanager
def _opened(source: Source, n_rows: int | None, notices: list[str]) -> Iterator[dict[str, Pieces]]:
    """Opens a table whose bytes are given; `n_rows` is None for a single piece that holds all rows."""
    path = source.path
    with ExitStack() as stack:
        with reading(path):
            opened = OPENERS[source.suffix](source, n_rows, notices, stack)
        sheets = {name: Pieces(header, _checked(path, pieces)) for name, (header, pieces) in opened.items() if header}
        if not sheets:
            raise DataError(f"{path}: is empty")
        yield sheets


def _checked(path: Path, pieces: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yields the pieces, and raises any error in reading one as a DataError."""
    while True:
        with reading(path):
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


def _check_path(path: Path) -> None:
    """Raises DataError unless this is a file with a known suffix."""
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give a table ({', '.join(SUFFIXES)})")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():
        raise DataError(f"{path}: is a pipe or a device; save the table to a file")
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: the suffix '{suffix}' is not known; allowed: {', '.join(SUFFIXES)}")


def _is_text(path: Path) -> bool:
    return OPENERS[path.suffix.lower()] is open_delimited


# --- The header ------------------------------------------------------------------------------------


def with_header(sheet: Sheet, where: str) -> pd.DataFrame:
    """Returns the rows under their column names, numbered as in a spreadsheet.

    A column without a name becomes 'Unnamed: <position>'.

    Raises:
        DataError: A name occurs twice, the first row holds numbers, or there are no rows. `where` names the file.
    """
    names = names_of(sheet.header, where)
    if not len(sheet.rows):
        raise DataError(f"{where}: there is a header and no row below it")
    return numbered(sheet.rows, names, 2)


def numbered(rows: pd.DataFrame, names: list[str], first: int) -> pd.DataFrame:
    """Returns the rows under these column names, numbered from `first`."""
    return pd.DataFrame(rows.set_axis(names, axis=1)).set_axis(pd.RangeIndex(first, len(rows) + first))


def names_of(header: list[Any], where: str) -> list[str]:
    """Returns the column names after the checks that `with_header` describes. Raises DataError."""
    names = ["" if pd.isna(name) else one_line(name) for name in header]
    if _are_values([name for name in names if name]):
        raise DataError(f"{where}: the first row holds numbers; add a row with the names of the columns above it")
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: more than one column is named {quoted_list(twice)}; rename all but one")
    return names


def _are_values(names: list[str]) -> bool:
    """Returns whether most of these are numbers. Sequences such as 0, 1, 2 or 2020, 2019 are taken to be names."""
    numbers = [float(name) for name in names if _NUMBER.fullmatch(name)]
    differences = [high - low for low, high in pairwise(numbers)]
    is_sequence = all(step > 0 for step in differences) or all(step < 0 for step in differences)
    return 2 * len(numbers) > len(names) and not (is_sequence and all(number.is_integer() for number in numbers))
