"""Measures the time of the basic command outside its trainings, stage by stage, as a process with 1 repeat.

    python benchmarks/start_up.py [--data_path TABLE] [--runs 5] [--against CHECKOUT]

Prints when each console line appears, in seconds since the process started. With `--against`, runs of the program in
another folder alternate with runs of this one, so that the comparison is valid even if the speed of the machine varies.
"Last trial" is the last time that the journal was written before the verdict. A last run has an empty kernel cache, as
on a new machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--latent_dim=3", "--hidden_dims_search=16,32,64", "--max_layers=3", "--epochs=20", "--repeats=1"]
LINES = {  # in order of appearance: the name of each moment, and the start of the console line that marks it
    "first line": "Searching",
    "first progress line": "  ",
    "last training of the search": "  19 of 19",
    "verdict": "=====",
    "files written": "Performance plot",
}


def measure(program: Path, data_path: Path, **environment: str) -> dict[str, float]:
    """Returns the seconds until each moment of one run, and those of some stages."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, str(program / "hyperparam_optimizer.py"), *FLAGS]
        command += ["--data_path", str(data_path), "--output_dir", output]
        started, moments = time.time(), dict[str, float]()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | environment
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                now = time.time()
                for name, beginning in LINES.items():
                    if name not in moments and line.startswith(beginning):
                        moments[name] = now - started
                        if name == "verdict":
                            last_trial = (Path(output) / "journal_latent3.jsonl").stat().st_mtime
                            moments["last trial to verdict"] = now - last_trial
        if process.returncode:
            raise SystemExit(f"{program} ended with status {process.returncode}")
        moments["whole process"] = time.time() - started
        timing = json.loads((Path(output) / "hyperparam_results_latent3.json").read_text(encoding="utf-8"))["timing"]
    moments["verdict to files"] = moments["files written"] - moments["verdict"]
    trained = timing["train"] + timing["retrain"] + timing["probe"]
    return moments | {"outside training": moments["whole process"] - trained}


def imports(packages: str) -> float:
    """Returns the seconds that a process takes to import these packages."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {packages}"], check=True)
    return time.perf_counter() - started


def show(title: str, runs: list[dict[str, float]]) -> None:
    """Prints the median, minimum and maximum of each moment."""
    print(title)
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"  {name:<28} {statistics.median(values):6.2f} s ({min(values):.2f} to {max(values):.2f})")


def main() -> None:
    """Parses the arguments, runs all measurements and prints the results."""
    parser = argparse.ArgumentParser(description="The basic command outside its trainings.")
    parser.add_argument("--data_path", type=Path, default=ROOT / "data" / "sample.csv", help="default: the sample")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each (default: 5)")
    parser.add_argument("--against", type=Path, help="another checkout, to compare with")
    parser.add_argument("--no_first_run", action="store_true", help="leave out the run with an empty kernel cache")
    arguments = parser.parse_args()
    programs = [ROOT, *([arguments.against] if arguments.against else [])]
    runs: dict[Path, list[dict[str, float]]] = {program: [] for program in programs}
    bare: list[dict[str, float]] = []
    for number in range(arguments.runs + 1):
        for program in programs:
            done = measure(program, arguments.data_path)
            runs[program] += [done] if number else []  # the first run may have compiled the kernel
        bare.append({packages: imports(packages) for packages in ("torch", "torch, pandas, numba")})
    print(f"{arguments.runs} runs each: median (minimum to maximum)")
    show("imports alone", bare)
    for program, some in runs.items():
        show("this program" if program == ROOT else "the other", some)
    if len(programs) > 1:
        show("the other / this", [{k: b[k] / a[k] for k in a} for a, b in zip(*runs.values(), strict=True)])
    if not arguments.no_first_run:
        with tempfile.TemporaryDirectory() as cache:
            show("first run", [measure(ROOT, arguments.data_path, NUMBA_CACHE_DIR=cache)])


if __name__ == "__main__":
    main()
