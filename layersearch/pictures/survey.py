"""Texts in the pictures of a search: which configurations are shown and left out, and their names and losses.

searched = survey(ranking, space_size)
title = f"{loss_name(searched.finished[0])} of {len(searched.finished)} configurations {searched.which}"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from layersearch.space.naming import short_name
from layersearch.space.ranking import ConfigurationResult, Drop
from layersearch.words import loss_text


class Survey(NamedTuple):
    """The configurations of a search space that finished, were dropped early, failed or were not tried."""

    finished: list[ConfigurationResult]  # trained to the end, best first
    dropped: list[tuple[ConfigurationResult, Drop]]  # stopped early by successive halving, last dropped first
    failed: int
    space_size: int

    @property
    def which(self) -> str:
        """Which part of the space finished, such as `tried`; "" if all of it did, except for failed ones."""
        if self.dropped:
            return "trained to the end"
        if self.untried:
            return "that finished" if self.failed else "tried"
        return ""

    @property
    def untried(self) -> int:
        """The number of configurations that were never trained."""
        return self.space_size - len(self.finished) - len(self.dropped) - self.failed

    @property
    def left_out(self) -> str:
        """A text such as `Left out: 120 dropped early, 1 failed`; "" if only failed ones, or none, are left out."""
        counts = [(len(self.dropped), "dropped early"), (self.failed, "failed"), (self.untried, "not tried")]
        words = ", ".join(f"{count:,} {what}" for count, what in counts if count)
        return f"Left out: {words}" if self.which else ""


def survey(ranking: Sequence[ConfigurationResult], space_size: int | None = None) -> Survey:
    """Sorts the configurations of a search into those that finished, were dropped early, failed or were not tried.

    Args:
        ranking: The configurations that were tried, best first.
        space_size: Number of configurations in the search space; by default those of the ranking.

    Raises:
        ValueError: No configuration finished.
    """
    finished, dropped, failed = [], [], 0
    for c in ranking:
        drop = c.drop  # a property that is slow to compute for thousands of configurations
        if drop:
            dropped.append((c, drop))
        elif c.failure:
            failed += 1
        else:
            finished.append(c)
    if not finished:
        raise ValueError("no configuration finished, there is nothing to draw")
    return Survey(finished, dropped, failed, max(space_size or 0, len(ranking)))


def loss_name(configuration: ConfigurationResult) -> str:
    """Returns the name of a configuration's losses: `Test loss`, or `Cross-validated loss` if there are folds."""
    return "Cross-validated loss" if configuration.folds > 1 else "Test loss"


def trainings_text(configuration: ConfigurationResult) -> str | None:
    """Returns the trainings over which its loss is a mean: `5 folds × 3 repeats`; None if there is only one."""
    counts = [(configuration.folds, "folds"), (configuration.repeats, "repeats")]
    return " × ".join(f"{count} {what}" for count, what in counts if count > 1) or None


def name_loss_size(c: ConfigurationResult, *, with_sd: bool = True) -> str:
    """Returns the label of a configuration, in three lines: its name, its loss and its number of parameters."""
    loss = loss_text(c.final_test_loss, c.final_test_loss_sd if with_sd else None)
    return f"{short_name(c.config)}\n{loss}\n{c.model_params:,} parameters"
