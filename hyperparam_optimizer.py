#!/usr/bin/env python
"""Finds the hidden layers with which an autoencoder of a fixed latent size reconstructs a table best.

    python hyperparam_optimizer.py --latent_dim 3 --hidden_dims_search "16,32,64" --max_layers 3 --epochs 20

Reads the table, trains every non-increasing arrangement of the given widths several times, ranks them by their loss on
held-out rows, and writes pictures, JSON, CSV and the best model into `--output_dir`. This file calls the stages in
order; docs/how_it_works.md describes the subpackages of `layersearch/` that implement them. From Python:

    from hyperparam_optimizer import search
    results = search(data_path="my_classes.csv", latent_dim=3)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from layersearch.background import Background, Task, hurrying
from layersearch.command.arguments import parse_arguments
from layersearch.command.interruption import Interruption
from layersearch.command.request import Request, read_request
from layersearch.console import Console, Stopwatch, any_text
from layersearch.engines.workers import available_cores, is_out_of_memory
from layersearch.errors import Interrupted, UsageError
from layersearch.files import HeldError, drafting, exclusive, refuse_shadows
from layersearch.search.plan import SearchPlan
from layersearch.words import PROG, count, duration_text

if TYPE_CHECKING:
    import torch

    from layersearch.command.library import SearchResults
    from layersearch.engines.training import Training
    from layersearch.latent.ensemble import EnsembleFindings
    from layersearch.latent.findings import LatentFindings
    from layersearch.loading.loaded import Loaded
    from layersearch.report.publish import Content, Published
    from layersearch.report.results import Results
    from layersearch.search.running import Searched
    from layersearch.verdict.conclusion import Best
    from layersearch.verdict.probe import Probe
    from layersearch.verdict.verdict import Verdict
    from models import DynamicAutoencoder

NO_MEMORY = "out of memory; narrow the search, or give fewer --threads"
KERNEL_NOTE = "Preparing the training kernel; the first run on a machine compiles it, a matter of seconds ..."
KERNEL_SECONDS = 2.5  # KERNEL_NOTE is printed if preparing the kernel takes longer than this

refuse_shadows(("dataset", "models", "losses"))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    Returns:
        0 on success; 1 if every configuration failed or the results could not be written; 2 if the table or another
        input is invalid; 129, 130 or 143 after SIGHUP, Ctrl-C or SIGTERM; 141 if standard output is a closed pipe.

    Raises:
        SystemExit: the arguments are invalid (status 2), or only help was asked for (status 0).
    """
    stopwatch = Stopwatch()
    with any_text(), Interruption() as interruption:
        try:
            status = execute(read_request(parse_arguments(argv)), stopwatch, interruption).status
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
    """Runs a search from a script or a notebook, and returns its results as an object.

    Like the command, it prints its progress, writes its files, and resumes from the journal of an interrupted search.
    Ctrl-C ends the search and returns the results so far. If every configuration failed, the results say so. No global
    state is changed.

    Args:
        **keywords: the command's arguments, without the leading dashes: numbers, strings or paths, True for a switch,
            and a list where the command takes values separated by commas.

    Raises:
        ValueError: keywords or the table are invalid; the message has the command's error messages, one a line.
        OSError: the results could not be written; earlier results are unchanged.
        MemoryError: the search does not fit into memory.
    """
    from layersearch.command.library import read_keywords, results_of

    stopwatch = Stopwatch()
    request = read_keywords(keywords)
    with any_text(), Interruption(is_guest=True) as interruption:
        try:
            published = execute(request, stopwatch, interruption).published
        except UsageError as error:
            raise ValueError(str(error)) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(NO_MEMORY) from error
    assert published is not None
    return results_of(published)


class Outcome(NamedTuple):
    """How a run ended: its exit status, and the results it wrote (None if it did not search)."""

    status: int
    published: Published | None = None


def execute(request: Request, stopwatch: Stopwatch, interruption: Interruption) -> Outcome:
    """Carries out a checked request: encodes a table, lists the configurations, or searches."""
    console = Console(request.output.quiet, on_gone=interruption.request)
    table, model = request.encode.encode, request.encode.model
    if table is not None and model is not None:
        console.say(f"Encoding {Path(table).name} with {Path(model).name}")
        with hurrying():
            from layersearch.command.encode import encode

        encode(table, model, request.output.output_dir, console, interruption)
        return Outcome(0)
    if request.search.list_configurations:
        from layersearch.command.listing import print_configurations

        print_configurations(request, console)
        return Outcome(0)
    console.say(request.plan.in_words(request.sizes.latent_dim))
    with prepared(request, console, stopwatch, interruption) as setting:
        outcome = run_stages(request, setting, console, stopwatch)
    if console.error and not outcome.status:
        status = _fail(f"the console: {console.error.strerror}; the files are written all the same", 1)
        return outcome._replace(status=status)
    return outcome


