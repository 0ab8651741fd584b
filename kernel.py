"""The compiled training step: forward, loss, backward and AdamW over one flat parameter vector.

    table = layer_table(24, 3, [64, 64])
    train_epochs(parameters, moment1, moment2, table, ...)

Numba compiles these loops to machine code that runs without Python, the GIL, or allocation inside a
step. `training.train_reference` defines what is right; the tests hold this file against it.

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

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numba import float32, int64, uint32, uint64

from tile import (
    multiply_1x8,
    multiply_1x8_masked,
    multiply_1x16,
    multiply_4x8,
    multiply_4x8_masked,
    multiply_4x16,
)

from losses import ALL_WEIGHT, NONZERO_WEIGHT
from models import LAYER_NORM_EPS
from randomness import DROPOUT_BITS, MIX32, MIX64

FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8  # torch.optim.AdamW's defaults
EVALUATION_ROWS = 64  # rows that an evaluation pushes through the network at a time

# Columns of a layer table: sizes, then offsets into the flat vector of weight, bias and, for a hidden
# layer, LayerNorm's gain and bias (0 where there is none: the input's LayerNorm stands there).
N_IN, N_OUT, WEIGHT, BIAS, GAIN, SHIFT = range(6)


def layer_table(input_dim: int, latent_dim: int, hidden_dims: Sequence[int]) -> np.ndarray:
    """The network's Linear layers from input to reconstruction, [layers, 6] int64."""
    encoder = [input_dim, *hidden_dims, latent_dim]
    decoder = [latent_dim, *reversed(hidden_dims), input_dim]
    rows = []
    offset = 2 * input_dim  # behind the gain and bias of the input's LayerNorm
    for dims in (encoder, decoder):
        for i, (n_in, n_out) in enumerate(zip(dims[:-1], dims[1:], strict=True)):
            bias = offset + n_in * n_out
            gain = bias + n_out if i < len(dims) - 2 else 0
            rows.append([n_in, n_out, offset, bias, gain, gain + n_out if gain else 0])
            offset = bias + n_out * (3 if gain else 1)
    return np.array(rows, dtype=np.int64)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    options = {"nogil": True, "error_model": "numpy", "fastmath": FAST, "boundscheck": False}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder that the cache could be written to
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


@_compile
def _matmul(A, a, row_stride, col_stride, n_rows, n_inner, B, b_stride, n_cols, C, c, c_stride):  # type: ignore[no-untyped-def]
    """C[c + i c_stride + j] += Σ_k A[a + i row_stride + k col_stride] B[k b_stride + j]."""
    j = 0
    while j < n_cols:
        live = n_cols - j
        for i in range(0, n_rows - 3, 4):
            a_i, c_ij = a + i * row_stride, c + i * c_stride + j
            if live >= 16:
                multiply_4x16(A, a_i, row_stride, col_stride, n_inner, B, j, b_stride, C, c_ij, c_stride, live)
            elif live >= 8:
                multiply_4x8(A, a_i, row_stride, col_stride, n_inner, B, j, b_stride, C, c_ij, c_stride, live)
            else:
                multiply_4x8_masked(A, a_i, row_stride, col_stride, n_inner, B, j, b_stride, C, c_ij, c_stride, live)
        for i in range(n_rows - n_rows % 4, n_rows):
            a_i, c_ij = a + i * row_stride, c + i * c_stride + j
            if live >= 16:
                multiply_1x16(A, a_i, row_stride, col_stride, n_inner, B, j, b_stride, C, c_ij, c_stride, live)
            elif live >= 8:
                multiply_1x8(A, a_i, row_stride, col_stride, n_inner, B, j, b_stride, C, c_ij, c_stride, live)
            else:
                multiply_1x8_masked(A, a_i, row_stride, col_stride, n_inner, B, j, b_stride, C, c_ij, c_stride, live)
        j += 16 if live >= 16 else 8


@_compile
def _linear(parameters, layer, X, Y):  # type: ignore[no-untyped-def]
    """Y = W X + bias: [H_in, B] -> [H_out, B]."""
    n_in, n_out = layer[N_IN], layer[N_OUT]
    for o in range(n_out):
        Y[o, :] = parameters[layer[BIAS] + o]
    B = X.shape[1]
    _matmul(parameters, layer[WEIGHT], n_in, 1, n_out, n_in, X, B, B, Y, 0, B)


