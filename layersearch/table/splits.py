"""Divides the rows into training, test and validation sets and folds, optionally by groups and strata.

    groups, strata = mark_rows(frame, "Instructor ID", "Cluster", "data/stains.csv")
    split, notices = split_rows(len(frame), 42, groups, strata)                   # 80/20
    folds, notices = fold_rows(split.train.numpy(), 5, 42, groups, strata)        # inside the training part

`COPUSDataset` (dataset.py) calls these in `split`, `folds` and `validation`. Groups are kept whole, and the proportions
of the strata are kept on both sides. The results depend on the arguments alone: no global random generator is used or
changed. Splits with groups or strata are those of scikit-learn, which is imported only when needed, since that takes a
second or two.
"""

from __future__ import annotations

import itertools
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Hashable, Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from layersearch.randomness import stream_key
from layersearch.table.formats import DataError
from layersearch.words import one_line

TEST_FRACTION = 0.2
TEST_FOLDS = 5  # one of these is the test set
MIN_TEST_GROUPS = 2  # results on a single group would not generalise beyond it
MAX_TEST_FRACTION = 0.5  # the bound if there are few groups, which may allow no split closer to TEST_FRACTION
ATTEMPTS = 5  # random divisions that are tried, with few, unequal groups, until one is within these bounds
TOLERANCE = 0.05  # deviation of the test fraction above which a notice is given

Rows = tuple[np.ndarray, np.ndarray]  # training rows and test rows


class Split(NamedTuple):
    """The numbers of the training and the test rows, counted from 0, as int64 tensors."""

    train: Tensor
    test: Tensor


class Marks(NamedTuple):
    """A column of groups or strata, and the values of its rows numbered in order of appearance, [N] int64, from 0."""

    column: str
    numbers: np.ndarray

    @property
    def n_values(self) -> int:
        """The number of different values."""
        return int(self.numbers.max()) + 1


# --- From cells to numbers -------------------------------------------------------------------------


def _texts(cells: pd.Series) -> list[str]:
    """Returns a text for each cell, "" if it is missing. 8, 8.0, '8' and ' 8.0' have the same text; '08' another."""
    return [
        "" if missing else re.sub(r"^([+-]?\d+)\.0*$", r"\1", one_line(cell))
        for cell, missing in zip(cells, cells.isna(), strict=True)
    ]


def _numbered(keys: Iterable[Hashable]) -> np.ndarray:
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def mark_rows(
    frame: pd.DataFrame, group_column: str | None, stratify_column: str | None, where: str
) -> tuple[Marks | None, Marks | None]:
    """Returns the groups and the strata of the N rows; None for a column that is not named.

    Rows with the same value form a group, or a stratum. Each row without a value is a separate group; all rows without
    a value form one stratum.

    Raises:
        DataError: Both are the same column, or all values of a column are equal, or no two are. `where` names the
            table.
    """
    if group_column is not None and group_column == stratify_column:
        raise DataError(
            f"{where}: '{group_column}' is both --group_column and --stratify_column, but what stays whole cannot be"
            " shared out; take it out of one of them"
        )
    groups = strata = None
    if group_column is not None:
        numbers = _numbered(text or row for row, text in enumerate(_texts(frame[group_column])))
        groups = _checked(Marks(group_column, numbers), f"{where}: --group_column", "groups to keep whole")
    if stratify_column is not None:
        numbers = _numbered(_texts(frame[stratify_column]))
        strata = _checked(Marks(stratify_column, numbers), f"{where}: --stratify_column", "shares to keep")
    return groups, strata


def _checked(marks: Marks, flag: str, purpose: str) -> Marks:
    n_rows = len(marks.numbers)
    faults = {1: f"all {n_rows} rows have the same value", n_rows: f"no two of the {n_rows} rows share a value"}
    if fault := faults.get(marks.n_values):
        remedy = "choose another column or leave the flag out"
        raise DataError(f"{flag} '{marks.column}': {fault}, so there are no {purpose}; {remedy}")
    return marks


def leak_notice(identifiers: pd.DataFrame) -> str | None:
    """Returns a notice, with the flag to give, if a random split puts rows with the same ID on both sides.

    Args:
        identifiers: The columns that identify what was observed, [N, columns].

    Returns:
        One line, or None. Of several such columns it names the one in which most rows share their value with another
        row; of equal ones the one with the fewest values, since its groups mostly contain those of the others.
    """
    found = []
    for name in identifiers.columns:
        counts = Counter(text for text in _texts(identifiers[name]) if text)
        n_groups = len(counts) + len(identifiers) - counts.total()
        sharing = sum(count for count in counts.values() if count > 1)
        if sharing and n_groups >= 2 * MIN_TEST_GROUPS:  # with fewer groups the flag would not help
            found.append((-sharing, len(counts), counts.total(), str(name)))
    if not found:
        return None
    _, n_values, n_rows, name = min(found, key=lambda candidate: candidate[:2])
    noun = one_line(re.sub(r"[\W_]*id$", "", name, flags=re.IGNORECASE)).lower() or "value"
    # sh, cmd and PowerShell read a name in double quotes alike, unless it has one of these characters.
    pasted = shlex.quote(name) if re.search(r'["$`\\!]', name) else f'"{name}"'
    return (
        f"rows share '{name}' ({n_values} values in {n_rows} rows), so rows of the same {noun} train and test and"
        f" the losses look better than they are for new ones; to keep them apart: --group_column {pasted}"
    )


