"""From the file to what trials are trained on: the table, scaled, with its splits.

    loaded = load(arguments, device)
    announce(arguments, loaded, console)
    loaded.table      # training and test rows; loaded.tables[0], [1], … with --cv_folds

Every split has its own scaling, fitted on its training rows alone.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dataset import COPUSDataset, DataError, Scaling, fit_scaling
from layersearch.command.values import DEFAULT_DATA_PATH, duplicate_widths
from layersearch.console import Console
from layersearch.engines.settings import SplitTable
from layersearch.engines.weights import Source
from layersearch.errors import UsageError
from layersearch.files import SAMPLE_PATH
from layersearch.loading.start import find_source, stored_scaling
from layersearch.space.factors import factors_of
from layersearch.table.scoring import ScoredPart, bundle_rows, scored_part
from layersearch.table.splits import Split
from layersearch.words import count


class Loaded(NamedTuple):
    """The table, ready to train on."""

    dataset: COPUSDataset
    scaling: Scaling
    tables: dict[int | None, SplitTable]  # None: training and test rows; 0, 1, …: the folds of the training rows
    is_sample: bool
    notices: list[str]  # what the user should know, a line each
    stamp: tuple[int, int] | None  # the file's size and time when it was read
    source: Source | None = None  # the saved model that trainings start from
    is_scaling_stored: bool = False  # that model's, not fitted here

    @property
    def table(self) -> SplitTable:
        """Training and test rows."""
        return self.tables[None]

    @property
    def folds(self) -> list[int | None]:
        """What the search is scored on: the folds, or the test rows alone."""
        return [fold for fold in self.tables if fold is not None] or [None]

    @property
    def digest(self) -> str:
        """Of all that is trained and scored on."""
        digest = hashlib.blake2b(repr(self.dataset.columns).encode(), digest_size=16)
        for fold, table in self.tables.items():
            digest.update(repr((fold, table.values.shape, len(table.train), len(table.test))).encode())
            for part in (table.values, table.train, table.test):
                digest.update(part.cpu().contiguous().numpy().data)
            digest.update(b"" if table.bundles is None else table.bundles.data)
        return digest.hexdigest()

    def part(self, fold: int | None) -> ScoredPart:
        """The rows that this fold's trials are scored on."""
        table = self.tables[fold]
        return scored_part(table.scored_cells, _groups_of(self.dataset, table.test), table.bundles)


def load(arguments: argparse.Namespace, device: torch.device) -> Loaded:
    """Reads, checks, splits and scales the table. Says nothing; see `announce`."""
    source = find_source(arguments)
    path = find_table(arguments.data_path)
    stamp = _stamp(path)
    try:
        dataset = COPUSDataset(
            path,
            columns=arguments.columns,
            device=device,
            label_column=arguments.label_column,
            group_column=arguments.group_column,
            stratify_column=arguments.stratify_column,
        )
        split = dataset.split(arguments.seed)
        folds = dataset.folds(split.train, arguments.cv_folds, arguments.seed) if arguments.cv_folds else []
        stored, notices = stored_scaling(arguments, dataset, source) if source else (None, [])
        scaling, fates = _scaling_for(arguments, dataset, split, stored)
        tables: dict[int | None, SplitTable] = {None: make_table(arguments, dataset, scaling, split)}
        for number, fold in enumerate(folds):  # scaled by their own training rows
            own_scaling, _ = _scaling_for(arguments, dataset, fold, stored)
            tables[number] = make_table(arguments, dataset, own_scaling, fold)
    except DataError as error:
        raise UsageError(str(error)) from None
    notices = dataset.notices + fates + notices
    return Loaded(dataset, scaling, tables, path.resolve() == SAMPLE_PATH, notices, stamp, source, stored is not None)


def _scaling_for(
    arguments: argparse.Namespace, dataset: COPUSDataset, split: Split, stored: Scaling | None
) -> tuple[Scaling, list[str]]:
    """The scaling of these training rows, unless one is given, and notices."""
    return (stored, []) if stored else fit_scaling(arguments.scaling, dataset.data, split.train, dataset.columns)


