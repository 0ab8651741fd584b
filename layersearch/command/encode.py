"""The command `--encode`, which encodes another table with a saved model or ensemble.

    encode("new.csv", "output/best_model_latent3.pth", "encoded", console, interruption)

The table is read, encoded and written piece by piece, so it may have any number of rows; `latent/codes.py` computes
the numbers. This module imports torch and pandas, so `hyperparam_optimizer.py` imports it only for this command.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas.api import types

from dataset import DataError
from layersearch.command.interruption import Interruption
from layersearch.console import Console
from layersearch.errors import Interrupted, UsageError
from layersearch.files import HeldError, exclusive, publishing, replacing
from layersearch.latent.codes import MARKS, Saved, Tally, encode_values, percentiles_among, share_beyond
from layersearch.latent.ensemble import load_ensemble
from layersearch.report.tables import CSV_FORM, beside, code_columns
from layersearch.table.checks import check_cells
from layersearch.table.columns import choose_copus, find_column, tell_renamed, tell_respelled
from layersearch.table.formats import names_of, numbered, open_table
from layersearch.words import count
from models import load_best

ROWS_AT_A_TIME = 2**14  # rows that are read, encoded and written at a time
SPEAK_SECONDS = 10.0  # time between two lines of progress
MODEL = re.compile(r"(best_model|ensemble)_latent([1-9]\d*)\.pth")


def encode(table: str, model: str, output_dir: str, console: Console, interruption: Interruption) -> None:
    """Encodes a table with a saved model and writes `encoded_TABLE.csv`, completely or not at all.

    Raises:
        UsageError: The model, the table or the folder cannot be used.
        Interrupted: The user asked to stop.
    """
    path = Path(table)
    saved = load_saved(Path(model))
    tally, notices = Tally(len(saved.columns)), list[str]()
    try:
        with closing(encoded_frames(path, saved, notices, tally)) as frames:
            first = next(frames)  # raises for a table that does not fit, before any file is created
            name = f"encoded_{path.stem}.csv"  # never the name of the table itself
            folder = _make_folder(output_dir, name)
            interruption.is_deferred = True
            _write(chain([first], frames), folder / name, tally, console, interruption)
    except DataError as error:
        raise UsageError(str(error)) from None
    _announce(path, saved, tally, notices, console)
    console.summarize(f"{_summary(saved, tally)}\nEncoded table: {folder / name}")


def load_saved(path: Path) -> Saved:
    """Loads a model or ensemble, together with its description in the results file of the same folder.

    Raises:
        UsageError: The file or the results are missing, damaged, or from different searches.
    """
    flag = f"--model {str(path)!r}"
    found = MODEL.fullmatch(path.name)
    if not found:
        raise UsageError(
            f"{flag}: its name does not tell which search it is of; call it best_model_latentN.pth or"
            " ensemble_latentN.pth again, as it was"
        )
    results = path.with_name(f"hyperparam_results_latent{found[2]}.json")
    if not results.exists():
        raise UsageError(f"{flag}: {results.name} is not beside it, which says how to use it; keep the two together")
    try:
        saved = load_ensemble(path) if found[1] == "ensemble" else load_best(path.parent, int(found[2]))
    except (OSError, ValueError) as error:
        raise UsageError(f"{flag}: {' '.join(str(error).split()).removeprefix(f'{path}: ')}") from None
    if saved.training_errors is None or saved.test_errors is None:
        raise UsageError(
            f"{flag}: {results.name} is of an earlier version of this program and lacks the errors of its rows;"
            " run the search again with --save_models"
        )
    return saved


def _make_folder(name: str, file: str) -> Path:
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"--output_dir {name!r} cannot be made ({error}); give another folder") from None
    if (folder / file).is_dir():
        raise UsageError(f"--output_dir {name!r}: {folder / file} is a folder; move it, or give another")
    return folder


def _write(
    frames: Iterable[pd.DataFrame], path: Path, tally: Tally, console: Console, interruption: Interruption
) -> None:
    """Writes all pieces into one file. If this fails or is interrupted, no file is created."""
    folder = path.parent
    spoken = time.monotonic()
    try:
        with (
            exclusive(folder),
            publishing(folder) as drafts,
            replacing(drafts / path.name) as temporary,
            open(temporary, "wb") as file,
        ):
            for frame in frames:
                if interruption.is_requested():
                    raise Interrupted
                frame.to_csv(file, header=not file.tell(), **CSV_FORM)
                if time.monotonic() - spoken > SPEAK_SECONDS:
                    console.say(f"  {tally.n_rows:,} rows")
                    spoken = time.monotonic()
    except HeldError as error:
        raise UsageError(f"--output_dir {str(folder)!r}: {error}") from None


# --- Reading and encoding the table ----------------------------------------------------------------


def encoded_frames(path: Path, saved: Saved, notices: list[str], tally: Tally) -> Generator[pd.DataFrame]:
    """Yields the rows of `encoded_TABLE.csv` piece by piece, and updates `tally` and `notices` along with them.

    Raises:
        DataError: The table cannot be read or does not fit the model.
    """
    assert saved.training_errors is not None
    with open_fitting(path, saved, notices) as table:
        for rows in table.pieces:
            piece = numbered(rows, table.names, 2 + tally.n_rows)
            values = table.values(piece, percentages=saved.is_copus)
            encoded = encode_values(saved, values, tally.n_rows)
            percentiles = percentiles_among(encoded.errors, saved.training_errors)
            row_numbers = piece.index.to_numpy()
            tally.add(values, percentiles, row_numbers, saved.scaling)
            own = code_columns(
                row_numbers,
                encoded.codes,
                reconstruction_error=encoded.errors,
                error_percentile=percentiles,
                **encoded.more,
            )
            yield beside(own, _times_as_text(piece.drop(columns=list(table.sources.values()))))


def _times_as_text(others: pd.DataFrame) -> pd.DataFrame:
    """Converts columns of times to text, because the format pandas writes would depend on the piece."""
    others = others.copy(deep=False)
    for name, cells in others.items():
        if types.is_datetime64_any_dtype(cells) or types.is_timedelta64_dtype(cells):
            others[name] = cells.astype(object).map(str, na_action="ignore")
    return others


class FittingSheet(NamedTuple):
    """A sheet that contains all columns of a model."""

    names: list[str]
    sources: dict[str, str]  # the model's column -> the sheet's column
    pieces: Iterator[pd.DataFrame]
    where: str  # for messages

    def values(self, piece: pd.DataFrame, *, percentages: bool) -> np.ndarray:
        """Returns the raw values [N, F] of the model's columns. Raises DataError if a cell is not a number."""
        columns = [check_cells(piece[name], self.where, percentages=percentages) for name in self.sources.values()]
        return np.stack(columns, axis=1)


