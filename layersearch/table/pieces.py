"""Reading a table of any length piece by piece, in memory that does not grow with its rows.

    with open_pieces(Path("classes.csv"), 16_384, notices) as sheets:
        for name, sheet in sheets.items():
            names = names_of(sheet.header, where)
            for piece in sheet.pieces:              # the rows below the header
                ...

What a file may hold, how it is understood and what is refused is up to `tables.py`: the cells are those of
`read_table`, whatever the size of a piece. A text is read twice or thrice for that: its encoding and its decimal commas
can be told from all of it alone. An .xlsx is read whole, since its rows are; it cannot have more than 1,048,576.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pandas as pd

from layersearch.table.formats import (
    AS_TEXT,
    DECIMAL_COMMA,
    HAS_NUL,
    IS_LATIN,
    IS_UTF16,
    OWN,
    DataError,
    checked_suffix,
    choose_delimiter,
    count_commas,
    open_parquet,
    parsing,
    plain_frame,
    read_blocks,
    read_table,
    reading,
    refuse_excess,
    refuse_foreign,
    refuse_text,
    text_size,
    with_decimal_commas,
    with_decimal_points,
)


class Pieces(NamedTuple):
    """A sheet: the names in the first row, and the rows below it, at most so many at a time."""

    header: list[Any]
    pieces: Iterator[pd.DataFrame]


@contextmanager
def open_pieces(path: Path, n_rows: int, notices: list[str]) -> Iterator[dict[str, Pieces]]:
    """The sheets of a .csv, .tsv/.tab, .xlsx or .parquet file in pieces of `n_rows` rows. Raises DataError.

    Formats without sheets have a single one, named "". `notices` gets what `Table.notices` would hold.
    """
    suffix = checked_suffix(path)
    if suffix == ".xlsx":
        yield {name: Pieces(s.header, _cut(s.rows, n_rows)) for name, s in read_table(path).sheets.items()}
        return
    with ExitStack() as stack:
        with reading(path):
            if suffix in OWN:
                sheet = _parquet_pieces(path, suffix, n_rows, stack)
            else:
                sheet = _text_pieces(path, suffix, n_rows, stack, notices)
        if not sheet.header:
            raise DataError(f"{path}: is empty")
        yield {"": Pieces(sheet.header, _reading_each(path, sheet.pieces))}


def _cut(rows: pd.DataFrame, n_rows: int) -> Iterator[pd.DataFrame]:
    return (rows.iloc[start : start + n_rows] for start in range(0, len(rows), n_rows))


def _reading_each(path: Path, pieces: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The same; whatever goes wrong while one is read is a DataError."""
    while True:
        with reading(path):
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


# --- Text ------------------------------------------------------------------------------------------


class _Survey(NamedTuple):
    """What must be known of a whole text before its first line can be read."""

    encoding: str
    n_lines: int
    n_bytes: int
    has_commas: bool  # decimal ones, perhaps
    is_blank: bool


def _text_pieces(path: Path, suffix: str, n_rows: int, stack: ExitStack, notices: list[str]) -> Pieces:
    survey = _survey(path, suffix, notices)
    if survey.is_blank:
        return Pieces([], iter(()))
    open_text = partial(_open_text, path, survey.encoding)
    delimiter, width = choose_delimiter(open_text, "," if suffix == ".csv" else "\t", notices)
    refuse_excess(survey.n_lines, width, survey.n_bytes, "text")
    respelled: list[int] = []
    if survey.has_commas and delimiter != ",":
        with open_text() as file:
            header, pieces = _parse(file, delimiter, n_rows)
            counts = sum(map(count_commas, pieces), start=count_commas(pd.DataFrame(columns=range(len(header)))))
        respelled = with_decimal_commas(counts, notices)
    header, pieces = _parse(stack.enter_context(open_text()), delimiter, n_rows)
    return Pieces(header, (with_decimal_points(piece, respelled) if respelled else piece for piece in pieces))


def _open_text(path: Path, encoding: str) -> TextIO:
    return path.open(encoding=encoding, errors="replace" if encoding == "cp1252" else None, newline="")


def _survey(path: Path, suffix: str, notices: list[str]) -> _Survey:
    """Reads the text once; `notices` gets its encoding. Raises ValueError, as for `read_table`."""
    encoding, tail = "utf-8-sig", b""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line_feeds = returns = n_bytes = 0
    has_commas, is_blank = False, True
    for number, block in enumerate(read_blocks(path, is_text=True)):
        if number == 0:
            refuse_foreign(block, suffix)
            if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                encoding, decoder = "utf-16", codecs.getincrementaldecoder("utf-16")()
                notices.append(IS_UTF16)
        if encoding == "utf-16":
            block = decoder.decode(block).encode("utf-8")
        elif encoding != "cp1252":
            encoding = "cp1252" if _fails(decoder, block) else encoding
        if b"\0" in block:
            raise ValueError(HAS_NUL)
        line_feeds, returns = line_feeds + block.count(b"\n"), returns + block.count(b"\r")
        n_bytes += len(block)
        has_commas = has_commas or re.search(DECIMAL_COMMA, tail + block) is not None
        is_blank = is_blank and not block.removeprefix(codecs.BOM_UTF8).strip()
        tail = block[-2:]
    if encoding != "cp1252" and _fails(decoder, b"", final=True):
        encoding = "cp1252"
    if encoding == "cp1252":
        notices.append(IS_LATIN)
    return _Survey(encoding, max(line_feeds, returns) + 1, n_bytes, has_commas, is_blank)


def _fails(decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return True
    return False


def _parse(file: TextIO, delimiter: str, n_rows: int) -> Pieces:
    """The first row, and the texts of those below."""
    with parsing(delimiter):
        reader = pd.read_csv(file, sep=delimiter, iterator=True, **AS_TEXT)
        header = reader.get_chunk(1).iloc[0].tolist()

    def pieces() -> Iterator[pd.DataFrame]:
        while True:
            try:
                with parsing(delimiter):
                    piece = reader.get_chunk(n_rows)
            except StopIteration:
                return
            yield piece

    return Pieces(header, pieces())


# --- Parquet ---------------------------------------------------------------------------------------


def _parquet_pieces(path: Path, suffix: str, n_rows: int, stack: ExitStack) -> Pieces:
    with path.open("rb") as start:
        refuse_foreign(start.read(8), suffix)
    file, names = open_parquet(path, path.stat().st_size)
    stack.callback(file.close)
    return Pieces(names, _frames(file, n_rows))


def _frames(file: Any, n_rows: int) -> Iterator[pd.DataFrame]:
    """Whole numbers stay whole beside missing ones, in whichever piece these are."""
    import pyarrow

    size = 0
    for batch in file.iter_batches(n_rows, use_threads=False):
        table = pyarrow.Table.from_batches([batch])
        size += text_size(table)
        refuse_text(size)
        yield plain_frame(table, integer_object_nulls=True)
