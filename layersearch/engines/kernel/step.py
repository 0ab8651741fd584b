"""The compiled training step: forward pass, loss, backward pass and AdamW, on one flat vector of parameters.

    table = layer_table(24, 3, [64, 64])
    train_epochs(parameters, moment1, moment2, table, ...)

Numba compiles these loops to machine code that needs neither Python nor the GIL, and allocates no memory in a step.
`reference.reference_trainer` defines correct results; the tests compare this file with it.

Layout. Activations are stored features first, [H, B], so every innermost loop runs over the batch. Its length does not
depend on a layer's width, and a latent layer of 3 units wastes no vector lanes. Weights have torch's layout,
[H_out, H_in], and torch's order, so the flat vector is the concatenated state_dict. `product.py` computes the matrix
products and `strips.py` the operations between them, both with explicit vectors. benchmarks/floor.md compares their
speed with the limit of the machine.

Derivation, for one row and one layer. LayerNorm computes x̂ = (a - mean(a)) r with r = 1/sqrt(var(a) + eps), and the
output z = g x̂ + β. With δ = dL/dz, dL/dg = Σ_b δ x̂ and dL/dβ = Σ_b δ. Since mean and r depend on every a, dL/da = r
(δg - mean(δg) - x̂ mean(δg x̂)). Without a LayerNorm, z = a. ReLU and dropout together multiply z by a factor, 0 or
1/(1-p), which is the same in the forward and the backward pass. A cell with the error e adds w e² to the loss. Its
weight w is 0.7/n₊ (if its target is not zero; n₊ is the number of such cells) + 0.3/n (n is the number of observed
cells); if n₊ = 0 it is 1/n, and for a missing cell 0. So dL/de = 2 w e.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numba import float32, int32, int64, uint64

from layersearch.engines.kernel.jit import compiled, inlined
from layersearch.engines.kernel.product import BLOCKED_PRODUCTS, SCRATCH, multiply
from layersearch.engines.kernel.strips import (
    LANES,
    activate,
    activate_backward,
    adamw,
    copy,
    hidden_backward,
    normalize,
    transpose,
)
from layersearch.engines.kernel.vectors import address
from layersearch.randomness import DROPOUT_BITS, MIX64
from layersearch.space.configurations import Configuration, decoder_dims, encoder_dims
from losses import ALL_WEIGHT, NONZERO_WEIGHT

LEAVES = [leaf.address for leaf in (multiply, transpose, normalize, hidden_backward, activate, activate_backward)]
MULTIPLY, TRANSPOSE, NORMALIZE, HIDDEN_BACKWARD, ACTIVATE, ACTIVATE_BACKWARD = range(6)
call_multiply, call_transpose = multiply.call, transpose.call
call_normalize, call_hidden_backward = normalize.call, hidden_backward.call
call_activate, call_activate_backward = activate.call, activate_backward.call

BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8  # the defaults of torch.optim.AdamW

# Columns of a layer table: sizes; offsets in the flat vector of the weight, the bias and the LayerNorm's gain and shift
# (0 without a LayerNorm); what follows the Linear layer (nothing; ReLU and dropout; or LayerNorm, ReLU and dropout);
# and whether the layer is frozen, which implies that all layers before it are. If the input is normalized, the gain and
# shift of its LayerNorm come first in the flat vector; otherwise the first weight has offset 0.
N_IN, N_OUT, WEIGHT, BIAS, GAIN, SHIFT, KIND, FROZEN = range(8)
LINEAR, ACTIVATED, NORMALIZED = range(3)


def layer_table(
    input_dim: int,
    latent_dim: int,
    config: Configuration,
    *,
    normalization: str = "layer",
    input_normalization: str = "layer",
    is_frozen: bool = False,
) -> np.ndarray:
    """Returns the table of the network's Linear layers, from the input to the reconstruction, [layers, 8] int64.

    With `is_frozen` the encoder is not trained and has no dropout.
    """
    encoder = [input_dim, *encoder_dims(config), latent_dim]
    decoder = [latent_dim, *decoder_dims(config), input_dim]
    hidden = NORMALIZED if normalization == "layer" else ACTIVATED
    rows = []
    offset = 2 * input_dim if input_normalization == "layer" else 0
    for dims in (encoder, decoder):
        for i, (n_in, n_out) in enumerate(pairwise(dims)):
            kind = hidden if i < len(dims) - 2 else LINEAR
            bias = offset + n_in * n_out
            gain = bias + n_out if kind == NORMALIZED else 0
            shift = gain + n_out if gain else 0
            rows.append([n_in, n_out, offset, bias, gain, shift, kind, is_frozen and dims is encoder])
            offset = bias + n_out * (3 if gain else 1)
    return np.array(rows, dtype=np.int64)


def n_parameters(table: np.ndarray) -> int:
    """Returns P, the length of the flat vector."""
    return int(table[-1, BIAS] + table[-1, N_OUT])


class Workspace(NamedTuple):
    """The float32 arrays that a step writes, allocated once for each trial; layers are numbered as in the layer table.

    The LayerNorm after Linear layer l has index l. The output layer has none, so the last index is used for the
    LayerNorm of the input, if it has one.
    """

    X: np.ndarray  # [F, B] the batch
    weights: np.ndarray  # [F, B] weight of each cell in the loss
    output: np.ndarray  # [F, B] the reconstruction
    inputs: np.ndarray  # [layers, H, B] input of each Linear layer
    x_hats: np.ndarray  # [layers, H, B] x̂ of each LayerNorm
    inverse_sds: np.ndarray  # [layers, B] r of each LayerNorm
    nonzero_errors: np.ndarray  # [B] squared errors over non-zero cells
    all_errors: np.ndarray  # [B] squared errors over observed cells
    X_rows: np.ndarray  # [B, H] the batch, or a layer's input, transposed
    delta: np.ndarray  # [H, B] gradient of the loss with respect to a layer's output
    delta_in: np.ndarray  # [H, B] the same for its input
    gradient: np.ndarray  # [P]
    scratch: np.ndarray  # [SCRATCH] for products that are computed in blocks
    leaves: np.ndarray  # int64, the addresses `LEAVES`


def allocate(table: np.ndarray, batch_size: int) -> Workspace:
    """Returns a workspace for batches of up to `batch_size` rows; B is rounded up to whole strips."""
    n_layers, width, n_features = len(table), int(table[:, : N_OUT + 1].max()), int(table[0, N_IN])
    B = -(-batch_size // LANES) * LANES
    if B % 128 == 0:
        B += LANES  # otherwise the rows of an array would compete for the same sets of the cache
    is_blocked = int((table[:, N_IN] * table[:, N_OUT]).max()) * B >= BLOCKED_PRODUCTS

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=np.float32)

    return Workspace(
        X=zeros(n_features, B),
        weights=zeros(n_features, B),
        output=zeros(n_features, B),
        inputs=zeros(n_layers, width, B),
        x_hats=zeros(n_layers, width, B),
        inverse_sds=zeros(n_layers, B),
        nonzero_errors=zeros(B),
        all_errors=zeros(B),
        X_rows=zeros(B, width),
        delta=zeros(width, B),
        delta_in=zeros(width, B),
        gradient=zeros(n_parameters(table)),
        scratch=zeros(SCRATCH if is_blocked else 1),
        leaves=np.array(LEAVES),
    )


@compiled
def _fill(array, value):
    """Fills a 1-D array; a loop, because array expressions take ten times as long to compile."""
    for i in range(array.size):
        array[i] = value


@compiled
def _sum(array):
    total = float32(0.0)
    for i in range(array.size):
        total += array[i]
    return total


@inlined
def _in_blocks(n_rows, n_inner, n_cols):
    return int64(n_rows * n_inner * n_cols >= BLOCKED_PRODUCTS)


@inlined
def _linear(parameters, layer, X, Y, work):
    """Computes Y = W X + bias, [H_in, B] -> [H_out, B]."""
    n_in, n_out, B = layer[N_IN], layer[N_OUT], X.shape[1]
    call_multiply(
        work.leaves[MULTIPLY], address(parameters, layer[WEIGHT]), n_in, 1, n_out, n_in, address(X, 0), B, B,
        address(Y, 0), B, address(parameters, layer[BIAS]), address(work.scratch, 0), _in_blocks(n_out, n_in, B),
    )  # fmt: skip


@compiled
def _mix64(value):
    """`randomness.mix64`."""
    value = uint64(value) + uint64(MIX64[0])
    value = (value ^ (value >> uint64(30))) * uint64(MIX64[1])
    value = (value ^ (value >> uint64(27))) * uint64(MIX64[2])
    return value ^ (value >> uint64(31))


@inlined
def _kept_factor(threshold):
    """Returns 1/(1-p), the factor of dropout for kept units."""
    return float32(1.0) / (float32(1.0) - float32(threshold) * float32(2.0**-DROPOUT_BITS))


@inlined
def _first_trained(table):
    """Returns the number of the first trained layer; layers before it, and the input's LayerNorm, are frozen."""
    first = 0
    while table[first, FROZEN]:
        first += 1
    return first


