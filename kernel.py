"""The compiled training step: forward, loss, backward and AdamW over one flat parameter vector.

    table = layer_table(24, 3, [64, 64])
    train_epochs(parameters, moment1, moment2, table, ...)

Numba compiles these loops to machine code that runs without Python, the GIL, or allocation inside a
step. `reference.reference_trainer` defines what is right; the tests hold this file against it.

Layout. Activations are stored features first, [H, B]: the innermost loop of everything runs over the
batch, so its length does not depend on a layer's width and a latent layer of 3 costs as little as it
should. Weights keep torch's layout, [H_out, H_in], in torch's order, so the flat vector is the
state_dict laid end to end.

Derivation, for one row and layer. LayerNorm: x̂ = (a - mean(a)) r with r = 1/sqrt(var(a) + eps) and
output z = g x̂ + β. With δ = dL/dz:  dL/dg = Σ_b δ x̂,  dL/dβ = Σ_b δ, and since mean and r depend on
every a:  dL/da = r (δg - mean(δg) - x̂ mean(δg x̂)).  ReLU and dropout together multiply z by a gate,
0 or 1/(1-p), forward and backward alike. Loss: a cell with the error e counts w e² with w = 0.7/n₊ (if
its target is not zero; n₊ such cells) + 0.3/n (n observed cells), or 1/n where n₊ = 0, or 0 where the
cell is missing; so dL/de = 2 w e.

Floating point. `FAST` lets the compiler reorder sums and contract to FMA, so that they vectorise, but
not assume that NaN or infinity do not occur: a diverging trial must stay recognisable.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import CellType, FunctionType
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import float32, int64, uint32, uint64

import losses
import models
import randomness
import tile
from losses import ALL_WEIGHT, NONZERO_WEIGHT
from models import LAYER_NORM_EPS
from randomness import DROPOUT_BITS, MIX32, MIX64
from search import Configuration, decoder_dims, encoder_dims
from tile import (
    multiply_1x8,
    multiply_1x8_masked,
    multiply_1x16,
    multiply_4x8,
    multiply_4x8_masked,
    multiply_4x16,
)

FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8  # torch.optim.AdamW's defaults
FLOAT_BYTES = 4

# Columns of a layer table: sizes, then offsets into the flat vector of weight, bias and, for a hidden
# layer, LayerNorm's gain and bias (0 where there is none: the input's LayerNorm stands there).
N_IN, N_OUT, WEIGHT, BIAS, GAIN, SHIFT = range(6)


def layer_table(input_dim: int, latent_dim: int, config: Configuration) -> np.ndarray:
    """The network's Linear layers from input to reconstruction, [layers, 6] int64."""
    encoder = [input_dim, *encoder_dims(config), latent_dim]
    decoder = [latent_dim, *decoder_dims(config), input_dim]
    rows = []
    offset = 2 * input_dim  # behind the gain and bias of the input's LayerNorm
    for dims in (encoder, decoder):
        for i, (n_in, n_out) in enumerate(pairwise(dims)):
            bias = offset + n_in * n_out
            gain = bias + n_out if i < len(dims) - 2 else 0
            rows.append([n_in, n_out, offset, bias, gain, gain + n_out if gain else 0])
            offset = bias + n_out * (3 if gain else 1)
    return np.array(rows, dtype=np.int64)


class Workspace(NamedTuple):
    """The arrays a step writes, all float32, allocated once per trial; layers are those of the layer table.

    The LayerNorm and gate behind Linear layer l belong to index l; the output layer has none, and its
    index holds the input's LayerNorm.
    """

    X: np.ndarray  # [F, B] the batch
    weights: np.ndarray  # [F, B] each cell's weight in the loss
    output: np.ndarray  # [F, B] the reconstruction
    inputs: np.ndarray  # [layers, H, B] what each Linear layer gets
    x_hats: np.ndarray  # [layers, H, B] normalized, before gain and shift
    gates: np.ndarray  # [layers, H, B] what ReLU and dropout multiply by
    inverse_sds: np.ndarray  # [layers, B] LayerNorm's 1/sqrt(var + eps)
    mean1: np.ndarray  # [B] scratch
    mean2: np.ndarray  # [B] scratch
    X_rows: np.ndarray  # [B, H] a layer's input, transposed
    delta: np.ndarray  # [H, B] the loss's gradient on its way back
    delta_in: np.ndarray  # [H, B]
    gradient: np.ndarray  # [P]


