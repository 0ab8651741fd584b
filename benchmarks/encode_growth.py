"""Measures the speed and memory of `--encode` on simulated tables of increasing length, by file format.

    python benchmarks/encode_growth.py [--rows 10000,100000,1000000] [--formats csv,parquet] [--runs 3]

A small search on the bundled sample trains the model once. Each measurement runs in its own process. The benchmark
prints rows per second of processor time, after subtracting the time for a table of one row, and the peak memory, each
as median (minimum to maximum) over the runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from growth import ROOT, hardware

from dataset import COPUS_CODES

FLAGS = ["--hidden_dims_search=64", "--max_layers=2", "--epochs=5", "--repeats=1", "--no_probe", "--save_models"]
PROGRAM = str(ROOT / "hyperparam_optimizer.py")
MEASURE = """
import subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
import resource
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / (1 if sys.platform == "darwin" else 1024))
"""


class Cost(NamedTuple):
    """The resources that one process used."""

    seconds: float  # processor time
    megabytes: float  # peak memory


def write_table(n_rows: int, path: Path) -> None:
    """Writes a table like those of COPUS: 24 columns of percentages, more than half of them 0, an ID and a label."""
    rng = np.random.default_rng(1)
    values = np.round(rng.uniform(0, 100, (n_rows, 24)) * (rng.random((n_rows, 24)) < 0.45), 2)
    frame = pd.DataFrame(values, columns=list(COPUS_CODES))
    frame.insert(0, "Instructor ID", np.arange(n_rows) // 4)
    frame["Cluster"] = rng.choice(["Mostly lecture", "Transitioning", "High engagement"], n_rows)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_excel(path, index=False)


def measure(path: Path, model: Path, folder: Path) -> Cost:
    """Encodes the table in a separate process and returns the resources that it used."""
    command = [sys.executable, PROGRAM, "--encode", str(path), "--model", str(model), "--output_dir", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], check=True, capture_output=True, text=True, env=environment
    )
    return Cost(*map(float, done.stdout.split()))


def spread(values: list[float], digits: int) -> str:
    """Returns median and range as text."""
    median, low, high = (f"{x:,.{digits}f}" for x in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low} to {high})"


def main() -> None:
    """Parses the arguments, runs all measurements and prints the results."""
    parser = argparse.ArgumentParser(description="Speed and memory of --encode.")
    parser.add_argument("--rows", default="10000,100000,1000000", help="default: %(default)s")
    parser.add_argument("--formats", default="csv,parquet", help="of csv, parquet, xlsx (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="default: %(default)s")
    arguments = parser.parse_args()
    print(hardware())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, PROGRAM, *FLAGS, "--output_dir", str(folder)], check=True, capture_output=True)
        model = folder / "best_model_latent3.pth"
        for kind in arguments.formats.split(","):
            path = folder / f"table.{kind}"
            write_table(1, path)
            start = statistics.median(measure(path, model, folder).seconds for _ in range(arguments.runs))
            print(f".{kind}: {start:.1f} s of processor time for one row")
            for n_rows in map(int, arguments.rows.split(",")):
                write_table(n_rows, path)
                costs = [measure(path, model, folder) for _ in range(arguments.runs)]
                rates = [n_rows / max(cost.seconds - start, 1e-3) for cost in costs]
                print(
                    f"  {n_rows:>9,} rows, {path.stat().st_size / 1e6:,.0f} MB: {spread(rates, 0)} rows a second,"
                    f" {spread([cost.megabytes for cost in costs], 0)} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
