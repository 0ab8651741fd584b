"""How the training kernel is compiled: by Numba, without the GIL, kept on disk between runs.

    @compiled
    def f(x): ...

    @leaf(int64, float32)
    def g(address, factor): ...

    f(x), g.call(g.address, address, factor)

Numba optimises a function anew in each of its callers, and in theirs. A leaf is compiled once and called by its
address, which the outermost caller passes down (it differs from run to run, so no cached code may hold it): that halves
the time that the kernel takes to compile.

Floating point. `FAST` lets the compiler reorder sums and contract to FMA, so that they vectorise, but
not assume that NaN or infinity do not occur: a diverging trial must stay recognisable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding
import numba
from numba.core.codegen import get_host_cpu_features

from layersearch.engines.kernel.vectors import caller
from layersearch.files import PROGRAM
from layersearch.fingerprint import fingerprint

FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FAST}
SOURCES = [
    *sorted(Path(__file__).parent.glob("*.py")),
    *(PROGRAM / name for name in ("losses.py", "models.py", "layersearch/randomness.py")),
]


def _digest() -> str:
    """Of everything that machine code depends on."""
    processor = [llvmlite.binding.get_host_cpu_name(), get_host_cpu_features()]
    parts = [fingerprint(SOURCES), *processor]
    return hashlib.blake2b("".join(parts).encode(), digest_size=8).hexdigest()


_DIGEST = _digest()


def compiled(function: Callable[..., Any]) -> Any:
    """Compiles a function when it is called, and keeps it on disk where a folder can be written to."""
    return _kept(numba.njit, function)


class Leaf(NamedTuple):
    """A function that compiled code calls as `call(address, ...)`, and Python as `native.ctypes(...)`."""

    native: Any
    call: Any

    @property
    def address(self) -> int:
        """What `call` wants first."""
        return int(self.native.address)


def leaf(*kinds: Any) -> Callable[[Callable[..., None]], Leaf]:
    """Compiles a function of numbers of these types, which returns nothing, now."""

    def decorate(function: Callable[..., None]) -> Leaf:
        native = _kept(partial(numba.cfunc, numba.void(*kinds)), function)
        return Leaf(native, caller(function, kinds))

    return decorate


# What is short, or has one caller, joins its callers at once.
inlined = numba.njit(inline="always", **_OPTIONS)


def _kept(compiler: Any, function: Callable[..., Any]) -> Any:
    """Applies a compiler of Numba, with its cache.

    That notices changes of a function's own file, but not of the modules that it takes constants and vector functions
    from; and its index may come to name a file of another version, or of another processor that shares the folder, if
    it is cut short. So the files' names, which are the function's, tell all that.
    """
    function.__qualname__ = f"{function.__name__}_{_DIGEST}"
    try:
        return compiler(cache=True, **_OPTIONS)(function)
    except (RuntimeError, OSError):  # no folder to keep it in, or no room
        return compiler(**_OPTIONS)(function)
