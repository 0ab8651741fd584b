"""`--encode`: what a saved model makes of another table; nothing is trained.

    status = encode(arguments, console, interruption)       # the whole command

    encoded = encode_values(load_best("output", latent_dim=3), values)
    encoded.codes, encoded.errors                           # [N, L], [N]

The table is read, encoded and written piece by piece (`pieces.py`), so it may have any number of rows. The bits of a
row's numbers do not depend on the pieces: a matrix product's may depend on how many rows it has, so that all have
`BLOCK` rows.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from layersearch.console import Console
from layersearch.errors import UsageError
from layersearch.words import count

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from dataset import Scaling
    from layersearch.command.interruption import Interruption

ROWS_AT_A_TIME = 2**14  # read, encoded and written
BLOCK = 2**12  # rows pushed through a model at a time
N_QUANTILES = 1001  # of the training rows' errors: 0, 0.1, ... 100 %
MARKS = (95, 99)  # percentiles of the training rows' errors beyond which rows are counted
SPEAK_SECONDS = 10.0  # between two lines of progress
MODEL = re.compile(r"(best_model|ensemble)_latent([1-9]\d*)\.pth")


class Encoded(NamedTuple):
    """What a model makes of N rows; NaN for a row without a value."""

    codes: np.ndarray  # [N, L] float32 latent coordinates
    errors: np.ndarray  # [N] float32 mean squared error over the observed cells, in scaled units
    more: dict[str, np.ndarray]  # further columns [N], by name


class Saved(Protocol):
    """What can encode: a single model (`models.SavedModel`) or an ensemble."""

    @property
    def columns(self) -> list[str]:
        """F names."""

    @property
    def scaling(self) -> Scaling:
        """From the table's units to the model's."""

    @property
    def is_copus(self) -> bool:
        """Whether the columns are COPUS codes."""

    @property
    def training_errors(self) -> np.ndarray | None:
        """`error_quantiles` of the training rows."""

    @property
    def test_errors(self) -> np.ndarray | None:
        """The same of the test rows."""

    @property
    def n_test(self) -> int:
        """How many test rows there are."""

    def encode_rows(self, scaled: Tensor) -> dict[str, Tensor]:
        """Of scaled rows [B, F] (NaN = missing): "codes" [B, L], "errors" [B], and perhaps more [B]."""


# --- Numbers ---------------------------------------------------------------------------------------


def error_quantiles(errors: np.ndarray) -> np.ndarray:
    """`N_QUANTILES` of these errors [N], evenly spaced from the lowest to the highest; each is one of them."""
    return np.asarray(np.quantile(errors, np.linspace(0, 1, N_QUANTILES), method="inverted_cdf"))


def percentiles_among(errors: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """[N] how many percent of the rows that `quantiles` are of have a smaller error, rounded down to 0.1.

    0 for an error that none is smaller than, 100 for one that all are smaller than. NaN stays NaN.
    """
    n_smaller = np.searchsorted(quantiles, errors, side="left")
    steps = len(quantiles) - 1
    return np.where(np.isnan(errors), np.nan, np.round(100 / steps * np.maximum(n_smaller - 1, 0), 1))


def share_beyond(mark: float, of_quantiles: np.ndarray, n_rows: int) -> float:
    """The share of `n_rows` rows whose percentile is at least `mark`, from those of the quantiles of their errors.

    Exact for fewer rows than the quantiles have steps; of more rounded to 0.1 %.
    """
    n_beyond = n_rows * int((of_quantiles >= mark).sum()) // (len(of_quantiles) - 1)
    return min(n_beyond, n_rows) / max(n_rows, 1)


def encode_values(saved: Saved, values: np.ndarray, first: int = 0) -> Encoded:
    """Raw values of `saved.columns`, in that order, [N, F] (NaN = missing); `first` as for `in_blocks`."""
    import torch

    return encode_scaled(saved, saved.scaling.apply(torch.from_numpy(values)), first)


def encode_scaled(saved: Saved, scaled: Tensor, first: int = 0) -> Encoded:
    """The same of scaled values [N, F]."""
    made = in_blocks(saved.encode_rows, scaled, first)
    empty = scaled.isnan().all(1).numpy()
    for numbers in made.values():
        numbers[empty] = np.nan
    return Encoded(made.pop("codes"), made.pop("errors"), made)


def in_blocks(compute: Callable[[Tensor], dict[str, Tensor]], scaled: Tensor, first: int = 0) -> dict[str, np.ndarray]:
    """What `compute` makes of rows [N, F], which come to it in blocks of `BLOCK` rows, filled up with zeros.

    `first`: how many rows of the same table came before; a row's bits depend on its place in its block.
    """
    import torch

    from layersearch.engines.reference import one_torch_thread

    parts: list[dict[str, np.ndarray]] = []
    with torch.no_grad(), one_torch_thread():
        while len(scaled) or not parts:
            place = first % BLOCK
            now, scaled = scaled[: BLOCK - place], scaled[BLOCK - place :]
            block = torch.zeros(BLOCK, now.shape[1])
            block[place : place + len(now)] = now
            made = compute(block)
            parts.append({name: part[place : place + len(now)].numpy() for name, part in made.items()})
            first += len(now)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# --- The command -----------------------------------------------------------------------------------


def encode(arguments: argparse.Namespace, console: Console, interruption: Interruption) -> int:
    """Encodes `--encode` with `--model` and writes `encoded_TABLE.csv`, whole or not at all; returns the exit status.

    Raises:
        UsageError: the model, the table or the folder does not serve.
    """
    from layersearch.background import hurrying

    path, model_path = Path(arguments.encode), Path(arguments.model)
    console.say(f"Encoding {path.name} with {model_path.name}")
    with hurrying():
        from layersearch.table.formats import DataError

        saved = load_saved(model_path)
    tally, notices = Tally(len(saved.columns)), list[str]()
    try:
        with closing(encoded_frames(path, saved, notices, tally)) as frames:
            first = next(frames)  # what does not fit is refused before anything is made
            name = f"encoded_{path.stem}.csv"  # never the table's own name
            folder = _make_folder(arguments.output_dir, name)
            interruption.is_deferred = True
            _write(chain([first], frames), folder, name, tally, console, interruption)
    except DataError as error:
        raise UsageError(str(error)) from None
    _announce(path, saved, tally, notices, console)
    console.summarize(f"{tally.summary(saved)}\nEncoded table: {folder / name}")
    return 0


def _write(
    frames: Iterable[pd.DataFrame], folder: Path, name: str, tally: Tally, console: Console, interruption: Interruption
) -> None:
    """One after the other into one file. Raises Interrupted when asked to stop; then there is no file."""
    from layersearch.errors import Interrupted
    from layersearch.files import HeldError, exclusive, publishing, replacing
    from layersearch.report.tables import CSV_FORM

    spoken = time.monotonic()
    try:
        with (
            exclusive(folder),
            publishing(folder) as drafts,
            replacing(drafts / name) as temporary,
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


def load_saved(path: Path) -> Saved:
    """The model in this file, with what the results beside it say of it. Raises UsageError."""
    from layersearch.latent.ensemble import load_ensemble
    from models import load_best

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


def encoded_frames(path: Path, saved: Saved, notices: list[str], tally: Tally) -> Generator[pd.DataFrame]:
    """The rows of `encoded_TABLE.csv`, piece by piece; `tally` and `notices` get what there is to say of them.

    Raises DataError.
    """
    from layersearch.report.tables import beside, code_columns
    from layersearch.table.formats import numbered

    with open_fitting(path, saved, notices) as table:
        for rows in table.pieces:
            piece = numbered(rows, table.names, 2 + tally.n_rows)
            values = table.values(piece, percentages=saved.is_copus)
            encoded = encode_values(saved, values, tally.n_rows)
            assert saved.training_errors is not None
            percentiles = percentiles_among(encoded.errors, saved.training_errors)
            tally.add(values, percentiles, piece.index.to_numpy(), saved)
            own = code_columns(
                piece.index.to_numpy(),
                encoded.codes,
                reconstruction_error=encoded.errors,
                error_percentile=percentiles,
                **encoded.more,
            )
            yield beside(own, _as_in_any_piece(piece.drop(columns=list(table.sources.values()))))


def _as_in_any_piece(others: pd.DataFrame) -> pd.DataFrame:
    """Times as text: pandas writes a column of them in a form that depends on all of its values."""
    from pandas.api import types

    others = others.copy(deep=False)
    for name, cells in others.items():
        if types.is_datetime64_any_dtype(cells) or types.is_timedelta64_dtype(cells):
            others[name] = cells.astype(object).map(str, na_action="ignore")
    return others


# --- The table -------------------------------------------------------------------------------------


class Fitting(NamedTuple):
    """A sheet that holds a model's columns."""

    names: list[str]
    sources: dict[str, str]  # the model's column -> the sheet's
    pieces: Iterator[pd.DataFrame]
    where: str

    def values(self, piece: pd.DataFrame, *, percentages: bool) -> np.ndarray:
        """Raw values of the model's columns in these rows, [N, F]. Raises DataError."""
        from layersearch.table.checks import check_cells

        columns = [check_cells(piece[name], self.where, percentages=percentages) for name in self.sources.values()]
        return np.stack(columns, axis=1)


