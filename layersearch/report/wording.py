"""Words for what the results document holds, as all that is made from it writes them.

name_of(document["best_configuration"])         # [64, 32]
figure(entry["final_test_loss"])                # 0.0417; a dash where it is null
escape(document["data"]["path"])                # safe in HTML
"""

from __future__ import annotations

import html
import re

from layersearch.words import readable

NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?"
WORDS = (
    "none|layer|robust|percent|decreasing|any|asymmetric|grid|random|halving|bayesian|simplest|best|tied|loss,params"
)
FLAG = re.compile(rf"--[a-z][a-z_]*(?: (?:{NUMBER}|&quot;[^&]*&quot;|(?:{WORDS})\b))?")


def escape(text: object) -> str:
    """For HTML, in an element or an attribute; what could not be seen, or would turn the text round, is spelt out."""
    return html.escape(readable(text), quote=True)


def with_flags(text: object) -> str:
    """Escaped, with arguments of the command set as code."""
    return FLAG.sub(lambda found: f"<code>{found[0]}</code>", escape(text))
