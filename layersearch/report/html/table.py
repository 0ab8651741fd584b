"""The HTML report's table of all configurations.

    configurations_table(document)

The first rows are there as plain HTML. All of them are there as JSON, from which `html_report.js` sorts, filters and
shows some at a time, so that ten thousand stay quick. Each cell is written here and only here: the script shows its
text and sorts by its key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from itertools import compress
from typing import Any, NamedTuple

from layersearch.report.wording import escape
from layersearch.space.naming import name_of
from layersearch.verdict.uncertainty import Interval
from layersearch.words import difference_text, figure, interval_text, percent, whole

ROWS_SHOWN = 100  # without JavaScript, and at a time with it
HEADING = 1  # the column that says what a row is about; it and the rank are always there
COLUMNS = {  # heading -> whether it holds numbers
    "Rank": True,
    "Configuration": False,
    "Parameters": True,
    "Loss ± SD": True,
    "Difference": True,
    "Interval": True,
    "P(best)": True,
    "Standing": False,
}
SAYS_NOTHING = {"", "–"}  # a column of nothing else is left out
Document = Mapping[str, Any]


class Cell(NamedTuple):
    """What it shows, and what it is sorted by; None goes last."""

    text: str
    key: float | str | None


class Row(NamedTuple):
    """One configuration; the rest of it is what rows are filtered by."""

    cells: list[Cell]
    is_tied: bool
    layers: int
    status: str


def configurations_table(document: Document) -> str:
    """Filters, the first rows, and all of them for the script; columns that say nothing are left out."""
    columns, rows = _that_say_something([_row(entry, document) for entry in document["all_results"]])
    numeric = [COLUMNS[title] for title in columns]
    headings = "".join(f'<th scope="col"{_class(COLUMNS[title])}>{escape(title)}</th>' for title in columns)
    body = "\n".join(_row_html(row, numeric) for row in rows[:ROWS_SHOWN])
    data = _json({"heading": HEADING, "numeric": numeric, "shown": ROWS_SHOWN, "rows": rows})
    more = f"The first {whole(ROWS_SHOWN)} of {whole(len(rows))}. " if len(rows) > ROWS_SHOWN else ""
    return f"""{_filters(rows)}
<p class="note" id="configurations-note">{_note(document, columns)}</p>
<div class="scroll" role="region" aria-labelledby="configurations-title" tabindex="0">
<table id="configurations-table" aria-labelledby="configurations-title" aria-describedby="configurations-note">
<thead><tr>{headings}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
<p class="note" data-unscripted>{more}Sorting and filtering need JavaScript.</p>
<div class="pager" data-scripted hidden>
<button type="button" id="previous">Previous</button>
<span id="shown" role="status"></span>
<button type="button" id="next">Next</button>
</div>
<script type="application/json" id="configurations-data">{data}</script>"""


def _that_say_something(rows: list[Row]) -> tuple[list[str], list[Row]]:
    """The headings of the columns that say something in some row, and the rows without the others."""
    texts = zip(*([cell.text for cell in row.cells] for row in rows), strict=True)
    kept = [place <= HEADING or not SAYS_NOTHING.issuperset(column) for place, column in enumerate(texts)]
    return list(compress(COLUMNS, kept)), [row._replace(cells=list(compress(row.cells, kept))) for row in rows]


def _json(value: Any) -> str:
    """For a script element: pure ASCII, and nothing in it that HTML could take for its own."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _row(entry: Mapping[str, Any], document: Document) -> Row:
    loss, difference, interval = (
        entry[name] for name in ("final_test_loss", "difference_to_best", "difference_interval")
    )
    best, share = document["all_results"][0]["final_test_loss"], entry["probability_best"]
    name, standing = name_of(entry), _standing(entry, document["verdict"])
    is_best = difference == 0 and interval == [0, 0]  # itself
    shown = interval_text(Interval(*interval), best) if interval and not is_best else "–"
    cells = [
        Cell(whole(entry["rank"]), entry["rank"]),
        Cell(name, name.replace("[", "").replace("]", "")),  # 16 before 16, 16
        Cell(whole(entry["model_params"]), entry["model_params"]),
        Cell(figure(loss, entry["final_test_loss_sd"]), loss),
        Cell("–" if difference is None or is_best else difference_text(difference, best), difference),
        Cell(shown, interval and interval[1]),
        Cell(_share_text(share), share),
        Cell(standing, standing or None),
    ]
    return Row(cells, bool(entry["tied"]), entry["num_layers"], entry["status"].partition(":")[0].partition(" ")[0])


def _share_text(share: float | None) -> str:
    """A bootstrap in which it never came out best does not make that impossible."""
    if share is None:
        return "–"
    return "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def _standing(entry: Mapping[str, Any], verdict: Mapping[str, Any] | None) -> str:
    """`tied, recommended`; why it has none, if it did not finish; nothing where there is no verdict on it."""
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


def _class(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _row_html(row: Row, numeric: list[bool]) -> str:
    """As `makeRow` in `html_report.js` makes it."""
    cells = []
    for column, (cell, is_number) in enumerate(zip(row.cells, numeric, strict=True)):
        tag, scope = ("th", ' scope="row"') if column == HEADING else ("td", "")
        cells.append(f"<{tag}{scope}{_class(is_number)}>{escape(cell.text)}</{tag}>")
    tied = ' class="tied"' if row.is_tied else ""
    return f"<tr{tied}>{''.join(cells)}</tr>"


def _note(document: Document, columns: list[str]) -> str:
    """What its columns hold."""
    sentences = [_about_sd(document)] if "Loss ± SD" in columns else []
    if "Difference" in columns:
        interval = f", with its {percent(document['verdict']['confidence'])} interval" if "Interval" in columns else ""
        sentences.append(f"Difference: against the best measured{interval}.")
    if "P(best)" in columns:
        sentences.append("P(best): how often it comes out best when rows and trainings are drawn anew.")
    return escape(" ".join(sentences))


def _about_sd(document: Document) -> str:
    if any(entry["final_test_loss_sd"] is not None for entry in document["all_results"]):
        return "SD: standard deviation over the repeats."
    if document["args"]["repeats"] > 1:
        return "SD: standard deviation over the repeats, of which none has one."
    return "There is no SD: each was trained once."


def _filters(rows: list[Row]) -> str:
    return f"""<div class="controls" data-scripted hidden>
<label>Text in any column<input type="search" id="filter-text" autocomplete="off"></label>
{_select("Hidden layers", "filter-layers", {row.layers for row in rows})}
{_select("Status", "filter-status", {row.status for row in rows})}
<label class="tick"><input type="checkbox" id="filter-tied"> Tied only</label>
</div>"""


def _select(title: str, name: str, values: Set[Any]) -> str:
    """Hidden where there is nothing to choose from."""
    options = "".join(f"<option>{escape(value)}</option>" for value in sorted(values))
    hidden = " hidden" if len(values) < 2 else ""
    return f'<label{hidden}>{title}<select id="{name}"><option value="">any</option>{options}</select></label>'