@contextmanager
def open_fitting(path: Path, saved: Saved, notices: list[str]) -> Iterator[FittingSheet]:
    """Opens the first sheet that contains all columns of the model.

    Raises:
        DataError: No sheet contains them; the message is about the first sheet.
    """
    with open_table(path, ROWS_AT_A_TIME, notices) as sheets:
        faults: list[DataError] = []
        for name, sheet in sheets.items():
            where = f"{path}, sheet '{name}'" if len(sheets) > 1 else str(path)
            try:
                names = names_of(sheet.header, where)
                sources = find_columns(names, where, saved, notices)
            except DataError as error:
                faults.append(error)
                continue
            if len(sheets) > 1:
                notices.append(f"read from sheet '{name}', the first of {len(sheets)} to hold the columns")
            yield FittingSheet(names, sources, _not_empty(sheet.pieces, where), where)
            return
        raise faults[0]


def _not_empty(pieces: Iterator[pd.DataFrame], where: str) -> Iterator[pd.DataFrame]:
    is_empty = True
    for piece in pieces:
        if len(piece):
            is_empty = False
            yield piece
    if is_empty:
        raise DataError(f"{where}: there is a header and no row below it")


def find_columns(names: Sequence[str], where: str, saved: Saved, notices: list[str]) -> dict[str, str]:
    """Returns the table's column for each column of the model; exact names take precedence over other spellings.

    Raises:
        DataError: A column is missing, or a column of the table matches two columns of the model.
    """
    lack = "rename columns: the model needs all of its own"
    if saved.is_copus:
        sources = choose_copus(names, where, lack)
        tell_renamed(sources, notices)
        return sources
    remedy = "; rename the right one to the model's name"
    sources = {name: find_column(name, names, where, remedy, f"; {lack}") for name in saved.columns}
    taken: dict[str, str] = {}
    for name, column in sources.items():
        if other := taken.get(column):
            raise DataError(f"{where}: '{column}' may be '{other}' and '{name}' of the model; rename it to one of them")
        taken[column] = name
    tell_respelled(sources, notices)
    return sources


# --- Messages to the user --------------------------------------------------------------------------


def _summary(saved: Saved, tally: Tally) -> str:
    """Returns a line on how many rows the model reconstructs worse than most training rows.

    The line also gives the share of the search's test rows: the model was not trained on these, so they are the fair
    comparison for new rows.
    """
    assert saved.training_errors is not None
    assert saved.test_errors is not None
    known = max(tally.n_rows - tally.n_empty, 1)
    of_test = percentiles_among(saved.test_errors, saved.training_errors)
    shares = [
        f"than {mark} %: {100 * tally.beyond[mark] / known:.1f} % ({tally.beyond[mark]:,}; of the search's test rows "
        f"{100 * share_beyond(mark, of_test, saved.n_test):.1f} %)"
        for mark in MARKS
    ]
    return f"Rows that are reconstructed worse than most training rows: {', '.join(shares)}"


def _announce(path: Path, saved: Saved, tally: Tally, notices: Sequence[str], console: Console) -> None:
    """Prints the size of the table, after all notices about it."""
    for notice in notices:
        console.notice(notice)
    if tally.n_empty:
        shown = ", ".join(map(str, tally.empty_rows)) + (" …" if tally.n_empty > len(tally.empty_rows) else "")
        console.notice(
            f"no code and no error, since no feature has a value there: row {shown} ({tally.n_empty:,} in all)"
        )
    if tally.n_missing:
        console.notice(f"{count(tally.n_missing, 'missing cell')}: these count in no error, and enter the model as 0")
    if tally.n_clipped:
        share = tally.n_clipped / (tally.n_rows * tally.n_columns)
        console.notice(
            f"{count(tally.n_clipped, 'cell')} ({100 * share:.1f} %) beyond the 1st to 99th percentile of the"
            " training rows, and clipped to it as there"
        )
    if misfit := _unit_misfit(saved, tally.highest):
        console.warn(f"{path.name}: {misfit}")
    console.say(f"Table: {count(tally.n_rows, 'row')} x {count(tally.n_columns, 'column')} from {path.name}")


def _unit_misfit(saved: Saved, highest: float) -> str | None:
    """Returns advice if the table has fractions and the model was trained on percentages, or vice versa, else None."""
    trained = float(saved.scaling.high.max())
    if not saved.is_copus or saved.scaling.kind == "none" or not highest > 0:
        return None
    if highest <= 1 < trained:
        return f"no value exceeds {highest:g}, but the model was trained on percentages: MULTIPLY ALL CELLS BY 100"
    if trained <= 1 < highest:
        return f"values go up to {highest:g}, but the model was trained on fractions of 1: DIVIDE ALL CELLS BY 100"
    return None
