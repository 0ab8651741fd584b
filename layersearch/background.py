"""Runs functions in background threads while models are trained, and speeds up imports.

    with Background(abandoned_on=Interrupted) as beside:
        pictures = beside.start(draw, ranking)              # runs in its own thread
        report = beside.start(write, pictures)              # waits for the result of `pictures` and receives it
        report.result()                                     # returns what `write` returned, or raises its exception
    with hurrying():
        import torch

`benchmarks/start_up.py` measures the time that the command needs to start.
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

POLL_SECONDS = 0.2  # the longest wait before Ctrl-C is noticed; Windows delivers it only between waits
_deferring = threading.Lock()
UNUSED = ("scipy.linalg.cython_blas",)  # takes 0.3 s to import; Numba needs it for `np.dot`, which no kernel uses


@contextmanager
def hurrying() -> Iterator[None]:
    """Disables garbage collection within the block, which makes importing modules about 10 % faster.

    Imported modules are never freed, so searching them for garbage would be wasted time.
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
    """Excludes all present objects from garbage collection; only once, so that repeated calls of `main` do not leak."""
    gc.freeze()


class Deferred(ModuleType):
    """A placeholder for a module that is imported when one of its attributes is first used."""

    def __getattr__(self, attribute: str) -> Any:
        """Imports the module and returns its attribute, except `__file__`, which libraries read from every module."""
        if attribute == "__file__":
            raise AttributeError(attribute)
        with _deferring:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)


class Task(Generic[T]):
    """A function call in its own daemon thread.

    If the system cannot start another thread, the call is made at once, in the calling thread.
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
                raise  # Ctrl-C in the calling thread
            self._error = error  # raised by `result`

    def wait(self) -> None:
        """Waits until the call has ended."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(POLL_SECONDS)

    def result(self) -> T:
        """Waits for the call, and returns its result or raises its exception."""
        self.wait()
        if self._error is not None:
            raise self._error
        return cast(T, self._outcome)


class Background:
    """Starts tasks in background threads, and waits for them at the end of the `with` block.

    It waits because the folder that the tasks write to may be removed after the block. Only an exception of the type
    `abandoned_on`, after which the process ends, leaves them running.
    """

    def __init__(self, abandoned_on: type[BaseException]) -> None:
        self._abandoned_on = abandoned_on
        self._tasks: list[Task[Any]] = []

    def start(
        self, work: Callable[..., T], *arguments: Any, after: Task[Any] | None = None, **keywords: Any
    ) -> Task[T]:
        """Calls `work` in a thread and returns the task.

        Args:
            work: the function to call.
            arguments: its arguments. A task among them is waited for and replaced by its result.
            after: a task to wait for first, whether it succeeds or fails.
            keywords: its keyword arguments; tasks among them are replaced in the same way.
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