def allocate(table: np.ndarray, batch_size: int) -> Workspace:
    """A workspace for batches of up to `batch_size` rows, padded to whole tiles."""
    n_layers, width, n_features = len(table), int(table[:, : N_OUT + 1].max()), int(table[0, N_IN])
    B = -(-batch_size // 16) * 16

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=np.float32)

    return Workspace(
        X=zeros(n_features, B),
        weights=zeros(n_features, B),
        output=zeros(n_features, B),
        inputs=zeros(n_layers, width, B),
        x_hats=zeros(n_layers, width, B),
        gates=zeros(n_layers, width, B),
        inverse_sds=zeros(n_layers, B),
        mean1=zeros(B),
        mean2=zeros(B),
        X_rows=zeros(B, width),
        delta=zeros(width, B),
        delta_in=zeros(width, B),
        gradient=zeros(int(table[-1, BIAS]) + n_features),
    )


_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FAST}
_SOURCES = [Path(str(module.__file__)) for module in (losses, models, randomness, tile)]
_DIGEST = hashlib.sha256(b"".join(source.read_bytes() for source in _SOURCES)).hexdigest()


def _compile(function: Callable[..., Any]) -> Any:
    """Compiles a function, cached on disk where a folder can be written to.

    Numba's cache notices changes of this file and of a function's closure, but not of the modules that this file
    takes constants and tiles from: so their digest becomes a variable of the closure.
    """
    code = function.__code__.replace(co_freevars=("sources_digest",))
    function = FunctionType(code, function.__globals__, function.__name__, closure=(CellType(_DIGEST),))
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no such folder
        return numba.njit(**_OPTIONS)(function)


# Numba optimises a function once more in each of its callers; what has one caller joins it at once.
_inline = numba.njit(inline="always", **_OPTIONS)


@_compile
def _fill(array, value):
    """Sets a 1-D array. A loop, since array expressions compile ten times as long."""
    for i in range(array.size):
        array[i] = value


@_compile
def _sum(array):
    total = float32(0.0)
    for i in range(array.size):
        total += array[i]
    return total


@_compile
def _matmul(A, row_stride, col_stride, n_rows, n_inner, B, b_stride, n_cols, C, c_stride):
    """C[i, j] += Σ_k A[i, k] B[k, j]. Addresses and strides in elements; B's and C's columns are contiguous."""
    j = 0
    while j < n_cols:
        live = n_cols - j
        B_j, C_j = B + FLOAT_BYTES * j, C + FLOAT_BYTES * j
        i = 0
        while i + 4 <= n_rows:
            A_i, C_ij = A + FLOAT_BYTES * i * row_stride, C_j + FLOAT_BYTES * i * c_stride
            if live >= 16:
                multiply_4x16(A_i, row_stride, col_stride, n_inner, B_j, b_stride, C_ij, c_stride, live)
            elif live >= 8:
                multiply_4x8(A_i, row_stride, col_stride, n_inner, B_j, b_stride, C_ij, c_stride, live)
            else:
                multiply_4x8_masked(A_i, row_stride, col_stride, n_inner, B_j, b_stride, C_ij, c_stride, live)
            i += 4
        while i < n_rows:
            A_i, C_ij = A + FLOAT_BYTES * i * row_stride, C_j + FLOAT_BYTES * i * c_stride
            if live >= 16:
                multiply_1x16(A_i, row_stride, col_stride, n_inner, B_j, b_stride, C_ij, c_stride, live)
            elif live >= 8:
                multiply_1x8(A_i, row_stride, col_stride, n_inner, B_j, b_stride, C_ij, c_stride, live)
            else:
                multiply_1x8_masked(A_i, row_stride, col_stride, n_inner, B_j, b_stride, C_ij, c_stride, live)
            i += 1
        j += 16 if live >= 16 else 8


@_inline
def _address(array, offset):
    """The address of element `offset` of a float32 array, counted as if it were flat."""
    return int64(array.ctypes.data) + int64(FLOAT_BYTES) * int64(offset)


@_inline
def _linear(parameters, layer, X, Y):
    """Y = W X + bias: [H_in, B] -> [H_out, B]."""
    n_in, n_out, B = layer[N_IN], layer[N_OUT], X.shape[1]
    for o in range(n_out):
        _fill(Y[o], parameters[layer[BIAS] + o])
    _matmul(_address(parameters, layer[WEIGHT]), n_in, int64(1), n_out, n_in, _address(X, 0), B, B, _address(Y, 0), B)


