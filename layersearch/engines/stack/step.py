"""One training step of a stack, and its repetition on a GPU without Python.

    step = StackStep(stacked, targets, batch_size, stream_of, dropouts)
    repeat = repeatable(step, device)             # on CUDA the replay of a captured graph, otherwise the step itself
    step.begin_epoch(streams, rates)
    for _ in range(step.n_steps):
        repeat()

A captured graph (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs) is a list of kernels with fixed
memory addresses. So everything that changes between steps, even the number of the step, is stored in buffers on the
device, and nothing is read back. The captured step is the same code that runs on the CPU. It needs float32 products in
full precision, which is torch's default; no global setting is changed.

Symbols: as in `models.py`; R random streams, D dropout layers.

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

BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8  # torch's defaults, as in the reference engine
MASK32 = 0xFFFFFFFF
AT_REST = (1.0, 0.0, 1.0)  # the `adamw_rates` that leave parameters unchanged
WARM_UPS = 3  # number of steps before a capture, as torch recommends


class Stream(NamedTuple):
    """The random streams that members of the same repeat, fold, epoch and dropout share, and their next epoch."""

    order: int  # key of the batch orders
    dropout: int  # key of the dropout patterns
    epoch: int  # the next epoch, counted from 0
    p: float  # probability that a unit is dropped


class StackStep:
    """One training step of all members, each on its own batch, in buffers with fixed addresses.

    Args:
        stacked: the stack, which is trained in place.
        targets: the training rows [N, F], NaN = missing, on the stack's device.
        batch_size: B.
        stream_of: number of each member's stream, [M].
        dropouts: dropout probability of each stream, [R].
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
        self.targets = pad_targets(targets, stacked.input_dim, n_more=1)  # the extra row fills the last batch
        self.layers = dropout_layers(stacked) if any(dropouts) else []
        self.thresholds = torch.tensor([dropout_threshold(p) for p in dropouts], device=device)  # [R]
        self.kept = (1 / (1 - torch.tensor(dropouts, dtype=torch.float64)).float()).to(
            device
        )  # [R], rounded to float32
        self.stream_of = torch.tensor(stream_of, device=device)
        units, rows = torch.arange(stacked.width, device=device), torch.arange(batch_size, device=device)
        self.numbers = units * batch_size + rows[:, None]  # [B, H]
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.orders = torch.zeros(self.n_steps, n_streams, batch_size, dtype=torch.int64, device=device)  # [S, R, B]
        self.keys = torch.zeros(self.n_steps, n_streams, len(self.layers), 2, dtype=torch.int64, device=device)
        self.rates = torch.tensor(AT_REST, device=device).repeat(self.n_steps, M, 1)  # [S, M, 3]
        self.gradient = torch.zeros_like(stacked.flat)
        self.moments = torch.zeros(2, M, P, device=device)
        self.loss_sums = torch.zeros(M, dtype=torch.float64, device=device)  # [M], over the steps of this epoch
        self._ones = torch.ones(M, device=device)

    def begin_epoch(self, streams: Sequence[Stream], rates: np.ndarray) -> None:
        """Fills the buffers for an epoch.

        Args:
            streams: the R streams.
            rates: the `adamw_rates` of each step and member, [S, M, 3] float32.
        """
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
        """Returns the members' next batches, [M, B, F]; rows beyond the last training row are all missing."""
        rows = self._now(self.orders).index_select(0, self.stream_of)  # [R, B] -> [M, B]
        return self.targets.index_select(0, rows.flatten()).view(*rows.shape, -1)

    def masks(self) -> list[Tensor]:
        """Returns the dropout masks of the next step, [M, B, H] for each dropout layer, with entries 0 and 1/(1-p)."""
        if not self.layers:
            return []
        keep = keep_units(self._now(self.keys), self.numbers, self.thresholds[:, None, None, None])  # [R, D, B, H]
        masks = keep * self.kept[:, None, None, None]
        return list(masks.index_select(0, self.stream_of).unbind(1))  # [M, D, B, H]

    def _now(self, values: Tensor) -> Tensor:
        """Returns the part [...] of values [S, ...] for this step."""
        return values.index_select(0, self.step).squeeze(0)


def pad_targets(targets: Tensor, width: int, n_more: int = 0) -> Tensor:
    """Pads targets with missing columns up to `width` and with `n_more` missing rows, [N, F] -> [N + n_more, width]."""
    missing = (0, width - targets.shape[1], 0, n_more)
    return torch.nn.functional.pad(targets, missing, value=torch.nan)


