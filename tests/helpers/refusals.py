"""Running the command on input that it must refuse, and tables that are valid except for one fault."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from commands import TINY, assert_one_line, run
from made_tables import N, copus_frame, with_cell

ON_WINDOWS = sys.platform == "win32"
SOUND = copus_frame().to_csv(index=False)
LINES = SOUND.splitlines()


def assert_refused(folder: Path, *arguments: object) -> str:
    """Runs the command into a new folder and into one in use, checks that it refuses, and returns its error message.

    Neither folder may be made or changed, and the exit status is 2.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = run(folder / "new", *TINY, *arguments)
        used = folder / "used"
        used.mkdir(parents=True)
        old = {"hyperparam_results_latent3.json": b'{"mine": 1}', "notes.txt": b"mine"}
        for name, content in old.items():
            (used / name).write_bytes(content)
        again = run(used, *TINY, *arguments)
    assert not caught
    message = assert_one_line(done, 2)
    assert not (folder / "new").exists()
    assert (again.status, again.err) == (2, done.err)
    assert {path.name: path.read_bytes() for path in used.iterdir()} == old
    assert "Traceback" not in done.err + done.out
    assert message.startswith("error: ")
    assert message.isprintable()
    return message.removeprefix("error: ")


def csv_of(frame: pd.DataFrame, **options: Any) -> bytes:
    """Returns the table as the bytes of a .csv file."""
    return str(frame.to_csv(index=False, **options)).encode()


def cell_of(value: Any, column: str = "WG") -> bytes:
    """Returns a .csv file that is valid except for one cell in row 5."""
    return csv_of(with_cell(column, 5, value))


def renamed(**names: str) -> bytes:
    """Returns a .csv file with some of its columns renamed."""
    return csv_of(copus_frame().rename(columns=names))


def lines_with(number: int, line: str) -> bytes:
    """Returns a .csv file with one line replaced; lines are counted from 1."""
    return "\n".join([*LINES[: number - 1], line, *LINES[number:]]).encode()


def european(column: str, values: list[str], *, delimiter: str = ";") -> bytes:
    """Returns a .csv file whose numbers are whole, except for this column, which repeats these texts."""
    frame = copus_frame().round(0).astype(dict.fromkeys(copus_frame().columns[1:26], int)).astype({column: object})
    frame[column] = (values * N)[:N]
    return csv_of(frame, sep=delimiter)