@_compile
def _normalize(A, n_features, x_hat, inverse_sd, mean):
    """LayerNorm without its gain and bias: x̂ [H, B] and 1/sqrt(var + eps) [B] of A [H, B]; `mean` is scratch."""
    scale = float32(1.0) / float32(n_features)
    _fill(mean, float32(0.0))
    for h in range(n_features):
        row = A[h]
        for b in range(mean.size):
            mean[b] += row[b]
    for b in range(mean.size):
        mean[b] *= scale
    _fill(inverse_sd, float32(0.0))
    for h in range(n_features):
        row, out = A[h], x_hat[h]
        for b in range(mean.size):
            centred = row[b] - mean[b]
            out[b] = centred
            inverse_sd[b] += centred * centred
    for b in range(mean.size):
        inverse_sd[b] = float32(1.0) / np.sqrt(inverse_sd[b] * scale + float32(LAYER_NORM_EPS))
    for h in range(n_features):
        out = x_hat[h]
        for b in range(mean.size):
            out[b] *= inverse_sd[b]


@_compile
def _mix64(value):
    """`randomness.mix64`."""
    value = uint64(value) + uint64(MIX64[0])
    value = (value ^ (value >> uint64(30))) * uint64(MIX64[1])
    value = (value ^ (value >> uint64(27))) * uint64(MIX64[2])
    return value ^ (value >> uint64(31))


@_inline
def draw_gate(key, width, batch_size, threshold, gate):
    """One layer's and step's dropout pattern, `randomness.dropout_keep`, as 0 and 1/(1-p); all 1 without dropout."""
    if threshold == 0:
        for h in range(width):
            _fill(gate[h], float32(1.0))
        return
    low, high = uint32(key & uint64(0xFFFFFFFF)), uint32(key >> uint64(32))
    kept = float32(1.0) / (float32(1.0) - float32(threshold) * float32(2.0**-DROPOUT_BITS))
    for h in range(width):
        row = gate[h]
        first = uint32(low + uint32(h * batch_size))
        for b in range(row.size):
            bits = uint32(first + uint32(b))
            bits = uint32(uint32((bits ^ (bits >> uint32(16))) * uint32(MIX32[0])) + high)
            bits = uint32((bits ^ (bits >> uint32(15))) * uint32(MIX32[1]))
            bits ^= bits >> uint32(15)
            row[b] = kept if bits >> uint32(32 - DROPOUT_BITS) >= uint32(threshold) else float32(0.0)


@_inline
def _activate(parameters, layer, x_hat, gate, Y):
    """Y = dropout(ReLU(gain x̂ + shift)); the ReLU joins `gate`, so that Y = (gain x̂ + shift) gate. [H, B]."""
    for h in range(layer[N_OUT]):
        gain, shift = parameters[layer[GAIN] + h], parameters[layer[SHIFT] + h]
        row, factors, out = x_hat[h], gate[h], Y[h]
        for b in range(row.size):
            z = gain * row[b] + shift
            factor = factors[b] if z > 0 else float32(0.0)
            factors[b] = factor
            out[b] = z * factor


@_compile
def _forward(parameters, table, work, key, batch_size, threshold):
    """work.X -> work.output, keeping what the backward pass needs. A threshold of 0 is no dropout."""
    last = table.shape[0] - 1
    n_features = table[0, N_IN]
    _normalize(work.X, n_features, work.x_hats[last], work.inverse_sds[last], work.mean1)
    for f in range(n_features):
        gain, shift = parameters[f], parameters[n_features + f]
        row, out = work.x_hats[last, f], work.inputs[0, f]
        for b in range(row.size):
            out[b] = gain * row[b] + shift
    for n in range(last):
        layer = table[n]
        _linear(parameters, layer, work.inputs[n], work.inputs[n + 1])
        if layer[GAIN] > 0:
            _normalize(work.inputs[n + 1], layer[N_OUT], work.x_hats[n], work.inverse_sds[n], work.mean1)
            draw_gate(_mix64(key + uint64(n)), layer[N_OUT], batch_size, threshold, work.gates[n])
            _activate(parameters, layer, work.x_hats[n], work.gates[n], work.inputs[n + 1])
    _linear(parameters, table[last], work.inputs[last], work.output)