# --- From numbers to splits ------------------------------------------------------------------------


def split_rows(
    n_rows: int, seed: int, groups: Marks | None = None, strata: Marks | None = None
) -> tuple[Split, list[str]]:
    """Splits the rows into 80 % training rows and 20 % test rows.

    Without groups and strata, the first N - int(0.2 N) rows of a random permutation are the training rows. Otherwise
    the rows are ascending, and the test rows are one of five folds: the one closest to a fifth of the rows of each
    stratum. If large or few groups make it smaller or larger, there is a notice; it always has at least 2 groups and at
    most half of the rows.

    Args:
        n_rows: N, the number of rows.
        seed: Seed of the random generator.
        groups: The rows that must stay together.
        strata: The values whose proportions both sides keep.

    Returns:
        The split, and notices of one line each.

    Raises:
        DataError: The groups allow no such split, or no stratum has as many rows as there are folds.
    """
    if groups is None and strata is None:
        order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed))
        n_train = n_rows - int(TEST_FRACTION * n_rows)
        return Split(order[:n_train], order[n_train:]), []
    notices = []
    if strata is not None:
        if (largest := int(np.bincount(strata.numbers).max())) < TEST_FOLDS:
            raise DataError(
                f"--stratify_column '{strata.column}': no value is in more than {largest} rows, too few to share"
                f" out 80/20; choose a column whose values are in {TEST_FOLDS} rows or more each"
            )
        notices += _rare_strata(strata.column, strata.numbers, TEST_FOLDS, "rows", "so perhaps in no test row")
    train, test = _best_fold(n_rows, stream_key(seed, "split"), groups, strata)
    if groups is not None and abs(len(test) / n_rows - TEST_FRACTION) > TOLERANCE:
        notices.append(
            f"{len(test) / n_rows:.1%} of the rows test instead of {TEST_FRACTION:.0%},"
            f" since the groups of '{groups.column}' are kept whole"
        )
    return Split(torch.from_numpy(train), torch.from_numpy(test)), notices


def _best_fold(n_rows: int, key: int, groups: Marks | None, strata: Marks | None) -> Rows:
    """Returns the fold closest to a fifth of the rows; there are fewer than five folds if these have too few groups."""
    group_of = np.arange(n_rows) if groups is None else groups.numbers
    stratum_of = np.zeros(n_rows, np.int64) if strata is None else strata.numbers
    n_groups, fifths = int(group_of.max()) + 1, TEST_FRACTION * np.bincount(stratum_of)

    def fits(fold: Rows) -> bool:
        test = fold[1]
        return len(set(group_of[test])) >= MIN_TEST_GROUPS and len(test) <= MAX_TEST_FRACTION * n_rows

    def distance(fold: Rows) -> float:
        return float(np.abs(np.bincount(stratum_of[fold[1]], minlength=len(fifths)) - fifths).sum())

    for attempt, n_folds in itertools.product(range(ATTEMPTS), range(min(TEST_FOLDS, n_groups), 1, -1)):
        folds = _deal(n_folds, key + attempt, n_rows, groups and groups.numbers, strata and strata.numbers)
        if fitting := [fold for fold in folds if fits(fold)]:
            return min(fitting, key=distance)
    assert groups is not None  # without groups there always is such a fold
    raise DataError(
        f"--group_column '{groups.column}': its {n_groups} groups, of up to"
        f" {np.bincount(group_of).max()} rows, cannot be split so that at least {MIN_TEST_GROUPS} of them and at most"
        f" half of the {n_rows} rows test; choose a column with more groups or leave the flag out"
    )


