#!/usr/bin/env python
"""Finds the hidden layers of an autoencoder with a fixed latent size that reconstruct a table best.

    python hyperparam_optimizer.py --latent_dim 3 --hidden_dims_search "16,32,64" --max_layers 3 --epochs 20

Reads the table, trains every non-increasing arrangement of the given widths several times, ranks them by
their loss on held-out rows, and writes pictures, JSON, CSV and the best model into `--output_dir`. This
file holds the command itself: the order of the stages, and the console. `README.md` says how to read
what it writes.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from arguments import (
    PROG,
    duplicate_widths,
    parse_arguments,
    read_widths,
)
from console import Console, Stopwatch, UsageError, count
from search import Configuration, count_parameters, enumerate_configurations, plan_trials

if TYPE_CHECKING:
    import torch

    from loading import Loaded
    from models import DynamicAutoencoder
    from probe import Probe
    from report import Findings
    from selection import ConfigurationResult, ResultCollector
    from training import Training, TrainingSettings
    from verdict import Verdict

INTERRUPTED = 130  # the exit status that shells give for Ctrl-C
KERNEL_NOTE = "Preparing the training kernel; the first run on a machine compiles it, a matter of seconds ..."
SELECTED = {"best": "best", "simplest": "simplest tied"}
SAMPLE_NOTE = "Synthetic sample data (data/sample.csv), not real classes"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status.

    0 · 1 if every configuration failed or results could not be written · 2 for a fault of the user's (faulty
    arguments raise SystemExit(2)) · 130 after Ctrl-C · 141 when whoever read the output is gone.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console without ± is no reason to fail
    try:
        try:
            return search(argv)
        finally:
            sys.stdout.flush()
    except UsageError as error:
        print(f"{PROG}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it exits
        return 141
    except OSError as error:
        print(f"{PROG}: error: {error}", file=sys.stderr)
        return 1
    except MemoryError:
        print(f"{PROG}: error: out of memory; narrow the search, or give fewer --threads", file=sys.stderr)
        return 1


def search(argv: Sequence[str] | None) -> int:
    """Parses, checks and runs; returns the exit status."""
    stopwatch = Stopwatch()
    arguments = parse_arguments(argv)
    widths = read_widths(arguments.hidden_dims_search)
    configurations = enumerate_configurations(widths, arguments.max_layers)
    console = Console(arguments.quiet)
    times = [count(len(configurations), "configuration"), count(arguments.repeats, "repeat")]
    times += [count(arguments.cv_folds, "fold")] if arguments.cv_folds else []
    epochs = count(arguments.epochs, "epoch")
    console.say(f"Searching {' x '.join(times)} of {epochs}, latent dimension {arguments.latent_dim}")
    if duplicates := duplicate_widths(arguments.hidden_dims_search):
        console.notice(f"--hidden_dims_search names {', '.join(map(str, duplicates))} more than once; used once")
    return run(arguments, configurations, console, stopwatch)


def run(
    arguments: argparse.Namespace, configurations: list[Configuration], console: Console, stopwatch: Stopwatch
) -> int:
    """From checked arguments to results on disk; returns the exit status."""
    from conclusion import conclude
    from environment import describe_environment
    from loading import load
    from selection import ResultCollector

    files = output_files(arguments)
    device = choose_device(arguments.device)
    stopwatch.lap("start_up")
    loaded = load(arguments, device, console)  # before the kernel: a fault in the table need not wait for a compiler
    stopwatch.lap("load")
    engine = choose_engine(arguments.engine, device, console)
    stopwatch.lap("start_up")

    training = plan_training(arguments, loaded, engine, console)
    input_dim = loaded.table.input_dim
    model_params = {c: count_parameters(input_dim, arguments.latent_dim, c) for c in configurations}
    collector = ResultCollector(arguments.repeats * len(loaded.folds), model_params)
    train_all(arguments, configurations, loaded, training, collector, console)
    stopwatch.lap("train")
    ranking = collector.ranking()
    findings = conclude(arguments, loaded, training, ranking, stopwatch, console)
    environment = describe_environment(device, engine, training.threads)
    write_report(arguments, files, loaded, training, findings, environment, stopwatch, console)
    if findings.chosen is None:
        print(f"{PROG}: error: every configuration failed; {_first_failure(ranking)}", file=sys.stderr)
        return 1
    return 0


def choose_device(name: str) -> torch.device:
    """The torch device that `--device` names; "auto" is CUDA where there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = count(torch.cuda.device_count(), "CUDA device")
        raise UsageError(f"--device {name}: this machine has {found} that torch can use; give --device cpu")
    return device


