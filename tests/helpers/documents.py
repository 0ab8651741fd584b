"""Made-up results documents, as complete as the command writes them, for tests of the report.

document = make_document("whole")
html_of(document, ["verdict_plot"])  # its report
PNG                                  # an empty picture of 1,400 x 1,000 pixels
"""

from __future__ import annotations

import copy
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from builders import WRITTEN, halve, make_configuration, make_history, make_ranking, make_results

from layersearch.command.arguments import parse_arguments
from layersearch.command.request import read_request
from layersearch.options import DECLARED, stated_value
from layersearch.report.html.page import html_report
from layersearch.report.html.pictures import PICTURES
from layersearch.report.results import Results, Written, results_document
from layersearch.space.configurations import enumerate_configurations

SEARCHED = enumerate_configurations([16, 32, 64], 2)
FAILED = (16, 16)
KINDS = ("whole", "proven", "folds", "one repeat", "one configuration", "halving", "failed", "interrupted", "nothing")
COLUMNS = ["L", "Ind", "CG"]


def _measured(value: float) -> dict[str, Any]:
    return {"value": value, "interval": [value - 0.02, value + 0.02]}


_SPACES = {"latent": _measured(0.53), "pca": _measured(0.58), "columns": _measured(0.64)}
_COMPARED = {**_SPACES, "latent_minus_pca": _measured(-0.05)}
LATENT_SPACE = {  # with labels and with clusters; a real search has only one of them
    "axes": {
        "dimensions": [1, 2, 3],
        "collapsed_dimensions": [3],
        "correlations": {"L": [0.81, -0.1, None], "Ind": [-0.2, -0.44, None], "CG": [None, None, None]},
    },
    "reconstruction": {
        "rows": 401,
        "pca_components": 3,
        "overall": {"model": 0.27, "pca": 0.45},
        "by_column": {
            "L": {"model": 0.65, "pca": 0.76},
            "Ind": {"model": -0.35, "pca": 0.07},
            "CG": {"model": None, "pca": None},
        },
    },
    "agreement": {
        "label_column": "Cluster",
        "labels": {"Profile 1, didactic": 1004, "Profile 2, didactic": 1004},
        "rows": 2008,
        "rows_with_rare_labels": 0,
        "resampled": "rows",
        "confidence": 0.95,
        "neighbours": 15,
        "folds": 5,
        "majority_share": 0.5,
        "knn_accuracy_on_test_rows": {"latent": 0.48, "pca": 0.54, "columns": 0.61},
        "knn_accuracy": _COMPARED,
        "silhouette": _COMPARED,
        "adjusted_rand_index": _COMPARED,
    },
    "clusters": {"preferred": 2, "at_least": False, "bic": [3.0, 1.0, 2.0], "rows": 2008, "sizes": [1200, 808]},
}


START = {
    "file": "a/b.pth",
    "sha256": "cd" * 32,
    "config": [64, 32],
    "latent_dim": 3,
    "model_params": 4321,
    "taken": 2468,
    "frozen": False,
    "stored_scaling": True,
}
STRONGEST = {
    "factors": ["dropout", "normalization"],
    "levels": [0.0, "none"],
    "references": [0.1, "layer"],
    "effect": 0.0031,
    "standard_error": 0.0004,
    "interval": [0.002, 0.0042],
}
STUDY = {
    "statement": ["Study at 4 epochs: of <2>", "  dropout 0 instead of 0.1: -0.0049", "", "  A lower loss"],
    "method": "contrasts",
    "epochs": 4,
    "confidence": 0.95,
    "factors": [
        {"name": "dropout", "levels": [0.0, 0.1], "reference": 0.1, "mean_losses": [0.04, 0.05]},
        {"name": "weight_decay", "levels": [1e-06, 0.01], "reference": 1e-06, "mean_losses": [0.045, 0.045]},
        {"name": "normalization", "levels": ["layer", "none"], "reference": "layer", "mean_losses": [0.045, 0.045]},
    ],
    "configurations": [[64], [32]],
    "repeats": 5,
    "left_out": [],
    "main_effects": [
        {"factor": name, "level": level, "reference": reference, "effect": effect, "standard_error": 0.001}
        | {"interval": [effect - 0.002, effect + 0.002], "by_configuration": [effect, effect]}
        for name, level, reference, effect in (
            ("dropout", 0.0, 0.1, -0.0049),
            ("weight_decay", 0.01, 1e-06, 0.0011),
            ("normalization", "none", "layer", 0.0061),
        )
    ],
    "interactions": [STRONGEST],
    "strongest_interaction": STRONGEST,
    "first_stage": None,
}
FIRST_STAGE = {
    "strategy": "halving",
    "ranking": [
        {"config": [64], "model_params": 3915, "final_test_loss": 0.04, "status": "ok"},
        {"config": [32], "model_params": 1900, "final_test_loss": 0.05, "status": "ok"},
        {"config": [16], "model_params": 900, "final_test_loss": None, "status": "dropped at epoch 1 (0.07)"},
    ],
}
ENSEMBLE = {
    "asked": "tied",
    "sha256": "cd" * 32,
    "file": "ensemble_latent3.pth",
    "configurations": 2,
    "left_out": 0,
    "members": [{}, {}, {}],
    "test_loss": 0.0321,
    "mean_member_test_loss": 0.0411,
    "best_single": {"config": [64, 64], "repeat": 1, "test_loss": 0.0401},
    "difference": -0.008,
    "difference_interval": [-0.0091, -0.0069],
    "reference": 0,
    "mean_agreement": 0.91,
}
MODES = ("start", "frozen", "study", "best crossed", "ensemble")