@_inline
def _gather(data, observed, order, start, n_live, X, weights):
    """Rows order[start : start + n_live] as columns of X [F, B], and the weight of each cell in the loss.

    Columns from n_live on are zero and weigh nothing, so that they add nothing to any gradient.
    """
    n_observed = n_nonzero = 0
    for f in range(X.shape[0]):
        _fill(X[f], float32(0.0))
        _fill(weights[f], float32(0.0))
    for b in range(n_live):
        row = order[start + b]
        for f in range(X.shape[0]):
            X[f, b] = data[row, f]
            weights[f, b] = observed[row, f]
            n_observed += observed[row, f]
            n_nonzero += data[row, f] != 0
    share = ALL_WEIGHT if n_nonzero > 0 else 1.0
    per_cell = float32(share / max(n_observed, 1))
    per_nonzero = float32(NONZERO_WEIGHT / max(n_nonzero, 1))
    for f in range(X.shape[0]):
        row, factors = X[f], weights[f]
        for b in range(row.size):
            factors[b] = factors[b] * per_cell + (per_nonzero if row[b] != 0 else float32(0.0))


@_inline
def _loss(work):
    """The batch's loss; its gradient with respect to the reconstruction goes to work.delta."""
    loss = float32(0.0)
    for f in range(work.X.shape[0]):
        row, target, factors, out = work.output[f], work.X[f], work.weights[f], work.delta[f]
        for b in range(row.size):
            error = row[b] - target[b]
            weighted = factors[b] * error
            out[b] = float32(2.0) * weighted
            loss += weighted * error
    return loss


@_inline
def _hidden_backward(parameters, gradient, layer, x_hat, gate, inverse_sd, delta, mean_delta, mean_product):
    """Dropout, ReLU and LayerNorm backward: `delta` [H, B] from their output to their input, in place."""
    n_features = layer[N_OUT]
    scale = float32(1.0) / float32(n_features)
    _fill(mean_delta, float32(0.0))
    _fill(mean_product, float32(0.0))
    for h in range(n_features):
        row, normalized, factors = delta[h], x_hat[h], gate[h]
        gain = parameters[layer[GAIN] + h]
        gain_gradient = shift_gradient = float32(0.0)
        for b in range(row.size):
            d = row[b] * factors[b]
            gain_gradient += d * normalized[b]
            shift_gradient += d
            row[b] = d * gain
        gradient[layer[GAIN] + h] = gain_gradient
        gradient[layer[SHIFT] + h] = shift_gradient
        for b in range(row.size):
            mean_delta[b] += row[b]
            mean_product[b] += row[b] * normalized[b]
    for b in range(mean_delta.size):
        mean_delta[b] *= scale
        mean_product[b] *= scale
    for h in range(n_features):
        row, normalized = delta[h], x_hat[h]
        for b in range(row.size):
            row[b] = inverse_sd[b] * (row[b] - mean_delta[b] - normalized[b] * mean_product[b])


@_inline
def _linear_backward(parameters, gradient, layer, X, X_rows, delta, delta_in):
    """Gradients of weight and bias, and `delta_in` [H_in, B] from `delta` [H_out, B]; X_rows is scratch."""
    n_in, n_out, weight, B = layer[N_IN], layer[N_OUT], layer[WEIGHT], X.shape[1]
    W, D, D_in = _address(parameters, weight), _address(delta, 0), _address(delta_in, 0)
    for o in range(n_out):
        gradient[layer[BIAS] + o] = _sum(delta[o])
    for b in range(B):
        for k in range(n_in):
            X_rows[b, k] = X[k, b]
    for p in range(weight, weight + n_in * n_out):
        gradient[p] = 0
    X_T, dW = _address(X_rows, 0), _address(gradient, weight)
    _matmul(D, B, int64(1), n_out, B, X_T, X_rows.shape[1], n_in, dW, n_in)
    for k in range(n_in):
        _fill(delta_in[k], float32(0.0))
    _matmul(W, int64(1), n_in, n_in, n_out, D, B, B, D_in, B)


@_inline
def _backward(parameters, table, work):
    """All gradients, to work.gradient, from work.delta, the loss's gradient with respect to the output."""
    last = table.shape[0] - 1
    n_features = table[0, N_IN]
    gradient, delta, delta_in = work.gradient, work.delta, work.delta_in
    for n in range(last, -1, -1):
        _linear_backward(parameters, gradient, table[n], work.inputs[n], work.X_rows, delta, delta_in)
        delta, delta_in = delta_in, delta
        before = n - 1
        if n > 0 and table[before, GAIN] > 0:
            _hidden_backward(
                parameters,
                gradient,
                table[before],
                work.x_hats[before],
                work.gates[before],
                work.inverse_sds[before],
                delta,
                work.mean1,
                work.mean2,
            )
    for f in range(n_features):
        row, normalized = delta[f], work.x_hats[last, f]
        gain_gradient = float32(0.0)
        for b in range(row.size):
            gain_gradient += row[b] * normalized[b]
        gradient[f] = gain_gradient
        gradient[n_features + f] = _sum(row)


