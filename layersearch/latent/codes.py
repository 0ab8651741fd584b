"""Computes latent codes and reconstruction errors of a table's rows.

    encoded = encode_values(load_best("output", latent_dim=3), values)
    encoded.codes, encoded.errors                                         # [N, L], [N]
    percentiles_among(encoded.errors, saved.training_errors)              # [N]

Used by `--encode`, which reads rows piece by piece, and by the ensemble. The results of a row are bitwise equal however
the table is divided into pieces. A matrix product may round differently for another number of rows, so rows are always
passed to a model in blocks of `BLOCK` rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from dataset import Scaling
from layersearch.engines.reference import one_torch_thread

BLOCK = 2**12  # rows passed to a model at a time
N_QUANTILES = 1001  # number of quantiles that describe a set of errors: 0 %, 0.1 %, ... 100 %
MARKS = (95, 99)  # percentiles of the training errors; encoded rows at or beyond them are counted
LISTED_ROWS = 10  # largest number of rows without a value that are listed; others are only counted


class Encoded(NamedTuple):
    """The output of a model for N rows; NaN for a row without any value."""

    codes: np.ndarray  # [N, L] float32 latent coordinates
    errors: np.ndarray  # [N] float32 mean squared error over the observed cells, in scaled units
    more: dict[str, np.ndarray]  # further columns [N], by name


class Saved(Protocol):
    """A model that can encode a table: a single one (`models.SavedModel`) or an ensemble (`ensemble.Ensemble`)."""

    @property
    def columns(self) -> list[str]:
        """The names of the F columns."""

    @property
    def scaling(self) -> Scaling:
        """The scaling from the table's units to the model's."""

    @property
    def is_copus(self) -> bool:
        """Whether the columns are COPUS codes."""

    @property
    def training_errors(self) -> np.ndarray | None:
        """The `error_quantiles` of the training rows."""

    @property
    def test_errors(self) -> np.ndarray | None:
        """The `error_quantiles` of the test rows."""

    @property
    def n_test(self) -> int:
        """The number of test rows."""

    def encode_rows(self, scaled: Tensor) -> dict[str, Tensor]:
        """Returns "codes" [B, L], "errors" [B] and perhaps more [B] for scaled rows [B, F] (NaN: missing)."""


def encode_values(saved: Saved, values: np.ndarray, first: int = 0) -> Encoded:
    """Encodes raw values [N, F] of `saved.columns`, in that order (NaN: missing); `first` as in `in_blocks`."""
    return encode_scaled(saved, saved.scaling.apply(torch.from_numpy(values)), first)


def encode_scaled(saved: Saved, scaled: Tensor, first: int = 0) -> Encoded:
    """Encodes scaled values [N, F] (NaN: missing); `first` as in `in_blocks`."""
    made = in_blocks(saved.encode_rows, scaled, first)
    empty = scaled.isnan().all(1).numpy()
    for numbers in made.values():
        numbers[empty] = np.nan
    return Encoded(made.pop("codes"), made.pop("errors"), made)


def in_blocks(compute: Callable[[Tensor], dict[str, Tensor]], scaled: Tensor, first: int = 0) -> dict[str, np.ndarray]:
    """Applies `compute` to rows [N, F] in blocks of `BLOCK` rows, padded with zeros, and joins the results.

    Args:
        compute: Maps rows [B, F] to arrays of B rows, by name.
        scaled: The rows.
        first: The number of earlier rows of the same table. It determines the position of a row within its block, on
            which the exact result depends.
    """
    parts: list[dict[str, np.ndarray]] = []
    with torch.no_grad(), one_torch_thread():
        while len(scaled) or not parts:
            place = first % BLOCK
            now, scaled = scaled[: BLOCK - place], scaled[BLOCK - place :]
            block = torch.zeros(BLOCK, now.shape[1])
            block[place : place + len(now)] = now
            made = compute(block)
            parts.append({name: part[place : place + len(now)].numpy() for name, part in made.items()})
            first += len(now)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def error_quantiles(errors: np.ndarray) -> np.ndarray:
    """Returns `N_QUANTILES` evenly spaced quantiles of errors [N], lowest first; each is one of the errors."""
    return np.asarray(np.quantile(errors, np.linspace(0, 1, N_QUANTILES), method="inverted_cdf"))


def percentiles_among(errors: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Returns the percentage of reference rows that have a smaller error, rounded down to 0.1, [N].

    Args:
        errors: The errors, [N]; the percentage for NaN is NaN.
        quantiles: The `error_quantiles` of the reference rows.
    """
    n_smaller = np.searchsorted(quantiles, errors, side="left")
    steps = len(quantiles) - 1
    return np.where(np.isnan(errors), np.nan, np.round(100 / steps * np.maximum(n_smaller - 1, 0), 1))


def share_beyond(mark: float, of_quantiles: np.ndarray, n_rows: int) -> float:
    """Returns the share of `n_rows` rows whose error is at the percentile `mark` or beyond.

    Args:
        mark: A percentile.
        of_quantiles: `percentiles_among` of the `error_quantiles` of these rows.
        n_rows: The number of rows. If it is less than `N_QUANTILES` - 1, the share is exact; otherwise it is rounded to
            0.1 %.
    """
    n_beyond = n_rows * int((of_quantiles >= mark).sum()) // (len(of_quantiles) - 1)
    return min(n_beyond, n_rows) / max(n_rows, 1)


@dataclass
class Tally:
    """Counts over all rows that have been encoded so far."""

    n_columns: int
    n_rows: int = 0
    empty_rows: list[int] = field(default_factory=list)  # numbers of the first rows that have no value
    n_empty: int = 0
    n_missing: int = 0  # missing cells of the other rows
    n_clipped: int = 0
    highest: float = -np.inf
    beyond: dict[int, int] = field(default_factory=lambda: dict.fromkeys(MARKS, 0))  # rows at each mark or beyond

    def add(self, values: np.ndarray, percentiles: np.ndarray, row_numbers: np.ndarray, scaling: Scaling) -> None:
        """Counts another piece: its raw values [N, F], the percentiles [N] of its errors and its row numbers [N]."""
        missing = np.isnan(values)
        empty = missing.all(axis=1)
        self.n_rows += len(values)
        self.n_empty += int(empty.sum())
        self.empty_rows += row_numbers[empty][: LISTED_ROWS - len(self.empty_rows)].tolist()
        self.n_missing += int(missing[~empty].sum())
        if scaling.kind == "robust":
            self.n_clipped += int(((values < scaling.low) | (values > scaling.high)).sum())
        self.highest = max(self.highest, float(np.max(values, initial=-np.inf, where=~missing)))
        for mark in MARKS:
            self.beyond[mark] += int((percentiles >= mark).sum())