@compiled
def _forward(parameters, table, work, key, batch_size, threshold):
    """Computes work.output from work.X, and stores the arrays for the backward pass. Threshold 0: no dropout."""
    last = table.shape[0] - 1
    n_features, B, kept = table[0, N_IN], work.X.shape[1], _kept_factor(threshold)
    if table[0, WEIGHT] > 0:
        call_normalize(
            work.leaves[NORMALIZE], address(work.X, 0), address(parameters, 0), address(parameters, n_features),
            address(work.x_hats[last], 0), address(work.inputs[0], 0), address(work.inverse_sds[last], 0), n_features,
            B, 0, 0, uint64(0), 0, kept,
        )  # fmt: skip
    else:
        copy(address(work.X, 0), address(work.inputs[0], 0), n_features * B)
    for n in range(last):
        layer, out = table[n], work.inputs[n + 1]
        _linear(parameters, layer, work.inputs[n], out, work)
        if layer[FROZEN]:
            own_threshold, own_kept = int64(0), float32(1.0)
        else:
            own_threshold, own_kept = int64(threshold), kept
        if layer[KIND] == ACTIVATED:
            call_activate(
                work.leaves[ACTIVATE], address(out, 0), layer[N_OUT], B, batch_size, _mix64(key + uint64(n)),
                own_threshold, own_kept,
            )  # fmt: skip
        elif layer[KIND] == NORMALIZED:
            call_normalize(
                work.leaves[NORMALIZE], address(out, 0), address(parameters, layer[GAIN]),
                address(parameters, layer[SHIFT]), address(work.x_hats[n], 0), address(out, 0),
                address(work.inverse_sds[n], 0), layer[N_OUT], B, 1, batch_size, _mix64(key + uint64(n)), own_threshold,
                own_kept,
            )  # fmt: skip
    _linear(parameters, table[last], work.inputs[last], work.output, work)