@_compile
def _normalize(A, n_features, x_hat, inverse_sd, mean):  # type: ignore[no-untyped-def]
    """LayerNorm without its gain and bias: x̂ [H, B] and 1/sqrt(var + eps) [B] of A [H, B]; `mean` is scratch."""
    scale = float32(1.0) / float32(n_features)
    mean[:] = 0
    for h in range(n_features):
        mean += A[h]
    mean *= scale
    inverse_sd[:] = 0
    for h in range(n_features):
        row, out = A[h], x_hat[h]
        for b in range(mean.size):
            centred = row[b] - mean[b]
            out[b] = centred
            inverse_sd[b] += centred * centred
    for b in range(mean.size):
        inverse_sd[b] = float32(1.0) / np.sqrt(inverse_sd[b] * scale + float32(LAYER_NORM_EPS))
    for h in range(n_features):
        x_hat[h] *= inverse_sd


@_compile
def _mix64(value):  # type: ignore[no-untyped-def]
    """`randomness.mix64`."""
    value = uint64(value) + uint64(MIX64[0])
    value = (value ^ (value >> uint64(30))) * uint64(MIX64[1])
    value = (value ^ (value >> uint64(27))) * uint64(MIX64[2])
    return value ^ (value >> uint64(31))


@_compile
def _draw_gate(key, width, batch_size, threshold, gate):  # type: ignore[no-untyped-def]
    """The dropout pattern of one layer and step, `randomness.dropout_keep`, as 0 and 1/(1-p): [H, B]."""
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


@_compile
def _activate(parameters, layer, x_hat, gate, Y):  # type: ignore[no-untyped-def]
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
def _forward(parameters, table, X, key, batch_size, threshold, inputs, x_hats, gates, inverse_sds, mean, output):  # type: ignore[no-untyped-def]
    """[F, B] -> the reconstruction in `output` [F, B], and all that the backward pass needs.

    `inputs[l]` is what Linear layer l gets, [layers, H, B]; `x_hats`, `gates` and `inverse_sds` belong to
    the LayerNorm and gate behind layer l, and those at [-1], the output's, to the input's LayerNorm.
    A threshold of 0 is no dropout.
    """
    last = table.shape[0] - 1
    n_features = table[0, N_IN]
    _normalize(X, n_features, x_hats[last], inverse_sds[last], mean)
    for f in range(n_features):
        inputs[0, f] = parameters[f] * x_hats[last, f] + parameters[n_features + f]
    for n in range(last):
        layer = table[n]
        _linear(parameters, layer, inputs[n], inputs[n + 1])
        if layer[GAIN] > 0:
            _normalize(inputs[n + 1], layer[N_OUT], x_hats[n], inverse_sds[n], mean)
            if threshold > 0:
                _draw_gate(_mix64(key + uint64(n)), layer[N_OUT], batch_size, threshold, gates[n])
            else:
                gates[n, : layer[N_OUT]] = float32(1.0)
            _activate(parameters, layer, x_hats[n], gates[n], inputs[n + 1])
    _linear(parameters, table[last], inputs[last], output)


@_compile
def _gather(data, observed, order, start, n_live, X, weights):  # type: ignore[no-untyped-def]
    """Rows order[start : start + n_live] as columns of X [F, B], and the weight of each cell in the loss.

    Columns from n_live on are zero and weigh nothing, so that they add nothing to any gradient.
    """
    X[:] = 0
    weights[:] = 0
    n_observed = n_nonzero = 0
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


@_compile
def _loss(output, X, weights, delta):  # type: ignore[no-untyped-def]
    """The batch's loss; its gradient with respect to `output` goes to `delta`. All [F, B]."""
    loss = float32(0.0)
    for f in range(X.shape[0]):
        row, target, factors, out = output[f], X[f], weights[f], delta[f]
        for b in range(row.size):
            error = row[b] - target[b]
            weighted = factors[b] * error
            out[b] = float32(2.0) * weighted
            loss += weighted * error
    return loss


