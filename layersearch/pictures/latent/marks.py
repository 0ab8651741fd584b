"""What the pictures of the latent space share: how samples look by density and by label, and their keys.

    samples = Samples.of(points, is_test, labels)
    draw_by_label(axes, samples, 0, 1)

Used by `latent_plots.py` (one plane) and `latent_matrix.py` (a line, or every two of 3 to 5 dimensions).

Source of the label colours: Okabe & Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from layersearch.latent.labels import UNLABELLED, categories
from layersearch.pictures.style import DPI, FAINT, HARD_SPACE, INK, MARKERS, STYLE, any_script, wrapped
from layersearch.table.copus import PROFILES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

# all eight of Okabe & Ito
CATEGORY_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#D55E00", "#F0E442")
# blues for the didactic profiles, oranges for the interactive lectures
PROFILE_COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#000000")
LABEL_INCHES = 2.3  # the widest name of a label; the rest is cut off

DENSITY_LOOKS: dict[bool, dict[str, Any]] = {  # by whether it is a test sample
    False: {"marker": "o", "edgecolors": INK, "linewidths": 0.2},
    True: {"marker": "^", "edgecolors": INK, "linewidths": 0.45},
}


@dataclass(frozen=True)
class Samples:
    """What is drawn: N samples, and of these the D that get a point."""

    points: np.ndarray  # [N, L] finite
    is_test: np.ndarray  # [N] bool
    drawn: np.ndarray  # [D] which of them
    category: np.ndarray | None  # [N] place in `names`; None without labels
    names: list[str]
    column: str = ""  # what the labels are

    @classmethod
    def of(cls, points: np.ndarray, is_test: np.ndarray, labels: pd.Series[Any] | None, most: int) -> Samples:
        """Of more than `most` samples a random selection is drawn. `labels` [N] or None."""
        drawn = np.arange(len(points))
        if len(points) > most:
            drawn = np.sort(np.random.default_rng(0).permutation(len(points))[:most])
        if labels is None or not labels.notna().any():
            return cls(points, is_test, drawn, None, [])
        return cls(points, is_test, drawn, *categories(labels), column=str(labels.name))

    @property
    def counts(self) -> np.ndarray:
        """Samples of each category."""
        assert self.category is not None
        return np.bincount(self.category, minlength=len(self.names))

    @property
    def subset_note(self) -> str:
        """That not all are drawn; "" where they are."""
        if len(self.drawn) == len(self.points):
            return ""
        return (
            f"{len(self.drawn):,} samples drawn, chosen at random from {len(self.points):,}; density and counts are "
            "of all"
        )

    @property
    def key_words(self) -> list[str]:
        """For each category its name and how many samples it has."""
        counted = zip(self.names, self.counts, strict=True)
        return [f"{shortened(name, LABEL_INCHES)} ({count:,})" for name, count in counted]

    @property
    def looks(self) -> list[dict[str, Any]]:
        """Colour and marker of each category; what has no label is grey."""
        if self.names and set(self.names) - {UNLABELLED} <= set(PROFILES):
            own = dict(zip(PROFILES, zip(PROFILE_COLOURS, MARKERS, strict=False), strict=True))
        else:
            labelled = [name for name in self.names if name != UNLABELLED]
            own = dict(zip(labelled, zip(CATEGORY_COLOURS, MARKERS, strict=True), strict=False))
        found = [own.get(name, ("#BBBBBB", ".")) for name in self.names]
        return [{"color": c, "marker": marker, "edgecolors": INK, "linewidths": 0.2} for c, marker in found]


def draw_by_density(
    axes: Axes, samples: Samples, x: int, y: int, density: np.ndarray, *, scale: float = 1.0
) -> PathCollection:
    """Dimension x against y, coloured by density [N] (1 = densest), test samples as triangles."""
    edge = min(1.0, 2000 / len(samples.drawn)) * scale  # many points are drawn without an edge
    points, drawn = samples.points, samples.drawn
    for test, look in DENSITY_LOOKS.items():
        chosen = drawn[samples.is_test[drawn] == test]
        order = chosen[np.argsort(density[chosen], kind="stable")]  # the densest on top
        size = scale * point_size(len(drawn)) * (1.5 if test else 1.0)
        shaded = {**look, "linewidths": look["linewidths"] * edge, "cmap": "viridis", "vmin": 0, "vmax": 1}
        coloured = axes.scatter(points[order, x], points[order, y], size, density[order], **shaded)
    return coloured


def draw_by_label(axes: Axes, samples: Samples, x: int, y: int, *, scale: float = 1.0) -> None:
    """Dimension x against y by category, the rarest on top."""
    assert samples.category is not None
    points, drawn = samples.points, samples.drawn
    for place in np.argsort(-samples.counts, kind="stable"):
        here = drawn[samples.category[drawn] == place]
        look = {**samples.looks[place], "linewidths": 0.2 * scale * min(1.0, 2000 / len(drawn))}
        axes.scatter(points[here, x], points[here, y], 1.2 * scale * point_size(len(drawn)), **look)


def label_keys(axes: Axes, samples: Samples) -> list[PathCollection]:
    """Legend keys in the order of the names."""
    return [axes.scatter([], [], s=26, **look) for look in samples.looks]


def split_keys(axes: Axes, samples: Samples) -> list[PathCollection]:
    """Legend keys of training and test samples, with their words."""
    test = int(samples.is_test.sum())
    words = {False: f"Training ({len(samples.points) - test:,})", True: f"Test ({test:,})"}
    return [axes.scatter([], [], color="#BBBBBB", s=20, label=words[k], **look) for k, look in DENSITY_LOOKS.items()]


def density_bar(axes: Axes, coloured: PathCollection, place: tuple[float, float, float, float]) -> None:
    """The colour bar of a density, in inches from the lower left corner of the axes."""
    box = axes.get_window_extent()
    left, bottom, width, height = (
        DPI * inches / size for inches, size in zip(place, (box.width, box.height) * 2, strict=True)
    )
    bar = axes.figure.colorbar(
        coloured, cax=axes.inset_axes((left, bottom, width, height)), orientation="horizontal", ticks=[0, 0.5, 1]
    )
    bar.set_label("Density of samples (1 = where they are densest)")
    bar.outline.set_visible(False)


def blank_page(width: float, height: float, title: str, note: str) -> Figure:
    """A figure of so many inches with its title at the top and the small print at the foot, both wrapped already."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.text(0.1 / width, 1 - 0.1 / height, title, va="top", fontsize=10, fontweight="bold")
    figure.text(0.1 / width, 0.08 / height, note, va="bottom", fontsize=8, color=FAINT)
    return figure