@inlined
def _gather(data, order, start, n_live, work):
    """Copies rows order[start : start + n_live] of the data to the columns of work.X [F, B].

    Missing cells and columns beyond the last row become 0. work.weights becomes 1 for an observed cell and 0 otherwise.
    Returns the numbers of observed and of non-zero cells.
    """
    (B, width), F = work.X_rows.shape, work.X.shape[0]
    for b in range(n_live):
        copy(address(data, order[start + b] * F), address(work.X_rows, b * width), F)
    for b in range(n_live, B):
        _fill(work.X_rows[b, :F], np.nan)
    call_transpose(work.leaves[TRANSPOSE], address(work.X_rows, 0), width, B, F, address(work.X, 0), B)
    n_observed = n_nonzero = int32(0)
    for f in range(F):
        row, factors = work.X[f], work.weights[f]
        for b in range(row.size):
            is_observed = row[b] == row[b]
            row[b] = row[b] if is_observed else float32(0.0)
            factors[b] = float32(1.0) if is_observed else float32(0.0)
            n_observed += int32(1) if is_observed else int32(0)
            n_nonzero += int32(1) if row[b] != 0 else int32(0)
    return n_observed, n_nonzero


@inlined
def _weigh(n_observed, n_nonzero, X, weights):
    """Replaces the 1s and 0s in `weights` by the weight of each cell in the loss of the batch."""
    share = ALL_WEIGHT if n_nonzero > 0 else 1.0
    per_cell = float32(share / max(n_observed, 1))
    per_nonzero = float32(NONZERO_WEIGHT / max(n_nonzero, 1))
    for f in range(X.shape[0]):
        row, factors = X[f], weights[f]
        for b in range(row.size):
            factors[b] = factors[b] * per_cell + (per_nonzero if row[b] != 0 else float32(0.0))


