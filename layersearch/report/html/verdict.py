"""What the HTML report says first: the verdict with its figures, what limits it, and what a study or ensemble found.

    verdict_view(document), cautions_view(document), study_view(document), ensemble_view(document)

Each returns what the template of its section shows, or None where the section is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from layersearch.space.configurations import OPTIONS
from layersearch.space.naming import name_of
from layersearch.words import (
    BEST_CONSTANT,
    COLUMN_MEANS,
    LINEAR,
    NOT_YET_WORTH,
    baseline_name,
    count_of,
    difference_text,
    figure,
    interval_text,
    level_text,
    percent,
    whole,
)

UNTIMED_ADVICE = re.compile(r"; (--epochs \d+\.)$")  # the end of a statement's line that does not say how long it takes
NAMED_FAILURES = 6  # failed configurations that are named
Document = Mapping[str, Any]


def verdict_view(document: Document) -> dict[str, Any]:
    """Returns the verdict's headline, its cards and the other lines of its statement."""
    verdict = document["verdict"]
    if verdict is None:
        headline = "Every configuration failed." if document["all_results"] else "Nothing was trained."
        if not document["complete"]:
            headline = "The search was interrupted before any configuration had come to its end."
        return {"headline": headline, "cards": [], "lines": []}
    first, *rest = verdict["statement"] or ["Verdict: –"]
    if document.get("ensemble"):  # which has a section of its own
        rest = [line for line in rest if not line.lstrip().startswith("Ensemble of ")]
    return {"headline": first.removeprefix("Verdict: "), "cards": _cards(document, verdict), "lines": _lines(rest)}


def _lines(statement: Sequence[str]) -> list[tuple[str, str]]:
    """Returns each line of a statement as its lead-in, which may be empty, and the rest.

    The lead-in is what stands before the first colon, unless that colon is in brackets.
    """
    lines = []
    for line in filter(None, map(str.strip, statement)):
        line = UNTIMED_ADVICE.sub(r"; give \1", line)
        lead, colon, rest = line.partition(": ")
        has_lead = colon and lead.count("(") <= lead.count(")")
        lines.append((_capitalised(lead), rest) if has_lead else ("", line))
    return lines


def _capitalised(text: str) -> str:
    """Returns the text with a capital, except where it begins with the name of an option or a flag."""
    first = text.partition(" ")[0]
    return text if first in OPTIONS or first.startswith("-") else text[:1].upper() + text[1:]


def _cards(document: Document, verdict: Document) -> list[tuple[str, str, list[str]]]:
    """Returns the figures that matter most: what each is, the figure, and its details."""
    measured, recommended, best = verdict["best_measured"], verdict["recommended"], document["best_configuration"]
    first, n = document["all_results"][0], _n_ranked(document)
    loss = f"loss {figure(first['final_test_loss'], first['final_test_loss_sd'])}"
    title, details = _model(measured, loss)
    if verdict["best_measured_interval"]:
        low, high = map(figure, verdict["best_measured_interval"])
        details.append(f"{percent(verdict['confidence'])} interval {low} to {high}")
    cards = [("Best measured", title, details)]
    if verdict["tied"] is not None and name_of(recommended) != name_of(measured):
        loss = f"loss {figure(recommended['final_test_loss'])}"
        cards.append((f"Recommended: smallest within {percent(verdict['margin'])}", *_model(recommended, loss)))
    if verdict["tied"] is not None and n > 1:
        proven = "the only one not ruled out" if verdict["proven"] else "not proven: any of them may be the best"
        tied = f"{len(verdict['tied'])} of {n}"
        cards.append(("Tied for best", tied, [f"{percent(verdict['confidence'])} confidence", proven]))
    if best and best["honest_test_loss"] is not None:
        interval = " to ".join(map(figure, best["honest_test_loss_interval"] or [None, None]))
        rows = f"on {count_of(document['data']['test_rows'], 'row')} that chose nothing"
        cards.append((f"Honest test loss of {name_of(best)}", figure(best["honest_test_loss"]), [interval, rows]))
    for baseline in _spoken_of(verdict):
        if baseline["name"] != BEST_CONSTANT:
            cards.append((f"Baseline: {_name(baseline)}", figure(baseline["loss"]), [_beaten(baseline, n)]))
    return cards


