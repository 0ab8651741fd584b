"""Reading a table as it lies in its file: .csv, .tsv/.tab, .xlsx or .parquet, without a view on its columns.

    table = read_table(Path("data/stains.csv"))    # table.sheets: names in the first row, and the rows below
    frame = with_header(sheet, "data/stains.csv")  # for one of table.sheets.values()

`COPUSDataset` (dataset.py) is what uses it; `pieces.py` reads tables of any length piece by piece. Everything a user
can get wrong is a `DataError` of one line.
Rows are numbered as a spreadsheet shows them: the header is row 1. A file may be made to do harm: what it
unpacks to is known before it is unpacked, and none of it is ever run.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import pandas as pd

from layersearch.words import one_line, printable, quoted_list, shortened

SUFFIXES = (".csv", ".tsv", ".tab", ".xlsx", ".parquet")

# What a file may hold. A million rows of 500 columns are well within.
MAX_BYTES = 10_000_000_000
MAX_LINE = 16_000_000  # bytes of text without a line break
MAX_COLUMNS = 100_000
MAX_CELLS = 1_000_000_000
# A small file that would fill the memory is a trap: no table has more cells to a byte, or shrinks so much in a zip.
UNSUSPICIOUS = 10_000_000  # cells, or bytes of text
CELLS_PER_BYTE = {"text": 4, "packed": 100}
ZIP_RATIO = 200
EXCEL_ROWS = 1_048_576

IS_UTF16 = "the file is encoded as UTF-16"
IS_LATIN = "the file is not UTF-8 and was read as Windows-1252 (Latin-1)"
HAS_NUL = "it is not text (NUL bytes); save the table as UTF-8 text, or give the file its real suffix"
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_FOREIGN = {
    b"PK\x03\x04": "an .xlsx workbook or another zip archive",
    b"PAR1": "a .parquet file",
    b"\xd0\xcf\x11\xe0": "an old .xls workbook or one with a password; save it as .xlsx without a password",
    b"\x1f\x8b": "compressed; unpack it first",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
}
OWN = {".xlsx": b"PK\x03\x04", ".parquet": b"PAR1"}
# What a spreadsheet's cell may say instead of a value: the defaults of `pandas.read_csv`.
_MISSING = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
}  # fmt: skip
_NUMBERS = (  # with a decimal comma, with a decimal point, whole
    r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*",
    r"\s*[+-]?\d*\.\d+([eE][+-]?\d+)?\s*",
    r"\s*[+-]?\d+\s*",
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DECIMAL_COMMA = rb"\d,\d"  # in a text with none, nothing needs to be counted
# Every line as a row of texts; blank lines are kept, so that rows count as in a spreadsheet.
AS_TEXT: dict[str, Any] = {"header": None, "dtype": str, "skip_blank_lines": False, "skipinitialspace": True}
_PERHAPS_THOUSANDS = r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*"


class DataError(ValueError):
    """A fault in the user's table or in what was asked of it; the message is one line of printable text."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


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
    suffix = checked_suffix(path)
    notices: list[str] = []
    with reading(path):
        content = _read_bytes(path, is_text=suffix not in OWN)
        refuse_foreign(content, suffix)
        if suffix == ".xlsx":
            sheets = _read_excel(content)
        elif suffix == ".parquet":
            sheets = {"": _read_parquet(content)}
        else:
            sheets = {"": _read_text(content, "," if suffix == ".csv" else "\t", notices)}
    sheets = {name: sheet for name, sheet in sheets.items() if sheet.header}
    if not sheets:
        raise DataError(f"{path}: is empty")
    return Table(sheets, hashlib.sha256(content).hexdigest(), notices)


def checked_suffix(path: Path) -> str:
    """`.csv` or another of `SUFFIXES`, of a file that is there. Raises DataError."""
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give a table ({', '.join(SUFFIXES)})")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():
        raise DataError(f"{path}: is a pipe or a device; save the table to a file")
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: the suffix '{suffix}' is not known; allowed: {', '.join(SUFFIXES)}")
    return suffix


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """For code that reads this file: whatever goes wrong is a DataError."""
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory; leave out rows or columns") from None
    except Exception as error:  # the parsers raise a dozen kinds for a damaged file; all mean the same here
        reason = shortened(one_line(error), 200) or type(error).__name__
        raise DataError(f"{path}: cannot be read as {path.suffix.lower()}: {reason}") from error