def make_table(arguments: argparse.Namespace, dataset: COPUSDataset, scaling: Scaling, split: Split) -> SplitTable:
    """The scaled table; with early stopping some of the training rows are set apart to decide when to stop."""
    values = scaling.apply(dataset.data)
    train, validation = split.train, None
    if arguments.patience:
        train, validation = dataset.validation(train, arguments.validation_fraction, arguments.seed)
    bundles = bundle_rows(len(split.test), _groups_of(dataset, split.test))
    return SplitTable(values, train, split.test, validation, bundles)


def _groups_of(dataset: COPUSDataset, rows: torch.Tensor) -> np.ndarray | None:
    return None if dataset.groups is None else dataset.groups[rows.cpu().numpy()]


def announce(arguments: argparse.Namespace, loaded: Loaded, console: Console) -> None:
    """Says what was read, and what the user should know about it."""
    dataset, table = loaded.dataset, loaded.table
    if loaded.is_sample:
        console.warn(
            "this runs on SYNTHETIC sample data, not on real classes; get the real table with "
            "`python dataset.py --download`, or name yours with --data_path"
        )
    if duplicates := duplicate_widths(arguments.hidden_dims_search):
        console.notice(f"--hidden_dims_search names {', '.join(map(str, duplicates))} more than once; used once")
    for notice in loaded.notices:
        console.notice(notice)
    if arguments.patience >= arguments.epochs:
        console.notice(f"--patience {arguments.patience} with --epochs {arguments.epochs}: no training stops early")
    tell_odd_sizes(arguments, loaded, console)
    apart = "" if table.validation is None else f", {len(table.validation)} to decide when to stop"
    console.say(
        f"Table: {dataset.n_samples} rows x {count(dataset.n_features, 'column')} from {dataset.path.name}, "
        f"{len(table.train)} for training{apart} and {len(table.test)} for testing"
    )


def tell_odd_sizes(arguments: argparse.Namespace, loaded: Loaded, console: Console) -> None:
    """Says where a size that was asked for does not go with the table, or has no effect."""
    n_columns = loaded.dataset.n_features
    columns = count(n_columns, "column")
    if arguments.latent_dim >= n_columns:
        console.notice(f"--latent_dim {arguments.latent_dim} does not compress {columns}")
    is_crossed = "input_normalization" in {factor.name for factor in factors_of(arguments)}
    if n_columns <= 2 and arguments.input_normalization == "layer" and not is_crossed:
        left = "nothing of a single column" if n_columns == 1 else "only the order of two columns"
        console.warn(f"LayerNorm on the input leaves {left}; give --input_normalization none")
    if arguments.search == "halving" and arguments.min_epochs >= arguments.epochs:
        console.notice(
            f"--min_epochs {arguments.min_epochs} with --epochs {arguments.epochs}: no configuration is dropped early"
        )


def tell_changes(loaded: Loaded, console: Console) -> None:
    """Says so if the file is not as it was when it was read; nothing else depends on it by then."""
    path = loaded.dataset.path
    if _stamp(path) != loaded.stamp:
        console.warn(
            f"{path} has changed or gone since it was read; these results are of the table as it was then "
            f"(SHA-256 {loaded.dataset.sha256[:12]}...)"
        )


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def describe_data(loaded: Loaded) -> dict[str, Any]:
    """The `data` part of the results."""
    return {
        **loaded.dataset.get_info(),
        "notices": list(loaded.notices),
        "train_rows": len(loaded.table.train),
        "test_rows": len(loaded.table.test),
        "validation_rows": 0 if loaded.table.validation is None else len(loaded.table.validation),
        "synthetic": loaded.is_sample,
        "scaling": loaded.scaling.to_dict(),
    }


def find_table(data_path: str) -> Path:
    """The file to read: the one given; by default the real table, here or beside the program, or else the sample."""
    if data_path is not DEFAULT_DATA_PATH:
        return Path(data_path)
    candidates = [Path(data_path), SAMPLE_PATH.with_name(Path(data_path).name)]
    return next((path for path in candidates if path.exists()), SAMPLE_PATH)
