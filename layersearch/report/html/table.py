"""The HTML report's table of all configurations.

    view = configurations_view(document)            # for templates/configurations.html.j2

The template writes the first rows as plain HTML, and all of them as JSON, from which `page.js` sorts, filters and shows
some at a time, so that ten thousand stay quick. Every cell's text is made here and only here: the script shows the text
and sorts by the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress
from typing import Any, NamedTuple

from layersearch.space.naming import name_of
from layersearch.words import difference_text, figure, interval_text, percent, whole

ROWS_SHOWN = 100  # without JavaScript, and at a time with it
HEADING = 1  # the column that says what a row is about; this one and the rank are always there
COLUMNS = {  # heading -> whether the column holds numbers
    "Rank": True,
    "Configuration": False,
    "Parameters": True,
    "Loss ± SD": True,
    "Difference": True,
    "Interval": True,
    "Standing": False,
}
SAYS_NOTHING = {"", "–"}  # a column that holds only these is left out
Document = Mapping[str, Any]


class Cell(NamedTuple):
    """The text that a cell shows and the key that it is sorted by; a key of None goes last."""

    text: str
    key: float | str | None


class Row(NamedTuple):
    """One configuration: its cells, and what rows are filtered by."""

    cells: list[Cell]
    is_tied: bool
    layers: int
    status: str


def configurations_view(document: Document) -> dict[str, Any] | None:
    """Returns what the table's template shows; None where nothing was trained."""
    rows = [_row(entry, document) for entry in document["all_results"]]
    if not rows:
        return None
    columns, rows = _without_empty_columns(rows)
    numeric = [COLUMNS[title] for title in columns]
    return {
        "columns": list(zip(columns, numeric, strict=True)),
        "rows": rows[:ROWS_SHOWN],
        "note": _note(document, columns),
        "layers": sorted({row.layers for row in rows}),
        "statuses": sorted({row.status for row in rows}),
        "cut": f"The first {whole(ROWS_SHOWN)} of {whole(len(rows))}. " if len(rows) > ROWS_SHOWN else "",
        "data": {"heading": HEADING, "numeric": numeric, "shown": ROWS_SHOWN, "rows": rows},
    }


def _without_empty_columns(rows: list[Row]) -> tuple[list[str], list[Row]]:
    """Returns the headings of the columns that say something in some row, and the rows with these columns alone."""
    texts = zip(*([cell.text for cell in row.cells] for row in rows), strict=True)
    kept = [place <= HEADING or not SAYS_NOTHING.issuperset(column) for place, column in enumerate(texts)]
    return list(compress(COLUMNS, kept)), [row._replace(cells=list(compress(row.cells, kept))) for row in rows]


def _row(entry: Document, document: Document) -> Row:
    loss, difference, interval = (
        entry[name] for name in ("final_test_loss", "difference_to_best", "difference_interval")
    )
    best = document["all_results"][0]["final_test_loss"]
    name, standing = name_of(entry), _standing(entry, document["verdict"])
    is_best = difference == 0 and interval == [0, 0]  # compared with itself
    shown = interval_text(interval, best) if interval and not is_best else "–"
    cells = [
        Cell(whole(entry["rank"]), entry["rank"]),
        Cell(name, name.replace("[", "").replace("]", "")),  # 16 before 16, 16
        Cell(whole(entry["model_params"]), entry["model_params"]),
        Cell(figure(loss, entry["final_test_loss_sd"]), loss),
        Cell("–" if difference is None or is_best else difference_text(difference, best), difference),
        Cell(shown, interval and interval[1]),
        Cell(standing, standing or None),
    ]
    return Row(cells, bool(entry["tied"]), entry["num_layers"], entry["status"].partition(":")[0].partition(" ")[0])


def _standing(entry: Document, verdict: Document | None) -> str:
    """Returns `tied, recommended`; a failed one's status; nothing where there is no verdict on the configuration."""
    if entry["status"] != "ok":
        return str(entry["status"])
    if verdict is None:
        return ""
    standing = {True: ["tied"], False: ["ruled out"], None: []}[entry["tied"]]
    which = entry["config"], entry.get("options")
    named = {"best_measured": "best measured"} | ({} if entry["tied"] is None else {"recommended": "recommended"})
    for name, words in named.items():
        if which == (verdict[name]["config"], verdict[name].get("options")):
            standing.append(words)
    return ", ".join(standing)


def _note(document: Document, columns: list[str]) -> str:
    """Returns what the columns mean."""
    sentences = [_about_sd(document)] if "Loss ± SD" in columns else []
    if "Difference" in columns:
        interval = f", with its {percent(document['verdict']['confidence'])} interval" if "Interval" in columns else ""
        sentences.append(f"Difference: against the best measured{interval}.")
    return " ".join(sentences)


def _about_sd(document: Document) -> str:
    if any(entry["final_test_loss_sd"] is not None for entry in document["all_results"]):
        return "SD: standard deviation over the repeats."
    if document["args"]["repeats"] > 1:
        return "SD: standard deviation over the repeats, of which none has one."
    return "There is no SD: each was trained once."