@contextmanager
def open_fitting(path: Path, saved: Saved, notices: list[str]) -> Iterator[Fitting]:
    """The first sheet that holds the model's columns, open. Raises DataError, the first sheet's if none does."""
    from layersearch.table.formats import DataError, names_of, open_table

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
            yield Fitting(names, sources, _not_empty(sheet.pieces, where), where)
            return
        raise faults[0]


def _not_empty(pieces: Iterator[pd.DataFrame], where: str) -> Iterator[pd.DataFrame]:
    from layersearch.table.formats import DataError

    is_empty = True
    for piece in pieces:
        if len(piece):
            is_empty = False
            yield piece
    if is_empty:
        raise DataError(f"{where}: there is a header and no row below it")


def find_columns(names: Sequence[str], where: str, saved: Saved, notices: list[str]) -> dict[str, str]:
    """The model's column -> the table's: exact names first, then other spellings. Raises DataError."""
    from layersearch.table.columns import choose_copus, find_column, tell_renamed, tell_respelled

    if saved.is_copus:
        sources = choose_copus(names, where, "rename columns: the model needs all of its own")
        tell_renamed(sources, notices)
        return sources
    remedy = "; rename the right one to the model's name"
    lack = "; rename columns: the model needs all of its own"
    sources = {name: find_column(name, names, where, remedy, lack) for name in saved.columns}
    _refuse_twice(sources, where)
    tell_respelled(sources, notices)
    return sources


