"""The page of a picture of the latent space: title, small print, and axes placed in inches.

    page = Page(title, [note], body=2.0, head=0.7, below=0.5)
    panel = page.add_axes(left=1.25, bottom=0.0, width=4.0, height=2.0)

A constrained layout would not do: it does not keep axes square beside legends of different heights.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from layersearch.pictures.style import FAINT, HARD_SPACE, STYLE, WIDTH, any_script, empty_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Page:
    """A figure laid out in inches. From top to bottom: title and head, body, room below the body, small print.

    Args:
        title: it is broken into lines that fit, and makes the head higher if it has several.
        notes: paragraphs of the small print; empty ones and None are skipped.
        body: height of the body.
        head: height of the head with a title of one line.
        below: room below the body, for what belongs to its axes.
        width: width of the figure.
        beside_title: how much of the width the title must leave free.
    """

    def __init__(
        self,
        title: str,
        notes: Sequence[str | None],
        *,
        body: float,
        head: float,
        below: float,
        width: float = WIDTH,
        beside_title: float = 0.0,
    ) -> None:
        title = title_lines(title, width - beside_title)
        note = wrapped("\n".join(part for part in notes if part), width)
        foot = 0.12 + (0.16 * (note.count("\n") + 1) if note else 0.0)
        self.width = width
        self.head = head + 0.19 * title.count("\n")
        self.bottom = foot + below
        self.height = self.bottom + body + self.head
        self.figure = empty_figure(width, self.height)
        self.figure.text(0.1 / width, 1 - 0.1 / self.height, title, va="top", fontsize=10, fontweight="bold")
        self.figure.text(0.1 / width, 0.08 / self.height, note, va="bottom", fontsize=8, color=FAINT)

    def add_axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Adds axes of this place and size, in inches; `bottom` counts from the lower edge of the body."""
        across, up = self.width, self.height
        return self.figure.add_axes((left / across, (self.bottom + bottom) / up, width / across, height / up))


def title_lines(title: str, width: float) -> str:
    """Returns the title, broken into lines that fit `width` inches; the name of a configuration only if it must be."""
    whole = re.sub(r"(?<=\d), (?=\d)", f",{HARD_SPACE}", title)
    return textwrap.fill(whole, int(width * 11.5)).replace(HARD_SPACE, " ")


def text_width(text: str) -> float:
    """Returns the width of a text at 8 points, in inches."""
    font = FontProperties(family=STYLE["font.family"], size=8)
    with any_script():
        width: float = TextToPath().get_text_width_height_descent(text, font, False)[0]
    return width / 72


def shortened(text: str, inches: float) -> str:
    """Returns the text on one line, cut off with "…" if it is wider than `inches` at 8 points."""
    text = " ".join(text.split())[:200]
    if text_width(text) > inches:
        while text_width(text + "…") > inches:
            text = text[:-1]
        text += "…"
    return text
