"""The report as one HTML file that needs no network: for reading, printing and sending to a co-author.

    text = html_report(document, {"verdict_plot": png, ...})
    (output_dir / "report_latent3.html").write_text(text, encoding="utf-8")

`document`: what `report.results_document` makes and the JSON holds; nothing else is known here. The look is
`html_report.css`, the table's sorting and filtering `html_report.js`; both are put into the file. Without JavaScript
the first rows stand there as plain HTML. All that comes from outside is escaped, and a Content-Security-Policy lets
the page run nothing but its own script and fetch nothing at all.

Source on sortable tables: W3C, ARIA Authoring Practices Guide, "Sortable Table Example",
https://www.w3.org/WAI/ARIA/apg/patterns/table/examples/sortable-table/
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

from layersearch.report.html.pictures import PICTURES
from layersearch.report.html.table import configurations_table
from layersearch.report.methods import changed_arguments, command_line, methods_text
from layersearch.report.references import Source, bibtex, cited
from layersearch.report.wording import escape, with_flags
from layersearch.space.configurations import OPTIONS
from layersearch.space.naming import name_of
from layersearch.verdict.uncertainty import Interval
from layersearch.words import count, count_of, difference_text, figure, interval_text, level_text, percent, short, whole

ENDING = re.compile(r"; (--epochs \d+\.)$")  # of a statement without the time that its advice takes
ENLARGED = """<dialog id="enlarged" aria-label="Picture at its full size">
<button type="button">Close</button>
<div></div>
</dialog>"""  # filled by the script
NAMED = 6  # failed configurations, by name
Document = Mapping[str, Any]


def html_report(document: Document, pictures: Mapping[str, bytes]) -> str:
    """The whole page. `pictures`: PNGs by the names of `PICTURES`; those that are missing are left out."""
    sections = [(name, title, make(document, pictures)) for name, title, make in SECTIONS]
    sections = [section for section in sections if section[2]]
    style, script = (Path(__file__).with_name(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    title = _title(document)
    links = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, _ in sections)
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{escape(heading)}</h2>\n{text}\n'
        "</section>\n"
        for name, heading, text in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<a class="skip" href="#verdict">Skip to the verdict</a>
<div class="page">
<header>
<p class="kind">Hyperparameter search of an autoencoder</p>
<h1>{escape(title)}</h1>
<p class="about">{_about(document)}</p>
</header>
<div class="columns">
<nav aria-label="Contents"><ul>{links}</ul></nav>
<main>
{body}</main>
</div>
</div>
<script>{script}</script>
</body>
</html>
"""


def _policy(style: str, script: str) -> str:
    """Nothing but these two, by their digests, and pictures that are in the file."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    css, js = (f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; img-src data:; style-src {css}; script-src {js}; base-uri 'none'; form-action 'none'"


def _title(document: Document) -> str:
    return f"Hidden layers for a latent space of {count_of(document['args']['latent_dim'], 'dimension')}"


def _about(document: Document) -> str:
    args, when = document["args"], datetime.fromisoformat(document["timestamp"])
    trained = [count(len(document["all_results"]), "configuration"), count(args["repeats"], "repeat")]
    trained += [count(args["cv_folds"], "fold")] if args["cv_folds"] else []
    name = escape(PurePath(document["data"]["path"]).name)
    return (
        f"<bdi>{name}</bdi>, {whole(document['data']['rows'])} rows × {len(document['data']['columns'])} columns · "
        f"{' × '.join(trained)} of {count_of(args['epochs'], 'epoch')} · {when.day} {when:%B %Y, %H:%M}"
    )


# The verdict


def _verdict(document: Document, pictures: Mapping[str, bytes]) -> str:
    verdict = document["verdict"]
    if verdict is None:
        tried = bool(document["all_results"])
        words = "Every configuration failed." if tried else "Nothing was trained."
        if not document["complete"]:
            words = "The search was interrupted before any configuration had come to its end."
        return f'<p class="headline">{words}</p>'
    first, *rest = verdict["statement"] or ["Verdict: –"]
    cards = "".join(
        f'<div><dt>{escape(term)}</dt><dd class="main">{escape(main)}</dd>'
        + "".join(f"<dd>{escape(detail)}</dd>" for detail in details if detail)
        + "</div>"
        for term, main, *details in _cards(document, verdict)
    )
    said_below = ("Ensemble of ",) if document.get("ensemble") else ()  # it has a section of its own
    lines = "".join(
        f"<li>{_statement_line(line)}</li>"
        for line in rest
        if line.strip() and not line.lstrip().startswith(said_below)
    )
    headline = with_flags(first.removeprefix("Verdict: "))
    return f'<p class="headline">{headline}</p>\n<dl class="cards">{cards}</dl>\n<ul class="statement">{lines}</ul>'


def _statement_line(line: str) -> str:
    """With its lead-in, up to a colon that stands in no brackets, made to stand out."""
    line = ENDING.sub(r"; give \1", line.strip())
    lead, colon, rest = line.partition(": ")
    if not colon or lead.count("(") > lead.count(")"):
        return with_flags(line)
    return f"<b>{escape(_capitalised(lead))}:</b> {with_flags(rest)}"


def _capitalised(text: str) -> str:
    """A sentence's beginning, but for names of options and flags, which are as they are."""
    first = text.partition(" ")[0]
    return text if first in OPTIONS or first.startswith("-") else text[:1].upper() + text[1:]