@dataclass(frozen=True)
class Setting:
    """The inputs that all stages share."""

    folder: Path  # `--output_dir`
    drafts: Path  # a folder for temporary files
    plan: SearchPlan
    loaded: Loaded
    training: Training
    device: torch.device


@contextmanager
def prepared(request: Request, console: Console, stopwatch: Stopwatch, interruption: Interruption) -> Iterator[Setting]:
    """Reads the table, chooses the engine, and holds the folder, the journal and the cluster open within the block."""
    with hurrying():
        from layersearch.command.announce import announce
        from layersearch.engines.choice import choose_device, choose_engine
        from layersearch.engines.machines import connected
        from layersearch.journal.identity import machine_identity, search_identity
        from layersearch.journal.journal import open_journal
        from layersearch.loading.loaded import load
        from layersearch.loading.start import behind_encoder, find_source
        from layersearch.report.output_files import make_folder

        device = choose_device("cpu" if request.run.distributed else request.run.device)
        stopwatch.lap("start_up")
    latent_dim, seed = request.sizes.latent_dim, request.search.seed
    source = find_source(request.start, request.training, latent_dim)
    # Load the table before the kernel is compiled, so that a faulty table is reported at once.
    loaded = load(request.data, request.training, device, seed=seed, source=source)
    plan = replace(request.plan, space=behind_encoder(request.plan.space, source))
    stopwatch.lap("load")
    with hurrying(), console.saying_if_slow(KERNEL_SECONDS, KERNEL_NOTE):
        engine, arithmetic = choose_engine(request.run.engine, device, loaded.notices)
    machine = machine_identity(arithmetic, device, engine)
    weights = f"weights {source.start.digest[:16]}" if source else None
    sha256 = loaded.dataset.sha256
    identity = search_identity(request.arguments, machine, sha256=sha256, data=loaded.digest, init_from=weights)
    folder = make_folder(request.output.output_dir, latent_dim)
    address = request.run.ray_address if request.run.distributed else None
    notices: list[str] = []
    interruption.is_deferred = True
    try:
        with (
            exclusive(folder),
            connected(address, request.run.threads, machine, interruption.is_requested) as machines,
            open_journal(folder, latent_dim, identity, fresh=request.output.fresh, notices=notices) as journal,
        ):
            announce(request, loaded, console)
            for notice in notices:
                console.notice(notice)
            training = plan_training(request, plan, loaded, engine, device, machines, console)
            stops, on_fewer = interruption.is_requested, _tell_fewer(console)
            training = replace(training, journal=journal, stops=stops, on_fewer=on_fewer)
            stopwatch.lap("start_up")
            with drafting(folder) as drafts:
                yield Setting(folder, drafts, plan, loaded, training, device)
    except HeldError as error:
        raise UsageError(f"--output_dir {request.output.output_dir!r}: {error}") from None


def plan_training(
    request: Request,
    plan: SearchPlan,
    loaded: Loaded,
    engine: str,
    device: torch.device,
    machines: Any,
    console: Console,
) -> Training:
    """Returns how trials are trained (settings, engine, number of threads), and prints it."""
    from layersearch.engines import choice
    from layersearch.engines.settings import TrainingSettings

    start = loaded.source.start if loaded.source else None
    settings = TrainingSettings.of(request.training, request.sizes.latent_dim, request.search.seed, start)
    room = None
    if engine == "stacked" and not machines:
        n_trials = plan.largest_batch(available_cores()) * plan.options.repeats
        room = choice.choose_room(plan.space, loaded.tables, settings, device, n_trials=n_trials)
    asked = request.run.threads
    training = choice.plan_training(settings, loaded.tables, engine, asked, room, machines)
    if asked > training.threads and not machines:
        how = "one at a time" if engine == "reference" else "one stack at a time"
        console.notice(f"--threads {asked}: the {engine} engine trains {how}")
    console.say(choice.engine_in_words(training, device))
    return training