@_compile
def _hidden_backward(parameters, gradient, layer, x_hat, gate, inverse_sd, delta, mean_delta, mean_product):  # type: ignore[no-untyped-def]
    """Dropout, ReLU and LayerNorm backward: `delta` [H, B] from their output to their input, in place."""
    n_features = layer[N_OUT]
    scale = float32(1.0) / float32(n_features)
    mean_delta[:] = 0
    mean_product[:] = 0
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
    mean_delta *= scale
    mean_product *= scale
    for h in range(n_features):
        row, normalized = delta[h], x_hat[h]
        for b in range(row.size):
            row[b] = inverse_sd[b] * (row[b] - mean_delta[b] - normalized[b] * mean_product[b])


@_compile
def _linear_backward(parameters, gradient, layer, X, X_rows, delta, delta_in):  # type: ignore[no-untyped-def]
    """Gradients of weight and bias, and `delta_in` [H_in, B] from `delta` [H_out, B]; X_rows is scratch."""
    n_in, n_out, weight = layer[N_IN], layer[N_OUT], layer[WEIGHT]
    B = X.shape[1]
    for o in range(n_out):
        gradient[layer[BIAS] + o] = delta[o].sum()
    for b in range(B):
        for k in range(n_in):
            X_rows[b, k] = X[k, b]
    gradient[weight : weight + n_in * n_out] = 0
    _matmul(delta, 0, B, 1, n_out, B, X_rows, X_rows.shape[1], n_in, gradient, weight, n_in)
    delta_in[:n_in] = 0
    _matmul(parameters, weight, 1, n_in, n_in, n_out, delta, B, B, delta_in, 0, B)


@_compile
def _backward(parameters, gradient, table, inputs, x_hats, gates, inverse_sds, X_rows, delta, delta_in, mean, mean2):  # type: ignore[no-untyped-def]
    """All gradients, from `delta`, the loss's gradient with respect to the reconstruction [F, B]."""
    last = table.shape[0] - 1
    n_features = table[0, N_IN]
    for n in range(last, -1, -1):
        _linear_backward(parameters, gradient, table[n], inputs[n], X_rows, delta, delta_in)
        delta, delta_in = delta_in, delta
        if n > 0 and table[n - 1, GAIN] > 0:
            _hidden_backward(
                parameters, gradient, table[n - 1], x_hats[n - 1], gates[n - 1], inverse_sds[n - 1], delta, mean, mean2
            )
    for f in range(n_features):
        gradient[f] = (delta[f] * x_hats[last, f]).sum()
        gradient[n_features + f] = delta[f].sum()


@_compile
def _adamw(parameters, gradient, moment1, moment2, step, learning_rate, weight_decay):  # type: ignore[no-untyped-def]
    """One AdamW step (Loshchilov & Hutter 2019), `step` counted from 1; torch.optim.AdamW's order of operations."""
    decay = float32(1.0 - learning_rate * weight_decay)
    step_size = float32(learning_rate / (1.0 - BETA1**step))
    correction = float32(1.0 / np.sqrt(1.0 - BETA2**step))
    one_minus_beta1, beta2, one_minus_beta2 = float32(1.0 - BETA1), float32(BETA2), float32(1.0 - BETA2)
    for p in range(parameters.size):
        g = gradient[p]
        m = moment1[p] + one_minus_beta1 * (g - moment1[p])
        v = beta2 * moment2[p] + one_minus_beta2 * g * g
        moment1[p] = m
        moment2[p] = v
        parameters[p] = parameters[p] * decay - step_size * m / (np.sqrt(v) * correction + float32(ADAM_EPS))


