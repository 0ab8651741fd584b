"""Counts how often verdicts on simulated searches agree with a known truth.

    python benchmarks/calibration.py [--data_path TABLE] [--searches 1000] [--seeds 10]

1. *Rows and trainings.* Every configuration is trained many times on a real split. These trainings and test rows
   (or whole groups of rows) are taken as the population, whose mean losses are the truth. A simulated search draws
   rows, and a few trainings of each configuration, from the population with replacement. This assumes nothing about
   how losses vary. Scenarios: losses as they are; the best two, five or all made equal by scaling their errors.
2. *Folds.* Tables are drawn from a large synthetic population (`data/make_sample.py`), and each is cross-validated
   with real trainings, so that training sets vary too. The truth is the mean over all tables.
3. *Seeds.* The whole search is run on the table itself with several seeds, that is with different splits and different
   trainings, to see whether each tied set contains the configuration that is best over all seeds together.

The counts are printed with their binomial standard error. `tests/verdict/test_calibration.py` runs a smaller version.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "data")]

import make_sample  # noqa: E402 - the project's modules lie one folder up
import numpy as np  # noqa: E402
import torch  # noqa: E402

from dataset import COPUS_CODES, COPUSDataset, fit_scaling  # noqa: E402
from layersearch.engines.dispatch import try_out  # noqa: E402
from layersearch.engines.settings import SplitTable, TrainingSettings  # noqa: E402
from layersearch.engines.training import Training  # noqa: E402
from layersearch.engines.workers import available_cores  # noqa: E402
from layersearch.files import SAMPLE_PATH  # noqa: E402
from layersearch.journal.identity import describe_environment  # noqa: E402
from layersearch.space.configurations import Configuration, count_parameters, enumerate_configurations  # noqa: E402
from layersearch.space.ranking import ConfigurationResult, rank_configurations  # noqa: E402
from layersearch.space.trials import Trial, TrialResult, plan_trials  # noqa: E402
from layersearch.table.scoring import ScoredPart, scored_part  # noqa: E402
from layersearch.table.splits import fold_rows  # noqa: E402
from layersearch.verdict.evidence import collect_evidence  # noqa: E402
from layersearch.verdict.uncertainty import draw_errors, upper_bounds  # noqa: E402
from layersearch.verdict.verdict import Verdict, judge, n_draws  # noqa: E402
from losses import sum_weights  # noqa: E402

SETTINGS = TrainingSettings(
    latent_dim=3, epochs=20, batch_size=32, initial_lr=0.001, eta_min=1e-6, weight_decay=1e-4, dropout=0.1, seed=42
)
CONFIDENCE = 0.95
POPULATION_REPEATS = 40


@dataclass(frozen=True)
class Population:
    """Trainings and rows from which searches are drawn: C configurations, T trainings of each, N rows."""

    configurations: tuple[Configuration, ...]
    parameters: dict[Configuration, int]
    errors: np.ndarray  # [C, T, N, 2] sum of squared errors over the non-zero cells and over all cells
    cells: np.ndarray  # [N, 2] numbers of non-zero cells and of all cells
    groups: np.ndarray  # [N]
    n_drawn: int | None = None  # number of rows that a search scores; None: N

    @property
    def truth(self) -> np.ndarray:
        """Mean loss of each configuration over all trainings and rows, [C]."""
        return np.asarray(_losses(self.errors, self.cells).mean(axis=1))

    def with_equal_best(self, n_equal: int) -> Population:
        """Returns the population with the errors of the best `n_equal` configurations scaled to one loss."""
        truth = self.truth
        equal = np.argsort(truth)[:n_equal]
        factors = np.ones(len(truth))
        factors[equal] = truth.min() / truth[equal]
        return replace(self, errors=self.errors * factors[:, None, None, None])


class Count(NamedTuple):
    """The result of one simulated search."""

    holds_best: bool  # the tied set contains the truly best one (the first if there are several)
    wrongly_proven: bool  # "proven better", of a configuration that is not the only best one
    proven: bool
    n_tied: int
    optimism: float  # of the best measured: truth - measured, both relative to the mean of all
    estimated_optimism: float
    covered: float  # share of the differences from the best measured that lie in their interval
    loss_covered: bool  # the interval of the best measured loss contains the true loss
    bounds_hold: bool  # the upper bounds of all differences from the best measured hold together
    near_bounds_hold: bool  # those of the configurations with at most 1.5 times the best loss do
    smaller: bool  # a smaller configuration than the best measured is recommended
    wrongly_smaller: bool  # it is, and its true loss exceeds that of the best measured by more than the margin
    excess: float  # true loss of the recommended above that of the truly best, relative to the latter
    best_excess: float  # the same for the best measured
    tied_excess: float  # the same for the smallest of the tied


def train_population(
    path: Path, configurations: Sequence[Configuration], repeats: int, settings: TrainingSettings
) -> Population:
    """Returns the population of `repeats` trainings of each configuration, on the split of `settings.seed`."""
    dataset = COPUSDataset(path)
    table = _scaled(dataset, settings.seed)
    names = next((name for name in dataset.others.columns if name == "Instructor ID"), None)
    groups = np.arange(len(dataset)) if names is None else COPUSDataset(path, group_column=names).groups
    assert groups is not None
    return population_of(table, configurations, repeats, settings, groups[table.test.numpy()])


def population_of(
    table: SplitTable,
    configurations: Sequence[Configuration],
    repeats: int,
    settings: TrainingSettings,
    groups: np.ndarray | None = None,
) -> Population:
    """Returns the population of `repeats` trainings of each configuration on a scaled table."""
    results = _train({None: table}, configurations, repeats, settings)
    by_trial = {(result.trial.config, result.trial.repeat): result.row_errors for result in results}
    errors = np.array([[by_trial[config, repeat] for repeat in range(repeats)] for config in configurations])
    params = {c: count_parameters(table.input_dim, settings.latent_dim, c) for c in configurations}
    groups = np.arange(len(table.test)) if groups is None else groups
    return Population(tuple(configurations), params, errors, table.scored_cells, groups)


def simulate(
    population: Population, repeats: int, n_searches: int, *, by_group: bool = False, seed: int = 0
) -> list[Count]:
    """Draws searches with `repeats` repeats and compares the verdict on each with the truth."""
    rng = np.random.default_rng(seed)
    truth = population.truth
    return [_count(population, truth, *_draw(population, repeats, by_group, rng), seed=i) for i in range(n_searches)]


def _draw(
    population: Population, repeats: int, by_group: bool, rng: np.random.Generator
) -> tuple[list[TrialResult], np.ndarray, np.ndarray | None]:
    """Returns the trials of a search, its rows [N], and the group of each row [N] if whole groups are drawn."""
    rows, groups = draw_rows(population, by_group, rng)
    n_trainings, results = population.errors.shape[1], []
    for errors, config in zip(population.errors, population.configurations, strict=True):
        for repeat, training in enumerate(rng.integers(0, n_trainings, repeats)):
            results.append(trial_result(Trial(config, repeat), errors[training][rows], population.cells[rows]))
    return results, rows, groups


def draw_rows(population: Population, by_group: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns rows [N] drawn with replacement and None, or whole groups of rows and the group of each row [N]."""
    if not by_group:
        n_drawn = population.n_drawn or len(population.cells)
        return rng.integers(0, len(population.cells), n_drawn), None
    members = [np.flatnonzero(population.groups == group) for group in np.unique(population.groups)]
    drawn = rng.integers(0, len(members), len(members))
    rows = np.concatenate([members[group] for group in drawn])
    return rows, np.repeat(np.arange(len(drawn)), [len(members[group]) for group in drawn])


