"""Computes all numbers that a search reports about the latent space of its best model.

    findings = examine(loaded, model, seed=42, confidence=0.95)
    findings.codes, findings.errors, findings.entry(), findings.notices

`space.py` and `agreement.py` compute the numbers; `pictures/latent/drawing.py` draws them. A number that cannot be
computed for this table, for instance because of its labels, becomes a one-line notice and is null in the JSON. The
other results of the search are not affected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from layersearch.engines.reference import encode_table, one_torch_thread
from layersearch.latent.agreement import Agreement, Clusters, LabelError, choose_rows, measure, prefer_clusters
from layersearch.latent.space import Axes, Reconstruction, correlate, reconstruction_by_column
from layersearch.loading.loaded import Loaded
from layersearch.table.copus import in_words
from layersearch.verdict.pca import PCA, fit_pca
from layersearch.words import one_line
from models import DynamicAutoencoder

T = TypeVar("T")


@dataclass(frozen=True)
class LatentFindings:
    """The codes and errors of a table's rows, and what could be computed from them."""

    codes: np.ndarray  # [N, L]
    errors: np.ndarray  # [N] mean squared error over each row's observed cells
    labels: pd.Series[Any] | None  # [N] as shown to readers
    notices: list[str]  # what is missing and why, one line each
    axes: Axes | None = None
    reconstruction: Reconstruction | None = None
    agreement: Agreement | None = None
    clusters: Clusters | None = None  # only if there is no agreement to measure
    sizes: Mapping[str, int] = field(default_factory=dict)  # number of dimensions of each space that is compared

    def entry(self) -> dict[str, Any]:
        """Returns the `latent_space` part of the JSON."""
        parts = {
            "axes": self.axes,
            "reconstruction": self.reconstruction,
            "agreement": self.agreement,
            "clusters": self.clusters,
        }
        return {name: part.entry() if part else None for name, part in parts.items()}


def examine(loaded: Loaded, model: DynamicAutoencoder, *, seed: int, confidence: float) -> LatentFindings:
    """Encodes every row of the table and examines the codes.

    Each number is computed separately. One that cannot be computed becomes a notice, and the others are kept.

    Args:
        loaded: The table.
        model: The best model of the search, on the CPU in eval mode.
        seed: Seed of folds, bootstrap and mixtures.
        confidence: Confidence level of the intervals of the agreement with labels.

    Raises:
        OSError, ImportError: The cause is a disk or a package, not the table.
    """
    # One thread gives the same results on every machine, and avoids threads that wait for a busy core.
    with one_torch_thread(), threadpool_limits(1):
        codes, errors = encode_table(model, loaded.table)
        findings = LatentFindings(codes, errors, labels_of(loaded), [])
        if np.isfinite(codes).all():
            return _examine(loaded, model, findings, seed=seed, confidence=confidence)
        findings.notices.append("the latent space is not looked at, since some rows' coordinates are not finite")
        return findings


def labels_of(loaded: Loaded) -> pd.Series[Any] | None:
    """Returns the labels as shown to readers, [N]; None if the table has no labels."""
    dataset = loaded.dataset
    if dataset.label_column is None or not dataset.others[dataset.label_column].notna().any():
        return None
    return in_words(dataset.others[dataset.label_column], dataset.columns)


def _examine(
    loaded: Loaded, model: DynamicAutoencoder, findings: LatentFindings, *, seed: int, confidence: float
) -> LatentFindings:
    codes, labels, notices = findings.codes, findings.labels, findings.notices
    table, columns = loaded.table, loaded.dataset.columns
    axes = attempt("the latent dimensions' correlations", lambda: correlate(codes, table.values, columns), notices)
    pca = attempt("the comparison with PCA", lambda: fit_pca(table.values[table.train].cpu(), codes.shape[1]), notices)
    kept, found, sizes = None, None, {"latent": codes.shape[1], "columns": len(columns)}
    if pca:
        sizes["pca"] = pca.axes.shape[1]
        kept = attempt(
            "what is kept of each column", lambda: reconstruction_by_column(model, pca, table, columns), notices
        )
        if labels is not None:
            compare = partial(compare_labels, loaded, codes, pca, labels, seed=seed, confidence=confidence)
            found = attempt("the agreement with the labels", compare, notices)
    clusters = None
    if found is None:
        clusters = attempt("the number of clusters", lambda: prefer_clusters(codes, seed=seed), notices)
    return replace(findings, axes=axes, reconstruction=kept, agreement=found, clusters=clusters, sizes=sizes)


def compare_labels(
    loaded: Loaded, codes: np.ndarray, pca: PCA, labels: pd.Series[Any], *, seed: int, confidence: float
) -> Agreement:
    """Measures how well codes [N, L], PCA and the scaled columns agree with labels [N].

    Raises:
        LabelError: The labels cannot be compared; the message says why.
    """
    widest = max(codes.shape[1], loaded.dataset.n_features)
    chosen = choose_rows(labels, loaded.dataset.groups, most_columns=widest, seed=seed)
    values = loaded.table.values.cpu()[chosen.rows]  # [n, F]
    spaces = {
        "latent": codes[chosen.rows].astype(np.float64),
        "pca": pca.encode(values).numpy(),
        "columns": values.double().nan_to_num(nan=0.0).numpy(),
    }
    return measure(chosen, spaces, loaded.table.is_test[chosen.rows], confidence=confidence, seed=seed)


def attempt(what: str, work: Callable[[], T], notices: list[str]) -> T | None:
    """Returns what `work` returns; if it fails, returns None and adds a notice that names `what`.

    Raises:
        OSError, ImportError: The cause is a disk or a package, not the table.
    """
    try:
        return work()
    except LabelError as error:
        notices.append(f"{what} is not measured: {error}")
    except (OSError, ImportError):
        raise
    except Exception as error:  # scikit-learn and Matplotlib fail in many ways on unusual tables
        reason = f"{type(error).__name__}: {one_line(str(error))}"
        notices.append(f"{what} is left out, since it could not be computed ({reason:.120})")
    return None
