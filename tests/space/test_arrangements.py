"""Arrangements of layers: widths in any order, and decoders that do not mirror their encoder."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain, pairwise, product

import numpy as np
import pytest
import torch
from made_tables import low_rank_table
from scipy import stats

from layersearch.engines.dispatch import make_trainer
from layersearch.engines.lifecycle import build_model, trained_model
from layersearch.engines.settings import SplitTable, TrainingSettings
from layersearch.options import ARRANGEMENTS
from layersearch.space.configurations import (
    Configuration,
    Space,
    Widths,
    count_parameters,
    decoder_dims,
    encoder_dims,
    join_dims,
)
from layersearch.space.trials import Trial, plan_trials
from models import DynamicAutoencoder, flatten

SPACES = [([8], 4), ([8, 16], 1), ([16, 8], 3), ([32, 8, 16], 3), ([5, 3, 9, 5], 2), (range(1, 6), 2)]
PAIRS: list[Configuration] = [((64, 32), (16, 64)), ((1,), (3, 130)), ((9, 8, 7), (5,)), ((4, 4), (4,))]


def all_tuples(widths: list[int], max_layers: int) -> list[Widths]:
    """Returns every tuple of up to `max_layers` of these widths, in any order."""
    layers = range(1, max_layers + 1)
    return list(chain.from_iterable(product(sorted(set(widths)), repeat=n) for n in layers))


def falls(widths: Widths) -> bool:
    return all(a >= b for a, b in pairwise(widths))


def members(widths: list[int], max_layers: int, arrangement: str) -> set[tuple[Widths, Widths]]:
    """Returns the space by brute force, as pairs of encoder and decoder."""
    every = all_tuples(widths, max_layers)
    if arrangement == "asymmetric":
        return {
            (encoder, decoder) for encoder, decoder in product(every, every) if falls(encoder) & falls(decoder[::-1])
        }
    return {(encoder, encoder[::-1]) for encoder in every if arrangement == "any" or falls(encoder)}


def halves(config: Configuration) -> tuple[Widths, Widths]:
    return encoder_dims(config), decoder_dims(config)


# The space


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize(("widths", "max_layers"), SPACES)
def test_a_space_holds_exactly_what_its_rule_allows_each_once(
    widths: list[int], max_layers: int, arrangement: str
) -> None:
    space = Space(widths, max_layers, arrangement)
    configurations = list(space.configurations())
    assert space.size == len(configurations) == len(set(configurations))
    assert Counter(map(halves, configurations)) == Counter(members(widths, max_layers, arrangement))


def test_known_spaces_have_their_known_size() -> None:
    sizes = [Space([8, 16, 32, 64, 128], 4, arrangement).size for arrangement in ARRANGEMENTS]
    assert sizes == [125, 5 + 25 + 125 + 625, 125**2]
    assert Space(range(4, 257), 100, "any").size == sum(253**layers for layers in range(1, 101))


def test_the_order_is_that_of_depth_then_width_encoder_by_encoder() -> None:
    assert list(Space([1, 2], 2, "any").configurations()) == [(2,), (1,), (2, 2), (2, 1), (1, 2), (1, 1)]
    assert list(Space([1, 2], 1, "asymmetric").configurations()) == [(2,), ((2,), (1,)), ((1,), (2,)), (1,)]
    assert list(Space([1, 2], 2, "asymmetric").configurations())[:6] == [
        (2,), ((2,), (1,)), ((2,), (2, 2)), ((2,), (1, 2)), ((2,), (1, 1)), ((1,), (2,)),
    ]  # fmt: skip


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize(("widths", "max_layers"), [([8, 16], 2), ([3, 1, 2], 3), ([7], 3)])
def test_each_configuration_is_drawn_as_often_as_any_other(
    widths: list[int], max_layers: int, arrangement: str
) -> None:
    space, generator = Space(widths, max_layers, arrangement), random.Random(1)
    drawn = Counter(space.sample(generator) for _ in range(30 * space.size))
    assert set(drawn) == set(space.configurations())
    assert space.size == 1 or stats.chisquare(list(drawn.values())).pvalue > 0.01


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_one_is_drawn_from_spaces_whose_size_no_float_holds(arrangement: str) -> None:
    space = Space(range(1, 5001), 300, arrangement)
    assert space.size > 1e308
    encoder, decoder = halves(space.sample(random.Random(0)))
    assert 290 < len(encoder) <= 300
    assert arrangement == "any" or falls(encoder) & falls(decoder[::-1])


# Decoders behind an encoder that is given


@pytest.mark.parametrize("arrangement", ["decreasing", "any"])
@pytest.mark.parametrize(("widths", "max_layers"), SPACES)
def test_behind_an_encoder_the_space_holds_the_decoders_that_it_held_before_each_once(
    widths: list[int], max_layers: int, arrangement: str
) -> None:
    space = Space(widths, max_layers, arrangement, encoder=(9, 16))
    configurations = list(space.configurations())
    assert space.size == len(configurations) == len(set(configurations))
    assert {halves(config) for config in configurations} == {
        ((9, 16), decoder) for _, decoder in members(widths, max_layers, arrangement)
    }
    generator = random.Random(1)
    assert {space.sample(generator) for _ in range(30 * space.size)} == set(configurations)
    assert [space.complete(space.half_of(config)) for config in configurations] == configurations


# Pairs


@pytest.mark.parametrize("config", [(64,), (64, 32), (8, 16, 8), *PAIRS])
def test_a_configuration_is_its_halves_joined(config: Configuration) -> None:
    assert join_dims(*halves(config)) == config


def test_what_mirrors_itself_is_no_pair() -> None:
    assert join_dims((64, 32), (32, 64)) == (64, 32)
    assert join_dims((64, 32), (64, 32)) == ((64, 32), (64, 32))
    assert halves((64, 32)) == ((64, 32), (32, 64))
    assert halves(((64, 32), (16,))) == ((64, 32), (16,))


@pytest.mark.parametrize("config", PAIRS)
@pytest.mark.parametrize(("input_dim", "latent_dim"), [(1, 1), (24, 3), (7, 30)])
def test_parameters_of_pairs_are_counted_as_the_model_has_them(
    config: Configuration, input_dim: int, latent_dim: int
) -> None:
    model = DynamicAutoencoder(input_dim, latent_dim, config[0], decoder_dims=config[1])
    assert count_parameters(input_dim, latent_dim, config) == model.get_model_info()["total_params"]


def test_costly_pairs_are_planned_first() -> None:
    trials = plan_trials([((8,), (8, 8)), (8,), ((8, 8), (64, 64))], 1, input_dim=24, latent_dim=3)
    assert [trial.config for trial in trials] == [((8, 8), (64, 64)), ((8,), (8, 8)), (8,)]


# The model


def test_a_decoder_of_its_own_has_its_widths_from_latent_to_output() -> None:
    model = DynamicAutoencoder(24, 3, [64, 32], decoder_dims=[16, 48, 96])
    linear = [layer for layer in model.decoder if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(3, 16), (16, 48), (48, 96), (96, 24)]
    assert [layer.out_features for layer in model.encoder if isinstance(layer, torch.nn.Linear)] == [64, 32, 3]
    info = model.get_model_info()
    assert (info["hidden_dims"], info["decoder_dims"]) == ([64, 32], [16, 48, 96])
    assert info["encoder_params"] + info["decoder_params"] + 2 * 24 == info["total_params"]
    reconstruction, latent = model(torch.rand(5, 24))
    assert (reconstruction.shape, latent.shape) == ((5, 24), (5, 3))


def test_a_mirrored_model_is_the_same_whether_its_decoder_is_named_or_not() -> None:
    plain, named = (
        DynamicAutoencoder(7, 2, [9, 5], decoder_dims=decoder, generator=torch.Generator().manual_seed(3))
        for decoder in (None, [5, 9])
    )
    assert {name: tuple(value.shape) for name, value in plain.state_dict().items()} == {
        "input_norm.weight": (7,), "input_norm.bias": (7,),
        "encoder.0.weight": (9, 7), "encoder.0.bias": (9,), "encoder.1.weight": (9,), "encoder.1.bias": (9,),
        "encoder.4.weight": (5, 9), "encoder.4.bias": (5,), "encoder.5.weight": (5,), "encoder.5.bias": (5,),
        "encoder.8.weight": (2, 5), "encoder.8.bias": (2,),
        "decoder.0.weight": (5, 2), "decoder.0.bias": (5,), "decoder.1.weight": (5,), "decoder.1.bias": (5,),
        "decoder.4.weight": (9, 5), "decoder.4.bias": (9,), "decoder.5.weight": (9,), "decoder.5.bias": (9,),
        "decoder.8.weight": (7, 9), "decoder.8.bias": (7,),
    }  # fmt: skip
    assert np.array_equal(flatten(plain), flatten(named))
    assert plain.get_model_info() == named.get_model_info()


# Training

SETTINGS = TrainingSettings(
    latent_dim=2, epochs=3, batch_size=16, initial_lr=0.003, eta_min=1e-6, weight_decay=1e-3, dropout=0.1, seed=5
)
# Over whole trials rounding is amplified by Adam, most where a gradient is all but zero.
ENGINE_TOLERANCE = 2e-3  # relative, of a loss
TRAINED: list[Configuration] = [((16, 8), (20,)), ((9,), (5, 12, 33)), ((12,), (12, 12)), (6, 18, 9)]


@pytest.fixture(scope="module")
def table() -> SplitTable:
    return low_rank_table()


@pytest.mark.parametrize("config", TRAINED)
def test_engines_give_the_same_trials(table: SplitTable, config: Configuration) -> None:
    trial = Trial(config, 1)
    compiled, reference = (make_trainer(engine, {None: table}, SETTINGS)(trial) for engine in ("compiled", "reference"))
    for name in ("train_losses", "test_losses", "final_train_loss", "final_test_loss"):
        np.testing.assert_allclose(getattr(compiled, name), getattr(reference, name), rtol=ENGINE_TOLERANCE)
    np.testing.assert_allclose(compiled.row_errors, reference.row_errors, rtol=0.05, atol=1e-3)
    model = trained_model(compiled, table, SETTINGS)
    assert (model.hidden_dims, model.decoder_dims) == tuple(map(list, halves(config)))


def test_every_configuration_has_initial_weights_of_its_own() -> None:
    alike: list[Configuration] = [(8, 8), ((8, 8), (8,)), ((8,), (8, 8)), (8,), ((8, 8), (8, 8, 8))]
    trials = [*(Trial(config, 0) for config in alike), Trial(alike[1], 1)]
    first = {flatten(build_model(trial, 7, SETTINGS))[2 * 7].item() for trial in trials}
    assert len(first) == len(trials)


def test_weights_of_mirrored_configurations_are_what_they_were() -> None:
    """The digests were made before decoders could differ: older results and journals stay valid."""
    weights = flatten(build_model(Trial((4, 2), 1), 3, SETTINGS))
    golden = [0.3031733, 0.55534285, -0.0012813534, 0.48551992, 0.16680793]
    np.testing.assert_allclose(weights[[6, 7, 8, -12, -4]], golden, rtol=1e-6)
