"""The methods section says what was done, with numbers from the results alone."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
from documents import KINDS, make_document

from methods import changed_arguments, command_line, methods_text
from sources import SOURCES, bibtex, cited
from statement import difference_text

NUMBER = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?(?:e-?[0-9]+)?")
CITED = re.compile("|".join(re.escape(source.cited) for source in SOURCES))


def text_of(document: dict[str, Any]) -> str:
    return "\n".join(methods_text(document))


def leaves_of(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves_of(item)
    elif isinstance(value, list):
        yield len(value)
        for item in value:
            yield from leaves_of(item)
    elif value is not None:
        yield value


def numbers_in(text: str) -> list[str]:
    """All that are neither a citation's year nor part of a name."""
    return NUMBER.findall(CITED.sub("", text).replace("SHA-256", ""))


def is_from(document: dict[str, Any], number: str) -> bool:
    """Whether some value of the document reads so, rounded or as part of a text."""
    plain = number.replace(",", "")
    decimals = len(plain.partition(".")[2].partition("e")[0])
    for leaf in leaves_of(document):
        if isinstance(leaf, str):
            if plain in leaf:
                return True
        elif float(plain) == leaf or ("." in plain and f"{leaf:.{decimals}f}" == plain) or float(plain) == 100 * leaf:
            return True
    return int(plain) == [entry["status"] for entry in document["all_results"]].count("ok")


@pytest.mark.parametrize("kind", KINDS)
def test_no_number_in_it_is_from_elsewhere(kind: str) -> None:
    document = make_document(kind)
    numbers = numbers_in(text_of(document))
    assert len(numbers) > 15
    assert [number for number in numbers if not is_from(document, number)] == []


CHANGES = {
    "data.rows": (3456, "3,456 observations"),
    "data.train_rows": (2222, "2,222 were drawn"),
    "data.test_rows": (333, "333 for testing"),
    "data.validation_rows": (44, "44 to decide when to stop"),
    "data.missing_cells": (99, "99 missing cells"),
    "data.synthetic": (True, "synthetic sample data"),
    "data.group_column": ("Instructor ID", "a value of “Instructor ID”"),
    "data.stratify_column": ("Level", "the values of “Level”"),
    "data.scaling.percentiles": ([2, 98], "percentiles 2 and 98"),
    "args.latent_dim": (7, "latent space of 7 dimensions"),
    "args.seed": (4711, "the seed 4711"),
    "args.epochs": (77, "for 77 epochs"),
    "args.batch_size": (48, "batches of 48"),
    "args.initial_lr": (0.0125, "from 0.0125"),
    "args.eta_min": (2e-05, "to 2e-5"),
    "args.dropout": (0.35, "probability 0.35"),
    "args.weight_decay": (0.002, "weight decay 0.002"),
    "args.repeats": (8, "trained 8 times"),
    "args.patience": (6, "after 6 epochs"),
    "args.hidden_dims_search": ("24, 48", "24 or 48 units"),
    "args.width_range": ("4:256:4", "4 to 256 units in steps of 4"),
    "args.arrangement": ("any", "in any order"),
    "args.columns": ("numeric", "3 variables"),
    "loss.nonzero": (0.6, "minimised 0.6 times"),
    "search.space_size": (1234, "1,234 configurations"),
    "verdict.confidence": (0.9, "90 % confidence"),
    "verdict.n_resampled": (555, "bootstrap over 555 rows"),
    "verdict.optimism": (0.0123, "by about 0.0123"),
    "environment.python": ("3.99", "Python 3.99"),
    "environment.torch": ("9.9.9", "PyTorch 9.9.9"),
    "environment.numpy": ("8.8.8", "NumPy 8.8.8"),
    "environment.processor": ("Another", "on Another"),
    "environment.engine": ("reference", "reference engine"),
}


@pytest.mark.parametrize("field", CHANGES)
def test_another_document_gives_another_text(field: str) -> None:
    document = make_document()
    value, words = CHANGES[field]
    assert words not in text_of(document)
    *way, name = field.split(".")
    part = document
    for step in way:
        part = part[step]
    part[name] = value
    assert words in text_of(document)


