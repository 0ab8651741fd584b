"""Measures the time of each part of a training step, and the least time that the step could take.

    python benchmarks/floor.py

Runs each part of the kernel alone, as often as a step runs it, on one core, for some configurations on a synthetic
table: 1,607 training and 401 test rows, 24 columns, latent size 3, batch size 32, dropout 0.1. Times are CPU times: the
fastest of 31 and the median, which other processes on the machine may have increased. The floor is the time of the
multiply-adds at the rate of torch's 1024 x 1024 product in the same run: one forward pass, two backward, and a step's
share of the evaluation that ends each epoch. AdamW has few multiplications, so its floor is the time to read and write
seven numbers per parameter at the rate at which this core copies within its L2 cache.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - the project's modules lie one folder up
import torch  # noqa: E402
from numba import int64, uint64  # noqa: E402

from layersearch.engines.kernel import jit  # noqa: E402
from layersearch.engines.kernel import step as kernel  # noqa: E402
from layersearch.engines.kernel.step import (  # noqa: E402
    GAIN,
    HIDDEN_BACKWARD,
    N_IN,
    N_OUT,
    NORMALIZE,
    SHIFT,
    TRANSPOSE,
    call_hidden_backward,
    call_normalize,
    call_transpose,
)
from layersearch.engines.kernel.vectors import address  # noqa: E402
from layersearch.journal.identity import describe_environment  # noqa: E402
from layersearch.randomness import dropout_threshold  # noqa: E402
from layersearch.space.configurations import Configuration  # noqa: E402

CONFIGURATIONS: list[Configuration] = [(16, 16, 16), (32,), (64,), (64, 64), (64, 64, 64)]
TRAIN_ROWS, TEST_ROWS, FEATURES, LATENT, BATCH = 1607, 401, 24, 3, 32
STEPS = -(-TRAIN_ROWS // BATCH)  # number of steps in an epoch
REPEATS, TIMINGS = 5 * STEPS, 31  # number of calls of a part in one timing; number of timings


@jit.compiled
def gather(n, parameters, table, work, data, order, threshold):
    """Copies the batch's rows to columns and computes the weight of each cell."""
    for i in range(n):
        n_observed, n_nonzero = kernel._gather(data, order, (i % (STEPS - 1)) * BATCH, BATCH, work)
        kernel._weigh(n_observed, n_nonzero, work.X, work.weights)


@jit.compiled
def products_forward(n, parameters, table, work, data, order, threshold):
    """Computes W X + bias of all layers."""
    for _ in range(n):
        for layer in range(table.shape[0] - 1):
            kernel._linear(parameters, table[layer], work.inputs[layer], work.inputs[layer + 1], work)
        last = table.shape[0] - 1
        kernel._linear(parameters, table[last], work.inputs[last], work.output, work)


@jit.compiled
def normalize_forward(n, parameters, table, work, data, order, threshold):
    """Computes LayerNorm, ReLU and dropout of all hidden layers."""
    B, kept = work.X.shape[1], kernel._kept_factor(threshold)
    for i in range(n):
        for layer in range(table.shape[0] - 1):
            gain, out = table[layer, GAIN], address(work.inputs[layer + 1], 0)
            if gain > 0:
                call_normalize(
                    work.leaves[NORMALIZE], out, address(parameters, gain), address(parameters, table[layer, SHIFT]),
                    address(work.x_hats[layer], 0), out, address(work.inverse_sds[layer], 0), table[layer, N_OUT], B,
                    int64(1), B, uint64(i), threshold, kept,
                )  # fmt: skip


@jit.compiled
def loss(n, parameters, table, work, data, order, threshold):
    """Computes the loss and its gradient with respect to the reconstruction."""
    total = 0.0
    for _ in range(n):
        total += kernel._loss(work)
    return total


@jit.compiled
def products_backward(n, parameters, table, work, data, order, threshold):
    """Computes both products of all layers, and the transposes they need."""
    for _ in range(n):
        for layer in range(table.shape[0]):
            kernel._linear_backward(
                parameters, work.gradient, table[layer], work.inputs[layer], work.delta, work.delta_in, work
            )


@jit.compiled
def transposition(n, parameters, table, work, data, order, threshold):
    """Computes only the transposed inputs, which `products_backward` includes."""
    B, width = work.X_rows.shape
    for _ in range(n):
        for layer in range(table.shape[0]):
            X, X_T = address(work.inputs[layer], 0), address(work.X_rows, 0)
            call_transpose(work.leaves[TRANSPOSE], X, B, table[layer, N_IN], B, X_T, width)


@jit.compiled
def normalize_backward(n, parameters, table, work, data, order, threshold):
    """Computes the backward pass of dropout, ReLU and LayerNorm, with the gradients of gain, shift and bias."""
    B, kept = work.X.shape[1], kernel._kept_factor(threshold)
    for _ in range(n):
        for layer in range(table.shape[0] - 1):
            gain = table[layer, GAIN]
            if gain > 0:
                gradient = address(work.gradient, 0)
                call_hidden_backward(
                    work.leaves[HIDDEN_BACKWARD], address(work.delta, 0), address(parameters, gain),
                    address(work.x_hats[layer], 0), address(work.inputs[layer + 1], 0),
                    address(work.inverse_sds[layer], 0), gradient, gradient, gradient, table[layer, N_OUT], B, kept,
                )  # fmt: skip


