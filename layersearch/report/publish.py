"""Writing all that a search reports: which files, in which order, and the closing summary between them.

    write_report(arguments, loaded, training, findings, environment, stopwatch, console)

What each file holds is up to `report.py`, `tables.py` and the modules of the pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from layersearch.console import Console, Stopwatch
from layersearch.errors import UsageError
from layersearch.words import count

if TYPE_CHECKING:
    import numpy as np

    from layersearch.background import Aside
    from layersearch.engines.training import Training
    from layersearch.latent.ensemble import EnsembleFindings
    from layersearch.latent.findings import LatentFindings
    from layersearch.loading.loaded import Loaded
    from layersearch.report.results import Findings
    from layersearch.search.running import Search
    from layersearch.space.ranking import ConfigurationResult
    from layersearch.space.trials import TrialResult
    from layersearch.verdict.verdict import Verdict
    from models import DynamicAutoencoder

SELECTED = {"best": "best", "simplest": "simplest tied"}
PICTURES = ("layersearch.pictures.search_pictures",)
SAMPLE_NOTE = "Synthetic sample data (data/sample.csv), not real classes"


def write_report(
    arguments: argparse.Namespace,
    loaded: Loaded,
    training: Training,
    findings: Findings,
    pictures: Aside[dict[str, bytes]] | None,
    look: Aside[Look] | None,
    environment: dict[str, Any],
    stopwatch: Stopwatch,
    console: Console,
) -> Report:
    """Writes all files, or on any fault none, and prints the closing summary.

    `pictures`: those of `draw_pictures`; `look`: what `look_at_latent_space` found, where there is a model.

    Of a search that failed entirely there are only JSON, CSV and HTML. One that was interrupted does not take the
    place of complete results: its files go to a folder `interrupted` beside them.
    """
    from layersearch.engines.lifecycle import trained_model
    from layersearch.files import publishing
    from layersearch.loading.loaded import describe_data
    from layersearch.loading.start import describe_start
    from layersearch.report.results import closing_files, results_document, search_line, write_json
    from layersearch.report.study import write_study_csv
    from layersearch.report.tables import write_csv

    folder = _results_folder(arguments, findings)
    files = output_files(folder, arguments.latent_dim)
    chosen, verdict = findings.chosen, findings.verdict
    model = trained_model(findings.trained, loaded.table, training.settings) if findings.trained else None
    with publishing(folder) as draft_folder:
        drafts = output_files(draft_folder, arguments.latent_dim)
        if chosen:
            saved = files.model if arguments.save_models and model else None
            if saved and model:
                findings = write_model(model, findings, drafts)
            _summarize(findings, loaded, training, saved, console)
            for name, png in pictures.result().items() if pictures else ():
                write_picture(getattr(drafts, name), png)
            findings = write_models_findings(findings, loaded, look, drafts, console)
        write_csv(drafts.csv, findings.ranking, findings.verdict)
        if verdict and verdict.study:
            write_study_csv(drafts.study_csv, verdict.study)
        stopwatch.lap("report")
        document = results_document(
            findings,
            args=vars(arguments),
            environment=environment,
            data=describe_data(loaded),
            timing=stopwatch.timing(),
            init_from=describe_start(
                loaded.source, loaded.is_scaling_stored, chosen, loaded.table.input_dim, training.settings
            ),
        )
        write_json(drafts.results, document)
        write_html(document, drafts)
        written = {name: path for name, path in files._asdict().items() if getattr(drafts, name).exists()}
    left = [path.name for name, path in files._asdict().items() if path.exists() and name not in written]
    if chosen:
        silent = set() if search_line(findings) else {"history_plot"}
        console.summarize(closing_files({name: path for name, path in written.items() if name not in silent}))
    if left:
        console.notice(f"left from an earlier run, and not written by this one: {', '.join(left)}")
    if not findings.is_complete:
        done = f"{len(findings.ranking)} of {count(findings.n_configurations, 'configuration')} trained"
        same = "the same command" + (" without --fresh" if arguments.fresh else "")
        console.warn(f"interrupted, {done}; {same} goes on from here")
    return Report(folder, document, model)


def _results_folder(arguments: argparse.Namespace, findings: Findings) -> Path:
    """`--output_dir`, or where the results of an interrupted search do not take the place of complete ones."""
    from layersearch.files import INTERRUPTED

    folder = Path(arguments.output_dir)
    is_taken = holds_complete_results(output_files(folder, arguments.latent_dim).results)
    return folder if findings.is_complete or not is_taken else folder / INTERRUPTED


def _summarize(findings: Findings, loaded: Loaded, training: Training, saved: Path | None, console: Console) -> None:
    """Prints the closing summary, up to the names of the pictures."""
    from layersearch.report.results import closing_summary, search_line
    from layersearch.report.study import state_study
    from layersearch.verdict.conclusion import state_findings

    assert findings.chosen is not None
    assert findings.verdict is not None
    statement = state_findings(findings, loaded, _time_text(findings, training))
    study = findings.verdict.study
    statement += ["", *state_study(study)] if study else []
    line = search_line(findings)
    console.summarize(closing_summary(findings.chosen, saved, statement, is_complete=findings.is_complete, search=line))


def write_model(model: DynamicAutoencoder, findings: Findings, files: OutputFiles) -> Findings:
    """Saves the best model; the findings then name the file and its digest."""
    from layersearch.report.results import save_state_dict

    save_state_dict(files.model, model.state_dict())
    digest = sha256(files.model.read_bytes()).hexdigest()
    return replace(findings, saved_model_file=files.model.name, saved_model_sha256=digest)


def write_models_findings(
    findings: Findings, loaded: Loaded, look: Aside[Look] | None, files: OutputFiles, console: Console
) -> Findings:
    """Writes what the best model and the ensemble make of the table; the findings then hold it."""
    if look:
        seen, latent_pictures = look.result()
        write_latent_space(seen, latent_pictures, loaded, files)
        findings = replace(findings, latent_space=seen.entry(), **_errors_by_part(seen.errors, loaded))
        for notice in seen.notices:
            console.notice(notice)
    if findings.ensemble:
        findings = replace(findings, ensemble_entry=write_ensemble(findings.ensemble, loaded, files))
    return findings


def _errors_by_part(errors: np.ndarray, loaded: Loaded) -> dict[str, Any]:
    """How errors [N] are distributed in training and in test rows, for `--encode`; nothing if some are not finite."""
    import numpy as np

    from layersearch.latent.codes import error_quantiles

    parts = {"training_errors": loaded.table.train, "test_errors": loaded.table.test}
    if not np.isfinite(errors).all():
        return {}
    return {name: error_quantiles(errors[rows.cpu().numpy()]) for name, rows in parts.items()}


class Report(NamedTuple):
    """What was written."""

    folder: Path
    document: dict[str, Any]  # the JSON's content
    model: DynamicAutoencoder | None  # of the chosen configuration; None where it was not trained to its end


class Look(NamedTuple):
    """What was found in the best model's latent space."""

    findings: LatentFindings
    pictures: dict[str, bytes]  # PNGs, by the field of `OutputFiles` that says where each goes


