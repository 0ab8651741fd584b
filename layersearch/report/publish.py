"""Writes everything that a search found: all files at once, or on any fault none.

    published = publish(Path("output"), content, stopwatch, saves_model=True)
    published.document                  # what the JSON holds

What each file holds is up to `results.py`, `tables.py`, `study.py`, `html/` and the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from layersearch.console import Stopwatch
from layersearch.files import publishing, replacing
from layersearch.latent.codes import error_quantiles
from layersearch.latent.ensemble import EnsembleFindings, encode_all, ensemble_entry
from layersearch.loading.loaded import Loaded, describe_data
from layersearch.options import DECLARED, stated_value
from layersearch.report.html.page import html_report
from layersearch.report.html.pictures import PICTURES
from layersearch.report.output_files import OutputFiles, output_files, save_state_dict, write_picture
from layersearch.report.results import Results, Written, results_document, write_json
from layersearch.report.study import write_study_csv
from layersearch.report.tables import write_codes, write_csv
from models import DynamicAutoencoder

if TYPE_CHECKING:
    from layersearch.latent.findings import LatentFindings


class Content(NamedTuple):
    """What is to be written."""

    results: Results
    loaded: Loaded
    model: DynamicAutoencoder | None  # of the best configuration
    environment: Mapping[str, Any]
    pictures: Mapping[str, bytes] = {}  # PNGs, by the field of `OutputFiles` that says where each goes
    latent: LatentFindings | None = None  # what the model makes of the table
    args: Mapping[str, Any] = {}  # the value of each option by name
    init_from: Mapping[str, Any] | None = None  # the saved model that trainings started from


class Published(NamedTuple):
    """What was written."""

    folder: Path
    document: dict[str, Any]  # the JSON's content
    model: DynamicAutoencoder | None  # of the best configuration; None if it was not trained to its end
    files: dict[str, Path]  # by the field of `OutputFiles`
    left: list[str]  # the names of files from an earlier run that were not written anew


def publish(folder: Path, content: Content, stopwatch: Stopwatch, *, saves_model: bool) -> Published:
    """Writes all files to a folder, or on any fault none.

    If every configuration failed there are only JSON, CSV and HTML.

    Args:
        folder: where the files go.
        content: what they say.
        stopwatch: ends the stage "report", whose time the JSON states.
        saves_model: whether the best model is saved.

    Raises:
        OSError: a file could not be written; what was there before is as it was.
    """
    results, loaded = content.results, content.loaded
    latent_dim = int(content.args["latent_dim"])
    files = output_files(folder, latent_dim)
    with publishing(folder) as draft_folder:
        drafts = output_files(draft_folder, latent_dim)
        written = Written()
        if content.model and saves_model:
            save_state_dict(drafts.model, content.model.state_dict())
            digest = sha256(drafts.model.read_bytes()).hexdigest()
            written = written._replace(model_file=drafts.model.name, model_sha256=digest)
        for name, png in content.pictures.items():
            write_picture(getattr(drafts, name), png)
        if content.latent:
            written = written._replace(**_write_codes(content.latent, loaded, drafts))
        if results.ensemble:
            written = written._replace(ensemble=_write_ensemble(results.ensemble, loaded, drafts))
        write_csv(drafts.csv, results.ranking, results.verdict)
        if results.verdict and results.verdict.study:
            write_study_csv(drafts.study_csv, results.verdict.study)
        stopwatch.lap("report")
        document = results_document(
            results,
            written,
            args=content.args,
            environment=content.environment,
            data=describe_data(loaded),
            timing=stopwatch.timing(),
            init_from=content.init_from,
        )
        write_json(drafts.results, document)
        _write_html(document, drafts)
        new = {name: path for name, path in files._asdict().items() if getattr(drafts, name).exists()}
    left = [path.name for name, path in files._asdict().items() if path.exists() and name not in new]
    return Published(folder, document, content.model, new, left)


def _write_html(document: dict[str, Any], files: OutputFiles) -> None:
    """Writes the report, with those pictures that are among the files already."""
    paths = {name: getattr(files, name) for name in PICTURES}
    defaults = {name: stated_value(name, option.default) for name, option in DECLARED.items()}
    text = html_report(document, {name: path.read_bytes() for name, path in paths.items() if path.exists()}, defaults)
    with replacing(files.report) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _write_codes(found: LatentFindings, loaded: Loaded, files: OutputFiles) -> dict[str, Any]:
    """Writes every row's latent codes; returns what the results repeat of them."""
    dataset, table, errors = loaded.dataset, loaded.table, found.errors
    columns = {"reconstruction_error": errors}
    write_codes(files.codes, found.codes, columns, table.is_test, dataset.row_numbers, dataset.others)
    quantiles = {}
    if np.isfinite(errors).all():  # for --encode, which tells how a row's error compares with these
        parts = {"training_errors": table.train, "test_errors": table.test}
        quantiles = {name: error_quantiles(errors[rows.cpu().numpy()]) for name, rows in parts.items()}
    return {"latent_space": found.entry(), **quantiles}


def _write_ensemble(found: EnsembleFindings, loaded: Loaded, files: OutputFiles) -> dict[str, Any]:
    """Writes the ensemble's tensors and its codes of every row; returns its part of the results."""
    dataset = loaded.dataset
    save_state_dict(files.ensemble, found.ensemble.state_dict())
    codes, columns = encode_all(found, loaded)
    write_codes(files.ensemble_codes, codes, columns, loaded.table.is_test, dataset.row_numbers, dataset.others)
    return ensemble_entry(found, columns["reconstruction_error"], loaded, files.ensemble)
