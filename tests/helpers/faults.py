"""Faults at an exact moment of a run, and what a folder must hold afterwards."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import but_for_threads

from layersearch.command import interruption
from layersearch.engines import dispatch, training
from layersearch.journal import journal
from layersearch.space.trials import Trial, TrialResult

HOUSEKEEPING = ("journal_latent", ".lock")  # how the names of files begin that are no results
WAITING_SECONDS = 20.0  # longer than any run of a test goes on after it was asked to stop
WAY = ("fresh", "quiet")  # arguments that change nothing


def after_record(monkeypatch: pytest.MonkeyPatch, number: int, fault: Callable[[], object]) -> None:
    """`fault` happens when the journal has got so many records of trainings."""
    append, count = journal.Journal.append, [0]

    def append_and_fail(self: journal.Journal, *arguments: Any, **named: Any) -> None:
        append(self, *arguments, **named)
        count[0] += 1
        if count[0] == number:
            fault()

    monkeypatch.setattr(journal.Journal, "append", append_and_fail)


def stopping_after_record(monkeypatch: pytest.MonkeyPatch, number: int, fault: Callable[[], object]) -> None:
    """The same, and until the run has stopped no further training is finished. For --threads 1."""
    after_record(monkeypatch, number, fault)
    make_trainer, started = dispatch.make_trainer, itertools.count(1)

    def make_waiting(*arguments: Any) -> Callable[[Trial], TrialResult]:
        train = make_trainer(*arguments)

        def train_or_wait(trial: Trial) -> TrialResult:
            if next(started) > number:
                threading.Event().wait(WAITING_SECONDS)  # in a thread that nobody waits for
            return train(trial)

        return train_or_wait

    monkeypatch.setattr(training, "make_trainer", make_waiting)


def before_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, fault: Callable[[], object]) -> None:
    """`fault` happens whenever this function is about to be called."""
    called = getattr(owner, name)

    def fail_and_call(*arguments: Any, **named: Any) -> Any:
        fault()
        return called(*arguments, **named)

    monkeypatch.setattr(owner, name, fail_and_call)


def during_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, fault: Callable[[], Any]) -> None:
    """The context manager `fault` holds for as long as this function runs."""
    called = getattr(owner, name)

    def call_within(*arguments: Any, **named: Any) -> Any:
        with fault():
            return called(*arguments, **named)

    monkeypatch.setattr(owner, name, call_within)


def raising(number: int, times: int = 1) -> Callable[[], None]:
    """What sends this process a signal, so many times."""

    def send() -> None:
        for _ in range(times):
            signal.raise_signal(number)

    return send


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a signal that follows at once is a second one."""
    monkeypatch.setattr(interruption, "ONCE_SECONDS", 0.0)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: the system refuses the write, as it does on a full disk."""
    resource = pytest.importorskip("resource")  # not on Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a training is a failure."""

    def train(trial: Trial) -> TrialResult:
        pytest.fail(f"{trial} is trained again")

    monkeypatch.setattr(training, "make_trainer", lambda *_: train)


def let_trainings_end() -> None:
    """What goes on in threads that nobody waits for ends with the process; here it is waited for."""
    for thread in threading.enumerate():
        if thread.name == "trainer":
            thread.join(WAITING_SECONDS)


def snapshot(folder: Path) -> dict[str, bytes]:
    """The bytes of every result, by its path below `folder`."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(HOUSEKEEPING)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def assert_nothing_is_left_over(folder: Path) -> None:
    """No temporary file, and nobody claims to be at work there."""
    left = [path.name for path in folder.rglob("*") if ".tmp" in path.name or path.name == ".running"]
    assert left == []


def assert_same_results(folder: Path, expected: Path, latent_dim: int = 3) -> None:
    """Bit for bit the same, times and the way there aside."""
    document, wanted = (_results(place, latent_dim) for place in (folder, expected))
    assert document == wanted
    for name in ("hyperparam_results", "latent_codes"):
        assert (folder / f"{name}_latent{latent_dim}.csv").read_bytes() == (
            expected / f"{name}_latent{latent_dim}.csv"
        ).read_bytes()
    models = [place / f"best_model_latent{latent_dim}.pth" for place in (folder, expected)]
    assert models[0].exists() == models[1].exists()
    if models[0].exists():
        assert models[0].read_bytes() == models[1].read_bytes()


def _results(folder: Path, latent_dim: int) -> dict[str, Any]:
    text = (folder / f"hyperparam_results_latent{latent_dim}.json").read_text(encoding="utf-8")
    kept = but_for_threads(json.loads(text))
    kept["args"] = {name: value for name, value in kept["args"].items() if name not in WAY}
    return kept


def can_mount() -> bool:
    """Whether this process may mount file systems."""
    return sys.platform == "linux" and os.geteuid() == 0