def trial_result(trial: Trial, errors: np.ndarray, cells: np.ndarray) -> TrialResult:
    """Returns the result of a training with these errors [N, 2] on rows with these numbers of cells [N, 2]."""
    loss = float(_losses(errors, cells))
    curve = np.array([loss])
    return TrialResult(trial, curve, curve, loss, loss, errors.astype(np.float32), np.empty(0, np.float32), 0.0)


def _count(
    population: Population,
    truth: np.ndarray,
    results: list[TrialResult],
    rows: np.ndarray,
    groups: np.ndarray | None,
    *,
    seed: int,
) -> Count:
    ranking = rank_configurations(results, population.parameters)
    part = scored_part(population.cells[rows], groups)
    verdict = judge(ranking, [part], {}, confidence=CONFIDENCE, seed=seed)
    losses = dict(zip(population.configurations, truth.tolist(), strict=True))
    lowest = min(losses.values()) * (1 + 1e-9)
    truly_best = [config for config, loss in losses.items() if loss <= lowest]
    mean_measured = float(np.mean([c.final_test_loss for c in ranking]))
    best = verdict.best.config
    held, near = _upper_bounds_held(ranking, part, losses, seed)
    assert verdict.optimism is not None
    assert verdict.best_interval is not None
    return Count(
        holds_best=truly_best[0] in {c.config for c in verdict.tied},
        wrongly_proven=verdict.is_proven and truly_best != [best],
        proven=verdict.is_proven,
        n_tied=len(verdict.tied),
        optimism=(losses[best] - truth.mean()) - (verdict.best.final_test_loss - mean_measured),
        estimated_optimism=verdict.optimism,
        covered=float(np.mean(list(_covered(verdict, losses)))),
        loss_covered=verdict.best_interval.low <= losses[best] <= verdict.best_interval.high,
        bounds_hold=bool(held.all()),
        near_bounds_hold=bool(held[near].all()),
        smaller=verdict.recommended is not verdict.best,
        wrongly_smaller=losses[verdict.recommended.config] > losses[best] * (1 + verdict.margin),
        excess=losses[verdict.recommended.config] / min(losses.values()) - 1,
        best_excess=losses[best] / min(losses.values()) - 1,
        tied_excess=losses[min(verdict.tied, key=lambda c: c.model_params).config] / min(losses.values()) - 1,
    )


