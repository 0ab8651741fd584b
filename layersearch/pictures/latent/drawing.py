"""The pictures of what was found in the latent space of a search's best model.

    pictures = draw(findings, loaded, title=f"the best configuration, {name}", note=None)

`layersearch.latent.findings.examine` finds what they show; what it did not find is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from layersearch.latent.agreement import Clusters
from layersearch.latent.findings import LatentFindings, attempt
from layersearch.loading.loaded import Loaded
from layersearch.pictures.latent import scatter
from layersearch.pictures.latent.agreement import draw_agreement
from layersearch.pictures.latent.axes import draw_axes
from layersearch.pictures.latent.reconstruction import draw_reconstruction
from layersearch.pictures.style import png
from layersearch.table.copus import full_names, is_copus

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(findings: LatentFindings, loaded: Loaded, *, title: str, note: str | None) -> dict[str, bytes]:
    """Draws the pictures of the latent space; one that cannot be drawn becomes one of the findings' notices.

    Args:
        findings: what was found; codes that are not finite give no pictures at all.
        loaded: the table.
        title: what the titles call the model, in the middle of a sentence.
        note: small print for all pictures.

    Returns:
        The content of a PNG file by the name of the picture, which is also that of its field in `OutputFiles`.
    """
    codes, labels, is_test = findings.codes, findings.labels, loaded.table.is_test
    if not np.isfinite(codes).all():
        return {}
    columns = loaded.dataset.columns
    names, what = full_names(columns), "behaviour" if is_copus(columns) else "column"
    drawings: dict[str, Callable[[], Figure]] = {
        "latent_plot": lambda: scatter.draw_latent_space(
            codes, is_test, labels, title=f"Latent space of {title}", note=note
        )
    }
    if axes := findings.axes:
        heading = f"Latent dimensions and {what}s: {title}"
        drawings["axes_plot"] = lambda: draw_axes(axes, names, title=heading, note=note)
    if kept := findings.reconstruction:
        share = f"Variance kept of each {what}: {title}"
        drawings["reconstruction_plot"] = lambda: draw_reconstruction(kept, names, title=share, note=note)
    if found := findings.agreement:
        agrees = f"Agreement with {found.chosen.column}: latent space of {title}"
        drawings["agreement_plot"] = lambda: draw_agreement(found, findings.sizes, title=agrees, note=note)
    if clusters := findings.clusters:
        counted, cluster = clusters_in_words(clusters)
        drawings["clusters_plot"] = lambda: scatter.draw_latent_space(
            codes, is_test, cluster, title=f"{counted} in the latent space of {title}", note=note
        )
    pictures: dict[str, bytes] = {}
    for name, draw_picture in drawings.items():
        picture = f"the picture of the latent space, {name.removesuffix('_plot')},"
        if drawn := attempt(picture, partial(_render, draw_picture), findings.notices):
            pictures[name] = drawn
    return pictures


def _render(draw_picture: Callable[[], Figure]) -> bytes:
    return png(draw_picture())


def clusters_in_words(clusters: Clusters) -> tuple[str, pd.Series[Any]]:
    """Returns the number of clusters in words, and the name of each row's cluster, [N]."""
    count = clusters.preferred
    counted = "One cluster, by BIC," if count == 1 else f"{count} clusters, as many as BIC prefers,"
    if clusters.is_bound and count > 1:
        counted = f"{count} clusters, the most that were tried and the best by BIC,"
    names = [f"Cluster {number}" for number in range(1, count + 1)]
    cells = pd.Categorical.from_codes(clusters.assignment, dtype=pd.CategoricalDtype(names, ordered=True))
    return counted, pd.Series(cells, name="cluster of the mixture")
