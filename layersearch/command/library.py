"""The Python interface: converts keyword arguments into a request, and results into an object.

from hyperparam_optimizer import search         # uses this module
results = search(data_path="my_classes.csv", latent_dim=3, epochs=200)
results.verdict, results.table, results.best_model.encode(values)
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersearch.command.arguments import build_parser, read_arguments
from layersearch.command.request import Request, read_request
from layersearch.options import DECLARED

if TYPE_CHECKING:
    import pandas as pd

    from layersearch.report.publish import Published
    from models import SavedModel

SHOWN_LINES = 8  # rows of the table that a notebook shows


def read_keywords(keywords: Mapping[str, Any]) -> Request:
    """Reads keywords such as `{"epochs": 20, "hidden_dims_search": [16, 32]}`; None leaves an option at its default.

    Raises:
        ValueError: keywords are unknown or invalid; the message has the command's error messages, one a line.
    """
    parser = build_parser(add_help=False)
    flags, faults = [], []
    for name, value in keywords.items():
        if name not in DECLARED or DECLARED[name].kind is not bool:
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
    return read_request(arguments)


def _text_of(value: Any) -> str:
    """Formats a value for the command line: `[16, 32]` as `16,32`, and `{"dropout": [0, 0.1]}` as `dropout=0,0.1`."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):  # the factors of a study
        return "; ".join(f"{name}={_text_of(levels)}" for name, levels in value.items())
    return ",".join(map(str, value)) if isinstance(value, Iterable) else str(value)


@dataclass(frozen=True, repr=False)
class SearchResults:
    """The results of a search, which are also in the files in `output_dir`."""

    document: dict[str, Any]  # the content of the JSON file; `results_schema.json` describes it
    output_dir: Path  # the folder of the files; a subfolder `interrupted` if complete results were there before
    best_model: SavedModel | None  # None if no configuration finished, or the best was not trained to its end
    table: pd.DataFrame = field(init=False)  # the ranking, one row for each configuration

    def __post_init__(self) -> None:
        """Creates the table from the document."""
        object.__setattr__(self, "table", _table_of(self.document))

    @property
    def complete(self) -> bool:
        """Whether the search finished. If it was interrupted, the same call resumes it."""
        return bool(self.document["complete"])

    @property
    def verdict(self) -> list[str]:
        """The lines of the verdict in words; empty if no configuration finished."""
        verdict = self.document["verdict"]
        return [] if verdict is None else [str(line) for line in verdict["statement"]]

    def __repr__(self) -> str:
        """Returns the verdict and the folder of the files."""
        lines = self.verdict or ["No configuration finished."]
        interrupted = [] if self.complete else ["Interrupted."]
        return "\n".join([*interrupted, *lines, f"Files: {self.output_dir}"])

    def _repr_html_(self) -> str:
        """Returns the verdict and the first rows of the table for a notebook."""
        head: Any = self.table.drop(columns=["standard_error", "pareto"]).head(SHOWN_LINES)
        return f"<pre>{html.escape(repr(self))}</pre>{head.to_html(index=False, escape=True)}"


def results_of(published: Published) -> SearchResults:
    """Returns the published results as an object."""
    from models import with_results

    model = None if published.model is None else with_results(published.model, published.document)
    return SearchResults(published.document, published.folder, model)


def _table_of(document: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the ranking as a table. Its columns and types do not depend on the values, which may all be missing."""
    import pandas as pd

    from layersearch.space.naming import name_of

    whole, number, truth, text = "Int64", "float64", "boolean", "string"
    entries = document["all_results"]
    options = {name: value for entry in entries for name, value in (entry.get("options") or {}).items()}
    kinds = {
        "rank": whole,
        "configuration": text,
        **{name: text if isinstance(value, str) else number for name, value in options.items()},  # factors of a study
        "num_layers": whole,
        "model_params": whole,
        **dict.fromkeys(("final_test_loss", "final_test_loss_sd", "standard_error", "difference_to_best"), number),
        **dict.fromkeys(("difference_low", "difference_high"), number),
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
