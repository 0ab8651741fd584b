"""What a search has found, in the sentences of a methods section: `methods.py` has the rest of it.

    sentences = selection(document) + effects(document)

The sentences are about how the best was selected, the effects of a study, the ensemble, and the latent space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from layersearch.space.factors import read_factors
from layersearch.space.naming import name_of
from layersearch.table.copus import CIRCULAR, are_profiles
from layersearch.words import (
    COLUMN_MEANS,
    LINEAR,
    PRINCIPAL,
    baseline_name,
    change_text,
    count_of,
    difference_text,
    figure,
    interval_text,
    is_told,
    listed,
    percent,
    readable,
    short,
    whole,
)

Document = Mapping[str, Any]

LINEAR_FIT = (
    "The linear autoencoder, of an affine encoder and decoder, was fitted to the loss of the networks by alternating "
    "least squares from the principal components."
)


def selection(document: Document) -> list[str]:
    verdict, best, args = document["verdict"], document["best_configuration"], document["args"]
    if verdict is None or best is None:
        return []
    rows = "the folds of the training observations" if args["cv_folds"] else "the test observations"
    mean = "" if args["repeats"] * max(args["cv_folds"], 1) == 1 else "mean "
    n = sum(entry["status"] == "ok" for entry in document["all_results"])
    when = "of the weights kept" if args["patience"] else "after the last epoch"
    sentences = [f"What counts is the {mean}loss {when} on {rows}."]
    if verdict["tied"] is not None and n > 1:
        sentences.append(
            f"Which {compared(document)} may be the best was decided by multiple comparisons with the best (Hsu, 1984) "
            f"with {percent(verdict['confidence'])} confidence, with critical values from a bootstrap over "
            f"{whole(verdict['n_resampled'])} {verdict['resampled']} (Efron, 1979) and Student's t over trainings, "
            "whose variances were moderated (Smyth, 2004)."
        )
    sentences += [_outcome(document, verdict, n), *_honesty(document, verdict, best)]
    if baselines := [b for b in verdict["baselines"] if b["name"] != COLUMN_MEANS]:
        texts = (
            f"{'' if b['name'] == PRINCIPAL else 'the '}{baseline_name(b['name'], b['components'])} reached "
            f"{figure(b['loss'])}"
            for b in baselines
        )
        sentences.append(f"As baselines, scored alike, {listed(texts, 'and')}.")
        sentences += [LINEAR_FIT] * any(b["name"] == LINEAR for b in baselines)
    return sentences + _probe(verdict["probe"])


def compared(document: Document) -> str:
    """Returns what was compared: variants are configurations with their options."""
    return "variant" if crossed_levels(document) else "configuration"


def _outcome(document: Document, verdict: Document, n: int) -> str:
    measured, recommended = verdict["best_measured"], verdict["recommended"]
    first = document["all_results"][0]
    sd = "" if first["final_test_loss_sd"] is None else " (mean ± standard deviation over repeats)"
    loss = figure(first["final_test_loss"], first["final_test_loss_sd"])
    size = count_of(measured["model_params"], "parameter")
    best = f"{name_of(measured)} had {'the lowest loss,' if n > 1 else 'a loss of'} {loss}{sd}, with {size}"
    if verdict["tied"] is None or n < 2:
        return f"{best}."
    if verdict["proven"]:
        outcome = f"{best}, and was the only one not ruled out as the best."
    else:
        outcome = f"{best}; {len(verdict['tied'])} of {whole(n)} {compared(document)}s were not ruled out as the best."
    if verdict["recommended_difference_at_most"] is None:
        return outcome
    bound = difference_text(verdict["recommended_difference_at_most"], measured["final_test_loss"], signed=False)
    return (
        f"{outcome} The smallest that was shown to be within {percent(verdict['margin'])} of it was "
        f"{name_of(recommended)} ({count_of(recommended['model_params'], 'parameter')}, loss "
        f"{figure(recommended['final_test_loss'])}, at most {bound} above the lowest; upper bounds that hold together "
        "for all smaller ones)."
    )


def _honesty(document: Document, verdict: Document, best: Document) -> list[str]:
    """Returns how far the chosen configuration's loss can be trusted."""
    if best["honest_test_loss"] is not None:
        low, high = best["honest_test_loss_interval"] or (None, None)
        in_it = " in this search, whatever the earlier model had seen" if document.get("init_from") else ""
        return [
            f"{name_of(best)} was then trained on all training observations and scored on the "
            f"{whole(document['data']['test_rows'])} test observations, which had chosen nothing{in_it}: loss "
            f"{figure(best['honest_test_loss'])} ({percent(verdict['confidence'])} interval {figure(low)} to "
            f"{figure(high)})."
        ]
    if document["args"]["cv_folds"] or len(document["all_results"]) < 2:
        return []
    if verdict["optimism"] is None or (document["search"] or {}).get("dropped"):
        return ["The same observations chose and scored it, so its loss is optimistic, by an unknown amount."]
    optimism = difference_text(verdict["optimism"], verdict["best_measured"]["final_test_loss"], signed=False)
    optimism = f"about {optimism}" if float(optimism) else f"less than {optimism[:-1]}1"
    return [f"The same observations chose and scored it, so its loss is optimistic, by {optimism}."]


