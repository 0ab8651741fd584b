"""Reads tables of delimited text: .csv, .tsv and .tab. `open_table` (formats.py) calls `open_delimited`.

The encoding (UTF-8, UTF-16 or Windows-1252), the delimiter (comma, semicolon or tab) and decimal commas are detected; a
notice tells the user what differs from the convention of the suffix. All cells are returned as text.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TextIO

import numpy as np
import pandas as pd

from layersearch.table.limits import Source, refuse_excess

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# Every line becomes a row of texts. Blank lines are kept, so that row numbers are those of a spreadsheet.
_AS_TEXT: dict[str, Any] = {"header": None, "dtype": str, "skip_blank_lines": False, "skipinitialspace": True}
_PERHAPS_DECIMAL_COMMA = rb"\d,\d"  # a text that does not match has no decimal commas
_NUMBERS = (  # with a decimal comma, with a decimal point, whole numbers
    r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*",
    r"\s*[+-]?\d*\.\d+([eE][+-]?\d+)?\s*",
    r"\s*[+-]?\d+\s*",
)
_PERHAPS_THOUSANDS = r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*"

Parsed = tuple[list[Any], Iterator[pd.DataFrame]]  # the first row, and the rows below it in pieces


def open_delimited(source: Source, n_rows: int | None, notices: list[str], stack: ExitStack) -> dict[str, Parsed]:
    """Opens the table in pieces of `n_rows` rows, or in one piece (None); `stack` closes it. Raises ValueError."""
    source.refuse_foreign(None)
    text = _survey(source, notices)
    if text.is_blank:
        return {}
    delimiter, width = _choose_delimiter(text, "," if source.suffix == ".csv" else "\t", notices)
    refuse_excess(text.n_lines, width, text.n_bytes, "text")
    header, pieces = _parse(stack.enter_context(text.open()), delimiter, n_rows)
    decimals: list[int] = []
    if text.has_commas and delimiter != ",":
        if n_rows is None:  # the single piece is kept, rather than parsed a second time
            pieces = iter(counted := list(pieces))
            counts = _count_all_commas(counted, len(header))
        else:
            with text.open() as file:
                counts = _count_all_commas(_parse(file, delimiter, n_rows)[1], len(header))
        decimals = _decimal_comma_columns(counts, notices)
    return {"": (header, (_with_decimal_points(piece, decimals) if decimals else piece for piece in pieces))}


# --- The encoding ----------------------------------------------------------------------------------


class _Text(NamedTuple):
    """A text and what must be known about all of it before its first line can be read."""

    source: Source
    encoding: str
    n_lines: int
    n_bytes: int
    has_commas: bool  # commas that may be decimal commas
    is_blank: bool

    def open(self) -> TextIO:
        """Opens the text from its start."""
        errors = "replace" if self.encoding == "cp1252" else None
        return io.TextIOWrapper(self.source.open(), self.encoding, errors, newline="")


def _survey(source: Source, notices: list[str]) -> _Text:
    """Reads the whole text once to detect its encoding. Raises ValueError if it is not text."""
    encoding, tail = "utf-8-sig", b""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line_feeds = returns = n_bytes = 0
    has_commas, is_blank = False, True
    for number, (block, is_last) in enumerate(_marking_the_last(source.blocks(is_text=True))):
        if number == 0 and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            encoding, decoder = "utf-16", codecs.getincrementaldecoder("utf-16")()
            notices.append("the file is encoded as UTF-16")
        if encoding == "utf-16":
            block = decoder.decode(block, is_last).encode("utf-8")
        if b"\0" in block:
            raise ValueError(
                "it is not text (NUL bytes); save the table as UTF-8 text, or give the file its real suffix"
            )
        if encoding == "utf-8-sig" and not _decodes(decoder, block, is_last):
            encoding = "cp1252"
            notices.append("the file is not UTF-8 and was read as Windows-1252 (Latin-1)")
        line_feeds, returns = line_feeds + block.count(b"\n"), returns + block.count(b"\r")
        n_bytes += len(block)
        has_commas = has_commas or re.search(_PERHAPS_DECIMAL_COMMA, tail + block[:2]) is not None
        has_commas = has_commas or re.search(_PERHAPS_DECIMAL_COMMA, block) is not None
        is_blank = is_blank and not block.removeprefix(codecs.BOM_UTF8).strip()
        tail = (tail + block[-2:])[-2:]
    return _Text(source, encoding, max(line_feeds, returns) + 1, n_bytes, has_commas, is_blank)


def _marking_the_last(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yields each block, and whether it is the last one; reads one block ahead to find out."""
    previous = None
    for block in blocks:
        if previous is not None:
            yield previous, False
        previous = block
    if previous is not None:
        yield previous, True


