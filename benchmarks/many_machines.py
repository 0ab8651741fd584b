"""Measures the cost of Ray, the limit set by the driver, and how large batches must be for many cores.

    python benchmarks/many_machines.py [--data_path TABLE] [--runs 3] [--only overhead|driver|simulation]

Overhead: times whole commands, alternately on the threads of this machine and on a local Ray cluster of one node with
the same number of cores. Driver: measures the CPU time that this process, with all its threads, spends on each task and
each result, journal included, if the trainings themselves take no time. Simulation: computes how long many cores take
for 10^6 trainings at these costs, by the rule for batch sizes. `many_machines.md` has the results and conclusions.
"""

from __future__ import annotations

import argparse
import heapq
import json
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import ray  # noqa: E402
import torch  # noqa: E402
from engines import SETTINGS, load_table, spread  # noqa: E402

from layersearch.engines import machines  # noqa: E402
from layersearch.engines.dispatch import make_trainer, try_out  # noqa: E402
from layersearch.engines.machines import batch_seconds  # noqa: E402
from layersearch.engines.settings import nominal_seconds  # noqa: E402
from layersearch.engines.training import Training  # noqa: E402
from layersearch.engines.workers import available_cores  # noqa: E402
from layersearch.journal.identity import describe_environment, machine_identity  # noqa: E402
from layersearch.journal.journal import open_journal  # noqa: E402
from layersearch.journal.records import Key  # noqa: E402
from layersearch.space.trials import Trial  # noqa: E402

FLAGS = ("--latent_dim", "3", "--hidden_dims_search", "16,32,64", "--max_layers", "3", "--no_probe", "--quiet")
LENGTHS = (20, 100)  # epochs
BATCHES = (1, 30)  # numbers of results in a task
N_TASKS = 300
N_TRAININGS = 1_000_000
MEASURED = (0.0014, 0.000215)  # seconds per task and per result, used if only the simulation runs


@contextmanager
def cluster(cores: int) -> Iterator[str]:
    """Starts a cluster of one node and yields its address."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": cores, "include_dashboard": False})
    try:
        yield started.address
    finally:
        started.shutdown()  # type: ignore[no-untyped-call]


# Overhead


def compare(data_path: Path, runs: int) -> None:
    """Prints the seconds of the training stage and of the whole command, with and without Ray."""
    with cluster(available_cores()) as address:
        for epochs in LENGTHS:
            seconds: dict[str, list[tuple[float, float]]] = {"threads": [], "Ray": []}
            for _ in range(runs):
                seconds["threads"].append(command(data_path, epochs))
                seconds["Ray"].append(command(data_path, epochs, "--distributed", "ray", "--ray_address", address))
            print(f"19 configurations x 5 repeats x {epochs} epochs")
            for stage, part in (("trainings", 0), ("whole command", 1)):
                ours, rays = ([pair[part] for pair in seconds[way]] for way in ("threads", "Ray"))
                print(f"  {stage:<14} threads {spread(ours)}; Ray {spread(rays)}; ratio "
                      f"{spread([r / o for r, o in zip(rays, ours, strict=True)], ' x')}")  # fmt: skip


def command(data_path: Path, epochs: int, *flags: str) -> tuple[float, float]:
    """Runs the command and returns the seconds of the trainings and of the whole process."""
    with tempfile.TemporaryDirectory() as output:
        words = [sys.executable, str(ROOT / "hyperparam_optimizer.py"), *FLAGS, *flags, "--epochs", str(epochs)]
        words += ["--data_path", str(data_path), "--output_dir", output]
        started = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        whole = time.perf_counter() - started
        timing = json.loads((Path(output) / "hyperparam_results_latent3.json").read_text(encoding="utf-8"))["timing"]
    return timing["train"], whole


# Driver


def driver_costs(data_path: Path, runs: int) -> tuple[float, float]:
    """Prints and returns the driver's median CPU seconds per task and per result."""
    table = load_table(data_path)
    result = make_trainer("compiled", {None: table}, SETTINGS)(Trial((64, 64), 0))
    light = pickle.dumps(replace(result, parameters=result.parameters[:0].copy()))

    def pretend(expected: object, shared: object, work: bytes) -> bytes:
        trials = [trial for trial, _ in pickle.loads(work)[2]]
        one = pickle.loads(light)
        return pickle.dumps([(replace(one, trial=trial), None) for trial in trials])

    per_task: dict[int, list[float]] = {n: [] for n in BATCHES}
    with cluster(available_cores()) as address:
        identity = machine_identity(try_out("compiled"), torch.device("cpu"), "compiled")
        with machines.connected(address, 0, identity, lambda: False) as connected:
            assert connected
            connected._run_batch = ray.remote(num_cpus=1)(pretend)
            for n in (BATCHES[0], *BATCHES * runs):
                per_task[n].append(cost_of_a_task(connected, {None: table}, n))
    few, many = BATCHES
    costs = {n: per_task[n][-runs:] for n in BATCHES}
    per_result = [(m - f) / (many - few) for f, m in zip(costs[few], costs[many], strict=True)]
    fixed = [f - r for f, r in zip(costs[few], per_result, strict=True)]
    print(f"driver, processor time  {spread([1e3 * f for f in fixed], ' ms')} a task and "
          f"{spread([1e3 * r for r in per_result], ' ms', 3)} a result, journal included")  # fmt: skip
    appends = [cost_of_an_append(result) for _ in range(runs)]
    print(f"of that the journal     {spread([1e3 * a for a in appends], ' ms', 3)} a result")
    return statistics.median(fixed), statistics.median(per_result)


