"""The picture of the latent plane: all samples by density and by label.

    plot_latent_space(codes, is_test, labels, output_dir / "latent_space_2d_best_config.png", title=…)

Training and test samples, and the labels, differ by marker as well as by colour. What it shares with the
pictures of the search (`plots.py`) is in `plot_style.py`.

Sources: label colours, Okabe & Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/ ·
density, kernel estimate with Scott's bandwidth: Scott 1992, "Multivariate Density Estimation",
doi:10.1002/9780470316849, on a grid after linear binning: Wand 1994, doi:10.1080/10618600.1994.10474656.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from plot_style import DPI, FAINT, INK, MARKERS, STYLE, any_script, save, set_scale, wrapped

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

DRAWN_SAMPLES = 20_000  # of more samples a random selection is drawn; the density counts all of them
CATEGORIES = 8
UNLABELLED, OTHER = "no label", "other"
# all eight of Okabe & Ito
_CATEGORY_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#D55E00", "#F0E442")


def plot_latent_space(
    codes: np.ndarray,
    is_test: np.ndarray,
    labels: pd.Series[Any] | None,
    path: Path,
    *,
    title: str,
    note: str | None = None,
) -> None:
    """Writes `draw_latent_space`'s picture to `path`."""
    save(draw_latent_space(codes, is_test, labels, title=title, note=note), path)


def draw_latent_space(
    codes: np.ndarray, is_test: np.ndarray, labels: pd.Series[Any] | None, *, title: str, note: str | None = None
) -> Figure:
    """All samples in the latent plane by density and, where there are labels, a second time by label.

    codes [N, 2], finite · is_test [N] bool · labels [N], in the same order, or None.
    """
    drawn = np.arange(len(codes))
    if len(codes) > DRAWN_SAMPLES:
        drawn = np.sort(np.random.default_rng(0).permutation(len(codes))[:DRAWN_SAMPLES])
        subset = f"{DRAWN_SAMPLES:,} samples drawn, chosen at random from {len(codes):,}; density and counts are of all"
        note = f"{subset}\n{note}" if note else subset
    density = estimate_density(codes)
    with mpl.rc_context(STYLE), any_script():
        if labels is None or not labels.notna().any():
            figure, (plane,) = _square_panels(1, side=3.5, below=0.62, title=title, note=note)
        else:
            category, names = categories(labels)
            counts = np.bincount(category, minlength=len(names))
            words = [f"{_shortened(name, 2.3)} ({count:,})" for name, count in zip(names, counts, strict=True)]
            columns = 2 if max(map(_text_width, words)) < 1.4 else 1
            below = max(0.62, 0.05 + 0.165 * math.ceil(len(names) / columns))
            figure, (plane, by_label) = _square_panels(2, side=2.75, below=below, title=title, note=note)
            _set_plane(by_label, codes)
            keys = _label_panel(by_label, codes[drawn], category[drawn], names, counts)
            _key_below(by_label, keys, words, columns)
            by_label.set_title(f"By {_shortened(str(labels.name), 2.4)}", loc="left", pad=6)
        _set_plane(plane, codes)
        _density_panel(plane, codes[drawn], (density / density.max())[drawn], is_test[drawn])
        _split_key(plane, int((~is_test).sum()), int(is_test.sum()))
    return figure


def _square_panels(count: int, *, side: float, below: float, title: str, note: str | None) -> tuple[Figure, list[Axes]]:
    """A figure with square axes of `side` inches in a row, `below` inches of room under their axis labels.

    Laid out by hand: a constrained layout does not keep axes square beside legends of unlike height.
    """
    left, between, right, axis_label = 0.7, 0.7, 0.15, 0.5
    width = left + count * side + (count - 1) * between + right
    title = textwrap.fill(title, int(width * 11.5))
    note = wrapped(note, width) if note else ""
    foot = 0.12 + (0.16 * (note.count("\n") + 1) if note else 0.0)
    head = 0.55 + 0.19 * title.count("\n")
    height = foot + below + axis_label + side + 0.05 + head
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.text(0.1 / width, 1 - 0.1 / height, title, va="top", fontsize=10, fontweight="bold")
    figure.text(0.1 / width, 0.08 / height, note, va="bottom", fontsize=8, color=FAINT)
    bottom = (foot + below + axis_label) / height
    panels = [
        figure.add_axes(((left + k * (side + between)) / width, bottom, side / width, side / height))
        for k in range(count)
    ]
    return figure, panels


