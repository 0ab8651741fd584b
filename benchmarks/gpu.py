"""Times the default search on the stacked engine, the reference engine on the same device, and the compiled engine.

    python benchmarks/gpu.py [--data_path TABLE] [--device cuda] [--runs 3] [--repeats 5] [--epochs 20]

Search: widths 16, 32, 64, 128, at most 3 layers (34 configurations), 5 repeats, 20 epochs, batch size 32, latent size
3. The reference would take minutes for all 170 trainings, so a few of them, spread evenly over their sizes, are timed
and scaled up. Each run times all engines, so that ratios are valid even if the speed of the machine varies. The CPU
time of the process is printed beside the wall-clock time; on a shared CPU its ratio is the more reliable one. Capturing
the steps is part of the stacked engine's time. The engine is checked against the reference first.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402 - the project's modules lie one folder up
from engines import SETTINGS, load_table, spread  # noqa: E402

from layersearch.engines.dispatch import try_out  # noqa: E402
from layersearch.engines.settings import SplitTable, TrainingSettings  # noqa: E402
from layersearch.engines.stack.engine import check  # noqa: E402
from layersearch.engines.stack.plan import plan_stacks, room_for  # noqa: E402
from layersearch.engines.training import Training  # noqa: E402
from layersearch.engines.workers import available_cores  # noqa: E402
from layersearch.journal.identity import describe_environment  # noqa: E402
from layersearch.space.configurations import Space  # noqa: E402
from layersearch.space.trials import Trial, plan_trials  # noqa: E402
from layersearch.words import count  # noqa: E402

SPACE = Space([16, 32, 64, 128], 3)


class Times(NamedTuple):
    """Times in seconds."""

    wall: float
    processor: float


def timed(work: Callable[[], object], device: torch.device) -> Times:
    """Returns the times of one call, including the time until the device has finished its work."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Times(time.perf_counter() - wall, time.process_time() - processor)


def train(
    engine: str, trials: Sequence[Trial], table: SplitTable, settings: TrainingSettings, threads: int = 1
) -> None:
    """Trains all trials and discards the results."""
    for result in Training(settings, {None: table}, engine, threads).run(trials):
        assert not result.has_failed


def sample_of(trials: Sequence[Trial], n: int) -> list[Trial]:
    """Returns `n` of the trials, evenly spread over the list, which is sorted by cost."""
    return [trials[(2 * number + 1) * len(trials) // (2 * n)] for number in range(n)]


def on(table: SplitTable, device: torch.device) -> SplitTable:
    """Returns the table, moved to this device."""
    return SplitTable(table.values.to(device), table.train.to(device), table.test.to(device))


def report(name: str, times: Sequence[Times], scale: float = 1.0) -> None:
    """Prints the times of one engine, multiplied by `scale`."""
    wall, processor = ([scale * t for t in part] for part in zip(*times, strict=True))
    print(f"{name:<34} {spread(wall)}; processor {spread(processor)}")


def compare(table: SplitTable, device: torch.device, runs: int, repeats: int, epochs: int, n_sampled: int) -> None:
    """Times all engines and prints their times and ratios."""
    settings = replace(SETTINGS, epochs=epochs)
    trials = plan_trials(
        list(SPACE.configurations()), repeats, input_dim=table.input_dim, latent_dim=settings.latent_dim
    )
    room = room_for(
        SPACE.widths,
        SPACE.max_layers,
        n_trials=len(trials),
        n_scored=len(table.test),
        n_rows=len(table.train),
        input_dim=table.input_dim,
        latent_dim=settings.latent_dim,
        batch_size=settings.batch_size,
        device=device.type,
        memory=torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None,
    )
    sampled, cores = sample_of(trials, min(n_sampled, len(trials))), available_cores()
    n_stacks = len(plan_stacks(trials, room.members))
    each = count(settings.epochs, "epoch")
    print(f"{len(trials)} trainings of {each} in {n_stacks} stacks of {room.members}, {room.width} wide")
    try_out("compiled")
    here = on(table, device)
    work = {
        "stacked": partial(train, "stacked", trials, here, replace(settings, room=room)),
        "reference": partial(train, "reference", sampled, here, settings),
        "compiled": partial(train, "compiled", trials, table, settings, cores),
    }
    times: dict[str, list[Times]] = {name: [] for name in work}
    for _ in range(runs):
        for name, part in work.items():
            times[name].append(timed(part, device))
    scale = len(trials) / len(sampled)
    report(f"stacked on {device}", times["stacked"])
    report(f"reference on {device}, from {len(sampled)}", times["reference"], scale)
    report(f"compiled on the CPU, {cores} at a time", times["compiled"])
    for name, factor in (("reference", scale), ("compiled", 1.0)):
        pairs = list(zip(times[name], times["stacked"], strict=True))
        wall, processor = ([factor * one[part] / other[part] for one, other in pairs] for part in (0, 1))
        print(f"{name + ' / stacked':<34} {spread(wall, ' x', 1)}; processor {spread(processor, ' x', 1)}")


def main() -> None:
    """Parses the arguments, checks the stacked engine, and times all engines."""
    parser = argparse.ArgumentParser(description="The stacked engine beside the reference on the same device.")
    parser.add_argument("--data_path", type=Path, default=ROOT / "data" / "sample.csv", help="default: the sample")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each (default: 3)")
    parser.add_argument("--repeats", type=int, default=5, help="of each configuration (default: 5)")
    parser.add_argument("--epochs", type=int, default=20, help="of each training (default: 20)")
    parser.add_argument("--reference_trials", type=int, default=6, help="timed with the reference (default: 6)")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; give --device cpu")
    machine = describe_environment(device, "all", available_cores())
    gpu = f"{machine['device_name']}, " if machine["device_name"] else ""
    print(f"{gpu}{machine['processor']}, {available_cores()} cores, {platform.system()}, Python {machine['python']}, "
          f"torch {machine['torch']}, numba {machine['numba']}")  # fmt: skip
    found = check(device)
    bits = "the same in every place" if found.digest else "not the same in every place"
    print(f"check: losses differ from the reference's by {found.deviation:.1e}, relative; bits are {bits}")
    table, a = load_table(arguments.data_path), arguments
    compare(table, device, a.runs, a.repeats, a.epochs, a.reference_trials)


if __name__ == "__main__":
    main()
