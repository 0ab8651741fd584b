"""Which cells and rows the models are scored on, in the form in which the verdict resamples them.

    part = scored_part(cells, groups)           # one fold, or all test rows
    bundles = bundle_rows(n_rows, groups)       # None unless there are too many rows to keep each one's errors

A *unit* is what the bootstrap in `verdict/uncertainty.py` resamples: a row, or a group of rows where rows come in
groups. The statistics use only sums over units, so a table with very many units is reduced to `MAX_UNITS` bundles of
them; the variances stay the same and the memory is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ROW_PIECES = 5  # number of pieces that the rows are cut into where one has to be held back
MAX_UNITS = 819 * ROW_PIECES  # more units than this are kept and resampled in bundles


class ScoredPart(NamedTuple):
    """The rows on which the trials of one fold are scored, or all trials where there are no folds."""

    cells: np.ndarray  # [N_part, 2] numbers of non-zero and of observed cells in each row (or bundle of rows)
    units: np.ndarray  # [N_part] number of the unit (row, group or bundle) that the row belongs to
    n_units: int  # number of rows or groups, also where these are bundled


def scored_part(cells: np.ndarray, groups: np.ndarray | None = None, bundles: np.ndarray | None = None) -> ScoredPart:
    """Returns the scored part of these rows.

    Args:
        cells: [N, 2] numbers of non-zero and of observed cells in each row; with `bundles` in each bundle.
        groups: [N] group of each row, where rows come in groups.
        bundles: [N] bundle of each row, as `bundle_rows` returns it.
    """
    units = _units_of(len(cells) if bundles is None else len(bundles), groups)
    return ScoredPart(cells, units if bundles is None else np.arange(len(cells)), int(units.max()) + 1)


def bundle_rows(n_rows: int, groups: np.ndarray | None = None) -> np.ndarray | None:
    """Returns the bundle of each row, [N]; None where there are so few rows that each is kept by itself.

    There are at most `MAX_UNITS` bundles. A bundle holds whole groups, where rows come in groups. A piece of the
    bundles (one of `ROW_PIECES`) holds the same rows as the same piece of the units would.
    """
    return None if n_rows <= MAX_UNITS else _units_of(n_rows, groups) % MAX_UNITS


def count_units(parts: Sequence[ScoredPart]) -> int:
    """Returns the number of rows or groups in all parts together."""
    return sum(part.n_units for part in parts)


def _units_of(n_rows: int, groups: np.ndarray | None) -> np.ndarray:
    return np.arange(n_rows) if groups is None else np.asarray(np.unique(groups, return_inverse=True)[1])
