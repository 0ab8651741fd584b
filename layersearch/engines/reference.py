"""The reference engine: a plain PyTorch loop over one `DynamicAutoencoder`, on any device. It defines correct results.

    train = reference_trainer(table, settings)
    result = train(trial)

AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from layersearch.engines import lifecycle
from layersearch.engines.lifecycle import Checkpoints, Clock, InMemory, Trainer
from layersearch.engines.settings import SplitTable, TrainingSettings, settings_of
from layersearch.randomness import batch_order, dropout_keep, stream_key
from layersearch.space.trials import Trial, TrialResult
from losses import loss_of_sums, sparse_aware_loss, squared_error_sums
from models import DynamicAutoencoder, encode_rows, flatten, load_flat

if TYPE_CHECKING:
    from layersearch.engines.stack.model import StackedAutoencoder

MOMENTS = ("exp_avg", "exp_avg_sq")  # torch's names for the moments of AdamW
ROWS_AT_A_TIME = 2**16  # number of rows in a batch in eval mode
MASK_ENTRIES = 2**22  # number of entries of dropout masks that are computed at a time (16 MB)


def reference_trainer(table: SplitTable, settings: TrainingSettings, checkpoints: Checkpoints | None = None) -> Trainer:
    """Returns a function that trains one trial with a plain PyTorch loop on the table's device."""
    checkpoints = InMemory() if checkpoints is None else checkpoints
    device = table.values.device
    train_targets, test_targets = table.values[table.train], table.values[table.test]
    validation = None if table.validation is None else table.values[table.validation]
    n_train = len(train_targets)
    batch_size = min(settings.batch_size, n_train)
    n_steps = -(-n_train // batch_size)

    def train(trial: Trial) -> TrialResult:
        model = lifecycle.build_model(trial, table.input_dim, settings)
        state = checkpoints.load(trial) or lifecycle.first_state(flatten(model), settings)
        load_flat(model, state.parameters)
        model, clock = model.to(device), Clock(state)
        own = settings_of(trial, settings)
        optimizer = make_optimizer(model, own)
        if state.epoch:
            set_moments(optimizer, state.moments, state.epoch * n_steps)
        order_key = stream_key(settings.seed, *lifecycle.stream_name("order", trial))
        dropout_key = stream_key(settings.seed, *lifecycle.stream_name("dropout", trial))
        steps_at_a_time = max(1, MASK_ENTRIES // (batch_size * sum(model.hidden_dims + model.decoder_dims)))

        def run_epoch(epoch: int) -> float:
            """Trains one epoch and returns the mean loss of its batches."""
            optimizer.param_groups[0]["lr"] = float(own.learning_rates[epoch])
            order = torch.from_numpy(batch_order(order_key, epoch, n_train)).to(device)
            losses = []
            for first in range(0, n_train, steps_at_a_time * batch_size):
                batches = order[first : first + steps_at_a_time * batch_size].split(batch_size)
                masks = dropout_masks(model, dropout_key, epoch, batch_size, len(batches), first // batch_size)
                for step, batch in enumerate(batches):
                    step_masks = [mask[step, : len(batch)] for mask in masks]
                    losses.append(reference_step(model, optimizer, train_targets[batch], step_masks))
            return float(torch.stack(losses).double().mean())

        def bring_up_to_date() -> None:
            state.parameters, state.moments = flatten(model), get_moments(optimizer)

        while lifecycle.goes_on(state, settings):
            epoch = state.epoch
            state.train_losses[epoch] = run_epoch(epoch)
            state.test_losses[epoch] = loss_of_sums(_evaluate(model, test_targets), test_targets)
            state.seconds = clock.seconds
            if not np.isfinite([state.train_losses[epoch], state.test_losses[epoch]]).all():
                return lifecycle.diverged_result(trial, state)
            state.epoch += 1
            if validation is not None and settings.stops_early:
                sums = _evaluate(model, validation)
                lifecycle.note_validation(state, loss_of_sums(sums, validation), flatten(model), settings)
            if state.epoch < settings.end and clock.is_due():
                bring_up_to_date()
                checkpoints.save(trial, state)
        if lifecycle.has_paused(state, settings):
            if optimizer.state:
                bring_up_to_date()
            return lifecycle.paused_result(trial, state, settings, checkpoints)
        if state.best_parameters is not None:
            load_flat(model, state.best_parameters)
        test_sums = _evaluate(model, test_targets)
        return lifecycle.finished_result(
            trial,
            state,
            final_train_loss=loss_of_sums(_evaluate(model, train_targets), train_targets),
            final_test_loss=loss_of_sums(test_sums, test_targets),
            row_errors=table.bundled(test_sums.cpu().numpy()),
            parameters=flatten(model),
            seconds=clock.seconds,
        )

    def train_on_one_thread(trial: Trial) -> TrialResult:
        with one_torch_thread():
            return train(trial)

    return train_on_one_thread if device.type == "cpu" else train


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """Returns the optimizer of a model; the training sets its learning rate in every epoch."""
    return torch.optim.AdamW(model.parameters(), lr=settings.initial_lr, weight_decay=settings.weight_decay, fused=True)


def get_moments(optimizer: torch.optim.Optimizer) -> np.ndarray:
    """Returns AdamW's moments in the order of `models.flatten`, [2, P] float32, with zeros for frozen parameters."""
    parameters, state = optimizer.param_groups[0]["params"], optimizer.state
    moments = [
        torch.cat([(state[p][name] if state[p] else torch.zeros_like(p)).ravel() for p in parameters])
        for name in MOMENTS
    ]
    return torch.stack(moments).detach().cpu().numpy()  # [P] each -> [2, P]


def set_moments(optimizer: torch.optim.Optimizer, moments: np.ndarray, step: int) -> None:
    """Restores the optimizer's state after `step` steps from its `moments` [2, P]."""
    start, state = 0, {}
    for number, parameter in enumerate(optimizer.param_groups[0]["params"]):
        part = torch.from_numpy(moments[:, start : start + parameter.numel()])
        shaped = {name: values.view_as(parameter).clone() for name, values in zip(MOMENTS, part, strict=True)}
        state[number] = {"step": torch.tensor(float(step)), **shaped}
        start += parameter.numel()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def reference_step(
    model: DynamicAutoencoder, optimizer: torch.optim.Optimizer, target: Tensor, masks: Sequence[Tensor]
) -> Tensor:
    """Trains one step on the batch `target` [B, F] (NaN = missing) with dropout masks [B, H], and returns its loss."""
    reconstruction = forward_with_masks(model, target.nan_to_num(nan=0.0), masks)
    loss = sparse_aware_loss(reconstruction, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def forward_with_masks(model: DynamicAutoencoder | StackedAutoencoder, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Returns the reconstruction by a model or stack in training mode, with given dropout masks.

    Args:
        model: the model or stack.
        x: the batch, [B, F]; for a stack [M, B, F].
        masks: the factors 0 and 1/(1-p) of each dropout layer, [B, H]; for a stack [M, B, H]. If empty, no unit is
            dropped.
    """
    remaining = iter(masks)
    x = model.input_norm(x)
    for layer in [*model.encoder, *model.decoder]:
        if not isinstance(layer, nn.Dropout):
            x = layer(x)
        elif masks:
            x = x * next(remaining)
    return x


def dropout_masks(
    model: DynamicAutoencoder, key: int, epoch: int, batch_size: int, n_steps: int, first_step: int = 0
) -> list[Tensor]:
    """Returns the dropout masks of several steps, [n_steps, B, H] for each dropout layer, with entries 0 and 1/(1-p).

    The pattern of a layer depends on the number of the preceding Linear layer, counted from the input. Without dropout
    the list is empty, and a frozen encoder has no masks. B is the full batch size, even if the last batch is smaller.
    """
    if model.dropout == 0:
        return []
    device = next(model.parameters()).device
    layers = [layer for layer in [*model.encoder, *model.decoder] if isinstance(layer, nn.Linear)]
    masks = []
    for number, layer in enumerate(layers):
        is_hidden = number not in (len(model.hidden_dims), len(layers) - 1)  # neither latent nor output layer
        if is_hidden and not (model.is_frozen and number < len(model.hidden_dims)):
            shape = (layer.out_features, batch_size, n_steps)
            keep = dropout_keep(key, epoch, number, *shape, model.dropout, first_step=first_step)
            masks.append(torch.from_numpy(keep).to(device).float().contiguous() / (1 - model.dropout))
    return masks


@torch.no_grad()
def _evaluate(model: DynamicAutoencoder, targets: Tensor) -> Tensor:
    """Returns the `squared_error_sums` of all rows in eval mode, [N, 2], and sets the model to training mode."""
    model.eval()
    sums = [
        squared_error_sums(model(target.nan_to_num(nan=0.0))[0], target) for target in targets.split(ROWS_AT_A_TIME)
    ]
    model.train()
    return torch.cat(sums)  # [N, 2]


_alone = threading.RLock()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Limits torch to one thread within the block, since more threads slow down products of matrices of this size.

    The number of threads is global to the process, so other callers wait until the block ends.
    """
    with _alone:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@torch.no_grad()
def encode_table(model: DynamicAutoencoder, table: SplitTable) -> tuple[np.ndarray, np.ndarray]:
    """Returns the latent coordinates [N, L] and mean squared error over observed cells [N] of each row, scaled."""
    codes, errors = [], []
    for values in table.values.cpu().split(ROWS_AT_A_TIME):
        latent, error = encode_rows(model, values)
        codes.append(latent)
        errors.append(error)
    return torch.cat(codes).numpy(), torch.cat(errors).numpy()
