"""The stacked engine: trains many trials of one depth at a time as one module (`stack/model.py`).

    train = stacked_trainer(table, settings)
    for result in train(trials, room):            # one stack; None leaves a place empty
        ...
    check(device).is_right                         # whether its results are correct on this device

It is meant for GPUs but also runs on CPUs. All places of a stack have the same size and no operation mixes them, so a
trial's bits depend only on the `Room`, not on the other trials in the stack, on its place, or on interruptions. On CUDA
an epoch consists of replays of one captured step (`stack/step.py`); the losses are read back once, at its end.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from layersearch.engines import lifecycle
from layersearch.engines.lifecycle import Checkpoints, Clock, InMemory
from layersearch.engines.reference import forward_with_masks, one_torch_thread, reference_trainer
from layersearch.engines.settings import SplitTable, TrainingSettings, settings_of
from layersearch.engines.stack.model import StackedAutoencoder, stack
from layersearch.engines.stack.plan import EVALUATED_ROWS, Room, plan_stacks, room_of
from layersearch.engines.stack.step import AT_REST, StackStep, Stream, adamw_rates, pad_targets, repeatable
from layersearch.engines.workers import is_out_of_memory
from layersearch.randomness import stream_key
from layersearch.space.trials import Trial, TrialResult, TrialState, no_memory_for
from losses import squared_error_sums, weights_of
from models import DynamicAutoencoder, flatten, load_flat

# Relative error of a loss. A different order of sums causes less than 1e-5 after a few steps, TF32 products 1e-3.
CHECK_TOLERANCE = 1e-4


class StackTrainer(Protocol):
    """The type of a function that trains one stack."""

    def __call__(
        self, trials: Sequence[Trial | None], room: Room | None = None, stops: Callable[[], bool] = lambda: False
    ) -> Iterator[TrialResult]:
        """Trains a stack and yields results as trainings end; unfinished ones have none if `stops` returns True.

        Args:
            trials: the trial of each place; None leaves it empty.
            room: size of the stack; by default that of the settings, or the size that these trials need.
            stops: returns whether to stop; called once an epoch.
        """


def stacked_trainer(
    table: SplitTable, settings: TrainingSettings, checkpoints: Checkpoints | None = None
) -> StackTrainer:
    """Returns a function that trains stacks of trials on the table's device."""
    states = InMemory() if checkpoints is None else checkpoints

    def train(
        trials: Sequence[Trial | None], room: Room | None = None, stops: Callable[[], bool] = lambda: False
    ) -> Iterator[TrialResult]:
        room = room or settings.room or room_of([trial for trial in trials if trial])
        with _on(table.values.device):
            run = _StackRun(table, settings, states, trials, room)
            ended = run.settle()
        yield from ended
        while run.running and not stops():
            with _on(table.values.device):
                ended = run.train_epoch()
            yield from ended

    return train


@dataclass
class _Member:
    """A trial, its place and state, and the number of its random stream."""

    trial: Trial
    place: int
    state: TrialState
    stream: int = 0


class _Part(NamedTuple):
    """Rows on which members are evaluated."""

    targets: Tensor  # [N, F], padded
    weights: tuple[float, float]  # factors of the two sums of squared errors in the loss

    def losses(self, totals: np.ndarray) -> np.ndarray:
        """Returns losses [...] from both sums of squared errors [..., 2]."""
        losses: np.ndarray = self.weights[0] * totals[..., 0] + self.weights[1] * totals[..., 1]
        return losses


