"""The factors that a study of regularisation crosses, their levels, and the space of all combinations.

    factors = read_factors("dropout=0,0.1,0.3; normalization=layer,none")
    space = CrossedSpace([16, 32, 64], max_layers=3, factors=factors)
    space.size == 19 * 6
    cross([(64,), (64, 64)], factors)           # or only some configurations, with all combinations

The design is full factorial: every configuration is trained with every combination of levels, so that the effect
of each factor can be separated from those of the others (Fisher 1935, "The Design of Experiments"). `verdict/study.py`
analyses the results. This module imports no slow package, since it is used to check the command line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from layersearch.options import DECLARED, Choice, Number
from layersearch.space.configurations import OPTIONS, Configuration, Layers, Space, Variant
from layersearch.words import level_text, shortened

MOST_LEVELS = 10  # the largest number of levels of a factor
Level = float | str
EXAMPLE = 'like "dropout=0,0.1; normalization=layer,none"'


class Factor(NamedTuple):
    """An option of the trainings, and the values (levels) that a study gives it."""

    name: str
    levels: tuple[Level, ...]


Factors = tuple[Factor, ...]


def read_factors(text: str | None) -> Factors:
    """Reads the factors in the value of `--study`: `"normalization=layer,none; dropout=0,0.1"`.

    Returns:
        The factors in the order of `configurations.OPTIONS`, their levels in the order given; empty if `text` is None.

    Raises:
        ValueError: The text does not have that form; the message says what is wrong.
    """
    factors: dict[str, Factor] = {}
    for part in () if text is None else text.rstrip("; ").split(";"):
        name, equals, values = (piece.strip() for piece in part.partition("="))
        if name not in OPTIONS:
            raise ValueError(f"{_cut(name)!r} is no factor; give some of {', '.join(OPTIONS)}, {EXAMPLE}")
        if not equals:
            raise ValueError(f"{name} has no values; give some behind an =, {EXAMPLE}")
        if "=" in values:
            raise ValueError(f"{_cut(part.strip())!r} are two factors in one; put a ; between them, {EXAMPLE}")
        if name in factors:
            raise ValueError(f"{name} comes twice; put all its values behind one =")
        factors[name] = Factor(name, _read_levels(name, values))
    return tuple(factors[name] for name in OPTIONS if name in factors)


def _read_levels(name: str, values: str) -> tuple[Level, ...]:
    levels = tuple(_read_level(name, value.strip()) for value in values.split(","))
    twice = [level for place, level in enumerate(levels) if level in levels[:place]]
    if twice:
        raise ValueError(f"{name} has {level_text(twice[0])} twice; leave one out")
    if len(levels) < 2:
        raise ValueError(f"{name} has one value, so there is nothing to compare; give more, or --{name} {values}")
    if len(levels) > MOST_LEVELS:
        raise ValueError(f"{name} has {len(levels)} values; give at most {MOST_LEVELS}")
    return levels


def _read_level(name: str, text: str) -> Level:
    """Reads one value of an option, within the bounds that the option declares."""
    bounds = DECLARED[name].bounds
    if isinstance(bounds, Choice):
        if text not in bounds.choices:
            raise ValueError(f"{name} {_cut(text)!r}: give {' or '.join(bounds.choices)}")
        return text
    assert isinstance(bounds, Number)
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if bounds.remedy(value):
        raise ValueError(f"{name} {_cut(text)!r}: give numbers {bounds.allowed}")
    return value + 0.0  # -0.0 becomes 0.0


def _cut(text: str) -> str:
    return shortened(text, 40)


def all_options(factors: Factors) -> Iterator[tuple[tuple[str, Level], ...]]:
    """Yields every combination of levels as `Variant.options` holds it; the last factor changes fastest."""
    names = [factor.name for factor in factors]
    for levels in product(*(factor.levels for factor in factors)):
        yield tuple(zip(names, levels, strict=True))


def count_options(factors: Factors) -> int:
    """Returns the number of combinations of levels; 1 without factors."""
    return math.prod(len(factor.levels) for factor in factors)


def cross(layers: Iterable[Layers], factors: Factors) -> Iterator[Variant]:
    """Yields these hidden layers, each with every combination of levels."""
    for one in layers:
        for options in all_options(factors):
            yield Variant(one, options)


@dataclass(frozen=True)
class CrossedSpace(Space):
    """All variants of all configurations of a space."""

    factors: Factors = ()

    @property
    def size(self) -> int:
        """Number of variants, computed without listing them."""
        return super().size * count_options(self.factors)

    def configurations(self) -> Iterator[Configuration]:
        """Yields all variants, configuration by configuration."""
        yield from cross(super().configurations(), self.factors)