def estimate_density(codes: np.ndarray) -> np.ndarray:
    """[N] probability density at each of codes [N, 2], by a Gaussian kernel with Scott's bandwidth N^(-1/6).

    Points are shared out over a grid (linear binning), which is smoothed along one axis, then along the
    other (two matrix products), and read off between its nodes: work grows with N, not N². The spread
    is the smaller of SD and IQR / 1.349, so that outliers do not blur the rest.
    """
    codes = np.asarray(codes, dtype=np.float64)
    sd = codes.std(axis=0)
    iqr = np.subtract(*np.percentile(codes, [75, 25], axis=0)) / 1.349
    spread = np.where(iqr > 0, np.minimum(sd, iqr), sd)
    spread = np.where(spread > 0, spread, max(float(spread.max()), 1.0) * 1e-2)  # a latent dimension may be constant
    bandwidth = spread * len(codes) ** (-1 / 6)
    low, high = codes.min(axis=0) - 4 * bandwidth, codes.max(axis=0) + 4 * bandwidth
    nodes = np.clip(np.ceil((high - low) / bandwidth * 5), 32, 512).astype(int)
    step = (high - low) / (nodes - 1)
    bandwidth = np.maximum(bandwidth, step)  # what is finer than the grid cannot be seen in the picture either

    position = (codes - low) / step
    node = np.minimum(position.astype(int), nodes - 2)  # [N, 2]
    upper = position - node  # [N, 2] share of the next node
    corners = [
        (
            (node[:, 0] + i) * nodes[1] + node[:, 1] + j,
            (upper[:, 0] if i else 1 - upper[:, 0]) * (upper[:, 1] if j else 1 - upper[:, 1]),
        )
        for i in (0, 1)
        for j in (0, 1)
    ]
    mass = np.zeros(nodes.prod())
    for at, share in corners:
        mass += np.bincount(at, weights=share, minlength=len(mass))
    kernels = []
    for d in (0, 1):
        distance = step[d] / bandwidth[d] * np.subtract.outer(np.arange(nodes[d]), np.arange(nodes[d]))
        kernels.append(np.exp(-0.5 * distance**2) / (math.sqrt(2 * math.pi) * bandwidth[d]))
    smooth = (kernels[0] @ mass.reshape(nodes) @ kernels[1]).ravel() / len(codes)
    density: np.ndarray = np.sum([smooth[at] * share for at, share in corners], axis=0)
    return density


def _set_plane(axes: Axes, codes: np.ndarray) -> None:
    """The same scale on both axes, unless one latent dimension would then be hardly visible."""
    low, high = codes.min(axis=0).astype(float), codes.max(axis=0).astype(float)
    span = high - low
    span = np.where(span > 0, span, span.max() or 1.0)
    if span.max() < 5 * span.min():
        span[:] = span.max()
    middle = (low + high) / 2
    for axis, at, reach in zip((axes.xaxis, axes.yaxis), middle, 0.55 * span, strict=True):
        set_scale(axis, at - reach, at + reach, log=False, margin=0.0)
    axes.set_xlabel("Latent dimension 1")
    axes.set_ylabel("Latent dimension 2")
    axes.grid()


_DENSITY_LOOKS: dict[bool, dict[str, Any]] = {  # by whether it is a test sample
    False: {"marker": "o", "edgecolors": INK, "linewidths": 0.2},
    True: {"marker": "^", "edgecolors": INK, "linewidths": 0.45},
}


def _density_panel(axes: Axes, codes: np.ndarray, density: np.ndarray, is_test: np.ndarray) -> None:
    """The plane coloured by density [N] (1 = densest), test samples as triangles, and the colour bar below."""
    edge = min(1.0, 2000 / len(codes))  # many points are drawn without an edge
    for test, look in _DENSITY_LOOKS.items():
        chosen = np.flatnonzero(is_test == test)
        order = chosen[np.argsort(density[chosen], kind="stable")]  # the densest on top
        size = _point_size(len(codes)) * (1.5 if test else 1.0)
        shaded: dict[str, Any] = {
            **look,
            "linewidths": look["linewidths"] * edge,
            "cmap": "viridis",
            "vmin": 0,
            "vmax": 1,
        }
        coloured = axes.scatter(codes[order, 0], codes[order, 1], size, density[order], **shaded)
    place = axes.inset_axes((0, -0.66 * DPI / axes.get_window_extent().height, 1, 0.035))
    bar = axes.figure.colorbar(coloured, cax=place, orientation="horizontal")
    bar.set_label("Density of samples (1 = where they are densest)")
    bar.outline.set_visible(False)


