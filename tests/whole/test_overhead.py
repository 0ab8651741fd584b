"""What the command does not need is not imported, what it needs late is imported beside the trainings."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, SMALL, TINY, Run, assert_one_line, run
from faults import WAITING_SECONDS, before_call, impatient, snapshot

from hyperparam_optimizer import search
from layersearch import background
from layersearch.background import Background, Deferred, Task, hurrying
from layersearch.command import announce
from layersearch.console import Console
from layersearch.errors import Interrupted
from layersearch.files import DRAFTS
from layersearch.pictures import drawing, search_pictures
from layersearch.pictures.curves import draw_curves
from layersearch.search import running
from layersearch.verdict import conclusion


def wait_until(is_so: Callable[[], bool]) -> None:
    """Raises TimeoutError if that takes too long."""
    until = time.monotonic() + WAITING_SECONDS
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.01)


# ------------------------------------------------------------------------------------ aside


def test_a_task_returns_what_the_call_returns_and_runs_beside() -> None:
    go_on = threading.Event()
    task = Task(lambda: go_on.wait(WAITING_SECONDS))
    go_on.set()
    assert task.result() is True
    assert task.result() is True


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, MemoryError])
def test_a_task_raises_what_the_call_raises(fault: type[BaseException]) -> None:
    def fail() -> None:
        raise fault("here")

    with pytest.raises(fault, match="here"):
        Task(fail).result()


def test_without_another_thread_it_is_done_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Task(threading.get_ident).result() == threading.get_ident()


def test_a_task_gets_the_results_of_the_tasks_among_its_arguments() -> None:
    with Background(abandoned_on=Interrupted) as beside:
        two, three = beside.start(lambda: 2), beside.start(lambda: 3)
        power = beside.start(pow, two, exp=three)
    assert power.result() == 8


def test_a_task_waits_for_another_however_that_ends() -> None:
    done: list[str] = []

    def fail() -> None:
        time.sleep(0.05)
        done.append("first")
        raise ValueError

    with Background(abandoned_on=Interrupted) as beside:
        first = beside.start(fail)
        beside.start(done.append, "second", after=first)
    assert done == ["first", "second"]


def test_a_task_whose_argument_failed_fails_with_its_fault() -> None:
    def fail() -> int:
        raise ValueError("here")

    with Background(abandoned_on=Interrupted) as beside:
        both = beside.start(abs, beside.start(fail))
    with pytest.raises(ValueError, match="here"):
        both.result()


@pytest.mark.parametrize(("fault", "is_waited_for"), [(KeyboardInterrupt, True), (Interrupted, False)])
def test_tasks_are_waited_for_unless_the_process_ends(fault: type[BaseException], is_waited_for: bool) -> None:
    go_on, done, tasks = threading.Event(), list[bool](), list[Task[None]]()

    def start_and_fail() -> None:
        with Background(abandoned_on=Interrupted) as beside:
            tasks.append(beside.start(lambda: done.append(go_on.wait(0.2))))
            raise fault

    with pytest.raises(fault):
        start_and_fail()
    assert bool(done) == is_waited_for
    go_on.set()
    tasks[0].wait()


# ------------------------------------------------------------------------------------ imports


@pytest.mark.parametrize("is_on", [True, False])
def test_garbage_is_looked_for_afterwards_as_before(is_on: bool) -> None:
    was_on = gc.isenabled()
    try:
        (gc.enable if is_on else gc.disable)()
        with hurrying():
            assert not gc.isenabled()
        assert gc.isenabled() is is_on
    finally:
        (gc.enable if was_on else gc.disable)()


def test_a_deferred_module_is_imported_when_something_of_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "put_off.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    stand_in = Deferred("put_off")
    monkeypatch.setitem(sys.modules, "put_off", stand_in)
    put_off = importlib.import_module("put_off")
    assert put_off is stand_in
    assert not hasattr(put_off, "__file__")
    assert sys.modules["put_off"] is stand_in
    assert put_off.answer == 42
    assert sys.modules["put_off"] is not stand_in


def test_what_numba_is_kept_from_loading_works_where_it_is_used() -> None:
    code = f"""
import sys
from layersearch.background import hurrying
with hurrying():
    import numba
    numba.njit(lambda: 1)()
assert not {{"scipy.linalg", "scipy.linalg._basic"}} & sys.modules.keys()
import numpy as np
assert numba.njit(lambda a: a @ a)(2 * np.eye(2))[0, 0] == 4
assert {background.UNUSED[0]!r} in sys.modules and "scipy.linalg" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


HEAVY = ["optuna", "ray", "openpyxl", "matplotlib.pyplot"]
LOOKING = f"""
import sys, hyperparam_optimizer
from layersearch.search import running
heavy = {HEAVY}
carry_out = running.carry_out
def look_and_carry_out(*arguments):
    print("trains with", [name for name in heavy if name in sys.modules])
    return carry_out(*arguments)
running.carry_out = look_and_carry_out
status = hyperparam_optimizer.main(sys.argv[1:])
print("ends with", [name for name in heavy if name in sys.modules])
sys.exit(status)
"""


