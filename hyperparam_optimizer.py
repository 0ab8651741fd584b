#!/usr/bin/env python
"""Finds the hidden layers of an autoencoder with a fixed latent size that reconstruct a table best.

    python hyperparam_optimizer.py --latent_dim 3 --hidden_dims_search "16,32,64" --max_layers 3 --epochs 20

Reads the table, trains every non-increasing arrangement of the given widths several times, ranks them by
their loss on held-out rows, and writes pictures, JSON, CSV and the best model into `--output_dir`. This
file holds the command itself: the order of the stages, and the console. `README.md` says how to read
what it writes. From Python:

    from hyperparam_optimizer import search
    results = search(data_path="my_classes.csv", latent_dim=3)
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from layersearch.background import Aside, hurrying
from layersearch.command.arguments import n_to_try, parse_arguments, read_space
from layersearch.command.interruption import Interruption
from layersearch.console import Console, Stopwatch, any_text
from layersearch.engines.workers import is_out_of_memory
from layersearch.errors import Interrupted, UsageError
from layersearch.space.configurations import Space
from layersearch.space.factors import CrossedSpace, count_options, factors_of
from layersearch.words import PROG, count

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from layersearch.command.library import SearchResults
    from layersearch.engines.training import Training
    from layersearch.loading.loaded import Loaded
    from layersearch.report.publish import Report
    from layersearch.space.ranking import ConfigurationResult
    from layersearch.space.trials import TrialResult


NO_MEMORY = "out of memory; narrow the search, or give fewer --threads"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status.

    0 · 1 if every configuration failed or results could not be written · 2 for a fault of the user's (faulty
    arguments raise SystemExit(2)) · 129, 130 or 143 if it was stopped by SIGHUP, Ctrl-C or SIGTERM · 141 when whoever
    read the output is gone.
    """
    stopwatch = Stopwatch()
    with any_text(), Interruption() as interruption:
        try:
            status = execute(parse_arguments(argv), stopwatch, interruption).status
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
            return _fail(NO_MEMORY, 1)
        return interruption.status or status


def search(**keywords: Any) -> SearchResults:
    """Does in a script or a notebook what the command does: its arguments as keywords, its results as an object.

    Numbers, texts, paths, True for switches, and a list where the command takes several with commas between. Files are
    written and lines printed as by the command, whose journal it goes on from. Ctrl-C ends the search and returns what
    there is. Where every configuration failed, so do the results say. No global state is changed.

    Raises:
        ValueError: faulty keywords, or a fault in the table: what the command would say, a line for each.
        OSError: the results could not be written; what was there before is as it was.
        MemoryError: the search does not fit.
    """
    from layersearch.command.library import read_keywords, results_of

    stopwatch = Stopwatch()
    arguments = read_keywords(keywords)
    with any_text(), Interruption(is_guest=True) as interruption:
        try:
            report = execute(arguments, stopwatch, interruption).report
        except UsageError as error:
            raise ValueError(str(error)) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(NO_MEMORY) from error
    assert report is not None
    return results_of(report)


def _fail(message: str, status: int) -> int:
    _tell(f"error: {message}")
    return status


def _tell(message: str) -> None:
    with suppress(OSError, ValueError):  # the terminal may be gone
        print(f"{PROG}: {message}", file=sys.stderr, flush=True)


class Outcome(NamedTuple):
    """How a run ended: the exit status, and what was written."""

    status: int
    report: Report | None = None


def execute(arguments: argparse.Namespace, stopwatch: Stopwatch, interruption: Interruption) -> Outcome:
    """Does what checked arguments ask for."""
    console = Console(arguments.quiet, on_gone=interruption.request)
    if arguments.encode is not None:
        console.say(f"Encoding {Path(arguments.encode).name} with {Path(arguments.model).name}")
        with hurrying():
            from layersearch.command.encode import encode

        return Outcome(encode(arguments, console, interruption))
    space = read_space(arguments)
    if arguments.list_configurations:
        return Outcome(print_configurations(arguments, space, console))
    console.say(_title(arguments, space))
    outcome = run(arguments, space, console, stopwatch, interruption)
    if console.error and not outcome.status:
        status = _fail(f"the console: {console.error.strerror}; the files are written all the same", 1)
        return outcome._replace(status=status)
    return outcome