def run_stages(request: Request, setting: Setting, console: Console, stopwatch: Stopwatch) -> Outcome:
    """Runs the stages: search, verdict, best model, latent space, ensemble, probe, report.

    After a request to stop, nothing more is trained, and the results so far are reported.
    """
    from layersearch.engines.lifecycle import trained_model
    from layersearch.journal.identity import describe_environment
    from layersearch.pictures.drawing import draw_latent, draw_search, import_late
    from layersearch.search.progress import Progress
    from layersearch.search.running import carry_out
    from layersearch.verdict.conclusion import judge_search, train_best

    plan, loaded, training, options = setting.plan, setting.loaded, setting.training, request.verdict
    best = pictures = model = latent = latent_pictures = ensemble = probe = None
    with Background(abandoned_on=Interrupted) as beside:
        environment = beside.start(describe_environment, setting.device, training.engine, training.threads)
        late = beside.start(import_late, setting.drafts, is_study=bool(plan.factors), has_repeats=plan.trials_each > 1)
        reports = beside.start(import_reports, after=late)

        searched = carry_out(plan, training, Progress(plan.n_trainings, console=console))
        stopwatch.lap("train")
        asked: dict[str, Any] = {"objectives": request.objectives, "factors": plan.factors}
        verdict = judge_search(searched.ranking, loaded, options, training.settings, **asked)
        stopwatch.lap("select")
        if verdict:
            about: dict[str, Any] = {"latent_dim": training.settings.latent_dim, "is_sample": loaded.is_sample}
            pictures = beside.start(draw_search, searched, verdict, folder=setting.drafts, after=late, **about)
            best = train_best(verdict, training, loaded, options)
            if best.warning:
                console.warn(best.warning)
            stopwatch.lap("retrain")
        if best and best.trained:
            model = trained_model(best.trained, loaded.table, training.settings)
            latent = beside.start(examine, loaded, model, request, after=late)
            drawn: dict[str, Any] = {"folder": setting.drafts, "select": options.select, "after": pictures}
            latent_pictures = beside.start(draw_latent, latent, loaded, best.configuration.config, **drawn)
        if verdict and best and best.trained and options.ensemble:
            ensemble = combine_models(request, setting, searched, verdict, best, console)
            stopwatch.lap("ensemble")
        if verdict:
            probe = None if options.no_probe else probe_longer(searched, verdict, training, loaded, console)
            stopwatch.lap("probe")

        reports.wait()
        from layersearch.report.publish import Content
        from layersearch.report.results import Results

        is_complete, n_test = not training.stops(), len(loaded.table.test)
        about = {"is_complete": is_complete, "n_test": n_test, "settings": training.settings}
        results = Results(searched, verdict, best, ensemble, probe, **about)
        content = Content(results, loaded, model, environment.result())
        published = publish_results(request, setting, content, [pictures, latent_pictures], latent, console, stopwatch)
    if results.is_complete and training.journal:
        training.journal.complete(best.trained if best else None, training.settings.epochs)
    if results.is_complete and best is None:
        return Outcome(_fail(f"every configuration failed; {_first_failure(results)}", 1), published)
    return Outcome(0, published)


def import_reports() -> None:
    """Imports the report modules while trainings run. A failing import is raised later, where they are needed."""
    with suppress(Exception):
        import layersearch.report.publish  # noqa: F401


def examine(loaded: Loaded, model: DynamicAutoencoder, request: Request) -> LatentFindings:
    """Analyses the latent space of a model. Imports scikit-learn only now, in the calling thread."""
    from layersearch.latent import findings

    return findings.examine(loaded, model, seed=request.search.seed, confidence=request.verdict.confidence)


def combine_models(
    request: Request, setting: Setting, searched: Searched, verdict: Verdict, best: Best, console: Console
) -> EnsembleFindings | None:
    """Returns the ensemble that `--ensemble` asks for, or None if it would have fewer than two models."""
    from layersearch.latent.ensemble import assemble

    assert request.verdict.ensemble is not None
    assert best.trained is not None
    ensemble, warnings = assemble(
        "tied" if request.verdict.ensemble == "tied" else int(request.verdict.ensemble),
        searched.ranking,
        verdict,
        best.trained,
        setting.loaded,
        setting.training,
        repeats=request.search.repeats,
        is_copus=request.data.columns == "copus",
    )
    for warning in warnings:
        console.warn(warning)
    return ensemble


