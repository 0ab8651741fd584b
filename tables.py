"""Reading a table as it lies in its file: .csv, .tsv/.tab, .xlsx or .parquet, without a view on its columns.

    table = read_table(Path("data/stains.csv"))    # table.sheets: names in the first row, and the rows below
    frame = with_header(sheet, "data/stains.csv")  # for one of table.sheets.values()

`COPUSDataset` (dataset.py) is what uses it. Everything a user can get wrong is a `DataError` of one line.
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
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

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

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_FOREIGN = {
    b"PK\x03\x04": "an .xlsx workbook or another zip archive",
    b"PAR1": "a .parquet file",
    b"\xd0\xcf\x11\xe0": "an old .xls workbook or one with a password; save it as .xlsx without a password",
    b"\x1f\x8b": "compressed; unpack it first",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
}
_OWN = {".xlsx": b"PK\x03\x04", ".parquet": b"PAR1"}
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
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give a table ({', '.join(SUFFIXES)})")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():
        raise DataError(f"{path}: is a pipe or a device; save the table to a file")
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: the suffix '{suffix}' is not known; allowed: {', '.join(SUFFIXES)}")
    notices: list[str] = []
    try:
        content = _read_bytes(path, is_text=suffix not in _OWN)
        _refuse_foreign(content, suffix)
        if suffix == ".xlsx":
            sheets = _read_excel(content)
        elif suffix == ".parquet":
            sheets = {"": _read_parquet(content)}
        else:
            sheets = {"": _read_text(content, "," if suffix == ".csv" else "\t", notices)}
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory; leave out rows or columns") from None
    except Exception as error:  # the parsers raise a dozen kinds for a damaged file; all mean the same here
        reason = shortened(one_line(error), 200) or type(error).__name__
        raise DataError(f"{path}: cannot be read as {suffix}: {reason}") from error
    sheets = {name: sheet for name, sheet in sheets.items() if sheet.header}
    if not sheets:
        raise DataError(f"{path}: is empty")
    return Table(sheets, hashlib.sha256(content).hexdigest(), notices)


# --- What is too much ------------------------------------------------------------------------------


def _read_bytes(path: Path, *, is_text: bool) -> bytes:
    """The file's content, as long as it can be a table. Raises DataError."""
    content = bytearray()
    try:
        with path.open("rb") as file:
            while chunk := file.read(MAX_LINE):
                if is_text and len(chunk) == MAX_LINE and not re.search(rb"[\r\n]", chunk):
                    line = content.count(b"\n") + 1
                    raise DataError(f"{path}: line {line} exceeds {MAX_LINE:,} bytes; no table has such lines")
                content += chunk
                if len(content) > MAX_BYTES:
                    raise DataError(f"{path}: exceeds {MAX_BYTES:,} bytes; leave out rows or columns")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return bytes(content)


def _refuse_foreign(content: bytes, suffix: str) -> None:
    """Raises ValueError where the content's first bytes are those of another format than the suffix says."""
    own = _OWN.get(suffix)
    for start, description in _FOREIGN.items():
        if content.startswith(start) and start != own:
            raise ValueError(f"it is {description}" + ("" if ";" in description else "; give it its real suffix"))
    if own and content and not content.startswith(own):
        raise ValueError(f"it is no {suffix} file; save the table anew, or give it its real suffix")


def _refuse_excess(n_rows: int, n_columns: int, n_bytes: int, kind: str) -> None:
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


def _refuse_text(size: int) -> None:
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
    widths = {delimiter: _first_width(text, delimiter) for delimiter in _DELIMITERS}
    delimiter = max(_DELIMITERS, key=lambda d: (widths[d], d == expected))
    if not widths[delimiter]:
        raise ValueError("the first row is empty; it must hold the column names")
    if delimiter != expected:
        notices.append(f"the columns are separated by {_DELIMITERS[delimiter]}, not {_DELIMITERS[expected]}")
    _refuse_excess(max(text.count(b"\n"), text.count(b"\r")) + 1, widths[delimiter], len(text), "text")
    sheet = _below_first_row(_parse(text, delimiter))
    return _with_decimal_points(sheet, notices) if delimiter != "," and re.search(rb"\d,\d", text) else sheet