@jit.compiled
def adamw(n, parameters, table, work, data, order, threshold):
    """Updates all parameters and their moments."""
    moment1, moment2 = np.zeros_like(parameters), np.zeros_like(parameters)
    for i in range(n):
        kernel._adamw(parameters, work.gradient, moment1, moment2, i + 1, 1e-3, 1e-4)


@jit.compiled
def evaluation(n, parameters, table, work, data, order, threshold):
    """Evaluates the test rows, as at the end of an epoch."""
    errors = np.zeros((data.shape[0], 2), np.float32)
    for _ in range(n // STEPS):
        kernel.evaluate(parameters, table, work, data, order[:TEST_ROWS], errors)


@jit.compiled
def whole_step(n, parameters, table, work, data, order, threshold):
    """Trains whole epochs with their evaluation, as `step.train_epochs` does."""
    n_epochs = n // STEPS
    orders = np.empty((n_epochs, TRAIN_ROWS), np.int32)
    orders[:] = order[:TRAIN_ROWS]
    moment1, moment2 = np.zeros_like(parameters), np.zeros_like(parameters)
    errors = np.zeros((data.shape[0], 2), np.float32)
    kernel.train_epochs(
        parameters, moment1, moment2, table, work, data, orders, 0, np.full(n_epochs, 1e-3), 1e-4, BATCH, uint64(1),
        threshold, order[TRAIN_ROWS:], np.zeros(n_epochs), np.zeros(n_epochs), errors,
    )  # fmt: skip


PARTS = [gather, products_forward, normalize_forward, loss, products_backward, normalize_backward, adamw, evaluation]


def table_of(random: np.random.Generator) -> np.ndarray:
    """Returns a synthetic table [N, F], about half of it zero."""
    values = random.random((TRAIN_ROWS + TEST_ROWS, FEATURES), dtype=np.float32)
    values[random.random(values.shape) < 0.55] = 0
    return values


def microseconds(part: Callable[..., Any], config: Configuration) -> list[float]:
    """Returns the time of a step in each timing; each starts from new numbers, since a part alone could overflow."""
    random = np.random.default_rng(0)
    data, order = table_of(random), random.permutation(TRAIN_ROWS + TEST_ROWS).astype(np.int32)
    layers = kernel.layer_table(FEATURES, LATENT, config)
    work = kernel.allocate(layers, BATCH)
    parameters = random.normal(0, 0.1, work.gradient.size).astype(np.float32)
    times = []
    for timing in range(TIMINGS + 1):
        for array in work[:-1]:  # all except the addresses
            array[...] = 0.5 * random.random(array.shape, dtype=np.float32)
        started = time.process_time()
        part(REPEATS, parameters.copy(), layers, work, data, order, dropout_threshold(0.1))
        if timing:  # the first call compiles
            times.append((time.process_time() - started) / REPEATS * 1e6)
    return times


def matrix_rate() -> float:
    """Returns one core's multiply-adds per microsecond in a 1024 x 1024 float32 product, the fastest of 31."""
    torch.set_num_threads(1)
    A, B = torch.rand(1024, 1024), torch.rand(1024, 1024)
    times = []
    for _ in range(TIMINGS):
        started = time.process_time()
        torch.mm(A, B)
        times.append(time.process_time() - started)
    return 1024**3 / min(times) / 1e6


def copying_rate() -> float:
    """Returns the bytes per microsecond, read and written, of a copy that fits into L2, the fastest of 31."""
    source = np.ones(2**15, np.float32)
    target = np.empty_like(source)
    times = []
    for _ in range(TIMINGS):
        started = time.process_time()
        for _ in range(200):
            np.copyto(target, source)
        times.append((time.process_time() - started) / 200)
    return 2 * source.nbytes / min(times) / 1e6


def floors(config: Configuration, rate: float, copying: float) -> dict[Any, float]:
    """Returns the least time of some parts, in microseconds per step."""
    table = kernel.layer_table(FEATURES, LATENT, config)
    one_pass = float((table[:, N_IN] * table[:, N_OUT]).sum()) / rate
    return {
        products_forward: one_pass * TRAIN_ROWS / STEPS,
        products_backward: 2 * one_pass * TRAIN_ROWS / STEPS,
        evaluation: one_pass * TEST_ROWS / STEPS,
        adamw: 7 * 4 * kernel.allocate(table, BATCH).gradient.size / copying,
    }


def main() -> None:
    """Prints a table for each configuration."""
    machine = describe_environment(torch.device("cpu"), "compiled", 1)
    rate, copying = matrix_rate(), copying_rate()
    print(f"{machine['processor']}, 1 core, Python {machine['python']}, numba {machine['numba']}")
    print(f"torch's 1024 x 1024 product: {2 * rate / 1e3:.0f} GFLOP/s; a copy within L2: {copying / 1e3:.0f} GB/s")
    print(f"microseconds a step, the fastest of {TIMINGS} (median)")
    for config in CONFIGURATIONS:
        least = floors(config, rate, copying)
        floor = sum(least[part] for part in (products_forward, products_backward, evaluation))
        print(f"\n{list(config)}: floor {floor:.1f}")
        for part in [*PARTS, transposition, whole_step]:
            times = microseconds(part, config)
            of = f"{min(times):7.2f} ({statistics.median(times):.2f})"
            beside = f"   least {least[part]:.2f}" if part in least else ""
            beside = f"   {min(times) / floor:.2f} x the floor" if part is whole_step else beside
            print(f"  {part.__name__.replace('_', ' '):<20}{of:<18}{beside}")


if __name__ == "__main__":
    main()
