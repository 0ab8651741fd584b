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
import json
import os
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from arguments import PROG, parse_arguments, read_widths
from console import Console, Stopwatch, UsageError, count
from interruption import Interrupted, Interruption
from search import Configuration, Trial, count_parameters, enumerate_configurations, plan_trials
from workers import available_cores, is_out_of_memory

if TYPE_CHECKING:
    import torch

    from journal import Journal
    from loading import Loaded
    from models import DynamicAutoencoder
    from report import Findings
    from selection import ConfigurationResult, ResultCollector
    from training import Training, TrainingSettings
    from verdict import Verdict

KERNEL_NOTE = "Preparing the training kernel; the first run on a machine compiles it, a matter of seconds ..."
SELECTED = {"best": "best", "simplest": "simplest tied"}
SAMPLE_NOTE = "Synthetic sample data (data/sample.csv), not real classes"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status.

    0 · 1 if every configuration failed or results could not be written · 2 for a fault of the user's (faulty
    arguments raise SystemExit(2)) · 129, 130 or 143 if it was stopped by SIGHUP, Ctrl-C or SIGTERM · 141 when whoever
    read the output is gone.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console without ± is no reason to fail
    with Interruption() as interruption:
        try:
            status = search(argv, interruption)
        except UsageError as error:
            return _fail(str(error), 2)
        except Interrupted:
            _tell("interrupted")
            status = 0
        except OSError as error:
            return _fail(f"{error}; what was there before is as it was, and what is trained is kept", 1)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return _fail("out of memory; narrow the search, or give fewer --threads", 1)
        return interruption.status or status


def _fail(message: str, status: int) -> int:
    _tell(f"error: {message}")
    return status


def _tell(message: str) -> None:
    with suppress(OSError, ValueError):  # the terminal may be gone
        print(f"{PROG}: {message}", file=sys.stderr, flush=True)


def search(argv: Sequence[str] | None, interruption: Interruption) -> int:
    """Parses, checks and runs; returns the exit status."""
    stopwatch = Stopwatch()
    arguments = parse_arguments(argv)
    widths = read_widths(arguments.hidden_dims_search)
    configurations = enumerate_configurations(widths, arguments.max_layers)
    console = Console(arguments.quiet, on_gone=interruption.request)
    times = [count(len(configurations), "configuration"), count(arguments.repeats, "repeat")]
    times += [count(arguments.cv_folds, "fold")] if arguments.cv_folds else []
    epochs = count(arguments.epochs, "epoch")
    console.say(f"Searching {' x '.join(times)} of {epochs}, latent dimension {arguments.latent_dim}")
    status = run(arguments, configurations, console, stopwatch, interruption)
    if console.error and not status:
        return _fail(f"the console: {console.error.strerror}; the files are written all the same", 1)
    return status


def run(
    arguments: argparse.Namespace,
    configurations: list[Configuration],
    console: Console,
    stopwatch: Stopwatch,
    interruption: Interruption,
) -> int:
    """From checked arguments to results on disk; returns the exit status."""
    from environment import search_identity
    from files import HeldError, exclusive
    from journal import open_journal
    from loading import announce, load

    device = choose_device(arguments.device)
    stopwatch.lap("start_up")
    loaded = load(arguments, device)  # before the kernel: a fault in the table need not wait for a compiler
    stopwatch.lap("load")
    engine, arithmetic = choose_engine(arguments.engine, device, loaded.notices, console)
    identity = search_identity(arguments, loaded.dataset.sha256, loaded.digest, arithmetic, device, engine)
    folder = make_folder(arguments)
    notices: list[str] = []
    interruption.is_deferred = True
    try:
        with (
            exclusive(folder),
            open_journal(folder, arguments.latent_dim, identity, fresh=arguments.fresh, notices=notices) as journal,
        ):
            announce(arguments, loaded, console)
            for notice in notices:
                console.notice(notice)
            training = plan_training(arguments, loaded, engine, console)
            training = replace(
                training, journal=journal, stops=interruption.is_requested, on_fewer=_tell_fewer(console)
            )
            stopwatch.lap("start_up")
            return train_and_report(arguments, configurations, loaded, training, device, console, stopwatch)
    except HeldError as error:
        raise UsageError(f"--output_dir {arguments.output_dir!r}: {error}") from None