def probe_longer(
    searched: Searched, verdict: Verdict, training: Training, loaded: Loaded, console: Console
) -> Probe | None:
    """Trains a few configurations longer; returns None if that would cost too much or the run was asked to stop."""
    from layersearch.verdict.conclusion import is_trained, plan_longer, train_longer

    if training.stops():
        return None
    plan = plan_longer(verdict, searched.ranking, training)
    if plan is None:
        console.say("Longer training is not probed: even once would cost more than a tenth of the search")
        return None
    if not is_trained(plan, training):
        console.say("Probing longer training ...")
    return train_longer(plan, verdict, training, loaded)


def publish_results(
    request: Request,
    setting: Setting,
    content: Content,
    pictures: Sequence[Task[dict[str, bytes]] | None],
    latent: Task[LatentFindings] | None,
    console: Console,
    stopwatch: Stopwatch,
) -> Published:
    """Prints the closing summary, waits for the pictures, and writes all files."""
    from layersearch.command.announce import tell_changes
    from layersearch.loading.start import describe_start
    from layersearch.report.output_files import output_files, results_folder
    from layersearch.report.publish import publish
    from layersearch.report.results import closing_files, closing_summary, search_line

    loaded, training, results = setting.loaded, setting.training, content.results
    tell_changes(loaded, console)
    latent_dim = training.settings.latent_dim
    folder = results_folder(setting.folder, latent_dim, is_complete=results.is_complete)
    saves_model = request.output.save_models and content.model is not None
    if results.chosen:
        saved = output_files(folder, latent_dim).model if saves_model else None
        console.summarize(closing_summary(results, saved, time=_time_text(results, training)))
    drawn = {name: png for task in pictures if task for name, png in task.result().items()}
    found = latent.result() if latent else None
    for notice in found.notices if found else ():
        console.notice(notice)
    chosen, input_dim = results.chosen, loaded.table.input_dim
    start = describe_start(loaded.source, loaded.is_scaling_stored, chosen, input_dim, training.settings)
    content = content._replace(pictures=drawn, latent=found, args=request.arguments, init_from=start)
    published = publish(folder, content, stopwatch, saves_model=saves_model)
    if chosen:
        silent = set() if search_line(results) else {"history_plot"}
        shown = {name: path for name, path in published.files.items() if name not in silent}
        console.summarize(closing_files(shown))
    if published.left:
        console.notice(f"left from an earlier run, and not written by this one: {', '.join(published.left)}")
    if not results.is_complete:
        done = f"{len(results.ranking)} of {count(results.searched.n_configurations, 'configuration')} trained"
        same = "the same command" + (" without --fresh" if request.output.fresh else "")
        console.warn(f"interrupted, {done}; {same} goes on from here")
    return published


def _time_text(results: Results, training: Training) -> str:
    """Returns the time a search with the suggested number of epochs would take; empty if none is suggested."""
    if results.probe is None or results.probe.suggested_epochs is None:
        return ""
    trained = sum(result.seconds for configuration in results.ranking for result in configuration.trials)
    seconds = trained / training.threads * results.probe.suggested_epochs / training.settings.epochs
    return f"takes {duration_text(seconds)}"


def _tell_fewer(console: Console) -> Callable[[int], None]:
    """Returns a callback that warns, the first time it is called, that memory is short."""
    told: list[int] = []

    def tell(threads: int) -> None:
        if not told:
            console.warn(f"memory does not suffice for so many trainings at a time; going on with {threads}")
        told.append(threads)

    return tell


def _first_failure(results: Results) -> str:
    from layersearch.space.naming import config_text

    first = results.ranking[0]
    remedy = "narrow the search" if first.trials[0].out_of_memory else "try a lower --initial_lr"
    return f"{config_text(first.config)} {first.status}; {remedy}"


def _fail(message: str, status: int) -> int:
    _tell(f"error: {message}")
    return status


def _tell(message: str) -> None:
    with suppress(OSError, ValueError):  # the terminal may be gone
        print(f"{PROG}: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        status: Any = main()
    except SystemExit as exit_:
        status = exit_.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # the stream may be closed, or be None
            stream.flush()
    # Everything is written. A normal exit would take 0.7 s to unload torch, and would wait for abandoned trainings.
    os._exit(status)
