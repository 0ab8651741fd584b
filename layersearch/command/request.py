"""Converts argparse's Namespace into a request, which holds the options of each stage.

    request = read_request(parse_arguments(["--epochs", "300"]))
    request.training.epochs             # 300

The other parts of the program take these options or plain values, never the Namespace.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from layersearch.command.values import duplicate_widths, read_objectives, read_width_range, read_widths
from layersearch.options import (
    DECLARED,
    DataOptions,
    EncodeOptions,
    OutputOptions,
    RunOptions,
    SearchOptions,
    SpaceOptions,
    StartOptions,
    StudyOptions,
    TrainingOptions,
    VerdictOptions,
    stated_value,
)
from layersearch.search.plan import SearchPlan
from layersearch.space.configurations import Space
from layersearch.space.factors import CrossedSpace, Factors, read_factors


@dataclass(frozen=True)
class Request:
    """All options of a run by stage, already checked."""

    sizes: SpaceOptions
    search: SearchOptions
    study: StudyOptions
    data: DataOptions
    training: TrainingOptions
    start: StartOptions
    verdict: VerdictOptions
    run: RunOptions
    encode: EncodeOptions
    output: OutputOptions

    @cached_property
    def given(self) -> dict[str, Any]:
        """The value of each option by name; None if it was not given and has no default."""
        stages = (getattr(self, stage.name) for stage in fields(self))
        values = {name: value for stage in stages for name, value in vars(stage).items()}
        return {name: values[name] for name in DECLARED}

    @property
    def arguments(self) -> dict[str, Any]:
        """The value of each option by name, as the results state it."""
        return {name: stated_value(name, value) for name, value in self.given.items()}

    @cached_property
    def factors(self) -> Factors:
        """The factors that `--study` crosses; empty without it."""
        return read_factors(self.study.study)

    @property
    def space(self) -> Space:
        """The configurations that the search may try."""
        wide = self.sizes.width_range
        widths = read_width_range(wide) if wide else read_widths(self.sizes.hidden_dims_search)
        space = Space(widths, self.sizes.max_layers, self.sizes.arrangement)
        is_crossed = self.factors and not self.study.study_configs
        return CrossedSpace(**vars(space), factors=self.factors) if is_crossed else space

    @property
    def plan(self) -> SearchPlan:
        """The plan of the search: its space, strategy, number of trainings and study."""
        return SearchPlan(
            self.search, self.space, self.training.epochs, self.data.cv_folds, self.factors, self.study.study_configs
        )

    @property
    def objectives(self) -> list[str]:
        """The objectives of the Pareto front."""
        return read_objectives(stated_value("objectives", self.search.objectives))

    @property
    def duplicate_widths(self) -> list[int]:
        """The widths that were given more than once."""
        return duplicate_widths(self.sizes.hidden_dims_search)


def read_request(arguments: argparse.Namespace) -> Request:
    """Converts checked arguments into a request."""

    def stage(options: type[Any]) -> Any:
        return options(**{field.name: getattr(arguments, field.name) for field in fields(options)})

    return Request(
        sizes=stage(SpaceOptions),
        search=stage(SearchOptions),
        study=stage(StudyOptions),
        data=stage(DataOptions),
        training=stage(TrainingOptions),
        start=stage(StartOptions),
        verdict=stage(VerdictOptions),
        run=stage(RunOptions),
        encode=stage(EncodeOptions),
        output=stage(OutputOptions),
    )
