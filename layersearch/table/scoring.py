"""Describes the cells and rows on which models are scored, in the form in which the verdict resamples them.

    part = scored_part(cells, groups)           # one fold, or all test rows
    bundles = bundle_rows(n_rows, groups)       # None unless there are too many rows to keep each one's errors

A *unit* is what the bootstrap in `verdict/uncertainty.py` resamples: a row, or a group of rows if there are groups. The
statistics use only sums over units, so the units of a very large table are summed in `MAX_UNITS` bundles; this bounds
the memory and leaves the variances as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_UNITS = 4095  # if there are more units, they are resampled in bundles


class ScoredPart(NamedTuple):
    """The rows on which the trials of one fold are scored; of all trials if there are no folds."""

    cells: np.ndarray  # [N_part, 2] numbers of non-zero and of observed cells in each row (or bundle of rows)
    units: np.ndarray  # [N_part] index of the unit (row, group or bundle) to which the row belongs
    n_units: int  # number of rows or groups, even if these are bundled


def scored_part(cells: np.ndarray, groups: np.ndarray | None = None, bundles: np.ndarray | None = None) -> ScoredPart:
    """Returns the scored part of these rows.

    Args:
        cells: Numbers of non-zero and of observed cells in each row (with `bundles`, in each bundle), [N, 2].
        groups: Group of each row, [N]; None if there are no groups.
        bundles: Bundle of each row, [N], as `bundle_rows` returns it.
    """
    units = _units_of(len(cells) if bundles is None else len(bundles), groups)
    return ScoredPart(cells, units if bundles is None else np.arange(len(cells)), int(units.max()) + 1)


def bundle_rows(n_rows: int, groups: np.ndarray | None = None) -> np.ndarray | None:
    """Returns the bundle of each row, [N]; None if there are at most `MAX_UNITS` rows, which need no bundles.

    There are at most `MAX_UNITS` bundles, and each holds whole groups.
    """
    return None if n_rows <= MAX_UNITS else _units_of(n_rows, groups) % MAX_UNITS


def count_units(parts: Sequence[ScoredPart]) -> int:
    """Returns the number of rows or groups in all parts together."""
    return sum(part.n_units for part in parts)


def _units_of(n_rows: int, groups: np.ndarray | None) -> np.ndarray:
    return np.arange(n_rows) if groups is None else np.asarray(np.unique(groups, return_inverse=True)[1])
