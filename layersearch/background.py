"""What makes the command quick outside its trainings.

    with hurrying():                # garbage is not looked for, and Numba does not load SciPy
        import torch
    pictures = Aside(draw)          # in a thread of its own, beside trainings, which hold no lock
    pictures.result()               # what it returned, or raised

`benchmarks/start_up.py` measures what is left.
"""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

POLL_SECONDS = 0.2  # between two looks at whether to stop; Windows delivers Ctrl-C only between waits
_deferring = threading.Lock()
UNUSED = ("scipy.linalg.cython_blas",)  # Numba looks whether it is there, for `np.dot`; that takes 0.3 s


@contextmanager
def hurrying() -> Iterator[None]:
    """For imports: what they make is there for good, and looking through it for garbage takes a tenth of the time."""
    for name in UNUSED:
        sys.modules.setdefault(name, Deferred(name))
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():  # once a process: whoever calls `main` again and again also makes garbage
                gc.freeze()
            gc.enable()


class Deferred(ModuleType):
    """Stands for a module until something of it is used."""

    def __getattr__(self, attribute: str) -> Any:
        """What the module itself has: it is imported now. Not for `__file__`, which everyone asks all modules for."""
        if attribute == "__file__":
            raise AttributeError(attribute)
        with _deferring:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)


class Aside(Generic[T]):
    """A call in a thread of its own, which does not outlive the process; in this one where there can be no other."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._outcome: T | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._run, daemon=True, name="aside")
        try:
            self._thread.start()
        except RuntimeError:  # the system allows no more of them
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
        """Until it is done."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(POLL_SECONDS)  # Windows delivers Ctrl-C only between waits

    def result(self) -> T:
        """Waits, and returns what the call returned, or raises what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return cast(T, self._outcome)