def _upper_bounds_held(
    ranking: Sequence[ConfigurationResult], part: ScoredPart, losses: dict[Configuration, float], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which true differences to the best measured are at most their bounds, and whose loss is near."""
    evidence = collect_evidence(ranking, [part])
    errors = draw_errors(evidence, n_draws(len(ranking), CONFIDENCE), np.random.default_rng(seed)).total
    bounds, _ = upper_bounds(evidence.losses - evidence.losses[0], errors - errors[:, [0]], CONFIDENCE)
    true = np.array([losses[c.config] for c in ranking])
    return true - true[0] <= bounds + 1e-12, true <= 1.5 * true[0]


def _covered(verdict: Verdict, losses: dict[Configuration, float]) -> Iterator[bool]:
    """Yields whether the interval of each configuration, except the best measured, contains the true difference."""
    for config, standing in verdict.standings.items():
        if config != verdict.best.config and standing.difference_interval:
            low, high = standing.difference_interval
            yield low <= losses[config] - losses[verdict.best.config] <= high


def _losses(errors: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Returns the losses [*] of errors [*, N, 2] on rows with these numbers of cells [N, 2]."""
    return np.asarray(errors.sum(axis=-2, dtype=np.float64) @ np.array(sum_weights(*cells.sum(axis=0).tolist())))


# Folds


def cross_validate(
    values: torch.Tensor, configurations: Sequence[Configuration], folds: int, repeats: int, settings: TrainingSettings
) -> Verdict:
    """Returns the verdict on a search that is scored on the folds of all rows of a table [N, F]."""
    n_rows = len(values)
    tables: dict[int | None, SplitTable] = {}
    columns = [str(i) for i in range(values.shape[1])]
    for number, split in enumerate(fold_rows(np.arange(n_rows), folds, settings.seed)[0]):
        scaling, _ = fit_scaling("robust", values, split.train, columns)
        tables[number] = SplitTable(scaling.apply(values), *split)
    results = _train(tables, configurations, repeats, settings)
    params = {c: count_parameters(values.shape[1], settings.latent_dim, c) for c in configurations}
    parts = [scored_part(table.scored_cells) for table in tables.values()]
    return judge(rank_configurations(results, params), parts, {}, confidence=CONFIDENCE, seed=settings.seed)


def _train(
    tables: dict[int | None, SplitTable],
    configurations: Sequence[Configuration],
    repeats: int,
    settings: TrainingSettings,
) -> list[TrialResult]:
    folds = 0 if None in tables else len(tables)
    n_columns = next(iter(tables.values())).input_dim
    trials = plan_trials(configurations, repeats, input_dim=n_columns, latent_dim=settings.latent_dim, folds=folds)
    return list(Training(settings, tables, "compiled", available_cores()).run(trials))


def _scaled(dataset: COPUSDataset, seed: int) -> SplitTable:
    split = dataset.split(seed)
    scaling, _ = fit_scaling("robust", dataset.data, split.train, dataset.columns)
    return SplitTable(scaling.apply(dataset.data), *split)


def synthetic_population(n_rows: int, seed: int) -> torch.Tensor:
    """Returns raw values of synthetic classes, [N, F]."""
    header, *rows = make_sample.draw(n_rows, seed)
    places = [header.index(code) for code in COPUS_CODES]
    return torch.tensor([[float(row[place]) for place in places] for row in rows])


def fold_coverage(
    population: torch.Tensor,
    configurations: Sequence[Configuration],
    *,
    n_tables: int,
    n_rows: int,
    folds: int,
    repeats: int,
    settings: TrainingSettings,
) -> tuple[np.ndarray, list[bool], int]:
    """Cross-validates `n_tables` tables of `n_rows` rows from the population.

    Returns:
        For each table, the share of the intervals (of the difference from the best measured) that contain the true
        difference, and whether the tied set contains the truly best; and the number of wrong claims of a proven best.
    """
    verdicts = []
    for number in range(n_tables):
        rows = np.random.default_rng([settings.seed, number]).choice(len(population), n_rows, replace=False)
        own = replace(settings, seed=settings.seed + number)
        verdicts.append(cross_validate(population[torch.from_numpy(rows)], configurations, folds, repeats, own))
    losses = _mean_losses(verdicts, configurations)  # each is unbiased
    best = min(losses, key=lambda config: losses[config])
    covered = np.array([np.mean(list(_covered(verdict, losses))) for verdict in verdicts])
    holds = [best in {c.config for c in verdict.tied} for verdict in verdicts]
    wrong = sum(verdict.is_proven and verdict.best.config != best for verdict in verdicts)
    return covered, holds, wrong


def _mean_losses(verdicts: Sequence[Verdict], configurations: Sequence[Configuration]) -> dict[Configuration, float]:
    """Returns the measured loss of each configuration, a mean over all verdicts."""
    differences = {c: [verdict.standings[c].difference or 0.0 for verdict in verdicts] for c in configurations}
    best = [verdict.best.final_test_loss for verdict in verdicts]
    return {c: float(np.mean(np.add(best, differences[c]))) for c in configurations}


# Seeds


def tied_sets_by_seed(
    path: Path, configurations: Sequence[Configuration], seeds: Sequence[int], repeats: int
) -> tuple[Configuration, list[Verdict]]:
    """Returns the configuration with the lowest mean loss over all seeds, and the verdict of each seed."""
    dataset, verdicts = COPUSDataset(path), []
    params = {c: count_parameters(dataset.n_features, SETTINGS.latent_dim, c) for c in configurations}
    for seed in seeds:
        table, settings = _scaled(dataset, seed), replace(SETTINGS, seed=seed)
        ranking = rank_configurations(_train({None: table}, configurations, repeats, settings), params)
        verdicts.append(judge(ranking, [scored_part(table.scored_cells)], {}, confidence=CONFIDENCE, seed=seed))
    losses = _mean_losses(verdicts, configurations)
    return min(losses, key=lambda config: losses[config]), verdicts


# Printing


def share(hits: Sequence[bool] | int, n: int | None = None) -> str:
    """Returns a text like `97.1 % ± 0.5 (971 of 1,000)`, with the binomial standard error."""
    count, n = (hits, n or 1) if isinstance(hits, int) else (sum(hits), len(hits))
    p = count / n
    return f"{100 * p:.1f} % ± {100 * np.sqrt(p * (1 - p) / n):.1f} ({count:,} of {n:,})"


def print_counts(title: str, counts: Sequence[Count]) -> None:
    """Prints the counts of one scenario."""
    true = np.array([count.optimism for count in counts])
    estimated = np.array([count.estimated_optimism for count in counts])
    covered = np.array([count.covered for count in counts])
    root = np.sqrt(len(counts))
    print(f"{title}")
    print(f"  tied set holds the truly best      {share([c.holds_best for c in counts])}")
    print(f"  wrongly proven                     {share([c.wrongly_proven for c in counts])}")
    print(f"  proven at all                      {share([c.proven for c in counts])}")
    print(f"  intervals hold the true difference {100 * covered.mean():.1f} % ± {100 * covered.std() / root:.1f}")
    print(f"  tied, on average                   {np.mean([c.n_tied for c in counts]):.1f}")
    print(
        f"  optimism, true and estimated       {true.mean():.5f} ± {true.std() / root:.5f}, "
        f"{estimated.mean():.5f} ± {estimated.std() / root:.5f}, ratio {estimated.mean() / true.mean():.2f}"
    )
    print(f"  interval holds the best's true loss {share([c.loss_covered for c in counts])}")
    print(f"  upper bounds hold together         {share([c.bounds_hold for c in counts])}")
    print(f"    those within half of the best    {share([c.near_bounds_hold for c in counts])}")
    print(f"  a smaller one is recommended       {share([c.smaller for c in counts])}")
    print(f"    and is worse than the margin     {share([c.wrongly_smaller for c in counts])}")
    for name, field in (("recommended", "excess"), ("best measured", "best_excess"), ("smallest tied", "tied_excess")):
        excess = 100 * np.array([getattr(count, field) for count in counts])
        within = share([bool(e <= 5) for e in excess])
        print(
            f"  {name + ' above the truth':<34} {excess.mean():.2f} % ± {excess.std() / root:.2f}; within 5 %: {within}"
        )
    sys.stdout.flush()


def main() -> None:
    """Runs and prints all three parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data_path", type=Path, default=SAMPLE_PATH)
    parser.add_argument("--searches", type=int, default=1000, help="simulated per scenario")
    parser.add_argument("--tables", type=int, default=300, help="cross-validated")
    parser.add_argument("--seeds", type=int, default=10, help="searches of the table itself")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try_out("compiled")
    environment = describe_environment(torch.device("cpu"), "compiled", available_cores())
    where = f"{environment['processor']}, {available_cores()} cores, torch {environment['torch']}"
    print(f"{arguments.data_path.name}, {where}")
    configurations = enumerate_configurations([16, 32, 64], 3)
    population = train_population(arguments.data_path, configurations, POPULATION_REPEATS, SETTINGS)
    print(f"\n1. {len(configurations)} configurations; each scenario simulated {arguments.searches:,} times")
    for repeats, n_equal, by_group in (
        (5, 1, False),
        (5, 1, True),
        (3, 1, False),
        (5, 2, False),
        (5, 5, False),
        (5, 19, False),
    ):
        losses = "losses as measured" if n_equal == 1 else f"the best {n_equal} equal"
        title = f"{repeats} repeats, {losses}, {'groups' if by_group else 'rows'} drawn"
        counts = simulate(population.with_equal_best(n_equal), repeats, arguments.searches, by_group=by_group)
        print_counts(title, counts)

    quick = replace(SETTINGS, epochs=10)
    classes = synthetic_population(20_000, seed=1)
    print("\n2. 5 folds of 600 synthetic rows, 4 configurations, 10 epochs")
    for repeats in (1, 2):
        four = [(64,), (48,), (32,), (32, 32)]
        covered, holds, wrong = fold_coverage(
            classes, four, n_tables=arguments.tables, n_rows=600, folds=5, repeats=repeats, settings=quick
        )
        error = covered.std() / np.sqrt(len(covered))
        print(f"{repeats} repeats")
        print(f"  tied set holds the truly best      {share(holds)}")
        print(f"  wrongly proven                     {share(wrong, len(holds))}")
        print(f"  intervals hold the true difference {100 * covered.mean():.1f} % ± {100 * error:.1f}", flush=True)

    winner, verdicts = tied_sets_by_seed(arguments.data_path, configurations, range(arguments.seeds), repeats=5)
    held = [winner in {c.config for c in verdict.tied} for verdict in verdicts]
    print(f"\n3. 5 repeats, {arguments.seeds} seeds: the winner over all, {list(winner)}, is tied: {share(held)}")
    print(f"   best measured: {[list(v.best.config) for v in verdicts]}; tied: {[len(v.tied) for v in verdicts]}")


if __name__ == "__main__":
    main()
