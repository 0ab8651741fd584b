"""CSV tables for spreadsheets: the ranking, and the latent codes of every row.

    write_csv(output_dir / "hyperparam_results_latent3.csv", ranking, verdict)
    write_codes(output_dir / "latent_codes_latent3.csv", codes, {"reconstruction_error": errors}, is_test, ...)

Text that a spreadsheet would run as a formula is disarmed (OWASP, "CSV Injection",
https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api import types

from layersearch.files import replacing
from layersearch.space.configurations import encoder_dims, layers_of, options_of
from layersearch.space.naming import config_text
from layersearch.space.ranking import ConfigurationResult
from layersearch.verdict.verdict import Standing, Verdict

LINE_END = "\r\n"  # RFC 4180; it also makes writers quote a cell that contains either kind of line break
CSV_FORM: dict[str, Any] = {"index": False, "encoding": "utf-8", "lineterminator": LINE_END}  # for pandas
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Row(NamedTuple):
    """What a row of the ranking is made of."""

    rank: int
    result: ConfigurationResult
    standing: Standing
    losses: Sequence[float | None]  # test loss of each repeat

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """The interval of the difference to the best."""
        return self.standing.difference_interval or (None, None)


def _columns(ranking: Sequence[ConfigurationResult]) -> dict[str, Callable[[Row], object]]:
    """Returns the columns of the ranking in the order of the file: name -> a row's cell, None where it is empty."""
    options = dict.fromkeys(name for result in ranking for name in options_of(result.config))
    repeats = max((result.repeats for result in ranking), default=0)
    return {
        "rank": lambda row: None if row.result.failure else row.rank,
        "configuration": lambda row: config_text(layers_of(row.result.config)),
        **{name: _option(name) for name in options},
        "num_layers": lambda row: len(encoder_dims(row.result.config)),
        "model_params": lambda row: row.result.model_params,
        "final_test_loss": lambda row: None if row.result.failure else row.result.final_test_loss,
        "final_test_loss_sd": lambda row: row.result.final_test_loss_sd,
        "standard_error": lambda row: row.standing.standard_error,
        "difference_to_best": lambda row: row.standing.difference,
        "difference_low": lambda row: row.interval[0],
        "difference_high": lambda row: row.interval[1],
        "tied": lambda row: row.standing.is_tied,
        **{f"test_loss_repeat_{number + 1}": _repeat_loss(number) for number in range(repeats)},
        "pareto": lambda row: row.standing.on_front,
        "status": lambda row: row.result.status,
    }


def _option(name: str) -> Callable[[Row], object]:
    return lambda row: options_of(row.result.config).get(name)


def _repeat_loss(number: int) -> Callable[[Row], object]:
    return lambda row: row.losses[number] if number < len(row.losses) else None


def write_csv(path: Path, ranking: Sequence[ConfigurationResult], verdict: Verdict | None) -> None:
    """Writes the ranking, one configuration a row, and then the baselines.

    A configuration is written `[64, 32]`: a spreadsheet would take `6-4` for a date and `64,32` for a number. Its own
    options have a column each. One that was dropped or has failed has no rank and no loss; its status gives the
    reason. What a row lacks is an empty cell. `verdict` is None if no configuration finished.
    """
    columns = _columns(ranking)
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator=LINE_END)
        writer.writeheader()
        for rank, result in enumerate(ranking, start=1):
            standing = verdict.standings.get(result.config, Standing()) if verdict else Standing()
            row = Row(rank, result, standing, result.test_loss_per_repeat)
            writer.writerow({name: cell(row) for name, cell in columns.items()})
        for baseline in verdict.all_baselines if verdict else ():
            difference = {"difference_to_best": -baseline.difference}  # seen from the best, as for configurations
            if baseline.difference_interval:
                low, high = baseline.difference_interval
                difference |= {"difference_low": -high, "difference_high": -low}
            named = {"configuration": baseline.name, "final_test_loss": baseline.loss, "status": "baseline"}
            writer.writerow(named | difference)


def write_codes(
    path: Path,
    codes: np.ndarray,
    columns: Mapping[str, np.ndarray],
    is_test: np.ndarray,
    row_numbers: np.ndarray,
    others: pd.DataFrame,
) -> None:
    """Writes what a model makes of the table, one row of the table a row, in its order.

    The columns of the file are `row`, `latent_1` …, then `columns`, `split` (train or test) and `others`. Where a name
    is taken, the other column gets ` (table)` behind its name. Text that a spreadsheet would run as a formula gets a
    `'` in front.

    Args:
        path: Where to write.
        codes: [N, L] latent coordinates.
        columns: [N] further numbers of each row, such as its reconstruction error, by name.
        is_test: [N] whether the row is a test row.
        row_numbers: [N] numbers of the rows as a spreadsheet shows them.
        others: N rows of the table's ID and label columns.
    """
    own = code_columns(row_numbers, codes, **columns, split=np.where(is_test, "test", "train"))
    with replacing(path) as temporary:
        beside(own, others).to_csv(temporary, **CSV_FORM)


def code_columns(row_numbers: np.ndarray, codes: np.ndarray, **more: np.ndarray) -> pd.DataFrame:
    """Returns the columns `row`, `latent_1` … of codes [N, L], and then `more` columns [N] by name."""
    latent = {f"latent_{dimension}": column for dimension, column in enumerate(codes.T, start=1)}
    return pd.DataFrame({"row": row_numbers, **latent, **more})


def beside(own: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Returns our columns and, beside them, those of the table with free names and disarmed formulas."""
    theirs = others.reset_index(drop=True)
    theirs.columns = pd.Index(free_names([_disarmed(str(name)) for name in theirs.columns], taken=list(own.columns)))
    return pd.concat([own, theirs.apply(_disarmed_column)], axis=1)


def free_names(names: Iterable[str], taken: Collection[str]) -> list[str]:
    """Returns `names`, with ` (table)`, ` (table 2)`, … behind any that is taken or has come before."""
    used = set(taken)
    free: list[str] = []
    for name in names:
        candidate, attempt = name, 0
        while candidate in used:
            attempt += 1
            candidate = f"{name} (table)" if attempt == 1 else f"{name} (table {attempt})"
        used.add(candidate)
        free.append(candidate)
    return free


def _disarmed_column(column: pd.Series[Any]) -> pd.Series[Any]:
    if types.is_numeric_dtype(column) or types.is_datetime64_any_dtype(column):
        return column
    # `Series.map` would turn whole numbers into decimals if other cells are missing.
    return pd.Series([_disarmed(cell) for cell in column.astype(object)], column.index, dtype=object, name=column.name)


def _disarmed(cell: Any) -> Any:
    """Returns text that begins like a formula with `'` in front; any other cell, even a number as text, as it is."""
    if not isinstance(cell, str) or NUMBER.fullmatch(cell.strip()):
        return cell
    is_formula = cell.startswith(("\t", "\r", "\n")) or cell.lstrip().startswith(FORMULA_STARTS)
    return "'" + cell if is_formula else cell
