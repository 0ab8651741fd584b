"""The methods section says what was done, with numbers that all come from the results."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
from documents import DEFAULTS, ENSEMBLE, FIRST_STAGE, KINDS, MODES, START, make_document, make_mode

from layersearch.report.html.run import changed_arguments, command_line
from layersearch.report.methods import methods_text
from layersearch.report.references import bibtex, cited, sources
from layersearch.table.copus import CIRCULAR

NUMBER = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?(?:e-?[0-9]+)?")
CITED = re.compile("|".join(re.escape(words) for source in sources() for words in (source.cited, source.named)))


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
    """All numbers but the years of citations and those in names."""
    return NUMBER.findall(CITED.sub("", text).replace("SHA-256", ""))


def is_from(document: dict[str, Any], number: str) -> bool:
    """Whether a value of the document reads like this number, rounded and without its sign, or a text holds it."""
    plain = number.replace(",", "")
    decimals = len(plain.partition(".")[2].partition("e")[0])
    for leaf in leaves_of(document):
        if isinstance(leaf, str):
            if plain in leaf:
                return True
        elif float(plain) in (leaf, 100 * leaf) or ("." in plain and f"{abs(leaf):.{decimals}f}" == plain):
            return True
    return "." not in plain and int(plain) == [entry["status"] for entry in document["all_results"]].count("ok")


@pytest.mark.parametrize("kind", [*KINDS, *MODES])
def test_no_number_in_it_is_from_elsewhere(kind: str) -> None:
    document = make_mode(kind) if kind in MODES else make_document(kind)
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
    assert "2 of 8 configurations were not ruled out as the best." in whole
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


def test_that_published_profiles_were_made_from_the_codes_is_said_of_them_alone() -> None:
    document = make_document("whole")
    assert CIRCULAR in text_of(document)
    document["latent_space"]["agreement"]["labels"] = {"morning": 1004, "evening": 1004}
    assert CIRCULAR not in text_of(document)


def test_optimism_too_small_to_show_is_given_a_bound() -> None:
    document = make_document("proven")
    document["verdict"]["optimism"] = 0.0
    assert "optimistic, by less than 0.0001." in text_of(document)


def test_the_smallest_shown_to_be_as_good_is_named_with_its_bound() -> None:
    document = make_document("whole")
    document["verdict"] |= {"recommended_difference_at_most": 0.0021, "margin": 0.05}
    document["verdict"]["recommended"] = {"config": [16], "model_params": 1035, "final_test_loss": 0.0391}
    words = "shown to be within 5 % of it was [16] (1,035 parameters, loss 0.0391, at most 0.0021 above the lowest"
    assert words in text_of(document)


def test_what_is_cited_is_listed_and_nothing_else() -> None:
    grid, halving = methods_text(make_document()), methods_text(make_document("halving"))
    assert {source.cited for source in cited(halving)} - {source.cited for source in cited(grid)} == {
        "Jamieson & Talwalkar, 2016"
    }
    assert len(cited(grid)) == 17
    assert cited(["nobody, 1999"]) == []


@pytest.mark.parametrize("kind", [*KINDS, *MODES])
def test_a_year_stands_in_brackets(kind: str) -> None:
    text = text_of(make_mode(kind) if kind in MODES else make_document(kind))
    for source in cited([text]):
        for found in re.finditer(re.escape(source.cited), text):
            before = text[: found.start()]
            assert before.count("(") > before.count(")"), source.cited
    assert "scaled as by Glorot & Bengio (2010)." in text
    assert "that of Ba et al. (2016)." in text


def test_the_published_table_is_cited_where_the_data_are_it() -> None:
    document = make_document()
    assert "Stains" not in text_of(document)
    document["data"]["path"] = "data/stains.csv"
    assert "(stains.csv, SHA-256 abababababab…; Stains et al., 2018)." in text_of(document)
    document["data"]["rows"] = 2007
    assert "Stains" not in text_of(document)


def test_every_source_is_cited_by_some_search() -> None:
    document = make_document()
    texts = []
    for strategy in ("grid", "random", "halving", "bayesian"):
        document["search"]["strategy"] = strategy
        texts += methods_text(document)
    for mode in MODES:
        texts += methods_text(make_mode(mode))
    document["data"]["path"] = "data/stains.csv"
    texts += methods_text(document)
    assert {source.cited for source in cited(texts)} == {source.cited for source in sources()}


def test_the_bibtex_has_one_entry_for_each_source_and_balanced_braces() -> None:
    text = bibtex(sources())
    keys = re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)
    assert len(keys) == len(set(keys)) == len(sources())
    for entry in text.split("\n\n"):
        assert entry.count("{") == entry.count("}")
        assert re.search(r"^  (doi|url|volume) = ", entry, re.MULTILINE)


def test_the_command_is_what_was_given() -> None:
    args = make_document("whole", ["--repeats", "3", "--group_column", "Instructor ID", "--no_probe"])["args"]
    assert changed_arguments(args, DEFAULTS) == {"repeats": 3, "group_column": "Instructor ID", "no_probe": True}
    assert command_line(args, DEFAULTS) == (
        "python hyperparam_optimizer.py --repeats 3 --group_column 'Instructor ID' --no_probe"
    )


def test_a_start_from_a_saved_model_is_told_as_one() -> None:
    text = text_of(make_mode("start"))
    assert "Trainings started from the weights of an earlier model (b.pth, SHA-256 cdcdcdcdcdcd…)" in text
    assert "weights without a counterpart there were drawn uniformly, scaled as by Glorot & Bengio (2010)" in text
    assert "took 2,468 parameters from there" in text
    assert "Initial weights were uniform" not in text
    assert "different initial weights" not in text
    assert "all from that start, with different batch orders and dropout patterns and different weights where" in text
    assert "The decoder mirrored the encoder." in text
    assert "earlier model" not in text_of({**make_document(), "init_from": None})


def test_whose_scaling_it_was_is_said() -> None:
    document = make_mode("start")
    assert "among the earlier model's training observations" in text_of(document)
    assert "from which trainings started, not fitted here" in text_of(document)
    document["data"]["scaling"] = {"kind": "none"}
    assert "Values were not rescaled; that scaling was the one of the earlier model" in text_of(document)
    document = {**make_document(), "init_from": {**START, "stored_scaling": False}}
    assert "among the training observations" in text_of(document)
    assert "not fitted" not in text_of(document)


def test_a_frozen_encoder_is_told_to_be_the_saved_one_without_dropout() -> None:
    text = text_of(make_mode("frozen"))
    assert "The encoder was that of the earlier model ([64, 32]) and stayed as it was; only decoders" in text
    assert "The decoders considered had" in text
    assert "none wider than the one farther from the latent layer" in text
    assert "in the decoder alone subject to dropout" in text
    assert "mirrored" not in text


def test_without_dropout_nothing_is_subject_to_it() -> None:
    document = make_document()
    document["args"]["dropout"] = 0.0
    assert "dropout" not in text_of(document)


def test_what_was_crossed_has_no_single_value() -> None:
    text = text_of(make_mode("study"))
    assert "subject to dropout (probability 0 or 0.1, crossed; Srivastava" in text
    assert "weight decay 1e-6 or 0.01, crossed; Loshchilov" in text
    assert "layer-normalised or not (crossed)" in text
    assert (
        "They were crossed, in a full factorial design, with dropout (0 and 0.1), weight decay (1e-6 and 0.01) and "
        "normalization (layer and none); all of these 16 variants were trained." in text
    )
    assert "Each variant was trained 5 times" in text
    assert "first stage" not in text
    assert "All were trained" not in text


def test_the_input_may_be_crossed_too() -> None:
    document = make_mode("study")
    document["study"]["factors"][2]["name"] = "input_normalization"
    document["study"]["main_effects"] = []
    text = text_of(document)
    assert (
        "layer normalisation of the input or none (crossed), hidden layers that were linear, layer-normalised," in text
    )
    assert "effect of a value" not in text


def test_a_study_of_which_nothing_finished_is_still_no_single_value() -> None:
    document = make_document("failed", ["--study", "dropout=0,0.3"])
    assert "probability 0 or 0.3, crossed" in text_of(document)
    only_first = make_document("failed", ["--study", "dropout=0,0.3", "--study_configs", "2"])
    assert "probability 0.1;" in text_of(only_first)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("grid", "In a first stage all 3 were trained, with dropout 0.1,"),
        ("random", "In a first stage 3 were drawn at random (Bergstra & Bengio, 2012) and trained, with"),
        ("halving", "In a first stage 3 were compared by successive halving (Jamieson & Talwalkar, 2016), which let"),
        ("bayesian", "In a first stage 3 were proposed by a tree-structured Parzen estimator"),
    ],
)
def test_the_stage_that_chose_what_was_crossed_is_told(strategy: str, words: str) -> None:
    document = make_mode("best crossed")
    document["study"]["first_stage"] = {**FIRST_STAGE, "strategy": strategy}
    text = text_of(document)
    assert words in text
    assert "The best 2 of them were crossed, in a full factorial design, with dropout (0 and 0.1)" in text
    assert "all of these 16 variants were trained anew, in other repeats than those that had chosen them" in text
    document["search"]["tried"] = 15
    assert "of these 16 variants 15 were trained anew" in text_of(document)


def test_effects_have_their_intervals_and_how_these_were_made() -> None:
    text = text_of(make_mode("study"))
    assert "The effect of a value was the mean, over 2 configurations and the other options' values, of" in text
    assert "at the reference (dropout 0.1, weight decay 1e-6 and normalization layer)" in text
    assert "with 95 % confidence, as do those of all interactions (balanced; Beran, 1988)" in text
    assert "dropout 0 instead of 0.1 -0.0049 [-0.0069, -0.0029]; weight decay 0.01 instead of 1e-6 +0.0011 [" in text
    assert "The strongest interaction was dropout 0 with normalization none, +0.0031 [+0.0020, +0.0042] on top" in text


def test_a_study_of_one_option_and_layers_has_no_means_over_others() -> None:
    document = make_mode("study")
    del document["study"]["factors"][1:], document["study"]["main_effects"][1:], document["study"]["configurations"][1:]
    document["study"] |= {"interactions": [], "strongest_interaction": None}
    text = text_of(document)
    assert "The effect of a value was the loss after 4 epochs minus that at the reference (dropout 0.1)." in text
    assert "interaction" not in text


def test_an_honest_loss_after_a_start_is_honest_of_this_search_alone() -> None:
    document = {**make_document("folds"), "init_from": START}
    assert "which had chosen nothing in this search, whatever the earlier model had seen: loss" in text_of(document)


def test_a_study_compares_variants() -> None:
    text = text_of(make_mode("study"))
    assert "Which variant may be the best" in text
    assert "of 8 variants were not ruled out" in text


def test_the_recommended_may_differ_from_the_best_in_its_options_alone() -> None:
    document = make_mode("study")
    best, smallest = (document["verdict"][name] for name in ("best_measured", "recommended"))
    smallest |= {"config": best["config"], "options": {"normalization": "none"}}
    assert "shown to be within 5 % of it was [64, 64] (normalization none) (" in text_of(document)


def test_what_cannot_be_told_in_a_study_is_not_told() -> None:
    document = copy.deepcopy(make_mode("study"))
    document["study"]["strongest_interaction"] |= {"effect": 0.00001, "interval": [-0.00004, 0.00006]}
    document["study"]["left_out"] = ["[16] (1 of 8 unfinished)"]
    text = text_of(document)
    assert (
        "No interaction could be told from luck (the strongest: dropout 0 with normalization none, +0.000010 [" in text
    )
    assert "Left out were [16] (1 of 8 unfinished)." in text
    for effect in (*document["study"]["main_effects"], document["study"]["strongest_interaction"]):
        effect["interval"] = None
    assert "Beran" not in text_of(document)
    assert "There are no intervals" in text_of(document)


def test_an_ensemble_is_told_with_its_gain() -> None:
    text = text_of(make_mode("ensemble"))
    assert "An ensemble of 3 trained models of 2 configurations reconstructed by the mean" in text
    assert "on the test observations, which had also chosen the configurations, was 0.0321" in text
    assert "was 0.0321, that of the best single model, [64, 64], 0.0401, a difference of -0.0080 (95 % interval" in text
    assert "[-0.0091, -0.0069] over test observations" in text
    assert "that of its members 0.0411 on average" in text
    assert "to 0.91 on average" in text
    document = {**make_document(), "ensemble": {**ENSEMBLE, "difference_interval": None}}
    assert "a difference of -0.0080, and that" in text_of(document)
    assert "ensemble" not in text_of(make_document()).lower()


def test_agreement_with_labels_is_told_where_there_is_one() -> None:
    document = copy.deepcopy(make_document())
    text = text_of(document)
    assert "2 values of “Cluster” on 2,008 observations" in text
    assert (
        "the 15 nearest neighbours over 5 folds (Cover & Hart, 1967) was 0.53 [0.51, 0.55], 0.58 [0.56, 0.60] and"
        in text
    )
    assert "bootstrap over rows (Efron, 1979)" in text
    document["latent_space"]["agreement"] = None
    assert "nearest neighbours" not in text_of(document)
    assert "nearest neighbours" not in text_of({**document, "latent_space": None})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"preferred": 2, "at_least": False, "bic": [3.0, 1.0, 2.0]}, "of 1 to 3 components, fitted to the latent"),
        ({"preferred": 3, "at_least": True, "bic": [3.0, 2.0, 1.0]}, "preferred the one with 3, the most that were"),
        ({"preferred": 1, "at_least": False, "bic": [3.0]}, "of 1 component alone"),
    ],
)
def test_clusters_are_told_where_no_labels_were_compared(found: dict[str, Any], words: str) -> None:
    document = copy.deepcopy(make_document())
    document["latent_space"]["clusters"] = None
    assert "Schwarz" not in text_of(document)
    assert "scikit-learn 1.9.1 (Pedregosa et al., 2011)" in text_of(document)
    document["latent_space"] = {"agreement": None, "clusters": {**found, "rows": 2008, "sizes": [2008]}}
    assert words in text_of(document)
    assert "scikit-learn 1.9.1 (Pedregosa et al., 2011)" in text_of(document)
    assert "scikit-learn" not in text_of({**document, "latent_space": None})


def test_what_failed_or_was_not_reached_is_said() -> None:
    assert "1 configuration failed and is not ranked." in text_of(make_document())
    text = text_of(make_document("interrupted"))
    assert "Each configuration was to be trained 5 times" in text
    assert "The search was interrupted before its end." in text


def test_what_halving_left_behind_was_not_trained_to_the_end() -> None:
    assert "for 20 epochs, or until they were left behind, in batches" in text_of(make_document("halving"))
    assert "left behind" not in text_of(make_document())


def test_weights_that_early_stopping_kept_are_what_counts() -> None:
    document = make_document()
    document["args"]["patience"] = 5
    assert "What counts is the mean loss of the weights kept on the test observations." in text_of(document)


def test_the_text_leaves_the_document_alone() -> None:
    document = make_document()
    before = copy.deepcopy(document)
    methods_text(document)
    assert document == before


@pytest.mark.parametrize(("components", "words"), [(1, "PCA with 1 component reached"), (24, "PCA with 24 components")])
def test_pca_has_the_components_that_the_results_say(components: int, words: str) -> None:
    document = make_document("whole")
    (pca,) = (baseline for baseline in document["verdict"]["baselines"] if baseline["name"] == "PCA")
    pca["components"] = components
    assert words in text_of(document)
    assert "the best constant reached" in text_of(document)
