"""The kernel's matrix product against the same product as a blocked loop, on one core.

    python benchmarks/matmul.py

`blocked_loop` is what a Numba kernel would use without `tile.py`: 4 rows x 4 of the inner dimension at a time,
innermost over contiguous columns. It stands here to show what the tile gains; the shapes are those of hidden
layers at batch size 32. Prints the median and range of 31 timings of 200 products each.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numba  # noqa: E402 - the project's modules lie one folder up
import numpy as np  # noqa: E402
import torch  # noqa: E402
from engines import seconds, spread  # noqa: E402

import kernel  # noqa: E402
from environment import describe_environment  # noqa: E402

REPEATS, TIMINGS = 200, 31
multiply = kernel._matmul


@numba.njit(error_model="numpy", fastmath=kernel.FAST)
def blocked_loop(A, B, C):
    """C += A B, for sizes that are multiples of 4."""
    for i in range(0, A.shape[0], 4):
        c0, c1, c2, c3 = C[i], C[i + 1], C[i + 2], C[i + 3]
        for k in range(0, A.shape[1], 4):
            a00, a01, a02, a03 = A[i, k], A[i, k + 1], A[i, k + 2], A[i, k + 3]
            a10, a11, a12, a13 = A[i + 1, k], A[i + 1, k + 1], A[i + 1, k + 2], A[i + 1, k + 3]
            a20, a21, a22, a23 = A[i + 2, k], A[i + 2, k + 1], A[i + 2, k + 2], A[i + 2, k + 3]
            a30, a31, a32, a33 = A[i + 3, k], A[i + 3, k + 1], A[i + 3, k + 2], A[i + 3, k + 3]
            b0, b1, b2, b3 = B[k], B[k + 1], B[k + 2], B[k + 3]
            for j in range(B.shape[1]):
                x0, x1, x2, x3 = b0[j], b1[j], b2[j], b3[j]
                c0[j] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
                c1[j] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
                c2[j] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
                c3[j] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3


@numba.njit
def repeat_loop(A, B, C):
    """REPEATS products by the blocked loop."""
    for _ in range(REPEATS):
        blocked_loop(A, B, C)


@numba.njit
def repeat_tile(A, B, C, rows, inner, columns):
    """REPEATS products by the kernel; A, B and C are addresses."""
    for _ in range(REPEATS):
        multiply(A, inner, 1, rows, inner, B, columns, columns, C, columns)


def main() -> None:
    """Prints both rates for each shape."""
    machine = describe_environment(torch.device("cpu"), "compiled", 1)
    print(f"{machine['processor']}, 1 core, Python {machine['python']}, numba {machine['numba']}; GFLOP/s")
    for rows, inner, columns in ((64, 64, 32), (128, 128, 32), (64, 24, 32), (16, 16, 32)):
        A, B = np.random.default_rng(0).random((2, 128, 128), dtype=np.float32)
        A, B = A[:rows, :inner].copy(), B[:inner, :columns].copy()
        C = np.zeros((rows, columns), np.float32)
        addresses = (A.ctypes.data, B.ctypes.data, C.ctypes.data)
        repeat_loop(A, B, C)
        repeat_tile(*addresses, rows, inner, columns)
        assert np.allclose(C, 2 * REPEATS * (A @ B), rtol=1e-3)
        work = 2 * rows * inner * columns * REPEATS / 1e9
        loop = [work / seconds(partial(repeat_loop, A, B, C)) for _ in range(TIMINGS)]
        tile = [work / seconds(partial(repeat_tile, *addresses, rows, inner, columns)) for _ in range(TIMINGS)]
        print(f"{rows:>3} x {inner:>3} x {columns}: tile {spread(tile, '', 0)}; blocked loop {spread(loop, '', 0)}")


if __name__ == "__main__":
    main()
