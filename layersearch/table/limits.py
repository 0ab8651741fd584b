"""Limits on what a table's file may hold, and the error that says what is wrong with it.

    for block in source.blocks(is_text=True): ...
    refuse_excess(n_rows, n_columns, n_bytes, "text")

A file may have been made to do harm. Its size in memory is therefore checked before it is unpacked, and nothing in it
is ever executed. The functions named `refuse_…` raise ValueErrors, which `reading` turns into a `DataError`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from layersearch.words import one_line, printable, shortened

# The largest table allowed. A million rows of 500 columns are well within these limits.
MAX_BYTES = 10_000_000_000
MAX_LINE = 16_000_000  # bytes of text without a line break
MAX_COLUMNS = 100_000
MAX_CELLS = 1_000_000_000
# A small file that would fill the memory is an attack: no real table has more cells per byte.
UNSUSPICIOUS = 10_000_000  # cells, or bytes of text
CELLS_PER_BYTE = {"text": 4, "packed": 100}

EXCEL_START, PARQUET_START = b"PK\x03\x04", b"PAR1"
_FOREIGN = {
    EXCEL_START: "an .xlsx workbook or another zip archive",
    PARQUET_START: "a .parquet file",
    b"\xd0\xcf\x11\xe0": "an old .xls workbook or one with a password; save it as .xlsx without a password",
    b"\x1f\x8b": "compressed; unpack it first",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
}


class DataError(ValueError):
    """A fault in the user's table or in what was asked of it; the message is one line of printable text."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns any error that occurs while this file is read into a DataError."""
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory; leave out rows or columns") from None
    except Exception as error:  # the parsers raise a dozen kinds for a damaged file; all are treated alike
        reason = shortened(one_line(error), 200) or type(error).__name__
        raise DataError(f"{path}: cannot be read as {path.suffix.lower()}: {reason}") from error


class Source(NamedTuple):
    """The bytes of a table, on disk or in memory, where they are kept if they are to be read from disk only once."""

    path: Path
    content: bytes | None = None

    @property
    def suffix(self) -> str:
        """The suffix of the file in lower case, with its dot."""
        return self.path.suffix.lower()

    def open(self) -> BinaryIO:
        """Opens the bytes from their start. Raises DataError if the file cannot be opened."""
        if self.content is not None:
            return io.BytesIO(self.content)
        try:
            return self.path.open("rb")
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot be read: {error.strerror or error}")

    def blocks(self, *, is_text: bool) -> Iterator[bytes]:
        """Yields the bytes in blocks of at most MAX_LINE, or in one block if they are in memory.

        Raises:
            DataError: The file cannot be read, is too large, or is text with too long a line.
        """
        if self.content is not None:
            yield self.content
            return
        line, size = 1, 0
        try:
            with self.open() as file:
                while block := file.read(MAX_LINE):
                    if is_text and len(block) == MAX_LINE and not re.search(rb"[\r\n]", block):
                        raise DataError(f"{self.path}: line {line} exceeds {MAX_LINE:,} bytes; no table has such lines")
                    line, size = line + block.count(b"\n"), size + len(block)
                    if size > MAX_BYTES:
                        raise DataError(f"{self.path}: exceeds {MAX_BYTES:,} bytes; leave out rows or columns")
                    yield block
        except OSError as error:
            raise self._unreadable(error) from error

    def in_memory(self, *, is_text: bool) -> Source:
        """Returns the same table with its bytes in memory. Raises DataError as `blocks` does."""
        if self.content is not None:
            return self
        content = bytearray()
        for block in self.blocks(is_text=is_text):
            content += block
        return Source(self.path, bytes(content))

    def refuse_foreign(self, own: bytes | None) -> None:
        """Raises ValueError if the first bytes are not `own`, or are those of another format than text (None)."""
        with self.open() as file:
            first = file.read(8)
        for start, description in _FOREIGN.items():
            if first.startswith(start) and start != own:
                raise ValueError(f"it is {description}" + ("" if ";" in description else "; give it its real suffix"))
        if own and first and not first.startswith(own):
            raise ValueError(f"it is no {self.suffix} file; save the table anew, or give it its real suffix")


def refuse_excess(n_rows: int, n_columns: int, n_bytes: int, kind: str) -> None:
    """Raises ValueError for a table that is too large, or suspiciously large for a file of `n_bytes`."""
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
    """Raises ValueError if the texts of all cells together have too many bytes."""
    if size > MAX_CELLS:
        raise ValueError(f"its texts have {size:,} bytes, more than {MAX_CELLS:,}; leave out the longest")