class OutputFiles(NamedTuple):
    """Where everything goes."""

    results: Path
    csv: Path
    report: Path
    model: Path
    codes: Path
    ensemble: Path
    ensemble_codes: Path
    search_plot: Path
    configurations_plot: Path
    verdict_plot: Path
    history_plot: Path
    latent_plot: Path
    study_plot: Path
    study_csv: Path
    axes_plot: Path
    reconstruction_plot: Path
    agreement_plot: Path
    clusters_plot: Path


def output_files(folder: Path, latent_dim: int) -> OutputFiles:
    """The files in this folder."""
    latent = f"latent{latent_dim}"
    return OutputFiles(
        results=folder / f"hyperparam_results_{latent}.json",
        csv=folder / f"hyperparam_results_{latent}.csv",
        report=folder / f"report_{latent}.html",
        model=folder / f"best_model_{latent}.pth",
        codes=folder / f"latent_codes_{latent}.csv",
        ensemble=folder / f"ensemble_{latent}.pth",
        ensemble_codes=folder / f"ensemble_codes_{latent}.csv",
        search_plot=folder / f"hyperparam_search_{latent}.png",
        configurations_plot=folder / f"config_performance_{latent}.png",
        verdict_plot=folder / f"verdict_{latent}.png",
        history_plot=folder / f"search_history_{latent}.png",
        latent_plot=folder / ("latent_space_2d_best_config.png" if latent_dim == 2 else f"latent_space_{latent}.png"),
        study_plot=folder / f"study_{latent}.png",
        study_csv=folder / f"study_{latent}.csv",
        axes_plot=folder / f"latent_axes_{latent}.png",
        reconstruction_plot=folder / f"reconstruction_by_code_{latent}.png",
        agreement_plot=folder / f"label_agreement_{latent}.png",
        clusters_plot=folder / f"latent_clusters_{latent}.png",
    )


def make_folder(arguments: argparse.Namespace) -> Path:
    """`--output_dir`, made if need be, with nothing in the way of what is going to be written there."""
    from layersearch.files import INTERRUPTED

    folder = Path(arguments.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"--output_dir {arguments.output_dir!r} cannot be made ({error}); give another") from None
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


def import_late(arguments: argparse.Namespace, drafts: Path) -> None:
    """Imports what is needed after the trainings; it takes half a second, which is less beside them.

    Not scikit-learn, which the latent space needs: that takes longer, and the verdict would wait for it. What fails
    here fails again, and is told, where it is needed. `drafts`: for what Matplotlib cannot keep elsewhere.
    """
    from layersearch.pictures.headless import headless

    several = arguments.repeats * max(arguments.cv_folds, 1) > 1
    late = [
        *(["scipy.special"] if several else []),
        *PICTURES,
        *(["layersearch.pictures.study"] if arguments.study else []),
    ]
    if sys.modules.keys() >= set(late):
        return
    with suppress(Exception), headless(drafts):
        for name in late:
            import_module(name)