def _title(arguments: argparse.Namespace, space: Space) -> str:
    """`Searching 19 configurations x 5 repeats of 20 epochs, latent dimension 3`."""
    n = n_to_try(arguments, space)
    manner = {"grid": "", "random": ", at random,", "halving": " by successive halving", "bayesian": ", bayesian,"}
    what = count(n, "configuration") if n == space.size else f"{n} of {count(space.size, 'configuration')}"
    options = count_options(factors_of(arguments))
    if isinstance(space, CrossedSpace):
        what = f"{count(n // options, 'configuration')} x {options} options"
    times = [what + manner[arguments.search], count(arguments.repeats, "repeat")]
    times += [count(arguments.cv_folds, "fold")] if arguments.cv_folds else []
    epochs = count(arguments.epochs, "epoch")
    then = f", then the best {arguments.study_configs} x {options} options" if arguments.study_configs else ""
    return f"Searching {' x '.join(times)} of {epochs}{then}, latent dimension {arguments.latent_dim}"


def run(
    arguments: argparse.Namespace,
    space: Space,
    console: Console,
    stopwatch: Stopwatch,
    interruption: Interruption,
) -> Outcome:
    """From checked arguments to results on disk."""
    from layersearch.files import HeldError, drafting, exclusive

    with hurrying():
        from layersearch.engines.choice import choose_device, choose_engine, plan_training
        from layersearch.engines.machines import connected
        from layersearch.journal.identity import machine_identity, search_identity
        from layersearch.journal.journal import open_journal
        from layersearch.loading.loaded import announce, load
        from layersearch.loading.start import behind_encoder
        from layersearch.report.publish import make_folder

        device = choose_device("cpu" if arguments.distributed else arguments.device)
        stopwatch.lap("start_up")
    loaded = load(arguments, device)  # before the kernel: a fault in the table need not wait for a compiler
    space = behind_encoder(space, loaded.source)
    stopwatch.lap("load")
    with hurrying():
        engine, arithmetic = choose_engine(arguments.engine, device, loaded.notices, console)
    init_from = f"weights {loaded.source.start.digest[:16]}" if loaded.source else None
    identity = search_identity(
        arguments, loaded.dataset.sha256, loaded.digest, arithmetic, device, engine, init_from=init_from
    )
    folder = make_folder(arguments)
    ours, address = (
        machine_identity(arithmetic, device, engine),
        arguments.ray_address if arguments.distributed else None,
    )
    notices: list[str] = []
    interruption.is_deferred = True
    try:
        with (
            exclusive(folder),
            connected(address, arguments.threads, ours, interruption.is_requested) as machines,
            open_journal(folder, arguments.latent_dim, identity, fresh=arguments.fresh, notices=notices) as journal,
        ):
            announce(arguments, loaded, console)
            for notice in notices:
                console.notice(notice)
            training = plan_training(arguments, space, loaded, engine, device, console, machines)
            training = replace(
                training, journal=journal, stops=interruption.is_requested, on_fewer=_tell_fewer(console)
            )
            stopwatch.lap("start_up")
            with drafting(folder) as drafts:
                return train_and_report(arguments, space, loaded, training, device, console, stopwatch, drafts)
    except HeldError as error:
        raise UsageError(f"--output_dir {arguments.output_dir!r}: {error}") from None