@_compile
def row_errors(parameters, table, data, observed, errors):  # type: ignore[no-untyped-def]
    """Squared error of each row over its non-zero and over all its cells, in eval mode: `errors` [N, 2]."""
    n_layers, width, n_features = table.shape[0], table[:, :2].max(), data.shape[1]
    B = EVALUATION_ROWS
    X = np.zeros((n_features, B), np.float32)
    output = np.zeros((n_features, B), np.float32)
    inputs = np.zeros((n_layers, width, B), np.float32)
    x_hats = np.zeros((n_layers, width, B), np.float32)
    gates = np.zeros((n_layers, width, B), np.float32)
    inverse_sds = np.zeros((n_layers, B), np.float32)
    mean = np.zeros(B, np.float32)
    for start in range(0, data.shape[0], B):
        n_live = min(B, data.shape[0] - start)
        for b in range(n_live):
            for f in range(n_features):
                X[f, b] = data[start + b, f]
        _forward(parameters, table, X, uint64(0), B, 0, inputs, x_hats, gates, inverse_sds, mean, output)
        for b in range(n_live):
            nonzero = total = float32(0.0)
            for f in range(n_features):
                error = (output[f, b] - X[f, b]) * observed[start + b, f]
                total += error * error
                nonzero += error * error if X[f, b] != 0 else float32(0.0)
            errors[start + b, 0] = nonzero
            errors[start + b, 1] = total


@_compile
def loss_from_errors(errors, n_nonzero, n_observed):  # type: ignore[no-untyped-def]
    """`losses.loss_from_sums` over all rows of `errors` [N, 2], added up in float64."""
    nonzero = total = 0.0
    for row in range(errors.shape[0]):
        nonzero += errors[row, 0]
        total += errors[row, 1]
    mean = total / max(n_observed, 1)
    return NONZERO_WEIGHT * nonzero / n_nonzero + ALL_WEIGHT * mean if n_nonzero > 0 else mean


@_compile
def train_epochs(
    parameters, moment1, moment2, table, data, observed, orders, first_epoch, learning_rates, weight_decay,
    batch_size, dropout_key, threshold, test_data, test_observed, train_losses, test_losses, test_errors,
):  # type: ignore[no-untyped-def]
    """Trains in place for the epochs of `orders` [E, N] and `learning_rates` [E]; returns how many stayed finite.

    `parameters`, `moment1` and `moment2` [P] are all that an epoch hands to the next one. `data` [N, F] is
    0 where `observed` (uint8) is. Fills `train_losses` [E], `test_losses` [E] and, for the last epoch,
    `test_errors` [N_test, 2].
    """
    n_layers, width, n_features = table.shape[0], table[:, :2].max(), data.shape[1]
    n_rows = data.shape[0]
    n_steps = (n_rows + batch_size - 1) // batch_size
    B = (batch_size + 15) // 16 * 16  # whole tiles
    gradient = np.zeros_like(parameters)
    X = np.zeros((n_features, B), np.float32)
    weights = np.zeros((n_features, B), np.float32)
    output = np.zeros((n_features, B), np.float32)
    inputs = np.zeros((n_layers, width, B), np.float32)
    x_hats = np.zeros((n_layers, width, B), np.float32)
    gates = np.zeros((n_layers, width, B), np.float32)
    inverse_sds = np.zeros((n_layers, B), np.float32)
    X_rows = np.zeros((B, width), np.float32)
    delta = np.zeros((width, B), np.float32)
    delta_in = np.zeros((width, B), np.float32)
    mean, mean2 = np.zeros(B, np.float32), np.zeros(B, np.float32)
    n_nonzero, n_observed = np.count_nonzero(test_data), test_observed.sum()

    for e in range(orders.shape[0]):
        epoch_key = _mix64(dropout_key + uint64(first_epoch + e))
        loss = 0.0
        for s in range(n_steps):
            n_live = min(batch_size, n_rows - s * batch_size)
            _gather(data, observed, orders[e], s * batch_size, n_live, X, weights)
            step_key = _mix64(epoch_key + uint64(s))
            _forward(
                parameters, table, X, step_key, batch_size, threshold, inputs, x_hats, gates, inverse_sds, mean, output
            )
            loss += _loss(output, X, weights, delta)
            _backward(
                parameters, gradient, table, inputs, x_hats, gates, inverse_sds, X_rows, delta, delta_in, mean, mean2
            )
            step = (first_epoch + e) * n_steps + s + 1
            _adamw(parameters, gradient, moment1, moment2, step, learning_rates[e], weight_decay)
        row_errors(parameters, table, test_data, test_observed, test_errors)
        train_losses[e] = loss / n_steps
        test_losses[e] = loss_from_errors(test_errors, n_nonzero, n_observed)
        if not (np.isfinite(train_losses[e]) and np.isfinite(test_losses[e])):
            return e
    return orders.shape[0]
