"""A matrix product's innermost tile, written in LLVM's vector types for `kernel.py`.

    multiply_4x16(A, row_stride, col_stride, n_inner, B, b_stride, C, c_stride, live)

adds to a block of C, of 4 rows x 16 columns, A's 4 x n_inner block times B's n_inner x 16 block. C's block
stays in registers over the whole inner dimension, which LLVM's loop vectoriser does not find by itself:
for 64 x 64 x 32 this tile reaches 70 GFLOP/s on one core where the same product as a loop blocked 4 x 4
reaches 25 (medians of 31, AMD EPYC 7003 with AVX2; benchmarks/matmul.py). LLVM fits the
vectors to whatever the processor has. A, B and C are addresses of float32 numbers, all else counts of
elements; only the masked tiles use `live`, the number of columns that exist.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FUSED = ("contract",)  # a product and a sum may become one FMA


def _splat(builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes))


def _load(builder: ir.IRBuilder, vector: ir.VectorType, pointer: ir.Value, mask: ir.Value | None) -> ir.Value:
    if mask is None:
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), typ=vector, align=4)
    arguments = [pointer, ir.Constant(_INT32, 4), mask, ir.Constant(vector, [0.0] * vector.count)]
    return _call(builder, f"llvm.masked.load.v{vector.count}f32.p0", vector, arguments)


def _store(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, mask: ir.Value | None) -> None:
    if mask is None:
        builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)
    else:
        arguments = [value, pointer, ir.Constant(_INT32, 4), mask]
        _call(builder, f"llvm.masked.store.v{value.type.count}f32.p0", ir.VoidType(), arguments)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)


def _make_tile(rows: int, lanes: int, *, masked: bool = False) -> Any:
    vector = ir.VectorType(_FLOAT, lanes)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        A, row_stride, col_stride, n_inner, B, b_stride, C, c_stride, live = arguments
        A, B, C = (builder.inttoptr(address, _FLOAT.as_pointer()) for address in (A, B, C))

        def at(pointer: ir.Value, steps: ir.Value, stride: ir.Value) -> ir.Value:
            return builder.gep(pointer, [builder.mul(steps, stride)], source_etype=_FLOAT)

        row_numbers = [ir.Constant(_INT64, row) for row in range(rows)]
        columns = ir.Constant(ir.VectorType(_INT64, lanes), list(range(lanes)))
        mask = builder.icmp_signed("<", columns, _splat(builder, live, lanes)) if masked else None

        c_rows = [at(C, row, c_stride) for row in row_numbers]
        sums = [cgutils.alloca_once_value(builder, _load(builder, vector, pointer, mask)) for pointer in c_rows]
        with cgutils.for_range(builder, n_inner) as loop:
            b_row = _load(builder, vector, at(B, loop.index, b_stride), mask)
            a_column = at(A, loop.index, col_stride)
            for row, total in zip(row_numbers, sums, strict=True):
                factor = builder.load(at(a_column, row, row_stride), typ=_FLOAT)
                product = builder.fmul(_splat(builder, factor, lanes), b_row, flags=_FUSED)
                builder.store(builder.fadd(builder.load(total, typ=vector), product, flags=_FUSED), total)
        for pointer, total in zip(c_rows, sums, strict=True):
            _store(builder, builder.load(total, typ=vector), pointer, mask)
        return context.get_dummy_value()

    @intrinsic
    def multiply(typingctx, A, row_stride, col_stride, n_inner, B, b_stride, C, c_stride, live):
        n = types.int64
        return types.void(n, n, n, n, n, n, n, n, n), generate

    return multiply


multiply_4x16, multiply_1x16 = _make_tile(4, 16), _make_tile(1, 16)
multiply_4x8, multiply_1x8 = _make_tile(4, 8), _make_tile(1, 8)
multiply_4x8_masked, multiply_1x8_masked = _make_tile(4, 8, masked=True), _make_tile(1, 8, masked=True)
