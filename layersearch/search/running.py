"""Carrying a search out: the strategy that was asked for, its trainings, and what the console says of them.

search = carry_out(arguments, space, loaded, training, console)
search.ranking, search.history
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from math import log10
from typing import TYPE_CHECKING, NamedTuple

from layersearch.command.arguments import n_to_try
from layersearch.command.values import DEFAULT_OBJECTIVES
from layersearch.console import Console
from layersearch.engines.training import Training
from layersearch.engines.workers import available_cores
from layersearch.errors import UsageError
from layersearch.journal.journal import Journal
from layersearch.loading.loaded import Loaded
from layersearch.search.history import FULL_GRID, History
from layersearch.search.progress import Progress
from layersearch.search.strategies import Plan, draw_distinct, everything, follow, halving, rungs
from layersearch.space.configurations import Configuration, ParameterCounts, Space
from layersearch.space.factors import count_options, cross, factors_of
from layersearch.space.naming import config_text
from layersearch.space.ranking import ConfigurationResult, ResultCollector
from layersearch.space.trials import Trial, TrialResult, plan_trials
from layersearch.words import count, loss_text

if TYPE_CHECKING:
    from layersearch.search.bayesian import Values


class Search(NamedTuple):
    """What a search has brought."""

    ranking: list[ConfigurationResult]  # of those that came to an end, best first
    history: History
    n_configurations: int  # that it set out to try
    first: Search | None = None  # the one before it, which chose what it crosses; see `--study_configs`


def carry_out(
    arguments: argparse.Namespace, space: Space, loaded: Loaded, training: Training, console: Console
) -> Search:
    """Trains what the strategy asks for, until it ends or `training` is told to stop; then the study of its best."""
    history = History(arguments.search, space.size, arguments.epochs, training.threads)
    plan, sizes = make_plan(arguments, space, training), _batch_sizes(arguments, space)
    first = _train(plan, sizes, arguments, history, loaded, training, console)
    chosen = [c.config for c in first.ranking if c.failure is None][: arguments.study_configs]
    if not chosen or training.stops():
        return first
    second = _cross(chosen, arguments, loaded, training, console)
    return second._replace(first=first) if second.ranking else first


def _cross(
    chosen: Sequence[Configuration],
    arguments: argparse.Namespace,
    loaded: Loaded,
    training: Training,
    console: Console,
) -> Search:
    """Trains the best of a search with all options of the study, those of the search included.

    All anew, in other repeats: those that made them the best were lucky, at the one combination they had.
    """
    variants = list(cross(chosen, factors_of(arguments)))
    asked = f" ({arguments.study_configs} were asked for)" if len(chosen) < arguments.study_configs else ""
    options = count(len(variants) // len(chosen), "option")
    console.say(f"Crossing the best {count(len(chosen), 'configuration')}{asked} with {options}")
    history = History(FULL_GRID, len(variants), arguments.epochs, training.threads)
    plan, sizes = everything(variants), [len(variants)]
    return _train(plan, sizes, arguments, history, loaded, training, console, first_repeat=arguments.repeats)


def _train(
    plan: Plan,
    sizes: Sequence[int],
    arguments: argparse.Namespace,
    history: History,
    loaded: Loaded,
    training: Training,
    console: Console,
    *,
    first_repeat: int = 0,
) -> Search:
    """Follows a plan of batches of so many configurations, their repeats counted from `first_repeat`."""
    trials_each = arguments.repeats * len(loaded.folds)
    input_dim, latent_dim = loaded.table.input_dim, arguments.latent_dim
    is_all = history.strategy in ("grid", "random") and not (arguments.study_configs and first_repeat == 0)

    def trials_of(configurations: Sequence[Configuration]) -> list[Trial]:
        trials = plan_trials(
            configurations, arguments.repeats, input_dim=input_dim, latent_dim=latent_dim, folds=arguments.cv_folds
        )
        return [replace(trial, repeat=first_repeat + trial.repeat) for trial in trials] if first_repeat else trials

    collector = ResultCollector(trials_each, ParameterCounts(input_dim, latent_dim, **training.settings.normalizations))
    kept: Collection[Trial] = ()
    with Progress(trials_each * sum(sizes), console=console) as progress:
        for event in follow(plan, training, trials_of, collector, history):
            if isinstance(event, TrialResult):
                best = collector.best
                leader = f"{config_text(best.config)} {loss_text(best.final_test_loss)}" if best else ""
                progress.update(leader, is_new=event.trial not in kept)
                continue
            batch, trials = event
            is_first = not kept and not history.steps
            progress.skip(trials_each * len(batch.configurations) - len(trials))
            kept = set(training.kept(trials, pause_after=batch.pause_after))
            if is_first and kept and training.journal:
                progress.say(resumption(trials, kept, training.journal, is_all=is_all))
            elif history.strategy == "halving" and history.steps:
                progress.say(
                    f"Going on with the best {len(batch.configurations)} of {history.space_size} configurations"
                )
    return Search(collector.ranking(), history, sizes[0])


def make_plan(arguments: argparse.Namespace, space: Space, training: Training) -> Plan:
    """The strategy that `--search` names."""
    if arguments.search == "random":
        return everything(draw_distinct(space, arguments.trials, arguments.seed))
    if arguments.search == "halving":
        return halving(
            space.configurations(),
            epochs=arguments.epochs,
            min_epochs=first_rung(arguments),
            factor=arguments.halving_factor,
        )
    if arguments.search == "bayesian":
        try:
            return _bayesian_plan(arguments, space, training)
        except ImportError as error:
            raise UsageError(
                f"--search bayesian needs Optuna ({error}); pip install optuna, or give --search random"
            ) from None
    return everything(space.configurations())


def _bayesian_plan(arguments: argparse.Namespace, space: Space, training: Training) -> Plan:
    from layersearch.search.bayesian import bayesian, make_study, open_storage

    is_multi = arguments.objectives is not DEFAULT_OBJECTIVES
    objectives = ["loss", "log10 params"] if is_multi else ["loss"]

    def values_of(result: ConfigurationResult) -> Values:
        values = [result.final_test_loss, log10(result.model_params)]
        return None if result.failure else values[: len(objectives)]

    storage = None
    if training.journal:
        path = training.journal.path.with_name(f"optuna_latent{arguments.latent_dim}.log")
        storage = open_storage(path, training.journal.digest, fresh=arguments.fresh)
    study = make_study(arguments.seed, objectives, storage)
    if training.journal:
        study.set_user_attr("search", training.journal.digest)
    cores = training.threads if training.machines else available_cores()
    return bayesian(
        space,
        study,
        n_trials=arguments.trials,
        batch_size=_proposed_at_a_time(arguments, cores),
        seed=arguments.seed,
        values_of=values_of,
    )


def _proposed_at_a_time(arguments: argparse.Namespace, cores: int) -> int:
    """How many configurations Bayesian search proposes before it is told of their results."""
    trials_each = arguments.repeats * (arguments.cv_folds or 1)
    return int(arguments.batch_trials) or -(-cores // trials_each)


def first_rung(arguments: argparse.Namespace) -> int:
    """The epoch after which halving drops for the first time."""
    return int(arguments.min_epochs or max(1, arguments.epochs // 20))


def largest_batch(arguments: argparse.Namespace, space: Space) -> int:
    """How many configurations are trained side by side at most."""
    crossed = int(arguments.study_configs) * count_options(factors_of(arguments))
    if arguments.search == "bayesian":
        return max(_proposed_at_a_time(arguments, available_cores()), crossed)
    return max(_batch_sizes(arguments, space)[0], crossed)


def _batch_sizes(arguments: argparse.Namespace, space: Space) -> list[int]:
    """How many configurations are trained on, in all batches."""
    sizes = [n_to_try(arguments, space)]
    if arguments.search == "halving":
        for _ in rungs(arguments.epochs, first_rung(arguments), arguments.halving_factor):
            sizes.append(-(-sizes[-1] // arguments.halving_factor))
    return sizes


def resumption(trials: Sequence[Trial], kept: Collection[Trial], journal: Journal, *, is_all: bool) -> str:
    """`12 of 19 configurations already trained at 14:03; continuing`. `is_all`: more trials will not be asked for."""
    configurations, unfinished = ({trial.config for trial in some} for some in (trials, set(trials) - set(kept)))
    finished = len(configurations) - len(unfinished)
    done = f"{finished} of {count(len(configurations), 'configuration')} already trained"
    if not finished or not is_all:
        done = f"{journal.n_finished} trainings already done" if not is_all else ""
        done = done or f"{len(kept)} of {count(len(trials), 'training')} already done"
    at, today = journal.last_finished, datetime.now().date()
    when = f"{at:%H:%M}" if at.date() == today else f"{at:%Y-%m-%d %H:%M}"
    return f"{done} at {when}; " + ("continuing" if unfinished or not is_all else "writing the reports anew")
