"""What the HTML report says last: the command, the data, all arguments, versions and times.

view = run_view(document, defaults)            # for templates/run.html.j2
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from layersearch.space.naming import name_of
from layersearch.words import PROG, count_of, short, whole

Document = Mapping[str, Any]
Pairs = Iterable[tuple[str, Any]]


def run_view(document: Document, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the command, and lists of names and values under their headings; lists without a value are left out.

    Args:
        document: The results.
        defaults: The default of every argument by its name.
    """
    args = document["args"]
    changed = changed_arguments(args, defaults)
    lists: list[tuple[str, Pairs]] = [
        ("Data", _about_data(document)),
        ("Started from", _about_start(document)),
        ("Search", _about_search(document)),
        ("Arguments given", ((f"--{name}", value) for name, value in changed.items())),
        (
            "Arguments at their defaults",
            ((f"--{name}", value) for name, value in args.items() if name not in changed),
        ),
        ("Versions and machine", ((name.replace("_", " "), value) for name, value in document["environment"].items())),
        ("Time", ((name.replace("_", " "), f"{value:,.2f} s") for name, value in document["timing"].items())),
    ]
    shown = ((title, _values(pairs)) for title, pairs in lists)
    return {"command": command_line(args, defaults), "lists": [(title, values) for title, values in shown if values]}


def changed_arguments(args: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments that differ from their defaults."""
    return {name: value for name, value in args.items() if value != defaults.get(name)}


def command_line(args: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Returns the command that these arguments came from, ready for a shell: without those at their defaults."""
    words = ["python", PROG]
    for name, value in changed_arguments(args, defaults).items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(words)


def _values(pairs: Pairs) -> list[tuple[str, str]]:
    """Returns names and values as text, without those that are null or empty."""
    return [(name, _value_text(value)) for name, value in pairs if value not in (None, "", [], {})]


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


def _about_data(document: Document) -> Pairs:
    data = document["data"]
    rows = f"{whole(data['rows'])}: {whole(data['train_rows'])} to train on, {whole(data['test_rows'])} to test on"
    return [
        ("File", data["path"]),
        ("SHA-256", data["sha256"]),
        ("Rows", rows),
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


def _about_start(document: Document) -> Pairs:
    """Returns what is known of the saved model that trainings started from."""
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


def _about_search(document: Document) -> Pairs:
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
