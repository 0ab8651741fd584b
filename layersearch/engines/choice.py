"""Chooses the device, the engine and the number of trainings at a time.

device = choose_device("auto")
engine, arithmetic = choose_engine("auto", device, notices)
training = plan_training(settings, tables, engine, threads=0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from layersearch.engines.dispatch import try_out
from layersearch.engines.settings import SplitTable, TrainingSettings
from layersearch.engines.stack.engine import CHECK_TOLERANCE, check
from layersearch.engines.stack.plan import Room, room_for
from layersearch.engines.training import Training
from layersearch.engines.workers import available_cores
from layersearch.errors import UsageError
from layersearch.space.configurations import Space
from layersearch.words import count

if TYPE_CHECKING:
    from layersearch.engines.machines import Machines

WHY_STACKED = {
    "cuda": "as a GPU is fast on many models at once (never measured on one; checked against the reference just now)",
    "cpu": "where it is for testing",
}


def choose_device(name: str) -> torch.device:
    """Returns the torch device for a value of `--device`; "auto" is CUDA if available, else the CPU.

    Raises:
        UsageError: the device does not exist.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = count(torch.cuda.device_count(), "CUDA device")
        raise UsageError(f"--device {name}: this machine has {found} that torch can use; give --device cpu")
    return device


def choose_engine(name: str, device: torch.device, notices: list[str]) -> tuple[str, str]:
    """Returns the engine for a value of `--engine`, ready to train, and the digest of its arithmetic on this machine.

    The first run on a machine compiles the kernel, which takes some seconds. If "auto" has to choose a slower engine, a
    line is added to `notices`.

    Raises:
        UsageError: the requested engine cannot run on this machine.
    """
    if device.type != "cpu":
        if name == "compiled":
            raise UsageError(f"--engine compiled runs on the CPU, not on {device}; give --device cpu")
        return ("reference", "not compared") if name == "reference" else choose_on_gpu(name, device, notices)
    if name in ("reference", "stacked"):
        return name, try_out(name)
    try:
        return "compiled", try_out("compiled")
    except ImportError as error:
        if name == "compiled":
            raise UsageError(f"--engine compiled needs Numba ({error}); give --engine reference") from None
        notices.append("Numba is not installed; training with the reference engine, which is many times slower")
        return "reference", try_out("reference")


def choose_on_gpu(name: str, device: torch.device, notices: list[str]) -> tuple[str, str]:
    """Chooses the stacked engine if a small training on this device is correct, otherwise the reference engine.

    Returns the engine and the digest of its arithmetic. For the reference engine a line is added to `notices`.

    Raises:
        UsageError: the stacked engine was requested, and its training is not correct.
    """
    try:
        found = check(device)
    except Exception as error:  # drivers and libraries may raise any type
        reason = f"it fails on {device} ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    else:
        if found.is_right:
            return "stacked", found.digest or "not compared"
        reason = f"on {device} its losses differ from the reference's by {found.deviation:.1e}, not {CHECK_TOLERANCE:g}"
    if name == "stacked":
        raise UsageError(f"--engine stacked: {reason}; give --engine reference")
    notices.append(f"the stacked engine is not used: {reason}; training with the reference engine, which is far slower")
    return "reference", "not compared"


def plan_training(
    settings: TrainingSettings,
    tables: Mapping[int | None, SplitTable],
    engine: str,
    threads: int,
    room: Room | None = None,
    machines: Machines | None = None,
) -> Training:
    """Returns the `Training` that runs all trials of a search.

    Args:
        settings: settings common to all trainings.
        tables: the split table of each fold.
        engine: name of the engine.
        threads: number of trainings at a time on the compiled engine, 0 for one on each core; others train one.
        room: size of all stacks of the stacked engine.
        machines: a cluster to train on; it determines the number of trainings at a time.
    """
    if machines:
        return Training(settings, tables, engine, machines.at_a_time, machines=machines)
    return Training(replace(settings, room=room), tables, engine, threads_of(engine, threads))


def threads_of(engine: str, threads: int) -> int:
    """Returns the number of threads that an engine uses for a value of `--threads`."""
    return threads or available_cores() if engine == "compiled" else 1


def engine_in_words(training: Training, device: torch.device) -> str:
    """Returns a line such as `Engine: compiled, 2 trainings at a time`."""
    if training.machines:
        return f"Engine: {training.engine}, on {training.machines}"
    is_stacked = training.engine == "stacked"
    at_a_time = training.members if is_stacked else training.threads
    why = f" on {device}, {WHY_STACKED[device.type]}" if is_stacked else ""
    return f"Engine: {training.engine}, {count(at_a_time, 'training')} at a time{why}"


def choose_room(
    space: Space,
    tables: Mapping[int | None, SplitTable],
    settings: TrainingSettings,
    device: torch.device,
    *,
    n_trials: int,
) -> Room:
    """Returns the size of all stacks of a search, which depends only on the search and the device.

    Args:
        space: the configurations of the search.
        tables: the split table of each fold.
        settings: settings common to all trainings.
        device: the device that trains the stacks.
        n_trials: the largest number of trainings at the same time.
    """
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    encoder = space.encoder or ()
    return room_for(
        [*space.widths, *encoder],
        max(space.max_layers, len(encoder)),
        n_trials=n_trials,
        n_rows=max(len(table.train) for table in tables.values()),
        n_scored=max(len(table.test) for table in tables.values()),
        input_dim=tables[None].input_dim,
        latent_dim=settings.latent_dim,
        batch_size=settings.batch_size,
        device=device.type,
        memory=memory,
    )
