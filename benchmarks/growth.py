"""Measures how time and memory grow with the size of a search, of the table and of the models.

    python benchmarks/growth.py [--only rows,threads] [--quick] [--runs 5]
    python benchmarks/growth.py --only ""                      # only draws the picture again

Each sweep varies one quantity and keeps all others fixed. Every point is measured in a separate process, so that its
peak memory is known. For configurations, repeats x folds and rows, the whole command is timed by stage; for columns,
widths, layers, batch size and threads, only trainings, as the median of `--runs`. Times are processor times, which
other load on the machine affects less; the table also has wall-clock times. Threads are timed by the wall clock, one
and two alternately, and compared with a loop that uses only the processor. Tables are synthetic, from a fixed seed.
Results are written to `growth.csv`, in which a partial run replaces only its own sweeps, and `growth.png`.

The expected ("proportional") cost is that of the first point times the growth of the quantity, or, for columns, widths
and layers, times the growth of the multiply-adds (three for each weight and row).
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - the project's modules lie one folder up

from layersearch.engines.workers import available_cores  # noqa: E402
from layersearch.space.configurations import Configuration, count_parameters  # noqa: E402

LATENT, ROWS, COLUMNS = 3, 2000, 24
TRAIN_SHARE = 0.8
ENOUGH = 0.25  # smallest nominal duration of a timed training, in seconds
# A space of similar costs, so that a random sample has the same mean: widths 8 to 17, up to 4 layers, in any order.
ALIKE = ["--width_range", "8:17", "--max_layers", "4", "--arrangement", "any", "--search", "random"]


class Point(NamedTuple):
    """One measurement: its sweep, the value of the quantity that is varied, and the job to run."""

    sweep: str
    series: str
    value: int
    expected: float  # proportional cost, in any unit
    job: dict[str, Any]
    processes: int = 1  # number of times that it is measured


class Row(NamedTuple):
    """A line of `growth.csv`."""

    sweep: str
    series: str  # the stage that is timed
    value: int
    seconds: float  # median processor time; of threads, wall-clock time
    low: float
    high: float
    n: int
    clock_seconds: float  # median
    peak_memory_mb: float
    expected: float
    note: str


# The sweeps


def command(sweep: str, value: int, expected: float, rows: int, flags: Sequence[object]) -> Point:
    """Returns the point of a whole command on a synthetic table of `rows` rows."""
    job = {"rows": rows, "flags": [*map(str, flags), "--no_probe"]}
    return Point(sweep, "command", value, expected, job, 3 if expected <= 100 or rows == value < 100_000 else 1)


def training(
    sweep: str, value: int, config: Configuration, *, columns: int = COLUMNS, batch: int = 32, threads: int = 0
) -> Point:
    """Returns the point of trainings alone, `threads` at a time if it is given."""
    weights = count_parameters(columns, LATENT, config)
    expected = {"threads": 1 / max(threads, 1), "batch": 1.0}.get(sweep, float(weights))
    job = {"config": config, "columns": columns, "batch": batch, "threads": threads}
    return Point(sweep, "training", value, expected, job)


def sweeps(*, quick: bool) -> dict[str, list[Point]]:
    """Returns all points, by sweep."""
    few, many = (10, 100) if quick else (20, 10_000)
    sizes = [n for n in (10, 100, 1000, 10_000) if n <= many]
    heights = [2000, 20_000] if quick else [2000, 20_000, 200_000, 1_000_000]
    space = [*ALIKE, "--trials", few, "--epochs", 20]
    wide: list[object] = ["--hidden_dims_search", "16,32", "--max_layers", 1, "--repeats", 2, "--epochs", 5]
    return {
        "configurations": [
            command("configurations", n, n, ROWS, [*ALIKE, "--trials", n, "--repeats", 2, "--epochs", 5]) for n in sizes
        ],
        "repeats": [command("repeats", r, r, ROWS, [*space, "--repeats", r]) for r in (1, 3, 5, 15)]
        + [
            # a training on four of five folds costs a fifth less
            command("repeats", 5 * r, 4 * r, ROWS, [*space, "--cv_folds", 5, "--repeats", r])._replace(series="folds")
            for r in (1, 3)
        ],
        "rows": [command("rows", n, n, n, wide) for n in heights],
        "columns": [training("columns", n, (64, 64), columns=n) for n in (24, 50, 100, 250, 500)],
        "widths": [training("widths", n, (n, n)) for n in (16, 64, 256, 1024)],
        "layers": [training("layers", n, (64,) * n) for n in range(1, 7)],
        "batch": [training("batch", n, (64, 64), batch=n) for n in (32, 64, 128, 256, 512, 1024)],
        "threads": [training("threads", n, (64, 64), threads=n) for n in (1, 2)],
    }


# Measuring a point, in a separate process


def made_up_values(rows: int, columns: int) -> np.ndarray:
    """Returns synthetic percentages, [N, F] float32, more than half of them 0, with four latent dimensions."""
    random = np.random.default_rng(7)
    hidden = random.normal(size=(rows, 4)) @ random.normal(size=(4, columns))
    noisy = hidden + 0.3 * random.normal(size=hidden.shape) - 0.3
    return np.round(np.clip(20 * noisy, 0, 100), 1).astype(np.float32)


def write_table(rows: int, path: Path) -> None:
    """Writes such values to a .csv whose columns are named after the COPUS codes."""
    from dataset import COPUS_CODES

    with open(path, "w", encoding="utf-8") as file:
        file.write(",".join(COPUS_CODES) + "\n")
        np.savetxt(file, made_up_values(rows, COLUMNS), "%g", ",")


def run_command(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs the command in this process and returns the wall-clock and processor times of its stages."""
    import hyperparam_optimizer
    from layersearch import console

    processor: dict[str, float] = {}

    class Stopwatch(console.Stopwatch):
        last = time.process_time()

        def lap(self, stage: str) -> None:
            super().lap(stage)
            now = time.process_time()
            processor[stage] = processor.get(stage, 0.0) + now - self.last
            self.last = now

    hyperparam_optimizer.__dict__["Stopwatch"] = Stopwatch
    for name in ("matplotlib.backends.backend_agg", "matplotlib.figure", "scipy.special"):
        importlib.import_module(name)  # otherwise imported during the trainings, whose time would include it
    with tempfile.TemporaryDirectory() as folder:
        flags = [*job["flags"], "--quiet", "--data_path", job["table"], "--output_dir", folder, "--device", "cpu"]
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end of this process
        status = hyperparam_optimizer.main(flags)
        sys.stdout = sys.__stdout__
        if status:
            raise SystemExit(status)
        (results,) = Path(folder).glob("hyperparam_results_*.json")
        document = json.loads(results.read_text(encoding="utf-8"))
        sizes = {path.suffix: path.stat().st_size for path in Path(folder).iterdir()}
    timing = document["timing"]
    trained, n = ["train", "retrain"], document["total_configurations"] * int(document["args"]["repeats"])
    n *= document["args"]["cv_folds"] or 1
    stages = {"training": trained, "command": list(processor), "loading": ["load"], "verdict": ["select"]}
    stages |= {"reports": ["report"]}
    note = f"{n} trainings, journal {sizes['.jsonl'] / n / 1e3:.1f} KB a training, JSON {sizes['.json'] / 1e6:.1f} MB"
    return [
        {
            "series": name,
            "seconds": [sum(processor.get(stage, 0.0) for stage in parts)],
            "clock": sum(timing.get(stage, 0.0) for stage in parts),
            "note": note,
        }
        for name, parts in stages.items()
    ]


