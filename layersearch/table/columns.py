"""Chooses the feature columns of a table by the names a user gives, however the file spells them.

    choice = choose_sheet(path, read_table(path), "copus", {"--label_column": "Cluster"})
    choice.frame[list(choice.sources.values())]       # the feature columns

`COPUSDataset` (dataset.py) chooses among whole tables; `--encode` finds a model's columns with `choose_copus` and
`find_column`.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from layersearch.table.checks import to_numbers
from layersearch.table.copus import COPUS_CODES, PROFILE_COLUMN, code_of, flat, words_of
from layersearch.table.formats import Sheet, Table, with_header
from layersearch.table.limits import DataError
from layersearch.words import one_line, quoted_list, shortened

LABEL_COLUMNS = (PROFILE_COLUMN, "Bcluster")  # searched for in this order
OTHER_COLUMNS = "rename columns, or choose with --columns numeric or --columns NAME,NAME,…"


def choose_copus(names: Collection[str], where: str, remedy: str = OTHER_COLUMNS) -> dict[str, str]:
    """Returns the column of the file for each of the 24 codes.

    Raises:
        DataError: A code has no column (the message ends in `remedy`) or several. `where` names the file.
    """
    found: dict[str, list[str]] = {code: [code] if code in names else [] for code in COPUS_CODES}
    for name in names:
        code = code_of(name)
        if code in found and found[code] != [code]:
            found[code].append(name)
    for code, same in found.items():
        if len(same) > 1:
            raise DataError(f"{where}: {quoted_list(same)} may each be {code}; rename the one that is to {code}")
    if missing := [code for code, same in found.items() if not same]:
        raise DataError(
            f"{where}: no column for the COPUS code{'s' * (len(missing) > 1)} {', '.join(missing)}"
            f" ({closest(missing, names)}); {remedy}"
        )
    return {code: same[0] for code, same in found.items()}


def _choose_numeric(frame: pd.DataFrame, where: str, roles: Collection[str], notices: list[str]) -> dict[str, str]:
    """Returns the columns that hold only numbers, without roles, labels, identifiers and empty columns."""
    not_numbers, not_measured, chosen = [], [], []
    for name in frame.columns:
        cells = frame[name]
        wrong = np.isnan(to_numbers(cells)) & cells.notna().to_numpy()
        if wrong.any():
            first = int(wrong.argmax())
            not_numbers.append(f"'{name}' (row {cells.index[first]}: {one_line(cells.iloc[first]):.20})")
        elif name in (*roles, *LABEL_COLUMNS) or _is_identifier(name) or cells.isna().all():
            not_measured.append(name)
        else:
            chosen.append(name)
    if not chosen:
        raise DataError(f"{where}: no column holds numbers alone; choose with --columns NAME,NAME,…")
    if not_numbers:
        notices.append(f"not used as features, since not all cells are numbers: {quoted_list(not_numbers, quote='')}")
    if not_measured:
        notices.append(f"not used as features (label, identifier, index or empty): {quoted_list(not_measured)}")
    return {name: name for name in chosen}


def _is_identifier(name: str) -> bool:
    return is_id(name) or name.startswith(("Unnamed: ", "__index_level_")) or words_of(name)[-1:] == ["index"]


def is_id(name: str) -> bool:
    """Returns whether a column holds IDs: 'Instructor ID', 'instructor_id' or 'InstructorID', but not 'grid'."""
    return words_of(re.sub("(?<=[a-z])(?=[A-Z])", " ", name))[-1:] == ["id"]


def _choose_listed(frame: pd.DataFrame, where: str, columns: str, notices: list[str]) -> dict[str, str]:
    """Returns the columns named, in that order; an exact match is preferred to another spelling. Raises DataError."""
    # Names with a comma may be quoted. Line breaks become blanks, as `with_header` makes them in the file's names.
    shown = shortened(columns, 80)
    try:
        cells = next(csv.reader([one_line(columns)], skipinitialspace=True), [])
    except csv.Error as error:
        raise DataError(f"--columns '{shown}': {error}; give names, comma-separated") from None
    wanted = [name.strip() for name in cells if name.strip()]
    if not wanted:
        raise DataError(f"--columns '{shown}': names no column; give copus, numeric, or column names")
    chosen: dict[str, str] = {}
    for name in wanted:
        column = find_column(name, frame.columns, f"{where}: --columns", "; write the name in full")
        if column in chosen:
            raise DataError(f"--columns '{shown}': names the column '{column}' twice; leave one out")
        chosen[column] = name
    tell_respelled({name: column for column, name in chosen.items()}, notices)
    return {name: name for name in chosen}


def find_column(name: str, names: Collection[str], where: str, remedy: str, lack: str = "") -> str:
    """Returns the one among `names` that equals `name`, or else the only one that is another spelling of it.

    Raises:
        DataError: There are several (the message ends in `remedy`) or none (it ends in `lack`).
    """
    same = [name] if name in names else [other for other in names if _is_same_column(name, other)]
    if len(same) > 1:
        raise DataError(f"{where}: '{name}' may be {quoted_list(same)}{remedy}")
    if not same:
        raise DataError(f"{where}: no column '{name}' ({closest([name], names)}){lack}")
    return same[0]


def tell_respelled(sources: Mapping[str, str], notices: list[str]) -> None:
    """Adds a notice about names that the file spells differently; `sources` maps each name to the file's column."""
    if respelled := [f"'{column}' for {name}" for name, column in sources.items() if column != name]:
        notices.append(f"columns found under another spelling: {quoted_list(respelled, quote='')}")


