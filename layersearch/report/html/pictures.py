"""What the HTML report says about each picture: a heading, how to read it, and in words what there is to see.

for name, picture in PICTURES.items():
    picture.heading, picture.caption, picture.alt(document)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from layersearch.report.methods import level_of, mean_loss
from layersearch.space.naming import name_of
from layersearch.words import change_text, count_of, figure, listed, whole

NAMED_AXES = 6  # in words
MOST_DIMENSIONS = 5  # that `layersearch/pictures/latent` draws two by two; of more it draws principal components
Document = Mapping[str, Any]


class Picture(NamedTuple):
    """`caption` says how to read it, `alt` what there is to see; both speak of what the document has."""

    heading: str
    caption: Callable[[Document], str]
    alt: Callable[[Document], str]


def _always(text: str) -> Callable[[Document], str]:
    return lambda document: text


def _caption_of_verdict(document: Document) -> str:
    text = "Each configuration's loss minus that of the best measured"
    if sum(entry["status"] == "ok" for entry in document["all_results"]) < 2:
        return f"{text}: there is nothing to compare it with."
    if document["verdict"]["tied"] is None:
        return f"{text}. There are no intervals: which differences are luck is not known."
    return f"{text}, with its interval. Those marked as tied are not ruled out by the data as the truly best."


def _caption_of_configurations(document: Document) -> str:
    verdict, ranked = document["verdict"], [entry for entry in document["all_results"] if entry["status"] == "ok"]
    is_known = verdict["tied"] is not None and len(ranked) > 1
    with_what = ["with ± 1 standard deviation over the repeats"] if ranked[0]["final_test_loss_sd"] is not None else []
    with_what += ["the band of the tied"] if is_known else []
    with_what += ["the baselines"] if verdict["baselines"] else []
    start = "Each configuration's parameters against its loss"
    text = f"{start}{', ' * bool(with_what)}{listed(with_what, 'and') if with_what else ''}."
    if len(ranked) < 2:
        return text
    if verdict["objectives"] != ["loss", "params"]:
        weighed = listed(verdict["objectives"], "and")
        return (
            f"{text} The Pareto front weighs {weighed}: no other one is better in one of these and as good in the rest."
        )
    noise = "within the noise" if is_known else "as measured"
    return f"{text} No smaller one matches one on the dashed Pareto front, {noise}."


def _caption_of_search(document: Document) -> str:
    n = min(5, sum(entry["status"] == "ok" for entry in document["all_results"]))
    which = f"of the best {n}" if n > 1 else "of the one configuration"
    return (
        f"Test loss {which}. Curves always flatten at the end, since the learning rate goes to zero there; that alone "
        "does not show that training was long enough."
    )


def _caption_of_study(document: Document) -> str:
    study = document["study"]
    n = len(study["configurations"])
    text = "The change in loss that each level brings against the reference"
    text += ", mean over the configurations" if n > 1 else ""
    known = any(effect["interval"] for effect in study["main_effects"])
    text += ", with intervals that hold together" if known else ", without intervals, since luck is not known"
    text += "; and the strongest interaction" if study["strongest_interaction"] else ""
    return f"{text}. At other lengths of training the answer may differ."


def _caption_of_latent(document: Document) -> str:
    n, label = document["args"]["latent_dim"], document["data"].get("label_column")
    text = f"Every observation in the latent space of the best model, by density{' and by label' if label else ''}."
    if n > MOST_DIMENSIONS:
        return f"{text} Of the {n} dimensions, the first two principal components."
    return text if n < 3 else f"{text} Every two of the {n} dimensions."


def _alt_of_verdict(document: Document) -> str:
    verdict = document["verdict"]
    ranked = [entry for entry in document["all_results"] if entry["status"] == "ok"]
    losses = f"losses from {figure(ranked[0]['final_test_loss'])} to {figure(ranked[-1]['final_test_loss'])}"
    n = count_of(len(ranked), "configuration")
    if verdict["tied"] is None or len(ranked) == 1:
        return f"{n}, with {losses}; there is no verdict on them."
    return (
        f"{n} by how much worse than {name_of(verdict['best_measured'])} they are, with {losses}. "
        f"{len(verdict['tied'])} of them {'is' if len(verdict['tied']) == 1 else 'are'} not ruled out as the best."
    )


def _alt_of_configurations(document: Document) -> str:
    ranked = [entry for entry in document["all_results"] if entry["status"] == "ok"]
    sizes = [entry["model_params"] for entry in ranked]
    front = listed(map(name_of, document["pareto_front"]), "and")
    lowest, highest = figure(ranked[0]["final_test_loss"]), figure(ranked[-1]["final_test_loss"])
    return (
        f"Loss against size of {count_of(len(ranked), 'configuration')}, with {whole(min(sizes))} to "
        f"{whole(max(sizes))} parameters and losses from {lowest} to {highest}. On the Pareto front: {front}."
    )


def _alt_of_search(document: Document) -> str:
    best = [entry for entry in document["all_results"] if entry["status"] == "ok"][:5]
    ends = (f"{name_of(entry)} to {figure(entry['final_test_loss'])}" for entry in best)
    return f"Test loss by epoch, over {count_of(document['args']['epochs'], 'epoch')}: {listed(ends, 'and')}."


def _alt_of_history(document: Document) -> str:
    search = document["search"] or {"history": []}
    known = [step["best_loss"] for step in search["history"] if step["best_loss"] is not None]
    if not known:
        return "The lowest test loss against trainings done and against seconds."
    return (
        f"The lowest test loss against trainings done and against seconds: it falls from {figure(known[0])} to "
        f"{figure(known[-1])} over {count_of(round(search['history'][-1]['trainings']), 'training')}."
    )


def _alt_of_study(document: Document) -> str:
    study = document["study"]
    effects = (
        f"{e['factor']} {level_of(e['level'])} by {change_text(e['effect'], None, mean_loss(study))}"
        for e in study["main_effects"]
    )
    changes = f": {listed(effects, 'and')}" if study["main_effects"] else ""
    return f"What each option changes in the loss after {count_of(study['epochs'], 'epoch')}{changes}."


def _alt_of_latent(document: Document) -> str:
    best, label = document["best_configuration"], document["data"].get("label_column")
    by = f", coloured by {label}" if label else ""
    rows = count_of(document["data"]["rows"], "row")
    return f"{rows} in the latent space of {name_of(best)}, by density{by}."


def _alt_of_axes(document: Document) -> str:
    """What each dimension goes with most."""
    axes = document["latent_space"]["axes"]
    found = []
    for place, dimension in enumerate(axes["dimensions"][:NAMED_AXES]):
        known = {name: row[place] for name, row in axes["correlations"].items() if row[place] is not None}
        if known:
            name = max(known, key=lambda name: abs(known[name]))
            found.append(f"dimension {dimension} goes most with {name} ({known[name]:+.2f})")
    n = count_of(len(axes["dimensions"]), "latent dimension")
    return f"Correlations of {n} with {count_of(len(axes['correlations']), 'column')}: {listed(found, 'and')}."


def _alt_of_reconstruction(document: Document) -> str:
    kept = document["latent_space"]["reconstruction"]
    shares = (f"{name} {value:.2f}" for name, value in kept["overall"].items() if value is not None)
    columns = count_of(len(kept["by_column"]), "column")
    return f"Share of the variance kept of {columns} on {count_of(kept['rows'], 'test row')}: {listed(shares, 'and')}."


def _alt_of_agreement(document: Document) -> str:
    found = document["latent_space"]["agreement"]
    shares = (f"{name} {found['knn_accuracy'][name]['value']:.2f}" for name in ("latent", "pca", "columns"))
    return (
        f"How well {count_of(len(found['labels']), 'label')} of {found['label_column']} agree with the latent space, "
        f"PCA and the columns. Accuracy of the nearest neighbours: {listed(shares, 'and')}; "
        f"always the commonest label: {found['majority_share']:.2f}."
    )


def _alt_of_clusters(document: Document) -> str:
    clusters = document["latent_space"]["clusters"]
    sizes = listed(map(whole, clusters["sizes"]), "and")
    return f"The latent space by {count_of(clusters['preferred'], 'cluster')}, of {sizes} rows."


PICTURES = {  # field of `reporting.OutputFiles` -> what is said about it, in the order of the page
    "verdict_plot": Picture(
        "How much worse than the best",
        _caption_of_verdict,
        _alt_of_verdict,
    ),
    "configurations_plot": Picture(
        "Loss against size",
        _caption_of_configurations,
        _alt_of_configurations,
    ),
    "search_plot": Picture(
        "Loss by epoch",
        _caption_of_search,
        _alt_of_search,
    ),
    "history_plot": Picture(
        "The search as it went",
        _always("The lowest test loss so far, and each configuration's, against trainings done and seconds."),
        _alt_of_history,
    ),
    "study_plot": Picture(
        "What the options change",
        _caption_of_study,
        _alt_of_study,
    ),
    "latent_plot": Picture(
        "The latent space",
        _caption_of_latent,
        _alt_of_latent,
    ),
    "axes_plot": Picture(
        "What the latent dimensions go with",
        _always(
            "Correlation of every latent dimension with every column, over all rows. A dimension has no name and no "
            "sign of its own; what it goes with gives it one."
        ),
        _alt_of_axes,
    ),
    "reconstruction_plot": Picture(
        "What is kept of each column",
        _always(
            "Share of each column's variance that the model, and PCA of the same size, keep on the test rows. Below "
            "zero the training mean would do better."
        ),
        _alt_of_reconstruction,
    ),
    "agreement_plot": Picture(
        "Agreement with the labels",
        _always(
            "How well labels that no training saw agree with the latent space, with PCA of the same size and with the "
            "scaled columns, with intervals."
        ),
        _alt_of_agreement,
    ),
    "clusters_plot": Picture(
        "Clusters in the latent space",
        _always(
            "As many components of a Gaussian mixture as its BIC prefers. That they can be told apart does not make "
            "them kinds of observations."
        ),
        _alt_of_clusters,
    ),
}
