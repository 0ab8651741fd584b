"""Random numbers, all derived from one seed by the name of what they are used for.

    key = stream_key(42, "dropout", repeat)                 # a 64-bit key
    order = batch_order(stream_key(42, "order", repeat), epoch, n_rows)
    keep = dropout_keep(key, epoch, layer, width, batch_size, n_steps, p)

Batch orders and dropout patterns are functions of where they are used (repeat, epoch, step, layer, unit), not of a
generator's state. So every engine can compute them, a training can resume at any epoch, and all configurations of a
repeat share them (common random numbers), which reduces the random part of the differences between configurations.
No global generator is used.

Dropout patterns: `mix64` is the finalizer of SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195). The
32-bit hash of each unit uses the multipliers of Wellons' hash prospector ("lowbias32"), with half of the layer's key
added before each of its two rounds.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import numpy as np
import torch

Bits = TypeVar("Bits", int, np.ndarray)

MIX64: tuple[int, int, int] = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
MASK64 = 0xFFFFFFFFFFFFFFFF
MIX32 = (0x21F0AAAD, 0xD35A2D97)
DROPOUT_BITS = 24  # a unit is dropped where the upper 24 bits of its hash are below p * 2**24


def stream_key(seed: int, *name: object) -> int:
    """Returns the 64-bit key of a named random stream, e.g. ("order", repeat); other names give independent keys."""
    text = repr((seed, *name)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def torch_generator(seed: int, *name: object) -> torch.Generator:
    """Returns a generator on the CPU for a named random stream, e.g. the initial weights of a trial."""
    return torch.Generator().manual_seed(stream_key(seed, *name))


def batch_order(key: int, epoch: int, n_rows: int) -> np.ndarray:
    """Returns the order in which an epoch (counted from 0) visits the training rows, a permutation [N] int32."""
    bits = np.random.Philox(key=np.array([key, epoch], dtype=np.uint64)).random_raw(n_rows)
    return np.argsort(bits, kind="stable").astype(np.int32)


def mix64(value: Bits) -> Bits:
    """Hashes a 64-bit integer (or array of uint64) bijectively; every input bit affects all output bits."""
    value = (value + MIX64[0]) & MASK64
    value = (value ^ value >> 30) * MIX64[1] & MASK64
    value = (value ^ value >> 27) * MIX64[2] & MASK64
    return value ^ value >> 31


def layer_key(key: int, epoch: int, step: Bits, layer: Bits) -> Bits:
    """Returns the 64-bit key of a layer's dropout pattern in a step; `step` and `layer` may be arrays of uint64."""
    return mix64(mix64(mix64(key + epoch) + step) + layer)


def dropout_threshold(p: float) -> int:
    """Returns the threshold for dropout: a unit is dropped if the upper `DROPOUT_BITS` of its hash are below it."""
    return round(p * (1 << DROPOUT_BITS))


def dropout_keep(
    key: int, epoch: int, layer: int, width: int, batch_size: int, n_steps: int, p: float, *, first_step: int = 0
) -> np.ndarray:
    """Returns a mask of the units that dropout keeps in several steps of an epoch, [n_steps, B, H] bool.

    Unit h of row b has the number h * B + b for every width, so a wider layer extends the pattern of a narrower one.

    Args:
        key: key of the dropout stream.
        epoch: epoch, counted from 0.
        layer: number of the preceding Linear layer, counted from the input.
        width: H, number of units of the layer.
        batch_size: B, the full batch size, even if the last batch is smaller.
        n_steps: number of steps.
        p: probability that a unit is dropped.
        first_step: the first of the steps, counted from 0.
    """
    keys = [layer_key(key, epoch, step, layer) for step in range(first_step, first_step + n_steps)]
    low = np.array([k % 2**32 for k in keys], dtype=np.uint32)[:, None]
    high = np.array([k >> 32 for k in keys], dtype=np.uint32)[:, None]
    bits = np.arange(width * batch_size, dtype=np.uint32) + low  # [n_steps, H * B]
    bits = (bits ^ bits >> np.uint32(16)) * np.uint32(MIX32[0]) + high
    bits = (bits ^ bits >> np.uint32(15)) * np.uint32(MIX32[1])
    bits ^= bits >> np.uint32(15)
    keep = bits >> np.uint32(32 - DROPOUT_BITS) >= dropout_threshold(p)
    return keep.reshape(n_steps, width, batch_size).transpose(0, 2, 1)
