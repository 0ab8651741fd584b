"""Matrix products for `step.py`, written with explicit vectors.

    multiply.call(address, A, row_stride, col_stride, n_rows, n_inner, B, b_stride, n_cols, C, c_stride, bias, ...)

C is computed in strips of 16 columns, and each strip in tiles of 4 rows. A tile stays in registers over the whole inner
dimension, which LLVM's loop vectoriser does not achieve by itself (benchmarks/matmul.py measures the gain). Each
element sums its products in the order of the inner dimension, so its bits do not depend on tiles or blocks. A, B and C
are addresses of float32 numbers; strides and sizes count elements.
"""

from __future__ import annotations

from typing import Any

from numba import int64

from layersearch.engines.kernel.jit import inlined, leaf
from layersearch.engines.kernel.vectors import FLOAT, FLOAT_BYTES, INT64, Lanes, vector_function

BLOCKED_PRODUCTS = 2**21  # number of multiply-adds from which a product is computed faster in blocks
BLOCK_ROWS, BLOCK_INNER, BLOCK_COLS = 128, 192, 1024
SCRATCH = BLOCK_INNER * (BLOCK_ROWS + BLOCK_COLS)


def _make_strip(lanes: int, tiles: tuple[int, ...], *, masked: bool = False) -> Any:
    """Returns the function that computes a strip.

    Args:
        lanes: number of columns of the strip.
        tiles: number of rows of a tile, followed by those of the smaller tiles for the remaining rows.
        masked: whether the strip may extend beyond the last column.
    """

    @vector_function(*[int64] * 12)
    def strip(code, A, row_stride, col_stride, n_rows, n_inner, B, b_stride, C, c_stride, bias, adds, live):
        """Computes columns of C = A B, plus a bias for each row unless `bias` is 0; with `adds` C += A B.

        A is [n_rows, n_inner]. Only a masked strip uses `live`, the number of its columns that exist.
        """
        mask = code.vector(INT64, list(range(lanes))) < live if masked else None

        def tile(first: Lanes, rows: int) -> None:
            offset = first * FLOAT_BYTES
            c_rows = [C + (offset + FLOAT_BYTES * row) * c_stride for row in range(rows)]
            a_rows = [A + (offset + FLOAT_BYTES * row) * row_stride for row in range(rows)]
            sums = [code.variable(code.vector(FLOAT, [0.0] * lanes)) for _ in range(rows)]
            with code.when(bias > 0):
                for row, total in enumerate(sums):
                    total.set(code.load(bias + offset + FLOAT_BYTES * row).splat(lanes))
            with code.when(adds > 0):
                for total, address in zip(sums, c_rows, strict=True):
                    total.set(code.load(address, lanes, mask))
            with code.loop(n_inner) as k:
                b_row = code.load(B + k * b_stride * FLOAT_BYTES, lanes, mask)
                at = k * col_stride * FLOAT_BYTES
                for total, a_row in zip(sums, a_rows, strict=True):
                    total.set(total.get() + code.load(a_row + at) * b_row)
            for total, address in zip(sums, c_rows, strict=True):
                code.store(total.get(), address, mask)

        whole = n_rows / tiles[0]
        with code.loop(whole) as i:
            tile(i * tiles[0], tiles[0])
        done = code.variable(whole * tiles[0])
        for rows in tiles[1:]:
            with code.when(n_rows - done.get() > rows - 1):
                tile(done.get(), rows)
                done.set(done.get() + rows)

    return strip


# A tile is eight AVX2 vectors, so that eight independent sums keep the FMA units busy.
_multiply_16 = _make_strip(16, (4, 3, 2, 1))
_multiply_8 = _make_strip(8, (8, 4, 2, 1))
_multiply_up_to_8 = _make_strip(8, (8, 4, 2, 1), masked=True)  # slow on processors without masked loads


