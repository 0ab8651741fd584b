"""The history of a search: the lowest loss that was reached after each amount of training.

history = History("halving", space_size=125, epochs=20, threads=2)
history.add(configuration)             # in the order in which the strategy requested them
history.steps[-1].best_loss
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from layersearch.space.configurations import Configuration
from layersearch.space.ranking import ConfigurationResult

FULL_GRID = "grid"  # the strategy that trains every configuration for all epochs


class Step(NamedTuple):
    """The state of a search after a configuration finished, paused or failed."""

    config: Configuration
    trainings: float  # epochs trained so far, in units of a full training
    seconds: float  # training time of the search so far, divided by the number of threads
    loss: float | None  # final test loss of the configuration; None if it paused or failed
    best_loss: float | None  # lowest final test loss so far; None if no configuration has finished


@dataclass
class History:
    """The steps of a search by one strategy, in the order in which the strategy requested them."""

    strategy: str
    space_size: int  # number of configurations in the space
    epochs: int  # number of epochs of a full training
    threads: int
    steps: list[Step] = field(default_factory=list)
    _epochs_before: dict[Configuration, int] = field(default_factory=dict)
    _seconds_before: dict[Configuration, float] = field(default_factory=dict)

    def add(self, configuration: ConfigurationResult) -> None:
        """Adds a configuration that finished, paused or failed."""
        config, last = configuration.config, self.steps[-1] if self.steps else Step((), 0.0, 0.0, None, None)
        epochs = sum(len(result.test_losses) for result in configuration.trials)
        seconds = sum(result.seconds for result in configuration.trials)
        loss = None if configuration.failure else configuration.final_test_loss
        known = [value for value in (last.best_loss, loss) if value is not None]
        more_epochs = epochs - self._epochs_before.get(config, 0)
        more_seconds = seconds - self._seconds_before.get(config, 0.0)
        self._epochs_before[config], self._seconds_before[config] = epochs, seconds
        self.steps.append(
            Step(
                config=config,
                trainings=last.trainings + more_epochs / self.epochs,
                seconds=last.seconds + more_seconds / self.threads,
                loss=loss,
                best_loss=min(known, default=None),
            )
        )

    @property
    def tried(self) -> int:
        """The number of configurations that were trained for any number of epochs."""
        return len({step.config for step in self.steps})
