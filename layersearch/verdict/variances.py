"""The variances of one training's loss, of many configurations that were trained a few times each.

    variances, df = moderated_variances(estimates, df=4, losses=losses)

A variance from a handful of repeats is so uncertain that each configuration's is moderated towards what all of them
have in common. The model is a hierarchical one (an empirical Bayes model as in Smyth 2004, doi:10.2202/1544-6115.1027,
with the trend of Law et al. 2014, doi:10.1186/gb-2014-15-2-r29, and with priors instead of point estimates):

    s²_c / L²_c  is a scaled chi-square with d degrees of freedom around σ²_c / L²_c,
    σ²_c / L²_c  follows a scaled inverse chi-square with location exp(a + b x_c) and k degrees of freedom,
    x_c          is log L_c minus its mean: b allows the relative variance to grow or fall with the loss.

The prior of a is flat, that of b is normal, and that of the standard deviation of log σ²_c which k implies is half
normal. Both widths are what was found over 120 trainings of each of nine configurations on five tables. The posterior
is computed on a grid. It allows for configurations that differ in their variance more than a few repeats can show,
where an estimate of k alone often says that all variances are equal.

Symbols:
    C configurations · Q points of the grid over (a, b, k)
"""

from __future__ import annotations

import numpy as np

SLOPE_SD = 0.7  # prior standard deviation of b
SPREAD_SD = 0.7  # prior scale of the standard deviation of log σ²
PRIOR_DF = np.array([3.0, 5.0, 8.0, 12.0, 20.0, 40.0, 100.0, 1000.0])  # values of k
TYPICAL_SPREAD = 0.5  # standard deviation of log σ² from which the extent of the grid is taken
AT_A_TIME = 256  # configurations whose likelihoods are held in memory


def moderated_variances(variances: np.ndarray, df: int, losses: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns variances moved towards what the configurations have in common, [C], and their degrees of freedom.

    A configuration's posterior is summarised as a scaled inverse chi-square with the same mean and variance of its
    logarithm. The degrees of freedom are the fewest of any configuration, which is the cautious side.

    Args:
        variances: [C] estimates s²_c of the variance of one training's loss.
        df: degrees of freedom of each; with 0 the variances are unknown and returned as 0.
        losses: [C] losses L_c.
    """
    if df == 0:
        return np.zeros_like(variances), 0.0
    scale = losses**2
    relative = np.divide(variances, scale, out=np.zeros_like(variances), where=scale > 0)
    is_positive = relative > 0
    if is_positive.sum() < 2:
        return variances, float(df)
    from scipy.special import digamma, polygamma

    x = np.log(losses, out=np.zeros_like(losses), where=losses > 0)
    x = np.where(is_positive, x - x[is_positive].mean(), 0.0)
    location, slope, prior_df, probability = _posterior(np.log(relative[is_positive]), x[is_positive], df)
    total_df = (prior_df + df)[:, None]  # [Q, 1]
    mean, square = np.empty_like(relative), np.empty_like(relative)
    for start in range(0, len(relative), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        prior = prior_df[:, None] * np.exp(location[:, None] + slope[:, None] * x[part])  # [Q, C]
        logs = np.log((prior + df * relative[part]) / 2) - digamma(total_df / 2)  # expected log σ² / L²
        mean[part] = probability @ logs
        square[part] = probability @ (logs**2 + polygamma(1, total_df / 2))
    new_df = 2 * inverse_trigamma(float((square - mean**2).max()))
    return np.exp(mean - np.log(new_df / 2) + digamma(new_df / 2)) * scale, new_df


def _posterior(logs: np.ndarray, x: np.ndarray, df: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the grid over (a, b, k) and the posterior probability of each of its points, each [Q].

    Args:
        logs: [C] log of s²_c / L²_c.
        x: [C] log of the loss, centred.
        df: degrees of freedom of each s²_c.
    """
    from scipy.special import digamma, gammaln, polygamma

    centred = logs - digamma(df / 2) + np.log(df / 2)  # unbiased for log σ²_c / L²_c
    noise = float(polygamma(1, df / 2)) + TYPICAL_SPREAD**2
    precision = (x**2).sum() / noise + SLOPE_SD**-2
    slopes = (x @ centred) / noise / precision + np.linspace(-2.5, 2.5, 7) / np.sqrt(precision)
    locations = centred.mean() + np.sqrt(noise / len(logs)) * np.linspace(-4, 5, 28)
    spreads = np.sqrt(polygamma(1, PRIOR_DF / 2))  # of log σ²; falls with k
    edges = np.concatenate([[1.15 * spreads[0]], (spreads[1:] + spreads[:-1]) / 2, [0.0]])
    log_prior = np.log(-np.diff(edges)) - 0.5 * (spreads / SPREAD_SD) ** 2
    places = np.arange(len(PRIOR_DF))
    a, b, place = (grid.ravel() for grid in np.meshgrid(locations, slopes, places, indexing="ij"))
    k = PRIOR_DF[place]
    log_density = log_prior[place] - 0.5 * (b / SLOPE_SD) ** 2 + len(logs) * (gammaln((df + k) / 2) - gammaln(k / 2))
    for start in range(0, len(logs), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        z = logs[part] - a[:, None] - b[:, None] * x[part] + np.log(df / k)[:, None]  # [Q, C]
        log_density += (df / 2 * z - ((df + k) / 2)[:, None] * np.log1p(np.exp(z))).sum(axis=1)
    probability = np.exp(log_density - log_density.max())
    return a, b, k, probability / probability.sum()


def inverse_trigamma(value: float) -> float:
    """Returns the y with trigamma(y) = value > 0, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = polygamma(1, y)
        step = trigamma * (1 - trigamma / value) / polygamma(2, y)
        y += step
        if -step < 1e-8 * y:
            break
    return float(y)
