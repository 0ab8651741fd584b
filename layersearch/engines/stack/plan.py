"""Which trials share a stack, and how large stacks are: pure functions of the search and the device.

    room = room_for(space.widths, ...)                 # one for the whole search
    for stack in plan_stacks(trials, room.members):
        ...

Trials of one depth (fold, and normalization) are stacked, of whatever widths. All stacks of a search have the same
room: as many places, of the same width; places may stay empty. So the arithmetic of a place is the same in each of
them, and the bits of a trial depend neither on what it shares a stack with nor on what is trained already. Nothing here
knows of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layersearch.space.configurations import count_parameters, decoder_dims, encoder_dims, options_of
from layersearch.space.trials import Trial

# Widths are padded to whole multiples: two AVX-512 registers of float32, the most that a loop of torch's takes at a
# time on a CPU, and a GPU's warp. Then all places of a stack lie alike in memory, and are added up in the same order.
ALIGNED = 32
MOST_MEMBERS = {"cuda": 128, "cpu": 8}  # beyond that a step takes longer by as much; on the CPU it is for testing
EVALUATED_ROWS = 512  # at a time, for all members
MEMORY_SHARE = 0.5  # of the device's memory that a stack may take
COPIES = 12  # of its parameters, with gradient, moments and what AdamW leaves in between; of its layers' outputs

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Room:
    """What a stack has room for."""

    members: int  # M
    width: int  # H of every hidden layer, a multiple of `ALIGNED`


def aligned(width: int) -> int:
    """The next multiple of `ALIGNED`."""
    return -(-width // ALIGNED) * ALIGNED


def stack_key(trial: Trial) -> Key:
    """What the trials of a stack have in common.

    How many hidden layers encoder and decoder have, the fold, and the normalizations, where they have their own.
    """
    depths, options = (len(encoder_dims(trial.config)), len(decoder_dims(trial.config))), options_of(trial.config)
    return *depths, trial.fold, options.get("normalization"), options.get("input_normalization")


def plan_stacks(trials: Sequence[Trial], members: int) -> list[tuple[Trial, ...]]:
    """All trials, each once, in stacks of one key and at most so many `members`; in the order in which they come."""
    by_key: dict[Key, list[Trial]] = {}
    for trial in trials:
        by_key.setdefault(stack_key(trial), []).append(trial)
    return [
        tuple(group[start : start + members]) for group in by_key.values() for start in range(0, len(group), members)
    ]


def room_of(trials: Sequence[Trial]) -> Room:
    """The least that these need; for trainings that belong to no search."""
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
    """The room of all stacks of a search: a power of two of members that suffices, or that fits into the memory.

    `n_trials`: how many the search asks for at a time. `n_rows`: of training. `n_scored`: of test. `device`: "cuda" or
    "cpu". `memory`: all that the device has, in bytes, whatever of it is in use; None on the CPU.
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