def _cards(document: Document, verdict: Document) -> list[tuple[str, ...]]:
    """The figures that matter most: what, the figure, and details."""
    measured, recommended, best = verdict["best_measured"], verdict["recommended"], document["best_configuration"]
    first = document["all_results"][0]
    loss = f"loss {figure(first['final_test_loss'], first['final_test_loss_sd'])}"
    cards: list[tuple[str, ...]] = [("Best measured", *_model(measured, loss))]
    if verdict["tied"] is not None and name_of(recommended) != name_of(measured):
        loss = f"loss {figure(recommended['final_test_loss'])}"
        cards.append(("Recommended: smallest of the tied", *_model(recommended, loss)))
    n = sum(entry["status"] == "ok" for entry in document["all_results"])
    if verdict["tied"] is not None and n > 1:
        proven = "proven best" if verdict["proven"] else "not proven: any of them may be the best"
        cards.append(
            ("Tied for best", f"{len(verdict['tied'])} of {n}", f"{percent(verdict['confidence'])} confidence", proven)
        )
    if best and best["honest_test_loss"] is not None:
        interval = " to ".join(map(figure, best["honest_test_loss_interval"] or [None, None]))
        rows = f"on {count_of(document['data']['test_rows'], 'row')} that chose nothing"
        cards.append((f"Honest test loss of {name_of(best)}", figure(best["honest_test_loss"]), interval, rows))
    cards += [
        (f"Baseline: {_baseline_name(baseline)}", figure(baseline["loss"]), _beaten(baseline, n))
        for baseline in verdict["baselines"]
        if baseline["name"] == "PCA"
    ]
    return cards


def _model(entry: Document, loss: str) -> tuple[str, ...]:
    """Its layers, and as details its options, its loss and its size."""
    options = (f"{name} {level_text(level)}" for name, level in (entry.get("options") or {}).items())
    return name_of({"config": entry["config"]}), *options, loss, count_of(entry["model_params"], "parameter")


def _baseline_name(baseline: Document) -> str:
    components = baseline["components"]
    return str(baseline["name"]) if components is None else f"PCA with {count_of(components, 'component')}"


def _beaten(baseline: Document, n: int) -> str:
    if baseline["not_beaten_by"] in (0, n):
        return "beaten by every configuration" if baseline["not_beaten_by"] == 0 else "beaten by no configuration"
    return f"beaten by {whole(n - baseline['not_beaten_by'])} of {whole(n)}"


# What to keep in mind


def _warnings(document: Document, pictures: Mapping[str, bytes]) -> str:
    items = [
        f"<li><b>{escape(title)}</b> {with_flags(text)}</li>"
        for title, text in [*_about_the_search(document), *_about_the_verdict(document), *_about_the_start(document)]
    ]
    notices = [with_flags(_capitalised(notice)) for notice in document["data"].get("notices") or []]
    items += [f"<li><b>The table</b> {'<br>'.join(notices)}</li>"] if notices else []
    return f'<ul class="warnings">{"".join(items)}</ul>' if items else ""


def _about_the_search(document: Document) -> list[tuple[str, str]]:
    results, found = document["all_results"], []
    if document["data"]["synthetic"]:
        found.append(
            ("Synthetic data", "This ran on the bundled sample, not on real classes: nothing follows from it.")
        )
    if not document["complete"]:
        text = f"{whole(len(results))} of {count_of(document['total_configurations'], 'configuration')} were trained"
        found.append(("Interrupted", f"{text}, some perhaps not to their end; the same command goes on from there."))
    failed = [entry for entry in results if entry["status"].startswith("failed")]
    if failed:
        named = [f"{name_of(entry)} {entry['status']}" for entry in failed[:NAMED]]
        more = [f"{whole(len(failed) - NAMED)} more"] if len(failed) > NAMED else []
        found.append((f"{count_of(len(failed), 'configuration')} failed", f"{'; '.join(named + more)}."))
    return found


