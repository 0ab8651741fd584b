"""The study in sentences: each effect, no finding where there is none, and no number rounded away."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import make_study_ranking
from test_study import CHANGES, FACTORS, LAYERS, study_of

from layersearch.report.study import state_study
from layersearch.verdict.study import Study
from layersearch.verdict.uncertainty import Interval
from layersearch.words import change_text, is_told


def made(repeats: int = 5) -> Study:
    return study_of(make_study_ranking(LAYERS, FACTORS, CHANGES, repeats=repeats))


def test_each_level_has_a_line_that_names_it_and_its_reference() -> None:
    study = made()
    lines = state_study(study)
    for effect, line in zip(study.main_effects, lines[1:], strict=False):
        level = effect.level if isinstance(effect.level, str) else f"{effect.level:g}"
        reference = effect.reference if isinstance(effect.reference, str) else f"{effect.reference:g}"
        assert line.startswith(f"  {effect.factor} {level} instead of {reference}: ")
        assert f" {effect.estimate:+.4f} [" in line or f" {effect.estimate:+.5f} [" in line
    assert len([line for line in lines if " instead of " in line]) == len(study.main_effects) == 3


def test_an_interaction_that_may_be_luck_is_not_told_as_a_finding() -> None:
    study = made()
    assert study.strongest is not None
    luck = replace(study, strongest=study.strongest._replace(estimate=1e-5, interval=Interval(-4e-5, 6e-5)))
    found = replace(study, strongest=study.strongest._replace(estimate=0.003, interval=Interval(0.002, 0.004)))
    (line,) = [line for line in state_study(luck) if "interaction" in line]
    assert line.startswith("  No interaction can be told (the strongest: dropout ")
    assert line.endswith(", +0.000010 [-0.000040, +0.000060] on top of what each does alone).")
    (line,) = [line for line in state_study(found) if "interaction" in line]
    assert line.startswith("  Strongest interaction: dropout ")
    assert line.endswith(", +0.0030 [+0.0020, +0.0040] on top of what each does alone.")


def test_without_intervals_the_strongest_is_named_and_that_luck_is_unknown() -> None:
    lines = state_study(made(repeats=1))
    assert any(line.startswith("  Strongest interaction: ") for line in lines)
    assert any("No intervals" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "interval", "text"),
    [
        (-0.0044, (-0.0061, -0.0027), "-0.0044 [-0.0061, -0.0027]"),
        (-0.00003, (-0.00008, 0.00002), "-0.000030 [-0.000080, +0.000020]"),
        (0.0000001, (-0.0012, 0.0012), "0.0000 [-0.0012, +0.0012]"),
        (3e-9, None, "+0.0000000030"),
        (0.0, (0.0, 0.0), "0.0000 [0.0000, 0.0000]"),
        (0.0, None, "0.0000"),
    ],
)
def test_a_change_keeps_two_digits(change: float, interval: tuple[float, float] | None, text: str) -> None:
    assert change_text(change, interval, 0.05) == text


def test_an_effect_is_told_where_its_interval_keeps_off_zero() -> None:
    assert is_told((-0.2, -0.1))
    assert is_told((0.1, 0.2))
    assert not is_told((-0.1, 0.1))
    assert not is_told((0.0, 0.1))
    assert not is_told(None)