def _decodes(decoder: codecs.IncrementalDecoder, block: bytes, is_last: bool) -> bool:
    try:
        decoder.decode(block, is_last)
    except UnicodeDecodeError:
        return False
    return True


# --- The cells -------------------------------------------------------------------------------------


def _choose_delimiter(text: _Text, expected: str, notices: list[str]) -> tuple[str, int]:
    """Returns the delimiter and the number of cells in the first row. Raises ValueError if that row is empty."""
    widths = {delimiter: _first_width(text, delimiter) for delimiter in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda d: (widths[d], d == expected))
    if not widths[delimiter]:
        raise ValueError("the first row is empty; it must hold the column names")
    if delimiter != expected:
        notices.append(f"the columns are separated by {DELIMITERS[delimiter]}, not {DELIMITERS[expected]}")
    return delimiter, widths[delimiter]


def _first_width(text: _Text, delimiter: str) -> int:
    with text.open() as lines:
        try:
            return len(next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), []))
        except csv.Error:  # a cell of more than 131,072 characters
            return 1


def _parse(file: TextIO, delimiter: str, n_rows: int | None) -> Parsed:
    """Returns the first row, and the rows below it as text."""
    with _parsing(delimiter):
        reader = pd.read_csv(file, sep=delimiter, iterator=True, **_AS_TEXT)
        header = reader.get_chunk(1).iloc[0].tolist()

    def pieces() -> Iterator[pd.DataFrame]:
        while True:
            try:
                with _parsing(delimiter):
                    piece = reader.get_chunk(n_rows)
            except StopIteration:
                return
            yield piece

    return header, pieces()


@contextmanager
def _parsing(delimiter: str) -> Iterator[None]:
    """Turns the ParserErrors of `pandas.read_csv` into ValueErrors that say what the user can do."""
    try:
        yield
    except pd.errors.ParserError as error:
        if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
            raise ValueError(
                f"line {found[2]} has {found[3]} cells and the first line {found[1]}; the first must hold the column"
                f" names, and a cell with {DELIMITERS[delimiter]} in it needs double quotes around it"
            ) from None
        if found := re.search(r"EOF inside string starting at row (\d+)", str(error)):
            opens = int(found[1]) + 1
            raise ValueError(f"the quotation mark that opens in row {opens} is never closed; close it") from None
        raise


# --- Decimal commas --------------------------------------------------------------------------------


def _count_all_commas(pieces: Iterable[pd.DataFrame], n_columns: int) -> np.ndarray:
    """Returns the sums of `_count_commas` over all pieces: [n_columns, 5]."""
    return sum(map(_count_commas, pieces), start=np.zeros((n_columns, 5), np.int64))


def _count_commas(rows: pd.DataFrame) -> np.ndarray:
    """Counts cells of five kinds in each column, [columns, 5].

    Filled; with a decimal comma; with a decimal point; whole numbers; with a comma that cannot separate thousands.
    """
    counts = []
    for _, column in rows.items():
        text = column.astype("string")
        commas, points, whole = (text.str.fullmatch(pattern, na=False).astype(bool) for pattern in _NUMBERS)
        certain = commas & ~text.str.fullmatch(_PERHAPS_THOUSANDS, na=False).astype(bool)
        counts.append([int(cells.sum()) for cells in (text.notna(), commas, points, whole, certain)])
    return np.array(counts, dtype=np.int64).reshape(-1, 5)


def _decimal_comma_columns(counts: np.ndarray, notices: list[str]) -> list[int]:
    """Returns the positions of the columns whose numbers have decimal commas, from the counts of `_count_commas`.

    Returns none if the commas may mean something else: if each of them could separate thousands, or if other numbers
    have decimal points.
    """
    filled, commas, points, whole, certain = counts.T
    is_number = 2 * (commas + points + whole) >= filled  # others are columns of text
    found: list[int] = np.flatnonzero(is_number & (commas > 0)).tolist()
    if points[is_number].any() or not certain[found].any():
        return []
    notices.append("decimal commas were read as decimal points")
    return found


def _with_decimal_points(rows: pd.DataFrame, columns: Iterable[int]) -> pd.DataFrame:
    """Returns the rows with decimal points instead of decimal commas in the columns at these positions."""
    rows = rows.copy(deep=False)
    for place in columns:
        column = rows[rows.columns[place]]
        commas = column.astype("string").str.fullmatch(_NUMBERS[0], na=False).astype(bool)
        rows[rows.columns[place]] = column.mask(commas, column.str.replace(",", "."))
    return rows