def test_a_grid_search_imports_nothing_heavy_that_it_does_not_use(table: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOOKING, "--data_path", str(table), "--output_dir", str(tmp_path), *TINY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "trains with []\n" in done.stdout
    assert "ends with []\n" in done.stdout


# ------------------------------------------------------------------------------------ beside the trainings


@pytest.fixture
def nothing_that_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process: what draws is yet to be imported."""
    for name in drawing.LATE:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("nothing_that_draws")
def test_what_draws_is_imported_beside_the_trainings(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def carry_out(*arguments: Any) -> running.Searched:
        wait_until(lambda: sys.modules.keys() >= set(drawing.LATE))
        return carry_out_really(*arguments)

    carry_out_really = running.carry_out
    monkeypatch.setattr(running, "carry_out", carry_out)
    done = run(tmp_path, "--data_path", table, *TINY)
    assert (done.status, done.err) == (0, "")


@pytest.mark.usefixtures("nothing_that_draws")
def test_what_could_not_be_imported_then_is_imported_later(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise MemoryError

    monkeypatch.setattr(drawing, "import_module", fail)
    done = run(tmp_path, "--data_path", table, *TINY, pictures=True)
    assert (done.status, done.err) == (0, "")
    assert len(list(tmp_path.glob("*.png"))) == 8


@pytest.mark.usefixtures("nothing_that_draws")
def test_what_cannot_be_imported_is_told_where_it_is_needed(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "output"
    shutil.copytree(finished.folder, folder)
    before = snapshot(folder)
    monkeypatch.setitem(
        sys.modules, "layersearch.pictures.verdict", None
    )  # Python's way to say that there is no such module
    with pytest.raises(ModuleNotFoundError, match=r"layersearch\.pictures\.verdict"):
        run(folder, "--data_path", table, *SMALL, "--repeats", 3, pictures=True)
    assert snapshot(folder) == before
    assert not list(folder.glob(f"{DRAFTS}*"))


@pytest.mark.usefixtures("nothing_that_draws")
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals are sent as on Linux and macOS")
def test_ctrl_c_meanwhile_ends_the_search_with_what_there_is(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_call(monkeypatch, drawing, "import_module", lambda: os.kill(os.getpid(), signal.SIGINT))
    impatient(monkeypatch)
    monkeypatch.setattr(drawing, "LATE", ["layersearch.pictures.search_pictures"])  # one signal
    done = run(tmp_path, "--data_path", table, *TINY, "--epochs", 2000, pictures=True)
    assert done.status == 130
    assert done.results()["complete"] is False
    assert "interrupted" in done.err


def test_a_second_ctrl_c_does_not_wait_for_the_pictures(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_left, was_left = threading.Event(), list[bool]()
    impatient(monkeypatch)
    before_call(monkeypatch, search_pictures, "draw_curves", lambda: was_left.append(has_left.wait(WAITING_SECONDS)))
    before_call(monkeypatch, announce, "tell_changes", press_twice)
    done = run(tmp_path, "--data_path", table, *SMALL, pictures=True)
    has_left.set()
    wait_until(lambda: bool(was_left) and not is_drawing_beside())
    assert (done.status, was_left) == (130, [True])
    assert done.err.endswith("hyperparam_optimizer.py: interrupted\n")
    assert not list(tmp_path.glob("*.json"))


def test_a_second_ctrl_c_in_a_notebook_does(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    before_call(monkeypatch, search_pictures, "draw_curves", lambda: time.sleep(0.2))
    before_call(monkeypatch, announce, "tell_changes", press_twice)
    with pytest.raises(KeyboardInterrupt):
        search(data_path=table, output_dir=tmp_path, hidden_dims_search=[8], max_layers=1, epochs=2, quiet=True)
    assert not is_drawing_beside()
    assert not list(tmp_path.glob(f"{DRAFTS}*"))


def press_twice() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def is_drawing_beside() -> bool:
    return any(thread.name == "background" for thread in threading.enumerate())


def test_the_verdict_does_not_wait_for_the_pictures(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_said, was_said = threading.Event(), list[bool]()
    summarize, draw = Console.summarize, draw_curves

    def summarize_and_tell(self: Console, text: str) -> None:
        summarize(self, text)
        if "Verdict: " in text:
            is_said.set()

    def wait_and_draw(*arguments: Any, **named: Any) -> Any:
        was_said.append(is_said.wait(WAITING_SECONDS))
        return draw(*arguments, **named)

    monkeypatch.setattr(Console, "summarize", summarize_and_tell)
    monkeypatch.setattr(search_pictures, "draw_curves", wait_and_draw)
    done = run(tmp_path, "--data_path", table, *SMALL, pictures=True)
    assert (done.status, was_said) == (0, [True])
    assert len(list(tmp_path.glob("*.png"))) == 8


def test_pictures_are_drawn_beside_the_probe(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_drawing, was_drawing = threading.Event(), list[bool]()
    before_call(monkeypatch, search_pictures, "draw_curves", is_drawing.set)
    before_call(monkeypatch, conclusion, "read_probe", lambda: was_drawing.append(is_drawing.wait(WAITING_SECONDS)))
    done = run(tmp_path, "--data_path", table, *SMALL, pictures=True)
    assert (done.status, was_drawing) == (0, [True])


def test_a_fault_in_drawing_is_told_and_nothing_is_written(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    before_call(monkeypatch, search_pictures, "draw_curves", fail)
    done = run(tmp_path, "--data_path", table, *SMALL, pictures=True)
    assert "No space left on device" in assert_one_line(done, 1)
    assert snapshot(tmp_path) == {}
    assert not list(tmp_path.glob(f"{DRAFTS}*"))
