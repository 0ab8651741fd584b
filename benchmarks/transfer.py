"""Measures whether pretraining on other disciplines helps if there are few classes: test loss by number of epochs.

    python benchmarks/transfer.py --data_path TABLE [--discipline NAME]

One discipline of the published table (column `Broader`) is the target: by default the smallest with at least 200
classes. For each of 10 seeds, a [64, 64] autoencoder is trained on all other disciplines. Then 60 classes of the target
discipline are the training set, and its remaining classes are the test set. Instructors are never split: no instructor
has classes in both sets, and instructors who also teach the target discipline are left out of pretraining. Three starts
are compared on the same 60 rows, all in the scaling of the pretrained model: cold (random weights), warm (pretrained
weights), and warm with a frozen encoder. Each point is a separate training with its complete learning-rate schedule.
The script writes transfer.csv and transfer.png beside this file. They hold only summary statistics.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import matplotlib as mpl  # noqa: E402 - the project's modules lie one folder up
import numpy as np  # noqa: E402
import torch  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator  # noqa: E402

from dataset import COPUSDataset, Scaling, fit_scaling  # noqa: E402
from layersearch.engines.compiled import compiled_trainer  # noqa: E402
from layersearch.engines.lifecycle import trained_model  # noqa: E402
from layersearch.engines.settings import SplitTable, TrainingSettings  # noqa: E402
from layersearch.engines.weights import start_from  # noqa: E402
from layersearch.journal.identity import describe_environment  # noqa: E402
from layersearch.pictures.style import COLOURS, DPI, FAINT, STYLE, WIDTH, png, set_scale, wrapped  # noqa: E402
from layersearch.space.trials import Trial  # noqa: E402
from layersearch.verdict.baselines import baseline_errors  # noqa: E402
from losses import loss_of_sums, squared_error_sums  # noqa: E402
from models import DynamicAutoencoder  # noqa: E402

CONFIG = (64, 64)
SETTINGS = TrainingSettings(
    latent_dim=3, epochs=300, batch_size=32, initial_lr=0.001, eta_min=1e-6, weight_decay=1e-4, dropout=0.1, seed=42
)
EPOCHS = (0, 3, 10, 30, 100, 300, 1000, 3000)
SEEDS = 10
FEW = 60  # number of classes in the training set
ENOUGH = 200  # smallest number of classes of a target discipline
STARTS = ("cold", "warm", "warm, frozen encoder")
LOOKS: dict[str, dict[str, Any]] = {
    "cold": {"color": COLOURS[0], "marker": "o"},
    "warm": {"color": COLOURS[1], "marker": "s"},
    "warm, frozen encoder": {"color": COLOURS[2], "marker": "^"},
}


class Point(NamedTuple):
    """The test losses of one start after a number of epochs."""

    start: str
    epochs: int
    losses: np.ndarray  # [SEEDS] by seed


def choose_discipline(disciplines: np.ndarray) -> str:
    """Returns the smallest discipline with at least `ENOUGH` classes."""
    names, counts = np.unique(disciplines, return_counts=True)
    return str(min((count, name) for name, count in zip(names, counts, strict=True) if count >= ENOUGH)[1])


def split(dataset: COPUSDataset, is_target: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns `FEW` training rows of randomly drawn instructors, and all rows of the other instructors as test rows.

    The last instructor drawn contributes only the number of rows still missing, and none to the test rows.
    """
    groups = dataset.groups
    assert groups is not None
    random = np.random.default_rng([SETTINGS.seed, seed])
    train: list[int] = []
    drawn = random.permutation(np.unique(groups[is_target])).tolist()
    while len(train) < FEW:
        train += np.flatnonzero(is_target & (groups == drawn.pop())).tolist()
    test = is_target & np.isin(groups, drawn)
    return np.array(train[:FEW]), np.flatnonzero(test)


def pretrain(dataset: COPUSDataset, rows: np.ndarray, seed: int) -> tuple[DynamicAutoencoder, Scaling]:
    """Trains a model on these rows and returns it with their scaling."""
    where = torch.from_numpy(rows)
    scaling, _ = fit_scaling("robust", dataset.data, where, dataset.columns)
    table = SplitTable(scaling.apply(dataset.data), where, where[:1])
    result = compiled_trainer(table, SETTINGS)(Trial(CONFIG, seed))
    return trained_model(result, table, SETTINGS), scaling


def untrained_loss(model: DynamicAutoencoder, table: SplitTable) -> float:
    """Returns the test loss of a model without any training."""
    target = table.values[table.test]
    with torch.no_grad():
        return loss_of_sums(squared_error_sums(model(target.nan_to_num(nan=0.0))[0], target), target)


