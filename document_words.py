"""Words for what the results document holds, as all that is made from it writes them.

name_of(document["best_configuration"])         # [64, 32]
figure(entry["final_test_loss"])                # 0.0417; a dash where it is null
escape(document["data"]["path"])                # safe in HTML
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from report import config_text, loss_text
from search import Variant

UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
FLAG = re.compile(r"--[a-z][a-z_]*(?: (?:[0-9]+|&quot;[^&]*&quot;))?")


def name_of(entry: Mapping[str, Any]) -> str:
    """`[64, 32]`, of any entry of the document that has a `config`; its options follow where it has some."""
    layers = tuple(tuple(part) if isinstance(part, list) else part for part in entry["config"])
    return config_text(Variant(layers, tuple((entry.get("options") or {}).items())))


def figure(loss: float | None, sd: float | None = None) -> str:
    """A loss as everywhere in the program's output; a dash where there is none."""
    return "–" if loss is None else loss_text(loss, sd)


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