@inlined
def _loss(work):
    """Returns the loss of the batch, and writes its gradient with respect to the reconstruction to work.delta."""
    loss = float32(0.0)
    for f in range(work.X.shape[0]):
        row, target, factors, out = work.output[f], work.X[f], work.weights[f], work.delta[f]
        for b in range(row.size):
            error = row[b] - target[b]
            weighted = factors[b] * error
            out[b] = float32(2.0) * weighted
            loss += weighted * error
    return loss


@inlined
def _hidden_backward(parameters, table, n, delta, threshold, work):
    """Computes the backward pass of dropout, ReLU and any LayerNorm after layer n.

    `delta` [H, B], the gradient with respect to their output, is replaced by that with respect to their input. The
    gradients of the bias, gain and shift are written to work.gradient.
    """
    layer, gradient, x_hat, Y = table[n], work.gradient, work.x_hats[n], work.inputs[n + 1]
    B, n_features = delta.shape[1], layer[N_OUT]
    is_normalized = layer[KIND] == NORMALIZED
    for p in range(layer[BIAS], layer[BIAS] + (3 if is_normalized else 1) * n_features):  # bias, gain and shift
        gradient[p] = 0
    if is_normalized:
        call_hidden_backward(
            work.leaves[HIDDEN_BACKWARD], address(delta, 0), address(parameters, layer[GAIN]), address(x_hat, 0),
            address(Y, 0), address(work.inverse_sds[n], 0), address(gradient, layer[GAIN]),
            address(gradient, layer[SHIFT]), address(gradient, layer[BIAS]), n_features, B, _kept_factor(threshold),
        )  # fmt: skip
    else:
        call_activate_backward(
            work.leaves[ACTIVATE_BACKWARD], address(delta, 0), address(Y, 0), address(gradient, layer[BIAS]),
            n_features, B, _kept_factor(threshold),
        )  # fmt: skip


@inlined
def _linear_backward(parameters, gradient, layer, X, delta, delta_in, work):
    """Computes the gradient of the weight, and `delta_in` [H_in, B] from `delta` [H_out, B]."""
    n_in, n_out, B, width = layer[N_IN], layer[N_OUT], X.shape[1], work.X_rows.shape[1]
    W, dW = address(parameters, layer[WEIGHT]), address(gradient, layer[WEIGHT])
    D, D_in, X_T = address(delta, 0), address(delta_in, 0), address(work.X_rows, 0)
    product, scratch, in_blocks = work.leaves[MULTIPLY], address(work.scratch, 0), _in_blocks(n_out, n_in, B)
    call_transpose(work.leaves[TRANSPOSE], address(X, 0), B, n_in, B, X_T, width)
    call_multiply(product, D, B, 1, n_out, B, X_T, width, n_in, dW, n_in, 0, scratch, in_blocks)
    call_multiply(product, W, 1, n_in, n_in, n_out, D, B, B, D_in, B, 0, scratch, in_blocks)


@inlined
def _backward(parameters, table, work, threshold):
    """Computes work.gradient from work.delta, the gradient with respect to the reconstruction; skips frozen layers."""
    last, first = table.shape[0] - 1, _first_trained(table)
    n_features = table[0, N_IN]
    gradient, delta, delta_in = work.gradient, work.delta, work.delta_in
    for n in range(last, first - 1, -1):
        layer = table[n]
        if layer[KIND] != LINEAR:
            _hidden_backward(parameters, table, n, delta, threshold, work)
        else:
            for o in range(layer[N_OUT]):
                gradient[layer[BIAS] + o] = _sum(delta[o])
        _linear_backward(parameters, gradient, layer, work.inputs[n], delta, delta_in, work)
        delta, delta_in = delta_in, delta
    for f in range(n_features if table[0, WEIGHT] > 0 and first == 0 else 0):
        row, normalized = delta[f], work.x_hats[last, f]
        gain_gradient = float32(0.0)
        for b in range(row.size):
            gain_gradient += row[b] * normalized[b]
        gradient[f] = gain_gradient
        gradient[n_features + f] = _sum(row)


@inlined
def _adamw(parameters, gradient, moment1, moment2, step, learning_rate, weight_decay):
    """Performs one AdamW step; `step` is counted from 1."""
    decay = float32(1.0 - learning_rate * weight_decay)
    step_size = float32(learning_rate / (1.0 - BETA1**step))
    correction = float32(1.0 / math.sqrt(1.0 - BETA2**step))
    adamw(
        address(parameters, 0), address(gradient, 0), address(moment1, 0), address(moment2, 0), parameters.size, decay,
        step_size, correction, float32(1.0 - BETA1), float32(BETA2), float32(1.0 - BETA2), float32(ADAM_EPS),
    )  # fmt: skip