# --- What is too much ------------------------------------------------------------------------------


def _read_bytes(path: Path, *, is_text: bool) -> bytes:
    """The file's content, as long as it can be a table. Raises DataError."""
    content = bytearray()
    for block in read_blocks(path, is_text=is_text):
        content += block
    return bytes(content)


def read_blocks(path: Path, *, is_text: bool) -> Iterator[bytes]:
    """The file's content, block by block, as long as it can be a table. Raises DataError."""
    line, size = 1, 0
    try:
        with path.open("rb") as file:
            while block := file.read(MAX_LINE):
                if is_text and len(block) == MAX_LINE and not re.search(rb"[\r\n]", block):
                    raise DataError(f"{path}: line {line} exceeds {MAX_LINE:,} bytes; no table has such lines")
                line, size = line + block.count(b"\n"), size + len(block)
                if size > MAX_BYTES:
                    raise DataError(f"{path}: exceeds {MAX_BYTES:,} bytes; leave out rows or columns")
                yield block
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def refuse_foreign(content: bytes, suffix: str) -> None:
    """Raises ValueError where the content's first bytes are those of another format than the suffix says."""
    own = OWN.get(suffix)
    for start, description in _FOREIGN.items():
        if content.startswith(start) and start != own:
            raise ValueError(f"it is {description}" + ("" if ";" in description else "; give it its real suffix"))
    if own and content and not content.startswith(own):
        raise ValueError(f"it is no {suffix} file; save the table anew, or give it its real suffix")


def refuse_excess(n_rows: int, n_columns: int, n_bytes: int, kind: str) -> None:
    """Raises ValueError where a table of `n_bytes` is too large for a table, or for its file."""
    if n_columns > MAX_COLUMNS:
        raise ValueError(f"{n_columns:,} columns, more than {MAX_COLUMNS:,}; leave some out")
    cells = n_rows * n_columns
    if cells > MAX_CELLS:
        raise ValueError(f"{n_rows:,} rows x {n_columns:,} columns, more than {MAX_CELLS:,} cells; leave some out")
    if cells > max(UNSUSPICIOUS, CELLS_PER_BYTE[kind] * n_bytes):
        raise ValueError(
            f"{n_rows:,} rows x {n_columns:,} columns in {n_bytes:,} bytes would be nearly all empty or alike;"
            " leave out what is"
        )


def refuse_text(size: int) -> None:
    """Raises ValueError where all cells' texts together are too long."""
    if size > MAX_CELLS:
        raise ValueError(f"its texts have {size:,} bytes, more than {MAX_CELLS:,}; leave out the longest")


# --- The formats -----------------------------------------------------------------------------------


def _below_first_row(cells: pd.DataFrame) -> Sheet:
    return Sheet(cells.iloc[0].tolist(), cells.iloc[1:]) if cells.size else Sheet([], cells)


def _read_text(content: bytes, expected: str, notices: list[str]) -> Sheet:
    """Cells as text. `expected` is the delimiter that the suffix promises; another one is recognised."""
    text = _as_utf8(content, notices)
    if not text.strip():
        return Sheet([], pd.DataFrame())
    delimiter, width = choose_delimiter(
        lambda: io.TextIOWrapper(io.BytesIO(text), "utf-8", newline=""), expected, notices
    )
    refuse_excess(max(text.count(b"\n"), text.count(b"\r")) + 1, width, len(text), "text")
    sheet = _below_first_row(_parse(text, delimiter))
    if delimiter == "," or not re.search(DECIMAL_COMMA, text):
        return sheet
    respelled = with_decimal_commas(count_commas(sheet.rows), notices)
    return Sheet(sheet.header, with_decimal_points(sheet.rows, respelled))