def choose_engine(name: str, device: torch.device, console: Console) -> str:
    """The engine that `--engine` names, compiled if need be."""
    from training import compile_kernel

    if name == "reference" or (name == "auto" and device.type != "cpu"):
        return "reference"
    if device.type != "cpu":
        raise UsageError(f"--engine compiled runs on the CPU, not on {device}; give --device cpu")
    patience = threading.Timer(2.5, console.say, [KERNEL_NOTE])
    patience.daemon = True
    patience.start()
    try:
        compile_kernel()
    except ImportError as error:
        if name == "compiled":
            raise UsageError(f"--engine compiled needs Numba ({error}); give --engine reference") from None
        console.notice("Numba is not installed; training with the reference engine, which is many times slower")
        return "reference"
    finally:
        patience.cancel()
    return "compiled"


def training_settings(arguments: argparse.Namespace) -> TrainingSettings:
    """The arguments that shape a training."""
    from training import TrainingSettings

    return TrainingSettings(
        latent_dim=arguments.latent_dim,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        initial_lr=arguments.initial_lr,
        eta_min=arguments.eta_min,
        weight_decay=arguments.weight_decay,
        dropout=arguments.dropout,
        seed=arguments.seed,
    )


def plan_training(arguments: argparse.Namespace, loaded: Loaded, engine: str, console: Console) -> Training:
    """Settings, tables, engine and threads together."""
    from training import Training, available_cores

    threads = 1 if engine == "reference" else arguments.threads or available_cores()
    if arguments.threads > threads:
        console.notice(f"--threads {arguments.threads}: the reference engine trains one at a time")
    console.say(f"Engine: {engine}, {count(threads, 'training')} at a time")
    return Training(training_settings(arguments), loaded.tables, engine, threads)


def train_all(
    arguments: argparse.Namespace,
    configurations: Sequence[Configuration],
    loaded: Loaded,
    training: Training,
    collector: ResultCollector,
    console: Console,
) -> None:
    """Trains every configuration `--repeats` times, in each fold if there are any, into `collector`."""
    from progress import Progress
    from report import config_text, loss_text

    input_dim, latent_dim = loaded.table.input_dim, arguments.latent_dim
    trials = plan_trials(
        configurations, arguments.repeats, input_dim=input_dim, latent_dim=latent_dim, folds=arguments.cv_folds
    )
    with Progress(len(trials), quiet=arguments.quiet) as progress:
        for result in training.run(trials):
            collector.add(result)
            best = collector.best
            progress.update(f"{config_text(best.config)} {loss_text(best.final_test_loss)}" if best else "")


def write_report(
    arguments: argparse.Namespace,
    files: OutputFiles,
    loaded: Loaded,
    training: Training,
    findings: Findings,
    environment: dict[str, Any],
    stopwatch: Stopwatch,
    console: Console,
) -> None:
    """Writes all files and prints the closing summary; of a search that failed entirely, only JSON and CSV."""
    from conclusion import state_findings
    from loading import describe_data
    from report import closing_files, closing_summary, results_document, save_state_dict, write_csv, write_json
    from training import trained_model

    chosen, verdict = findings.chosen, findings.verdict
    model = trained_model(findings.trained, loaded.table, training.settings) if findings.trained else None
    if chosen and verdict:
        saved = files.model if arguments.save_models and model else None
        if saved and model:
            save_state_dict(saved, model.state_dict())
            findings = replace(findings, saved_model_file=saved.name)
        time = _time_text(findings.probe, training.settings.epochs, stopwatch.seconds["train"])
        statement = state_findings(findings, loaded, arguments.latent_dim, time)
        console.summarize(closing_summary(chosen, saved, statement))
        write_pictures(arguments, loaded, findings.ranking, verdict, files)
        if model:
            write_latent_space(arguments, loaded, chosen, model, files)
    write_csv(files.csv, findings)
    stopwatch.lap("report")
    timing = stopwatch.timing()
    data = describe_data(loaded)
    write_json(
        files.results,
        results_document(findings, args=vars(arguments), environment=environment, data=data, timing=timing),
    )
    if chosen:
        latent_plot = files.latent_plot if model and arguments.latent_dim == 2 else None
        pictures = (files.search_plot, files.configurations_plot, files.verdict_plot)
        console.summarize(closing_files(*pictures, files.results, latent_plot))