def _n_ranked(document: Document) -> int:
    return sum(entry["status"] == "ok" for entry in document["all_results"])


def _model(entry: Document, loss: str) -> tuple[str, list[str]]:
    """Returns a configuration's layers, and as details its options, its loss and its size."""
    options = [f"{name} {level_text(level)}" for name, level in (entry.get("options") or {}).items()]
    return name_of({"config": entry["config"]}), [*options, loss, count_of(entry["model_params"], "parameter")]


def _spoken_of(verdict: Document) -> list[Document]:
    """Returns the baselines without the column means: of all constants, the best one is the fairer rival."""
    return [baseline for baseline in verdict["baselines"] if baseline["name"] != COLUMN_MEANS]


def _name(baseline: Document) -> str:
    return baseline_name(baseline["name"], baseline["components"])


def _beaten(baseline: Document, n: int) -> str:
    if baseline["not_beaten_by"] in (0, n):
        return "beaten by every configuration" if baseline["not_beaten_by"] == 0 else "beaten by no configuration"
    return f"beaten by {whole(n - baseline['not_beaten_by'])} of {whole(n)}"


# What to keep in mind


def cautions_view(document: Document) -> dict[str, Any] | None:
    """Returns what limits the verdict, as titles with texts, and the notices on the table."""
    cautions = [*_about_the_search(document), *_about_the_verdict(document), *_about_the_start(document)]
    notices = list(map(_capitalised, document["data"].get("notices") or []))
    return {"cautions": cautions, "notices": notices} if cautions or notices else None


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
        named = [f"{name_of(entry)} {entry['status']}" for entry in failed[:NAMED_FAILURES]]
        more = [f"{whole(len(failed) - NAMED_FAILURES)} more"] if len(failed) > NAMED_FAILURES else []
        found.append((f"{count_of(len(failed), 'configuration')} failed", f"{'; '.join(named + more)}."))
    return found


def _about_the_verdict(document: Document) -> list[tuple[str, str]]:
    verdict, found = document["verdict"], []
    if verdict is None:
        return []
    n = _n_ranked(document)
    if n > 1 and verdict["tied"] is None:
        text = "What was trained cannot tell merit from luck: the order of the ranking means little."
        found.append(("No verdict", text))
    elif n > 1 and not verdict["proven"]:
        text = (
            f"Another seed may crown another of the {whole(len(verdict['tied']))} tied: report them all, not the first."
        )
        found.append(("Not proven", text))
    for baseline in _spoken_of(verdict):
        if baseline["not_beaten_by"] == n:
            gain_nothing = "on these rows, autoencoders trained so gain nothing over it"
            meaning = NOT_YET_WORTH if baseline["name"] == LINEAR else gain_nothing
            text = f"Its loss is {figure(baseline['loss'])}: {meaning}"
            found.append((f"Not beaten: {_name(baseline)}", f"{text}."))
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


# What only some searches have


def study_view(document: Document) -> dict[str, Any] | None:
    """Returns the headline and the other lines of a study's statement."""
    study = document.get("study")
    if not study:
        return None
    headline, *rest = study["statement"]
    return {"headline": headline, "lines": _lines(rest)}


def ensemble_view(document: Document) -> dict[str, Any] | None:
    """Returns the figures of the ensemble."""
    ensemble = document.get("ensemble")
    if not ensemble:
        return None
    best, loss = ensemble["best_single"], ensemble["test_loss"]
    gain = difference_text(ensemble["difference"], loss)
    if ensemble["difference_interval"]:
        interval = interval_text(ensemble["difference_interval"], loss)
        gain += f" {interval} ({percent(document['args']['confidence'])})"
    return {
        "members": f"{whole(len(ensemble['members']))} models",
        "configurations": count_of(ensemble["configurations"], "configuration"),
        "loss": figure(loss),
        "best": name_of(best),
        "best_loss": figure(best["test_loss"]),
        "gain": gain,
        "mean_member_loss": figure(ensemble["mean_member_test_loss"]),
        "agreement": f"{ensemble['mean_agreement']:.3f}",
    }