def _probe(probe: Document | None) -> list[str]:
    if not probe:
        return []
    losses = [entry["loss"] for entry in probe["losses"]]
    return [
        f"Trained for {probe['epochs'][-1]} epochs instead of {probe['epochs'][0]}, "
        f"{listed((name_of(entry) for entry in probe['losses']), 'and')} reached losses of "
        f"{listed((figure(loss[-1]) for loss in losses), 'and')} instead of "
        f"{listed((figure(loss[0]) for loss in losses), 'and')}."
    ]


def effects(document: Document) -> list[str]:
    """Returns what a study has shown, and how."""
    study = document.get("study")
    if not study or not study["main_effects"]:
        return []
    n, loss = len(study["configurations"]), mean_loss(study)
    names = (
        f"{option_name(f['name'])} {level_of(f['reference'])}" for f in study["factors"] if f["reference"] is not None
    )
    means = [count_of(n, "configuration")] * (n > 1) + ["the other options' values"] * (len(study["factors"]) > 1)
    over = f"the mean, over {listed(means, 'and')}, of " if means else ""
    sentences = [
        f"The effect of a value was {over}the loss after {count_of(study['epochs'], 'epoch')} minus that at the "
        f"reference ({listed(names, 'and')})."
    ]
    if all(effect["interval"] is None for effect in study["main_effects"]):
        sentences.append("There are no intervals, since nothing is known of the luck in these effects.")
    else:
        interactions = ", as do those of all interactions" if study["interactions"] else ""
        luck = "repeat" if study["repeats"] > 1 else "fold"
        sentences.append(
            f"Intervals are from a bootstrap over {document['verdict']['resampled']} (Efron, 1979) and Student's t "
            f"over the differences within each {luck}; those of all main effects hold together with "
            f"{percent(study['confidence'])} confidence{interactions} (balanced; Beran, 1988)."
        )
    changes = [
        f"{option_name(e['factor'])} {level_of(e['level'])} instead of {level_of(e['reference'])} "
        f"{change_text(e['effect'], e['interval'], loss)}"
        for e in study["main_effects"]
    ]
    sentences.append(f"The changes of the loss were: {'; '.join(changes)}.")
    sentences += [_interaction(study["strongest_interaction"], loss)] if study["strongest_interaction"] else []
    return sentences + [f"Left out were {'; '.join(study['left_out'])}."] * bool(study["left_out"])


def mean_loss(study: Document) -> float:
    """Returns the mean over all that a study compared; effects have as many decimals as it has."""
    known = [loss for factor in study["factors"] for loss in factor["mean_losses"] if loss is not None]
    return math.fsum(known) / len(known)


def _interaction(interaction: Document, loss: float) -> str:
    pairs = zip(interaction["factors"], interaction["levels"], strict=True)
    names = " with ".join(f"{option_name(name)} {level_of(level)}" for name, level in pairs)
    change = change_text(interaction["effect"], interaction["interval"], loss)
    text = f"{names}, {change} on top of what each does alone"
    if interaction["interval"] and not is_told(interaction["interval"]):
        return f"No interaction could be told from luck (the strongest: {text})."
    return f"The strongest interaction was {text}."


