"""Numbers, lists, durations and names as text, for the console, the pictures, the report and all messages.

    count(5, "fold")                    # "5 folds"
    loss_text(0.03791, 0.0012)          # "0.0379 ± 0.0012"
    listed(["16", "32", "64"])          # "16, 32 or 64"

Names of configurations are in `space/naming.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

Interval = tuple[float, float]

PROG = "hyperparam_optimizer.py"  # the program, in its own messages
COLUMN_MEANS, BEST_CONSTANT = "column means", "best constant"  # the baselines, as the results file names them
PRINCIPAL, LINEAR = "PCA", "linear autoencoder"
NOT_YET_WORTH = "these networks are not yet worth their hidden layers; more --epochs or another --initial_lr may help"
LEAST_DIGITS = 2  # significant digits of a change, of the largest among it and its bounds
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")

# Numbers


def count(number: int, thing: str) -> str:
    """Returns `1 fold` or `5 folds`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def count_of(number: int, thing: str) -> str:
    """Returns `1 epoch` or `2,000 epochs`, for running text."""
    return f"{whole(number)} {thing}{'s' * (number != 1)}"


def whole(number: int | None) -> str:
    """Returns `2,008`; a dash for None."""
    return "–" if number is None else f"{number:,}"


def short(number: float) -> str:
    """Returns `0.001` or `1e-6`."""
    return re.sub(r"e([+-])0+", r"e\1", f"{number:g}").replace("e+", "e")


def level_text(level: float | str) -> str:
    """Returns an option's value as it would be typed: `0.1`, `1e-06`, `none`."""
    return level if isinstance(level, str) else format(level, "g")


def percent(share: float) -> str:
    """Returns a share of 1 as `95 %` or `99.5 %`."""
    return f"{100 * share:.6g} %"


def duration_text(seconds: float) -> str:
    """Returns `about 12 s`, `about 5 min` or `about 3 h`; never less than a second."""
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.0f} h"


# Losses


def loss_text(loss: float, sd: float | None = None) -> str:
    """Returns `0.0379`, or `0.0379 ± 0.0012` with a standard deviation.

    Below 1 it has at least 4 decimals, from 1 on 5 significant digits.
    """
    exponent = math.floor(math.log10(abs(loss))) if loss else 0
    decimals = max(0, 4 - exponent) if exponent >= 0 else max(4, 2 - exponent)
    return f"{loss:.{decimals}f}" if sd is None else f"{loss:.{decimals}f} ± {sd:.{decimals}f}"


def figure(loss: float | None, sd: float | None = None) -> str:
    """Returns a loss as `loss_text` does; a dash for None."""
    return "–" if loss is None else loss_text(loss, sd)


def difference_text(difference: float, loss: float, *, signed: bool = True) -> str:
    """Returns a difference with as many decimals as the loss it belongs to: `+0.0008`."""
    decimals = len(loss_text(loss).partition(".")[2])
    return f"{difference:{'+' * signed}.{decimals}f}"


def interval_text(interval: Interval, loss: float, *, signed: bool = True) -> str:
    """Returns the interval of a difference with as many decimals as that: `[-0.0003, +0.0019]`."""
    return f"[{', '.join(difference_text(bound, loss, signed=signed) for bound in interval)}]"


def change_text(change: float, interval: Sequence[float] | None, loss: float) -> str:
    """Returns `-0.0049 [-0.0056, -0.0042]`, or the change alone where it has no interval.

    It has as many decimals as the loss, more where too few digits would be left. A zero has no sign.
    """
    numbers = [change, *(interval or [])]
    largest = max(map(abs, numbers))
    decimals = len(loss_text(loss).partition(".")[2])
    if largest > 0:
        decimals = max(decimals, LEAST_DIGITS - 1 - math.floor(math.log10(largest)))
    shown, *bounds = (re.sub(r"^[+-](0(?:\.0+)?)$", r"\1", f"{number:+.{decimals}f}") for number in numbers)
    return f"{shown} [{', '.join(bounds)}]" if bounds else shown


def is_told(interval: Sequence[float] | None) -> bool:
    """Returns whether the effect with this interval can be told from luck: the interval excludes zero."""
    return interval is not None and not interval[0] <= 0 <= interval[1]


# Names


def listed(words: Iterable[str], last: str = "or") -> str:
    """Returns `16, 32 or 64`; `nothing` for an empty list."""
    *most, final = list(words) or ["nothing"]
    return f"{', '.join(most)} {last} {final}" if most else final


def baseline_name(name: str, components: int | None) -> str:
    """Returns a baseline in running text: `best constant`, `PCA with 3 components`."""
    if name == LINEAR:
        return f"{name} with the same loss"
    return name if components is None else f"{name} with {count(components, 'component')}"


def baseline_label(name: str, components: int | None) -> str:
    """Returns a baseline in a picture: `Best constant`, `PCA, 3 components`."""
    named = name[:1].upper() + name[1:]
    return named if components is None or name == LINEAR else f"{named}, {count(components, 'component')}"


def quoted_list(names: Iterable[str], *, limit: int = 8, quote: str = "'") -> str:
    """Returns names in quotes with commas between them, for messages: at most `limit`, long ones cut."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"{quote}{shortened(name)}{quote}" for name in names[:limit]) + more


def quoted(text: str) -> str:
    """Returns what a user typed for a message: in quotes, on one line, cut where it is long."""
    return repr(shortened(text, 80))


def shortened(text: str, limit: int = 60) -> str:
    """Returns the text, cut to `limit` characters where it is longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(thing: object) -> str:
    """Returns the text of anything for a message: without line breaks, repeated blanks or what cannot be printed."""
    return printable(" ".join(str(thing).split()))


def printable(text: str) -> str:
    """Returns the text so that nothing in it can break the line or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def readable(text: object) -> str:
    """Returns text from outside on one line and in its own order: what would not be seen is written `\\u202e`."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))