def _as_utf8(content: bytes, notices: list[str]) -> bytes:
    """The text in UTF-8 without a byte order mark."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        notices.append(IS_UTF16)
        content = content.decode("utf-16").encode("utf-8")
    if b"\0" in content:
        raise ValueError(HAS_NUL)
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        notices.append(IS_LATIN)
        content = content.decode("cp1252", errors="replace").encode("utf-8")
    return content.removeprefix(codecs.BOM_UTF8)


def choose_delimiter(open_text: Callable[[], TextIO], expected: str, notices: list[str]) -> tuple[str, int]:
    """What separates the cells of the first row, and how many there are. Raises ValueError if it is empty."""
    widths = {delimiter: _first_width(open_text, delimiter) for delimiter in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda d: (widths[d], d == expected))
    if not widths[delimiter]:
        raise ValueError("the first row is empty; it must hold the column names")
    if delimiter != expected:
        notices.append(f"the columns are separated by {DELIMITERS[delimiter]}, not {DELIMITERS[expected]}")
    return delimiter, widths[delimiter]


def _first_width(open_text: Callable[[], TextIO], delimiter: str) -> int:
    """How many cells the first row has with this delimiter."""
    with open_text() as lines:
        try:
            return len(next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), []))
        except csv.Error:  # a cell of more than 131,072 characters
            return 1


def _parse(text: bytes, delimiter: str) -> pd.DataFrame:
    with parsing(delimiter):
        cells: pd.DataFrame = pd.read_csv(io.BytesIO(text), sep=delimiter, **AS_TEXT)
    return cells


@contextmanager
def parsing(delimiter: str) -> Iterator[None]:
    """For `pandas.read_csv` with `AS_TEXT`: says what a user can do about its ParserErrors, by raising ValueErrors."""
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


def count_commas(rows: pd.DataFrame) -> np.ndarray:
    """Of each column of texts how many cells are filled, are numbers with a decimal comma, with a point, whole, and
    how many of the first of these cannot be thousands: [columns, 5]. Counts of pieces of a table add up."""
    counts = []
    for _, column in rows.items():
        text = column.astype("string")
        commas, points, whole = (text.str.fullmatch(pattern, na=False).astype(bool) for pattern in _NUMBERS)
        certain = commas & ~text.str.fullmatch(_PERHAPS_THOUSANDS, na=False).astype(bool)
        counts.append([int(cells.sum()) for cells in (text.notna(), commas, points, whole, certain)])
    return np.array(counts, dtype=np.int64).reshape(-1, 5)


def with_decimal_commas(counts: np.ndarray, notices: list[str]) -> list[int]:
    """Which columns hold numbers with decimal commas, from `count_commas`; none where they may mean something else.

    They may where each of them could separate thousands, or where other numbers have points. To be used only where
    commas do not separate the columns.
    """
    filled, commas, points, whole, certain = counts.T
    is_number = 2 * (commas + points + whole) >= filled  # others are columns of text
    found = np.flatnonzero(is_number & (commas > 0)).tolist()
    if points[is_number].any() or not certain[found].any():
        return []
    notices.append("decimal commas were read as decimal points")
    return found


def with_decimal_points(rows: pd.DataFrame, columns: Iterable[int]) -> pd.DataFrame:
    """The rows, numbers with a decimal comma in these columns (by position) with a point."""
    rows = rows.copy(deep=False)
    for place in columns:
        column = rows[rows.columns[place]]
        commas = column.astype("string").str.fullmatch(_NUMBERS[0], na=False).astype(bool)
        rows[rows.columns[place]] = column.mask(commas, column.str.replace(",", "."))
    return rows


def _refuse_zip_bomb(content: bytes) -> None:
    """Raises ValueError where the archive declares to unpack to too much; zipfile unpacks no more than is declared."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > MAX_BYTES or size > max(10 * UNSUSPICIOUS, ZIP_RATIO * len(content)):
        raise ValueError(f"it would unpack to {size:,} bytes, more than a table would; save the table anew")