class _StackRun:
    """The training of one stack, from its members' states to their results; `running` are the unfinished members."""

    def __init__(
        self,
        table: SplitTable,
        settings: TrainingSettings,
        checkpoints: Checkpoints,
        trials: Sequence[Trial | None],
        room: Room,
    ) -> None:
        self.table, self.settings, self.checkpoints = table, settings, checkpoints
        self.clock = Clock()
        device = table.values.device
        self.running: dict[int, _Member] = {}
        models: list[DynamicAutoencoder | None] = [None] * room.members
        for place, trial in enumerate(trials):
            if trial:
                models[place] = model = lifecycle.build_model(trial, table.input_dim, settings)
                state = checkpoints.load(trial) or lifecycle.first_state(flatten(model), settings)
                load_flat(model, state.parameters)
                self.running[place] = _Member(trial, place, state)
        self.stacked = stack(models, room.width, device)
        self.streams, stream_of = self._find_streams(room.members)
        train = table.values[table.train]
        batch_size = min(settings.batch_size, len(train))
        self.step = StackStep(self.stacked, train, batch_size, stream_of, [stream.p for stream in self.streams])
        self.repeat = repeatable(self.step, device)
        for number, moments in enumerate(self.step.moments):
            own = {member.place: member.state.moments[number] for member in self.running.values()}
            moments.copy_(self.stacked.rows(own))
        self.train, self.test = self._part(train), self._part(table.values[table.test])
        has_validation = table.validation is not None and settings.stops_early
        self.validation = self._part(table.values[table.validation]) if has_validation else None

    def _find_streams(self, n_members: int) -> tuple[list[Stream], list[int]]:
        """Returns the members' random streams, and the number of each place's stream (0 for an empty place)."""
        streams: list[Stream] = []
        stream_of = [0] * n_members
        for member in self.running.values():
            order, dropout = (
                stream_key(self.settings.seed, *lifecycle.stream_name(what, member.trial))
                for what in ("order", "dropout")
            )
            p = settings_of(member.trial, self.settings).dropout
            stream = Stream(order, dropout, member.state.epoch, p)
            if stream not in streams:
                streams.append(stream)
            stream_of[member.place] = member.stream = streams.index(stream)
        return streams, stream_of

    def _part(self, targets: Tensor) -> _Part:
        return _Part(pad_targets(targets, self.stacked.input_dim), weights_of(targets))

    def train_epoch(self) -> list[TrialResult]:
        """Trains all running members for one epoch, and returns the results of those that have then ended."""
        losses = self._run_epoch()
        seconds = self.clock.lap() / len(self.running)
        failed = []
        for member in list(self.running.values()):
            state, (train_loss, test_loss) = member.state, losses[:2, member.place]
            state.train_losses[state.epoch], state.test_losses[state.epoch] = train_loss, test_loss
            state.seconds += seconds
            if not np.isfinite([train_loss, test_loss]).all():
                failed.append(lifecycle.diverged_result(member.trial, state))
                del self.running[member.place]
                continue
            state.epoch += 1
        if self.validation:
            parameters = self.stacked.flat.cpu().numpy()
            for member in self.running.values():
                own = self.stacked.own(parameters, member.place)
                lifecycle.note_validation(member.state, float(losses[2, member.place]), own, self.settings)
        ended = failed + self.settle()
        if self.running and self.clock.is_due():
            self._bring_up_to_date(list(self.running.values()))
            for member in self.running.values():
                self.checkpoints.save(member.trial, member.state)
        return ended

    def _run_epoch(self) -> np.ndarray:
        """Trains one epoch, and returns the losses of training batches, test rows and any validation rows, [2-3, M]."""
        self.step.begin_epoch(self.streams, self._rates())
        for _ in range(self.step.n_steps):
            self.repeat()
        last = self.settings.epochs - 1  # members that have ended stay at this epoch
        self.streams = [stream._replace(epoch=min(stream.epoch + 1, last)) for stream in self.streams]
        parts = [self.test, self.validation] if self.validation else [self.test]
        totals = torch.stack([add_up(self.stacked, part.targets) for part in parts])  # [parts, M, 2]
        read = torch.cat([self.step.loss_sums.unsqueeze(0), totals.movedim(-1, 1).flatten(0, 1)]).cpu().numpy()
        scored = read[1:].reshape(len(parts), 2, -1).transpose(0, 2, 1)  # [2 parts, M] -> [parts, M, 2]
        return np.stack([read[0] / self.step.n_steps, *map(_Part.losses, parts, scored)])

    def _rates(self) -> np.ndarray:
        """Returns AdamW's rates for each step and member, [S, M, 3]; `AT_REST` for members that have ended."""
        n_steps, settings = self.step.n_steps, self.settings
        rates = np.tile(np.array(AT_REST, dtype=np.float32), (n_steps, len(self.stacked.members), 1))
        alike: dict[tuple[int, float, float], list[int]] = {}  # places by epoch, learning rate and weight decay
        for member in self.running.values():
            own, epoch = settings_of(member.trial, settings), member.state.epoch
            alike.setdefault((epoch, float(own.learning_rates[epoch]), own.weight_decay), []).append(member.place)
        for (epoch, learning_rate, weight_decay), places in alike.items():
            rates[:, places] = adamw_rates(learning_rate, weight_decay, epoch * n_steps + 1, n_steps)[:, None]
        return rates

    def settle(self) -> list[TrialResult]:
        """Removes members that have finished, stopped early or paused from `running`, and returns their results."""
        ended = [member for member in self.running.values() if not lifecycle.goes_on(member.state, self.settings)]
        for member in ended:
            del self.running[member.place]
        paused = [member for member in ended if lifecycle.has_paused(member.state, self.settings)]
        finished = [member for member in ended if not lifecycle.has_paused(member.state, self.settings)]
        self._bring_up_to_date(paused)
        return [
            *(
                lifecycle.paused_result(member.trial, member.state, self.settings, self.checkpoints)
                for member in paused
            ),
            *self._finish(finished),
        ]

    def _finish(self, members: Sequence[_Member]) -> Iterator[TrialResult]:
        """Yields the results of members that have finished, with their best weights if they use early stopping."""
        if not members:
            return
        self._bring_up_to_date(members)
        for member in members:
            if (best := member.state.best_parameters) is not None:
                self.stacked.flat[member.place].copy_(self.stacked.rows({member.place: best})[member.place])
        test_totals, train_totals = (
            add_up(self.stacked, part.targets).cpu().numpy() for part in (self.test, self.train)
        )
        row_errors = torch.cat(evaluate(self.stacked, self.test.targets), dim=1).cpu().numpy()  # [M, N_test, 2]
        seconds = self.clock.lap() / len(members)
        for member in members:
            state, place = member.state, member.place
            yield lifecycle.finished_result(
                member.trial,
                state,
                final_train_loss=float(self.train.losses(train_totals[place])),
                final_test_loss=float(self.test.losses(test_totals[place])),
                row_errors=self.table.bundled(row_errors[place]).copy(),
                parameters=state.parameters if state.best_parameters is None else state.best_parameters,
                seconds=state.seconds + seconds,
            )

    def _bring_up_to_date(self, members: Sequence[_Member]) -> None:
        """Copies the members' parameters and moments back into their states."""
        if not members:
            return
        parameters, moments = self.stacked.flat.cpu().numpy(), self.step.moments.cpu().numpy()
        for member in members:
            member.state.parameters = self.stacked.own(parameters, member.place)
            member.state.moments = self.stacked.own(moments, member.place)