class OutputFiles(NamedTuple):
    """Where everything goes."""

    results: Path
    csv: Path
    model: Path
    codes: Path
    search_plot: Path
    configurations_plot: Path
    verdict_plot: Path
    latent_plot: Path


def output_files(arguments: argparse.Namespace) -> OutputFiles:
    """The files in `--output_dir`, which is made if need be."""
    folder, latent = Path(arguments.output_dir), f"latent{arguments.latent_dim}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"--output_dir {arguments.output_dir!r} cannot be made: {error}") from None
    return OutputFiles(
        results=folder / f"hyperparam_results_{latent}.json",
        csv=folder / f"hyperparam_results_{latent}.csv",
        model=folder / f"best_model_{latent}.pth",
        codes=folder / f"latent_codes_{latent}.csv",
        search_plot=folder / f"hyperparam_search_{latent}.png",
        configurations_plot=folder / f"config_performance_{latent}.png",
        verdict_plot=folder / f"verdict_{latent}.png",
        latent_plot=folder / "latent_space_2d_best_config.png",
    )


def write_pictures(
    arguments: argparse.Namespace,
    loaded: Loaded,
    ranking: Sequence[ConfigurationResult],
    verdict: Verdict,
    files: OutputFiles,
) -> None:
    """Draws the pictures of the search."""
    import plots
    import verdict_plot

    latent_dim, note = arguments.latent_dim, SAMPLE_NOTE if loaded.is_sample else None
    plots.plot_search(ranking, files.search_plot, latent_dim=latent_dim, verdict=verdict, note=note)
    plots.plot_configurations(ranking, files.configurations_plot, latent_dim=latent_dim, verdict=verdict, note=note)
    verdict_plot.plot_verdict(verdict, ranking, files.verdict_plot, latent_dim=latent_dim, note=note)


def write_latent_space(
    arguments: argparse.Namespace,
    loaded: Loaded,
    chosen: ConfigurationResult,
    model: DynamicAutoencoder,
    files: OutputFiles,
) -> None:
    """Writes the latent codes of the chosen configuration's model, and draws them where they are two."""
    import latent_plots
    from report import config_text, write_latent_codes
    from training import encode_table

    dataset = loaded.dataset
    codes, errors = encode_table(model, loaded.table)
    is_test = loaded.table.is_test
    write_latent_codes(files.codes, codes, errors, is_test, dataset.row_numbers, dataset.others)
    if arguments.latent_dim == 2:
        labels = dataset.others[dataset.label_column] if dataset.label_column else None
        title = f"Latent space of the {SELECTED[arguments.select]} configuration, {config_text(chosen.config)}"
        note = SAMPLE_NOTE if loaded.is_sample else None
        latent_plots.plot_latent_space(codes, is_test, labels, files.latent_plot, title=title, note=note)


def _time_text(probe: Probe | None, epochs: int, search_seconds: float) -> str:
    """How long the search takes with the epochs that the probe suggests; nothing where it suggests none."""
    if probe is None or probe.suggested_epochs is None:
        return ""
    seconds = search_seconds * probe.suggested_epochs / epochs
    if seconds < 90:
        return f"takes about {max(seconds, 1):.0f} s"
    return f"takes about {seconds / 60:.0f} min" if seconds < 5400 else f"takes about {seconds / 3600:.0f} h"


def _first_failure(ranking: Sequence[ConfigurationResult]) -> str:
    from report import config_text

    return f"{config_text(ranking[0].config)} {ranking[0].status}; try a lower --initial_lr"


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is written: taking torch apart costs 0.7 s more, waiting for cut-off trainings longer
