"""Counts how often verdicts on small searches of five tables agree with a truth known from many real trainings.

    python benchmarks/in_earnest.py [--data_path TABLE] [--searches 300] [--trainings 120]

On each table nine configurations are trained many times. Their mean losses over all trainings and all rows are the
truth. Small searches of 2, 3 and 5 repeats are then drawn from these trainings and rows, as in part 1 of
`calibration.py`, and each is judged as the command does. The tables are the one of --data_path (the bundled sample by
default), wine, breast cancer and diabetes of scikit-learn, and one of synthetic classes whose truth comes from 100,000
fresh rows while a search scores 400. The counts are printed with their standard errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from calibration import (
    SETTINGS,
    Population,
    population_of,
    print_counts,
    simulate,
    synthetic_population,
    train_population,
)
from sklearn import datasets
from torch import Tensor

from dataset import fit_scaling
from layersearch.engines.dispatch import try_out
from layersearch.engines.settings import SplitTable
from layersearch.engines.workers import available_cores
from layersearch.files import SAMPLE_PATH
from layersearch.journal.identity import describe_environment
from layersearch.table.splits import split_rows

CONFIGURATIONS = [(16,), (32,), (64,), (128,), (32, 16), (64, 32), (64, 64), (128, 64), (128, 128)]
OTHERS = ("wine", "breast_cancer", "diabetes")
N_TRAIN, N_SCORED, N_FRESH = 1600, 400, 100_000  # synthetic classes


def populations(path: Path, trainings: int) -> Iterator[tuple[str, Population]]:
    """Yields each table's name and its trainings."""
    yield path.name, train_population(path, CONFIGURATIONS, trainings, SETTINGS)
    for name in OTHERS:
        values = torch.from_numpy(getattr(datasets, f"load_{name}")().data).float()
        split, _ = split_rows(len(values), SETTINGS.seed)
        yield name, population_of(_scaled(values, split.train, split.test), CONFIGURATIONS, trainings, SETTINGS)
    classes = synthetic_population(N_TRAIN + N_FRESH, seed=1)
    rows = torch.arange(len(classes))
    table = _scaled(classes, rows[:N_TRAIN], rows[N_TRAIN:])
    everything = population_of(table, CONFIGURATIONS, trainings // 2, SETTINGS)  # 100,000 rows of errors each
    yield f"{N_FRESH:,} synthetic rows", replace(everything, n_drawn=N_SCORED)


def _scaled(values: Tensor, train: Tensor, test: Tensor) -> SplitTable:
    scaling, _ = fit_scaling("robust", values, train, [str(column) for column in range(values.shape[1])])
    return SplitTable(scaling.apply(values), train, test)


def main() -> None:
    """Trains, draws searches and prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data_path", type=Path, default=SAMPLE_PATH)
    parser.add_argument("--searches", type=int, default=300, help="drawn for each table and number of repeats")
    parser.add_argument("--trainings", type=int, default=120, help="of each configuration")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try_out("compiled")
    environment = describe_environment(torch.device("cpu"), "compiled", available_cores())
    print(f"{environment['processor']}, {available_cores()} cores, torch {environment['torch']}")
    for name, population in populations(arguments.data_path, arguments.trainings):
        n_rows = population.n_drawn or len(population.cells)
        print(f"\n{name}: {n_rows} rows, {arguments.trainings} trainings each, {arguments.searches:,} searches each")
        for repeats in (5, 3, 2):
            print_counts(f"{repeats} repeats", simulate(population, repeats, arguments.searches))


if __name__ == "__main__":
    main()