def _is_same_column(name: str, other: str) -> bool:
    return flat(name) == flat(other) or (code_of(name) is not None and code_of(name) == code_of(other))


class Choice(NamedTuple):
    """A sheet and the columns chosen in it."""

    frame: pd.DataFrame
    sources: dict[str, str]  # from the name of each feature to the column of the file
    label: str | None  # the column by which pictures are coloured
    where: str  # the name of the sheet in messages
    notices: list[str]


def choose_sheet(path: Path, table: Table, columns: str, roles: Mapping[str, str]) -> Choice:
    """Returns the first sheet that holds the columns.

    Args:
        path: The file, for messages.
        table: The file as read.
        columns: "copus", "numeric" or comma-separated names, as for `COPUSDataset`.
        roles: The column that each flag (such as --label_column) names; such a column cannot be a feature.

    Raises:
        DataError: No sheet holds them; the message says what is wrong with the largest sheet.
    """
    errors: dict[str, DataError] = {}
    for name, sheet in table.sheets.items():
        try:
            where = f"{path}, sheet '{name}'" if len(table.sheets) > 1 else str(path)
            choice = _choose_in(sheet, where, columns, roles)
        except DataError as error:
            errors[name] = error
            continue
        if len(table.sheets) > 1:
            choice.notices.append(f"read from sheet '{name}', the first of {len(table.sheets)} to hold the columns")
        return choice
    raise errors[max(errors, key=lambda name: table.sheets[name].rows.size)]


def _choose_in(sheet: Sheet, where: str, columns: str, roles: Mapping[str, str]) -> Choice:
    frame = with_header(sheet, where)
    for flag, name in roles.items():
        if name not in frame.columns:
            raise DataError(f"{where}: {flag}: no column '{name}' ({closest([name], frame.columns)})")
    notices: list[str] = []
    if columns == "copus":
        sources = choose_copus(frame.columns, where)
    elif columns == "numeric":
        sources = _choose_numeric(frame, where, roles.values(), notices)
    else:
        sources = _choose_listed(frame, where, columns, notices)
    for flag, name in roles.items():
        if name in sources.values():
            raise DataError(f"{where}: '{name}' is both {flag} and a feature; take it out of one of them")
    tell_renamed(sources, notices)
    found = next((name for name in LABEL_COLUMNS if name in frame.columns and name not in sources.values()), None)
    return Choice(frame, sources, roles.get("--label_column", found), where, notices)


def tell_renamed(sources: Mapping[str, str], notices: list[str]) -> None:
    """Adds a notice about columns that were read as COPUS codes; `sources` maps each code to the file's column."""
    if renamed := [f"'{source}' as {name}" for name, source in sources.items() if name != source]:
        notices.append(f"columns read as COPUS codes: {quoted_list(renamed, limit=24, quote='')}")


def closest(wanted: Iterable[str], present: Iterable[str]) -> str:
    """Returns, for a message, the names present that resemble those wanted; if none does, the first names present."""
    folded = {name.casefold(): name for name in present}
    near = [folded[m] for name in wanted for m in difflib.get_close_matches(name.casefold(), folded, n=1)]
    return f"closest: {quoted_list(dict.fromkeys(near))}" if near else f"there are: {quoted_list(folded.values())}"