def make_mode(mode: str) -> dict[str, Any]:
    """The document of a whole search with what one of `MODES` adds to it."""
    document = make_document()
    if mode in ("start", "frozen"):
        return {**document, "init_from": copy.deepcopy({**START, "frozen": mode == "frozen"})}
    if mode == "ensemble":
        return {**document, "ensemble": copy.deepcopy(ENSEMBLE)}
    document["search"] |= {"space_size": 16, "tried": 16}  # 2 configurations x 8 combinations
    first = None
    if mode == "best crossed":
        first = FIRST_STAGE
        document["args"] |= {"search": "halving", "study_configs": 2}
    return {**document, "study": copy.deepcopy({**STUDY, "first_stage": first})}


def make_document(kind: str = "whole", flags: Sequence[str] = ()) -> dict[str, Any]:
    """The document of a search of one of `KINDS`, with these flags among its arguments."""
    results, own = _results_of(kind)
    given = read_request(parse_arguments([*own, *flags])).arguments
    low, high = np.zeros(3, np.float32), np.full(3, 87.5, np.float32)
    document = results_document(
        results,
        WRITTEN if results.best else Written(),
        args=given,
        environment={
            "python": "3.11.7",
            "torch": "2.13.0",
            "numpy": "2.4.6",
            "scikit-learn": "1.9.1",
            "numba": "0.68.1",
            "optuna": None,
            "platform": "Linux-6.1",
            "processor": "A processor",
            "device": "cpu",
            "device_name": None,
            "engine": "compiled",
            "threads": 2,
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
        },
        data={
            "path": "somewhere/classes.csv",
            "sha256": "ab" * 32,
            "rows": 2008,
            "columns": COLUMNS,
            "missing_cells": 17,
            "zero_cells": 1234,
            "mapped_columns": {"CG": "Clicker"},
            "label_column": "Cluster",
            "group_column": None,
            "groups": None,
            "stratify_column": None,
            "notices": ["4 cells above 100 %, used as they are"],
            "train_rows": 1607,
            "test_rows": 401,
            "validation_rows": 0,
            "synthetic": False,
            "scaling": {"kind": "robust", "low": low, "high": high, "percentiles": [1, 99]},
        },
        timing={"train": 2.5, "total": 7.25},
        timestamp="2026-01-02T03:04:05+00:00",
    )
    return {**document, "latent_space": LATENT_SPACE if results.best else None}


def _results_of(kind: str) -> tuple[Results, list[str]]:
    if kind in ("failed", "nothing"):
        ranking = make_ranking(SEARCHED, repeats=2, epochs=4, failed=SEARCHED) if kind == "failed" else []
        results = make_results(ranking)
        searched = results.searched._replace(n_configurations=len(SEARCHED))
        return replace(results, searched=searched, is_complete=kind == "failed"), []
    if kind == "one configuration":
        return make_results(make_ranking([(64,)], repeats=3, epochs=4)), ["--hidden_dims_search", "64"]
    if kind == "one repeat":
        return make_results(make_ranking(SEARCHED, repeats=1, epochs=4)), ["--repeats", "1"]
    if kind == "proven":
        losses = {config: 0.08 if config != (64,) else 0.04 for config in SEARCHED}
        ranking = [make_configuration(config, [loss + 0.0001 * r for r in range(5)]) for config, loss in losses.items()]
        return make_results(sorted(ranking, key=lambda c: (c.final_test_loss, c.model_params))), []
    if kind == "folds":
        return make_results(make_ranking(SEARCHED, repeats=3, folds=2, epochs=4)), ["--cv_folds", "2"]
    if kind == "halving":
        ranking = halve(make_ranking(SEARCHED, repeats=3, epochs=4), rungs=[1, 2])
        return make_results(ranking, history=make_history(ranking, "halving")), ["--search", "halving"]
    whole = make_results(make_ranking(SEARCHED, repeats=5, epochs=4, failed=[FAILED], seed=4))
    if kind == "interrupted":
        history = make_history(whole.ranking, space_size=34)
        searched = whole.searched._replace(n_configurations=34, history=history)
        return replace(whole, searched=searched, is_complete=False, probe=None), []
    return whole, []


DRAWN = [name for name in PICTURES if name != "study_plot"]  # by a search that is no study


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = b"".join(
    (
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", struct.pack(">IIBBBBB", 1400, 1000, 8, 0, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(1000 * (b"\0" + 1400 * b"\xff"))),
        _chunk(b"IEND", b""),
    )
)


DEFAULTS = {name: stated_value(name, option.default) for name, option in DECLARED.items()}


def html_of(document: dict[str, Any], names: Iterable[str] = ()) -> str:
    """The report of a document, with an empty picture for each of these names."""
    return html_report(document, dict.fromkeys(names, PNG), DEFAULTS)