def train_and_report(
    arguments: argparse.Namespace,
    space: Space,
    loaded: Loaded,
    training: Training,
    device: torch.device,
    console: Console,
    stopwatch: Stopwatch,
    drafts: Path,
) -> Outcome:
    """What takes long. Once asked to stop it reports what there is.

    `drafts`: a folder for what Matplotlib cannot keep elsewhere.
    """
    from layersearch.journal.identity import describe_environment
    from layersearch.loading.loaded import tell_changes
    from layersearch.report.publish import draw_pictures, import_late, look_at_latent_space, write_report
    from layersearch.search.running import carry_out
    from layersearch.verdict.conclusion import conclude, reach_verdict

    described = Aside(partial(describe_environment, device, training.engine, training.threads))
    imported = Aside(partial(import_late, arguments, drafts))
    pictures, look, leaves = None, None, False

    def begin_look(chosen: ConfigurationResult, trained: TrialResult) -> None:
        nonlocal look
        assert pictures
        seen = partial(look_at_latent_space, arguments, loaded, training, chosen, trained, drafts=drafts)
        look = Aside(partial(seen, after=imported, drawn=pictures))

    try:
        search = carry_out(arguments, space, loaded, training, console)
        stopwatch.lap("train")
        verdict = reach_verdict(arguments, loaded, search, stopwatch)
        if verdict:
            draw = partial(draw_pictures, arguments, loaded, search, drafts=drafts, after=imported)
            pictures = Aside(partial(draw, verdict))
        findings = conclude(arguments, loaded, training, search, verdict, stopwatch, console, begin_look)
        tell_changes(loaded, console)
        environment = described.result()
        report = write_report(arguments, loaded, training, findings, pictures, look, environment, stopwatch, console)
    except Interrupted:
        leaves = True  # and the process takes with it what goes on beside
        raise
    finally:
        for aside in (imported, pictures, look):  # else they would write to the drafts while these are removed
            if aside and not leaves:
                aside.wait()
    if findings.is_complete and training.journal:
        training.journal.complete(findings.trained, training.settings.epochs)
    if findings.is_complete and findings.chosen is None:
        return Outcome(_fail(f"every configuration failed; {_first_failure(findings.ranking)}", 1), report)
    return Outcome(0, report)


def _tell_fewer(console: Console) -> Callable[[int], None]:
    """What says, once, that memory is short."""
    told: list[int] = []

    def tell(threads: int) -> None:
        if not told:
            console.warn(f"memory does not suffice for so many trainings at a time; going on with {threads}")
        told.append(threads)

    return tell


def print_configurations(arguments: argparse.Namespace, space: Space, console: Console) -> int:
    """The space, with sizes and estimated times; returns the exit status."""
    from layersearch.command.listing import list_configurations
    from layersearch.engines.choice import choose_device, choose_room, threads_of, training_settings
    from layersearch.engines.settings import nominal_seconds
    from layersearch.loading.loaded import load
    from layersearch.loading.start import behind_encoder

    device = choose_device("cpu" if arguments.distributed else arguments.device)
    loaded = load(arguments, device)
    space = behind_encoder(space, loaded.source)
    usual = "compiled" if device.type == "cpu" else "stacked"
    engine = usual if arguments.engine == "auto" else arguments.engine
    settings, table = training_settings(arguments), loaded.tables[loaded.folds[0]]
    members = choose_room(arguments, space, loaded, device).members if engine == "stacked" else 1

    def seconds(n_parameters: int) -> float:
        return nominal_seconds(engine, n_parameters, len(table.train), settings) / members

    lines = list_configurations(
        space.configurations(),
        input_dim=loaded.table.input_dim,
        latent_dim=arguments.latent_dim,
        repeats=arguments.repeats,
        seconds=seconds,
        folds=arguments.cv_folds,
        threads=threads_of(arguments, engine),
        **settings.normalizations,
    )
    for line in lines:
        console.summarize(line)
    if arguments.study_configs:
        options = count_options(factors_of(arguments))
        console.summarize(f"then the best {arguments.study_configs} x {options} options, as often")
    return 0


def _first_failure(ranking: Sequence[ConfigurationResult]) -> str:
    from layersearch.space.naming import config_text

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
