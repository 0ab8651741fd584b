"""The kernel's matrix product: its value, its bits, and that it writes nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from layersearch.engines.kernel import product

SIZES = [(1, 1, 1), (4, 8, 16), (5, 3, 7), (3, 64, 32), (9, 5, 9), (130, 32, 61), (67, 200, 75), (7, 33, 1100)]


class Product:
    """A product and its factors, in memory with a margin around it."""

    def __init__(self, rows: int, inner: int, columns: int, *, transposed: bool) -> None:
        random = np.random.default_rng(0)
        self.A = random.normal(size=(rows, inner)).astype(np.float32)
        self.B = random.normal(size=(inner, columns)).astype(np.float32)
        self.bias = random.normal(size=rows).astype(np.float32)
        self.stored = np.ascontiguousarray(self.A.T) if transposed else self.A
        self.strides = (1, rows) if transposed else (inner, 1)

    def by_kernel(self, *, in_blocks: bool, with_bias: bool = True) -> np.ndarray:
        (rows, inner), columns = self.A.shape, self.B.shape[1]
        C = np.ones((rows + 1, columns + 5), np.float32)
        scratch = np.full(product.SCRATCH + 2, np.nan, np.float32)
        product.multiply.native.ctypes(
            self.stored.ctypes.data, *self.strides, rows, inner, self.B.ctypes.data, columns, columns, C.ctypes.data,
            C.shape[1], self.bias.ctypes.data if with_bias else 0, scratch[1:].ctypes.data, in_blocks,
        )  # fmt: skip
        assert np.isnan(scratch[[0, -1]]).all(), "written outside of the scratch memory"
        assert np.isfinite(scratch).any() == in_blocks
        assert np.all(C[rows:] == 1)
        assert np.all(C[:, columns:] == 1)
        return C[:rows, :columns]


@pytest.mark.parametrize(("rows", "inner", "columns"), SIZES)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_it_is_the_product(rows: int, inner: int, columns: int, transposed: bool, with_bias: bool) -> None:
    case = Product(rows, inner, columns, transposed=transposed)
    expected = case.A.astype(np.float64) @ case.B + (case.bias[:, None] if with_bias else 0)
    np.testing.assert_allclose(case.by_kernel(in_blocks=False, with_bias=with_bias), expected, atol=5e-5)


@pytest.mark.parametrize(("rows", "inner", "columns"), [*SIZES, (260, 400, 40), (128, 192, 1024), (129, 193, 1025)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_blocks_change_no_bit(rows: int, inner: int, columns: int, transposed: bool, with_bias: bool) -> None:
    case = Product(rows, inner, columns, transposed=transposed)
    plain, blocked = (case.by_kernel(in_blocks=in_blocks, with_bias=with_bias) for in_blocks in (False, True))
    assert np.array_equal(plain, blocked)