def title_lines(title: str, width: float) -> str:
    """The title, broken into lines that fit a picture of `width` inches; between two widths as a last resort."""
    whole = re.sub(r"(?<=\d), (?=\d)", f",{HARD_SPACE}", title)
    return textwrap.fill(whole, int(width * 11.5)).replace(HARD_SPACE, " ")


def note_lines(notes: Sequence[str | None], width: float) -> tuple[str, float]:
    """The small print as lines that fit, and how many inches of a picture's foot it needs."""
    note = wrapped("\n".join(part for part in notes if part), width)
    return note, 0.12 + (0.16 * (note.count("\n") + 1) if note else 0.0)


def spans(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each dimension what its axis reaches from and to: [N, L] -> [L], [L].

    All have the same scale, unless one would then be hardly visible.
    """
    low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    span = high - low
    span = np.where(span > 0, span, span.max() or 1.0)
    if span.max() < 5 * span.min():
        span[:] = span.max()
    middle = (low + high) / 2
    return middle - 0.55 * span, middle + 0.55 * span


def point_size(count: int) -> float:
    """Area of a point, in square points."""
    return float(np.clip(600 / np.sqrt(count), 3.0, 26.0))


def text_width(text: str) -> float:
    """In inches, at 8 points."""
    font = FontProperties(family=STYLE["font.family"], size=8)
    with any_script():
        width: float = TextToPath().get_text_width_height_descent(text, font, False)[0]
    return width / 72


def shortened(text: str, inches: float) -> str:
    """One line of 8-point text, cut off with "…" where it would be wider than `inches`."""
    text = " ".join(text.split())[:200]
    if text_width(text) > inches:
        while text_width(text + "…") > inches:
            text = text[:-1]
        text += "…"
    return text