def run_training(job: dict[str, Any], runs: int) -> list[dict[str, Any]]:
    """Trains `runs` times and returns the seconds per epoch of each training."""
    import torch

    from layersearch.engines.dispatch import make_trainer, try_out
    from layersearch.engines.settings import SplitTable, TrainingSettings, nominal_seconds
    from layersearch.space.trials import Trial

    try_out("compiled")
    config = tuple(job["config"])
    order, n_train = torch.from_numpy(np.random.default_rng(1).permutation(ROWS)), int(TRAIN_SHARE * ROWS)
    values = torch.from_numpy(made_up_values(ROWS, job["columns"]) / 100)
    table = SplitTable(values, order[:n_train], order[n_train:])
    settings = TrainingSettings(
        latent_dim=LATENT, epochs=1, batch_size=job["batch"], initial_lr=0.001, eta_min=1e-6, weight_decay=1e-4,
        dropout=0.1, seed=42,
    )  # fmt: skip
    weights = count_parameters(job["columns"], LATENT, config)
    enough = max(1, round(ENOUGH / nominal_seconds("compiled", weights, n_train, settings)))
    epochs = 20 if job["threads"] else enough
    settings = replace(settings, epochs=epochs)
    train = make_trainer("compiled", {None: table}, settings)
    if job["threads"]:
        return compare_threads(train, [Trial(config, repeat) for repeat in range(16)], job["threads"], runs, epochs)
    clock, processor = [], []
    for repeat in range(runs):
        started, used = time.perf_counter(), time.thread_time()
        train(Trial(config, repeat))
        clock.append((time.perf_counter() - started) / epochs)
        processor.append((time.thread_time() - used) / epochs)
    note = f"{weights} parameters, {epochs} epochs"
    return [{"series": "training", "seconds": processor, "clock": statistics.median(clock), "note": note}]


