"""What the HTML report says about each picture: a heading, how to read it, and a text alternative.

    for name, describe in PICTURES.items():
        heading, caption, alt = describe(document)

A new picture needs a function here and its name in `PICTURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from layersearch.report.methods_results import level_of, mean_loss
from layersearch.space.naming import name_of
from layersearch.table.copus import CIRCULAR, are_profiles
from layersearch.words import change_text, count_of, figure, listed, whole

NAMED_AXES = 6  # latent dimensions that the text alternative names
MOST_DIMENSIONS = 5  # that `pictures/latent` draws in pairs; of more it draws principal components
Document = Mapping[str, Any]


class Description(NamedTuple):
    """`caption` says how to read the picture, `alt` what there is to see; both mention only what was drawn."""

    heading: str
    caption: str
    alt: str


def _verdict(document: Document) -> Description:
    verdict, ranked = document["verdict"], _ranked(document)
    caption = "Each configuration's loss minus that of the best measured"
    n = count_of(len(ranked), "configuration")
    losses = f"losses from {figure(ranked[0]['final_test_loss'])} to {figure(ranked[-1]['final_test_loss'])}"
    alt = f"{n}, with {losses}; there is no verdict on them."
    if len(ranked) < 2:
        caption += ": there is nothing to compare it with."
    elif verdict["tied"] is None:
        caption += ". There are no intervals: which differences are luck is not known."
    else:
        caption += ", with its interval. Those marked as tied are not ruled out by the data as the truly best."
        tied = len(verdict["tied"])
        alt = (
            f"{n} by how much worse than {name_of(verdict['best_measured'])} they are, with {losses}. "
            f"{tied} of them {'is' if tied == 1 else 'are'} not ruled out as the best."
        )
    return Description("How much worse than the best", caption, alt)


def _configurations(document: Document) -> Description:
    ranked = _ranked(document)
    sizes = [entry["model_params"] for entry in ranked]
    lowest, highest = figure(ranked[0]["final_test_loss"]), figure(ranked[-1]["final_test_loss"])
    alt = (
        f"Loss against size of {count_of(len(ranked), 'configuration')}, with {whole(min(sizes))} to "
        f"{whole(max(sizes))} parameters and losses from {lowest} to {highest}. "
        f"On the Pareto front: {listed(map(name_of, document['pareto_front']), 'and')}."
    )
    return Description("Loss against size", _caption_of_configurations(document["verdict"], ranked), alt)


def _caption_of_configurations(verdict: Document, ranked: list[Document]) -> str:
    is_known = verdict["tied"] is not None and len(ranked) > 1
    drawn = ["with ± 1 standard deviation over the repeats"] if ranked[0]["final_test_loss_sd"] is not None else []
    drawn += ["the band of the tied"] if is_known else []
    drawn += ["the baselines"] if verdict["baselines"] else []
    text = f"Each configuration's parameters against its loss{', ' + listed(drawn, 'and') if drawn else ''}."
    if len(ranked) < 2:
        return text
    if verdict["objectives"] != ["loss", "params"]:
        weighed = listed(verdict["objectives"], "and")
        return (
            f"{text} The Pareto front weighs {weighed}: no other one is better in one of these and as good in the rest."
        )
    noise = "within the noise" if is_known else "as measured"
    return f"{text} No smaller one matches one on the dashed Pareto front, {noise}."


def _search(document: Document) -> Description:
    best = _ranked(document)[:5]
    ends = (f"{name_of(entry)} to {figure(entry['final_test_loss'])}" for entry in best)
    return Description(
        "Loss by epoch",
        f"Test loss of the {f'best {len(best)}' if len(best) > 1 else 'one configuration'}. Curves always flatten at "
        "the end, since the learning rate goes to zero there; that alone does not show that training was long enough.",
        f"Test loss by epoch, over {count_of(document['args']['epochs'], 'epoch')}: {listed(ends, 'and')}.",
    )


def _history(document: Document) -> Description:
    steps = (document["search"] or {"history": []})["history"]
    known = [step["best_loss"] for step in steps if step["best_loss"] is not None]
    alt = "The lowest test loss against trainings done and against seconds"
    if known:
        trainings = count_of(round(steps[-1]["trainings"]), "training")
        alt += f": it falls from {figure(known[0])} to {figure(known[-1])} over {trainings}"
    return Description(
        "The search as it went",
        "The lowest test loss so far, and each configuration's, against trainings done and seconds.",
        f"{alt}.",
    )


def _study(document: Document) -> Description:
    study = document["study"]
    effects = study["main_effects"]
    caption = "The change in loss that each level brings against the reference"
    caption += ", mean over the configurations" if len(study["configurations"]) > 1 else ""
    known = any(effect["interval"] for effect in effects)
    caption += ", with intervals that hold together" if known else ", without intervals, since luck is not known"
    caption += "; and the strongest interaction" if study["strongest_interaction"] else ""
    changes = (
        f"{e['factor']} {level_of(e['level'])} by {change_text(e['effect'], None, mean_loss(study))}" for e in effects
    )
    return Description(
        "What the options change",
        f"{caption}. At other lengths of training the answer may differ.",
        f"What each option changes in the loss after {count_of(study['epochs'], 'epoch')}"
        f"{': ' + listed(changes, 'and') if effects else ''}.",
    )


def _latent(document: Document) -> Description:
    n, label = document["args"]["latent_dim"], document["data"].get("label_column")
    caption = f"Every observation in the latent space of the best model, by density{' and by label' if label else ''}."
    if n > MOST_DIMENSIONS:
        caption += f" Of the {n} dimensions, the first two principal components."
    elif n > 2:
        caption += f" Every two of the {n} dimensions."
    rows = count_of(document["data"]["rows"], "row")
    best = name_of(document["best_configuration"])
    alt = f"{rows} in the latent space of {best}, by density{f', coloured by {label}' if label else ''}."
    return Description("The latent space", caption, alt)


def _axes(document: Document) -> Description:
    axes = document["latent_space"]["axes"]
    found = []
    for place, dimension in enumerate(axes["dimensions"][:NAMED_AXES]):
        known = {name: row[place] for name, row in axes["correlations"].items() if row[place] is not None}
        if known:
            name = max(known, key=lambda name: abs(known[name]))
            found.append(f"dimension {dimension} goes most with {name} ({known[name]:+.2f})")
    n = count_of(len(axes["dimensions"]), "latent dimension")
    return Description(
        "What the latent dimensions go with",
        "Correlation of every latent dimension with every column, over all rows. A dimension has no name and no sign "
        "of its own; what it goes with gives it one.",
        f"Correlations of {n} with {count_of(len(axes['correlations']), 'column')}: {listed(found, 'and')}.",
    )


def _reconstruction(document: Document) -> Description:
    kept = document["latent_space"]["reconstruction"]
    shares = (f"{name} {value:.2f}" for name, value in kept["overall"].items() if value is not None)
    columns = count_of(len(kept["by_column"]), "column")
    return Description(
        "What is kept of each column",
        "Share of each column's variance that the model, and PCA of the same size, keep on the test rows. Below zero "
        "the training mean would do better.",
        f"Share of the variance kept of {columns} on {count_of(kept['rows'], 'test row')}: {listed(shares, 'and')}.",
    )


def _agreement(document: Document) -> Description:
    found = document["latent_space"]["agreement"]
    shares = (f"{name} {found['knn_accuracy'][name]['value']:.2f}" for name in ("latent", "pca", "columns"))
    return Description(
        "Agreement with the labels",
        "How well labels that no training saw agree with the latent space, with PCA of the same size and with the "
        "scaled columns, with intervals." + (f" {CIRCULAR}" if are_profiles(found["labels"]) else ""),
        f"How well {count_of(len(found['labels']), 'label')} of {found['label_column']} agree with the latent space, "
        f"PCA and the columns. Accuracy of the nearest neighbours: {listed(shares, 'and')}; "
        f"always the commonest label: {found['majority_share']:.2f}.",
    )


def _clusters(document: Document) -> Description:
    clusters = document["latent_space"]["clusters"]
    sizes = listed(map(whole, clusters["sizes"]), "and")
    return Description(
        "Clusters in the latent space",
        "As many components of a Gaussian mixture as its BIC prefers. That they can be told apart does not make them "
        "kinds of observations.",
        f"The latent space by {count_of(clusters['preferred'], 'cluster')}, of {sizes} rows.",
    )


def _ranked(document: Document) -> list[Document]:
    return [entry for entry in document["all_results"] if entry["status"] == "ok"]


PICTURES: dict[str, Callable[[Document], Description]] = {  # by the field of `OutputFiles`, in the order of the page
    "verdict_plot": _verdict,
    "configurations_plot": _configurations,
    "search_plot": _search,
    "history_plot": _history,
    "study_plot": _study,
    "latent_plot": _latent,
    "axes_plot": _axes,
    "reconstruction_plot": _reconstruction,
    "agreement_plot": _agreement,
    "clusters_plot": _clusters,
}
