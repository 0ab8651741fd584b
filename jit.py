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
from types import CellType, FunctionType
from typing import Any, NamedTuple

import numba

from vectors import caller

FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
SOURCES = ("jit", "kernel", "losses", "models", "product", "randomness", "search", "strips", "vectors")

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FAST}
_FOLDER = Path(__file__).parent
_DIGEST = hashlib.sha256(b"".join((_FOLDER / f"{name}.py").read_bytes() for name in SOURCES)).hexdigest()


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


# What has one caller joins it at once.
inlined = numba.njit(inline="always", **_OPTIONS)


def _kept(compiler: Any, function: Callable[..., Any]) -> Any:
    """Applies a compiler of Numba, with its cache.

    That notices changes of a function's own file and of its closure, but not of the modules that it takes
    constants and vector functions from: so the digest of them all becomes a variable of the closure.
    """
    code = function.__code__.replace(co_freevars=("sources_digest",))
    function = FunctionType(code, function.__globals__, function.__name__, closure=(CellType(_DIGEST),))
    try:
        return compiler(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder to keep it in
        return compiler(**_OPTIONS)(function)
