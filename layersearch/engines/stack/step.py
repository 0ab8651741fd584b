"""One training step of a stack, and how a GPU repeats it without Python.

    step = StackStep(stacked, rows, moments, ...)
    repeat = repeatable(step, device)             # on CUDA a captured graph, elsewhere the step itself
    step.begin_epoch(orders, keys, rates)
    for _ in range(step.n_steps):
        repeat()

A captured graph (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs) is a list of kernels with fixed
addresses: all that changes from step to step lies in buffers on the device, the number of the step too, and nothing
is read back. So the step that is captured is the very one that runs uncaptured on the CPU. It needs float32 products
in full precision, which is torch's default; no global setting is touched.

AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from layersearch.engines.reference import forward_with_masks
from layersearch.engines.stack.model import StackedAutoencoder
from layersearch.randomness import DROPOUT_BITS, MIX32, batch_order, dropout_threshold, layer_key
from losses import sparse_aware_loss

BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8  # torch's defaults, which the reference has
MASK32 = 0xFFFFFFFF
AT_REST = (1.0, 0.0, 1.0)  # AdamW's rates that leave parameters as they are
WARM_UPS = 3  # uncaptured steps before a capture, as torch recommends


class Stream(NamedTuple):
    """Batch orders and dropout patterns that some members share, by their keys, and the next epoch of it.

    `p`: the share of units that are dropped.
    """

    order: int
    dropout: int
    epoch: int
    p: float


class StackStep:
    """One step of all members, each on its own batch; what it reads and writes stays where it is.

    R streams of randomness, S steps an epoch, D dropout layers.

    Args:
        stacked: is trained in place.
        targets: the training rows [N, F], NaN = missing, on the stack's device.
        stream_of: of each member, which of the streams it follows, [M].
        dropouts: the share of units that each stream drops, [R].
    """

    def __init__(
        self,
        stacked: StackedAutoencoder,
        targets: Tensor,
        batch_size: int,
        stream_of: Sequence[int],
        dropouts: Sequence[float],
    ) -> None:
        device, (M, P), n_streams = stacked.flat.device, stacked.flat.shape, len(dropouts)
        self.stacked, self.batch_size = stacked, batch_size
        self._trained = [parameter for parameter in stacked.parameters() if parameter.requires_grad]
        self.n_rows = len(targets)
        self.n_steps = -(-self.n_rows // batch_size)
        self.targets = pad_targets(targets, stacked.input_dim, n_more=1)  # and a row for batches that are not full
        self.layers = dropout_layers(stacked) if any(dropouts) else []
        self.thresholds = torch.tensor([dropout_threshold(p) for p in dropouts], device=device)  # [R]
        self.kept = (1 / (1 - torch.tensor(dropouts, dtype=torch.float64)).float()).to(device)  # [R] as float32 has it
        self.stream_of = torch.tensor(stream_of, device=device)
        units, rows = torch.arange(stacked.width, device=device), torch.arange(batch_size, device=device)
        self.numbers = units * batch_size + rows[:, None]  # [B, H]
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.orders = torch.zeros(self.n_steps, n_streams, batch_size, dtype=torch.int64, device=device)  # [S, R, B]
        self.keys = torch.zeros(self.n_steps, n_streams, len(self.layers), 2, dtype=torch.int64, device=device)
        self.rates = torch.tensor(AT_REST, device=device).repeat(self.n_steps, M, 1)  # [S, M, 3]
        self.gradient = torch.zeros_like(stacked.flat)
        self.moments = torch.zeros(2, M, P, device=device)
        self.loss_sums = torch.zeros(M, dtype=torch.float64, device=device)  # of this epoch
        self._ones = torch.ones(M, device=device)

    def begin_epoch(self, streams: Sequence[Stream], rates: np.ndarray) -> None:
        """`rates`: `adamw_rates` of each step and member, [S, M, 3] float32."""
        fill(self.orders, padded_orders(streams, self.n_rows, self.batch_size))
        fill(self.keys, dropout_keys(streams, self.n_steps, self.layers))
        fill(self.rates, rates)
        self.step.zero_()
        self.loss_sums.zero_()

    def __call__(self) -> None:
        """Trains all members on their next batch."""
        target, masks = self.batch(), self.masks()
        loss = sparse_aware_loss(forward_with_masks(self.stacked, target.nan_to_num(nan=0.0), masks), target)  # [M]
        gradients = torch.autograd.grad(loss, self._trained, self._ones)
        first = self.stacked.n_frozen
        with torch.no_grad():
            torch.cat([gradient.flatten(1) for gradient in gradients], dim=1, out=self.gradient[:, first:])  # [M, P]
            flat, moments = self.stacked.flat[:, first:], self.moments[:, :, first:]
            adamw(flat, self.gradient[:, first:], moments, self._now(self.rates))
            self.loss_sums += loss
            self.step.add_(1).remainder_(self.n_steps)

    def batch(self) -> Tensor:
        """The members' next batches, [M, B, F]; beyond the last row all is missing."""
        rows = self._now(self.orders).index_select(0, self.stream_of)  # [R, B] -> [M, B]
        return self.targets.index_select(0, rows.flatten()).view(*rows.shape, -1)

    def masks(self) -> list[Tensor]:
        """`reference.dropout_masks` of the next step: per dropout layer [M, B, H] of 0 and 1/(1-p)."""
        if not self.layers:
            return []
        keep = keep_units(self._now(self.keys), self.numbers, self.thresholds[:, None, None, None])  # [R, D, B, H]
        masks = keep * self.kept[:, None, None, None]
        return list(masks.index_select(0, self.stream_of).unbind(1))  # [M, D, B, H]

    def _now(self, values: Tensor) -> Tensor:
        """The part for this step, [S, ...] -> [...]."""
        return values.index_select(0, self.step).squeeze(0)