def measure_seed(dataset: COPUSDataset, is_target: np.ndarray, seed: int) -> dict[tuple[str, int], float]:
    """Returns the test loss of each start after each number of epochs, and of the baselines fitted to the 60 rows."""
    groups = dataset.groups
    assert groups is not None
    others = np.flatnonzero(~np.isin(groups, groups[is_target]))
    model, scaling = pretrain(dataset, others, seed)
    train, test = (torch.from_numpy(rows) for rows in split(dataset, is_target, seed))
    table = SplitTable(scaling.apply(dataset.data), train, test)
    target = table.values[test]
    baselines = baseline_errors(table, SETTINGS.latent_dim)
    losses = {(f"{name} of the {FEW} classes", 0): loss_of_sums(sums, target) for name, sums in baselines.items()}
    for name in STARTS:
        start = None if name == "cold" else start_from(model, freezes=name != "warm")
        for epochs in EPOCHS:
            settings = replace(SETTINGS, start=start, epochs=max(epochs, 1))
            if epochs:
                loss = compiled_trainer(table, settings)(Trial(CONFIG, seed)).final_test_loss
                assert loss is not None
                losses[name, epochs] = loss
            elif start:
                losses[name, 0] = untrained_loss(model, table)
    return losses


def write_csv(points: list[Point], path: Path) -> None:
    """Writes a row for each point, with its paired difference from the cold start with the same number of epochs."""
    cold = {point.epochs: point.losses for point in points if point.start == "cold"}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["start", "epochs", "n", "mean", "sd", "lowest", "highest", "minus_cold", "minus_cold_se"])
        for start, epochs, losses in points:
            numbers = [losses.mean(), losses.std(ddof=1), losses.min(), losses.max()]
            if epochs in cold:
                difference = losses - cold[epochs]
                numbers += [difference.mean(), difference.std(ddof=1) / len(difference) ** 0.5]
            writer.writerow([start, epochs, len(losses), *(f"{number:.5f}" for number in numbers)])


def draw(points: list[Point], title: str, note: str) -> Figure:
    """Draws the mean test loss by number of epochs, with error bars of one standard deviation over the seeds."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.2), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        places = {epochs: place for place, epochs in enumerate(EPOCHS)}
        for number, name in enumerate(STARTS):
            own = [point for point in points if point.start == name]
            x = np.array([places[point.epochs] for point in own]) + 0.07 * (number - 1)
            mean, sd = (np.array([part(point.losses) for point in own]) for part in (np.mean, _sd))
            axes.errorbar(x, mean, sd, label=name, linewidth=1.4, elinewidth=1.0, markersize=4.5, **LOOKS[name])
        others = [point for point in points if point.start not in STARTS]
        for point, dashes in zip(others, ((0, (1, 1.5)), (0, (5, 2))), strict=True):
            loss = float(point.losses.mean())
            axes.axhline(loss, color=FAINT, linestyle=dashes, linewidth=1.1, label=point.start)
        axes.set(xlabel="Epochs of training (each point is a training of its own)", ylabel="Test loss")
        axes.xaxis.set_major_locator(FixedLocator(list(places.values())))
        axes.xaxis.set_major_formatter(FixedFormatter(["none" if not e else f"{e:,}" for e in EPOCHS]))
        axes.xaxis.set_minor_locator(NullLocator())
        set_scale(axes.yaxis, 0.03, 0.6, log=True)
        axes.grid(axis="y")
        keys, names = axes.get_legend_handles_labels()
        order = sorted(range(len(names)), key=lambda number: names[number] not in STARTS)  # starts before baselines
        axes.legend([keys[number] for number in order], [names[number] for number in order], loc="upper right")
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        figure.supxlabel(wrapped(note, WIDTH), x=0.012, ha="left", fontsize=8, color=FAINT)
    return figure


def _sd(losses: np.ndarray) -> float:
    return float(losses.std(ddof=1))


def main() -> None:
    """Runs all trainings, prints the results, and writes the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--discipline", help="default: the smallest with enough classes; another is not written")
    arguments = parser.parse_args()
    dataset = COPUSDataset(arguments.data_path, group_column="Instructor ID")
    disciplines = dataset.others["Broader"].to_numpy(str)
    name = arguments.discipline or choose_discipline(disciplines)
    is_target = disciplines == name
    machine = describe_environment(torch.device("cpu"), "compiled", 1)
    seeds = [measure_seed(dataset, is_target, seed) for seed in range(SEEDS)]
    points = [Point(start, epochs, np.array([losses[start, epochs] for losses in seeds])) for start, epochs in seeds[0]]
    tested = [len(split(dataset, is_target, seed)[1]) for seed in range(SEEDS)]
    print(f"{name}: {is_target.sum()} classes, {FEW} train, {min(tested)} to {max(tested)} test; {SEEDS} seeds")
    print(f"{machine['processor']}, 1 core, torch {machine['torch']}, numba {machine['numba']}; mean test loss ± SD")
    for start, epochs, losses in points:
        print(f"{start:<30}{epochs:>6} epochs  {losses.mean():.4f} ± {_sd(losses):.4f}")
    if arguments.discipline is None:
        title = f"{FEW} classes of {name}: starting from a model of all other disciplines"
        note = (
            f"Mean and standard deviation over {SEEDS} seeds, each with another pretrained model, other {FEW} classes "
            f"to train on and the remaining {min(tested)} to {max(tested)} to test on; no instructor is on two sides. "
            "[64, 64], latent dimension 3; PCA with 3 components. Losses after scaling, for all as for the pretrained "
            "model."
        )
        write_csv(points, Path(__file__).with_suffix(".csv"))
        Path(__file__).with_suffix(".png").write_bytes(png(draw(points, title, note)))


if __name__ == "__main__":
    main()