@_inline
def _adamw(parameters, gradient, moment1, moment2, step, learning_rate, weight_decay):
    """One AdamW step (Loshchilov & Hutter 2019), `step` counted from 1; torch.optim.AdamW's order of operations."""
    decay = float32(1.0 - learning_rate * weight_decay)
    step_size = float32(learning_rate / (1.0 - BETA1**step))
    correction = float32(1.0 / math.sqrt(1.0 - BETA2**step))
    one_minus_beta1, beta2, one_minus_beta2 = float32(1.0 - BETA1), float32(BETA2), float32(1.0 - BETA2)
    for p in range(parameters.size):
        g = gradient[p]
        m = moment1[p] + one_minus_beta1 * (g - moment1[p])
        v = beta2 * moment2[p] + one_minus_beta2 * g * g
        moment1[p] = m
        moment2[p] = v
        parameters[p] = parameters[p] * decay - step_size * m / (np.sqrt(v) * correction + float32(ADAM_EPS))


@_compile
def evaluate(parameters, table, work, data, observed, rows, errors):
    """Squared error of these rows over their non-zero and over all their cells, in eval mode, into `errors` [N, 2]."""
    B = work.X.shape[1]
    for start in range(0, rows.size, B):
        n_live = min(B, rows.size - start)
        for b in range(n_live):
            for f in range(data.shape[1]):
                work.X[f, b] = data[rows[start + b], f]
        _forward(parameters, table, work, uint64(0), int64(0), int64(0))
        for b in range(n_live):
            row = rows[start + b]
            nonzero = total = float32(0.0)
            for f in range(data.shape[1]):
                error = (work.output[f, b] - data[row, f]) * float32(observed[row, f])
                total += error * error
                nonzero += error * error if data[row, f] != 0 else float32(0.0)
            errors[row, 0] = nonzero
            errors[row, 1] = total


@_compile
def loss_of_rows(errors, data, observed, rows):
    """`losses.loss_of_sums` over these rows, added up in float64, from their `errors` [N, 2]."""
    nonzero = total = 0.0
    n_nonzero = n_observed = 0
    for row in rows:
        nonzero += errors[row, 0]
        total += errors[row, 1]
        for f in range(data.shape[1]):
            n_nonzero += data[row, f] != 0
            n_observed += observed[row, f]
    mean = total / max(n_observed, 1)
    return NONZERO_WEIGHT * nonzero / n_nonzero + ALL_WEIGHT * mean if n_nonzero > 0 else mean


@_compile
def train_epochs(
    parameters,
    moment1,
    moment2,
    table,
    work,
    data,
    observed,
    orders,
    first_epoch,
    learning_rates,
    weight_decay,
    batch_size,
    dropout_key,
    threshold,
    test_rows,
    train_losses,
    test_losses,
    errors,
):
    """Trains in place for the epochs of `orders` [E, N_train] and `learning_rates` [E].

    `parameters`, `moment1` and `moment2` [P] are all that one epoch hands to the next. `data` [N, F] is 0
    where `observed` (uint8) is 0; `orders` and `test_rows` hold row numbers of it. Each epoch ends with the
    loss of the test rows, whose `errors` [N, 2] it fills.

    Returns how many epochs stayed finite; fills `train_losses` [E] and `test_losses` [E].
    """
    n_epochs, n_rows = orders.shape
    n_steps = (n_rows + batch_size - 1) // batch_size
    for e in range(n_epochs):
        epoch_key = _mix64(dropout_key + uint64(first_epoch + e))
        loss = 0.0
        for s in range(n_steps):
            start = s * batch_size
            n_live = min(batch_size, n_rows - start)
            _gather(data, observed, orders[e], start, n_live, work.X, work.weights)
            _forward(parameters, table, work, _mix64(epoch_key + uint64(s)), batch_size, threshold)
            loss += _loss(work)
            _backward(parameters, table, work)
            step = (first_epoch + e) * n_steps + s + 1
            _adamw(parameters, work.gradient, moment1, moment2, step, learning_rates[e], weight_decay)
        evaluate(parameters, table, work, data, observed, test_rows, errors)
        train_losses[e] = loss / n_steps
        test_losses[e] = loss_of_rows(errors, data, observed, test_rows)
        if not (math.isfinite(train_losses[e]) and math.isfinite(test_losses[e])):
            return e
    return n_epochs
