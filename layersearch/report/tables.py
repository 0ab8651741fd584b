"""The tables for a spreadsheet: the ranking, and the latent codes of every observation.

    write_csv(output_dir / "hyperparam_results_latent3.csv", findings)
    write_latent_codes(output_dir / "latent_codes_latent3.csv", codes, errors, is_test, row_numbers, others)

Importing this module is cheap: pandas comes in only where a function needs it.

Source on formula injection: OWASP, "CSV Injection",
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layersearch.files import replacing
from layersearch.report.results import Findings
from layersearch.space.configurations import encoder_dims, layers_of, options_of
from layersearch.space.naming import config_text
from layersearch.space.ranking import ConfigurationResult

if TYPE_CHECKING:
    import pandas as pd

    from layersearch.verdict.verdict import Standing

LINE_END = "\r\n"  # RFC 4180; also what makes writers put quotes around a cell with a line break of either kind
CSV_FORM: dict[str, Any] = {"index": False, "encoding": "utf-8", "lineterminator": LINE_END}  # for pandas
CSV_COLUMNS = (
    *("rank", "configuration", "num_layers", "model_params", "final_test_loss", "final_test_loss_sd"),
    *("standard_error", "difference_to_best", "difference_low", "difference_high", "probability_best", "tied"),
)


def write_csv(path: Path, findings: Findings) -> None:
    """The ranking, one row a configuration, then the baselines; what a row lacks is empty.

    A configuration is written `[64, 32]`, brackets and all: a spreadsheet takes `6-4` for a date and
    `64,32` for a number; options of its own have a column each. One that was dropped or has failed has no rank and no
    loss, but a reason as its status.
    """
    from layersearch.verdict.verdict import Standing

    repeats = max((configuration.repeats for configuration in findings.ranking), default=0)
    factors = list(dict.fromkeys(name for c in findings.ranking for name in options_of(c.config)))
    per_repeat = [f"test_loss_repeat_{repeat}" for repeat in range(1, repeats + 1)]
    verdict = findings.verdict
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        columns = [*CSV_COLUMNS[:2], *factors, *CSV_COLUMNS[2:], *per_repeat, "pareto", "status"]
        writer = csv.DictWriter(file, columns, lineterminator=LINE_END)
        writer.writeheader()
        for rank, configuration in enumerate(findings.ranking, start=1):
            standing = verdict.standings.get(configuration.config, Standing()) if verdict else Standing()
            row = _csv_row(rank, configuration, standing)
            writer.writerow(row | dict(zip(per_repeat, configuration.test_loss_per_repeat, strict=False)))
        for baseline in verdict.baselines if verdict else ():
            row = {"configuration": baseline.name, "final_test_loss": baseline.loss, "status": "baseline"}
            low, high = baseline.difference_interval or (None, None)
            signs = {"difference_to_best": -baseline.difference}
            signs |= {"difference_low": -high, "difference_high": -low} if low is not None and high is not None else {}
            writer.writerow(row | signs)


def _csv_row(rank: int, configuration: ConfigurationResult, standing: Standing) -> dict[str, Any]:
    failed = configuration.failure is not None
    low, high = standing.difference_interval or (None, None)
    return {
        "rank": None if failed else rank,
        "configuration": config_text(layers_of(configuration.config)),
        **options_of(configuration.config),
        "num_layers": len(encoder_dims(configuration.config)),
        "model_params": configuration.model_params,
        "final_test_loss": None if failed else configuration.final_test_loss,
        "final_test_loss_sd": configuration.final_test_loss_sd,
        "standard_error": standing.standard_error,
        "difference_to_best": standing.difference,
        "difference_low": low,
        "difference_high": high,
        "probability_best": standing.probability_best,
        "tied": standing.is_tied,
        "pareto": standing.on_front,
        "status": configuration.status,
    }


def write_latent_codes(
    path: Path,
    codes: np.ndarray,
    errors: np.ndarray,
    is_test: np.ndarray,
    row_numbers: np.ndarray,
    others: pd.DataFrame,
) -> None:
    """One row an observation, in the table's order: what the best model makes of it, and who it is.

    codes [N, L] latent coordinates · errors [N] reconstruction error · is_test [N] bool · row_numbers [N] row of
    the table as a spreadsheet shows it · others: its N rows of ID and label columns. Columns: `row`, `latent_1` …,
    `reconstruction_error`, `split` (train or test), then `others`, where a name that is taken gets
    ` (table)` behind it. Text that a spreadsheet would run as a formula gets a `'` in front.
    """
    write_codes(path, codes, {"reconstruction_error": errors}, is_test, row_numbers, others)


def write_codes(
    path: Path,
    codes: np.ndarray,
    columns: Mapping[str, np.ndarray],
    is_test: np.ndarray,
    row_numbers: np.ndarray,
    others: pd.DataFrame,
) -> None:
    """As `write_latent_codes`, with any `columns` [N] between the codes and `split`."""
    own = code_columns(row_numbers, codes, **columns, split=np.where(is_test, "test", "train"))
    with replacing(path) as temporary:
        beside(own, others).to_csv(temporary, **CSV_FORM)


def code_columns(row_numbers: np.ndarray, codes: np.ndarray, **more: np.ndarray) -> pd.DataFrame:
    """`row`, `latent_1` … and more columns, by name: what is ours in a table of codes [N, L]."""
    import pandas as pd

    latent = {f"latent_{dimension}": column for dimension, column in enumerate(codes.T, start=1)}
    return pd.DataFrame({"row": row_numbers, **latent, **more})


def beside(own: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Our columns, then the table's other ones under names that are free, with nothing in them that would be run."""
    import pandas as pd

    theirs = others.reset_index(drop=True)
    theirs.columns = pd.Index(free_names([_harmless(str(name)) for name in theirs.columns], taken=list(own.columns)))
    return pd.concat([own, theirs.apply(_harmless_column)], axis=1)


def free_names(names: Iterable[str], taken: Collection[str]) -> list[str]:
    """`names`, each followed by ` (table)`, ` (table 2)`, … where it is taken or came before."""
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


def _harmless_column(column: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd
    from pandas.api import types

    if types.is_numeric_dtype(column) or types.is_datetime64_any_dtype(column):
        return column
    # Not `map`, which makes decimals of whole numbers beside missing cells.
    return pd.Series([_harmless(cell) for cell in column.astype(object)], column.index, dtype=object, name=column.name)


FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def _harmless(cell: Any) -> Any:
    """Text that begins like a formula, with `'` in front; a number in text form stays as it is."""
    if not isinstance(cell, str) or _NUMBER.fullmatch(cell.strip()):
        return cell
    is_formula = cell.startswith(("\t", "\r", "\n")) or cell.lstrip().startswith(FORMULA_STARTS)
    return "'" + cell if is_formula else cell
