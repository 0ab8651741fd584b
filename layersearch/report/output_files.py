"""The files that a search leaves behind: their names, their folder, and how they are written.

files = output_files(Path("output"), latent_dim=3)
files.verdict_plot                  # output/verdict_latent3.png
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from layersearch.errors import UsageError
from layersearch.files import INTERRUPTED, replacing


class OutputFiles(NamedTuple):
    """Where everything goes. The fields are also the names by which the program speaks of its files."""

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
    """Returns the files of a search with this latent size in a folder."""
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


def make_folder(name: str, latent_dim: int) -> Path:
    """Returns `--output_dir`, which is made if it is not there.

    Raises:
        UsageError: it cannot be made, or something in it is in the way of what is going to be written.
    """
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"--output_dir {name!r} cannot be made ({error}); give another") from None
    for path in output_files(folder, latent_dim):
        if path.is_dir():
            raise UsageError(f"--output_dir {name!r}: {path} is a folder; move it, or give another")
    if os.path.lexists(folder / INTERRUPTED) and not (folder / INTERRUPTED).is_dir():
        raise UsageError(f"--output_dir {name!r}: {folder / INTERRUPTED} is in the way; move it")
    return folder


def holds_complete_results(path: Path) -> bool:
    """Returns whether a finished search left its results in this file."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return not (isinstance(results, dict) and results.get("complete") is False)


def results_folder(folder: Path, latent_dim: int, *, is_complete: bool) -> Path:
    """Returns the folder, or a folder in it where results of an interrupted search would replace complete ones."""
    is_taken = holds_complete_results(output_files(folder, latent_dim).results)
    return folder if is_complete or not is_taken else folder / INTERRUPTED


def write_picture(path: Path, png: bytes) -> None:
    """Writes a picture, as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(png)


def save_state_dict(path: Path, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Writes a plain state_dict, with tensors on the CPU and nothing else: `torch.load(path, weights_only=True)`."""
    buffer = io.BytesIO()  # torch.save writes a file's name into the file, which must not be that of a temporary file
    torch.save({name: tensor.detach().cpu().clone() for name, tensor in state_dict.items()}, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