def _refuse_twice(sources: Mapping[str, str], where: str) -> None:
    from layersearch.table.formats import DataError

    taken: dict[str, str] = {}
    for name, column in sources.items():
        if other := taken.get(column):
            raise DataError(f"{where}: '{column}' may be '{other}' and '{name}' of the model; rename it to one of them")
        taken[column] = name


# --- What there is to say --------------------------------------------------------------------------


@dataclass
class Tally:
    """Counts over all rows that were encoded."""

    n_columns: int
    n_rows: int = 0
    empty_rows: list[int] = field(default_factory=list)  # their numbers; of many the first
    n_empty: int = 0
    n_missing: int = 0
    n_clipped: int = 0
    highest: float = -np.inf
    beyond: dict[int, int] = field(default_factory=lambda: dict.fromkeys(MARKS, 0))

    def add(self, values: np.ndarray, percentiles: np.ndarray, row_numbers: np.ndarray, saved: Saved) -> None:
        """One more piece: its raw values [N, F], and its rows' percentiles and numbers [N]."""
        missing = np.isnan(values)
        empty = missing.all(axis=1)
        self.n_rows += len(values)
        self.n_empty += int(empty.sum())
        self.empty_rows += row_numbers[empty][: 10 - len(self.empty_rows)].tolist()
        self.n_missing += int(missing[~empty].sum())
        if saved.scaling.kind == "robust":
            self.n_clipped += int(((values < saved.scaling.low) | (values > saved.scaling.high)).sum())
        self.highest = max(self.highest, float(np.max(values, initial=-np.inf, where=~missing)))
        for mark in MARKS:
            self.beyond[mark] += int((percentiles >= mark).sum())

    def summary(self, saved: Saved) -> str:
        """How many rows the model reconstructs worse than most training rows, and how many of the search's test rows.

        These it has not seen either, so it is with them that new rows compare.
        """
        assert saved.training_errors is not None
        assert saved.test_errors is not None
        known = max(self.n_rows - self.n_empty, 1)
        of_test = percentiles_among(saved.test_errors, saved.training_errors)
        shares = [
            f"than {mark} %: {100 * self.beyond[mark] / known:.1f} % ({self.beyond[mark]:,}; of the search's test rows "
            f"{100 * share_beyond(mark, of_test, saved.n_test):.1f} %)"
            for mark in MARKS
        ]
        return f"Rows that are reconstructed worse than most training rows: {', '.join(shares)}"


def _announce(path: Path, saved: Saved, tally: Tally, notices: Sequence[str], console: Console) -> None:
    """Says what was read, and what the user should know about it."""
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
    if misfit := _misfit(saved, tally.highest):
        console.warn(f"{path.name}: {misfit}")
    console.say(f"Table: {count(tally.n_rows, 'row')} x {count(tally.n_columns, 'column')} from {path.name}")


def _misfit(saved: Saved, highest: float) -> str | None:
    """What is wrong where percentages meet a model of fractions, or the other way round."""
    trained = float(saved.scaling.high.max())
    if not saved.is_copus or saved.scaling.kind == "none" or not highest > 0:
        return None
    if highest <= 1 < trained:
        return f"no value exceeds {highest:g}, but the model was trained on percentages: MULTIPLY ALL CELLS BY 100"
    if trained <= 1 < highest:
        return f"values go up to {highest:g}, but the model was trained on fractions of 1: DIVIDE ALL CELLS BY 100"
    return None