def dropout_layers(stacked: StackedAutoencoder) -> list[int]:
    """Returns the numbers of the layers with dropout, as `reference.dropout_masks` counts them."""
    n_encoder, n_decoder = stacked.depths
    first = n_encoder if stacked.is_frozen else 0
    return [number for number in range(first, n_encoder + n_decoder + 1) if number != n_encoder]


def padded_orders(streams: Sequence[Stream], n_rows: int, batch_size: int) -> np.ndarray:
    """Returns the row numbers of all batches of an epoch, [S, R, B] int64; `n_rows` fills up the last batch."""
    n_steps = -(-n_rows // batch_size)
    orders = np.full((len(streams), n_steps * batch_size), n_rows, dtype=np.int64)
    for order, stream in zip(orders, streams, strict=True):
        order[:n_rows] = batch_order(stream.order, stream.epoch, n_rows)
    return np.ascontiguousarray(orders.reshape(len(streams), n_steps, batch_size).transpose(1, 0, 2))


def dropout_keys(streams: Sequence[Stream], n_steps: int, layers: Sequence[int]) -> np.ndarray:
    """Returns the lower and upper halves of the `layer_key` of each step, stream and layer, [S, R, D, 2] int64."""
    steps, numbers = np.arange(n_steps, dtype=np.uint64)[:, None], np.array(layers, dtype=np.uint64)
    keys = np.stack([layer_key(stream.dropout, stream.epoch, steps, numbers) for stream in streams], axis=1)
    return np.stack([keys & np.uint64(MASK32), keys >> np.uint64(32)], axis=-1).astype(np.int64)


def keep_units(keys: Tensor, numbers: Tensor, thresholds: Tensor) -> Tensor:
    """Returns a mask of kept units, [..., B, H] bool, equal to that of `randomness.dropout_keep`.

    Uses unsigned 32-bit arithmetic in the lower half of int64, where products wrap around.

    Args:
        keys: lower and upper halves of the keys, [..., 2].
        numbers: the units' numbers, [B, H].
        thresholds: `randomness.dropout_threshold`, broadcastable to the result.
    """
    low, high = (half[..., None, None] for half in keys.unbind(-1))
    bits = (numbers + low) & MASK32
    bits = ((bits ^ bits >> 16) * MIX32[0] + high) & MASK32
    bits = ((bits ^ bits >> 15) * MIX32[1]) & MASK32
    bits = bits ^ bits >> 15
    return bits >> (32 - DROPOUT_BITS) >= thresholds


def adamw_rates(learning_rate: float, weight_decay: float, first: int, n_steps: int) -> np.ndarray:
    """Returns the factor of the weight decay, the step size and 1/sqrt(1 - β2^t) for several steps, [S, 3] float32.

    The steps t are numbered from `first`; the first step of a training has the number 1.
    """
    step = np.arange(first, first + n_steps)
    decay = np.full(n_steps, 1 - learning_rate * weight_decay)
    return np.stack([decay, learning_rate / (1 - BETA1**step), 1 / np.sqrt(1 - BETA2**step)], axis=1).astype(np.float32)


def adamw(parameters: Tensor, gradient: Tensor, moments: Tensor, rates: Tensor) -> None:
    """Performs one AdamW step in place; arrays are [M, P], `moments` [2, M, P] and `rates` (`adamw_rates`) [M, 3]."""
    decay, step_size, correction = (rate[:, None] for rate in rates.unbind(1))  # [M, 1]
    first, second = moments
    first.lerp_(gradient, 1 - BETA1)
    second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    update = first / (second.sqrt() * correction).add_(ADAM_EPS)
    parameters.mul_(decay).sub_(update.mul_(step_size))


def fill(buffer: Tensor, values: np.ndarray) -> None:
    """Copies values into a buffer without waiting; the previous copy into this buffer must be complete."""
    host = torch.from_numpy(values)
    buffer.copy_(host.pin_memory() if buffer.is_cuda else host, non_blocking=True)


def repeatable(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Returns `step` itself, or on CUDA a function that replays it as a captured graph.

    Before the capture the step runs a few times, with all its side effects. Replays read and write the same memory as
    the captured step.
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
        torch.cuda.set_stream(current)  # a failed capture does not restore the stream
        raise
    return graph.replay
