"""The report as one HTML file that needs no network: for reading, printing and sending to a co-author.

    text = html_report(document, {"verdict_plot": png, ...}, defaults)
    (output_dir / "report_latent3.html").write_text(text, encoding="utf-8")

`document` is what `results.results_document` makes and the JSON file holds; the page is made from it and the pictures
alone. The page's layout is in `templates/`, its look in `page.css`, the behaviour of its table and buttons in
`page.js`; all of them end up in the one file. Without JavaScript the table's first rows are plain HTML.

Jinja2 escapes every value that is put into a template. A Content-Security-Policy lets the page run nothing but its own
script and fetch nothing at all.

Source on sortable tables: W3C, ARIA Authoring Practices Guide, "Sortable Table Example",
https://www.w3.org/WAI/ARIA/apg/patterns/table/examples/sortable-table/
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from layersearch.report.html.pictures import PICTURES
from layersearch.report.html.run import run_view
from layersearch.report.html.table import configurations_view
from layersearch.report.html.verdict import cautions_view, ensemble_view, study_view, verdict_view
from layersearch.report.methods import methods_text
from layersearch.report.references import bibtex, cited
from layersearch.words import count, count_of, readable, whole

NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?"
CHOICES = (
    "none|layer|robust|percent|decreasing|any|asymmetric|grid|random|halving|bayesian|simplest|best|tied|loss,params"
)
FLAG = re.compile(rf'(--[a-z][a-z_]*(?: (?:{NUMBER}|"[^"]*"|(?:{CHOICES})\b))?)')  # with the value that may follow it
FOLDER = Path(__file__).parent
Document = Mapping[str, Any]


def html_report(document: Document, pictures: Mapping[str, bytes], defaults: Mapping[str, Any]) -> str:
    """Returns the whole page.

    Args:
        document: The results.
        pictures: PNGs by the names of `PICTURES`; those that are missing are left out.
        defaults: The default of every argument by its name.
    """
    sections = {  # by the name of its template
        "verdict": ("Verdict", verdict_view(document)),
        "keep-in-mind": ("Keep in mind", cautions_view(document)),
        "study": ("What the options change", study_view(document)),
        "ensemble": ("Ensemble", ensemble_view(document)),
        "pictures": ("Pictures", _pictures_view(document, pictures)),
        "configurations": ("All configurations", configurations_view(document)),
        "methods": ("Methods", _methods_view(document)),
        "run": ("What was run on what", run_view(document, defaults)),
    }
    style, script = ((FOLDER / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return TEMPLATES.get_template("page.html.j2").render(
        title=f"Hidden layers for a latent space of {count_of(document['args']['latent_dim'], 'dimension')}",
        about=_about(document),
        sections={name: section for name, section in sections.items() if section[1]},
        style=Markup(style),
        script=Markup(script),
        style_digest=_digest(style),
        script_digest=_digest(script),
    )


def _load_templates() -> Environment:
    """Returns the compiled templates, which escape what they are given and refuse a value that is missing."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_spelt_out,
    )
    made.filters["split_flags"] = split_flags
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    for name in made.list_templates():
        made.get_template(name)
    return made


def _spelt_out(value: Any) -> Any:
    """Returns a value as it is put into a template: what could not be seen, or would turn the text round, spelt out."""
    return value if isinstance(value, Markup) else readable(value)


def split_flags(text: object) -> list[str]:
    """Returns the parts of a text: those at odd places are flags of the command, with their values."""
    return FLAG.split(readable(text))


def _digest(text: str) -> str:
    """Returns the SHA-256 digest of a style sheet or script as a Content-Security-Policy states it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _about(document: Document) -> dict[str, str]:
    """Returns the name of the table's file, and the size of the table and of the search."""
    args, data, when = document["args"], document["data"], datetime.fromisoformat(document["timestamp"])
    trained = [count(len(document["all_results"]), "configuration"), count(args["repeats"], "repeat")]
    trained += [count(args["cv_folds"], "fold")] if args["cv_folds"] else []
    return {
        "file": PurePath(data["path"]).name,
        "table": f"{whole(data['rows'])} rows × {len(data['columns'])} columns",
        "search": f"{' × '.join(trained)} of {count_of(args['epochs'], 'epoch')}",
        "time": f"{when.day} {when:%B %Y, %H:%M}",
    }


def _pictures_view(document: Document, pictures: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Returns what there is of each picture: its description, its size in pixels and its PNG as base64."""
    shown = ((pictures[name], describe(document)) for name, describe in PICTURES.items() if name in pictures)
    return [_picture(png) | description._asdict() for png, description in shown]


def _picture(png: bytes) -> dict[str, Any]:
    width, height = struct.unpack(">II", png[16:24])  # of the header, which is the first chunk
    return {"width": width, "height": height, "data": base64.b64encode(png).decode("ascii")}


def _methods_view(document: Document) -> dict[str, Any]:
    """Returns the methods section of a paper, and what it cites."""
    paragraphs = methods_text(document)
    found = cited(paragraphs)
    return {"paragraphs": paragraphs, "sources": found, "bibtex": bibtex(found)}


TEMPLATES = _load_templates()  # compiled on import, which the command does beside the trainings
