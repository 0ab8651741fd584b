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
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from arguments import DEFAULT_DATA_PATH, PROG, SAMPLE_PATH, duplicate_widths, parse_arguments, read_widths
from search import Configuration, count_parameters, enumerate_configurations, plan_trials

if TYPE_CHECKING:
    import torch

    from dataset import COPUSDataset, Scaling
    from models import DynamicAutoencoder
    from selection import ConfigurationResult, ResultCollector
    from training import SplitTable, TrainingSettings

INTERRUPTED = 130  # the exit status that shells give for Ctrl-C
KERNEL_NOTE = "Preparing the training kernel; the first run on a machine compiles it, a matter of seconds ..."
SAMPLE_NOTE = "Synthetic sample data (data/sample.csv), not real classes"


class UsageError(Exception):
    """What was asked for cannot be done; the message is one line that names the flag and the remedy."""


class Console:
    """Prints to stdout unless quiet; the closing summary is printed even then."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        """Progress: not for `--quiet`."""
        if not self.quiet:
            print(text, flush=True)

    def notice(self, text: str) -> None:
        """Something the user should know about: on stderr, so that it is not lost in a pipe."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """What the user must know even when quiet."""
        print(f"Note: {text}", file=sys.stderr, flush=True)

    def summarize(self, text: str) -> None:
        """The closing summary."""
        print(text, flush=True)


class Stopwatch:
    """Seconds spent in each stage, the parts of the results' `timing`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Books the time since the last lap, or since the stopwatch was made, on `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now

    def timing(self) -> dict[str, float]:
        """All stages and their total."""
        return {**self.seconds, "total": sum(self.seconds.values())}


class Loaded(NamedTuple):
    """The table, ready to train on."""

    dataset: COPUSDataset
    scaling: Scaling
    table: SplitTable
    is_sample: bool


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
    console.say(
        f"Searching {_count(len(configurations), 'configuration')} x {_count(arguments.repeats, 'repeat')} of "
        f"{_count(arguments.epochs, 'epoch')}, latent dimension {arguments.latent_dim}"
    )
    if duplicates := duplicate_widths(arguments.hidden_dims_search):
        console.notice(f"--hidden_dims_search names {', '.join(map(str, duplicates))} more than once; used once")
    return run(arguments, configurations, console, stopwatch)


def run(
    arguments: argparse.Namespace, configurations: list[Configuration], console: Console, stopwatch: Stopwatch
) -> int:
    """From checked arguments to results on disk; returns the exit status."""
    from environment import describe_environment
    from selection import ResultCollector

    files = output_files(arguments)
    device = choose_device(arguments.device)
    engine = choose_engine(arguments.engine, device, console)
    stopwatch.lap("start_up")
    loaded = load(arguments, device, console)
    stopwatch.lap("load")

    settings = training_settings(arguments)
    input_dim = loaded.table.input_dim
    model_params = {c: count_parameters(input_dim, arguments.latent_dim, c) for c in configurations}
    collector = ResultCollector(arguments.repeats, model_params)
    threads = train_all(arguments, configurations, loaded.table, settings, engine, collector, console)
    stopwatch.lap("train")
    ranking = collector.ranking()
    stopwatch.lap("select")
    if ranking[0].failure:
        print(f"{PROG}: error: every configuration failed; {_first_failure(ranking)}", file=sys.stderr)
    environment = describe_environment(device, engine, threads)
    report(arguments, files, loaded, settings, ranking, environment, stopwatch, console)
    return 1 if ranking[0].failure else 0


