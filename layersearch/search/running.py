"""Carries out a search: trains the configurations that its strategy requests, and shows the progress.

searched = carry_out(plan, training, Progress(plan.n_trainings, console=console))
searched.ranking, searched.history
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from math import log10
from typing import TYPE_CHECKING, NamedTuple

from layersearch.engines.training import Training
from layersearch.engines.workers import available_cores
from layersearch.errors import UsageError
from layersearch.journal.journal import Journal
from layersearch.search.history import FULL_GRID, History
from layersearch.search.plan import SearchPlan
from layersearch.search.progress import Progress
from layersearch.search.strategies import Plan, draw_distinct, everything, follow, halving
from layersearch.space.configurations import Configuration, ParameterCounts
from layersearch.space.factors import cross
from layersearch.space.naming import config_text
from layersearch.space.ranking import ConfigurationResult, ResultCollector
from layersearch.space.trials import Trial, TrialResult
from layersearch.words import count, loss_text

if TYPE_CHECKING:
    from layersearch.search.bayesian import Values


class Searched(NamedTuple):
    """The results of a search."""

    ranking: list[ConfigurationResult]  # the configurations that finished or failed, best first
    history: History
    n_configurations: int  # number of configurations in the plan
    first: Searched | None = None  # for a study of the best configurations: the search that found them


def carry_out(plan: SearchPlan, training: Training, progress: Progress) -> Searched:
    """Trains the configurations that the strategy requests, and then all variants of the best for `--study_configs`.

    Args:
        plan: the plan of the search.
        training: trains the trials. If it is asked to stop, the search ends with the results so far.
        progress: shows how many of `plan.n_trainings` are done.

    Raises:
        UsageError: the plan is a Bayesian search, and Optuna is not installed.
    """
    history = History(plan.options.search, plan.space.size, plan.epochs, training.threads)
    first = _follow(_strategy(plan, training), plan, history, training, progress, first_repeat=0)
    chosen = [c.config for c in first.ranking if c.failure is None][: plan.study_configs]
    if not chosen or training.stops():
        return first
    # All variants are trained with new repeats, since the results by which the best were chosen are biased for them.
    variants = list(cross(chosen, plan.factors))
    asked = f" ({plan.study_configs} were asked for)" if len(chosen) < plan.study_configs else ""
    options = count(len(variants) // len(chosen), "option")
    progress.say(f"Crossing the best {count(len(chosen), 'configuration')}{asked} with {options}")
    history = History(FULL_GRID, len(variants), plan.epochs, training.threads)
    progress = progress.another(plan.trials_each * len(variants))
    second = _follow(everything(variants), plan, history, training, progress, first_repeat=plan.options.repeats)
    return second._replace(n_configurations=len(variants), first=first) if second.ranking else first


def _follow(
    strategy: Plan,
    plan: SearchPlan,
    history: History,
    training: Training,
    progress: Progress,
    *,
    first_repeat: int,
) -> Searched:
    """Trains the configurations that a strategy requests, with repeats counted from `first_repeat`."""
    input_dim, settings = training.input_dim, training.settings

    def trials_of(configurations: Sequence[Configuration]) -> list[Trial]:
        return plan.trials(configurations, input_dim, settings.latent_dim, first_repeat=first_repeat)

    is_all = history.strategy in ("grid", "random") and not (plan.study_configs and first_repeat == 0)
    sizes = ParameterCounts(input_dim, settings.latent_dim, **settings.normalizations)
    collector = ResultCollector(plan.trials_each, sizes)
    kept: Collection[Trial] = ()
    with progress:
        for event in follow(strategy, training, trials_of, collector, history):
            if isinstance(event, TrialResult):
                best = collector.best
                leader = f"{config_text(best.config)} {loss_text(best.final_test_loss)}" if best else ""
                progress.update(leader, is_new=event.trial not in kept)
                continue
            batch, trials = event
            is_first = not kept and not history.steps
            progress.skip(plan.trials_each * len(batch.configurations) - len(trials))
            kept = set(training.kept(trials, pause_after=batch.pause_after))
            if is_first and kept and training.journal:
                progress.say(resumption(trials, kept, training.journal, is_all=is_all))
            elif history.strategy == "halving" and history.steps:
                best_so_far = f"the best {len(batch.configurations)} of {history.space_size} configurations"
                progress.say(f"Going on with {best_so_far}")
    return Searched(collector.ranking(), history, plan.n_to_try)


def _strategy(plan: SearchPlan, training: Training) -> Plan:
    """Returns the strategy chosen by `--search`."""
    options, space = plan.options, plan.space
    if options.search == "random":
        return everything(draw_distinct(space, options.trials, options.seed))
    if options.search == "halving":
        configurations = space.configurations()
        return halving(configurations, epochs=plan.epochs, min_epochs=plan.first_rung, factor=options.halving_factor)
    if options.search == "bayesian":
        try:
            return _bayesian_strategy(plan, training)
        except ImportError as error:
            raise UsageError(
                f"--search bayesian needs Optuna ({error}); pip install optuna, or give --search random"
            ) from None
    if options.search == "grid":
        return everything(space.configurations())
    raise ValueError(f"there is no strategy {options.search!r}")


def _bayesian_strategy(plan: SearchPlan, training: Training) -> Plan:
    from layersearch.search.bayesian import bayesian, make_study, open_storage

    options, journal = plan.options, training.journal
    objectives = ["loss"] if options.objectives is None else ["loss", "log10 params"]

    def values_of(result: ConfigurationResult) -> Values:
        values = [result.final_test_loss, log10(result.model_params)]
        return None if result.failure else values[: len(objectives)]

    storage = None
    if journal:
        path = journal.path.with_name(f"optuna_latent{training.settings.latent_dim}.log")
        storage = open_storage(path, journal.digest, fresh=journal.is_fresh)
    study = make_study(options.seed, objectives, storage)
    if journal:
        study.set_user_attr("search", journal.digest)
    cores = training.threads if training.machines else available_cores()
    return bayesian(
        plan.space,
        study,
        n_trials=options.trials,
        batch_size=plan.proposed_at_a_time(cores),
        seed=options.seed,
        values_of=values_of,
    )


def resumption(trials: Sequence[Trial], kept: Collection[Trial], journal: Journal, *, is_all: bool) -> str:
    """Returns a message such as `12 of 19 configurations already trained at 14:03; continuing`.

    Args:
        trials: the trials of the first batch.
        kept: those of them whose results are in the journal.
        journal: the results of an earlier run.
        is_all: whether the first batch is the only one.
    """
    configurations, unfinished = ({trial.config for trial in some} for some in (trials, set(trials) - set(kept)))
    finished = len(configurations) - len(unfinished)
    done = f"{finished} of {count(len(configurations), 'configuration')} already trained"
    if not finished or not is_all:
        done = f"{journal.n_finished} trainings already done" if not is_all else ""
        done = done or f"{len(kept)} of {count(len(trials), 'training')} already done"
    at, today = journal.last_finished, datetime.now().date()
    when = f"{at:%H:%M}" if at.date() == today else f"{at:%Y-%m-%d %H:%M}"
    return f"{done} at {when}; " + ("continuing" if unfinished or not is_all else "writing the reports anew")