def ensemble(document: Document) -> list[str]:
    ensemble, data = document.get("ensemble"), document["data"]
    if not ensemble:
        return []
    chose = "" if document["args"]["cv_folds"] else ", which had also chosen the configurations,"
    best, loss, interval = ensemble["best_single"], ensemble["test_loss"], ensemble["difference_interval"]
    gain = f"a difference of {difference_text(ensemble['difference'], loss)}"
    if interval:
        gain += f" ({percent(document['args']['confidence'])} interval {interval_text(interval, loss)}"
        gain += f" over test {'groups' if data.get('group_column') else 'observations'}, both models taken as they are)"
    return [
        f"An ensemble of {whole(len(ensemble['members']))} trained models of "
        f"{count_of(ensemble['configurations'], 'configuration')} reconstructed by the mean of their "
        f"reconstructions (Krogh & Vedelsby, 1995). Its loss on the test observations{chose} was {figure(loss)}, that "
        f"of the best single model, {name_of(best)}, {figure(best['test_loss'])}, {gain}, and that of its members "
        f"{figure(ensemble['mean_member_test_loss'])} on average. Their latent coordinates were turned onto those of "
        "one of them by orthogonal Procrustes (Schönemann, 1966) and averaged; they agreed with that one's to "
        f"{ensemble['mean_agreement']:.2f} on average (R² of Procrustes with a free scale; Gower, 1975)."
    ]


def clusters(document: Document) -> list[str]:
    """Returns how many clusters the latent space has, where no labels were compared with it."""
    found = (document.get("latent_space") or {}).get("clusters")
    if not found:
        return []
    tried = len(found["bic"])
    preferred = f"{found['preferred']}, the most that were tried" if found["at_least"] else str(found["preferred"])
    of = f"1 to {tried} components" if tried > 1 else "1 component alone"
    return [
        f"Of Gaussian mixtures of {of}, fitted to the latent coordinates of {count_of(found['rows'], 'observation')}, "
        f"the Bayesian information criterion (Schwarz, 1978) preferred the one with {preferred}."
    ]


def agreement(document: Document) -> list[str]:
    """Returns how well labels agree with the latent space, where they were compared."""
    found = (document.get("latent_space") or {}).get("agreement")
    if not found:
        return []

    def measured(measure: str) -> str:
        spaces = (found[measure][name] for name in ("latent", "pca", "columns"))
        return listed((f"{s['value']:.2f} [{s['interval'][0]:.2f}, {s['interval'][1]:.2f}]" for s in spaces), "and")

    return [
        f"Labels that no training saw, {count_of(len(found['labels']), 'value')} of "
        f"“{readable(found['label_column'])}” on {count_of(found['rows'], 'observation')}, were compared with the "
        "latent space, with as many principal components and with the scaled columns. In this order the accuracy of "
        f"the {found['neighbours']} nearest neighbours over {found['folds']} folds (Cover & Hart, 1967) was "
        f"{measured('knn_accuracy')}, where always the commonest label has {found['majority_share']:.2f}; the mean "
        f"silhouette (Rousseeuw, 1987) was {measured('silhouette')}, and the adjusted Rand index (Hubert & Arabie, "
        f"1985) with a Gaussian mixture of as many components {measured('adjusted_rand_index')}. The "
        f"{percent(found['confidence'])} intervals are from a bootstrap over {found['resampled']} (Efron, 1979).",
        *([CIRCULAR] if are_profiles(found["labels"]) else []),
    ]


def crossed_levels(document: Document) -> dict[str, Sequence[float | str]]:
    """Returns the levels that a study crossed; every other option had one value in all that is ranked."""
    study, args = document.get("study"), document["args"]
    if study:
        return {factor["name"]: factor["levels"] for factor in study["factors"]}
    has_variants = any(entry.get("options") for entry in document["all_results"])
    if args.get("study") and (has_variants or not args.get("study_configs")):  # a study of which nothing finished
        return {factor.name: factor.levels for factor in read_factors(args["study"])}
    return {}


def option_name(name: str) -> str:
    return name.replace("_", " ")


def level_of(level: float | str) -> str:
    """Returns an option's value in running text: `0.1`, `1e-6`, `none`."""
    return level if isinstance(level, str) else short(level)