def _split_key(axes: Axes, training: int, test: int) -> None:
    words = {False: f"Training ({training:,})", True: f"Test ({test:,})"}
    keys = [axes.scatter([], [], color="#BBBBBB", s=20, label=words[k], **look) for k, look in _DENSITY_LOOKS.items()]
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.005), "borderpad": 0.2}
    axes.legend(handles=keys, ncols=2, columnspacing=1.0, handletextpad=0.0, **place)


def _label_panel(
    axes: Axes, codes: np.ndarray, category: np.ndarray, names: Sequence[str], counts: np.ndarray
) -> list[PathCollection]:
    """The plane by category [N], the rarest on top; returns legend keys in the order of `names`."""
    looks = dict(zip([n for n in names if n != UNLABELLED], zip(_CATEGORY_COLOURS, MARKERS, strict=True), strict=False))
    keys = {}
    for place in np.argsort(-counts, kind="stable"):
        colour, marker = looks.get(names[place], ("#BBBBBB", "."))
        look: dict[str, Any] = {"color": colour, "marker": marker, "edgecolors": INK, "linewidths": 0.2}
        keys[place] = axes.scatter([], [], s=26, **look)
        look["linewidths"] = 0.2 * min(1.0, 2000 / len(codes))
        here = codes[category == place]
        axes.scatter(here[:, 0], here[:, 1], 1.2 * _point_size(len(codes)), **look)
    return [keys[place] for place in range(len(names))]


def _key_below(axes: Axes, keys: Sequence[PathCollection], words: Sequence[str], columns: int) -> None:
    height = axes.get_window_extent().height / DPI
    look: dict[str, Any] = {"columnspacing": 0.8, "handletextpad": 0.2, "labelspacing": 0.4, "borderpad": 0.0}
    axes.legend(keys, words, ncols=columns, loc="upper left", bbox_to_anchor=(-0.16, -0.52 / height), **look)


def categories(labels: pd.Series[Any]) -> tuple[np.ndarray, list[str]]:
    """(category [N], names): numbers in their order, words by frequency, the rare beyond 8 as one, missing last."""
    found, values = labels.factorize()  # [N], -1 where missing
    texts, same_text = np.unique(np.array([_label_text(value) for value in values], dtype=str), return_inverse=True)
    found = np.where(found < 0, -1, same_text[found])  # 1 and "1" are one category
    by_count = np.argsort(-np.bincount(found[found >= 0], minlength=len(texts)), kind="stable")
    kept = by_count if len(texts) <= CATEGORIES else by_count[: CATEGORIES - 1]
    if all(_is_number(texts[k]) for k in kept):
        kept = np.array(sorted(kept, key=lambda k: float(texts[k])))
    names = [str(texts[k]) for k in kept]
    rank = np.full(len(texts), len(names))
    rank[kept] = np.arange(len(names))
    if len(texts) > CATEGORIES:
        names.append(OTHER)
    category = np.where(found < 0, len(names), rank[found])
    return category, [*names, UNLABELLED] if (found < 0).any() else names


def _label_text(label: Any) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _point_size(count: int) -> float:
    """Area of a point, in square points."""
    return float(np.clip(600 / math.sqrt(count), 3.0, 26.0))


def _text_width(text: str) -> float:
    """In inches, at 8 points."""
    width: float = TextToPath().get_text_width_height_descent(
        text, FontProperties(family="DejaVu Sans", size=8), False
    )[0]
    return width / 72


def _shortened(text: str, inches: float) -> str:
    """One line of 8-point text, cut off with "…" where it would be wider than `inches`."""
    text = " ".join(text.split())[:200]
    if _text_width(text) > inches:
        while _text_width(text + "…") > inches:
            text = text[:-1]
        text += "…"
    return text
