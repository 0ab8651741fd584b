"""The operations between matrix products, forward and backward, for `step.py`, written with explicit vectors.

    normalize.call(address, A, gain, shift, x_hat, Y, inverse_sd, n_features, B, ...)

A strip is `LANES` columns (rows of the batch) of arrays [H, B]. Each function processes all H features of a strip, with
its sums in registers, before the next strip. Addresses count bytes, everything else counts elements. `step.py` derives
the formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import float32, int32, int64, uint32, uint64

from layersearch.engines.kernel.jit import leaf
from layersearch.engines.kernel.vectors import FLOAT, FLOAT_BYTES, INT32, INT64, Code, Lanes, vector_function
from layersearch.randomness import DROPOUT_BITS, MIX32
from models import LAYER_NORM_EPS

LANES = 16


def _zeros(code: Code) -> Lanes:
    return code.vector(FLOAT, [0.0] * LANES)


def _sum_over(code: Code, n: Lanes, term: Callable[[Lanes], Lanes]) -> Lanes:
    """Returns Σ term(h) over h < n, with separate sums for even and odd h, which the processor adds in parallel."""
    even, odd = code.variable(_zeros(code)), code.variable(_zeros(code))
    with code.loop(n / 2) as i:
        even.set(even.get() + term(i * 2))
        odd.set(odd.get() + term(i * 2 + 1))
    with code.when((n & 1).equals(1)):
        even.set(even.get() + term(n - 1))
    return even.get() + odd.get()


def _make_normalize(*, relu: bool, dropout: bool) -> Any:
    @vector_function(*[int64] * 6, int64, int64, int32, int32, int32, int32, float32)
    def strip(code, A, gain, shift, x_hat, Y, inverse_sd, n_features, stride, first, step, high, threshold, kept):
        """Computes LayerNorm and any ReLU and dropout for one strip, A -> Y (which may be A); stores x̂ and 1/sd."""
        scale = code.to_float(n_features)

        def value(h):
            return code.load(A + h * stride * FLOAT_BYTES, LANES)

        def square(h):
            centred = value(h) - centre
            return centred * centred

        centre = _sum_over(code, n_features, value) / scale
        variance = _sum_over(code, n_features, square) / scale
        r = code.vector(FLOAT, [1.0] * LANES) / code.sqrt(variance + LAYER_NORM_EPS)
        code.store(r, inverse_sd)
        lane_numbers = code.vector(INT32, list(range(LANES))) + first
        with code.loop(n_features) as h:
            row = h * stride * FLOAT_BYTES
            normalized = (value(h) - centre) * r
            code.store(normalized, x_hat + row)
            z = normalized * code.load(gain + h * FLOAT_BYTES) + code.load(shift + h * FLOAT_BYTES)
            if relu:
                z = _gated(code, z, h, lane_numbers, step, high, threshold if dropout else None, kept)
            code.store(z, Y + row)

    return strip


def _gated(
    code: Code, z: Lanes, h: Lanes, lane_numbers: Lanes, step: Lanes, high: Lanes, threshold: Lanes | None, kept: Lanes
) -> Lanes:
    """Applies ReLU, and dropout if there is a threshold, to the values z of unit h."""
    passes = z > 0.0
    if threshold is not None:
        passes = passes & (_hash(lane_numbers + code.to_int32(h) * step, high) > threshold - 1)
    return z * code.select(passes, kept.splat(LANES), _zeros(code))


def _hash(bits: Lanes, high: Lanes) -> Lanes:
    """Returns the upper `DROPOUT_BITS` of the hash in `randomness.dropout_keep`."""
    bits = (bits ^ (bits >> 16)) * MIX32[0] + high
    bits = (bits ^ (bits >> 15)) * MIX32[1]
    return (bits ^ (bits >> 15)) >> (32 - DROPOUT_BITS)


_normalize_only = _make_normalize(relu=False, dropout=False)
_normalize_relu = _make_normalize(relu=True, dropout=False)
_normalize_dropout = _make_normalize(relu=True, dropout=True)


@leaf(*[int64] * 6, int64, int64, int64, int64, uint64, int64, float32)
def normalize(A, gain, shift, x_hat, Y, inverse_sd, n_features, B, has_relu, batch_size, key, threshold, kept):
    """Computes Y = LayerNorm(A), or Y = dropout(ReLU(LayerNorm(A))) with `has_relu`; Y may be A.

    Stores x̂ and 1/sd for the backward pass. The dropout pattern is that of `randomness.dropout_keep`; a threshold of 0
    means no dropout.
    """
    low, high = uint32(key & uint64(0xFFFFFFFF)), uint32(key >> uint64(32))
    for b in range(0, B, LANES):
        at = FLOAT_BYTES * b
        A_b, x_hat_b, Y_b, r_b, first = A + at, x_hat + at, Y + at, inverse_sd + at, uint32(low + uint32(b))
        if not has_relu:
            _normalize_only(
                A_b, gain, shift, x_hat_b, Y_b, r_b, n_features, B, first, batch_size, high, threshold, kept
            )
        elif threshold == 0:
            _normalize_relu(
                A_b, gain, shift, x_hat_b, Y_b, r_b, n_features, B, first, batch_size, high, threshold, kept
            )
        else:
            _normalize_dropout(
                A_b, gain, shift, x_hat_b, Y_b, r_b, n_features, B, first, batch_size, high, threshold, kept
            )


def _make_activate(*, dropout: bool) -> Any:
    @vector_function(int64, int64, int64, int32, int32, int32, int32, float32)
    def strip(code, A, n_features, stride, first, step, high, threshold, kept):
        """Applies ReLU and any dropout to one strip, in place."""
        lane_numbers = code.vector(INT32, list(range(LANES))) + first
        with code.loop(n_features) as h:
            at = A + h * stride * FLOAT_BYTES
            z = code.load(at, LANES)
            code.store(_gated(code, z, h, lane_numbers, step, high, threshold if dropout else None, kept), at)

    return strip


_activate_only = _make_activate(dropout=False)
_activate_dropout = _make_activate(dropout=True)


@leaf(int64, int64, int64, int64, uint64, int64, float32)
def activate(A, n_features, B, batch_size, key, threshold, kept):
    """Computes A = dropout(ReLU(A)), in place, for layers without LayerNorm; arguments as in `normalize`."""
    low, high = uint32(key & uint64(0xFFFFFFFF)), uint32(key >> uint64(32))
    for b in range(0, B, LANES):
        A_b, first = A + FLOAT_BYTES * b, uint32(low + uint32(b))
        if threshold == 0:
            _activate_only(A_b, n_features, B, first, batch_size, high, threshold, kept)
        else:
            _activate_dropout(A_b, n_features, B, first, batch_size, high, threshold, kept)


@vector_function(*[int64] * 5, float32)
def _activate_backward(code, delta, Y, bias_gradient, n_features, stride, kept):
    """Computes `activate_backward` for one strip."""
    with code.loop(n_features) as h:
        row, one = h * stride * FLOAT_BYTES, h * FLOAT_BYTES
        passes = code.load(Y + row, LANES) > 0.0
        d = code.load(delta + row, LANES) * code.select(passes, kept.splat(LANES), _zeros(code))
        code.store(d, delta + row)
        code.store(code.load(bias_gradient + one) + code.sum(d), bias_gradient + one)


@leaf(*[int64] * 5, float32)
def activate_backward(delta, Y, bias_gradient, n_features, B, kept):
    """Computes the backward pass of dropout and ReLU, whose output is Y.

    `delta` [H, B], the gradient with respect to Y, is replaced by that with respect to their input. Adds to the
    gradient of the bias of the preceding Linear layer.
    """
    for b in range(0, B, LANES):
        at = FLOAT_BYTES * b
        _activate_backward(delta + at, Y + at, bias_gradient, n_features, B, kept)


@vector_function(*[int64] * 8, int64, int64, float32)
def _hidden_backward(
    code, delta, gain, x_hat, Y, inverse_sd, gain_gradient, shift_gradient, bias_gradient, n_features, stride, kept
):
    """Computes `hidden_backward` for one strip."""
    scale = code.to_float(n_features)
    mean_delta, mean_product = code.variable(_zeros(code)), code.variable(_zeros(code))
    with code.loop(n_features) as h:
        row, one = h * stride * FLOAT_BYTES, h * FLOAT_BYTES
        normalized = code.load(x_hat + row, LANES)
        passes = code.load(Y + row, LANES) > 0.0
        d = code.load(delta + row, LANES) * code.select(passes, kept.splat(LANES), _zeros(code))
        code.store(code.load(gain_gradient + one) + code.sum(d * normalized), gain_gradient + one)
        code.store(code.load(shift_gradient + one) + code.sum(d), shift_gradient + one)
        d = d * code.load(gain + one)
        code.store(d, delta + row)
        mean_delta.set(mean_delta.get() + d)
        mean_product.set(mean_product.get() + d * normalized)
    m, p, r = mean_delta.get() / scale, mean_product.get() / scale, code.load(inverse_sd, LANES)
    with code.loop(n_features) as h:
        row, one = h * stride * FLOAT_BYTES, h * FLOAT_BYTES
        d = (code.load(delta + row, LANES) - m - code.load(x_hat + row, LANES) * p) * r
        code.store(d, delta + row)
        code.store(code.load(bias_gradient + one) + code.sum(d), bias_gradient + one)


@leaf(*[int64] * 8, int64, int64, float32)
def hidden_backward(
    delta, gain, x_hat, Y, inverse_sd, gain_gradient, shift_gradient, bias_gradient, n_features, B, kept
):
    """Computes the backward pass of dropout, ReLU and LayerNorm, whose output is Y.

    `delta` [H, B], the gradient with respect to Y, is replaced by that with respect to their input. Adds to the
    gradients of gain and shift, and of the bias of the preceding Linear layer.
    """
    for b in range(0, B, LANES):
        at = FLOAT_BYTES * b
        _hidden_backward(
            delta + at, gain, x_hat + at, Y + at, inverse_sd + at, gain_gradient, shift_gradient, bias_gradient,
            n_features, B, kept,
        )  # fmt: skip


@vector_function(*[int64] * 4)
def _transpose_8x8(code, A, a_stride, B, b_stride):
    """Computes B = A^T, both [8, 8]."""
    rows = [code.load(A + a_stride * (FLOAT_BYTES * i), 8) for i in range(8)]
    for span in (1, 2, 4):  # swap the off-diagonal blocks of size `span` within blocks of twice the size
        low = [lane if not lane & span else lane - span + 8 for lane in range(8)]
        high = [lane + span if not lane & span else lane + 8 for lane in range(8)]
        for i in range(8):
            if not i & span:
                upper, lower = rows[i], rows[i + span]
                rows[i], rows[i + span] = code.shuffle(upper, lower, low), code.shuffle(upper, lower, high)
    for i, row in enumerate(rows):
        code.store(row, B + b_stride * (FLOAT_BYTES * i))


@vector_function(int64, int64, int64)
def copy(code, source, target, n):
    """Copies n contiguous numbers."""
    whole = n / 8
    with code.loop(whole) as i:
        code.store(code.load(source + i * (8 * FLOAT_BYTES), 8), target + i * (8 * FLOAT_BYTES))
    rest, at = n - whole * 8, whole * (8 * FLOAT_BYTES)
    with code.when(rest > 0):
        mask = code.vector(INT64, list(range(8))) < rest
        code.store(code.load(source + at, 8, mask), target + at, mask)


@leaf(*[int64] * 6)
def transpose(A, a_stride, n_rows, n_cols, B, b_stride):
    """Computes B = A^T, where A is [n_rows, n_cols]."""
    rows, cols = n_rows // 8 * 8, n_cols // 8 * 8
    for i in range(0, rows, 8):
        for j in range(0, cols, 8):
            tile, turned = A + FLOAT_BYTES * (i * a_stride + j), B + FLOAT_BYTES * (j * b_stride + i)
            _transpose_8x8(tile, a_stride, turned, b_stride)
    for i in range(n_rows):
        for j in range(cols if i < rows else 0, n_cols):
            copy(A + FLOAT_BYTES * (i * a_stride + j), B + FLOAT_BYTES * (j * b_stride + i), 1)


@vector_function(*[int64] * 5, *[float32] * 7)
def adamw(code, parameters, gradient, moment1, moment2, n, decay, step_size, correction, rate1, beta2, rate2, eps):
    """Updates n parameters and moments by AdamW (Loshchilov & Hutter 2019), in the order of torch.optim.AdamW."""

    def update(at: Lanes, mask: Lanes | None = None) -> None:
        g, m, v = (code.load(array + at, LANES, mask) for array in (gradient, moment1, moment2))
        m = m + (g - m) * rate1
        v = v * beta2 + g * g * rate2
        code.store(m, moment1 + at, mask)
        code.store(v, moment2 + at, mask)
        p = code.load(parameters + at, LANES, mask)
        code.store(p * decay - m * step_size / (code.sqrt(v) * correction + eps), parameters + at, mask)

    whole = n / LANES
    with code.loop(whole) as i:
        update(i * (FLOAT_BYTES * LANES))
    rest = n - whole * LANES
    with code.when(rest > 0):
        update(whole * (FLOAT_BYTES * LANES), code.vector(INT64, list(range(LANES))) < rest)
