"""How a search went: what was found after how much training.

history = History("halving", space_size=125, epochs=20, threads=2)
history.add(configuration)             # in the order in which the strategy asked for them
history.steps[-1].best_loss
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from layersearch.space.configurations import Configuration
from layersearch.space.ranking import ConfigurationResult


class Step(NamedTuple):
    """A configuration that has come to its end, was paused, or has failed."""

    config: Configuration
    trainings: float  # all so far, in trainings of full length
    seconds: float  # all so far, with as many at a time as there were threads
    loss: float | None  # its final test loss; None if it has none (yet)
    best_loss: float | None  # the lowest so far; None while there is none


@dataclass
class History:
    """The steps of a search by one strategy, in the order in which it asked for them."""

    strategy: str
    space_size: int  # configurations that there are to try
    epochs: int  # of a training of full length
    threads: int
    steps: list[Step] = field(default_factory=list)
    _epochs_before: dict[Configuration, int] = field(default_factory=dict)
    _seconds_before: dict[Configuration, float] = field(default_factory=dict)

    def add(self, configuration: ConfigurationResult) -> None:
        """One more is finished, or has come as far as its next pause."""
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
        """How many configurations were trained, however far."""
        return len({step.config for step in self.steps})
