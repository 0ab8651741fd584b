"""Parses the values of single arguments.

    read_widths("64, 32,64")           # [64, 32]
    read_width_range("4:256:4")        # range(4, 257, 4)

`layersearch/options.py` declares the arguments, and `faults.py` checks them.
"""

from __future__ import annotations

import re

from layersearch.options import OBJECTIVES
from layersearch.words import quoted


class Unreadable(str):
    """The text of a value that could not be parsed. It is kept so that all errors are reported together."""


def read_whole(text: str) -> int | Unreadable:
    """Parses a whole number of at most 30 digits."""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text.strip()) else Unreadable(text)


def read_number(text: str) -> float | Unreadable:
    """Parses a number in Python's syntax, without underscores; "nan" and "inf" are accepted."""
    try:
        return float(text) if text.isascii() and "_" not in text else Unreadable(text)
    except ValueError:
        return Unreadable(text)


def read_widths(text: str) -> list[int]:
    """Parses comma-separated widths, keeping their order and dropping duplicates: `"64, 32,64"` is [64, 32].

    Raises:
        ValueError: a part is not a width; the message names it.
    """
    widths = []
    for part in text.split(","):
        width = read_whole(part)
        if isinstance(width, str) or not 1 <= width <= 65_536:
            raise ValueError(f"{quoted(part.strip())} is no width; give whole numbers from 1 to 65536, like 16,32,64")
        widths.append(width)
    return list(dict.fromkeys(widths))


def duplicate_widths(text: str) -> list[int]:
    """Returns the widths that occur more than once in the text."""
    widths = [int(part) for part in text.split(",")]
    return sorted({width for width in widths if widths.count(width) > 1})


def read_width_range(text: str) -> range:
    """Parses a range of widths, both ends included: `"4:256:4"` is range(4, 257, 4).

    Raises:
        ValueError: the range is invalid; the message says why.
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
    """Parses comma-separated objectives: `"params, loss"` is ["params", "loss"].

    Raises:
        ValueError: an objective is unknown or missing; the message says which.
    """
    objectives = list(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [quoted(objective) for objective in objectives if objective not in OBJECTIVES]
    if unknown:
        raise ValueError(f"{unknown[0]} is no objective; give some of {', '.join(OBJECTIVES)}")
    if "loss" not in objectives or len(objectives) == 1:
        raise ValueError("give loss and at least one of params, time")
    return objectives
