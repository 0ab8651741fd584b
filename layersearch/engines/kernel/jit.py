"""Compiles the training kernel with Numba: without the GIL, and cached on disk between runs.

    @compiled
    def f(x): ...

    @leaf(int64, float32)
    def g(address, factor): ...

    f(x), g.call(g.address, address, factor)

Numba optimises a function anew in each of its callers, and in their callers. A leaf is compiled once and called by its
address, which halves the time that the kernel takes to compile. The outermost caller passes the address down, because
it differs from run to run and cached code must not contain it.

Floating point: `FAST` lets the compiler reorder sums and contract products and sums to FMA, so that they vectorise. It
does not let it assume that NaN and infinity do not occur, so a diverging training is noticed.
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
    """Returns the digest of everything that the machine code depends on."""
    processor = [llvmlite.binding.get_host_cpu_name(), get_host_cpu_features()]
    parts = [fingerprint(SOURCES), *processor]
    return hashlib.blake2b("".join(parts).encode(), digest_size=8).hexdigest()


_DIGEST = _digest()


def compiled(function: Callable[..., Any]) -> Any:
    """Compiles a function when it is first called, and caches it on disk if a folder is writable."""
    return _kept(numba.njit, function)


class Leaf(NamedTuple):
    """A function that compiled code calls as `call(address, ...)`, and Python as `native.ctypes(...)`."""

    native: Any
    call: Any

    @property
    def address(self) -> int:
        """The first argument of `call`."""
        return int(self.native.address)


def leaf(*kinds: Any) -> Callable[[Callable[..., None]], Leaf]:
    """Compiles a function of arguments of these types, which returns nothing, right away."""

    def decorate(function: Callable[..., None]) -> Leaf:
        native = _kept(partial(numba.cfunc, numba.void(*kinds)), function)
        return Leaf(native, caller(function, kinds))

    return decorate


# For short functions, and those with one caller: they become part of their callers at once.
inlined = numba.njit(inline="always", **_OPTIONS)


def _kept(compiler: Any, function: Callable[..., Any]) -> Any:
    """Applies one of Numba's compilers, with its cache on disk.

    Numba notices changes of the function's own file, but not of the modules whose constants and vector functions it
    uses. And if its index is cut short, it may name a file of another version, or of another processor that shares the
    folder. So the digest of all that is part of the function's name, and thereby of the file's.
    """
    function.__qualname__ = f"{function.__name__}_{_DIGEST}"
    try:
        return compiler(cache=True, **_OPTIONS)(function)
    except (RuntimeError, OSError):  # no writable folder, or no space left
        return compiler(**_OPTIONS)(function)
