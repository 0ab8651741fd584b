"""The listing of a space: every configuration, its size and time, in columns, as it is enumerated."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from layersearch.command.listing import list_configurations
from layersearch.options import ARRANGEMENTS
from layersearch.space.configurations import ParameterCounts, Space, count_parameters
from layersearch.space.naming import config_text


def cost(n_parameters: int) -> float:
    return n_parameters / 10_000


def lines_of(space: Space, seconds: Callable[[int], float] = cost, **given: Any) -> list[str]:
    normalizations = {name: given.pop(name) for name in ("normalization", "input_normalization") if name in given}
    sizes = ParameterCounts(24, 3, **normalizations)
    settings: dict[str, Any] = {"repeats": 5, "threads": 2}
    return list(list_configurations(space.configurations(), sizes, seconds, **settings | given))


def test_a_space_is_listed_with_sizes_times_and_totals() -> None:
    assert lines_of(Space([16, 64], 2)) == [
        "parameters  s/training  s in total  hidden layers",
        "      3915       0.392       0.979  [64]",
        "      1035       0.103       0.259  [16]",
        "     12491       1.249       3.123  [64, 64]",
        "      5771       0.577       1.443  [64, 16]",
        "      1643       0.164       0.411  [16, 16]",
        "5 configurations x 5 repeats, about 6 s on 2 cores",
    ]


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_every_configuration_is_listed_in_the_order_of_the_space(arrangement: str) -> None:
    space = Space([8, 128, 32], 2, arrangement)
    heading, *lines, totals = lines_of(space, repeats=2, folds=3, threads=1)
    start = heading.index("hidden layers")
    for config, line in zip(space.configurations(), lines, strict=True):
        size = count_parameters(24, 3, config)
        assert line[start:] == config_text(config)
        assert line[:start].split() == [str(size), f"{cost(size):.3f}", f"{6 * cost(size):.3f}"]
        assert [
            found.end() for found in re.finditer(r"\S+", heading[: start - 2].replace("s in total", "s-in-total"))
        ] == [found.end() for found in re.finditer(r"\S+", line[:start])]
    assert totals.startswith(f"{space.size} configurations x 2 repeats x 3 folds, about ")
    assert totals.endswith(" on 1 core")


def test_the_total_is_that_of_the_lines() -> None:
    space = Space([16, 64], 2)
    seconds = sum(5 * 1000 * count_parameters(24, 3, config) for config in space.configurations()) / 2
    assert lines_of(space, seconds=lambda n: 1000.0 * n)[-1].endswith(f", about {seconds / 3600:.0f} h on 2 cores")


def test_sizes_are_those_without_normalizations_where_there_are_none() -> None:
    bare = lines_of(Space([16], 1), normalization="none", input_normalization="none")
    assert bare[1].split()[0] == str(24 * 16 + 16 + 16 * 3 + 3 + 3 * 16 + 16 + 16 * 24 + 24)


def test_one_is_one() -> None:
    assert lines_of(Space([8], 1), repeats=1, folds=2, threads=1)[-1] == (
        "1 configuration x 1 repeat x 2 folds, about 1 s on 1 core"
    )


def test_lines_of_deep_pairs_fit_80_columns() -> None:
    assert max(map(len, lines_of(Space([64, 128], 4, "asymmetric")))) <= 80


def test_an_endless_space_starts_at_once() -> None:
    space = Space(range(4, 257), 6, "any")
    lines = list_configurations(space.configurations(), ParameterCounts(24, 3), cost, repeats=5, threads=2)
    assert len(list(islice(lines, 3))) == 3