@compiled
def evaluate(parameters, table, work, data, rows, errors):
    """Computes the sums of squared errors of rows in eval mode, over non-zero and over observed cells.

    Evaluates the rows of `data` [N, F] with the numbers `rows`, and writes to the same rows of `errors` [N, 2].
    """
    nonzero, total = work.nonzero_errors, work.all_errors
    for start in range(0, rows.size, total.size):
        n_live = min(total.size, rows.size - start)
        _gather(data, rows, start, n_live, work)
        _forward(parameters, table, work, uint64(0), int64(0), int64(0))
        _fill(nonzero, float32(0.0))
        _fill(total, float32(0.0))
        for f in range(data.shape[1]):
            row, target, factors = work.output[f], work.X[f], work.weights[f]
            for b in range(total.size):
                error = (row[b] - target[b]) * factors[b]
                total[b] += error * error
                nonzero[b] += error * error if target[b] != 0 else float32(0.0)
        for b in range(n_live):
            errors[rows[start + b], 0] = nonzero[b]
            errors[rows[start + b], 1] = total[b]


@compiled
def loss_of_rows(errors, data, rows):
    """Returns the `losses.loss_of_sums` of rows from their `errors` [N, 2], summed in float64."""
    nonzero = total = 0.0
    n_nonzero = n_observed = 0
    for row in rows:
        nonzero += errors[row, 0]
        total += errors[row, 1]
        for f in range(data.shape[1]):
            is_observed = data[row, f] == data[row, f]
            n_nonzero += is_observed and data[row, f] != 0
            n_observed += is_observed
    mean = total / max(n_observed, 1)
    return NONZERO_WEIGHT * nonzero / n_nonzero + ALL_WEIGHT * mean if n_nonzero > 0 else mean


@compiled
def train_epochs(
    parameters,
    moment1,
    moment2,
    table,
    work,
    data,
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
    """Trains for several epochs, in place, and returns the number of epochs until a loss was not finite.

    `parameters` and both moments are the only state between epochs. Each epoch ends by evaluating the test rows.

    Args:
        parameters: [P] float32.
        moment1: AdamW's first moment, [P] float32.
        moment2: AdamW's second moment, [P] float32.
        table: the layer table.
        work: a workspace.
        data: [N, F] float32, NaN = missing.
        orders: row numbers in the order of each epoch, [E, N_train] int32.
        first_epoch: number of the first epoch, counted from 0.
        learning_rates: learning rate of each epoch, [E].
        weight_decay: weight decay.
        batch_size: number of rows in a batch.
        dropout_key: key of the trial's dropout stream.
        threshold: `randomness.dropout_threshold`; 0 for no dropout.
        test_rows: row numbers of the test rows.
        train_losses: output, [E], the mean loss of the batches of each epoch.
        test_losses: output, [E], the loss of the test rows after each epoch.
        errors: output, [N, 2], written by `evaluate` for the test rows.
    """
    n_epochs, n_rows = orders.shape
    n_steps = (n_rows + batch_size - 1) // batch_size
    first = _first_trained(table)
    start = table[first, WEIGHT] if first > 0 else 0  # offset of the trained parameters
    for e in range(n_epochs):
        epoch_key = _mix64(dropout_key + uint64(first_epoch + e))
        loss = 0.0
        for s in range(n_steps):
            n_live = min(batch_size, n_rows - s * batch_size)
            n_observed, n_nonzero = _gather(data, orders[e], s * batch_size, n_live, work)
            _weigh(n_observed, n_nonzero, work.X, work.weights)
            _forward(parameters, table, work, _mix64(epoch_key + uint64(s)), batch_size, threshold)
            loss += _loss(work)
            _backward(parameters, table, work, threshold)
            step = (first_epoch + e) * n_steps + s + 1
            _adamw(
                parameters[start:], work.gradient[start:], moment1[start:], moment2[start:], step, learning_rates[e],
                weight_decay,
            )  # fmt: skip
        evaluate(parameters, table, work, data, test_rows, errors)
        train_losses[e] = loss / n_steps
        test_losses[e] = loss_of_rows(errors, data, test_rows)
        if not (math.isfinite(train_losses[e]) and math.isfinite(test_losses[e])):
            return e
    return n_epochs
