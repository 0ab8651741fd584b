"""The design of a study: how its text is read, and that it has every combination once."""

from __future__ import annotations

from math import prod

import pytest

from layersearch.command.arguments import parse_arguments
from layersearch.command.request import read_request
from layersearch.space.configurations import OPTIONS, Variant, enumerate_configurations
from layersearch.space.factors import CrossedSpace, Factor, count_options, cross, read_factors

ALL = "initial_lr=0.001,0.01; dropout=0,0.1,0.3; weight_decay=0,1e-4,1e-2; normalization=layer,none; "
ALL += "input_normalization=layer,none"


def test_factors_come_in_the_order_of_options_with_levels_as_given() -> None:
    assert read_factors(" normalization = none , layer ;dropout=.3,0") == (
        Factor("dropout", (0.3, 0.0)),
        Factor("normalization", ("none", "layer")),
    )
    assert [factor.name for factor in read_factors(ALL)] == list(OPTIONS)
    assert read_factors(f"{ALL}; ") == read_factors(ALL), "what ends with a ; is no further factor"


def test_every_configuration_comes_with_every_combination_once() -> None:
    factors = read_factors(ALL)
    layers = enumerate_configurations([16, 32], 2)
    variants = list(cross(layers, factors))
    assert len(set(variants)) == len(variants) == len(layers) * 72 == len(layers) * count_options(factors)
    assert {variant.layers for variant in variants} == set(layers)
    for factor in factors:
        for level in factor.levels:
            share = sum(dict(variant.options)[factor.name] == level for variant in variants)
            assert share == len(variants) / len(factor.levels)


@pytest.mark.parametrize("arrangement", ["decreasing", "any", "asymmetric"])
def test_a_crossed_space_is_as_large_as_it_says(arrangement: str) -> None:
    space = CrossedSpace([4, 8], 2, arrangement, factors=read_factors("dropout=0,0.1,0.2;normalization=layer,none"))
    variants = list(space.configurations())
    assert len(set(variants)) == len(variants) == space.size
    assert all(isinstance(variant, Variant) for variant in variants)


@pytest.mark.parametrize(
    ("more", "size", "is_crossed"),
    [
        ([], 5 * 72, True),
        (["--study_configs", "2"], 5, False),
        (["--study_configs", "5", "--search", "halving"], 5, False),
    ],
)
def test_all_is_crossed_unless_only_the_best_are(more: list[str], size: int, is_crossed: bool) -> None:
    argv = ["--hidden_dims_search", "8,16", "--max_layers", "2", "--study", ALL, *more]
    plan = read_request(parse_arguments(argv)).plan
    assert plan.n_to_try == plan.space.size == size
    assert isinstance(plan.space, CrossedSpace) == is_crossed


def test_a_given_option_is_fine_where_it_is_a_level_or_the_first_search_uses_it() -> None:
    assert parse_arguments(["--study", "dropout=0,0.2", "--dropout", "0.2"]).dropout == 0.2
    assert parse_arguments(["--study", "dropout=0,0.2", "--dropout", "0.4", "--study_configs", "1"]).dropout == 0.4


def test_the_limit_counts_variants() -> None:
    factors = read_factors(ALL)
    within = ["--hidden_dims_search", "8,16", "--max_layers", "2", "--study", ALL, "--max_configurations"]
    n = 5 * prod(len(factor.levels) for factor in factors)
    assert parse_arguments([*within, str(n)])
    with pytest.raises(SystemExit):
        parse_arguments([*within, str(n - 1)])