def _about_the_verdict(document: Document) -> list[tuple[str, str]]:
    verdict, found = document["verdict"], []
    if verdict is None:
        return []
    n = sum(entry["status"] == "ok" for entry in document["all_results"])
    if n > 1 and verdict["tied"] is None:
        text = "What was trained cannot tell merit from luck: the order of the ranking means little."
        found.append(("No verdict", text))
    elif n > 1 and not verdict["proven"]:
        text = (
            f"Another seed may crown another of the {whole(len(verdict['tied']))} tied: report them all, not the first."
        )
        found.append(("Not proven", text))
    found += [
        (
            f"Not beaten: {_baseline_name(baseline)}",
            f"Its loss is {figure(baseline['loss'])}: on these rows, autoencoders trained so gain nothing over it.",
        )
        for baseline in verdict["baselines"]
        if baseline["not_beaten_by"] == n
    ]
    probe = verdict["probe"]
    if probe and probe["suggested_epochs"]:
        asked = count_of(probe["epochs"][0], "epoch")
        text = f"After {asked} the ranking shows how fast configurations learn rather than how good they become."
        found.append(("Training was too short", f"{text} Give --epochs {probe['suggested_epochs']}."))
    return found


def _about_the_start(document: Document) -> list[tuple[str, str]]:
    start = document.get("init_from")
    if not start:
        return []
    file = PurePath(start["file"]).name
    what = "All trainings kept the encoder of" if start["frozen"] else "All trainings started from the weights of"
    rest = (
        "another start may crown other layers. If that model was trained on rows of this table, it may have seen some "
        "that test here, and losses look better than they are."
    )
    return [("Started from a saved model", f"{what} {file}. The verdict holds for this start alone: {rest}")]


# What not every search has


def _study(document: Document, pictures: Mapping[str, bytes]) -> str:
    study = document.get("study")
    if not study:
        return ""
    first, *rest = study["statement"]
    lines = "".join(f"<li>{_statement_line(line)}</li>" for line in rest if line.strip())
    return f'<p class="headline">{with_flags(first)}</p>\n<ul class="statement">{lines}</ul>'


def _ensemble(document: Document, pictures: Mapping[str, bytes]) -> str:
    ensemble, confidence = document.get("ensemble"), document["args"]["confidence"]
    if not ensemble:
        return ""
    best, loss = ensemble["best_single"], ensemble["test_loss"]
    gain = difference_text(ensemble["difference"], loss)
    if ensemble["difference_interval"]:
        gain += f" {interval_text(Interval(*ensemble['difference_interval']), loss)} ({percent(confidence)})"
    members = f"{whole(len(ensemble['members']))} models of {count_of(ensemble['configurations'], 'configuration')}"
    return (
        f"<p>{escape(members)} as one, by the mean of their reconstructions: test loss {figure(loss)}, against "
        f"{figure(best['test_loss'])} of the best single model, {escape(name_of(best))}: {escape(gain)}. Members alone "
        f"have {figure(ensemble['mean_member_test_loss'])} in the mean; their latent spaces agree to "
        f"{ensemble['mean_agreement']:.3f} (Procrustes R²) once turned onto each other.</p>"
    )


# Pictures


def _pictures(document: Document, pictures: Mapping[str, bytes]) -> str:
    figures = "\n".join(
        f"<figure>\n<h3>{escape(picture.heading)}</h3>\n{_image(pictures[name], picture.alt(document))}\n"
        f"<figcaption>{escape(picture.caption(document))}</figcaption>\n</figure>"
        for name, picture in PICTURES.items()
        if name in pictures
    )
    return f'<div class="pictures">{figures}</div>\n{ENLARGED}' if figures else ""


def _image(png: bytes, alt: str) -> str:
    width, height = struct.unpack(">II", png[16:24])  # of the header, which is the first chunk
    data = base64.b64encode(png).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{escape(alt)}">'


# The table


def _table(document: Document, pictures: Mapping[str, bytes]) -> str:
    return configurations_table(document) if document["all_results"] else ""


# What was run on what


def _methods(document: Document, pictures: Mapping[str, bytes]) -> str:
    paragraphs = methods_text(document)
    sources = cited(paragraphs)
    text = "\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)
    entries = "\n".join(f"<li>{_reference(source)}</li>" for source in sources)
    return (
        "<p>For the methods section of a paper; every number is from the results.</p>\n"
        f'<div class="methods" id="methods-text">\n{text}\n</div>\n{_copy_button("methods-text", "Copy the text")}\n'
        f'<h3>References</h3>\n<ol class="references" id="references">\n{entries}\n</ol>\n'
        f'<h3>The same as BibTeX</h3>\n<pre id="bibtex" tabindex="0">{html.escape(bibtex(sources))}</pre>\n'
        f"{_copy_button('bibtex', 'Copy the BibTeX')}"
    )


