"""The command from Python: keywords into arguments, and what a search reports as an object.

    from hyperparam_optimizer import search
    results = search(data_path="my_classes.csv", latent_dim=3, epochs=200)
    results.verdict, results.table, results.best_model.encode(values)

`hyperparam_optimizer.search` is what runs it.
"""

from __future__ import annotations

import argparse
import html
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersearch.command.arguments import build_parser, read_arguments

if TYPE_CHECKING:
    import pandas as pd

    from layersearch.report.publish import Report
    from models import SavedModel

SHOWN_LINES = 8  # of the verdict, by `repr`


def read_keywords(keywords: Mapping[str, Any]) -> argparse.Namespace:
    """`{"epochs": 20, "hidden_dims_search": [16, 32]}` as the command's arguments; None leaves one at its default.

    Raises:
        ValueError: what the command would print, a line for each fault.
    """
    parser = build_parser(add_help=False)
    switches = {action.dest for action in parser._actions if action.nargs == 0}
    flags, faults = [], []
    for name, value in keywords.items():
        if name not in switches:
            flags += [] if value is None else [f"--{name}={_text_of(value)}"]
        elif value in (True, False, None):
            flags += [f"--{name}"] * bool(value)
        else:
            faults.append(f"--{name} {value!r}: give True or False")
    arguments, more = read_arguments(flags, parser)
    faults += more
    for name in ("list_configurations", "encode"):
        if getattr(arguments, name):
            faults.append(f"--{name} trains nothing; leave it out, or give it to the command")
    if faults:
        raise ValueError("\n".join(faults))
    return arguments


def _text_of(value: Any) -> str:
    """As it would be typed: of several, with commas between; of a study, `{"dropout": [0, 0.1]}` is `dropout=0,0.1`."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):  # the factors of a study
        return "; ".join(f"{name}={_text_of(levels)}" for name, levels in value.items())
    return ",".join(map(str, value)) if isinstance(value, Iterable) else str(value)


@dataclass(frozen=True, repr=False)
class SearchResults:
    """What a search found. All of it is in `output_dir`, too."""

    document: dict[str, Any]  # what the JSON holds; `results_schema.json` describes it
    output_dir: Path  # where the files are: `interrupted` in the given folder, if they did not replace complete ones
    best_model: SavedModel | None  # of `best_configuration`; None if there is none, or it was not trained to its end
    table: pd.DataFrame = field(init=False)  # the ranking, one row a configuration

    def __post_init__(self) -> None:
        """Makes the table."""
        object.__setattr__(self, "table", _table_of(self.document))

    @property
    def complete(self) -> bool:
        """False if the search was interrupted: the same call goes on from there."""
        return bool(self.document["complete"])

    @property
    def verdict(self) -> list[str]:
        """The verdict in words, line by line; nothing if no configuration finished."""
        verdict = self.document["verdict"]
        return [] if verdict is None else [str(line) for line in verdict["statement"]]

    def __repr__(self) -> str:
        """The verdict, and where the files are."""
        lines = self.verdict or ["No configuration finished."]
        interrupted = [] if self.complete else ["Interrupted."]
        return "\n".join([*interrupted, *lines, f"Files: {self.output_dir}"])

    def _repr_html_(self) -> str:
        """The same with the head of the table, for a notebook."""
        head: Any = self.table.drop(columns=["standard_error", "pareto"]).head(SHOWN_LINES)
        return f"<pre>{html.escape(repr(self))}</pre>{head.to_html(index=False, escape=True)}"


def results_of(report: Report) -> SearchResults:
    """What was written, as an object."""
    from models import with_results

    model = None if report.model is None else with_results(report.model, report.document)
    return SearchResults(report.document, report.folder, model)


def _table_of(document: Mapping[str, Any]) -> pd.DataFrame:
    """The ranking; the same columns whatever came out, and of the same types."""
    import pandas as pd

    from layersearch.space.naming import name_of

    whole, number, truth, text = "Int64", "float64", "boolean", "string"
    entries = document["all_results"]
    options = {name: value for entry in entries for name, value in (entry.get("options") or {}).items()}
    kinds = {
        "rank": whole,
        "configuration": text,
        **{name: text if isinstance(value, str) else number for name, value in options.items()},  # of a study
        "num_layers": whole,
        "model_params": whole,
        **dict.fromkeys(("final_test_loss", "final_test_loss_sd", "standard_error", "difference_to_best"), number),
        **dict.fromkeys(("difference_low", "difference_high", "probability_best"), number),
        "tied": truth,
        "pareto": truth,
        "status": text,
    }
    rows = []
    for entry in entries:
        low, high = entry["difference_interval"] or (None, None)
        words = {"configuration": name_of(entry), "difference_low": low, "difference_high": high}
        row = {**entry, **(entry.get("options") or {}), **words}
        rows.append([row[name] for name in kinds])
    frame = pd.DataFrame(rows, columns=list(kinds), dtype=object)
    return frame.astype(kinds)
