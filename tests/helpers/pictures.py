"""How finished pictures are judged: where each text lies in pixels, and what the file holds.

assert_readable(draw_curves(ranking, latent_dim=3, verdict=verdict))
"""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from matplotlib.transforms import Bbox

NOTE = "Synthetic sample data (data/sample.csv): not real classes"


def visible_texts(figure: Figure) -> list[Text]:
    found = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def texts_of(figure: Figure) -> dict[Text, Bbox]:
    """Every visible text with its box in pixels, as drawn."""
    figure.draw_without_rendering()
    return {text: text.get_window_extent() for text in visible_texts(figure)}


def assert_readable(figure: Figure) -> None:
    boxes = texts_of(figure)
    page = figure.bbox
    for text, box in boxes.items():
        assert float(text.get_fontsize()) >= 8, text.get_text()
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert inside, f"{text.get_text()!r} is cut off: {box} in {page}"
    for (a, box_a), (b, box_b) in combinations(boxes.items(), 2):
        apart = box_a.x1 <= box_b.x0 or box_b.x1 <= box_a.x0 or box_a.y1 <= box_b.y0 or box_b.y1 <= box_a.y0
        assert apart, f"{a.get_text()!r} overlaps {b.get_text()!r}"


def offsets_of(collection: Collection) -> np.ndarray:
    return np.asarray(collection.get_offsets())


def words_in(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in visible_texts(figure))


def assert_sharp_and_small(png: bytes) -> None:
    """A picture is about 7 inches wide at 200 dpi, and small enough for a repository or a mail."""
    height, width, _ = imread(io.BytesIO(png)).shape
    assert 1390 <= width <= 1420, f"{width} pixels wide"
    assert 600 <= height <= 1200, f"{height} pixels high"
    assert len(png) < 800_000