@torch.no_grad()
def evaluate(stacked: StackedAutoencoder, targets: Tensor) -> list[Tensor]:
    """Returns the members' `squared_error_sums` for targets [N, F] in eval mode, in chunks of rows, [M, B, 2] each."""
    return [_errors(stacked, target) for target in targets.split(EVALUATED_ROWS)]


@torch.no_grad()
def add_up(stacked: StackedAutoencoder, targets: Tensor) -> Tensor:
    """Returns the members' sums of squared errors over all rows, [M, 2] float64."""
    totals = torch.zeros(len(stacked.members), 2, dtype=torch.float64, device=targets.device)
    for target in targets.split(EVALUATED_ROWS):
        totals += _errors(stacked, target).double().sum(1)  # [M, B, 2] -> [M, 2]
    return totals


def _errors(stacked: StackedAutoencoder, target: Tensor) -> Tensor:
    x = target.nan_to_num(nan=0.0).expand(len(stacked.members), -1, -1)  # [B, F] -> [M, B, F]
    return squared_error_sums(forward_with_masks(stacked, x, ()), target)


def _on(device: torch.device) -> AbstractContextManager[None]:
    return one_torch_thread() if device.type == "cpu" else torch.cuda.device(device)


def run_stacks(
    trials: Sequence[Trial],
    missing: Collection[Trial],
    trainers: Mapping[int | None, StackTrainer],
    room: Room,
    *,
    stops: Callable[[], bool] = lambda: False,
    on_fewer: Callable[[int], None] = lambda members: None,
) -> Iterator[TrialResult]:
    """Trains the `missing` trials among all `trials`, stack after stack, and yields results as they end.

    If memory runs out, training continues with stacks of half the size. A trial that does not fit into memory in a
    stack of its own, without padding, gets a failed result. When `stops` returns True, unfinished trainings are
    dropped.

    Args:
        trials: all trials, which determine the stacks.
        missing: the trials to train; the places of the others stay empty.
        trainers: the trainer of each fold.
        room: size of all stacks.
        stops: returns whether to stop; called once an epoch.
        on_fewer: called with the new number of places when memory runs out.
    """
    missing, planned = frozenset(missing), plan_stacks(trials, room.members)
    waiting = deque((tuple(t for t in places if t in missing), places, room) for places in planned)
    most = room.members
    while waiting and not stops():
        left, places, own_room = waiting.popleft()
        if not left:
            continue
        if own_room.members > most:
            smaller = [(tuple(t for t in part if t in left), part) for part in plan_stacks(places, most)]
            waiting.extendleft((*part, replace(own_room, members=most)) for part in reversed(smaller))
            continue
        train = trainers[left[0].fold]
        for result in _unless_full(train([t if t in left else None for t in places], own_room, stops)):
            if result:
                left = tuple(trial for trial in left if trial != result.trial)
                yield result
            elif own_room.members > 1:
                most = own_room.members // 2
                on_fewer(most)
                waiting.appendleft((left, places, own_room))
            elif room_of(left) != own_room:
                waiting.appendleft((left, left, room_of(left)))
            else:
                yield no_memory_for(left[0])


