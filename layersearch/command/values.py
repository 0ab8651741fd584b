"""The values of arguments: their defaults, and how their texts are read.

    read_widths("64, 32,64")           # [64, 32]
    read_width_range("4:256:4")        # range(4, 257, 4)

`arguments.py` has the command line, `argument_faults.py` all that can be wrong with it.
"""

from __future__ import annotations

import re

from layersearch.words import quoted

SUFFIXES = (".csv", ".tsv", ".tab", ".xlsx", ".parquet")
STRATEGIES = ("grid", "random", "halving", "bayesian")
OBJECTIVES = ("loss", "params", "time")


class _Default(str):
    """A default that can be told apart from the same text given by the user."""


DEFAULT_DATA_PATH = _Default("data/stains.csv")
DEFAULT_SCALING = _Default("robust")  # a saved model's own goes before it
DEFAULT_OBJECTIVES = _Default("loss,params")  # of the front alone; given by the user, Bayesian search pursues them


class Unreadable(str):
    """A value that its argument's type could not read: kept, so that all faults are reported together."""


def read_whole(text: str) -> int | Unreadable:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text.strip()) else Unreadable(text)


def read_number(text: str) -> float | Unreadable:
    try:
        return float(text) if text.isascii() and "_" not in text else Unreadable(text)
    except ValueError:
        return Unreadable(text)


def read_widths(text: str) -> list[int]:
    """`"64, 32,64"` -> [64, 32]: in the order given, without duplicates.

    Raises:
        ValueError: names the part that is no width.
    """
    widths = []
    for part in text.split(","):
        width = read_whole(part)
        if isinstance(width, str) or not 1 <= width <= 65_536:
            raise ValueError(f"{quoted(part.strip())} is no width; give whole numbers from 1 to 65536, like 16,32,64")
        widths.append(width)
    return list(dict.fromkeys(widths))


def duplicate_widths(text: str) -> list[int]:
    """The widths that the text names more than once."""
    widths = [int(part) for part in text.split(",")]
    return sorted({width for width in widths if widths.count(width) > 1})


def read_width_range(text: str) -> range:
    """`"4:256:4"` -> range(4, 257, 4).

    Raises:
        ValueError: says what is wrong with it.
    """
    numbers = [number for number in map(read_whole, text.split(":")) if isinstance(number, int)]
    if len(numbers) not in (2, 3) or len(numbers) != text.count(":") + 1:
        raise ValueError("give low:high or low:high:step, like 4:256 or 16:256:16")
    low, high, step = (*numbers, 1)[:3]
    if not 1 <= low <= 65_536 or not 1 <= high <= 65_536 or step < 1:
        raise ValueError("give widths from 1 to 65536 and a step of at least 1, like 16:256:16")
    if low > high:
        raise ValueError(f"it ends below its start; give {high}:{low}")
    return range(low, high + 1, step)


def read_objectives(text: str) -> list[str]:
    """`"params, loss"` -> ["params", "loss"].

    Raises:
        ValueError: says what is wrong with them.
    """
    objectives = list(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [quoted(objective) for objective in objectives if objective not in OBJECTIVES]
    if unknown:
        raise ValueError(f"{unknown[0]} is no objective; give some of {', '.join(OBJECTIVES)}")
    if "loss" not in objectives or len(objectives) == 1:
        raise ValueError("give loss and at least one of params, time")
    return objectives
