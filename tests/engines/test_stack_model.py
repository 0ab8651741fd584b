"""A stack of models computes what each model computes, and gives each of them back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stacks import Case

from layersearch.engines.stack.model import stack, unstack
from models import DynamicAutoencoder, flatten

# Sums over a width in another order, through up to 7 layers with a LayerNorm each.
OUTPUT_TOLERANCE = 1e-5

CASES = [
    Case([(16, 8), (33, 5), (40, 40)]),
    Case([(1,), (64,), (7,)], features=3, latent=1),
    Case([((5,), (7, 33, 20)), ((64,), (2, 2, 2))], features=40, latent=35),
    Case([(130, 17, 5)]),
    Case([(16, 8), (33, 5)], normalization="none"),
    Case([(16, 8), (33, 5)], is_frozen=True),
    Case([(16, 8), (33, 5)], normalization="none", input_normalization="none", odd_dropout=0.1),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stack_computes_what_its_members_compute(case: Case) -> None:
    models = [model.eval() for model in case.models()]
    stacked = stack(models).eval()
    x = torch.rand(len(models), 5, case.features)
    padded = torch.zeros(len(models), 5, stacked.input_dim)
    padded[..., : case.features] = x
    with torch.no_grad():
        reconstruction, latent = stacked(padded)
        for m, model in enumerate(models):
            expected = model(x[m])
            torch.testing.assert_close(
                reconstruction[m, :, : case.features], expected[0], rtol=0, atol=OUTPUT_TOLERANCE
            )
            torch.testing.assert_close(latent[m, :, : case.latent], expected[1], rtol=0, atol=OUTPUT_TOLERANCE)
    assert not reconstruction[..., case.features :].any()
    assert not latent[..., case.latent :].any()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_unstacked_models_are_what_was_stacked(case: Case) -> None:
    models: list[DynamicAutoencoder | None] = [None, *case.models()]
    stacked = stack(models, width=96)
    for m, model in enumerate(models):
        if model is None:
            continue
        again = unstack(stacked, m)
        assert again.is_frozen == model.is_frozen
        assert again.get_model_info() == model.get_model_info()
        assert np.array_equal(flatten(again), flatten(model))


def test_layers_have_the_names_of_the_single_models_layers() -> None:
    models = Case([(16, 8), (33, 5)]).models()
    stacked = stack(models)
    assert [name for name, _ in stacked.named_parameters()] == [name for name, _ in models[0].named_parameters()]
    assert list(stacked.state_dict()) == list(models[0].state_dict())
    assert all(len(parameter) == 2 for parameter in stacked.parameters())


def test_layers_and_the_flat_parameters_are_the_same_memory() -> None:
    stacked = stack(Case([(16, 8), (33, 5)]).models())
    stacked.flat.zero_()
    assert not any(parameter.any() for parameter in stacked.parameters())


def test_padded_weights_are_zero() -> None:
    case = Case([(16, 8), (33, 5)])
    stacked = stack(case.models())
    for m, model in enumerate(case.models()):
        outside = np.ones(stacked.flat.shape[1], dtype=bool)
        outside[stacked.places[m]] = False
        assert outside.sum() == stacked.flat.shape[1] - flatten(model).size
        assert not stacked.flat[m].numpy()[outside].any()


@pytest.mark.parametrize("width", [0, 64])
def test_all_hidden_layers_are_as_wide_as_the_widest_or_wider(width: int) -> None:
    stacked = stack(Case([(5,), (33,), (20,)]).models(), width)
    assert stacked.width == 64
    assert stacked.encoder[0].weight.shape == (3, 64, 32)


def test_only_models_of_one_depth_stack() -> None:
    with pytest.raises(ValueError, match="models of one depth"):
        stack(Case([(16, 8), (16,)]).models())


@pytest.mark.parametrize("other", [Case([(16, 8)], normalization="none"), Case([(16, 8)], input_normalization="none")])
def test_only_models_of_one_normalization_stack(other: Case) -> None:
    with pytest.raises(ValueError, match="models of one depth and normalization"):
        stack([*Case([(16, 8)]).models(), *other.models()])


def test_an_empty_place_is_no_model() -> None:
    with pytest.raises(ValueError, match="place 1 of the stack is empty"):
        unstack(stack([*Case([(16, 8)]).models(), None]), 1)


def test_stacking_touches_no_global_random_state() -> None:
    models = Case([(16, 8)]).models()
    before = torch.random.get_rng_state()
    unstack(stack(models), 0)
    assert torch.equal(before, torch.random.get_rng_state())