def train_and_report(
    arguments: argparse.Namespace,
    configurations: list[Configuration],
    loaded: Loaded,
    training: Training,
    device: torch.device,
    console: Console,
    stopwatch: Stopwatch,
) -> int:
    """What takes long. Once asked to stop it reports what there is; returns the exit status."""
    from conclusion import conclude
    from environment import describe_environment
    from loading import tell_changes
    from selection import ResultCollector

    input_dim = loaded.table.input_dim
    model_params = {c: count_parameters(input_dim, arguments.latent_dim, c) for c in configurations}
    collector = ResultCollector(arguments.repeats * len(loaded.folds), model_params)
    train_all(arguments, configurations, loaded, training, collector, console)
    stopwatch.lap("train")
    findings = conclude(arguments, loaded, training, collector.ranking(), stopwatch, console)
    findings = replace(findings, n_configurations=len(configurations))
    tell_changes(loaded, console)
    environment = describe_environment(device, training.engine, training.threads)
    write_report(arguments, loaded, training, findings, environment, stopwatch, console)
    if findings.is_complete and training.journal:
        training.journal.complete(findings.trained, training.settings.epochs)
    if findings.is_complete and findings.chosen is None:
        return _fail(f"every configuration failed; {_first_failure(findings.ranking)}", 1)
    return 0


def _tell_fewer(console: Console) -> Callable[[int], None]:
    """What says, once, that memory is short."""
    told: list[int] = []

    def tell(threads: int) -> None:
        if not told:
            console.warn(f"memory does not suffice for so many trainings at a time; going on with {threads}")
        told.append(threads)

    return tell


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


def choose_engine(name: str, device: torch.device, notices: list[str], console: Console) -> tuple[str, str]:
    """The engine that `--engine` names, ready to train, and the digest of its arithmetic here.

    `notices` gets a line where it is not the usual one.
    """
    from training import try_out

    if device.type != "cpu":
        if name == "compiled":
            raise UsageError(f"--engine compiled runs on the CPU, not on {device}; give --device cpu")
        return "reference", "not compared"
    if name == "reference":
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
    from training import Training

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
    kept = training.kept(trials)
    if kept and training.journal:
        console.say(_resumption(trials, kept, training.journal))
    with Progress(len(trials), done=len(kept), console=console) as progress:
        for number, result in enumerate(training.run(trials)):
            collector.add(result)
            best = collector.best
            if number >= len(kept):
                progress.update(f"{config_text(best.config)} {loss_text(best.final_test_loss)}" if best else "")


def _resumption(trials: Sequence[Trial], kept: Collection[Trial], journal: Journal) -> str:
    """`12 of 19 configurations already trained at 14:03; continuing`."""
    configurations, unfinished = ({trial.config for trial in some} for some in (trials, set(trials) - set(kept)))
    finished = len(configurations) - len(unfinished)
    done = f"{finished} of {count(len(configurations), 'configuration')} already trained"
    if not finished:
        done = f"{len(kept)} of {count(len(trials), 'training')} already done"
    at, today = journal.last_finished, datetime.now().date()
    when = f"{at:%H:%M}" if at.date() == today else f"{at:%Y-%m-%d %H:%M}"
    return f"{done} at {when}; " + ("continuing" if unfinished else "writing the reports anew")


