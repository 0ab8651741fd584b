"""Times the matrix product of the kernel, in place and in blocks, a plain loop, and torch's product, on one core.

    python benchmarks/matmul.py

`loop` is what a Numba kernel would use without `product.py`: 4 rows x 4 of the inner dimension at a time, with the
innermost loop over contiguous columns. Shapes are those of a step: W [H, H] times activations [H, B] forward, W
transposed backward, and the weight's gradient [H, B] x [B, H]. Prints GFLOP/s of one core, the median of 15, by CPU
time; `*` marks the product that the kernel uses for that size (`product.BLOCKED_PRODUCTS`).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numba  # noqa: E402 - the project's modules lie one folder up
import numpy as np  # noqa: E402
import torch  # noqa: E402

from layersearch.engines.kernel import jit  # noqa: E402
from layersearch.engines.kernel.product import BLOCKED_PRODUCTS, SCRATCH, multiply  # noqa: E402
from layersearch.journal.identity import describe_environment  # noqa: E402

TIMINGS = 15
SHAPES = [(16, 32), (64, 32), (128, 32), (64, 256), (256, 32), (128, 128), (256, 256), (512, 512), (1024, 1024)]
SHAPES += [(2048, 256), (2048, 2048)]
LARGEST_LOOP = 2**24  # multiply-adds; larger products are not timed, since they take too long
call = multiply.call


@numba.njit(error_model="numpy", fastmath=jit.FAST)
def repeat_loop(n, A, B, C):
    """Computes a product n times, with sizes that are multiples of 4."""
    for _ in range(n):
        C[:] = 0
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
def repeat_product(n, leaf, A, strides, sizes, B, C, scratch, in_blocks):
    """Computes a product n times with the kernel; leaf, A, B, C and scratch are addresses."""
    rows, inner, columns = sizes
    for _ in range(n):
        call(leaf, A, strides[0], strides[1], rows, inner, B, columns, columns, C, columns, 0, scratch, in_blocks)


def rate(work: Callable[[int], object], multiply_adds: int) -> float:
    """Returns the median GFLOP/s of `work(n)`, which computes n products."""
    n = max(1, 2**24 // multiply_adds)
    work(1)
    times = []
    for _ in range(TIMINGS):
        started = time.process_time()
        work(n)
        times.append((time.process_time() - started) / n)
    return 2 * multiply_adds / statistics.median(times) / 1e9


def compare(name: str, A: np.ndarray, B: np.ndarray) -> None:
    """Prints the rates of one shape; A may be a transposed view."""
    (rows, inner), columns = A.shape, B.shape[1]
    C, scratch = np.zeros((rows, columns), np.float32), np.zeros(SCRATCH, np.float32)
    n = rows * inner * columns
    strides = (A.strides[0] // 4, A.strides[1] // 4)

    def kernel(in_blocks: int) -> Callable[[int], object]:
        given = (multiply.address, A.ctypes.data, strides, (rows, inner, columns))
        return lambda n: repeat_product(n, *given, B.ctypes.data, C.ctypes.data, scratch.ctypes.data, in_blocks)

    in_place = rate(kernel(0), n)
    in_blocks = rate(kernel(1), n)
    assert np.allclose(C, A @ B, atol=1e-3 * inner**0.5)
    loop = f"{rate(lambda n: repeat_loop(n, A, B, C), n):4.0f}" if n <= LARGEST_LOOP else "   -"
    a, b, c = torch.from_numpy(A), torch.from_numpy(B), torch.from_numpy(C)

    def blas(n: int) -> None:
        for _ in range(n):
            torch.mm(a, b, out=c)

    marks = ("*", " ") if n < BLOCKED_PRODUCTS else (" ", "*")
    shape = f"{rows} x {inner} x {columns}"
    print(f"{name:<9}{shape:<20}{loop}   {in_place:4.0f}{marks[0]}   {in_blocks:4.0f}{marks[1]}   {rate(blas, n):4.0f}")


def main() -> None:
    """Prints all rates for each shape."""
    torch.set_num_threads(1)
    machine = describe_environment(torch.device("cpu"), "compiled", 1)
    versions = ", ".join(f"{name} {machine[name]}" for name in ("numba", "torch"))
    print(f"{machine['processor']}, 1 core, {versions}")
    print(f"GFLOP/s, median of {TIMINGS}         loop   in place  blocks  torch")
    random = np.random.default_rng(0)
    for width, batch in SHAPES:
        W, X = random.random((width, width), dtype=np.float32), random.random((width, batch), dtype=np.float32)
        compare("forward", W, X)
        compare("backward", W.T, X)
        compare("gradient", X, np.ascontiguousarray(X.T))


if __name__ == "__main__":
    main()
