"""The command from Python: reads keywords as arguments, and returns what a search found as an object.

    from hyperparam_optimizer import search
    results = search(data_path="my_classes.csv", latent_dim=3, epochs=200)
    results.verdict, results.table, results.best_model.encode(values)

`hyperparam_optimizer.search` is what runs it.
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

SHOWN_LINES = 8  # of the verdict, by `repr`


def read_keywords(keywords: Mapping[str, Any]) -> Request:
    """Reads keywords such as `{"epochs": 20, "hidden_dims_search": [16, 32]}`; None leaves an option at its default.

    Raises:
        ValueError: some are faulty; the message is what the command would print, one line for each.
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
    """Returns a value as it would be typed: `[16, 32]` is `16,32`, and `{"dropout": [0, 0.1]}` is `dropout=0,0.1`."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):  # the factors of a study
        return "; ".join(f"{name}={_text_of(levels)}" for name, levels in value.items())
    return ",".join(map(str, value)) if isinstance(value, Iterable) else str(value)


@dataclass(frozen=True, repr=False)
class SearchResults:
    """What a search found. The files in `output_dir` hold all of it, too."""

    document: dict[str, Any]  # what the JSON holds; `results_schema.json` describes it
    output_dir: Path  # where the files are: `interrupted` in the given folder, if they did not replace complete ones
    best_model: SavedModel | None  # of `best_configuration`; None if there is none, or it was not trained to its end
    table: pd.DataFrame = field(init=False)  # the ranking, one row a configuration

    def __post_init__(self) -> None:
        """Makes the table."""
        object.__setattr__(self, "table", _table_of(self.document))

    @property
    def complete(self) -> bool:
        """Whether the search came to its end. If it was interrupted, the same call resumes it."""
        return bool(self.document["complete"])

    @property
    def verdict(self) -> list[str]:
        """The verdict in words, line by line; empty if no configuration finished."""
        verdict = self.document["verdict"]
        return [] if verdict is None else [str(line) for line in verdict["statement"]]

    def __repr__(self) -> str:
        """Returns the verdict, and where the files are."""
        lines = self.verdict or ["No configuration finished."]
        interrupted = [] if self.complete else ["Interrupted."]
        return "\n".join([*interrupted, *lines, f"Files: {self.output_dir}"])

    def _repr_html_(self) -> str:
        """Returns the verdict and the head of the table, for a notebook."""
        head: Any = self.table.drop(columns=["standard_error", "pareto"]).head(SHOWN_LINES)
        return f"<pre>{html.escape(repr(self))}</pre>{head.to_html(index=False, escape=True)}"


def results_of(published: Published) -> SearchResults:
    """Returns what was written, as an object."""
    from models import with_results

    model = None if published.model is None else with_results(published.model, published.document)
    return SearchResults(published.document, published.folder, model)


def _table_of(document: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the ranking as a table, whose columns and types are the same whatever came out."""
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