def cost_of_a_task(connected: machines.Machines, tables: machines.Tables, n: int) -> float:
    """Returns this process's CPU seconds for a task of `n` results, from the plan to the journal."""
    trials = [Trial((64, 64), repeat) for repeat in range(N_TASKS * n)]
    cost = nominal_seconds("compiled", 12491, len(tables[None].train), SETTINGS)
    with (
        mock.patch.object(machines, "batch_seconds", return_value=(n + 0.5) * cost),
        tempfile.TemporaryDirectory() as folder,
        open_journal(Path(folder), 3, {}, fresh=True, notices=[]) as journal,
    ):
        training = Training(SETTINGS, tables, "compiled", 1, journal=journal, machines=connected)
        started = time.process_time()
        assert sum(1 for _ in training.run(trials)) == len(trials)
        return (time.process_time() - started) / N_TASKS


def cost_of_an_append(result: Any) -> float:
    """Returns the CPU seconds for writing a result to the journal."""
    with tempfile.TemporaryDirectory() as folder, open_journal(Path(folder), 3, {}, fresh=True, notices=[]) as journal:
        started = time.process_time()
        for repeat in range(N_TASKS * 10):
            journal.append(Key(Trial((64, 64), repeat), 20), result, with_weights=False)
            journal.sync()
        return (time.process_time() - started) / (N_TASKS * 10)


# Simulation


Rule = Callable[[float, int], float]  # seconds of work in the next batch, from the remaining seconds and the cores


def makespan(n_cores: int, seconds: float, rule: Rule, per_task: float, per_result: float) -> float:
    """Returns the seconds that 10^6 trainings of `seconds` take on `n_cores`, if the driver serves one batch at a time.

    A core gets its next batch once the driver has received one of its earlier ones.
    """
    left, driver = N_TRAININGS, 0.0
    free = [0.0] * n_cores  # time at which each core finishes its batches
    answers: list[tuple[float, int, int]] = []  # of each batch: time of its end, core, number of trainings
    given = [core for _ in range(machines.QUEUED) for core in range(n_cores)]
    while given or answers:
        if not given:
            done, core, n = heapq.heappop(answers)
            driver = max(driver, done) + n * per_result
            given = [core]
        for core in given if left else ():
            if not left:
                break
            n = max(1, min(int(rule(left * seconds, n_cores) / seconds), left))
            left -= n
            driver += per_task
            free[core] = max(free[core], driver) + n * seconds
            heapq.heappush(answers, (free[core], core, n))
        given = []
    return driver


def simulate(per_task: float, per_result: float) -> None:
    """Prints how long 10^6 trainings take, and the ratio to the least possible time (work / cores)."""
    print(f"10^6 trainings; driver: {1e3 * per_task:.2f} ms a task, {1e3 * per_result:.3f} ms a result")
    rules: dict[str, Rule] = {
        "always 1 s": lambda left, n_cores: 1.0,
        "1 s, shrinking": lambda left, n_cores: min(1.0, left / (machines.SHARES * n_cores)),
        "as shipped": batch_seconds,
    }
    for n_cores, seconds in product((100, 1000, 16_000), (0.1, 3.0, 60.0)):
        least = N_TRAININGS * seconds / n_cores
        took = {name: makespan(n_cores, seconds, rule, per_task, per_result) for name, rule in rules.items()}
        shown = "; ".join(f"{name} {time:,.0f} s ({time / least:.2f} x)" for name, time in took.items())
        print(f"  {n_cores:>6} cores, {seconds:>4} s each: {shown}")


def main() -> None:
    """Parses the arguments, runs the chosen parts and prints the results."""
    parser = argparse.ArgumentParser(description="What Ray costs, and how far the driver's pace reaches.")
    parser.add_argument("--data_path", type=Path, default=ROOT / "data" / "sample.csv", help="default: the sample")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--only", choices=("overhead", "driver", "simulation"), help="default: all")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    machine = describe_environment(torch.device("cpu"), "both", available_cores())
    print(f"{machine['processor']}, {available_cores()} cores, {platform.system()}, Python {machine['python']}, "
          f"Ray {machine['ray']}, torch {machine['torch']}")  # fmt: skip
    if arguments.only in (None, "overhead"):
        compare(arguments.data_path, arguments.runs)
    costs = MEASURED
    if arguments.only in (None, "driver"):
        costs = driver_costs(arguments.data_path, arguments.runs)
    if arguments.only in (None, "simulation"):
        simulate(*costs)


if __name__ == "__main__":
    main()
