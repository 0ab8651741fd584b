"""Compiles the training kernel with Numba, without the GIL, and caches the machine code on disk.

    @compiled
    def f(x): ...

    @leaf(int64, float32)
    def g(address, factor): ...

    f(x), g.call(g.address, address, factor)

Numba optimises a function again in each of its direct and indirect callers. A leaf is compiled once and called by its
address, which halves the compilation time of the kernel. The outermost caller passes the address down as an argument,
because it differs between runs and must not be part of cached code.

Floating point: `FAST` allows the compiler to reorder sums and to contract products and sums to FMA, so that they
vectorise. It does not allow it to assume that NaN and infinity do not occur, so a diverging training is detected.
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
    """Returns a digest of everything that the machine code depends on."""
    processor = [llvmlite.binding.get_host_cpu_name(), get_host_cpu_features()]
    parts = [fingerprint(SOURCES), *processor]
    return hashlib.blake2b("".join(parts).encode(), digest_size=8).hexdigest()


_DIGEST = _digest()


def compiled(function: Callable[..., Any]) -> Any:
    """Compiles a function when it is first called, and caches it on disk if possible."""
    return _kept(numba.njit, function)


class Leaf(NamedTuple):
    """A function that compiled code calls as `call(address, ...)` and Python as `native.ctypes(...)`."""

    native: Any
    call: Any

    @property
    def address(self) -> int:
        """The first argument of `call`."""
        return int(self.native.address)


def leaf(*kinds: Any) -> Callable[[Callable[..., None]], Leaf]:
    """Returns a decorator that immediately compiles a function with arguments of these types and no result."""

    def decorate(function: Callable[..., None]) -> Leaf:
        native = _kept(partial(numba.cfunc, numba.void(*kinds)), function)
        return Leaf(native, caller(function, kinds))

    return decorate


# For short functions and those with a single caller: Numba inlines them before it infers types.
inlined = numba.njit(inline="always", **_OPTIONS)


def _kept(compiler: Any, function: Callable[..., Any]) -> Any:
    """Applies one of Numba's compilers, with its cache on disk.

    Numba detects changes in the function's own file, but not in the modules whose constants and vector functions it
    uses. A damaged index may also refer to the file of another version, or of another processor that shares the folder.
    Therefore a digest of all these is part of the function's name, and so of the file's name.
    """
    function.__qualname__ = f"{function.__name__}_{_DIGEST}"
    try:
        return compiler(cache=True, **_OPTIONS)(function)
    except (RuntimeError, OSError):  # no writable folder, or the disk is full
        return compiler(**_OPTIONS)(function)
