"""Times the same search on both CPU engines, and compares the compiled one with the limit of the machine.

    python benchmarks/engines.py [--data_path TABLE] [--runs 3]

Search: widths 16, 32, 64, at most 3 layers (19 configurations), 20 epochs, 1 repeat, batch size 32, latent size 3. The
reference engine trains one configuration at a time on one thread (more are slower), the compiled engine one on each
core. Each run times both, so that the ratio is valid even if the machine's speed varies. The floor is the time that the
multiply-adds of the search (three passes for each training row, one for each test row) take at the rate of torch's 1024
x 1024 float32 product, measured in the same run. Then whole commands are timed, with their stages and peak memory: the
default one; the search above with 5 repeats, which includes the verdict; and the same cross-validated with 5 folds x 3
repeats, compared with the same number of reference trainings (estimated from the 19 above).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402 - the project's modules lie one folder up

from dataset import COPUSDataset, fit_scaling  # noqa: E402
from layersearch.engines.dispatch import make_trainer, try_out  # noqa: E402
from layersearch.engines.settings import SplitTable, TrainingSettings  # noqa: E402
from layersearch.engines.workers import available_cores, run_trials  # noqa: E402
from layersearch.journal.identity import describe_environment  # noqa: E402
from layersearch.space.configurations import count_parameters, enumerate_configurations  # noqa: E402
from layersearch.space.trials import Trial, plan_trials  # noqa: E402

SETTINGS = TrainingSettings(
    latent_dim=3, epochs=20, batch_size=32, initial_lr=0.001, eta_min=1e-6, weight_decay=1e-4, dropout=0.1, seed=42
)


def seconds(work: Callable[[], object]) -> float:
    """Returns the wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def matrix_rate() -> float:
    """Returns one core's multiply-adds per second in a 1024 x 1024 float32 product, the median of 15."""
    torch.set_num_threads(1)
    A, B = torch.rand(1024, 1024), torch.rand(1024, 1024)
    return 1024**3 / statistics.median(seconds(lambda: A @ B) for _ in range(15))


def load_table(path: Path) -> SplitTable:
    """Returns the table, split and scaled as the command does."""
    dataset = COPUSDataset(path)
    split = dataset.split(SETTINGS.seed)
    scaling, _ = fit_scaling("robust", dataset.data, split.train, dataset.columns)
    return SplitTable(scaling.apply(dataset.data), split.train, split.test)


def spread(values: list[float], unit: str = " s", digits: int = 2) -> str:
    """Returns median and range as text."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f}, n = {len(values)})"


def train_everything(engine: str, table: SplitTable, trials: list[Trial], threads: int) -> None:
    """Trains the whole search and discards the results."""
    for _ in run_trials(trials, make_trainer(engine, {None: table}, SETTINGS), threads):
        pass


def compare_engines(table: SplitTable, runs: int) -> float:
    """Prints the times of both engines, their ratio and the floor; returns the median time of the reference."""
    configurations = enumerate_configurations([16, 32, 64], 3)
    trials = plan_trials(configurations, 1, input_dim=table.input_dim, latent_dim=SETTINGS.latent_dim)
    weights = sum(count_parameters(table.input_dim, SETTINGS.latent_dim, c) for c in configurations)
    multiply_adds = weights * SETTINGS.epochs * (3 * len(table.train) + len(table.test))
    cores = available_cores()
    try_out("compiled")
    compiled: list[float] = []
    reference: list[float] = []
    floor: list[float] = []
    for _ in range(runs):
        for engine, threads, times in (("compiled", cores, compiled), ("reference", 1, reference)):
            times.append(seconds(partial(train_everything, engine, table, trials, threads)))
        floor.append(multiply_adds / matrix_rate() / cores)
    print(f"search: {len(trials)} trainings of {SETTINGS.epochs} epochs, {multiply_adds / 1e9:.1f} G multiply-adds")
    print(f"reference engine  {spread(reference)}")
    print(f"compiled engine   {spread(compiled)}, {cores} at a time")
    print(f"ratio             {spread([r / c for r, c in zip(reference, compiled, strict=True)], ' x', 1)}")
    print(f"floor             {spread(floor)}")
    print(f"compiled / floor  {spread([c / f for c, f in zip(compiled, floor, strict=True)], ' x', 1)}")
    return statistics.median(reference)


def whole_command(title: str, data_path: Path, runs: int, *flags: str) -> list[float]:
    """Runs a command as a process, prints its times by stage and peak memory, and returns its training times."""
    stages: dict[str, list[float]] = {}
    memory = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as output:
            command = [sys.executable, str(ROOT / "hyperparam_optimizer.py"), "--quiet", *flags]
            command += ["--data_path", str(data_path), "--output_dir", output, "--device", "cpu"]
            started = time.perf_counter()
            memory.append(peak_memory(command))
            stages.setdefault("process", []).append(time.perf_counter() - started)
            results = json.loads((Path(output) / "hyperparam_results_latent3.json").read_text(encoding="utf-8"))
        for stage, duration in results["timing"].items():
            stages.setdefault(stage, []).append(duration)
    outside = [p - t for p, t in zip(stages["process"], stages["train"], strict=True)]
    print(f"{title}, whole process")
    for stage in ("process", "train", "start_up", "load", "select", "retrain", "probe", "report"):
        print(f"{stage:<17} {spread(stages[stage])}")
    print(f"outside training  {spread(outside)}")
    print(f"peak memory       {spread(memory, ' MB', 0)}")
    return [t + r for t, r in zip(stages["train"], stages["retrain"], strict=True)]


def cross_validation(data_path: Path, runs: int, flags: list[str], reference: float) -> None:
    """Prints the stages of the cross-validated search, and its ratio to reference trainings.

    `reference` is the time of the 19 reference trainings on all training rows, in seconds; a fold has 4/5 of these
    rows.
    """
    folds, repeats = 5, 3
    title = f"19 configurations x {folds} folds x {repeats} repeats and the refit"
    trained = whole_command(title, data_path, runs, *flags, "--cv_folds", str(folds), "--repeats", str(repeats))
    expected = reference * folds * repeats * (folds - 1) / folds
    print(f"reference         {expected:.0f} s for the {19 * folds * repeats} trainings, by the time of 19")
    print(f"ratio             {spread([expected / t for t in trained], ' x', 1)}")


def peak_memory(command: list[str]) -> float:
    """Runs the command and returns its peak resident memory in MB."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, "
        "stderr=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    answer = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    return int(answer.stdout) / (1024 if sys.platform == "linux" else 1024**2)


def main() -> None:
    """Parses the arguments, runs all measurements and prints the results."""
    parser = argparse.ArgumentParser(description="Both engines on the same search, and the whole default command.")
    parser.add_argument("--data_path", type=Path, default=ROOT / "data" / "sample.csv", help="default: the sample")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each (default: 3)")
    arguments = parser.parse_args()
    machine = describe_environment(torch.device("cpu"), "both", available_cores())
    print(f"{machine['processor']}, {available_cores()} cores, {platform.system()}, Python {machine['python']}, "
          f"torch {machine['torch']}, numba {machine['numba']}")  # fmt: skip
    data_path, runs = arguments.data_path, arguments.runs
    reference = compare_engines(load_table(data_path), runs)
    whole_command("default command: 34 configurations x 5 repeats", data_path, runs)
    flags = ["--latent_dim", "3", "--hidden_dims_search", "16,32,64", "--max_layers", "3", "--epochs", "20"]
    whole_command("basic command: 19 configurations x 5 repeats", data_path, runs, *flags)
    cross_validation(data_path, runs, flags, reference)


if __name__ == "__main__":
    main()