def fold_rows(
    train: np.ndarray, k: int, seed: int, groups: Marks | None = None, strata: Marks | None = None
) -> tuple[list[Split], list[str]]:
    """Divides the training rows into k cross-validation folds.

    Each row is a test row in exactly one fold. No group is on both sides of a fold, and all folds keep the proportions
    of the strata as closely as whole groups allow.

    Args:
        train: Row numbers of the training rows in the whole table, [N_train] int64.
        k: The number of folds, at least 2.
        seed: Seed of the random generator.
        groups: The groups of all rows of the table.
        strata: The strata of all rows of the table.

    Returns:
        The folds, with row numbers of the whole table in the order of `train`, and notices of one line each.

    Raises:
        DataError: k exceeds the number of rows, of groups, or of rows of the largest stratum in `train`.
    """
    n_rows, limits, notices = len(train), {"rows": len(train)}, []
    group_of = stratum_of = None
    if groups is not None:
        group_of = groups.numbers[train]
        limits[f"groups of '{groups.column}'"] = len(set(group_of))
    if strata is not None:
        stratum_of = strata.numbers[train]
        limits[f"rows of the most frequent '{strata.column}'"] = int(np.bincount(stratum_of).max())
        notices = _rare_strata(strata.column, stratum_of, k, "training rows", "so not in every fold")
    for what, most in limits.items():
        if k > most:
            remedy = f"give at most --cv_folds {most}" if most > 1 else "leave the flag out"
            raise DataError(f"--cv_folds {k}: more folds than {what} in the training part ({most}); {remedy}")
    key = stream_key(seed, "folds")
    parts = _deal(k, key, n_rows, group_of, stratum_of)
    if groups is not None and strata is not None and not all(len(fold) for _, fold in parts):
        # Because of a rounding error, scikit-learn may choose an empty fold among equally good ones.
        parts = _deal(k, key, n_rows, group_of, None)
        notices = [f"the folds do not keep the shares of '{strata.column}': too few groups of '{groups.column}'"]
    return [Split(torch.from_numpy(train[rest]), torch.from_numpy(train[fold])) for rest, fold in parts], notices


def validation_rows(
    train: np.ndarray, fraction: float, seed: int, groups: Marks | None = None, strata: Marks | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Holds out a fraction of the training rows as the validation set.

    Each side has at least one row. No group is on both, so large groups make the validation set larger or smaller; the
    proportions of the strata are kept as closely as that allows.

    Args:
        train: Row numbers of the training rows in the whole table, [N_train] int64.
        fraction: The fraction of the training rows to hold out, between 0 and 1.
        seed: Seed of the random generator.
        groups: The groups of all rows of the table.
        strata: The strata of all rows of the table.

    Returns:
        The rows that remain for training and the validation rows, both in the order of `train`.

    Raises:
        DataError: There is only one group.
    """
    n_rows, key = len(train), stream_key(seed, "validation")
    n_apart = min(max(1, round(fraction * n_rows)), n_rows - 1)
    group_of = None if groups is None else groups.numbers[train]
    stratum_of = None if strata is None else strata.numbers[train]
    # The validation set is one or more of these folds; for a fraction of 0.4 it is two of five.
    n_folds = (
        Fraction(min(fraction, 0.95)).limit_denominator(20).denominator if fraction > 0.05 else round(1 / fraction)
    )
    if group_of is not None:
        n_folds = min(n_folds, len(set(group_of)))
    if n_folds < 2:
        raise DataError(f"--patience: a single group of '{groups and groups.column}' leaves no rows to validate on")
    if stratum_of is not None and np.bincount(stratum_of).max() < n_folds:
        stratum_of = None  # every stratum has fewer rows than there are folds
    is_apart = np.zeros(n_rows, dtype=bool)
    if group_of is None and stratum_of is None:
        is_apart[np.random.default_rng(key).permutation(n_rows)[:n_apart]] = True
        return train[~is_apart], train[is_apart]
    dealt = [fold for _, fold in _deal(n_folds, key, n_rows, group_of, stratum_of) if len(fold)]
    n_taken = min(max(1, round(fraction * len(dealt))), len(dealt) - 1)
    taken = [np.concatenate((dealt + dealt)[start : start + n_taken]) for start in range(len(dealt))]
    is_apart[min(taken, key=lambda rows: abs(len(rows) - n_apart))] = True
    return train[~is_apart], train[is_apart]


def _deal(
    n_folds: int, key: int, n_rows: int, group_of: np.ndarray | None, stratum_of: np.ndarray | None
) -> list[Rows]:
    """Returns the rows outside and inside each fold, ascending, from the appropriate scikit-learn splitter."""
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    splitter = KFold if stratum_of is None else StratifiedKFold
    if group_of is not None:
        # Used without strata too, since it makes the folds similar in size. GroupKFold does not: before scikit-learn
        # 1.8 it shuffled the sizes of the groups separately from the groups.
        splitter = StratifiedGroupKFold
    labels = np.zeros(n_rows, np.int64) if stratum_of is None else stratum_of
    with warnings.catch_warnings():  # `_rare_strata` gives a notice instead
        warnings.filterwarnings("ignore", "The least populated class|The number of unique classes", UserWarning)
        dealt = splitter(n_folds, shuffle=True, random_state=key % 2**32).split(labels, labels, group_of)
        return list(dealt)


def _rare_strata(column: str, stratum_of: np.ndarray, n_folds: int, rows: str, consequence: str) -> list[str]:
    counts = np.bincount(stratum_of)
    rare = int(((counts > 0) & (counts < n_folds)).sum())
    values = "1 value" if rare == 1 else f"{rare} values"
    return [f"fewer than {n_folds} {rows} for {values} of '{column}', {consequence}"] if rare else []