def draw_pictures(
    arguments: argparse.Namespace, loaded: Loaded, search: Search, verdict: Verdict, *, drafts: Path, after: Aside[None]
) -> dict[str, bytes]:
    """The pictures of the search as PNGs, by the field of `OutputFiles` that says where each goes.

    Begins when `after`, the call of `import_late`, has ended. Other threads may go on meanwhile, as `headless` says.
    """
    from layersearch.pictures.headless import headless

    after.result()
    with headless(drafts):
        from layersearch.pictures.search_pictures import draw_search_pictures

        return draw_search_pictures(
            search.ranking,
            search.history,
            verdict,
            latent_dim=arguments.latent_dim,
            first=search.first.history if search.first else None,
            note=SAMPLE_NOTE if loaded.is_sample else None,
        )


def write_picture(path: Path, png: bytes) -> None:
    """Whole or not at all."""
    from layersearch.files import replacing

    with replacing(path) as temporary:
        temporary.write_bytes(png)


def write_html(document: dict[str, Any], files: OutputFiles) -> None:
    """Writes the report, with those pictures that are among the files already."""
    from layersearch.command.arguments import build_parser
    from layersearch.files import replacing
    from layersearch.report.html.page import html_report
    from layersearch.report.html.pictures import PICTURES

    defaults = {action.dest: action.default for action in build_parser()._actions}
    paths = {name: getattr(files, name) for name in PICTURES}
    pictures = {name: path.read_bytes() for name, path in paths.items() if path.exists()}
    text = html_report(document, pictures, defaults)
    with replacing(files.report) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def look_at_latent_space(
    arguments: argparse.Namespace,
    loaded: Loaded,
    training: Training,
    chosen: ConfigurationResult,
    trained: TrialResult,
    *,
    drafts: Path,
    after: Aside[None],
    drawn: Aside[dict[str, bytes]],
) -> Look:
    """What the chosen configuration's model makes of the table, for the JSON and as pictures.

    Begins when `after`, the call of `import_late`, has ended, and draws when `drawn`, that of `draw_pictures`, has:
    Matplotlib draws one picture at a time.
    """
    after.wait()
    from layersearch.engines.lifecycle import trained_model
    from layersearch.latent.findings import examine
    from layersearch.pictures.headless import headless

    model = trained_model(trained, loaded.table, training.settings)
    found = examine(loaded, model, seed=arguments.seed, confidence=arguments.confidence)
    drawn.wait()
    with headless(drafts):
        from layersearch.pictures.latent.drawing import draw
        from layersearch.space.naming import name_in_words

        title = f"the {SELECTED[arguments.select]} configuration, {name_in_words(chosen.config)}"
        return Look(found, draw(found, loaded, title=title, note=SAMPLE_NOTE if loaded.is_sample else None))


def write_latent_space(
    found: LatentFindings, pictures: Mapping[str, bytes], loaded: Loaded, files: OutputFiles
) -> None:
    """Writes every row's latent codes, and the pictures."""
    from layersearch.report.tables import write_codes

    dataset = loaded.dataset
    columns = {"reconstruction_error": found.errors}
    write_codes(files.codes, found.codes, columns, loaded.table.is_test, dataset.row_numbers, dataset.others)
    for name, png in pictures.items():
        write_picture(getattr(files, name), png)


def write_ensemble(found: EnsembleFindings, loaded: Loaded, files: OutputFiles) -> dict[str, Any]:
    """Writes the ensemble's tensors and its codes of every observation; returns its part of the results."""
    from layersearch.latent.ensemble import encode_all, ensemble_entry
    from layersearch.report.results import save_state_dict
    from layersearch.report.tables import write_codes

    dataset = loaded.dataset
    save_state_dict(files.ensemble, found.ensemble.state_dict())
    codes, columns = encode_all(found, loaded)
    write_codes(files.ensemble_codes, codes, columns, loaded.table.is_test, dataset.row_numbers, dataset.others)
    return ensemble_entry(found, columns["reconstruction_error"], loaded, files.ensemble)


def _time_text(findings: Findings, training: Training) -> str:
    """How long the search takes with the epochs that the probe suggests; nothing where it suggests none."""
    if findings.probe is None or findings.probe.suggested_epochs is None:
        return ""
    trained = sum(result.seconds for configuration in findings.ranking for result in configuration.trials)
    seconds = trained / training.threads * findings.probe.suggested_epochs / training.settings.epochs
    if seconds < 90:
        return f"takes about {max(seconds, 1):.0f} s"
    return f"takes about {seconds / 60:.0f} min" if seconds < 5400 else f"takes about {seconds / 3600:.0f} h"
