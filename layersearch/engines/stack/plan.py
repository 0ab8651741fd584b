"""Determines which trials share a stack and how large stacks are, from the search and the device only.

    room = room_for(space.widths, ...)                 # one for the whole search
    for stack in plan_stacks(trials, room.members):
        ...

Trials of the same depth, fold and normalization are stacked, whatever their widths. All stacks of a search have the
same number of places of the same width, some of which may stay empty. So the arithmetic of a place is the same in every
stack, and a trial's bits depend neither on the other trials in its stack nor on which trials are already trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layersearch.space.configurations import count_parameters, decoder_dims, encoder_dims, options_of
from layersearch.space.trials import Trial

# Widths are padded to multiples of 32 float32 numbers: two AVX-512 registers, the most that torch's loops on a CPU
# process at a time, and a warp of a GPU. So all places have the same alignment and sum in the same order.
ALIGNED = 32
MOST_MEMBERS = {"cuda": 128, "cpu": 8}  # beyond it a step takes proportionally longer; CPUs only test this engine
EVALUATED_ROWS = 512  # number of rows that are evaluated at a time, for all members
MEMORY_SHARE = 0.5  # largest fraction of the device's memory that a stack may use
COPIES = 12  # copies in memory of parameters and layer outputs: gradients, moments and AdamW's temporaries

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Room:
    """The size of a stack."""

    members: int  # M, number of places
    width: int  # H, width of all hidden layers, a multiple of `ALIGNED`


def aligned(width: int) -> int:
    """Returns the width rounded up to a multiple of `ALIGNED`."""
    return -(-width // ALIGNED) * ALIGNED


def stack_key(trial: Trial) -> Key:
    """Returns what all trials of a stack have in common: depths of encoder and decoder, fold, and normalizations.

    A normalization is None if the configuration does not set it.
    """
    depths, options = (len(encoder_dims(trial.config)), len(decoder_dims(trial.config))), options_of(trial.config)
    return *depths, trial.fold, options.get("normalization"), options.get("input_normalization")


def plan_stacks(trials: Sequence[Trial], members: int) -> list[tuple[Trial, ...]]:
    """Divides trials into stacks of at most `members` trials with the same `stack_key`, in the order of `trials`."""
    by_key: dict[Key, list[Trial]] = {}
    for trial in trials:
        by_key.setdefault(stack_key(trial), []).append(trial)
    return [
        tuple(group[start : start + members]) for group in by_key.values() for start in range(0, len(group), members)
    ]


def room_of(trials: Sequence[Trial]) -> Room:
    """Returns the smallest size of a stack for these trials, for trainings that are not part of a search."""
    widths = [width for trial in trials for width in encoder_dims(trial.config) + decoder_dims(trial.config)]
    return Room(len(trials), aligned(max(widths)))


def room_for(
    widths: Sequence[int],
    max_layers: int,
    *,
    n_trials: int,
    n_rows: int,
    n_scored: int,
    input_dim: int,
    latent_dim: int,
    batch_size: int,
    device: str,
    memory: int | None,
) -> Room:
    """Returns the size of all stacks of a search.

    The number of places is the smallest power of two that holds `n_trials`, or the largest that fits into memory.

    Args:
        widths: widths of hidden layers in the search space.
        max_layers: largest number of hidden layers of an encoder.
        n_trials: number of trials that the search requests at a time.
        n_rows: number of training rows.
        n_scored: number of test rows.
        input_dim: F.
        latent_dim: L.
        batch_size: B.
        device: "cuda" or "cpu".
        memory: total memory of the device in bytes, including what is in use; None on the CPU.
    """
    width = aligned(max(widths))
    n_parameters = count_parameters(aligned(input_dim), aligned(latent_dim), (width,) * max_layers)
    rows = max(min(batch_size, n_rows), EVALUATED_ROWS)
    n_outputs = rows * (2 * max_layers * width + 2 * aligned(input_dim) + aligned(latent_dim)) + 2 * n_scored
    most = MOST_MEMBERS[device]
    if memory is not None:
        most = min(most, int(MEMORY_SHARE * memory) // (4 * COPIES * (n_parameters + n_outputs)))
    members = 1
    while members < n_trials and 2 * members <= most:
        members *= 2
    return Room(members, width)
