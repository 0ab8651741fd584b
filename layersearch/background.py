"""Runs work beside the trainings, and makes imports quick.

    with Background(abandoned_on=Interrupted) as beside:
        pictures = beside.start(draw, ranking)              # in a thread of its own
        report = beside.start(write, pictures)              # waits for the pictures and gets them
        report.result()                                     # what it returned, or raised
    with hurrying():
        import torch

`benchmarks/start_up.py` measures what the command waits for.
"""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType, TracebackType
from typing import Any, Generic, Self, TypeVar, cast

T = TypeVar("T")

POLL_SECONDS = 0.2  # between two checks of whether to stop; Windows delivers Ctrl-C only between waits
_deferring = threading.Lock()
UNUSED = ("scipy.linalg.cython_blas",)  # Numba imports it for `np.dot` in 0.3 s; no kernel here uses that


@contextmanager
def hurrying() -> Iterator[None]:
    """Turns garbage collection off while modules are imported, which takes a tenth off the time.

    What imports make stays for good, so that looking through it for garbage is in vain.
    """
    for name in UNUSED:
        sys.modules.setdefault(name, Deferred(name))
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            _freeze_once()
            gc.enable()


@cache
def _freeze_once() -> None:
    """Spares what is imported by now from garbage collection; once, since who calls `main` repeatedly makes garbage."""
    gc.freeze()


class Deferred(ModuleType):
    """Stands for a module, which is imported when something of it is used."""

    def __getattr__(self, attribute: str) -> Any:
        """Imports the module and returns its attribute; not for `__file__`, which libraries ask of all modules."""
        if attribute == "__file__":
            raise AttributeError(attribute)
        with _deferring:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)


class Task(Generic[T]):
    """A call in a thread of its own, which does not outlive the process.

    Where the system allows no more threads, the call is made at once, in this one.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._outcome: T | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._run, daemon=True, name="background")
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            self._run()

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except BaseException as error:
            if self._thread is None and not isinstance(error, Exception):
                raise  # Ctrl-C, in this thread
            self._error = error  # for `result` to raise

    def wait(self) -> None:
        """Returns when the call has ended."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(POLL_SECONDS)  # Windows delivers Ctrl-C only between waits

    def result(self) -> T:
        """Waits, and returns what the call returned, or raises what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return cast(T, self._outcome)


class Background:
    """What runs beside the trainings, which hold no lock.

    Tasks still running at the end of the `with` block are waited for, since the folder they write to may be removed
    then. Only an error of the type `abandoned_on`, after which the process ends, leaves them running.
    """

    def __init__(self, abandoned_on: type[BaseException]) -> None:
        self._abandoned_on = abandoned_on
        self._tasks: list[Task[Any]] = []

    def start(
        self, work: Callable[..., T], *arguments: Any, after: Task[Any] | None = None, **keywords: Any
    ) -> Task[T]:
        """Calls `work` in a thread.

        Args:
            work: what to call.
            arguments: its arguments. A task among them is replaced by its result, which is waited for.
            after: a task that is waited for first, however it ends.
            keywords: its keyword arguments, likewise.
        """

        def call() -> T:
            if after:
                after.wait()
            return work(*map(_resolved, arguments), **{name: _resolved(value) for name, value in keywords.items()})

        task = Task(call)
        self._tasks.append(task)
        return task

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, self._abandoned_on):
            for task in self._tasks:
                task.wait()


def _resolved(value: Any) -> Any:
    return value.result() if isinstance(value, Task) else value
