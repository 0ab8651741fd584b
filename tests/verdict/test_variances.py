"""Variances of few repeats, moderated towards what all configurations have in common."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import polygamma

from layersearch.verdict import variances as module
from layersearch.verdict.variances import inverse_trigamma, moderated_variances


def drawn(rng: np.random.Generator, true: np.ndarray, df: int) -> np.ndarray:
    """Returns estimates of these variances with so many degrees of freedom."""
    return np.asarray(true * rng.chisquare(df, len(true)) / df)


@pytest.mark.parametrize("df", [1, 4])
def test_variances_of_a_known_prior_are_moderated_as_that_prior_asks(df: int) -> None:
    rng = np.random.default_rng(9)
    prior_df = 12.0
    estimates = drawn(rng, 2.0 * prior_df / rng.chisquare(prior_df, 2000), df)
    moderated, new_df = moderated_variances(estimates, df, np.ones(2000))
    assert new_df == pytest.approx(prior_df + df, rel=0.3)
    expected = (prior_df * 2.0 + df * estimates) / (prior_df + df)
    assert np.median(moderated / expected) == pytest.approx(1, rel=0.08)
    assert np.corrcoef(moderated, estimates)[0, 1] > 0.99


def test_moderated_variances_are_closer_to_the_truth() -> None:
    rng = np.random.default_rng(1)
    gains = []
    for _ in range(50):
        true = np.exp(0.5 * rng.standard_normal(9))
        estimates = drawn(rng, true, 4)
        moderated, _ = moderated_variances(estimates, 4, np.ones(9))
        gains.append(np.abs(np.log(estimates / true)).mean() - np.abs(np.log(moderated / true)).mean())
    assert np.mean(gains) > 0.1


@pytest.mark.parametrize("df", [1, 2, 4])
@pytest.mark.parametrize("spread", [0.0, 0.5, 0.9])
def test_the_degrees_of_freedom_tell_how_far_they_may_be_off(df: int, spread: float) -> None:
    """Student's t holds 95 % of errors with these variances; the bound is three standard errors lower."""
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(150):
        true = np.exp(spread * rng.standard_normal(9))
        moderated, new_df = moderated_variances(drawn(rng, true, df), df, np.ones(9))
        hits.append(np.abs(np.sqrt(true) * rng.standard_normal(9)) < quantile(new_df) * np.sqrt(moderated))
    assert np.mean(hits) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)


def quantile(df: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, df))


def test_a_trend_with_the_loss_is_followed() -> None:
    rng = np.random.default_rng(3)
    losses = np.geomspace(0.03, 0.3, 30)
    true = losses**3.5  # relative to the squared loss it grows with the loss
    moderated, _ = moderated_variances(drawn(rng, true, 4), 4, losses)
    slope, _ = np.polyfit(np.log(losses), np.log(moderated), 1)
    assert slope == pytest.approx(3.5, abs=0.3)


def test_equal_variances_are_all_but_pooled() -> None:
    rng = np.random.default_rng(10)
    estimates = np.exp(0.1 * rng.standard_normal(40))  # differ by far less than 4 degrees of freedom would make them
    moderated, df = moderated_variances(estimates, 4, np.ones(40))
    assert df > 30
    assert moderated == pytest.approx(np.full(40, moderated.mean()), rel=0.05)


def test_variances_are_moderated_relative_to_the_losses() -> None:
    rng = np.random.default_rng(11)
    variances, losses = drawn(rng, np.ones(30), 4), rng.uniform(0.03, 0.09, 30)
    relative, df = moderated_variances(variances * losses**2, 4, losses)
    scaled, same_df = moderated_variances(100 * variances * losses**2, 4, 10 * losses)
    assert same_df == pytest.approx(df)
    assert scaled == pytest.approx(100 * relative)


def test_configurations_are_taken_in_parts_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(12)
    losses = rng.uniform(0.03, 0.09, 30)
    estimates = drawn(rng, losses**2, 4)
    whole, df = moderated_variances(estimates, 4, losses)
    monkeypatch.setattr(module, "AT_A_TIME", 7)
    in_parts, same_df = moderated_variances(estimates, 4, losses)
    assert in_parts == pytest.approx(whole, rel=1e-9)
    assert same_df == pytest.approx(df, rel=1e-9)


@pytest.mark.parametrize("variances", [[0.0], [1e-6], [0.0, 0.0], [0.0, 1e-6]])
def test_a_single_variance_is_left_as_it_is(variances: list[float]) -> None:
    moderated, df = moderated_variances(np.array(variances), 3, np.full(len(variances), 0.04))
    assert moderated.tolist() == variances
    assert df == 3


def test_a_loss_of_zero_has_no_variance_and_disturbs_no_other() -> None:
    variances, losses = np.array([0.0, 1e-8, 2e-8, 3e-8]), np.array([0.0, 0.04, 0.04, 0.04])
    moderated, df = moderated_variances(variances, 4, losses)
    assert moderated[0] == 0
    assert np.isfinite(df)
    assert (moderated[1:] > 0).all()


@pytest.mark.parametrize("value", [1e-3, 0.3, 5.0])
def test_the_trigamma_function_is_inverted(value: float) -> None:
    assert polygamma(1, inverse_trigamma(value)) == pytest.approx(value)