def compare_threads(
    train: Callable[..., Any], trials: Sequence[Any], threads: int, runs: int, epochs: int
) -> list[dict[str, Any]]:
    """Times trainings, `threads` at a time, by the wall clock, alternating with one at a time and with a plain loop."""
    from layersearch.engines.workers import run_trials

    def search(at_a_time: int) -> float:
        started = time.perf_counter()
        for _ in run_trials(trials, train, at_a_time):
            pass
        return (time.perf_counter() - started) / len(trials) / epochs

    search(threads)
    times: dict[int, list[float]] = {1: [], threads: []}
    ratios, plain = [], []
    for _ in range(runs):
        pair = {at_a_time: search(at_a_time) for at_a_time in times}
        for at_a_time, seconds in pair.items():
            times[at_a_time].append(seconds)
        ratios.append(pair[1] / pair[threads])
        plain.append(spin(1, 2) / spin(threads, 2 // threads))
    note = f"{statistics.median(ratios):.2f} x one thread ({min(ratios):.2f} to {max(ratios):.2f}); a loop that needs "
    note += f"nothing but a processor {statistics.median(plain):.2f} x ({min(plain):.2f} to {max(plain):.2f})"
    note = note if threads > 1 else "one thread"
    mine = times[threads]
    return [{"series": "training", "seconds": mine, "clock": statistics.median(mine), "note": note}]


def spin(threads: int, turns: int) -> float:
    """Returns the seconds of `threads` threads with `turns` loops of about 0.5 s, without memory access or locks."""
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
    def turn(n: int) -> Any:
        x = np.uint64(1)
        for _ in range(n):
            x = x * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        return x

    turn(1)
    workers = [threading.Thread(target=lambda: [turn(400_000_000) for _ in range(turns)]) for _ in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - started


# All points


def measure(point: Point, runs: int, folder: Path) -> Iterator[Row]:
    """Writes the table that the point needs, if any, and measures the point in a separate process."""
    job = dict(point.job)
    if "rows" in job:
        table = folder / f"{job['rows']}.csv"
        if not table.exists():
            subprocess.run([sys.executable, __file__, "--table", str(job["rows"]), str(table)], check=True)
        job["table"] = str(table)
    found: dict[str, list[dict[str, Any]]] = {}
    memory = []
    for _ in range(point.processes):
        answer, peak = run_alone([sys.executable, __file__, "--job", json.dumps(job), "--runs", str(runs)])
        memory.append(peak)
        for part in json.loads(answer):
            found.setdefault(part["series"], []).append(part)
    for series, parts in found.items():
        seconds = [value for part in parts for value in part["seconds"]]
        yield Row(
            point.sweep,
            f"{series}, {point.series}" if point.series == "folds" else series,
            point.value,
            statistics.median(seconds),
            min(seconds),
            max(seconds),
            len(seconds),
            statistics.median(part["clock"] for part in parts),
            statistics.median(memory),
            point.expected,
            parts[0]["note"],
        )


def run_alone(command: Sequence[str]) -> tuple[str, float]:
    """Returns the output of a command and its peak resident memory in MB, measured by a small parent process."""
    code = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); print(done.stdout.decode())"
    )
    answer = subprocess.run([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True, check=True)
    memory, _, text = answer.stdout.partition("\n")
    return text, int(memory) / (1024 if sys.platform == "linux" else 1024**2)


def hardware() -> str:
    """Returns processor, cores and versions in one line."""
    import torch

    from layersearch.journal.identity import describe_environment

    machine = describe_environment(torch.device("cpu"), "compiled", available_cores())
    return (
        f"{machine['processor']}, {available_cores()} cores, {platform.system()}, Python {machine['python']}, "
        f"torch {machine['torch']}, numba {machine['numba']}"
    )


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of an earlier run; returns an empty list if there is no file."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        convert = list(get_type_hints(Row).values())
        lines = list(csv.reader(line for line in file if not line.startswith("#")))[1:]
        return [Row(*(make(cell) for make, cell in zip(convert, line, strict=True))) for line in lines]


def write_rows(path: Path, rows: Sequence[Row], machine: str) -> None:
    """Writes all rows, below a comment that names the machine."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(f"# {machine}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)


def show(row: Row) -> str:
    """Returns a line like `rows 2,000: training 0.52 s (0.50 to 0.56, n = 3), by the clock 0.28 s, 410 MB`."""
    times = f"{row.seconds:.4g} s ({row.low:.4g} to {row.high:.4g}, n = {row.n})"
    also = f"by the clock {row.clock_seconds:.4g} s, {row.peak_memory_mb:.0f} MB; {row.note}"
    return f"{row.sweep} {row.value:,}: {row.series} {times}, {also}"


def main() -> None:
    """Parses the arguments, runs all measurements, and prints and draws the results."""
    parser = argparse.ArgumentParser(description="How time and memory grow.")
    parser.add_argument("--only", help="sweeps, comma-separated (default: all of them)")
    parser.add_argument("--quick", action="store_true", help="small points only, a few minutes")
    parser.add_argument("--runs", type=int, default=5, help="timed trainings a point (default: 5)")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for growth.csv and growth.png")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--table", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.table:
        return write_table(int(arguments.table[0]), Path(arguments.table[1]))
    if arguments.job:
        job = json.loads(arguments.job)
        print(json.dumps(run_command(job) if "flags" in job else run_training(job, arguments.runs)))
        return None
    everything = sweeps(quick=arguments.quick)
    chosen = list(everything) if arguments.only is None else [name for name in arguments.only.split(",") if name]
    if unknown := set(chosen) - set(everything):
        parser.error(f"--only: no sweep {', '.join(sorted(unknown))}; there are {', '.join(everything)}")
    path, machine = arguments.output / "growth.csv", hardware()
    rows = [row for row in read_rows(path) if row.sweep not in chosen]
    print(machine)
    with tempfile.TemporaryDirectory() as folder:
        for sweep in chosen:
            for point in everything[sweep]:
                for row in measure(point, arguments.runs, Path(folder)):
                    print(show(row), flush=True)
                    rows.append(row)
            write_rows(path, sorted(rows, key=lambda row: list(everything).index(row.sweep)), machine)
    from growth_plot import plot_growth

    plot_growth(read_rows(path), arguments.output / "growth.png", machine=machine)
    return None


if __name__ == "__main__":
    main()