def pad_targets(targets: Tensor, width: int, n_more: int = 0) -> Tensor:
    """Targets with columns up to this width, and so many more rows, in which all is missing, [N, F] -> [N + 1, F]."""
    missing = (0, width - targets.shape[1], 0, n_more)
    return torch.nn.functional.pad(targets, missing, value=torch.nan)


def dropout_layers(stacked: StackedAutoencoder) -> list[int]:
    """The numbers of the dropout layers' patterns; see `reference.dropout_masks`."""
    n_encoder, n_decoder = stacked.depths
    first = n_encoder if stacked.is_frozen else 0
    return [number for number in range(first, n_encoder + n_decoder + 1) if number != n_encoder]


def padded_orders(streams: Sequence[Stream], n_rows: int, batch_size: int) -> np.ndarray:
    """Which rows each batch of the epoch holds, [S, R, B] int64; a last one that is not full holds the row `n_rows`."""
    n_steps = -(-n_rows // batch_size)
    orders = np.full((len(streams), n_steps * batch_size), n_rows, dtype=np.int64)
    for order, stream in zip(orders, streams, strict=True):
        order[:n_rows] = batch_order(stream.order, stream.epoch, n_rows)
    return np.ascontiguousarray(orders.reshape(len(streams), n_steps, batch_size).transpose(1, 0, 2))


def dropout_keys(streams: Sequence[Stream], n_steps: int, layers: Sequence[int]) -> np.ndarray:
    """`randomness.layer_key` of each step, stream and layer, its low and its high half, [S, R, D, 2] int64."""
    steps, numbers = np.arange(n_steps, dtype=np.uint64)[:, None], np.array(layers, dtype=np.uint64)
    keys = np.stack([layer_key(stream.dropout, stream.epoch, steps, numbers) for stream in streams], axis=1)
    return np.stack([keys & np.uint64(MASK32), keys >> np.uint64(32)], axis=-1).astype(np.int64)


def keep_units(keys: Tensor, numbers: Tensor, thresholds: Tensor) -> Tensor:
    """`randomness.dropout_keep`: keys [..., 2] and the units' numbers [B, H] -> [..., B, H] bool.

    `thresholds`: `randomness.dropout_threshold` of each key, with as many axes as the result. Unsigned 32-bit
    arithmetic in the lower half of int64, whose products wrap around.
    """
    low, high = (half[..., None, None] for half in keys.unbind(-1))
    bits = (numbers + low) & MASK32
    bits = ((bits ^ bits >> 16) * MIX32[0] + high) & MASK32
    bits = ((bits ^ bits >> 15) * MIX32[1]) & MASK32
    bits = bits ^ bits >> 15
    return bits >> (32 - DROPOUT_BITS) >= thresholds


def adamw_rates(learning_rate: float, weight_decay: float, first: int, n_steps: int) -> np.ndarray:
    """Of so many steps, the `first` counted from 1: what parameters decay to, step size, 1/sqrt(1 - β2^t), [S, 3]."""
    step = np.arange(first, first + n_steps)
    decay = np.full(n_steps, 1 - learning_rate * weight_decay)
    return np.stack([decay, learning_rate / (1 - BETA1**step), 1 / np.sqrt(1 - BETA2**step)], axis=1).astype(np.float32)


def adamw(parameters: Tensor, gradient: Tensor, moments: Tensor, rates: Tensor) -> None:
    """One AdamW step in place: all [M, P], moments [2, M, P], and `adamw_rates` of each member, [M, 3]."""
    decay, step_size, correction = (rate[:, None] for rate in rates.unbind(1))  # [M, 1]
    first, second = moments
    first.lerp_(gradient, 1 - BETA1)
    second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    update = first / (second.sqrt() * correction).add_(ADAM_EPS)
    parameters.mul_(decay).sub_(update.mul_(step_size))


def fill(buffer: Tensor, values: np.ndarray) -> None:
    """Copies to the device without waiting for it; what was copied last must be there by now."""
    host = torch.from_numpy(values)
    buffer.copy_(host.pin_memory() if buffer.is_cuda else host, non_blocking=True)


def repeatable(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """`step` itself, or on CUDA a replay of it: captured once, after a few steps that are for nothing.

    These leave their traces in whatever the step changes; and replays read and write the same memory.
    """
    if device.type != "cuda":
        return step
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            step()
    current.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            step()
    except BaseException:
        torch.cuda.set_stream(current)  # which a capture that fails to end does not do
        raise
    return graph.replay
