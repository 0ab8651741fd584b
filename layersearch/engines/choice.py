"""What trainings run on: the device, the engine, and how many at a time, here or on other machines.

device = choose_device("auto")
engine, arithmetic = choose_engine("auto", device, notices, console)
training = plan_training(arguments, space, loaded, engine, device, console)
"""

from __future__ import annotations

import argparse
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from layersearch.console import Console
from layersearch.engines.dispatch import try_out
from layersearch.engines.settings import TrainingSettings
from layersearch.engines.stack.engine import CHECK_TOLERANCE, check
from layersearch.engines.stack.plan import Room, room_for
from layersearch.engines.training import Training
from layersearch.engines.workers import available_cores
from layersearch.errors import UsageError
from layersearch.loading.loaded import Loaded
from layersearch.search.running import largest_batch
from layersearch.space.configurations import Space
from layersearch.words import count

if TYPE_CHECKING:
    from layersearch.engines.machines import Machines

KERNEL_NOTE = "Preparing the training kernel; the first run on a machine compiles it, a matter of seconds ..."

WHY_STACKED = {
    "cuda": "as a GPU is fast on many models at once (never measured on one; checked against the reference just now)",
    "cpu": "where it is for testing",
}


def choose_device(name: str) -> torch.device:
    """The torch device that `--device` names; "auto" is CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = count(torch.cuda.device_count(), "CUDA device")
        raise UsageError(f"--device {name}: this machine has {found} that torch can use; give --device cpu")
    return device


def choose_engine(name: str, device: torch.device, notices: list[str], console: Console) -> tuple[str, str]:
    """The engine that `--engine` names, ready to train, and the digest of its arithmetic here.

    `notices` gets a line where it is not the usual one.
    """
    if device.type != "cpu":
        if name == "compiled":
            raise UsageError(f"--engine compiled runs on the CPU, not on {device}; give --device cpu")
        return ("reference", "not compared") if name == "reference" else choose_on_gpu(name, device, notices)
    if name in ("reference", "stacked"):
        return name, try_out(name)
    patience = threading.Timer(2.5, console.say, [KERNEL_NOTE])
    patience.daemon = True
    patience.start()
    try:
        return "compiled", try_out("compiled")
    except ImportError as error:
        if name == "compiled":
            raise UsageError(f"--engine compiled needs Numba ({error}); give --engine reference") from None
        notices.append("Numba is not installed; training with the reference engine, which is many times slower")
        return "reference", try_out("reference")
    finally:
        patience.cancel()


def choose_on_gpu(name: str, device: torch.device, notices: list[str]) -> tuple[str, str]:
    """The stacked engine, if a small training on this device comes out right; else the reference, unless asked for it.

    Both with the digest of its arithmetic.
    """

    try:
        found = check(device)
    except Exception as error:  # whatever drivers and libraries can raise
        reason = f"it fails on {device} ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    else:
        if found.is_right:
            return "stacked", found.digest or "not compared"
        reason = f"on {device} its losses differ from the reference's by {found.deviation:.1e}, not {CHECK_TOLERANCE:g}"
    if name == "stacked":
        raise UsageError(f"--engine stacked: {reason}; give --engine reference")
    notices.append(f"the stacked engine is not used: {reason}; training with the reference engine, which is far slower")
    return "reference", "not compared"


def choose_room(arguments: argparse.Namespace, space: Space, loaded: Loaded, device: torch.device) -> Room:
    """What the stacks of this search have room for: a function of the search and the device alone."""

    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    encoder = space.encoder or ()
    return room_for(
        [*space.widths, *encoder],
        max(space.max_layers, len(encoder)),
        n_trials=largest_batch(arguments, space) * arguments.repeats,
        n_rows=max(len(table.train) for table in loaded.tables.values()),
        n_scored=max(len(table.test) for table in loaded.tables.values()),
        input_dim=loaded.table.input_dim,
        latent_dim=arguments.latent_dim,
        batch_size=arguments.batch_size,
        device=device.type,
        memory=memory,
    )


def training_settings(arguments: argparse.Namespace) -> TrainingSettings:
    """The arguments that shape a training."""

    return TrainingSettings(
        latent_dim=arguments.latent_dim,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        initial_lr=arguments.initial_lr,
        eta_min=arguments.eta_min,
        weight_decay=arguments.weight_decay,
        dropout=arguments.dropout,
        seed=arguments.seed,
        patience=arguments.patience,
        min_delta=arguments.min_delta,
        normalization=arguments.normalization,
        input_normalization=arguments.input_normalization,
    )


def threads_of(arguments: argparse.Namespace, engine: str) -> int:
    """How many threads train; the engines of torch have one."""
    return int(arguments.threads) or available_cores() if engine == "compiled" else 1


def plan_training(
    arguments: argparse.Namespace,
    space: Space,
    loaded: Loaded,
    engine: str,
    device: torch.device,
    console: Console,
    machines: Machines | None = None,
) -> Training:
    """Settings, tables, engine and threads, or machines, together."""

    settings = replace(training_settings(arguments), start=loaded.source.start if loaded.source else None)
    if machines:
        console.say(f"Engine: {engine}, on {machines}")
        return Training(settings, loaded.tables, engine, machines.at_a_time, machines=machines)
    threads = threads_of(arguments, engine)
    if arguments.threads > threads:
        how = "one at a time" if engine == "reference" else "one stack at a time"
        console.notice(f"--threads {arguments.threads}: the {engine} engine trains {how}")
    at_a_time, why = threads, ""
    if engine == "stacked":
        settings = replace(settings, room=choose_room(arguments, space, loaded, device))
        at_a_time, why = settings.room.members if settings.room else 1, f" on {device}, {WHY_STACKED[device.type]}"
    console.say(f"Engine: {engine}, {count(at_a_time, 'training')} at a time{why}")
    return Training(settings, loaded.tables, engine, threads)
