"""What a regularisation study crosses: its factors, their levels, and the space of all combinations.

    factors = read_factors("dropout=0,0.1,0.3; normalization=layer,none")
    space = CrossedSpace([16, 32, 64], max_layers=3, factors=factors)
    space.size == 19 * 6
    cross([(64,), (64, 64)], factors)           # or only some configurations with all options

A full factorial design: every configuration with every combination of levels, so that each factor's effect can be told
from the others' (Fisher 1935, "The Design of Experiments"). What came out is read by `study.py`. Nothing heavy is
imported here: the command line is checked with it.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from layersearch.space.configurations import NORMALIZATIONS, OPTIONS, Configuration, Layers, Space, Variant
from layersearch.words import level_text

MOST_LEVELS = 10  # of a factor; what they have in common is lost among more
Level = float | str
NUMBERS: Mapping[str, tuple[str, Callable[[float], bool]]] = {  # what the flags of these names allow
    "dropout": ("from 0 to below 1", lambda x: 0 <= x < 1),
    "weight_decay": ("from 0 to 1e30", lambda x: 0 <= x <= 1e30),
}
EXAMPLE = 'like "dropout=0,0.1; normalization=layer,none"'


class Factor(NamedTuple):
    """An option of the trainings, and the values that it takes in turn."""

    name: str
    levels: tuple[Level, ...]


Factors = tuple[Factor, ...]


def read_factors(text: str) -> Factors:
    """`"normalization=layer,none; dropout=0,0.1"` -> the factors in the order of `search.OPTIONS`, levels as given.

    Raises:
        ValueError: says what is wrong with it.
    """
    factors: dict[str, Factor] = {}
    for part in text.rstrip("; ").split(";"):
        name, equals, values = (piece.strip() for piece in part.partition("="))
        if name not in OPTIONS:
            raise ValueError(f"{_cut(name)!r} is no factor; give some of {', '.join(OPTIONS)}, {EXAMPLE}")
        if not equals:
            raise ValueError(f"{name} has no values; give some behind an =, {EXAMPLE}")
        if "=" in values:
            raise ValueError(f"{_cut(part.strip())!r} are two factors in one; put a ; between them, {EXAMPLE}")
        if name in factors:
            raise ValueError(f"{name} comes twice; put all its values behind one =")
        levels = tuple(_read_level(name, value.strip()) for value in values.split(","))
        twice = [level for place, level in enumerate(levels) if level in levels[:place]]
        if twice:
            raise ValueError(f"{name} has {level_text(twice[0])} twice; leave one out")
        if len(levels) < 2:
            raise ValueError(f"{name} has one value, so there is nothing to compare; give more, or --{name} {values}")
        if len(levels) > MOST_LEVELS:
            raise ValueError(f"{name} has {len(levels)} values; give at most {MOST_LEVELS}")
        factors[name] = Factor(name, levels)
    return tuple(factors[name] for name in OPTIONS if name in factors)


def _read_level(name: str, text: str) -> Level:
    if name not in NUMBERS:
        if text not in NORMALIZATIONS:
            raise ValueError(f"{name} {_cut(text)!r}: give {' or '.join(NORMALIZATIONS)}")
        return text
    allowed, is_allowed = NUMBERS[name]
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not is_allowed(value):  # nan is allowed nowhere
        raise ValueError(f"{name} {_cut(text)!r}: give numbers {allowed}")
    return value + 0.0  # -0.0 is 0.0


def _cut(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def all_options(factors: Factors) -> Iterator[tuple[tuple[str, Level], ...]]:
    """Every combination of levels, as `Variant.options` holds it; the last factor changes fastest."""
    names = [factor.name for factor in factors]
    for levels in product(*(factor.levels for factor in factors)):
        yield tuple(zip(names, levels, strict=True))


def count_options(factors: Factors) -> int:
    """How many combinations there are."""
    return math.prod(len(factor.levels) for factor in factors)


def cross(layers: Iterable[Layers], factors: Factors) -> Iterator[Variant]:
    """Each of these hidden layers with every combination of levels."""
    for one in layers:
        for options in all_options(factors):
            yield Variant(one, options)


@dataclass(frozen=True)
class CrossedSpace(Space):
    """All variants of all configurations of a space."""

    factors: Factors = ()

    @property
    def size(self) -> int:
        """How many variants there are, without making them."""
        return super().size * count_options(self.factors)

    def configurations(self) -> Iterator[Configuration]:
        """All of them, those of one configuration after those of another."""
        yield from cross(super().configurations(), self.factors)


# On the command line


def factors_of(arguments: Namespace) -> Factors:
    """What `--study` crosses; nothing without it.

    Raises:
        ValueError: says what is wrong with it.
    """
    return () if arguments.study is None else read_factors(arguments.study)


def study_faults(arguments: Namespace) -> list[str]:
    """What is wrong with `--study`, whatever the space."""
    try:
        factors = factors_of(arguments)
    except ValueError as error:
        return [f"--study {_cut(arguments.study)!r}: {error}"]
    if factors and arguments.study_configs == 0 and arguments.search in ("random", "halving", "bayesian"):
        return [
            f"--search {arguments.search} leaves gaps, and a study needs every combination; give --study_configs 3 to "
            "cross the best it finds, or leave --search out"
        ]
    return []


def unused_level_faults(arguments: Namespace, given: Collection[str]) -> list[str]:
    """Options that were `given` although all is trained at other values of theirs."""
    if arguments.study_configs != 0 or study_faults(arguments):
        return []  # the search that comes first uses them; or it is said elsewhere
    unused = [f for f in factors_of(arguments) if f"--{f.name}" in given and getattr(arguments, f.name) not in f.levels]
    return [
        f"--{f.name} {getattr(arguments, f.name)}: --study has only {', '.join(map(level_text, f.levels))}; "
        "add it there, or leave the flag out"
        for f in unused
    ]


def frozen_factor_faults(arguments: Namespace) -> list[str]:
    """Factors of an encoder that `--freeze_encoder` keeps as it is."""
    if not arguments.freeze_encoder or study_faults(arguments):
        return []
    own = ("dropout", "normalization", "input_normalization")
    return [
        f"--study: with --freeze_encoder the encoder keeps its own {factor.name}; leave that factor out"
        for factor in factors_of(arguments)
        if factor.name in own
    ]


def crossing(arguments: Namespace, n_configurations: int, limit: int) -> tuple[list[str], int]:
    """What is wrong with the size of the study of so many configurations, and how many variants it has.

    Without a study that is as many as there are configurations.
    """
    chosen = arguments.study_configs
    if arguments.study is None or study_faults(arguments) or isinstance(chosen, str) or chosen < 0:
        return [], n_configurations
    if chosen > n_configurations:
        return [f"--study_configs {chosen}: there are only {n_configurations} to choose from; give fewer"], 0
    crossed, options = chosen or n_configurations, count_options(factors_of(arguments))
    if crossed * options <= limit:
        return [], crossed * options
    remedy = "name fewer values" if chosen else "cross only the best with --study_configs 3, name fewer values"
    return [
        f"--study: {crossed} configurations x {options} options are {crossed * options}, more than "
        f"--max_configurations {limit}; {remedy}, or raise it to {crossed * options}"
    ], crossed * options
