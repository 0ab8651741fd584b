"""The verdict in sentences: every case has its sentence, and none says more than is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import make_configuration, make_history, make_ranking, make_verdict, recommending

from layersearch.report.statement import TO_THE_END, scope_of, state
from layersearch.space.configurations import Configuration
from layersearch.verdict.probe import Probe
from layersearch.verdict.uncertainty import Interval
from layersearch.verdict.verdict import Baseline, Estimate, Recommendation, Standing, Verdict
from layersearch.words import difference_text, interval_text, percent

BEST, SIMPLEST = (64, 64, 64), (64,)
LOSSES = {BEST: 0.0376, (64, 64): 0.0379, SIMPLEST: 0.0384, (64, 64, 32): 0.0385, (16, 16, 16): 0.065}
RANKING = [make_configuration(config, [0.999 * loss, 1.001 * loss]) for config, loss in LOSSES.items()]
CONSTANT = Baseline("best constant", 0.0753, -0.0377, None, not_beaten_by=0)
LINEAR_BASELINE = Baseline("linear autoencoder", 0.0345, 0.0031, None, not_beaten_by=5, components=3)
PCA = Baseline("PCA", 0.0393, -0.0017, None, not_beaten_by=1, components=3)


@pytest.fixture(scope="module")
def tied() -> Verdict:
    """Returns a verdict of five configurations, four of them tied, the third of which is the smallest."""
    verdict = make_verdict(RANKING)
    changed = replace(
        verdict,
        tied=tuple(RANKING[:4]),
        standings={**verdict.standings, SIMPLEST: Standing(0.0005, 0.0008, Interval(-0.0003, 0.0019), True)},
        all_baselines=(CONSTANT, PCA),
        optimism=0.0009,
    )
    return recommending(changed, RANKING[2])


@pytest.fixture(scope="module")
def proven(tied: Verdict) -> Verdict:
    return recommending(replace(tied, tied=tied.tied[:1]), tied.best)


@pytest.fixture(scope="module")
def unknown(proven: Verdict) -> Verdict:
    """Returns a verdict after one training each."""
    standings = {config: Standing() for config in LOSSES}
    return replace(proven, is_known=False, training_df=0.0, tied=(), standings=standings, optimism=None)


def probe_of(
    losses: Sequence[Sequence[float]],
    *,
    repeats: int = 3,
    is_cross_validated: bool = False,
    overtaking: tuple[Configuration, Configuration] | None = None,
    suggested: int | None = None,
) -> Probe:
    """Returns the probe of the best and, with losses of two, of the smallest, after 20, 40 and 80 epochs."""
    configs = (BEST, SIMPLEST)[: len(losses)]
    return Probe((20, 40, 80), repeats, configs, is_cross_validated, np.array(losses), 0.001, overtaking, suggested)


def said(verdict: Verdict, **given: Any) -> list[str]:
    return state(verdict, **({"probe": None, "honest": None, "n_test": 401} | given))


def line(start: str, lines: Sequence[str]) -> str:
    (found,) = [text for text in lines if text.startswith(start)]
    return found


def test_a_tie_is_stated_in_full(tied: Verdict) -> None:
    losses = [[0.0376, 0.0340, 0.0311], [0.0384, 0.0330, 0.0290]]
    probe = probe_of(losses, suggested=300, overtaking=(SIMPLEST, BEST))
    assert said(tied, probe=probe, time="takes about 25 s") == [
        "Verdict: [64, 64, 64] is the best measured, but not proven: 4 of 5 configurations are tied for best.",
        "  tied (95 %): [64, 64, 64] 21067 parameters · [64, 64] 12491 · [64] 3915 · [64, 64, 32] 16587",
        "  Recommended: [64], the smallest shown to be within 5 % of the best (3915 parameters, loss 0.0384, +0.0008, "
        "at most +0.0021)",
        "  The best's loss is optimistic by about 0.0009 (chosen on the rows that score it); "
        "--cv_folds 5 gives an honest one.",
        "  Baselines: best constant 0.0753 (all configurations beat it), "
        "PCA with 3 components 0.0393 (4 of 5 configurations beat it).",
        "  Too short: with 80 epochs instead of 20 the loss falls from 0.0380 to 0.0301 (mean of [64, 64, 64], [64], "
        "3 repeats) and the order changes ([64] overtakes [64, 64, 64]); --epochs 300 takes about 25 s.",
    ]


def test_a_proof_is_stated_without_a_tie(proven: Verdict) -> None:
    lines = said(proven, trained=" at 20 epochs, learning rate 0.001")
    assert lines[0] == (
        "Verdict: [64, 64, 64] is the only one of 5 configurations not ruled out as the best (95 %) at 20 epochs, "
        "learning rate 0.001."
    )
    assert not any("tied" in text or "proven" in text for text in lines)


@pytest.mark.parametrize(
    ("recommendation", "margin", "words"),
    [
        ((None, 12, True), 0.05, "none smaller is shown to be within 5 % (about 12 repeats would do)"),
        ((None, None, True), 0.1, "none smaller is shown to be within 10 % (on 60 rows, more repeats will not do)"),
        ((None, None, True), 0.0, "as --margin 0 asks"),
        ((None, None, False), 0.05, "none is smaller"),
    ],
)
def test_why_the_best_measured_is_recommended(
    tied: Verdict, recommendation: tuple[None, int | None, bool], margin: float, words: str
) -> None:
    verdict = replace(tied, margin=margin, recommendation=Recommendation(tied.best, *recommendation))
    sign = "; " if words.startswith("none") else ", "
    assert line("  Recommended", said(verdict)) == f"  Recommended: [64, 64, 64], the best measured{sign}{words}"


def test_one_configuration_is_compared_with_baselines_alone(proven: Verdict) -> None:
    assert said(replace(proven, n_configurations=1)) == [
        "Verdict: [64, 64, 64] is the only configuration; there is nothing to compare.",
        "  Baselines: best constant 0.0753 (beaten), PCA with 3 components 0.0393 (not beaten).",
    ]


def test_that_nothing_beats_the_linear_autoencoder_is_said_behind_the_headline(tied: Verdict) -> None:
    unbeaten = replace(tied, all_baselines=(CONSTANT, PCA, LINEAR_BASELINE))
    text = "a linear autoencoder with the same loss (0.0345): these networks are not yet worth their hidden layers"
    assert said(unbeaten)[1].startswith(f"  No configuration beats {text}; more --epochs")
    assert "linear autoencoder with the same loss 0.0345 (no configuration beats it)" in line(
        "  Baselines", said(unbeaten)
    )
    assert said(replace(unbeaten, n_configurations=1))[1].startswith(f"  It does not beat {text}")
    beaten = replace(tied, all_baselines=(CONSTANT, PCA, replace(LINEAR_BASELINE, not_beaten_by=4)))
    assert not any("not yet worth" in words for words in said(beaten))


def test_after_one_training_each_nothing_is_proven_tied_or_recommended(unknown: Verdict) -> None:
    lines = said(unknown)
    assert lines[0] == (
        "Verdict: [64, 64, 64] is the best measured, but with one training each luck cannot be told from merit; "
        "--repeats 5 can tell."
    )
    assert [text.split(":")[0] for text in lines] == ["Verdict", "  Baselines"]
    assert "proven" not in "".join(lines)


def test_of_many_tied_the_first_are_named_and_the_rest_counted(tied: Verdict) -> None:
    many = replace(tied, tied=tied.tied + tied.tied)
    assert line("  tied", said(many)).endswith(" · [64, 64, 64] 21067 · [64, 64] 12491 · 2 more")


@pytest.mark.parametrize("optimism", [0.0, 0.00002])
def test_optimism_too_small_to_show_is_given_a_bound(tied: Verdict, optimism: float) -> None:
    assert "optimistic by about less than 0.0001" not in "".join(said(replace(tied, optimism=optimism)))
    assert "optimistic by less than 0.0001 (" in line("  The best's loss", said(replace(tied, optimism=optimism)))


def test_an_honest_loss_takes_the_place_of_optimism(tied: Verdict) -> None:
    honest = Estimate(0.0391, 0.001, Interval(0.0361, 0.04239))
    lines = said(replace(tied, optimism=None), honest=honest)
    assert line("  Honest", lines) == (
        "  Honest test loss: 0.0391 [0.0361, 0.0424], on 401 test rows that chose nothing."
    )
    assert not any("optimis" in text for text in lines)


@pytest.mark.parametrize(
    ("not_beaten_by", "text"),
    [
        (0, "all configurations beat it"),
        (3, "2 of 5 configurations beat it"),
        (4, "1 of 5 configurations beats it"),
        (5, "no configuration beats it"),
    ],
)
def test_a_baseline_says_who_beats_it(tied: Verdict, not_beaten_by: int, text: str) -> None:
    baselines = (replace(PCA, not_beaten_by=not_beaten_by, components=1),)
    lines = said(replace(tied, all_baselines=baselines))
    assert line("  Baselines", lines) == f"  Baselines: PCA with 1 component 0.0393 ({text})."


# Searches that did not train all there is to the end


@pytest.mark.parametrize("scope", [" tried", " trained to the end"])
def test_the_verdict_speaks_only_of_what_was_trained(tied: Verdict, proven: Verdict, scope: str) -> None:
    assert said(tied, scope=scope)[0].endswith(f"not proven: 4 of 5 configurations{scope} are tied for best.")
    assert said(proven, scope=scope)[0].endswith(
        f"the only one of 5 configurations{scope} not ruled out as the best (95 %)."
    )
    two, alone = (replace(proven, n_configurations=n) for n in (2, 1))
    assert said(two, scope=scope)[0].endswith(
        f"the only one of 2 configurations{scope} not ruled out as the best (95 %)."
    )
    assert said(alone, scope=scope)[0].endswith(f"is the only configuration{scope}; there is nothing to compare.")
    baselines = tuple(replace(PCA, not_beaten_by=n) for n in (0, 1, 5))
    assert line("  Baselines", said(replace(tied, all_baselines=baselines), scope=scope)) == (
        f"  Baselines: PCA with 3 components 0.0393 (all configurations{scope} beat it), PCA with 3 components 0.0393 "
        f"(4 of 5 configurations{scope} beat it), PCA with 3 components 0.0393 (no configuration{scope} beats it)."
    )


def test_where_others_were_dropped_on_the_same_rows_optimism_is_not_measured(tied: Verdict, unknown: Verdict) -> None:
    expected = (
        "  The best's loss is optimistic by an unknown amount (others were dropped on the rows that score it); "
        "--cv_folds 5 gives an honest one."
    )
    for verdict in (tied, replace(tied, optimism=0.0), replace(tied, n_configurations=1), unknown):
        assert line("  The best's loss", said(verdict, scope=TO_THE_END)) == expected
    assert "about 0.0009" in line("  The best's loss", said(tied, scope=" tried"))
    honest = Estimate(0.0391, 0.001, Interval(0.0361, 0.04239))
    assert line("  Honest", said(tied, honest=honest, scope=TO_THE_END))
    (in_folds,) = make_ranking([BEST], folds=2)
    assert not any("optimis" in text for text in said(replace(tied, best=in_folds, optimism=None), scope=TO_THE_END))


def test_the_scope_is_all_of_a_grid_what_was_tried_or_what_was_trained_to_the_end() -> None:
    def scope(strategy: str, space_size: int, dropped: Sequence[Configuration] = ()) -> str:
        ranking = make_ranking(list(LOSSES), dropped=dropped)
        return scope_of(make_history(ranking, strategy, space_size=space_size), ranking)

    assert scope_of(None, RANKING) == scope("grid", 125) == scope("random", 5) == scope("bayesian", 5) == ""
    assert scope("random", 125) == scope("bayesian", 6) == " tried"
    assert scope("halving", 5, [SIMPLEST]) == TO_THE_END == " trained to the end"
    assert scope("halving", 5) == "", "none was dropped"


def test_decoders_of_their_own_are_named(tied: Verdict) -> None:
    pair = make_configuration(((64, 32), (16, 64)), [0.0384, 0.0384])
    standings = {**tied.standings, pair.config: tied.standings[SIMPLEST]}
    lines = said(recommending(replace(tied, tied=(*tied.tied[:2], pair), standings=standings), pair))
    assert line("  tied", lines).endswith(f" · [64, 64] 12491 · [64, 32] -> [16, 64] {pair.model_params}")
    assert line("  Recommended", lines).startswith(
        "  Recommended: [64, 32] -> [16, 64], the smallest shown to be within 5 % of the best ("
    )


LENGTHS = {
    "Long enough: {longer} the loss goes from 0.0376 to 0.0373 ({of}), within the noise{order}.": (
        0.0374,
        0.0373,
        None,
    ),
    "Longer is worse: {longer} the loss rises from 0.0376 to 0.0410 ({of}){order}; more --dropout or --weight_decay may"
    " help.": (0.0390, 0.0410, None),
    "Too short: {longer} the loss falls from 0.0376 to 0.0311 ({of}){order}; --epochs 300.": (0.0340, 0.0311, 300),
}


@pytest.mark.parametrize("overtaking", [None, (SIMPLEST, BEST)])
@pytest.mark.parametrize(("text", "case"), LENGTHS.items())
def test_the_length_is_judged(
    tied: Verdict,
    text: str,
    case: tuple[float, float, int | None],
    overtaking: tuple[Configuration, Configuration] | None,
) -> None:
    *longer, suggested = case
    probe = probe_of([[0.0376, *longer]], suggested=suggested, overtaking=overtaking)
    order = " and the order changes ([64] overtakes [64, 64, 64])" if overtaking else ""
    expected = text.format(longer="with 80 epochs instead of 20", of="[64, 64, 64], 3 repeats", order=order)
    assert said(tied, probe=probe)[-1] == f"  {expected}"


@pytest.mark.parametrize(
    ("n_probed", "repeats", "is_cross_validated", "text"),
    [
        (1, 1, False, "([64, 64, 64])"),
        (2, 1, False, "(mean of [64, 64, 64], [64])"),
        (1, 2, True, "([64, 64, 64], 2 repeats, first fold)"),
    ],
)
def test_the_length_says_of_what_its_losses_are_means(
    tied: Verdict, n_probed: int, repeats: int, is_cross_validated: bool, text: str
) -> None:
    losses = [[0.03, 0.03, 0.03]] * n_probed
    probe = probe_of(losses, repeats=repeats, is_cross_validated=is_cross_validated)
    assert f"from 0.0300 to 0.0300 {text}, within" in said(tied, probe=probe)[-1]


def test_without_a_probe_nothing_is_said_of_the_length(tied: Verdict) -> None:
    assert not any("epochs" in text for text in said(tied))


def test_figures_have_the_decimals_of_the_loss_they_belong_to() -> None:
    assert percent(0.95) == "95 %"
    assert percent(0.999) == "99.9 %"
    assert difference_text(0.00084, 0.0376) == "+0.0008"
    assert difference_text(-0.00084, 0.000123) == "-0.000840"
    assert difference_text(1.234, 312.3, signed=False) == "1.23"
    assert interval_text(Interval(-0.00031, 0.00189), 0.0376) == "[-0.0003, +0.0019]"
    assert interval_text(Interval(0.00031, 0.00189), 0.0376, signed=False) == "[0.0003, 0.0019]"


def test_a_single_group_is_not_blamed_on_the_number_of_trainings(unknown: Verdict) -> None:
    single = replace(unknown, training_df=20.0, resampled="groups")
    assert "one training each" in said(unknown)[0]
    assert said(single)[0].endswith("it was scored on a single group.")


def test_a_large_fall_that_may_be_luck_is_not_called_long_enough(proven: Verdict) -> None:
    probe = replace(probe_of([[0.05, 0.04, 0.03]]), noise=0.025)
    assert not probe.is_long_enough
    assert said(proven, probe=probe)[-1] == (
        "  Perhaps too short: with 80 epochs instead of 20 the loss falls from 0.0500 to 0.0300 ([64, 64, 64], 3 "
        "repeats), which may be luck; more --repeats can tell."
    )
