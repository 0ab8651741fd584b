"""The step of a stack compared with the reference's, member by member; and that no member influences another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from parity import KINK, Step, assert_same_step, closest_to_kink, gradient_of, tolerance_for
from stacks import Case, Made, decay_of, make_stack, rate_of, state_of

from layersearch.engines.reference import dropout_masks, get_moments, make_optimizer, reference_step, set_moments
from layersearch.engines.settings import TrainingSettings
from layersearch.engines.stack.engine import evaluate
from layersearch.engines.stack.plan import ALIGNED
from layersearch.engines.stack.step import AT_REST, dropout_layers, repeatable
from layersearch.randomness import batch_order, dropout_keep
from models import DynamicAutoencoder, flatten, load_flat

EPOCHS = 3
WIDTHS = [(16, 8), (33, 5), (40, 40)]
CASES = [
    Case(WIDTHS),
    Case(WIDTHS, dropout=0.0, missing=0.3),
    Case(WIDTHS, missing=0.3, n_rows=33),  # the last batch has one row
    Case(WIDTHS, nonzero=0.0),
    Case(WIDTHS, nonzero=0.0, missing=0.5, dropout=0.0),
    Case([(64,), (7,), (33,)], batch_size=37),
    Case([(1,), (2,), (70,)], features=3, latent=1, nonzero=0.9),
    Case([((5,), (7, 33, 20)), ((64,), (3, 8, 5))], features=40, latent=35, missing=0.2),
    Case([(17, 5, 9), (8, 64, 16)], dropout=0.1),
    Case(WIDTHS, dropout=0.4, odd_dropout=0.0, missing=0.2),
    Case(WIDTHS, odd_dropout=0.05, normalization="none"),
    Case(WIDTHS, dropout=0.0, input_normalization="none", missing=0.3, n_rows=33),
    Case(WIDTHS, odd_dropout=0.0, is_frozen=True),
    Case(
        [((5,), (7, 33, 20)), ((64,), (3, 8, 5))], features=40, is_frozen=True, input_normalization="none", missing=0.2
    ),
    Case([((5,), (7, 33, 20)), ((64,), (3, 8, 5))], normalization="none", input_normalization="none", missing=0.2),
]


def settings_of(case: Case, member: int) -> TrainingSettings:
    dropout, decay = case.dropout_of(member), decay_of(member)
    return TrainingSettings(case.latent, EPOCHS, case.batch_size, 1e-3, 1e-6, decay, dropout, seed=0)


def own_batch(case: Case, made: Made, member: int, epoch: int, step: int) -> torch.Tensor:
    """Returns the member's batch, from the definition of batch orders."""
    order = batch_order(made.streams[member % 2].order, epoch, case.n_rows)
    return case.targets()[order[step * case.batch_size : (step + 1) * case.batch_size]]


def own_masks(case: Case, made: Made, model: DynamicAutoencoder, member: int, epoch: int) -> list[torch.Tensor]:
    """Returns the reference's masks of an epoch, for each layer [S, B, H]."""
    return dropout_masks(model, made.streams[member % 2].dropout, epoch, case.batch_size, made.step.n_steps)