def choose_device(name: str) -> torch.device:
    """The torch device that `--device` names; "auto" is CUDA where there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = _count(torch.cuda.device_count(), "CUDA device")
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


def load(arguments: argparse.Namespace, device: torch.device, console: Console) -> Loaded:
    """Reads, checks, splits and scales the table."""
    from dataset import COPUSDataset, DataError, fit_scaling
    from training import SplitTable

    path = find_table(arguments.data_path)
    is_sample = path.resolve() == SAMPLE_PATH
    try:
        dataset = COPUSDataset(path, columns=arguments.columns, device=device, label_column=arguments.label_column)
    except DataError as error:
        raise UsageError(str(error)) from None
    split = dataset.split(arguments.seed)
    scaling, notices = fit_scaling(arguments.scaling, dataset.data, split.train, dataset.columns)
    if is_sample:
        console.warn(
            "this runs on SYNTHETIC sample data, not on real classes; get the real table with "
            "`python dataset.py --download`, or name yours with --data_path"
        )
    for notice in dataset.notices + notices:
        console.notice(notice)
    if arguments.latent_dim >= dataset.n_features:
        console.notice(f"--latent_dim {arguments.latent_dim} does not compress {dataset.n_features} columns")
    console.say(
        f"Table: {dataset.n_samples} rows x {dataset.n_features} columns from {path.name}, "
        f"{len(split.train)} for training and {len(split.test)} for testing"
    )
    return Loaded(dataset, scaling, SplitTable(scaling.apply(dataset.data), split.train, split.test), is_sample)


def find_table(data_path: str) -> Path:
    """The file to read: the one given; by default the real table, here or beside the program, or else the sample."""
    if data_path is not DEFAULT_DATA_PATH:
        return Path(data_path)
    candidates = [Path(data_path), SAMPLE_PATH.with_name(Path(data_path).name)]
    return next((path for path in candidates if path.exists()), SAMPLE_PATH)


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


def train_all(
    arguments: argparse.Namespace,
    configurations: Sequence[Configuration],
    table: SplitTable,
    settings: TrainingSettings,
    engine: str,
    collector: ResultCollector,
    console: Console,
) -> int:
    """Trains every configuration `--repeats` times into `collector`; returns how many trained at a time."""
    from progress import Progress
    from report import config_text, loss_text
    from training import available_cores, make_trainer, run_trials

    trials = plan_trials(configurations, arguments.repeats, input_dim=table.input_dim, latent_dim=arguments.latent_dim)
    threads = 1 if engine == "reference" else arguments.threads or available_cores()
    if arguments.threads > threads:
        console.notice(f"--threads {arguments.threads}: the reference engine trains one at a time")
    console.say(f"Engine: {engine}, {_count(threads, 'training')} at a time")
    with Progress(len(trials), quiet=arguments.quiet) as progress:
        for result in run_trials(trials, make_trainer(engine, table, settings), threads):
            collector.add(result)
            best = collector.best
            progress.update(f"{config_text(best.config)} {loss_text(best.final_test_loss)}" if best else "")
    return threads


def report(
    arguments: argparse.Namespace,
    files: OutputFiles,
    loaded: Loaded,
    settings: TrainingSettings,
    ranking: list[ConfigurationResult],
    environment: dict[str, Any],
    stopwatch: Stopwatch,
    console: Console,
) -> None:
    """Writes all files and prints the closing summary; of a search that failed entirely, only JSON and CSV."""
    from report import closing_files, closing_summary, results_document, save_state_dict, write_csv, write_json
    from training import trained_model

    best = None if ranking[0].failure else ranking[0]
    if best:
        model = trained_model(best.best_trained, loaded.table, settings)
        if arguments.save_models:
            save_state_dict(files.model, model.state_dict())
        console.summarize(closing_summary(best, files.model if arguments.save_models else None))
        write_pictures(arguments, loaded, ranking, model, files)
    write_csv(files.csv, ranking)
    stopwatch.lap("report")
    document = results_document(
        ranking,
        args=vars(arguments),
        environment=environment,
        data=describe_data(loaded),
        timing=stopwatch.timing(),
        model_info=model.get_model_info() if best else None,
        saved_model_file=files.model.name if arguments.save_models and best else None,
    )
    write_json(files.results, document)
    if best:
        latent_plot = files.latent_plot if arguments.latent_dim == 2 else None
        console.summarize(closing_files(files.search_plot, files.configurations_plot, files.results, latent_plot))


class OutputFiles(NamedTuple):
    """Where everything goes."""

    results: Path
    csv: Path
    model: Path
    codes: Path
    search_plot: Path
    configurations_plot: Path
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
        latent_plot=folder / "latent_space_2d_best_config.png",
    )


def write_pictures(
    arguments: argparse.Namespace,
    loaded: Loaded,
    ranking: list[ConfigurationResult],
    model: DynamicAutoencoder,
    files: OutputFiles,
) -> None:
    """Draws all pictures and writes the latent codes."""
    import latent_plots
    import plots
    from report import config_text, write_latent_codes
    from training import encode_table

    latent_dim, dataset = arguments.latent_dim, loaded.dataset
    note = SAMPLE_NOTE if loaded.is_sample else None
    plots.plot_search(ranking, files.search_plot, latent_dim=latent_dim, note=note)
    plots.plot_configurations(ranking, files.configurations_plot, latent_dim=latent_dim, note=note)
    codes, errors = encode_table(model, loaded.table)
    is_test = loaded.table.is_test
    write_latent_codes(files.codes, codes, errors, is_test, dataset.row_numbers, dataset.others)
    if latent_dim == 2:
        labels = dataset.others[dataset.label_column] if dataset.label_column else None
        title = f"Latent space of the best configuration, {config_text(ranking[0].config)}"
        latent_plots.plot_latent_space(codes, is_test, labels, files.latent_plot, title=title, note=note)


def describe_data(loaded: Loaded) -> dict[str, Any]:
    """The `data` part of the results."""
    return {
        **loaded.dataset.get_info(),
        "train_rows": len(loaded.table.train),
        "test_rows": len(loaded.table.test),
        "synthetic": loaded.is_sample,
        "scaling": loaded.scaling.to_dict(),
    }


def _first_failure(ranking: Sequence[ConfigurationResult]) -> str:
    from report import config_text

    return f"{config_text(ranking[0].config)} {ranking[0].status}; try a lower --initial_lr"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is written: taking torch apart costs 0.7 s more, waiting for cut-off trainings longer