def write_report(
    arguments: argparse.Namespace,
    loaded: Loaded,
    training: Training,
    findings: Findings,
    environment: dict[str, Any],
    stopwatch: Stopwatch,
    console: Console,
) -> None:
    """Writes all files, or on any fault none, and prints the closing summary.

    Of a search that failed entirely there are only JSON and CSV. One that was interrupted does not take the place of
    complete results: its files go to a folder `interrupted` beside them.
    """
    from conclusion import state_findings
    from files import INTERRUPTED, publishing
    from headless import headless
    from loading import describe_data
    from report import closing_files, closing_summary, results_document, save_state_dict, write_csv, write_json
    from training import trained_model

    folder = Path(arguments.output_dir)
    if not findings.is_complete and holds_complete_results(output_files(folder, arguments.latent_dim).results):
        folder = folder / INTERRUPTED
    files = output_files(folder, arguments.latent_dim)
    chosen, verdict = findings.chosen, findings.verdict
    model = trained_model(findings.trained, loaded.table, training.settings) if findings.trained else None
    with publishing(folder) as draft_folder:
        drafts = output_files(draft_folder, arguments.latent_dim)
        if chosen and verdict:
            saved = files.model if arguments.save_models and model else None
            if saved and model:
                save_state_dict(drafts.model, model.state_dict())
                findings = replace(findings, saved_model_file=saved.name)
            time = _time_text(findings, training)
            statement = state_findings(findings, loaded, arguments.latent_dim, time)
            console.summarize(closing_summary(chosen, saved, statement, is_complete=findings.is_complete))
            with headless(draft_folder):
                write_pictures(arguments, loaded, findings.ranking, verdict, drafts)
                if model:
                    write_latent_space(arguments, loaded, chosen, model, drafts)
        write_csv(drafts.csv, findings)
        stopwatch.lap("report")
        timing = stopwatch.timing()
        data = describe_data(loaded)
        write_json(
            drafts.results,
            results_document(findings, args=vars(arguments), environment=environment, data=data, timing=timing),
        )
    if chosen:
        latent_plot = files.latent_plot if model and arguments.latent_dim == 2 else None
        pictures = (files.search_plot, files.configurations_plot, files.verdict_plot)
        console.summarize(closing_files(*pictures, files.results, latent_plot))
    if not findings.is_complete:
        done = f"{len(findings.ranking)} of {count(findings.n_configurations, 'configuration')} trained"
        same = "the same command" + (" without --fresh" if arguments.fresh else "")
        console.warn(f"interrupted, {done}; {same} goes on from here")


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


def output_files(folder: Path, latent_dim: int) -> OutputFiles:
    """The files in this folder."""
    latent = f"latent{latent_dim}"
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


def make_folder(arguments: argparse.Namespace) -> Path:
    """`--output_dir`, made if need be, with nothing in the way of what is going to be written there."""
    from files import INTERRUPTED

    folder = Path(arguments.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"--output_dir {arguments.output_dir!r} cannot be made: {error}") from None
    for path in output_files(folder, arguments.latent_dim):
        if path.is_dir():
            raise UsageError(f"--output_dir {arguments.output_dir!r}: {path} is a folder; move it, or give another")
    if os.path.lexists(folder / INTERRUPTED) and not (folder / INTERRUPTED).is_dir():
        raise UsageError(f"--output_dir {arguments.output_dir!r}: {folder / INTERRUPTED} is in the way; move it")
    return folder


def holds_complete_results(path: Path) -> bool:
    """Whether a finished search left its results there."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return not (isinstance(results, dict) and results.get("complete") is False)


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


def _time_text(findings: Findings, training: Training) -> str:
    """How long the search takes with the epochs that the probe suggests; nothing where it suggests none."""
    if findings.probe is None or findings.probe.suggested_epochs is None:
        return ""
    trained = sum(result.seconds for configuration in findings.ranking for result in configuration.trials)
    seconds = trained / training.threads * findings.probe.suggested_epochs / training.settings.epochs
    if seconds < 90:
        return f"takes about {max(seconds, 1):.0f} s"
    return f"takes about {seconds / 60:.0f} min" if seconds < 5400 else f"takes about {seconds / 3600:.0f} h"


def _first_failure(ranking: Sequence[ConfigurationResult]) -> str:
    from report import config_text

    remedy = "narrow the search" if ranking[0].trials[0].out_of_memory else "try a lower --initial_lr"
    return f"{config_text(ranking[0].config)} {ranking[0].status}; {remedy}"


if __name__ == "__main__":
    try:
        status: Any = main()
    except SystemExit as exit_:
        status = exit_.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # it may be gone, or never have been there
            stream.flush()
    os._exit(status)  # everything is written: taking torch apart costs 0.7 s more, waiting for cut-off trainings longer
