"""What a search reports of its best model's latent space: the numbers for the JSON, and the pictures.

    look = look_at(arguments, loaded, model, title=…, note=…)
    look.codes, look.entry, look.pictures, look.notices

The numbers are those of `latent_space.py` and `agreement.py`. Whatever of them cannot be had for this table, its labels
above all, is a notice of one line and null in the JSON: the search's results do not hang on it.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import agreement_plot
import latent_axes_plot
import latent_plots
import reconstruction_plot
from agreement import Agreement, Clusters, LabelError, choose_rows, measure, prefer_clusters
from baselines import PCA, fit_pca
from copus import full_names, in_words, is_copus
from latent_space import Axes, Reconstruction, correlate, reconstruction_by_column
from loading import Loaded
from reference import one_torch_thread
from tables import one_line
from training import encode_table

if TYPE_CHECKING:
    from models import DynamicAutoencoder

T = TypeVar("T")


@dataclass(frozen=True)
class LatentFindings:
    """What could be told of the latent space."""

    axes: Axes | None
    reconstruction: Reconstruction | None
    agreement: Agreement | None
    clusters: Clusters | None  # where there is no agreement to measure
    sizes: dict[str, int]  # dimensions of each space that labels are compared in

    def entry(self) -> dict[str, Any]:
        """The `latent_space` part of the JSON."""
        parts = {
            "axes": self.axes,
            "reconstruction": self.reconstruction,
            "agreement": self.agreement,
            "clusters": self.clusters,
        }
        return {name: part.entry() if part else None for name, part in parts.items()}


@dataclass(frozen=True)
class Look:
    """Everything that is written of a latent space."""

    codes: np.ndarray  # [N, L]
    errors: np.ndarray  # [N] mean squared error of each row's cells
    entry: dict[str, Any]
    pictures: dict[str, bytes]  # PNGs, by the field of `OutputFiles` that says where each goes
    notices: list[str]  # what is missing and why, a line each


def look_at(
    arguments: argparse.Namespace, loaded: Loaded, model: DynamicAutoencoder, *, title: str, note: str | None
) -> Look:
    """Encodes every row and tells what the codes say. `title` names the model, `note` is the pictures' small print."""
    notices: list[str] = []
    labels = labels_of(loaded)
    with one_torch_thread(), threadpool_limits(1):  # for the same bits; and threads that wait for a busy core cost much
        codes, errors = encode_table(model, loaded.table)
        if not np.isfinite(codes).all():
            notices.append("the latent space is not looked at, since some rows' coordinates are not finite")
            return Look(codes, errors, LatentFindings(None, None, None, None, {}).entry(), {}, notices)
        findings = examine(arguments, loaded, model, codes, labels, notices)
        pictures = draw(findings, loaded, codes, labels, notices, title=title, note=note)
    return Look(codes, errors, findings.entry(), pictures, notices)


def labels_of(loaded: Loaded) -> pd.Series[Any] | None:
    """The labels [N] as a reader is shown them; None where there are none."""
    dataset = loaded.dataset
    if dataset.label_column is None or not dataset.others[dataset.label_column].notna().any():
        return None
    return in_words(dataset.others[dataset.label_column], dataset.columns)


def examine(
    arguments: argparse.Namespace,
    loaded: Loaded,
    model: DynamicAutoencoder,
    codes: np.ndarray,
    labels: pd.Series[Any] | None,
    notices: list[str],
) -> LatentFindings:
    """The numbers, each on its own: what fails becomes a notice."""
    table, columns, seed = loaded.table, loaded.dataset.columns, arguments.seed
    axes = _attempt("the latent dimensions' correlations", lambda: correlate(codes, table.values, columns), notices)
    pca = _attempt("the comparison with PCA", lambda: fit_pca(table.values[table.train].cpu(), codes.shape[1]), notices)
    kept, found, sizes = None, None, {"latent": codes.shape[1], "columns": len(columns)}
    if pca:
        sizes["pca"] = pca.axes.shape[1]
        kept = _attempt(
            "what is kept of each column", lambda: reconstruction_by_column(model, pca, table, columns), notices
        )
        if labels is not None:
            compare = partial(compare_labels, arguments, loaded, codes, pca, labels)
            found = _attempt("the agreement with the labels", compare, notices)
    clusters = None
    if found is None:
        clusters = _attempt("the number of clusters", lambda: prefer_clusters(codes, seed=seed), notices)
    return LatentFindings(axes, kept, found, clusters, sizes)


def compare_labels(
    arguments: argparse.Namespace, loaded: Loaded, codes: np.ndarray, pca: PCA, labels: pd.Series[Any]
) -> Agreement:
    """How well latent space, PCA and the columns agree with labels [N]. Raises LabelError."""
    widest = max(codes.shape[1], loaded.dataset.n_features)
    chosen = choose_rows(labels, loaded.dataset.groups, most_columns=widest, seed=arguments.seed)
    values = loaded.table.values.cpu()[chosen.rows]  # [n, F]
    spaces = {
        "latent": codes[chosen.rows].astype(np.float64),
        "pca": pca.encode(values).numpy(),
        "columns": values.double().nan_to_num(nan=0.0).numpy(),
    }
    is_test = loaded.table.is_test[chosen.rows]
    return measure(chosen, spaces, is_test, confidence=arguments.confidence, seed=arguments.seed)


def draw(
    findings: LatentFindings,
    loaded: Loaded,
    codes: np.ndarray,
    labels: pd.Series[Any] | None,
    notices: list[str],
    *,
    title: str,
    note: str | None,
) -> dict[str, bytes]:
    """The pictures as PNGs, by the field of `OutputFiles` that says where each goes."""
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
    return _drawn(drawings, notices)


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
        _attempt(f"the picture of the latent space, {name.removesuffix('_plot')},", partial(plot, files[name]), notices)
    return {name: file.getvalue() for name, file in files.items() if file.tell()}


def _attempt(what: str, work: Callable[[], T], notices: list[str]) -> T | None:
    """What `work` returns; None, and a notice, where it cannot be done. Faults of disks and packages are raised."""
    try:
        return work()
    except LabelError as error:
        notices.append(f"{what} is not measured: {error}")
    except (OSError, ImportError):
        raise
    except Exception as error:  # whatever scikit-learn or Matplotlib makes of a table that nobody thought of
        reason = f"{type(error).__name__}: {one_line(str(error))}"
        notices.append(f"{what} is left out, since it could not be computed ({reason:.120})")
    return None
