"""What a search tells of its best model's latent space, in numbers: each that can be had for this table.

    findings = examine(arguments, loaded, model)
    findings.codes, findings.errors, findings.entry(), findings.notices

The numbers are those of `latent_space.py` and `agreement.py`; `latent_report.py` draws them. Whatever cannot be had for
this table, its labels above all, is a notice of one line and null in the JSON: the search's results do not hang on it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from layersearch.engines.reference import encode_table, one_torch_thread
from layersearch.latent.agreement import Agreement, Clusters, LabelError, choose_rows, measure, prefer_clusters
from layersearch.latent.space import Axes, Reconstruction, correlate, reconstruction_by_column
from layersearch.loading.loaded import Loaded
from layersearch.table.copus import in_words
from layersearch.verdict.baselines import PCA, fit_pca
from layersearch.words import one_line

if TYPE_CHECKING:
    from models import DynamicAutoencoder

T = TypeVar("T")


@dataclass(frozen=True)
class LatentFindings:
    """What a model makes of the table, and what could be told of it."""

    codes: np.ndarray  # [N, L]
    errors: np.ndarray  # [N] mean squared error of each row's cells
    labels: pd.Series[Any] | None  # [N] as a reader is shown them
    notices: list[str]  # what is missing and why, a line each
    axes: Axes | None = None
    reconstruction: Reconstruction | None = None
    agreement: Agreement | None = None
    clusters: Clusters | None = None  # where there is no agreement to measure
    sizes: Mapping[str, int] = field(default_factory=dict)  # dimensions of each space that labels are compared in

    def entry(self) -> dict[str, Any]:
        """The `latent_space` part of the JSON."""
        parts = {
            "axes": self.axes,
            "reconstruction": self.reconstruction,
            "agreement": self.agreement,
            "clusters": self.clusters,
        }
        return {name: part.entry() if part else None for name, part in parts.items()}


def examine(arguments: argparse.Namespace, loaded: Loaded, model: DynamicAutoencoder) -> LatentFindings:
    """Encodes every row and tells what the codes say; each number on its own, and what fails becomes a notice."""
    with one_torch_thread(), threadpool_limits(1):  # for the same bits; and threads that wait for a busy core cost much
        codes, errors = encode_table(model, loaded.table)
        findings = LatentFindings(codes, errors, labels_of(loaded), [])
        if np.isfinite(codes).all():
            return _examine(arguments, loaded, model, findings)
        findings.notices.append("the latent space is not looked at, since some rows' coordinates are not finite")
        return findings


def labels_of(loaded: Loaded) -> pd.Series[Any] | None:
    """The labels [N] as a reader is shown them; None where there are none."""
    dataset = loaded.dataset
    if dataset.label_column is None or not dataset.others[dataset.label_column].notna().any():
        return None
    return in_words(dataset.others[dataset.label_column], dataset.columns)


def _examine(
    arguments: argparse.Namespace, loaded: Loaded, model: DynamicAutoencoder, findings: LatentFindings
) -> LatentFindings:
    codes, labels, notices = findings.codes, findings.labels, findings.notices
    table, columns, seed = loaded.table, loaded.dataset.columns, arguments.seed
    axes = attempt("the latent dimensions' correlations", lambda: correlate(codes, table.values, columns), notices)
    pca = attempt("the comparison with PCA", lambda: fit_pca(table.values[table.train].cpu(), codes.shape[1]), notices)
    kept, found, sizes = None, None, {"latent": codes.shape[1], "columns": len(columns)}
    if pca:
        sizes["pca"] = pca.axes.shape[1]
        kept = attempt(
            "what is kept of each column", lambda: reconstruction_by_column(model, pca, table, columns), notices
        )
        if labels is not None:
            compare = partial(compare_labels, arguments, loaded, codes, pca, labels)
            found = attempt("the agreement with the labels", compare, notices)
    clusters = None
    if found is None:
        clusters = attempt("the number of clusters", lambda: prefer_clusters(codes, seed=seed), notices)
    return replace(findings, axes=axes, reconstruction=kept, agreement=found, clusters=clusters, sizes=sizes)


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


def attempt(what: str, work: Callable[[], T], notices: list[str]) -> T | None:
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
