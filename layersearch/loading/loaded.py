"""Reads a table and prepares it for training: splits it, and scales it.

    loaded = load(DataOptions(cv_folds=5), TrainingOptions(), torch.device("cpu"), seed=42)
    loaded.table        # training and test rows
    loaded.tables[0]    # the first fold of the training rows

Every split has its own scaling, fitted on its training rows alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dataset import COPUSDataset, DataError, Scaling, fit_scaling
from layersearch.engines.settings import SplitTable
from layersearch.engines.weights import Source
from layersearch.errors import UsageError
from layersearch.files import SAMPLE_PATH
from layersearch.loading.start import stored_scaling
from layersearch.options import DataOptions, TrainingOptions, stated_value
from layersearch.table.scoring import ScoredPart, bundle_rows, scored_part
from layersearch.table.splits import Split


class Loaded(NamedTuple):
    """A table that has been read, split and scaled, and can be trained on."""

    dataset: COPUSDataset
    scaling: Scaling
    tables: dict[int | None, SplitTable]  # key: the fold, or None for the split into training and test rows
    is_sample: bool
    notices: list[str]  # what the user should know, one line each
    stamp: tuple[int, int] | None  # size and modification time of the file when it was read
    source: Source | None = None  # the saved model that trainings start from
    is_scaling_stored: bool = False  # the scaling is that of the saved model

    @property
    def table(self) -> SplitTable:
        """The split into training and test rows."""
        return self.tables[None]

    @property
    def folds(self) -> list[int | None]:
        """The folds on which the search is scored; [None] if it is scored on the test rows."""
        return [fold for fold in self.tables if fold is not None] or [None]

    @property
    def digest(self) -> str:
        """A digest of all data that is used for training and scoring."""
        digest = hashlib.blake2b(repr(self.dataset.columns).encode(), digest_size=16)
        for fold, table in self.tables.items():
            digest.update(repr((fold, table.values.shape, len(table.train), len(table.test))).encode())
            for part in (table.values, table.train, table.test):
                digest.update(part.cpu().contiguous().numpy().data)
            digest.update(b"" if table.bundles is None else table.bundles.data)
        return digest.hexdigest()

    def has_changed(self) -> bool:
        """Returns whether the file has changed since it was read; the data in memory is not affected by that."""
        return _stamp(self.dataset.path) != self.stamp

    def part(self, fold: int | None) -> ScoredPart:
        """Returns the held-out rows on which the trainings of this fold are scored."""
        table = self.tables[fold]
        return scored_part(table.scored_cells, _groups_of(self.dataset, table.test), table.bundles)


def load(
    data: DataOptions, training: TrainingOptions, device: torch.device, *, seed: int, source: Source | None = None
) -> Loaded:
    """Reads, checks, splits and scales the table.

    Args:
        data: The table to read, the columns to use, the scaling and the number of folds.
        training: Decides whether some training rows are held out as a validation set for early stopping.
        device: The device on which the table is kept.
        seed: Seed of the splits.
        source: The saved model from which trainings start.

    Raises:
        UsageError: The table cannot be used; the message names the file, row and column where possible.
    """
    path = find_table(data.data_path)
    stamp = _stamp(path)
    try:
        dataset = COPUSDataset(
            path,
            columns=data.columns,
            device=device,
            label_column=data.label_column,
            group_column=data.group_column,
            stratify_column=data.stratify_column,
        )
        split = dataset.split(seed)
        splits: dict[int | None, Split] = {None: split}
        splits |= enumerate(dataset.folds(split.train, data.cv_folds, seed) if data.cv_folds else [])
        stored, start_notices = stored_scaling(data, training, dataset, source, seed=seed) if source else (None, [])
        kind = str(stated_value("scaling", data.scaling))
        tables, scalings, scaling_notices = {}, {}, {}
        for fold, rows in splits.items():
            fitted = (stored, []) if stored else fit_scaling(kind, dataset.data, rows.train, dataset.columns)
            scalings[fold], scaling_notices[fold] = fitted
            tables[fold] = _make_table(dataset, scalings[fold], rows, training, seed)
    except DataError as error:
        raise UsageError(str(error)) from None
    notices = dataset.notices + scaling_notices[None] + start_notices
    is_sample = path.resolve() == SAMPLE_PATH
    return Loaded(dataset, scalings[None], tables, is_sample, notices, stamp, source, stored is not None)


def _make_table(
    dataset: COPUSDataset, scaling: Scaling, split: Split, training: TrainingOptions, seed: int
) -> SplitTable:
    """Returns the scaled table; with early stopping, some of the training rows become the validation set."""
    values = scaling.apply(dataset.data)
    train, validation = split.train, None
    if training.patience:
        train, validation = dataset.validation(train, training.validation_fraction, seed)
    bundles = bundle_rows(len(split.test), _groups_of(dataset, split.test))
    return SplitTable(values, train, split.test, validation, bundles)


def _groups_of(dataset: COPUSDataset, rows: torch.Tensor) -> np.ndarray | None:
    return None if dataset.groups is None else dataset.groups[rows.cpu().numpy()]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def describe_data(loaded: Loaded) -> dict[str, Any]:
    """Returns the `data` part of the results."""
    return {
        **loaded.dataset.get_info(),
        "notices": list(loaded.notices),
        "train_rows": len(loaded.table.train),
        "test_rows": len(loaded.table.test),
        "validation_rows": 0 if loaded.table.validation is None else len(loaded.table.validation),
        "synthetic": loaded.is_sample,
        "scaling": loaded.scaling.to_dict(),
    }


def find_table(data_path: str | None) -> Path:
    """Returns the file to read: `data_path`, else the default table, here or beside the program, else the sample."""
    if data_path is not None:
        return Path(data_path)
    default = Path(str(stated_value("data_path", None)))
    candidates = [default, SAMPLE_PATH.with_name(default.name)]
    return next((path for path in candidates if path.exists()), SAMPLE_PATH)
