"""The pictures of what a search found in its best model's latent space.

    pictures = draw(examine(arguments, loaded, model), loaded, title=…, note=…)

Those of `latent_plots.py`, `latent_axes_plot.py`, `reconstruction_plot.py` and `agreement_plot.py`, as far as
`latent_findings.py` found something to draw.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import IO, Any

import numpy as np
import pandas as pd

from layersearch.latent.agreement import Clusters
from layersearch.latent.findings import LatentFindings, attempt
from layersearch.loading.loaded import Loaded
from layersearch.pictures.latent import agreement as agreement_plot
from layersearch.pictures.latent import axes as latent_axes_plot
from layersearch.pictures.latent import reconstruction as reconstruction_plot
from layersearch.pictures.latent import scatter as latent_plots
from layersearch.table.copus import full_names, is_copus


def draw(findings: LatentFindings, loaded: Loaded, *, title: str, note: str | None) -> dict[str, bytes]:
    """The pictures as PNGs, by the field of `OutputFiles` that says where each goes.

    `title` names the model, `note` is the small print. What cannot be drawn becomes one of the findings' notices.
    """
    codes, labels = findings.codes, findings.labels
    if not np.isfinite(codes).all():
        return {}
    is_test, columns = loaded.table.is_test, loaded.dataset.columns
    names, what = full_names(columns), "behaviour" if is_copus(columns) else "column"
    about: dict[str, Any] = {"note": note}
    drawings: dict[str, Callable[[IO[bytes]], None]] = {
        "latent_plot": lambda file: latent_plots.plot_latent_space(
            codes, is_test, labels, file, title=f"Latent space of {title}", **about
        )
    }
    if axes := findings.axes:
        heading = f"Latent dimensions and {what}s: {title}"
        drawings["axes_plot"] = lambda file: latent_axes_plot.plot_axes(axes, names, file, title=heading, **about)
    if kept := findings.reconstruction:
        share = f"Variance kept of each {what}: {title}"
        drawings["reconstruction_plot"] = lambda file: reconstruction_plot.plot_reconstruction(
            kept, names, file, title=share, **about
        )
    if found := findings.agreement:
        agrees = f"Agreement with {found.chosen.column}: latent space of {title}"
        drawings["agreement_plot"] = lambda file: agreement_plot.plot_agreement(
            found, findings.sizes, file, title=agrees, **about
        )
    if clusters := findings.clusters:
        counted, shown = clusters_in_words(clusters)
        drawings["clusters_plot"] = lambda file: latent_plots.plot_latent_space(
            codes, is_test, shown, file, title=f"{counted} in the latent space of {title}", **about
        )
    return _drawn(drawings, findings.notices)


def clusters_in_words(clusters: Clusters) -> tuple[str, pd.Series[Any]]:
    """How many there are, and which each row is in, [N]."""
    count = clusters.preferred
    counted = "One cluster, by BIC," if count == 1 else f"{count} clusters, as many as BIC prefers,"
    if clusters.is_bound and count > 1:
        counted = f"{count} clusters, the most that were tried and the best by BIC,"
    names = [f"Cluster {number}" for number in range(1, count + 1)]
    cells = pd.Categorical.from_codes(clusters.assignment, dtype=pd.CategoricalDtype(names, ordered=True))
    return counted, pd.Series(cells, name="cluster of the mixture")


def _drawn(drawings: dict[str, Callable[[IO[bytes]], None]], notices: list[str]) -> dict[str, bytes]:
    files = {name: io.BytesIO() for name in drawings}
    for name, plot in drawings.items():
        attempt(f"the picture of the latent space, {name.removesuffix('_plot')},", partial(plot, files[name]), notices)
    return {name: file.getvalue() for name, file in files.items() if file.tell()}
