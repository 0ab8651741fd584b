"""What the pictures share: where labels and limits go, what configurations are called and how they are counted."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from builders import make_ranking
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.transforms import Bbox

from layersearch.pictures.latent.page import text_width
from layersearch.pictures.loss_axis import loss_ceiling, make_room
from layersearch.pictures.placing import free_box, spread_out
from layersearch.pictures.style import DPI, font_families, set_scale
from layersearch.pictures.survey import survey
from layersearch.space.configurations import Configuration, Variant, enumerate_configurations
from layersearch.space.naming import LONGEST_NAME, name_in_words, short_name, short_options_note


@pytest.mark.parametrize(
    ("wanted", "gap", "placed"),
    [
        ([0.2, 0.8], 0.1, [0.2, 0.8]),
        ([0.5, 0.5], 0.2, [0.4, 0.6]),
        ([0.6, 0.5, 0.1], 0.2, [0.65, 0.45, 0.1]),
        ([0.0, 0.0, 0.0], 0.2, [0.1, 0.3, 0.5]),
        ([1.0, 1.0], 0.2, [0.7, 0.9]),
    ],
)
def test_labels_move_apart_as_little_as_possible(wanted: list[float], gap: float, placed: list[float]) -> None:
    assert spread_out(wanted, gap) == pytest.approx(placed)


@pytest.mark.parametrize(
    ("losses", "ceiling"),
    [
        ([0.04, 0.05, 0.9], 0.06),
        ([0.04, 0.9], np.inf),
        ([0.04, 0.05, 0.06], np.inf),
        ([0.04, 0.04, 0.04], np.inf),
        ([0.04, 0.05, *[0.9] * 2], np.inf),  # two of four are no exception
    ],
)
def test_only_rare_and_far_losses_are_off_the_scale(losses: list[float], ceiling: float) -> None:
    assert loss_ceiling(np.array(losses)) == pytest.approx(ceiling)


def test_a_label_keeps_off_points_other_labels_and_the_frame() -> None:
    axes = Figure(dpi=DPI).add_axes((0.0, 0.0, 1.0, 1.0))
    frame = axes.get_window_extent()
    size = np.array([200.0, 60.0])
    point = np.array([frame.x1 - 30.0, 480.0])  # no room to the right
    above = np.array([[frame.x0, point[1] + 40.0, frame.x1, frame.y1]])  # another label
    below = np.array([[frame.x0, frame.y0, frame.x1, point[1] - 40.0]])
    left = point - [100.0, 0.0]

    box = free_box(axes, point, size, left[None], above, required=False)
    assert box is not None
    assert frame.x0 < box[0] < box[2] < frame.x1
    assert box[3] < above[0, 1]
    assert not Bbox.from_extents(*box).contains(*left)

    both = np.vstack([above, below])
    assert free_box(axes, point, size, left[None], both, required=False) is None
    assert free_box(axes, point, size, left[None], both, required=True) is not None


@pytest.mark.parametrize(
    ("wanted", "room"),
    [([], (0, 10)), ([4], (0, 10)), ([15], (0, 15)), ([-5, 12], (-5, 12)), ([15.1, -5.1], (0, 10))],
)
def test_room_is_made_for_what_is_at_most_half_the_range_away(wanted: list[float], room: tuple[float, float]) -> None:
    assert make_room(0, 10, wanted) == room


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ((64, 32), "[64, 32]"),
        ((128,) * 6, "[128, 128, 128, 128, 128, 128]"),
        ((128, 64, 32, 16, 16, 16, 8), "[128, 64, 32, …, 8] (7 layers)"),
        (((64,), (16, 64)), "[64] → [16, 64]"),
        (((128, 128, 128, 64), (32, 64, 128, 128)), "[128,128,128,64]→[32,64,128,128]"),
        (((128,) * 5, (64, 64, 128, 128, 128)), "[128, …, 128] → [64, …, 128] (5 + 5 layers)"),
        (((1024, 1024, 1024, 1024, 512, 512, 512), (64, 1024)), "[1024, …, 512] → [64, 1024] (7 + 2 layers)"),
    ],
)
def test_names_fit(config: Configuration, name: str) -> None:
    assert short_name(config) == name
    assert len(name) <= LONGEST_NAME + len(" (10 + 10 layers)")


def test_a_survey_counts_each_configuration_once() -> None:
    configurations = enumerate_configurations([16, 32, 64], 2)
    ranking = make_ranking(configurations, repeats=2, failed=configurations[:1], dropped=configurations[1:4])
    searched = survey(ranking, 50)
    assert [c.config for c in searched.finished] == [c.config for c in ranking if c.failure is None]
    assert {c.config for c, _ in searched.dropped} == set(configurations[1:4])
    assert {drop.epoch for _, drop in searched.dropped} == {3}
    assert (len(searched.finished), len(searched.dropped), searched.failed, searched.untried) == (5, 3, 1, 41)
    assert searched.which == "trained to the end"
    assert searched.left_out == "Left out: 3 dropped early, 1 failed, 41 not tried"
    assert survey(ranking[:5]).untried == 0


@pytest.mark.parametrize(("low", "high"), [(75_000, 560_000), (555, 108_000), (2_000_000, 11_000_000), (40, 90)])
def test_numbers_on_a_log_axis_do_not_touch(low: float, high: float) -> None:
    figure = Figure(figsize=(5, 3), dpi=DPI)
    axes = figure.add_axes((0.1, 0.2, 0.8, 0.7))  # 4 inches
    axes.tick_params(labelsize=8)
    set_scale(axes.xaxis, low, high, log=True)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.get_xticklabels()]
    assert len(boxes) >= 3
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


OPTIONS = (("dropout", 0.1), ("weight_decay", 1e-6), ("normalization", "none"), ("input_normalization", "layer"))


def test_a_variant_is_named_by_its_layers_and_the_values_of_its_options() -> None:
    assert short_name(Variant((64, 32), OPTIONS)) == "[64, 32] 0.1/1e-6/–/LN"
    assert short_name(Variant(((64,), (16, 64)), OPTIONS[:2])) == "[64]→[16,64] 0.1/1e-6"
    assert short_name(Variant(((64, 32, 16), (16, 32, 64, 64)), OPTIONS[:2])) == "[64…16]→[16…64] 0.1/1e-6"


def test_a_single_option_is_named_in_words_that_need_no_key() -> None:
    assert short_name(Variant((64, 32), OPTIONS[:1])) == "[64, 32] (dropout 0.1)"
    assert short_options_note(Variant((64, 32), OPTIONS[:1])) is None
    assert short_options_note((64, 32)) is None


def test_the_key_to_short_names_explains_what_varies_and_nothing_else() -> None:
    note = short_options_note(Variant((64, 32), OPTIONS[:2]))
    assert note == "Names: layers, then dropout / weight_decay"
    note = short_options_note(Variant((64, 32), OPTIONS[1:3]))
    assert note == "Names: layers, then weight_decay / normalization (LN: LayerNorm, –: none)"


def test_a_title_names_all_options_in_words() -> None:
    variant = Variant((64, 32), OPTIONS[::2])
    assert name_in_words(variant) == "[64, 32] (dropout 0.1, normalization none)"
    assert name_in_words(((64,), (16, 64))) == "[64] → [16, 64]"


def test_fonts_for_other_scripts_are_asked_for_only_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [FontEntry(name=name) for name in ("DejaVu Sans", "Malgun Gothic", "Comic Sans")]
    monkeypatch.setattr(fontManager, "ttflist", here)
    assert font_families() == ["DejaVu Sans", "Malgun Gothic"]


def test_the_width_of_a_text_that_no_font_has_is_measured_without_a_warning() -> None:
    assert text_width("naïve — \U0010fffd") > text_width("naïve — ")


@pytest.mark.parametrize(
    ("high", "ticks"), [(1, [0, 1]), (2, [0, 1, 2]), (16, [0, 5, 10, 15]), (0.7, [0, 0.2, 0.4, 0.6])]
)
def test_whole_ticks_lie_at_whole_numbers_if_there_are_any(high: float, ticks: list[float]) -> None:
    axes = Figure().add_subplot()
    set_scale(axes.xaxis, 0, high, log=False, margin=0.0, whole=True, most_ticks=4)
    assert axes.get_xticks().tolist() == pytest.approx(ticks)