def _unless_full(results: Iterator[TrialResult]) -> Iterator[TrialResult | None]:
    """Yields the results, and None at the end if memory ran out."""
    try:
        yield from results
    except (MemoryError, RuntimeError) as error:
        if not _came_of_memory(error):
            raise
    else:
        return
    yield None  # outside the except block, where the error no longer keeps memory allocated


def _came_of_memory(error: BaseException | None) -> bool:
    """Returns whether memory ran out; capturing a CUDA graph raises another error on top of that one."""
    while error and not is_out_of_memory(error):
        error = error.__context__
    return error is not None


class Check(NamedTuple):
    """The result of comparing small trainings on a device with the reference engine."""

    deviation: float  # largest relative deviation of a loss from that of the reference engine on the CPU
    digest: str | None  # digest of the trainings' bits; None if they depend on a trial's place in the stack

    @property
    def is_right(self) -> bool:
        """Whether the deviation is small enough to be a rounding error."""
        return self.deviation <= CHECK_TOLERANCE


def check(device: torch.device) -> Check:
    """Trains a small stack twice on the device, in different places, and compares it with the reference on the CPU."""
    values = torch.arange(60 * 24).remainder(97).reshape(60, 24) / 97  # the same on every machine
    values[values > 0.95] = torch.nan
    table = SplitTable(values, torch.arange(45), torch.arange(45, 60))
    settings = TrainingSettings(
        latent_dim=3, epochs=3, batch_size=16, initial_lr=0.01, eta_min=1e-6, weight_decay=1e-4, dropout=0.1, seed=0
    )
    trials, room = [Trial((33, 17), 0), Trial((64, 64), 1), Trial((9, 40), 0)], Room(4, 64)
    on_device = SplitTable(values.to(device), table.train.to(device), table.test.to(device))
    train = stacked_trainer(on_device, settings)
    results, others = (
        {result.trial: result for result in train(places, room)} for places in (trials, [None, *reversed(trials)])
    )
    reference = reference_trainer(table, settings)
    deviations = [_deviation(results[trial], reference(trial)) for trial in trials]
    bits = [b"".join(_bits(some[trial]) for trial in trials) for some in (results, others)]
    digest = hashlib.blake2b(bits[0], digest_size=8).hexdigest()
    return Check(max(deviations), digest if bits[0] == bits[1] else None)


def _deviation(result: TrialResult, reference: TrialResult) -> float:
    """Returns the largest relative deviation of a loss; infinity if a loss is not finite."""
    pairs = [(result.train_losses, reference.train_losses), (result.test_losses, reference.test_losses)]
    if result.has_failed or reference.has_failed:
        return np.inf
    return max(float(np.max(np.abs(one / other - 1))) for one, other in pairs)


def _bits(result: TrialResult) -> bytes:
    return result.parameters.tobytes() + result.row_errors.tobytes()