@inlined
def _multiply_columns(A, row_stride, col_stride, n_rows, n_inner, B, b_stride, C, c_stride, bias, adds, live):
    """Computes 16 columns, or the `live` ones if there are fewer."""
    if live >= 16:
        _multiply_16(A, row_stride, col_stride, n_rows, n_inner, B, b_stride, C, c_stride, bias, adds, live)
        return
    for j in range(0, live, 8):
        B_j, C_j, left = B + FLOAT_BYTES * j, C + FLOAT_BYTES * j, live - j
        if left >= 8:
            _multiply_8(A, row_stride, col_stride, n_rows, n_inner, B_j, b_stride, C_j, c_stride, bias, adds, left)
        else:
            _multiply_up_to_8(
                A, row_stride, col_stride, n_rows, n_inner, B_j, b_stride, C_j, c_stride, bias, adds, left
            )


@vector_function(*[int64] * 5)
def _pack(code, B, b_stride, n, packed, live):
    """Copies up to 16 columns of n rows of B to [n, 16]; columns beyond the last become 0."""
    mask = code.vector(INT64, list(range(16))) < live
    with code.loop(n) as k:
        code.store(code.load(B + k * b_stride * FLOAT_BYTES, 16, mask), packed + k * (16 * FLOAT_BYTES))


@inlined
def _pack_strips(B, b_stride, n, n_cols, packed):
    """Copies n rows of B in strips of 16 columns, each to [n, 16]."""
    for j in range(0, n_cols, 16):
        _pack(B + FLOAT_BYTES * j, b_stride, n, packed + FLOAT_BYTES * j * n, n_cols - j)


@leaf(*[int64] * 13)
def multiply(A, row_stride, col_stride, n_rows, n_inner, B, b_stride, n_cols, C, c_stride, bias, scratch, in_blocks):
    """Computes C[i, j] = Σ_k A[i, k] B[k, j] + bias[i]; a bias of 0 means none.

    The rows of B and C are contiguous in memory, and either the rows or the columns of A. With `in_blocks`, which uses
    the caches better and gives the same bits, a block of B is first copied to `scratch` [SCRATCH], where each strip of
    16 columns is contiguous, and so is a block of A if its columns are contiguous (Goto & van de Geijn 2008,
    doi:10.1145/1356052.1356053).
    """
    block_rows, block_inner, block_cols = n_rows, n_inner, n_cols
    if in_blocks:
        block_rows, block_inner, block_cols = BLOCK_ROWS, BLOCK_INNER, BLOCK_COLS
    copies_A = in_blocks and col_stride != 1
    A_copy = scratch + FLOAT_BYTES * BLOCK_INNER * BLOCK_COLS
    for j0 in range(0, n_cols, block_cols):
        cols = min(block_cols, n_cols - j0)
        for k0 in range(0, n_inner, block_inner):
            inner = min(block_inner, n_inner - k0)
            B_0, stride, step = B + FLOAT_BYTES * (k0 * b_stride + j0), b_stride, int64(1)
            if in_blocks:
                _pack_strips(B_0, b_stride, inner, cols, scratch)
                B_0, stride, step = scratch, int64(16), inner
            for i0 in range(0, n_rows, block_rows):
                rows = min(block_rows, n_rows - i0)
                A_0, i_stride, k_stride = A + FLOAT_BYTES * (i0 * row_stride + k0 * col_stride), row_stride, col_stride
                strip = rows
                if copies_A:
                    _pack_strips(A_0, col_stride, inner, rows, A_copy)
                    A_0, i_stride, k_stride, strip = A_copy, int64(1), int64(16), int64(16)
                for j in range(0, cols, 16):
                    for i in range(0, rows, strip):
                        A_i = A_0 + FLOAT_BYTES * i * inner
                        C_ij = C + FLOAT_BYTES * ((i0 + i) * c_stride + j0 + j)
                        bias_i = bias + FLOAT_BYTES * (i0 + i) if bias else 0
                        B_j, height = B_0 + FLOAT_BYTES * j * step, min(strip, rows - i)
                        _multiply_columns(
                            A_i, i_stride, k_stride, height, inner, B_j, stride, C_ij, c_stride, bias_i, k0, cols - j
                        )
