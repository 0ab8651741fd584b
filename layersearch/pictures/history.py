"""The course of a search as a picture: each configuration's loss, and the lowest so far, against the training done.

    figure = draw_history(history, latent_dim=3, verdict=verdict, ranking=ranking)

The axis below counts trainings, the one above seconds. The ticks of the latter are uneven, since a training's time
depends on its configuration. Of successive halving the rungs are shown too, and the losses at which it paused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator

from layersearch.pictures.loss_axis import baseline_keys, draw_tied, loss_ceiling, loss_scale, points_across
from layersearch.pictures.placing import DATUM_WEIGHT, fix_layout, place_label, points_along
from layersearch.pictures.style import COLOURS, INK, STYLE, WIDTH, new_figure, set_scale, tick_texts, wrapped
from layersearch.pictures.survey import loss_name, trainings_text
from layersearch.search.history import History, Step
from layersearch.space.configurations import Configuration, layers_of
from layersearch.space.naming import short_name
from layersearch.space.ranking import ConfigurationResult, Drop
from layersearch.space.trials import TrialResult
from layersearch.words import loss_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from layersearch.verdict.verdict import Verdict

STRATEGIES = {
    "grid": "Full grid",
    "random": "Random search",
    "halving": "Successive halving",
    "bayesian": "Bayesian search",
}
HEIGHT = 4.4  # inches
STRIP = 0.08  # share of the axes' height for losses off the scale
TICK_GAP = 0.09  # the least distance of two ticks above, as a share of the axes' width
UNITS = {"Hours": 3600, "Minutes": 60, "Seconds": 1, "Milliseconds": 1e-3, "Microseconds": 1e-6}  # in seconds
ENOUGH_TICKS = 5
ROOM_BELOW = 0.16  # share of the axes' height for the name of the best

BEST: dict[str, Any] = {"color": COLOURS[0], "linewidth": 1.8}
LEADS: dict[str, Any] = {"color": COLOURS[0], "marker": "D", "linestyle": "none", "markersize": 4.5}
LOSS: dict[str, Any] = {
    "markerfacecolor": "#FFFFFFB0",
    "marker": "o",
    "linestyle": "none",
    "markeredgecolor": "#5A5A5A",
}
PAUSED: dict[str, Any] = {"color": "#A8A8A8", "marker": "_", "linestyle": "none", "markersize": 4}
FAR: dict[str, Any] = {"color": "#5A5A5A", "marker": "^", "linestyle": "none", "markersize": 4}
FAILED: dict[str, Any] = {"color": COLOURS[1], "marker": "x", "linestyle": "none", "markersize": 5}


def draw_history(
    history: History,
    *,
    latent_dim: int,
    verdict: Verdict,
    ranking: Sequence[ConfigurationResult],
    first: History | None = None,
    note: str | None = None,
) -> Figure:
    """Draws the losses against the trainings done (axis below) and the seconds of training (axis above).

    Args:
        history: what was trained, in order.
        latent_dim: size of the latent space, for the title.
        verdict: the verdict on these configurations.
        ranking: the configurations of the history.
        first: the history of the search that chose the hidden layers, if this is the second stage of a study.
        note: small print at the foot.

    Raises:
        ValueError: no configuration finished.
    """
    course = follow(history, {c.config: c for c in ranking})
    if not len(course.losses):
        raise ValueError("no configuration finished, there is nothing to draw")
    best = verdict.best
    with mpl.rc_context(STYLE):
        stage = "Second stage of the study" if first else STRATEGIES[history.strategy]
        title = f"{stage}: {loss_name(best).lower()} against training done, latent size {latent_dim}"
        figure = new_figure(HEIGHT, title, note)
        axes = figure.add_subplot()
        axes.grid(axis="y")
        set_scale(axes.xaxis, 0.0, course.end, log=False, margin=0.0, whole=True)
        axes.set_xlim(0, 1.02 * course.end)
        axes.set_xlabel(f"Trainings done, in trainings of {history.epochs:,} epoch{'s' if history.epochs > 1 else ''}")
        keys: list[Artist] = [*_draw_points(axes, course, best, verdict), *_draw_rungs(axes, course)]
        keys += [*draw_tied(axes, course.losses[:, 1], verdict), *baseline_keys(axes, verdict)]
        axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.03, 1.0), labelspacing=0.7)
        _seconds_above(axes, history)
        caption = [*_first_stage(first, ranking), *_caption(history, course)]
        axes.set_title(wrapped("\n".join(caption), 0.88 * WIDTH), loc="left", pad=8)
        fix_layout(figure)
        _name_the_best(axes, history, course, verdict)
    return figure


class Rung(NamedTuple):
    """What successive halving trained between two pauses, or from the last pause to the end."""

    start: float  # in trainings
    end: float
    running: int  # configurations
    until: int | None  # the epoch at which they paused; None after the last pause


@dataclass(frozen=True)
class Course:
    """A history as points in the picture; each array is [n, 2]: trainings done and loss."""

    losses: np.ndarray  # of configurations trained to the end, in the order of training
    leads: np.ndarray  # those that were the lowest so far
    paused: np.ndarray  # losses at the pauses of successive halving
    failed: np.ndarray  # [n]: trainings done when a configuration failed
    rungs: Sequence[Rung]  # empty unless the strategy is successive halving
    n_tried: int
    n_dropped: int
    end: float  # number of trainings


def follow(history: History, results: Mapping[Configuration, ConfigurationResult]) -> Course:
    """Returns the points of a history; `results` holds each of its configurations."""
    drops = {config: drop for config, c in results.items() if (drop := c.drop)}
    rungs = _rungs(history.steps, drops)
    losses: list[tuple[float, float]] = []
    paused, failed, ended = [], [], set[Configuration]()
    for rung, steps in rungs:
        for step in steps:
            if step.config in ended:  # after early stopping a configuration may stay in the race, but its loss is final
                continue
            if step.loss is not None:
                losses.append((step.trainings, step.loss))
                ended.add(step.config)
            elif step.config not in drops and results[step.config].failure:
                failed.append(step.trainings)
                ended.add(step.config)
            elif rung.until:
                at_pause = [_loss_at(result, rung.until) for result in results[step.config].trials]
                paused.append((step.trainings, float(np.mean(at_pause))))
    lowest = np.minimum.accumulate([np.inf, *(loss for _, loss in losses)])
    leads = [point for point, before in zip(losses, lowest[:-1], strict=True) if point[1] < before]
    return Course(
        losses=np.array(losses).reshape(-1, 2),
        leads=np.array(leads).reshape(-1, 2),
        paused=np.array(paused).reshape(-1, 2),
        failed=np.array(failed),
        rungs=[rung for rung, _ in rungs] if len(rungs) > 1 else [],
        n_tried=history.tried,
        n_dropped=len(drops),
        end=history.steps[-1].trainings if history.steps else 0.0,
    )


def _rungs(steps: Sequence[Step], drops: Mapping[Configuration, Drop]) -> list[tuple[Rung, Sequence[Step]]]:
    """Splits the steps into rungs: a rung ends before the first configuration that comes a second time."""
    starts, seen = [0] if steps else [], set[Configuration]()
    for place, step in enumerate(steps):
        if step.config in seen:
            starts.append(place)
            seen = set()
        seen.add(step.config)
    found = []
    for start, end in pairwise([*starts, len(steps)]):
        members = {step.config for step in steps[start:end]}
        gone = members - {step.config for step in steps[end:]}
        until = max((drops[config].epoch for config in gone if config in drops), default=None)
        before = steps[start - 1].trainings if start else 0.0
        found.append((Rung(before, steps[end - 1].trainings, len(members), until), steps[start:end]))
    return found


def _loss_at(result: TrialResult, epoch: int) -> float:
    if len(result.test_losses) >= epoch:
        return float(result.test_losses[epoch - 1])
    return np.nan if result.final_test_loss is None else result.final_test_loss


def _draw_points(axes: Axes, course: Course, best: ConfigurationResult, verdict: Verdict) -> list[Artist]:
    """Sets the loss axis, draws every loss, very high ones in a strip on top, and returns the legend keys."""
    everything = np.concatenate([course.losses, course.paused])
    everything = everything[np.isfinite(everything[:, 1])]
    ceiling = loss_ceiling(everything[:, 1])
    kept = everything[everything[:, 1] <= ceiling, 1]
    loss_scale(axes, kept.min(), kept.max(), best, verdict)
    _widen(axes, below=ROOM_BELOW)
    off = everything[everything[:, 1] > ceiling]
    trainings = trainings_text(best)
    mean = f"\n(mean over {trainings})" if trainings else ""
    all_lead = len(course.leads) == len(course.losses)
    keys = [_draw_best(axes, course, "Lowest so far" + (mean if all_lead else ""))]
    size = float(np.clip(14 / len(course.losses) ** 0.22, 2.0, 5.0))
    look = LOSS | {"markersize": size, "markeredgewidth": 0.6, "label": f"Another configuration{mean}"}
    circles = axes.plot(*course.losses.T, **look, zorder=2.2)
    keys += [] if all_lead else circles  # otherwise the diamonds hide all circles
    if len(course.paused):
        keys += axes.plot(*course.paused.T, **PAUSED, label="At a pause, not yet\ntrained to the end", zorder=1.9)
    if len(off) or len(course.failed):
        keys += _draw_strip(axes, off, course.failed)
    return keys


def _draw_best(axes: Axes, course: Course, label: str) -> Artist:
    """Draws the lowest loss so far as steps, with a diamond at each new lowest, and returns the legend key."""
    steps = np.concatenate([course.leads, [[course.end, course.leads[-1, 1]]]])
    axes.step(*steps.T, where="post", zorder=2.4, **BEST)
    axes.plot(*course.leads.T, zorder=2.6, clip_on=False, **LEADS)
    return Line2D([], [], label=label, **(LEADS | BEST | {"linestyle": "-"}))


def _draw_strip(axes: Axes, off: np.ndarray, failed: np.ndarray) -> list[Artist]:
    """Draws a strip on top with the losses off the scale [n, 2] and the failed trainings [m]; returns legend keys."""
    _widen(axes, above=STRIP)
    strip = Rectangle((0, 1 - STRIP), 1, STRIP, transform=axes.transAxes, color="#E8E8E8", linewidth=0, zorder=0.5)
    axes.add_patch(strip)
    keys: list[Artist] = []
    height: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 2.3}
    if len(off):
        words = f"Off the scale: {len(off):,}\n(loss up to {loss_text(off[:, 1].max())})"
        keys += axes.plot(off[:, 0], np.full(len(off), 1 - STRIP / 2), label=words, **FAR, **height)
    if len(failed):
        words = f"Failed: {len(failed):,}"
        keys += axes.plot(failed, np.full(len(failed), 1 - STRIP / 2), label=words, **FAILED, **height)
    return keys


def _widen(axes: Axes, *, below: float = 0.0, above: float = 0.0) -> None:
    """Extends the loss axis by `below` and `above`, both as shares of the resulting height."""
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    height = (high - low) / (1 - below - above)
    axes.set_ylim(*scale.inverted().transform([low - below * height, high + above * height]))


def _draw_rungs(axes: Axes, course: Course) -> list[Artist]:
    """Shades every other rung and returns the legend key."""
    for rung in course.rungs[1::2]:
        axes.axvspan(rung.start, rung.end, color="#F1F1F1", linewidth=0, zorder=0.4)
    return [Patch(color="#F1F1F1", label="Every other rung")] if course.rungs else []


def _seconds_above(axes: Axes, history: History) -> None:
    """Adds an axis above whose ticks show round times where these were reached, as many as fit."""
    trainings = np.array([0.0, *(step.trainings for step in history.steps)])
    seconds = np.array([0.0, *(step.seconds for step in history.steps)])
    if not seconds[-1]:
        return
    unit = next((name for name, size in UNITS.items() if seconds[-1] >= 3 * size), "Microseconds")
    times = seconds / UNITS[unit]
    end = axes.get_xlim()[1]
    ticks: dict[float, float] = {}  # time -> position in trainings
    for nbins in (5, 10, 20, 40):  # coarse ticks first, finer ones if these are few
        if len(ticks) >= ENOUGH_TICKS:
            break
        for tick in MaxNLocator(nbins=nbins, steps=[1, 2, 5, 10]).tick_values(0, times[-1]):
            at = float(np.interp(tick, times, trainings))
            if tick <= times[-1] and all(abs(at - other) >= TICK_GAP * end for other in ticks.values()):
                ticks[float(tick)] = at
    above = axes.twiny()
    above.set(xlim=axes.get_xlim(), xlabel=f"{unit} of training, {history.threads} at a time")
    above.spines["top"].set_visible(True)
    above.xaxis.set_major_locator(FixedLocator(sorted(ticks.values())))
    above.xaxis.set_major_formatter(FixedFormatter(tick_texts(sorted(ticks), same_decimals=True)))


def _first_stage(first: History | None, ranking: Sequence[ConfigurationResult]) -> list[str]:
    """Returns a line on how the first stage of a study chose the hidden layers of the second."""
    if first is None:
        return []
    chosen = len({layers_of(c.config) for c in ranking})
    took = f"{STRATEGIES[first.strategy].lower()}, {_number(first.steps[-1].trainings)}"
    return [f"Crossed: the best {chosen:,} of {first.tried:,} configurations tried before ({took})"]


def _caption(history: History, course: Course) -> list[str]:
    """Returns `42 of 125 configurations tried, 1 failed`, and for successive halving a line on its rungs."""
    tried = f"{course.n_tried:,} of {history.space_size:,} configurations tried"
    counts = [(course.n_dropped, "dropped early"), (len(course.failed), "failed")]
    parts = ["The one configuration there is" if history.space_size == 1 else tried]
    parts += [f"{count:,} {what}" for count, what in counts if count]
    rungs = [f"{rung.running:,} to " + (f"epoch {rung.until:,}" if rung.until else "the end") for rung in course.rungs]
    return [", ".join(parts), *(["Rungs: " + ", then ".join(rungs)] if rungs else [])]


def _name_the_best(axes: Axes, history: History, course: Course, verdict: Verdict) -> None:
    """Draws a ring around the best, with its name, its loss and after how many trainings it was found."""
    best = verdict.best
    x, y = next((step.trainings, step.loss) for step in history.steps if step.config == best.config and step.loss)
    ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": INK, "markersize": 11, "clip_on": False}
    axes.plot(x, y, marker="o", zorder=2.9, **ring)
    to_pixels = axes.transData.transform
    line = np.concatenate([_corners(course.leads), [[course.end, course.leads[-1, 1]]]])
    lines = [points_along(to_pixels(line)), points_across(axes, verdict)]
    losses = np.concatenate([course.losses, course.paused])
    drawn = np.concatenate([to_pixels(losses).repeat(DATUM_WEIGHT, axis=0), *lines])
    words = f"Best: {short_name(best.config)}\n{loss_text(y)} after {_number(x)}"
    place_label(axes, to_pixels((x, y)), words, drawn, np.empty((0, 4)), required=True)


def _number(trainings: float) -> str:
    """Returns `1 training` or `12.5 trainings`."""
    figure = f"{trainings:,.0f}" if trainings >= 100 else f"{trainings:.3g}"
    return f"{figure} training{'s' if figure != '1' else ''}"


def _corners(leads: np.ndarray) -> np.ndarray:
    """Returns the corners [2 n - 1, 2] of the steps through these points [n, 2]."""
    corners = np.repeat(leads, 2, axis=0)[:-1]
    corners[1::2, 0] = leads[1:, 0]  # each step is level up to the next point
    return corners