def _read_excel(content: bytes) -> dict[str, Sheet]:
    import openpyxl

    _refuse_zip_bomb(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # openpyxl on styles and extensions that it drops
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
        return {str(sheet.title): _read_sheet(sheet, len(content)) for sheet in book.worksheets}


def _read_sheet(sheet: Any, n_bytes: int) -> Sheet:
    """Cells as typed, None where one is missing. Each may claim to be far out, so they are counted as they come."""
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
            refuse_excess(n_rows, width, n_bytes, "packed")
            refuse_text(n_characters)
    cells = np.full((n_rows, width), None, dtype=object)
    for number, row in rows.items():
        cells[number - 1, : len(row)] = row
    return _below_first_row(pd.DataFrame(cells))


def _read_parquet(content: bytes) -> Sheet:
    file, names = open_parquet(io.BytesIO(content), len(content))
    table = file.read()
    refuse_text(text_size(table))
    return Sheet(names, plain_frame(table))


def open_parquet(source: Any, n_bytes: int) -> tuple[Any, list[str]]:
    """The pyarrow.parquet.ParquetFile and its columns' names. Raises ValueError for what cannot be a table.

    Text stays in its dictionary until its size is known: a file of a few bytes may repeat a long one in every row.
    """
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(source)
    names = file.schema_arrow.names
    refuse_excess(file.metadata.num_rows, len(names), n_bytes, "packed")
    if nested := [name for name, kind in zip(names, file.schema_arrow.types, strict=True) if kind.num_fields]:
        raise ValueError(f"column {quoted_list(nested)} holds lists or records; leave it out")
    schema = file.metadata.schema
    texts = [schema.column(i).path for i in range(len(names)) if schema.column(i).physical_type == "BYTE_ARRAY"]
    lazily = {"pre_buffer": False, "buffer_size": 2**16}  # else `iter_batches` reads whole row groups
    return pyarrow.parquet.ParquetFile(source, read_dictionary=texts, **lazily), names


def plain_frame(table: Any, **options: Any) -> pd.DataFrame:
    """A pyarrow.Table of `open_parquet`, its texts as such; columns are numbered, since pandas refuses equal names."""
    import pyarrow

    plain = [column.cast(getattr(column.type, "value_type", column.type)) for column in table.columns]
    frame: pd.DataFrame = pyarrow.Table.from_arrays(plain, [str(i) for i in range(len(plain))]).to_pandas(**options)
    return frame


def text_size(table: Any) -> int:
    """How many bytes of text a pyarrow.Table of `open_parquet` holds in all its rows."""
    return sum(_text_size(column) for column in table.columns)


def _text_size(column: Any) -> int:
    """How many bytes of text a column of pyarrow's holds in all its rows."""
    import pyarrow.compute

    texts = [chunk for chunk in column.chunks if hasattr(chunk, "dictionary")]
    sizes = [pyarrow.compute.sum(pyarrow.compute.binary_length(c.dictionary).take(c.indices)) for c in texts]
    return sum(size.as_py() or 0 for size in sizes)


def with_header(sheet: Sheet, where: str) -> pd.DataFrame:
    """The rows under their column names; the index holds row numbers as a spreadsheet shows them.

    A column without a name becomes 'Unnamed: <position>'. Raises DataError for a name that occurs twice, for a
    first row of numbers and for a table without rows; `where` names the file in it.
    """
    names = names_of(sheet.header, where)
    if not len(sheet.rows):
        raise DataError(f"{where}: there is a header and no row below it")
    return numbered(sheet.rows, names, 2)


def numbered(rows: pd.DataFrame, names: list[str], first: int) -> pd.DataFrame:
    """The rows under these names, numbered from `first`."""
    return pd.DataFrame(rows.set_axis(names, axis=1)).set_axis(pd.RangeIndex(first, len(rows) + first))


def names_of(header: list[Any], where: str) -> list[str]:
    """The columns' names as `with_header` gives and checks them. Raises DataError."""
    names = ["" if pd.isna(name) else one_line(name) for name in header]
    if _are_values([name for name in names if name]):
        raise DataError(f"{where}: the first row holds numbers; add a row with the names of the columns above it")
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: more than one column is named {quoted_list(twice)}; rename all but one")
    return names


def _are_values(names: list[str]) -> bool:
    """Whether most of these are numbers, and no numbering: 0, 1, 2 or 2020, 2019 may well be names."""
    numbers = [float(name) for name in names if _NUMBER.fullmatch(name)]
    differences = [high - low for low, high in pairwise(numbers)]
    is_numbering = all(step > 0 for step in differences) or all(step < 0 for step in differences)
    return 2 * len(numbers) > len(names) and not (is_numbering and all(number.is_integer() for number in numbers))
