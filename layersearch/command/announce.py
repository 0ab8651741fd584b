"""Prints a description of the table, and notices about it, before a search begins.

announce(request, loaded, console)
"""

from __future__ import annotations

from layersearch.command.request import Request
from layersearch.console import Console
from layersearch.loading.loaded import Loaded
from layersearch.words import count


def announce(request: Request, loaded: Loaded, console: Console) -> None:
    """Prints the size of the table and of its splits, after all notices about the data and the arguments."""
    dataset, table = loaded.dataset, loaded.table
    if loaded.is_sample:
        console.warn(
            "this runs on SYNTHETIC sample data, not on real classes; get the real table with "
            "`python dataset.py --download`, or name yours with --data_path"
        )
    if duplicates := request.duplicate_widths:
        console.notice(f"--hidden_dims_search names {', '.join(map(str, duplicates))} more than once; used once")
    for notice in loaded.notices:
        console.notice(notice)
    patience, epochs = request.training.patience, request.training.epochs
    if patience >= epochs:
        console.notice(f"--patience {patience} with --epochs {epochs}: no training stops early")
    _tell_odd_sizes(request, loaded, console)
    apart = "" if table.validation is None else f", {len(table.validation)} to decide when to stop"
    console.say(
        f"Table: {dataset.n_samples} rows x {count(dataset.n_features, 'column')} from {dataset.path.name}, "
        f"{len(table.train)} for training{apart} and {len(table.test)} for testing"
    )


def _tell_odd_sizes(request: Request, loaded: Loaded, console: Console) -> None:
    """Prints notices about requested sizes that do not fit the table or have no effect."""
    n_columns, latent_dim = loaded.dataset.n_features, request.sizes.latent_dim
    if latent_dim >= n_columns:
        console.notice(f"--latent_dim {latent_dim} does not compress {count(n_columns, 'column')}")
    is_crossed = "input_normalization" in {factor.name for factor in request.factors}
    if n_columns <= 2 and request.training.input_normalization == "layer" and not is_crossed:
        left = "nothing of a single column" if n_columns == 1 else "only the order of two columns"
        console.warn(f"LayerNorm on the input leaves {left}; give --input_normalization none")
    min_epochs, epochs = request.search.min_epochs, request.training.epochs
    if request.search.search == "halving" and min_epochs >= epochs:
        console.notice(f"--min_epochs {min_epochs} with --epochs {epochs}: no configuration is dropped early")


def tell_changes(loaded: Loaded, console: Console) -> None:
    """Warns if the file of the table has changed since it was read."""
    if loaded.has_changed():
        dataset = loaded.dataset
        console.warn(
            f"{dataset.path} has changed or gone since it was read; these results are of the table as it was then "
            f"(SHA-256 {dataset.sha256[:12]}...)"
        )