def test_the_outcome_is_that_of_the_verdict() -> None:
    whole, proven, alone = (text_of(make_document(kind)) for kind in ("whole", "proven", "one configuration"))
    assert "2 of 8 configurations were not ruled out as the best, of which [64] (3,915 parameters, loss" in whole
    assert "and was the only one not ruled out as the best" in proven
    assert "lowest" not in alone
    assert "Hsu" not in alone


def test_without_a_verdict_it_claims_none() -> None:
    text = text_of(make_document("one repeat"))
    assert "Hsu" not in text
    assert "±" not in text
    assert "Each configuration was trained once." in text


@pytest.mark.parametrize("kind", ["failed", "nothing"])
def test_where_nothing_came_out_there_is_no_outcome(kind: str) -> None:
    assert len(methods_text(make_document(kind))) == 3


def test_a_loss_on_the_rows_that_chose_is_called_optimistic_and_an_honest_one_is_not() -> None:
    assert "optimistic, by about " in text_of(make_document("whole"))
    assert "optimistic, by an unknown amount" in text_of(make_document("halving"))
    folds = text_of(make_document("folds"))
    assert "which had chosen nothing: loss 0.0410 (95 % interval 0.0390 to 0.0430)" in folds
    assert "optimistic" not in folds


def test_no_sign_of_optimism_is_said_to_be_none() -> None:
    document = make_document("proven")
    loss = document["verdict"]["best_measured"]["final_test_loss"]
    assert float(difference_text(document["verdict"]["optimism"], loss)) == 0
    assert "shows no sign of optimism" in text_of(document)


def test_what_is_cited_is_listed_and_nothing_else() -> None:
    grid, halving = methods_text(make_document()), methods_text(make_document("halving"))
    assert {source.cited for source in cited(halving)} - {source.cited for source in cited(grid)} == {
        "Jamieson & Talwalkar, 2016"
    }
    assert len(cited(grid)) == 12
    assert cited(["nobody, 1999"]) == []


def test_every_source_is_cited_by_some_search() -> None:
    document = make_document()
    texts = []
    for strategy in ("grid", "random", "halving", "bayesian"):
        document["search"]["strategy"] = strategy
        texts += methods_text(document)
    assert {source.cited for source in cited(texts)} == {source.cited for source in SOURCES}


def test_the_bibtex_has_one_entry_for_each_source_and_balanced_braces() -> None:
    text = bibtex(SOURCES)
    keys = re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)
    assert len(keys) == len(set(keys)) == len(SOURCES)
    for entry in text.split("\n\n"):
        assert entry.count("{") == entry.count("}")
        assert re.search(r"^  (doi|url) = ", entry, re.MULTILINE)


def test_the_command_is_what_was_given() -> None:
    args = make_document("whole", ["--repeats", "3", "--group_column", "Instructor ID", "--no_probe"])["args"]
    assert changed_arguments(args) == {"repeats": 3, "group_column": "Instructor ID", "no_probe": True}
    assert command_line(args) == (
        "python hyperparam_optimizer.py --repeats 3 --no_probe --group_column 'Instructor ID'"
    )


START = {"file": "a/b.pth", "sha256": "cd" * 32, "frozen": True, "stored_scaling": True}


def test_what_trainings_started_from_is_said_and_whose_scaling_it_was() -> None:
    text = text_of({**make_document(), "init_from": START})
    assert "started from the weights of an earlier model (b.pth, SHA-256 cdcdcdcdcdcd…), whose encoder was kept" in text
    assert "Values were scaled as for the model from which trainings started." in text
    assert "percentiles" not in text
    assert "The decoders considered had" in text
    other = text_of({**make_document(), "init_from": {**START, "frozen": False, "stored_scaling": False}})
    assert "percentiles" in other
    assert "kept" not in other
    assert "earlier model" not in text_of({**make_document(), "init_from": None})


def test_what_a_study_crossed_is_said() -> None:
    factors = [{"name": "dropout", "levels": [0.0, 0.1]}, {"name": "weight_decay", "levels": [1e-06, 0.01]}]
    study = {"factors": factors, "configurations": [[64], [32]]}
    text = text_of({**make_document(), "study": study})
    assert "Crossed with 2 configurations were dropout (0 and 0.1) and weight decay (1e-6 and 0.01)" in text


def test_the_text_leaves_the_document_alone() -> None:
    document = make_document()
    before = copy.deepcopy(document)
    methods_text(document)
    assert document == before
