"""Every bad file gives exit status 2 and one line that says what is wrong and what to do about it.

Nothing is written, and existing files stay as they are. The files have users' mistakes, are damaged beyond repair, or
were made to do harm.
"""

from __future__ import annotations

import datetime
import io
import json
import os
import random
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from commands import TINY, assert_one_line, run
from made_tables import N, copus_frame, with_cell, write
from refusals import LINES, ON_WINDOWS, SOUND, assert_refused, cell_of, csv_of, european, lines_with, renamed

from layersearch.engines import choice as engine_choice
from layersearch.table import delimited, excel, limits
from layersearch.table.formats import DataError, read_table

# --- Files of text ---------------------------------------------------------------------------------

NOISE = random.Random(1).randbytes(5000)
NOT_TEXT = "it is not text (NUL bytes); save the table as UTF-8 text"
SUFFIX = "give it its real suffix"

# For each test id: the name of the file, its content, and parts of the error message.
Case = tuple[str, bytes, tuple[str, ...]]
TEXTS: dict[str, Case] = {
    "no bytes": ("a.csv", b"", ("is empty",)),
    "nothing but line breaks": ("a.csv", b"\r\n\n \n", ("is empty",)),
    "nothing but a byte order mark": ("a.csv", b"\xef\xbb\xbf", ("is empty",)),
    "header alone": ("a.csv", LINES[0].encode(), ("a header and no row below it",)),
    "nine rows": ("a.csv", "\n".join(LINES[:10]).encode(), ("9 rows with values", "at least 10 are needed")),
    "ten rows, one without a value": (
        "a.csv", "\n".join([*LINES[:10], "1" + "," * 26]).encode(), ("9 rows with values", "at least 10"),
    ),
    "no header": ("a.csv", "\n".join(LINES[1:]).encode(), ("the first row holds numbers", "add a row")),
    "no header, numbers alone": (
        "a.csv", csv_of(copus_frame().iloc[:, 1:25], header=False), ("the first row holds numbers", "add a row"),
    ),
    "an empty line above the header": ("a.csv", b"\n" + SOUND.encode(), ("first row is empty", "the column names")),
    "a title above the header": (
        "a.csv", b"My classes\n" + SOUND.encode(), ("line 2 has 27 cells and the first line 1", "column names"),
    ),
    "a row too long": ("a.csv", lines_with(7, LINES[6] + ",5,5"), ("line 7 has 29 cells and the first line 27",)),
    "decimal commas between commas": (
        "a.csv", lines_with(3, LINES[2].replace(".", ",")), ("line 3 has", "needs double quotes"),
    ),
    "decimal commas in quotes": ("a.csv", cell_of("12,5"), ("row 5, column 'WG': '12,5'", "decimal comma", "points")),
    "a quotation mark never closed": (
        "a.csv", lines_with(4, LINES[3].replace("Tran", '"Tran').replace("Most", '"Most')),
        ("quotation mark that opens in row 4 is never closed", "close it"),
    ),
    "a quotation mark never closed in the header": ("a.csv", b'"' + SOUND.encode(), ("opens in row 1", "close it")),
    "the header again, further down": ("a.csv", lines_with(12, LINES[0]), ("row 12, column 'L': 'L' is not a number",)),
    "a duplicate name": ("a.csv", renamed(Ind="L"), ("more than one column is named 'L'", "rename all but one")),
    "names that differ in blanks": ("a.csv", renamed(Ind=" L "), ("more than one column is named 'L'", "rename")),
    "names that differ in line breaks": (
        "a.csv", renamed(T_O="a\nb", Bcluster="a b"), ("more than one column is named 'a b'", "rename"),
    ),
    "a code missing": ("a.csv", renamed(ADMIN="ADMlN"), ("no column for the COPUS code ADMIN", "closest: 'ADMlN'")),
    "all codes missing": (
        "a.csv", b"when,what\n" + b"1,2\n" * N, ("codes L, Ind, CG", "there are: 'when', 'what'", "--columns numeric"),
    ),
    "a code twice, in two spellings": ("a.csv", renamed(S_Anq="AnQ", T_O="SAnQ"), ("'AnQ', 'SAnQ' may each be S_Anq",)),
    "one column of 300,000 letters": ("a.csv", b"x" * 300_000 + b"\n1" * N, ("there are: 'xxxx", "xxx…'")),
    "a column without any value": ("a.csv", csv_of(copus_frame().assign(WG=np.nan)), ("'WG' has no value in any row",)),
    "semicolons with points and commas": ("a.csv", european("WG", ["1.5", "2,5"]), ("'2,5'", "decimal comma?")),
    "semicolons, thousands or decimals": ("a.csv", european("WG", ["1,234", "20"]), ("'1,234'", "decimal comma?")),
    "tabs, thousands or decimals": ("a.tsv", european("WG", ["1,234"], delimiter="\t"), ("'1,234'", "points")),
    "text among decimal commas": ("a.csv", european("WG", ["1,5", "2,5", "ill"]), ("row 4, column 'WG': 'ill'",)),
    "pipes between the columns": ("a.csv", csv_of(copus_frame(), sep="|"), ("there are: 'Instructor ID|L|Ind", "…'")),
    "a NUL byte in a cell": ("a.csv", cell_of("1\0"), (NOT_TEXT,)),
    "UTF-16 without a byte order mark": ("a.csv", SOUND.encode("utf-16-le"), (NOT_TEXT,)),
    "UTF-16, cut": ("a.csv", SOUND.encode("utf-16")[:-1], ("cannot be read as .csv", "truncated")),
    "UTF-32": ("a.csv", SOUND.encode("utf-32"), (NOT_TEXT,)),
    "random bytes": ("a.csv", NOISE, ("cannot be read as .csv", NOT_TEXT)),
    "random bytes as .tsv": ("a.tsv", NOISE, ("cannot be read as .tsv", NOT_TEXT)),
    "bytes without NUL": ("a.csv", NOISE.replace(b"\0", b""), ("a.csv: ",)),
    "a picture": ("a.csv", b"\x89PNG\r\n\x1a\n" + NOISE, ("it is a picture", SUFFIX)),
    "a program": ("a.csv", b"\x7fELF\x02\x01\x01\0" + NOISE, (NOT_TEXT,)),
    "a PDF": ("a.csv", b"%PDF-1.7\n" + NOISE, ("it is a PDF", SUFFIX)),
    "a compressed table": ("a.csv", b"\x1f\x8b\x08" + NOISE, ("it is compressed", "unpack it first")),
    "an old .xls named .csv": ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + NOISE, ("old .xls", "save it as .xlsx")),
    "a web page": ("a.csv", b"<!DOCTYPE html>\n<html>\n<body>404</body>\n", ("there are: '<!DOCTYPE html>'",)),
    "JSON": ("a.csv", json.dumps(copus_frame().to_dict("list")).encode(), ("a.csv: ",)),
    "a file name without suffix": ("table", SOUND.encode(), ("cannot tell its format", "ends in .csv")),
    "an old suffix": ("a.xls", SOUND.encode(), ("cannot tell its format", ".xlsx")),
    "a suffix of the compressed": ("a.csv.gz", SOUND.encode(), ("cannot tell its format", ".csv")),
    "150,000 columns": ("a.csv", b"1," * 149_999 + b"1\n", ("150,000 columns, more than 100,000", "leave some out")),
    "10 million columns": ("a.csv", b"c," * 10_000_000 + b"\n", ("line 1 exceeds 16,000,000 bytes",)),
    "a line of 40 megabytes further down": (
        "a.csv", SOUND.encode() + b"5" * 40_000_000, (f"line {N + 2} exceeds", "no table has such lines"),
    ),
    "blank lines below a wide header": (
        "a.csv", b"c," * 50_000 + b"\n" * 2000, ("2,001 rows x 50,001 columns", "nearly all empty"),
    ),
}  # fmt: skip
TEXTS |= {
    f"cell {value!r:.20}": ("a.csv", cell_of(value), (f"row 5, column 'WG': '{shown}' {complaint}", "correct it"))
    for complaint, values in {
        "is not a number": [
            "lots", "60%", "1_000", "1 000", "True", "2020-01-02", "12:30", "1.2.3", "=A1", "#DIV/0!", "−5", "５", "٣",
            "0x1F", "1e", "--5", "🙂", "<5", "~40", "5 min", "O", "4/10", "$5", "5\u200b",
        ],
        "is not finite, or beyond 1e+38": ["inf", "-inf", "Infinity", "2e38", "-1e39", "1e400"],
        "is negative": ["-0.1", "-5", "-1e-30"],
    }.items()
    for value in values
    for shown in [value.replace("\u200b", "\\u200b")]
}  # fmt: skip
TEXTS |= {
    "a cell with a line break": ("a.csv", cell_of("see\nnotes"), ("row 5, column 'WG': 'see notes' is not",)),
    "a cell that clears the terminal": ("a.csv", cell_of("\x1b[2J"), ("row 5, column 'WG': '\\x1b[2J' is not",)),
    "a cell of 300,000 letters": ("a.csv", cell_of("y" * 300_000), ("row 5, column 'WG': 'yyyyy", "is not a number")),
    "a name that clears the terminal": ("a.csv", renamed(L="\x1b[2J"), ("COPUS code L", "\\x1b[2J")),
    "a column that has a line break": (
        "a.csv",
        csv_of(with_cell("WG", 5, "lots").rename(columns={"WG": "Student\nWG"})),
        ("row 5, column 'Student WG': 'lots'",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_bad_text_file_is_refused(tmp_path: Path, case: str) -> None:
    name, content, parts = TEXTS[case]
    (tmp_path / name).write_bytes(content)
    message = assert_refused(tmp_path, "--data_path", tmp_path / name)
    assert str(tmp_path / name) in message
    assert [part for part in parts if part not in message] == []
    assert len(message) < 1000


# --- Workbooks and Parquet -------------------------------------------------------------------------


def xlsx_of(frame: pd.DataFrame | None = None) -> bytes:
    content = io.BytesIO()
    (copus_frame() if frame is None else frame).to_excel(content, index=False, sheet_name="Classes")
    return content.getvalue()


def parquet_of(columns: dict[str, Any], **options: Any) -> bytes:
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), content, **options)
    return content.getvalue()


def archive_of(parts: dict[str, bytes], declared: int | None = None) -> bytes:
    """Returns a zip archive; `declared` is the size that it states for each of its parts."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
        for info in archive.infolist():
            info.file_size = info.file_size if declared is None else declared
    return content.getvalue()


def workbook_with(sheet: bytes, declared: int | None = None) -> bytes:
    """Returns a workbook whose only sheet is this XML."""
    with zipfile.ZipFile(io.BytesIO(xlsx_of(pd.DataFrame({"L": [1]})))) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    return archive_of(parts | {"xl/worksheets/sheet1.xml": sheet}, declared)


def sheet_of(rows: bytes, before: bytes = b"") -> bytes:
    namespace = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    head = b"<?xml version='1.0'?>" + before
    return head + b"<worksheet xmlns='%s'><sheetData>%s</sheetData></worksheet>" % (namespace, rows)


def laughs() -> bytes:
    """Returns a kilobyte of XML that expands to gigabytes."""
    entities = [b"<!ENTITY a0 'ha'>"]
    entities += [b"<!ENTITY a%d '%s'>" % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 11)]
    cell = b"<row r='1'><c r='A1' t='inlineStr'><is><t>&a10;</t></is></c></row>"
    return sheet_of(cell, b"<!DOCTYPE x [%s]>" % b"".join(entities))


def far_cells() -> bytes:
    """Returns two rows of full width, the second at the last row that a sheet can have."""
    row = b"<row r='%d'><c r='A%d'><v>1</v></c><c r='XFD%d'><v>1</v></c></row>"
    return sheet_of(row % (1, 1, 1) + row % (1_048_576, 1_048_576, 1_048_576))


def several_sheets() -> bytes:
    content = io.BytesIO()
    with pd.ExcelWriter(content) as book:
        pd.DataFrame({"About": ["classes"]}).to_excel(book, sheet_name="Cover", index=False)
        copus_frame().drop(columns="PRD").to_excel(book, sheet_name="Data", index=False)
    return content.getvalue()


def one_text_in_each_row() -> bytes:
    """Returns a .parquet file in which 2,000 rows refer to the same megabyte of text."""
    indices = pyarrow.array(np.zeros(2000, np.int32))
    text = pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array(["x" * 1_000_000]))
    return parquet_of({"L": text}, store_schema=False)


def equal_names() -> bytes:
    content = io.BytesIO()
    cells = pyarrow.array([1.0] * N)
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([cells, cells], names=["x", "x"]), content)
    return content.getvalue()


def without_values() -> bytes:
    """Returns a workbook with formulas whose values were never computed."""
    book, content = openpyxl.Workbook(), io.BytesIO()
    sheet = book.active
    sheet.append(list(copus_frame()))
    for row in copus_frame().itertuples(index=False):
        sheet.append(["=1+1" if isinstance(cell, float) else cell for cell in row])
    book.save(content)
    return content.getvalue()


def parquet_with(column: str, values: Any) -> bytes:
    return parquet_of({name: copus_frame()[name].to_numpy() for name in copus_frame()} | {column: values})


DAY = datetime.datetime(2020, 1, 2)
BINARIES: dict[str, tuple[str, Callable[[], bytes], tuple[str, ...]]] = {
    "a workbook without bytes": ("a.xlsx", bytes, ("a.xlsx: ", "cannot be read as .xlsx")),
    "a table named .xlsx": ("a.xlsx", SOUND.encode, ("no .xlsx file", "real suffix")),
    "random bytes named .xlsx": ("a.xlsx", lambda: NOISE, ("no .xlsx file", "real suffix")),
    "an old or protected workbook": (
        "a.xlsx", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + NOISE, ("a password", "save it as .xlsx without"),
    ),
    "a PDF named .xlsx": ("a.xlsx", lambda: b"%PDF-1.7" + NOISE, ("it is a PDF", SUFFIX)),
    "a .parquet named .xlsx": ("a.xlsx", lambda: parquet_of({"L": [1]}), ("it is a .parquet file", SUFFIX)),
    "a workbook named .csv": ("a.csv", xlsx_of, ("it is an .xlsx workbook", SUFFIX)),
    "a workbook named .parquet": ("a.parquet", xlsx_of, ("it is an .xlsx workbook", SUFFIX)),
    "a workbook cut in half": ("a.xlsx", lambda: xlsx_of()[: len(xlsx_of()) // 2], ("cannot be read as .xlsx",)),
    "a workbook's first bytes": ("a.xlsx", lambda: b"PK\x03\x04", ("cannot be read as .xlsx",)),
    "a workbook with a damaged sheet": ("a.xlsx", lambda: workbook_with(b"<worksheet><"), ("cannot be read as .xlsx",)),
    "a zip archive that is no workbook": ("a.xlsx", lambda: archive_of({"a.txt": b"a"}), ("cannot be read as .xlsx",)),
    "a workbook with nothing in it": ("a.xlsx", lambda: xlsx_of(pd.DataFrame()), ("a.xlsx: is empty",)),
    "a workbook with a header alone": ("a.xlsx", lambda: xlsx_of(copus_frame()[:0]), ("a header and no row below it",)),
    "sheets without the columns": ("a.xlsx", several_sheets, ("sheet 'Data': no column for the COPUS code PRD",)),
    "formulas without values": ("a.xlsx", without_values, ("column 'L' has no value in any row", "fill it")),
    "a text in a workbook": ("a.xlsx", lambda: xlsx_of(with_cell("WG", 5, "lots")), ("row 5, column 'WG': 'lots'",)),
    "an error in a workbook": ("a.xlsx", lambda: xlsx_of(with_cell("WG", 5, "#DIV/0!")), ("row 5, column 'WG': '#D",)),
    "a truth value in a workbook": ("a.xlsx", lambda: xlsx_of(with_cell("WG", 5, True)), ("row 5, column 'WG': 'Tr",)),
    "a date in a workbook": ("a.xlsx", lambda: xlsx_of(with_cell("WG", 5, DAY)), ("row 5, column 'WG': '2020-01-02",)),
    "a zip bomb": ("a.xlsx", lambda: workbook_with(sheet_of(b" " * 101_000_000)), ("would unpack to 101,", "anew")),
    "a zip bomb that hides its size": (
        "a.xlsx", lambda: workbook_with(sheet_of(b" " * 20_000_000), declared=1000), ("cannot be read as .xlsx",),
    ),
    "a billion laughs": ("a.xlsx", lambda: workbook_with(laughs()), ("cannot be read as .xlsx",)),
    "a row at a trillion": ("a.xlsx", lambda: workbook_with(sheet_of(b"<row r='999999999999'/>")), ("beyond 1,048",)),
    "cells at the far corner": ("a.xlsx", lambda: workbook_with(far_cells()), ("1,048,576 rows x 16,384 columns",)),
    "a .parquet without bytes": ("a.parquet", bytes, ("a.parquet: ", "cannot be read as .parquet")),
    "a table named .parquet": ("a.parquet", SOUND.encode, ("no .parquet file", "real suffix")),
    "random bytes named .parquet": ("a.parquet", lambda: NOISE, ("no .parquet file", "real suffix")),
    "a .parquet named .csv": ("a.csv", lambda: parquet_of({"L": [1]}), ("it is a .parquet file", SUFFIX)),
    "a .parquet cut short": ("a.parquet", lambda: parquet_of({"L": [1]})[:-9], ("cannot be read as .parquet",)),
    "a .parquet's first bytes": ("a.parquet", lambda: b"PAR1", ("cannot be read as .parquet",)),
    "a .parquet with a damaged end": (
        "a.parquet", lambda: b"PAR1" + NOISE + struct.pack("<I", 4000) + b"PAR1", ("cannot be read as .parquet",),
    ),
    "a .parquet without columns": ("a.parquet", lambda: parquet_of({}), ("a.parquet: is empty",)),
    "a .parquet without rows": ("a.parquet", lambda: parquet_of({"L": []}), ("a.parquet: ",)),
    "a .parquet with equal names": ("a.parquet", equal_names, ("more than one column is named 'x'", "rename")),
    "lists in a .parquet": ("a.parquet", lambda: parquet_of({"x": [[1.0]] * N}), ("column 'x' holds lists or",)),
    "records in a .parquet": ("a.parquet", lambda: parquet_of({"x": [{"y": 1}] * N}), ("column 'x' holds lists or",)),
    "truth values in a .parquet": ("a.parquet", lambda: parquet_with("WG", [True] * N), ("row 2, column 'WG': 'Tr",)),
    "days in a .parquet": ("a.parquet", lambda: parquet_with("WG", [DAY] * N), ("row 2, column 'WG': '2020-01-02",)),
    "infinity in a .parquet": ("a.parquet", lambda: parquet_with("WG", [np.inf] * N), ("row 2, column 'WG': 'inf'",)),
    "text in a .parquet": ("a.parquet", lambda: parquet_with("WG", ["lots"] * N), ("row 2, column 'WG': 'lots'",)),
    "11 million rows in a few bytes": (
        "a.parquet", lambda: parquet_of({"L": np.zeros(11_000_000, np.int8)}, compression="zstd"),
        ("11,000,000 rows x 1 columns", "nearly all empty or alike"),
    ),
    "a megabyte of text in each row": ("a.parquet", one_text_in_each_row, ("texts have 2,000,000,000 bytes",)),
}  # fmt: skip


@pytest.mark.parametrize("case", BINARIES)
def test_bad_binary_file_is_refused(tmp_path: Path, case: str) -> None:
    name, content, parts = BINARIES[case]
    (tmp_path / name).write_bytes(content())
    message = assert_refused(tmp_path, "--data_path", tmp_path / name)
    assert str(tmp_path / name) in message
    assert [part for part in parts if part not in message] == []
    assert len(message) < 1000


# --- Pipes, links, and files that are too large ----------------------------------------------


@pytest.mark.skipif(ON_WINDOWS, reason="no pipes among the files there")
def test_a_pipe_and_a_device_are_refused_without_reading(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("pipe.csv", "zero.csv"):
        message = assert_refused(tmp_path / f"for {name}", "--data_path", tmp_path / name)
        assert message == f"--data_path '{tmp_path / name}' is a pipe or a device; save the table to a file"
        with pytest.raises(DataError, match="is a pipe or a device"):
            read_table(tmp_path / name)


@pytest.mark.skipif(ON_WINDOWS, reason="links need rights there")
def test_a_link_to_nothing_or_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nothing.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for name in ("gone.csv", "loop.csv"):
        message = assert_refused(tmp_path / f"for {name}", "--data_path", tmp_path / name)
        assert message == f"--data_path '{tmp_path / name}': there is no such file"


def test_a_line_of_a_gigabyte_takes_neither_long_nor_much_memory(tmp_path: Path) -> None:
    with open(tmp_path / "a.csv", "wb") as file:
        file.write(SOUND.encode())
        file.truncate(2**30)  # sparse, so it takes no space on the disk
    tracemalloc.start()
    message = assert_refused(tmp_path, "--data_path", tmp_path / "a.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"line {N + 2} exceeds 16,000,000 bytes" in message
    assert peak < 100_000_000


@pytest.mark.parametrize(
    ("limit", "value", "name", "part"),
    [
        ("MAX_BYTES", 1000, "a.csv", "exceeds 1,000 bytes; leave out"),
        ("MAX_BYTES", 1000, "a.parquet", "exceeds 1,000 bytes; leave out"),
        ("MAX_BYTES", 12_000, "a.xlsx", "would unpack to"),
        ("MAX_COLUMNS", 26, "a.csv", "27 columns, more than 26"),
        ("MAX_COLUMNS", 26, "a.xlsx", "27 columns, more than 26"),
        ("MAX_COLUMNS", 26, "a.parquet", "27 columns, more than 26"),
        ("MAX_CELLS", 500, "a.csv", "22 rows x 27 columns, more than 500 cells"),
        ("MAX_CELLS", 500, "a.xlsx", "19 rows x 27 columns, more than 500 cells"),
        ("MAX_CELLS", 500, "a.parquet", "20 rows x 27 columns, more than 500 cells"),
        ("MAX_CELLS", 560, "a.xlsx", "its texts have"),
        ("EXCEL_ROWS", 15, "a.xlsx", "has rows beyond 15"),
    ],
)
def test_a_table_beyond_each_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, name: str, part: str
) -> None:
    frame = copus_frame().assign(Bcluster="x" * 60) if value == 560 else copus_frame()
    write(frame, tmp_path / name)
    monkeypatch.setattr(excel if limit == "EXCEL_ROWS" else limits, limit, value)
    assert part in assert_refused(tmp_path, "--data_path", tmp_path / name)


def test_a_table_that_memory_does_not_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(delimited, "_parse", fail)
    path = write(copus_frame(), tmp_path / "a.csv")
    message = assert_refused(tmp_path, "--data_path", path)
    assert message == f"{path}: does not fit into memory; leave out rows or columns"


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(copus_frame(), tmp_path / "a.csv")
    with monkeypatch.context() as denied:  # root may read everything
        denied.setattr(os, "access", lambda name, mode: str(name) != str(path))
        message = assert_refused(tmp_path / "at once", "--data_path", path)
    assert message == f"--data_path '{path}' cannot be read; change its permissions"

    def refuse(self: Path, *arguments: Any, **more: Any) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return open_(self, *arguments, **more)

    open_ = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    message = assert_refused(tmp_path / "late", "--data_path", path)
    assert message == f"{path}: cannot be read: Permission denied"


def test_a_file_that_vanishes_before_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, open_ = tmp_path / "a.csv", Path.open
    choose_device = engine_choice.choose_device

    def vanish(name: str) -> object:
        path.unlink(missing_ok=True)
        return choose_device(name)

    def vanish_late(self: Path, *arguments: Any) -> object:
        self.unlink()
        return open_(self, *arguments)

    path.write_text(SOUND)
    with monkeypatch.context() as vanishing:
        vanishing.setattr(engine_choice, "choose_device", vanish)
        done = run(tmp_path / "new", *TINY, "--data_path", path)
    assert assert_one_line(done, 2) == f"error: {path}: no such file"
    path.write_text(SOUND)
    monkeypatch.setattr(Path, "open", vanish_late)
    done = run(tmp_path / "new", *TINY, "--data_path", path)
    assert assert_one_line(done, 2) == f"error: {path}: cannot be read: No such file or directory"
    assert not (tmp_path / "new").exists()
