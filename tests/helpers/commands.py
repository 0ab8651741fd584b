"""Running the command in a test: what it leaves behind, and small searches."""

from __future__ import annotations

import io
import json
import pickle
import random
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from builders import make_failed_trial

import hyperparam_optimizer
from layersearch.engines import dispatch, training
from layersearch.latent import findings
from layersearch.pictures import drawing
from layersearch.pictures.latent import drawing as latent_drawing
from layersearch.space.trials import Trial, TrialResult
from layersearch.words import PROG

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = json.loads((ROOT / "docs" / "results_schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
ROWS = 60
SMALL = ["--hidden_dims_search", "8,16", "--max_layers", "2", "--epochs", "3", "--repeats", "2", "--threads", "2"]
SMALL_CONFIGURATIONS = 5
TINY = ["--hidden_dims_search", "4", "--max_layers", "1", "--epochs", "1", "--repeats", "1"]

# Two orders of summation over the 3 epochs of a short run; a training only drifts apart slowly.
ENGINE_TOLERANCE = 1e-4
# A code as text and back, and matrix products of another shape.
CODE_TOLERANCE = 1e-5


class Run(NamedTuple):
    """What a run of the command left behind."""

    status: object
    out: str
    err: str
    folder: Path
    global_state_kept: bool

    def results(self) -> dict[str, Any]:
        """The JSON."""
        (path,) = self.folder.glob("hyperparam_results_latent*.json")
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document

    def files(self) -> set[str]:
        """The names of all files."""
        return {path.name for path in self.folder.iterdir()}


def run(folder: Path, *arguments: object, pictures: bool = False, latent: bool = False) -> Run:
    """Runs the command in this process.

    Pictures and the numbers of the latent space take most of a short run's time, so most runs leave them out.
    `pictures` asks for both, `latent` for the numbers alone.
    """
    out, err = io.StringIO(), io.StringIO()
    before = global_state()
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        if not pictures:
            stack.enter_context(mock.patch.object(drawing, "draw_search", return_value={}))
            stack.enter_context(mock.patch.object(latent_drawing, "draw", return_value={}))
        if not (pictures or latent):
            stack.enter_context(mock.patch.object(findings, "_examine", lambda loaded, model, found, **_: found))
        try:
            status: object = hyperparam_optimizer.main([*map(str, arguments), "--output_dir", str(folder)])
        except SystemExit as exit_:
            status = exit_.code
    return Run(status, out.getvalue(), err.getvalue(), folder, global_state() == before)


def global_state() -> tuple[object, ...]:
    """What all code of a process shares and a run may not change: the random generators, torch's threads."""
    numpys = pickle.dumps(np.random.get_state())  # noqa: NPY002 - the global generator is what is looked at
    return random.getstate(), numpys, torch.get_rng_state().tolist(), torch.get_num_threads()


def but_for_time(results: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in results.items() if name not in ("timestamp", "timing")}


def but_for_threads(results: dict[str, Any]) -> dict[str, Any]:
    """Nor for machines and the folder; nor for the commit: whoever works here may commit in between."""
    kept, left_out = but_for_time(results), ("threads", "output_dir", "git_commit", "distributed", "ray_address")
    for part in ("args", "environment"):
        kept[part] = {name: value for name, value in kept[part].items() if name not in left_out}
    return kept


def make_diverge(monkeypatch: pytest.MonkeyPatch, fails: Callable[[Trial], bool]) -> None:
    """From now on these trials diverge."""
    make_trainer = dispatch.make_trainer

    def make_failing(*arguments: Any) -> Callable[[Trial], TrialResult]:
        train = make_trainer(*arguments)
        return lambda trial: make_failed_trial(trial.config, trial.repeat, trial.fold) if fails(trial) else train(trial)

    monkeypatch.setattr(training, "make_trainer", make_failing)


def assert_one_line(done: Run, status: int) -> str:
    """Checks status and stderr's single line; returns what it says."""
    assert done.status == status
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"{PROG}: ")
    return done.err.removeprefix(f"{PROG}: ").rstrip("\n")
