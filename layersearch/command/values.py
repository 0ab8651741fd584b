"""Reads the texts of single arguments.

    read_widths("64, 32,64")           # [64, 32]
    read_width_range("4:256:4")        # range(4, 257, 4)

`layersearch/options.py` declares the arguments, `faults.py` finds all that can be wrong with them.
"""

from __future__ import annotations

import re

from layersearch.options import OBJECTIVES
from layersearch.words import quoted


class Unreadable(str):
    """The text of a value that could not be read. It is kept, so that all faults are reported together."""


def read_whole(text: str) -> int | Unreadable:
    """Reads a whole number of at most 30 digits."""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text.strip()) else Unreadable(text)


def read_number(text: str) -> float | Unreadable:
    """Reads a number as Python writes it, without underscores; "nan" and "inf" are numbers here."""
    try:
        return float(text) if text.isascii() and "_" not in text else Unreadable(text)
    except ValueError:
        return Unreadable(text)


def read_widths(text: str) -> list[int]:
    """Reads widths with commas between them, in the order given, without duplicates: `"64, 32,64"` is [64, 32].

    Raises:
        ValueError: a part is no width; the message names it.
    """
    widths = []
    for part in text.split(","):
        width = read_whole(part)
        if isinstance(width, str) or not 1 <= width <= 65_536:
            raise ValueError(f"{quoted(part.strip())} is no width; give whole numbers from 1 to 65536, like 16,32,64")
        widths.append(width)
    return list(dict.fromkeys(widths))


def duplicate_widths(text: str) -> list[int]:
    """Returns the widths that the text names more than once."""
    widths = [int(part) for part in text.split(",")]
    return sorted({width for width in widths if widths.count(width) > 1})


def read_width_range(text: str) -> range:
    """Reads a range of widths, both ends included: `"4:256:4"` is range(4, 257, 4).

    Raises:
        ValueError: it is none; the message says what is wrong with it.
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
    """Reads objectives with commas between them: `"params, loss"` is ["params", "loss"].

    Raises:
        ValueError: some are unknown or missing; the message says which.
    """
    objectives = list(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [quoted(objective) for objective in objectives if objective not in OBJECTIVES]
    if unknown:
        raise ValueError(f"{unknown[0]} is no objective; give some of {', '.join(OBJECTIVES)}")
    if "loss" not in objectives or len(objectives) == 1:
        raise ValueError("give loss and at least one of params, time")
    return objectives
