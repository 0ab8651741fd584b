"""A table read piece by piece has the cells, notices and errors of the whole table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from layersearch.table import limits
from layersearch.table.formats import DataError, open_table, read_table

ROWS = [f"{n};{n}{',5' if n > 7 else ''};é {n}" for n in range(20)]
TEXTS: dict[str, bytes] = {
    "decimal commas after the first piece": "\n".join(["a;b;c", *ROWS]).encode(),
    "no decimal commas, since another has a point": "\n".join(["a;b;c", *ROWS, "1.5;2,5;x"]).encode(),
    "thousands, perhaps": b"a;b\n" + b"1,250;2\n" * 9,
    "characters of two bytes": ("a,b\n" + "ééééééé,é\n" * 20).encode(),
    "UTF-16": "\n".join(["a;b;c", *ROWS]).encode("utf-16"),
    "Windows-1252 at the end": b"a,b\n" + b"1,x\n" * 9 + "2,é\n".encode("cp1252"),
    "a byte order mark and Windows line ends": b"\xef\xbb\xbf" + b"a,b\r\n" + b"1,\r\n" * 9,
    "old Macintosh line ends": b"a,b\r" + b"1,2\r" * 9,
    "blank lines within and after": b"a,b\n1,2\n\n3,4\n" + b"\n" * 9,
    "line breaks and commas in quotes": b'a,b\n"1\n2","3,4"\n' * 5,
    "rows too short": b"a,b,c\n1,2,3\n1\n1,2\n4,5,6\n",
    "tabs": b"a\tb\n" + b"1\t2\n" * 9,
    "a single row": b"a,b\n1,2\n",
    "a header alone": b"a,b\n",
}


def whole(path: Path) -> tuple[list[object], pd.DataFrame, list[str]]:
    table = read_table(path)
    return table.sheets[""].header, table.sheets[""].rows, table.notices


def in_pieces(path: Path, size: int) -> tuple[list[object], pd.DataFrame, list[str]]:
    notices: list[str] = []
    with open_table(path, size, notices) as sheets:
        header, pieces = sheets[""]
        parts = list(pieces)
    assert all(0 < len(part) <= size for part in parts)
    return header, pd.concat(parts) if parts else pd.DataFrame(columns=range(len(header))), notices


@pytest.mark.parametrize("case", TEXTS)
def test_texts_have_the_cells_of_the_whole(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TEXTS[case])
    expected = whole(path)
    for block in (60, 61, 62, 63, 16_000_000):  # bytes surveyed at a time: characters are cut in two
        monkeypatch.setattr(limits, "MAX_LINE", block)
        for size in (1, 2, 7, 100):
            header, rows, notices = in_pieces(path, size)
            assert (header, notices) == (expected[0], expected[2])
            assert rows.shape == expected[1].shape
            same = (rows.to_numpy() == expected[1].to_numpy()) | (rows.isna() & expected[1].isna()).to_numpy()
            assert same.all()


def test_parquet_has_the_cells_of_the_whole_across_row_groups(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(20) / 3, "b": [f"t{n % 3}" for n in range(20)], "c": np.arange(20)})
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame), tmp_path / "a.parquet", row_group_size=6)
    header, rows, _ = in_pieces(tmp_path / "a.parquet", 4)
    assert header == ["a", "b", "c"]
    assert (rows.to_numpy() == frame.to_numpy()).all()


BROKEN: dict[str, tuple[str, bytes]] = {
    "empty": ("a.csv", b""),
    "blank": ("a.csv", b" \n\n"),
    "an empty first row": ("a.csv", b"\n1,2\n"),
    "a row too long in a later piece": ("a.csv", b"a,b\n" + b"1,2\n" * 9 + b"1,2,3\n"),
    "a quotation mark never closed": ("a.csv", b"a,b\n" + b"1,2\n" * 9 + b'1,"2\n' + b"1,2\n" * 9),
    "NUL bytes": ("a.csv", b"a,b\n1,\0\n"),
    "a zip": ("a.csv", b"PK\x03\x04aaaa"),
    "no Parquet": ("a.parquet", b"a,b\n1,2\n"),
    "a damaged Parquet": ("a.parquet", b"PAR1" + b"x" * 100),
    "no .xlsx": ("a.xlsx", b"a,b\n1,2\n"),
    "an unknown suffix": ("a.xls", b"a"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_told_in_the_words_of_the_whole(case: str, tmp_path: Path) -> None:
    name, content = BROKEN[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as expected:
        read_table(path)
    with pytest.raises(DataError) as found:
        in_pieces(path, 2)
    assert str(found.value) == str(expected.value)


def test_lines_without_end_and_texts_that_repeat_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LINE", 1000)
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n" * 300 + b"x" * 3000)
    with pytest.raises(DataError, match=r"line \d+ exceeds 1,000 bytes"):
        in_pieces(tmp_path / "a.csv", 10)
    pd.DataFrame({"a": ["x" * 1000] * 50}).to_parquet(tmp_path / "a.parquet")
    monkeypatch.setattr(limits, "MAX_CELLS", 20_000)
    with pytest.raises(DataError, match="texts have"):
        in_pieces(tmp_path / "a.parquet", 10)