def epochs_of(made: Made) -> Iterator[tuple[int, int]]:
    """Yields epoch and step before each step of `EPOCHS` epochs."""
    for epoch in range(EPOCHS):
        made.step.begin_epoch([stream._replace(epoch=epoch) for stream in made.streams], made.rates(epoch))
        for step in range(made.step.n_steps):
            yield epoch, step


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_step_matches_the_reference_member_by_member(case: Case) -> None:
    """Compares loss, all gradients, AdamW's state and the parameters; each step starts from the same state."""
    made, compared = make_stack(case), 0
    stacked = made.step.stacked
    for epoch, step in epochs_of(made):
        number = epoch * made.step.n_steps + step
        flat, moments, sums = (x.numpy().copy() for x in (stacked.flat, made.step.moments, made.step.loss_sums))
        made.step()
        losses = made.step.loss_sums.numpy() - sums
        for m, model in enumerate(case.models()):
            load_flat(model, stacked.own(flat, m))
            optimizer = make_optimizer(model, settings_of(case, m))
            optimizer.param_groups[0]["lr"] = rate_of(m)
            if number:
                set_moments(optimizer, stacked.own(moments, m), number)
            target = own_batch(case, made, m, epoch, step)
            masks = [mask[step, : len(target)] for mask in own_masks(case, made, model, m, epoch)]
            if closest_to_kink(model, target, masks) < KINK:
                continue
            compared += 1
            loss = float(reference_step(model, optimizer, target, masks))
            expected = Step(loss, gradient_of(model), get_moments(optimizer), flatten(model))
            arrays = [made.step.gradient.numpy(), made.step.moments.numpy(), stacked.flat.numpy()]
            own = Step(float(losses[m]), *(stacked.own(array, m) for array in arrays))
            frozen = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
            assert bool(frozen) == case.is_frozen
            assert np.array_equal(own.parameters[:frozen], stacked.own(flat, m)[:frozen])
            assert_same_step(own, expected, rate_of(m), number + 1, tolerance_for(model))
    assert compared >= 0.7 * EPOCHS * made.step.n_steps * len(case.configs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_padding_is_zero_and_stays_zero(case: Case) -> None:
    """That of parameters, gradients and both moments."""
    made = make_stack(case)
    made.run(EPOCHS)
    state, stacked = state_of(made.step), made.step.stacked
    for m, places in enumerate(stacked.places[:-1]):
        outside = np.ones(stacked.flat.shape[1], dtype=bool)
        outside[places] = False
        assert outside.any()
        assert not (state[:, m, outside] & 0x7FFFFFFF).any(), "but for the sign of a zero"
        assert (state[0, m, places] != 0).mean() > 0.9
    assert not state[0, -1].any(), "an empty place stays empty"


@pytest.mark.parametrize("fault", [None, torch.nan, torch.inf, 1e30])
def test_a_change_of_one_member_changes_no_bit_of_another(fault: float | None) -> None:
    case = Case([(16, 8), (33, 5), (40, 40), (9, 9)], missing=0.2)
    plain, changed, models = make_stack(case), make_stack(case), case.models()
    if fault is None:
        models[1] = replace(case, configs=[(64, 2)]).models()[0]
    else:
        torch.nn.init.constant_(next(models[1].decoder.parameters()), fault)
    changed = make_stack(case, models)
    for made in (plain, changed):
        made.run(EPOCHS)
    one, other = (state_of(made.step) for made in (plain, changed))
    others = [0, 2, 3, 4]
    assert np.array_equal(one[:, others], other[:, others])
    assert not np.array_equal(one[:, 1], other[:, 1])
    assert torch.equal(plain.step.loss_sums[others], changed.step.loss_sums[others])
    scores = [torch.cat(evaluate(made.step.stacked, padded(case, made)), 1) for made in (plain, changed)]
    assert torch.equal(scores[0][others], scores[1][others])


def padded(case: Case, made: Made) -> torch.Tensor:
    return made.step.targets[: case.n_rows]


def test_a_member_has_the_same_bits_in_every_place() -> None:
    case = Case([(16, 8), (33, 5), (40, 40), (9, 9), (64, 3)])
    made = make_stack(case)
    models = case.models()
    moved = make_stack(case, [models[place] for place in (2, 3, 4, 1, 0)])  # even and odd places have different streams
    for some in (made, moved):
        some.step.begin_epoch(some.streams, np.broadcast_to(some.rates(0)[:, :1], some.rates(0).shape).copy())
        for _ in range(some.step.n_steps):
            some.step()
    assert np.array_equal(state_of(made.step)[:, [2, 3, 4, 1, 0]], state_of(moved.step)[:, :5])


def test_members_at_rest_stay_as_they_are() -> None:
    case = Case(WIDTHS)
    made = make_stack(case)
    rates, before = made.rates(0), made.step.stacked.flat.clone()
    rates[:, 1] = AT_REST
    made.step.begin_epoch(made.streams, rates)
    for _ in range(made.step.n_steps):
        made.step()
    changed = (made.step.stacked.flat != before).any(1).tolist()
    assert changed == [True, False, True, False]


@pytest.mark.parametrize(("p", "odd"), [(0.1, 0.1), (0.5, 0.3), (0.999999, 1e-7)])
def test_masks_are_exactly_those_of_the_reference(p: float, odd: float) -> None:
    case = Case([(16, 8), (33, 5), (40, 40)], dropout=p, odd_dropout=odd)
    made = make_stack(case)
    for epoch, step in epochs_of(made):
        masks = made.step.masks()
        assert masks[0].shape == (4, case.batch_size, 2 * ALIGNED)
        for m, model in enumerate(case.models()):
            expected = own_masks(case, made, model, m, epoch)
            assert len(masks) == len(expected) == 4
            for mask, own in zip(masks, expected, strict=True):
                assert torch.equal(mask[m, :, : own.shape[2]], own[step])
        made.step()


def test_masks_are_those_of_the_definition() -> None:
    case = Case([((5,), (7, 33))])
    made = make_stack(case)
    assert dropout_layers(made.step.stacked) == [0, 2, 3]
    keep = dropout_keep(made.streams[0].dropout, 2, 3, 33, case.batch_size, made.step.n_steps, case.dropout)
    made.step.begin_epoch([stream._replace(epoch=2) for stream in made.streams], made.rates(2))
    for step in range(made.step.n_steps):
        assert np.array_equal(made.step.masks()[2][0, :, :33].numpy() > 0, keep[step])
        made.step()


def test_batches_follow_each_members_stream_and_the_last_one_is_filled_with_missing_rows() -> None:
    case = Case([(16, 8), (33, 5)], missing=0.2)
    made = make_stack(case)
    for epoch, step in epochs_of(made):
        batch = made.step.batch()
        assert batch.shape == (3, case.batch_size, ALIGNED)
        for m in range(2):
            own = own_batch(case, made, m, epoch, step)
            torch.testing.assert_close(batch[m, : len(own), : case.features], own, rtol=0, atol=0, equal_nan=True)
            assert batch[m, len(own) :].isnan().all()
            assert batch[m, :, case.features :].isnan().all()
        made.step()


def test_on_a_cpu_the_step_that_would_be_captured_runs_itself() -> None:
    made = make_stack(Case(WIDTHS))
    assert repeatable(made.step, torch.device("cpu")) is made.step


# On CUDA: never run yet, for want of a GPU.

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def run_captured(made: Made, device: torch.device) -> None:
    with torch.cuda.device(device):
        flat = made.step.stacked.flat.clone()
        repeat = repeatable(made.step, device)
        assert torch.equal(made.step.stacked.flat, flat), "warm-up leaves the parameters alone"
        made.step.moments.zero_()
        for epoch in range(EPOCHS):
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
            try:
                made.step.begin_epoch([stream._replace(epoch=epoch) for stream in made.streams], made.rates(epoch))
                for _ in range(made.step.n_steps):
                    repeat()
                evaluate(made.step.stacked, made.step.targets)
            finally:
                torch.cuda.set_sync_debug_mode("default")


@needs_cuda
@pytest.mark.parametrize("case", CASES, ids=str)
def test_replays_of_a_captured_step_are_steps_and_nothing_waits_inside_an_epoch(case: Case) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    captured, plain = make_stack(case, device=device), make_stack(case, device=device)
    run_captured(captured, device)
    plain.run(EPOCHS)
    assert np.array_equal(state_of(captured.step), state_of(plain.step))
    assert torch.equal(captured.step.loss_sums, plain.step.loss_sums)


@needs_cuda
@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_cuda_has_the_losses_of_the_cpu(case: Case) -> None:
    on_gpu, on_cpu = make_stack(case, device=torch.device("cuda")), make_stack(case)
    for made in (on_gpu, on_cpu):
        made.run(1)
    torch.testing.assert_close(on_gpu.step.loss_sums.cpu(), on_cpu.step.loss_sums, rtol=1e-4, atol=1e-7)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(on_gpu.step.masks(), on_cpu.step.masks(), strict=True))
