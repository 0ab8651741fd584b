"""Compares the results of cheaper search strategies with those of the full grid, over many seeds.

    python benchmarks/strategy_gains.py --data_path TABLE [--seeds 10]

The space has widths 8, 16, 32, 64, 128 and up to 4 layers, 125 configurations; 5 repeats of 20 epochs, latent size 3.
Each seed splits the table differently. The grid is trained once for each seed. Random and Bayesian search then look up
their losses in the grid (a trial gives the same result in any search), while successive halving is trained to measure
its time. "Excess" is the amount by which the best loss found exceeds the grid's best, relative to the latter. Early
stopping is measured on the basic command's 19 configurations with 200 epochs, with and without `--patience 10`. For
several objectives, the result is the share of the hypervolume of the grid's front of loss and log size that T trials of
each kind cover.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - the project's modules lie one folder up
import torch  # noqa: E402

from dataset import COPUSDataset, fit_scaling  # noqa: E402
from layersearch.engines.dispatch import try_out  # noqa: E402
from layersearch.engines.settings import SplitTable, TrainingSettings  # noqa: E402
from layersearch.engines.training import Training  # noqa: E402
from layersearch.engines.workers import available_cores  # noqa: E402
from layersearch.journal.identity import describe_environment  # noqa: E402
from layersearch.search.bayesian import Values, bayesian, make_study  # noqa: E402
from layersearch.search.history import History  # noqa: E402
from layersearch.search.strategies import Plan, draw_distinct, everything, follow, halving  # noqa: E402
from layersearch.space.configurations import Configuration, ParameterCounts, Space  # noqa: E402
from layersearch.space.ranking import ConfigurationResult, ResultCollector  # noqa: E402
from layersearch.space.trials import Trial, plan_trials  # noqa: E402
from layersearch.table.scoring import scored_part  # noqa: E402
from layersearch.verdict.verdict import judge  # noqa: E402

SPACE = Space([8, 16, 32, 64, 128], 4)
BASIC = Space([16, 32, 64], 3)
REPEATS = 5
SETTINGS = TrainingSettings(
    latent_dim=3, epochs=20, batch_size=32, initial_lr=0.001, eta_min=1e-6, weight_decay=1e-4, dropout=0.1, seed=42
)
BUDGETS = (10, 20, 40)


def load_table(path: Path, seed: int, validation: float = 0.0) -> SplitTable:
    """Returns the table, split and scaled as the command does."""
    dataset = COPUSDataset(path)
    split = dataset.split(seed)
    scaling, _ = fit_scaling("robust", dataset.data, split.train, dataset.columns)
    values = scaling.apply(dataset.data)
    if not validation:
        return SplitTable(values, *split)
    train, apart = dataset.validation(split.train, validation, seed)
    return SplitTable(values, train, split.test, apart)


def search(
    table: SplitTable, settings: TrainingSettings, plan: Plan, repeats: int = REPEATS
) -> tuple[float, list[ConfigurationResult]]:
    """Runs a search; returns its CPU seconds (wall-clock time varies on a shared machine) and the ranking."""
    counts = ParameterCounts(table.input_dim, settings.latent_dim)

    def trials_of(configurations: Sequence[Configuration]) -> list[Trial]:
        return plan_trials(configurations, repeats, input_dim=table.input_dim, latent_dim=settings.latent_dim)

    collector = ResultCollector(repeats, counts)
    history = History("", SPACE.size, settings.epochs, available_cores())
    started = time.process_time()
    training = Training(settings, {None: table}, "compiled", available_cores())
    for _ in follow(plan, training, trials_of, collector, history):
        pass
    return time.process_time() - started, collector.ranking()


def answered(plan: Plan, grid: dict[Configuration, ConfigurationResult]) -> list[ConfigurationResult]:
    """Runs a plan with the results of the grid; returns the results that it requested, in order."""
    asked: list[ConfigurationResult] = []
    batch = next(plan)
    while True:
        answers = [grid[config] for config in batch.configurations]
        asked += answers
        try:
            batch = plan.send(answers)
        except StopIteration:
            return asked


def losses_and_sizes(result: ConfigurationResult) -> Values:
    """Returns the values of both objectives."""
    return [result.final_test_loss, math.log(result.model_params)]


def compare_strategies(path: Path, seeds: int) -> None:
    """Compares halving with the grid, and Bayesian with random search, and prints the results."""
    shares, survivors, excess = [], [], []
    found: dict[str, list[list[float]]] = {"random": [], "bayesian": []}
    covered: dict[str, list[list[float]]] = {"random": [], "bayesian, loss alone": [], "bayesian, loss and size": []}
    for seed in range(seeds):
        settings, table = replace(SETTINGS, seed=seed), load_table(path, seed)
        grid_seconds, ranking = search(table, settings, everything(SPACE.configurations()))
        plan = halving(SPACE.configurations(), epochs=settings.epochs, min_epochs=settings.epochs // 20, factor=3)
        halving_seconds, halved = search(table, settings, plan)
        tied = judge(ranking, [scored_part(table.scored_cells)], {}, confidence=0.95, seed=seed).tied
        best = ranking[0].final_test_loss
        shares.append(halving_seconds / grid_seconds)
        survivors.append(halved[0].config in {configuration.config for configuration in tied})
        excess.append(halved[0].final_test_loss / best - 1)
        grid = {configuration.config: configuration for configuration in ranking}
        asked = ask_all(grid, seed)
        for kind, losses in found.items():
            reached = np.minimum.accumulate([result.final_test_loss for result in asked[kind]])
            losses.append([reached[n - 1] / best - 1 for n in BUDGETS])
        whole = hypervolume(ranking, ranking)
        for kind, volumes in covered.items():
            volumes.append([hypervolume(asked[kind.replace(", loss alone", "")][:n], ranking) / whole for n in BUDGETS])
        print(
            f"seed {seed}: {len(tied)} tied; halving {halved[0].config}, {shares[-1]:.0%} of {grid_seconds:.0f} s",
            flush=True,
        )
    print(f"halving's winner is one of the grid's tied set: {sum(survivors)} of {seeds}; excess {percentages(excess)}")
    print(f"time, halving / grid: median {statistics.median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})")
    for title, table_of in (("excess over the grid's best", found), ("hypervolume of the grid's front", covered)):
        for kind, rows in table_of.items():
            columns = [
                f"T = {n}: {percentages(column)}" for n, column in zip(BUDGETS, zip(*rows, strict=True), strict=True)
            ]
            print(f"{title}, {kind}: {'; '.join(columns)}")


def ask_all(grid: dict[Configuration, ConfigurationResult], seed: int) -> dict[str, list[ConfigurationResult]]:
    """Returns, for each kind of search, the results that it requests, up to the largest budget."""

    def ask(objectives: list[str], values_of: Callable[[ConfigurationResult], Values]) -> list[ConfigurationResult]:
        study = make_study(seed, objectives)
        plan = bayesian(SPACE, study, n_trials=max(BUDGETS), batch_size=1, seed=seed, values_of=values_of)
        return answered(plan, grid)

    return {
        "random": answered(everything(draw_distinct(SPACE, max(BUDGETS), seed)), grid),
        "bayesian": ask(["loss"], lambda result: [result.final_test_loss]),
        "bayesian, loss and size": ask(["loss", "params"], losses_and_sizes),
    }


def hypervolume(results: Sequence[ConfigurationResult], ranking: Sequence[ConfigurationResult]) -> float:
    """Returns the area that these results dominate in (loss, log size), bounded by the worst of the grid in each."""
    points = sorted((math.log(r.model_params), r.final_test_loss) for r in results)
    worst_size = math.log(max(r.model_params for r in ranking))
    height, area = max(r.final_test_loss for r in ranking), 0.0
    for size, loss in points:
        if loss < height:
            area += (worst_size - size) * (height - loss)
            height = loss
    return area


def percentages(shares: Sequence[float]) -> str:
    """Returns mean ± standard error as text."""
    error = statistics.stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else math.nan
    return f"{statistics.mean(shares):.1%} ± {error:.1%}"


def compare_early_stopping(path: Path, runs: int) -> None:
    """Prints time and best loss of 200 epochs, without and with early stopping."""
    settings = replace(SETTINGS, epochs=200)
    times: dict[str, list[float]] = {"to the end": [], "--patience 10": []}
    for _ in range(runs):
        for name in times:
            patience = 10 * (name != "to the end")
            table = load_table(path, settings.seed, 0.1 * bool(patience))
            spent, ranking = search(table, replace(settings, patience=patience), everything(BASIC.configurations()), 1)
            times[name].append(spent)
            epochs = statistics.mean(len(result.trials[0].test_losses) for result in ranking)
            print(f"{name}: {spent:.1f} s, {epochs:.0f} epochs on average, best {ranking[0].final_test_loss:.4f}")
    ratios = [stopped / whole for whole, stopped in zip(*times.values(), strict=True)]
    print(f"time with --patience 10 / without: median {statistics.median(ratios):.0%}, n = {runs}")


def main() -> None:
    """Runs all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", type=Path, default=ROOT / "data" / "sample.csv")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3, help="of early stopping")
    arguments = parser.parse_args()
    try_out("compiled")
    environment = describe_environment(torch.device("cpu"), "compiled", available_cores())
    print({name: environment[name] for name in ("processor", "threads", "platform", "python", "torch", "numba")})
    compare_early_stopping(arguments.data_path, arguments.runs)
    compare_strategies(arguments.data_path, arguments.seeds)


if __name__ == "__main__":
    main()