def _reference(source: Source) -> str:
    """An entry of the references, with its address where it has one."""
    if not source.link:
        return escape(source.entry)
    address = escape(source.link)
    return f'{escape(source.entry)} <a href="{address}">{address.removeprefix("https://")}</a>'


def _copy_button(name: str, words: str) -> str:
    button = f'<button type="button" data-copies="{name}">{words}</button>'
    return f'<p class="copy" data-scripted hidden>{button} <span role="status" class="note"></span></p>'


def _run(document: Document, pictures: Mapping[str, bytes]) -> str:
    args = document["args"]
    changed = changed_arguments(args)
    left = {name: value for name, value in args.items() if name not in changed}
    parts = [
        (
            "The command",
            f'<pre id="command">{escape(command_line(args))}</pre>\n{_copy_button("command", "Copy the command")}',
        ),
        ("Data", _values(_about_data(document))),
        ("Started from", _values(_about_start(document))),
        ("Search", _values(_about_search(document))),
        ("Arguments given", _values((f"--{name}", value) for name, value in changed.items())),
        ("Arguments at their defaults", _values(((f"--{name}", value) for name, value in left.items()), "values many")),
        (
            "Versions and machine",
            _values((name.replace("_", " "), value) for name, value in document["environment"].items()),
        ),
        ("Time", _values((name.replace("_", " "), f"{value:,.2f} s") for name, value in document["timing"].items())),
    ]
    return "\n".join(f"<h3>{title}</h3>\n{text}" for title, text in parts if text)


def _values(pairs: Iterable[tuple[str, Any]], kind: str = "values") -> str:
    """A list of names and values; what is null or empty is left out."""
    items = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd><bdi>{escape(_value_text(value))}</bdi></dd></div>"
        for name, value in pairs
        if value not in (None, "", [], {})
    )
    return f'<dl class="{kind}">\n{items}\n</dl>' if items else ""


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return short(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} from {source}" for name, source in value.items())
    return str(value)


def _about_data(document: Document) -> list[tuple[str, Any]]:
    data = document["data"]
    return [
        ("File", data["path"]),
        ("SHA-256", data["sha256"]),
        (
            "Rows",
            f"{whole(data['rows'])}: {whole(data['train_rows'])} to train on, {whole(data['test_rows'])} to test on",
        ),
        ("To decide when to stop", data.get("validation_rows") or None),
        (f"Columns ({len(data['columns'])})", data["columns"]),
        ("Columns by other names", data.get("mapped_columns")),
        ("Missing cells", whole(data.get("missing_cells"))),
        ("Cells that are zero", whole(data.get("zero_cells"))),
        ("Scaling", data["scaling"]["kind"]),
        ("Labels", data.get("label_column")),
        ("Groups", data.get("group_column")),
        ("Strata", data.get("stratify_column")),
    ]


def _about_start(document: Document) -> list[tuple[str, Any]]:
    """The saved model that trainings started from."""
    start, best = document.get("init_from"), document["best_configuration"]
    if not start:
        return []
    shape = f"{name_of(start)}, {count_of(start['latent_dim'], 'latent dimension')}"
    of_best = f"{whole(start['taken'])}, by {name_of(best)}" if best and start["taken"] else None
    return [
        ("File", start["file"]),
        ("SHA-256", start["sha256"]),
        ("Its model", f"{shape}, {count_of(start['model_params'], 'parameter')}"),
        ("Parameters taken", of_best),
        ("Encoder", "kept as it was" if start["frozen"] else "trained on"),
        ("Scaling", "that model's" if start["stored_scaling"] else "this table's own"),
    ]


def _about_search(document: Document) -> list[tuple[str, Any]]:
    search = document["search"]
    if search is None:
        return []
    first = (document.get("study") or {}).get("first_stage")
    pairs = [(name.replace("_", " ").capitalize(), value) for name, value in search.items() if name != "history"]
    if not first:
        return pairs
    ranking = first["ranking"]
    finished = whole(sum(entry["status"] == "ok" for entry in ranking))
    what = f"{first['strategy']}: {count_of(len(ranking), 'configuration')} tried, {finished} trained to the end"
    crossed = len({json.dumps(entry["config"]) for entry in document["all_results"]})
    return [("First stage", what), ("Second stage", f"the best {whole(crossed)} crossed, trained anew"), *pairs]


SECTIONS: Sequence[tuple[str, str, Callable[[Document, Mapping[str, bytes]], str]]] = (
    ("verdict", "Verdict", _verdict),
    ("keep-in-mind", "Keep in mind", _warnings),
    ("study", "What the options change", _study),
    ("ensemble", "Ensemble", _ensemble),
    ("pictures", "Pictures", _pictures),
    ("configurations", "All configurations", _table),
    ("methods", "Methods", _methods),
    ("run", "What was run on what", _run),
)
