"""Stopping a search in a test, going on with it, and comparing what it leaves with one that was never stopped.

done = goes_on_from(some_of_a_journal, tmp_path / "on", "--data_path", table, *SEARCHES["plain"])
assert outputs(done.folder) == outputs(whole.folder)
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import soak
from commands import SMALL, Run, but_for_threads, run
from journals import journal_path

from layersearch.engines import training
from layersearch.engines.workers import run_trials
from layersearch.journal.journal import Journal
from layersearch.space.trials import Trial, TrialResult

SEARCHES = {
    "plain": [*SMALL, "--save_models"],
    "folds": [*SMALL, "--hidden_dims_search", "8", "--cv_folds", "2", "--save_models"],
}
N_TRIALS = 10  # of the plain one


class KilledError(BaseException):
    """As if the process ended here: nothing of the program's catches it."""


def outputs(folder: Path) -> dict[str, object]:
    """All that a search leaves, but times, the folder's name and the number of threads."""
    found = soak.outputs(folder)
    for path in folder.glob("*.json"):
        found[path.name] = json.dumps(but_for_threads(json.loads(path.read_text(encoding="utf-8"))))
    return found


def reports(folder: Path) -> dict[str, object]:
    """The same without the journal, which may hold trainings of other searches too."""
    return {name: content for name, content in outputs(folder).items() if not name.startswith("journal")}


def goes_on_from(left: bytes, folder: Path, *arguments: object) -> Run:
    """Runs the command where there is only this journal."""
    folder.mkdir()
    journal_path(folder).write_bytes(left)
    return run(folder, *arguments)


def note_trials(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """All trials that are trained from now on."""
    trials: list[Trial] = []

    def note(some: Sequence[Trial], *arguments: Any, **options: Any) -> Iterator[TrialResult]:
        trials.extend(some)
        yield from run_trials(some, *arguments, **options)

    monkeypatch.setattr(training, "run_trials", note)
    return trials


def run_until(number: int, folder: Path, *arguments: object, owner: type = Journal, method: str = "append") -> None:
    """Runs the command until so many trainings are in the journal, or something else has been done so many times."""
    work, done = getattr(owner, method), [0]

    def work_or_end(*given: Any, **options: Any) -> None:
        if done[0] < number:
            work(*given, **options)
            done[0] += 1
        if done[0] >= number:  # from now on nothing more is done
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, work_or_end)
        with pytest.raises(KilledError):
            run(folder, *arguments)
        for thread in threading.enumerate():
            if thread.name == "trainer":  # a process that is killed takes it with it
                thread.join(10)


def trained_again(trained: Sequence[Trial], left: bytes, folder: Path) -> int:
    """How many of what was trained since there was only `left` did not lead to a new record."""
    return len(trained) - (n_records(journal_path(folder).read_bytes()) - n_records(left))


def n_records(data: bytes) -> int:
    """Trainings in a journal."""
    return data.count(b'"kind":"trial"')
