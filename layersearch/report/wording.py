"""Words for what the results document holds, as all that is made from it writes them.

name_of(document["best_configuration"])         # [64, 32]
figure(entry["final_test_loss"])                # 0.0417; a dash where it is null
escape(document["data"]["path"])                # safe in HTML
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from layersearch.report.results import config_text, loss_text
from layersearch.space.configurations import Variant

UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?"
WORDS = (
    "none|layer|robust|percent|decreasing|any|asymmetric|grid|random|halving|bayesian|simplest|best|tied|loss,params"
)
FLAG = re.compile(rf"--[a-z][a-z_]*(?: (?:{NUMBER}|&quot;[^&]*&quot;|(?:{WORDS})\b))?")
LEAST_DIGITS = 2  # of a change, if the largest of it and its bounds


def name_of(entry: Mapping[str, Any]) -> str:
    """`[64, 32]`, of any entry of the document that has a `config`; its options follow where it has some."""
    layers = tuple(tuple(part) if isinstance(part, list) else part for part in entry["config"])
    return config_text(Variant(layers, tuple((entry.get("options") or {}).items())))


def figure(loss: float | None, sd: float | None = None) -> str:
    """A loss as everywhere in the program's output; a dash where there is none."""
    return "–" if loss is None else loss_text(loss, sd)


def change_text(change: float, interval: Sequence[float] | None, loss: float) -> str:
    """`-0.0049 [-0.0056, -0.0042]`: as many decimals as the loss, more where too few digits would be left.

    Without an interval where there is none. A zero has no sign.
    """
    numbers = [change, *(interval or [])]
    largest = max(map(abs, numbers))
    decimals = len(loss_text(loss).partition(".")[2])
    if largest > 0:
        decimals = max(decimals, LEAST_DIGITS - 1 - math.floor(math.log10(largest)))
    shown, *bounds = (re.sub(r"^[+-](0(?:\.0+)?)$", r"\1", f"{number:+.{decimals}f}") for number in numbers)
    return f"{shown} [{', '.join(bounds)}]" if bounds else shown


def is_told(interval: Sequence[float] | None) -> bool:
    """Whether an effect with this interval is not luck: it keeps off zero."""
    return interval is not None and not interval[0] <= 0 <= interval[1]


def whole(number: int | None) -> str:
    """`2,008`; a dash where there is none."""
    return "–" if number is None else f"{number:,}"


def short(number: float) -> str:
    """`0.001`, `1e-6`."""
    return re.sub(r"e([+-])0+", r"e\1", f"{number:g}").replace("e+", "e")


def count_of(number: int, thing: str) -> str:
    """`1 epoch`, `2,000 epochs`."""
    return f"{whole(number)} {thing}{'s' * (number != 1)}"


def listed(words: Iterable[str], last: str = "or") -> str:
    """`16, 32 or 64`; `nothing` of none."""
    *most, final = list(words) or ["nothing"]
    return f"{', '.join(most)} {last} {final}" if most else final


def readable(text: object) -> str:
    """Text from outside on one line and in its own order: what would not be seen is written `\\u202e`."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def escape(text: object) -> str:
    """For HTML, in an element or an attribute; what could not be seen, or would turn the text round, is spelt out."""
    return html.escape(readable(text), quote=True)


def with_flags(text: object) -> str:
    """Escaped, with arguments of the command set as code."""
    return FLAG.sub(lambda found: f"<code>{found[0]}</code>", escape(text))