def _as_utf8(content: bytes, notices: list[str]) -> bytes:
    """The text in UTF-8 without a byte order mark."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        notices.append("the file is encoded as UTF-16")
        content = content.decode("utf-16").encode("utf-8")
    if b"\0" in content:
        raise ValueError("it is not text (NUL bytes); save the table as UTF-8 text, or give the file its real suffix")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        notices.append("the file is not UTF-8 and was read as Windows-1252 (Latin-1)")
        content = content.decode("cp1252", errors="replace").encode("utf-8")
    return content.removeprefix(codecs.BOM_UTF8)


def _first_width(text: bytes, delimiter: str) -> int:
    """How many cells the first row has with this delimiter."""
    lines = io.TextIOWrapper(io.BytesIO(text), "utf-8", newline="")
    try:
        return len(next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), []))
    except csv.Error:  # a cell of more than 131,072 characters
        return 1


def _parse(text: bytes, delimiter: str) -> pd.DataFrame:
    """Every line as a row of texts; blank lines are kept, so that rows count as in a spreadsheet."""
    try:
        return pd.read_csv(
            io.BytesIO(text), sep=delimiter, header=None, dtype=str, skip_blank_lines=False, skipinitialspace=True
        )
    except pd.errors.ParserError as error:
        if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
            raise ValueError(
                f"line {found[2]} has {found[3]} cells and the first line {found[1]}; the first must hold the column"
                f" names, and a cell with {_DELIMITERS[delimiter]} in it needs double quotes around it"
            ) from None
        if found := re.search(r"EOF inside string starting at row (\d+)", str(error)):
            opens = int(found[1]) + 1
            raise ValueError(f"the quotation mark that opens in row {opens} is never closed; close it") from None
        raise


def _with_decimal_points(sheet: Sheet, notices: list[str]) -> Sheet:
    """Columns of numbers with decimal commas get points; as they are where the commas may mean something else.

    They may where each of them could separate thousands, or where other numbers have points. To be used only where
    commas do not separate the columns.
    """
    rows, is_certain = sheet.rows.copy(), False
    for name, column in sheet.rows.items():
        text = column.astype("string")
        commas, points, whole = (text.str.fullmatch(pattern, na=False).astype(bool) for pattern in _NUMBERS)
        if 2 * (commas | points | whole).sum() < text.notna().sum():  # a column of text
            continue
        if points.any():
            return sheet
        if commas.any():
            rows[name] = column.mask(commas, column.str.replace(",", "."))
            is_certain |= not text[commas].str.fullmatch(_PERHAPS_THOUSANDS).all()
    if not is_certain:
        return sheet
    notices.append("decimal commas were read as decimal points")
    return Sheet(sheet.header, rows)


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
            _refuse_excess(n_rows, width, n_bytes, "packed")
            _refuse_text(n_characters)
    cells = np.full((n_rows, width), None, dtype=object)
    for number, row in rows.items():
        cells[number - 1, : len(row)] = row
    return _below_first_row(pd.DataFrame(cells))


def _read_parquet(content: bytes) -> Sheet:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
    names = file.schema_arrow.names
    _refuse_excess(file.metadata.num_rows, len(names), len(content), "packed")
    if nested := [name for name, kind in zip(names, file.schema_arrow.types, strict=True) if kind.num_fields]:
        raise ValueError(f"column {listing(nested)} holds lists or records; leave it out")
    # Text stays in its dictionary until its size is known: a file of a few bytes may repeat a long one in every row.
    schema = file.metadata.schema
    texts = {i: schema.column(i).path for i in range(len(names)) if schema.column(i).physical_type == "BYTE_ARRAY"}
    table = pyarrow.parquet.ParquetFile(io.BytesIO(content), read_dictionary=list(texts.values())).read()
    table = table.rename_columns([str(i) for i in range(len(names))])  # pandas refuses equal names
    _refuse_text(sum(_text_size(column) for column in table.columns))
    plain = [column.cast(getattr(column.type, "value_type", column.type)) for column in table.columns]
    return Sheet(names, pyarrow.Table.from_arrays(plain, table.column_names).to_pandas())


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
    names = ["" if pd.isna(name) else one_line(name) for name in sheet.header]
    if _are_values([name for name in names if name]):
        raise DataError(f"{where}: the first row holds numbers; add a row with the names of the columns above it")
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: more than one column is named {listing(twice)}; rename all but one")
    if not len(sheet.rows):
        raise DataError(f"{where}: there is a header and no row below it")
    return pd.DataFrame(sheet.rows.set_axis(names, axis=1)).set_axis(pd.RangeIndex(2, len(sheet.rows) + 2))


def _are_values(names: list[str]) -> bool:
    """Whether most of these are numbers, and no numbering: 0, 1, 2 or 2020, 2019 may well be names."""
    numbers = [float(name) for name in names if _NUMBER.fullmatch(name)]
    differences = [high - low for low, high in pairwise(numbers)]
    is_numbering = all(step > 0 for step in differences) or all(step < 0 for step in differences)
    return 2 * len(numbers) > len(names) and not (is_numbering and all(number.is_integer() for number in numbers))


def printable(text: str) -> str:
    """For messages: nothing in it can break the line or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(thing: object) -> str:
    """For messages: its text without line breaks, repeated blanks or what cannot be printed."""
    return printable(" ".join(str(thing).split()))


def shortened(text: str, limit: int = 60) -> str:
    """For messages: the text, cut where it is longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def listing(names: Iterable[str], *, limit: int = 8, quote: str = "'") -> str:
    """For messages: names with commas between them, at most `limit`, long ones cut."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"{quote}{shortened(name)}{quote}" for name in names[:limit]) + more
