"""What follows from a finished search: the verdict, the model of the chosen configuration, and longer training.

    verdict = judge_search(ranking, loaded, VerdictOptions(), seed=42, objectives=["loss", "params"])
    best = train_best(verdict, training, loaded, VerdictOptions(), seed=42)
    plan = plan_longer(verdict, ranking, training)
    probe = train_longer(plan, verdict, training, loaded)

Each step has a file of its own: `verdict.py`, `baselines.py`, `study.py` and `probe.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from layersearch.engines.lifecycle import build_model
from layersearch.engines.settings import TrainingSettings, nominal_seconds
from layersearch.engines.training import Training
from layersearch.loading.loaded import Loaded
from layersearch.options import VerdictOptions
from layersearch.space.configurations import Variant
from layersearch.space.factors import Factors
from layersearch.space.naming import config_text
from layersearch.space.ranking import ConfigurationResult
from layersearch.space.trials import Trial, TrialResult
from layersearch.verdict.baselines import baseline_errors
from layersearch.verdict.probe import Probe, ProbePlan, plan_probe, read_probe
from layersearch.verdict.study import analyse
from layersearch.verdict.verdict import Estimate, Verdict, estimate_loss, judge


def judge_search(
    ranking: Sequence[ConfigurationResult],
    loaded: Loaded,
    options: VerdictOptions,
    settings: TrainingSettings,
    *,
    objectives: Sequence[str],
    factors: Factors = (),
) -> Verdict | None:
    """Judges a search: which configuration is best, what is tied with it, and how it compares with the baselines.

    Args:
        ranking: the configurations that came to an end, best first.
        loaded: the table that they were trained on.
        options: the confidence.
        settings: of the trainings.
        objectives: what the Pareto front weighs.
        factors: those of a study, whose effects become a part of the verdict.

    Returns:
        The verdict; None if no configuration finished.
    """
    if not ranking or ranking[0].failure:
        return None
    parts = [loaded.part(fold) for fold in loaded.folds]
    tables = [loaded.tables[fold] for fold in loaded.folds]
    by_fold = [baseline_errors(table, settings.latent_dim) for table in tables]
    verdict = judge(
        ranking,
        parts,
        {name: [t.bundled(e[name].numpy()) for t, e in zip(tables, by_fold, strict=True)] for name in by_fold[0]},
        confidence=options.confidence,
        margin=options.margin,
        seed=settings.seed,
        components=min(settings.latent_dim, loaded.table.input_dim),
        objectives=objectives,
    )
    if loaded.dataset.groups is not None:
        verdict = replace(verdict, resampled="groups")
    if not factors or not isinstance(ranking[0].config, Variant):  # interrupted before the best were crossed
        return verdict
    own = {factor.name: getattr(settings, factor.name) for factor in factors}
    study = analyse(
        ranking, parts, factors, own=own, epochs=settings.epochs, confidence=options.confidence, seed=settings.seed
    )
    return replace(verdict, study=study)


@dataclass(frozen=True)
class Best:
    """The chosen configuration and its model."""

    configuration: ConfigurationResult  # the best measured or the recommended one, as --select asks
    model_info: dict[str, Any]
    trained: TrialResult | None = None  # the training with the lowest training loss, with its weights
    honest: Estimate | None = None  # the loss on the test rows, where folds chose the configuration
    warning: str | None = None  # that it failed when it was trained on all training rows


def train_best(verdict: Verdict, training: Training, loaded: Loaded, options: VerdictOptions) -> Best:
    """Chooses the best configuration and returns it with a model trained on all training rows.

    After cross-validation this is a training anew, with as many repeats. Otherwise the search has trained the model,
    and only weights that were not kept are made again: a training gives the same bits each time. If the run was asked
    to stop, there is no model.
    """
    chosen = verdict.recommended if options.select == "simplest" else verdict.best
    info = build_model(chosen.trials[0].trial, training.input_dim, training.settings).get_model_info()
    best = Best(chosen, info)
    final = _train_on_all_rows(chosen, training)
    if final is None:
        return best
    if final.failure:
        lacks = "it has no honest test loss" if chosen.is_cross_validated else "there is no model of it"
        name = config_text(chosen.config)
        best = replace(best, warning=f"{name} {final.failure} when trained on all training rows: {lacks}")
    elif chosen.is_cross_validated:
        seed = training.settings.seed
        honest = estimate_loss(final, loaded.part(None), verdict, confidence=options.confidence, seed=seed)
        best = replace(best, honest=honest)
    trained = final.best_trained
    return best if trained.has_failed else replace(best, trained=trained)


def _train_on_all_rows(chosen: ConfigurationResult, training: Training) -> ConfigurationResult | None:
    """Returns the configuration with the weights of its best training; None if the run was asked to stop."""
    if chosen.is_cross_validated:
        first = chosen.first_repeat
        trials = [Trial(chosen.config, repeat) for repeat in range(first, first + chosen.repeats)]
        results = list(training.run(trials))
        if len(results) < len(trials):
            return None
        chosen = replace(chosen, trials=tuple(sorted(results, key=lambda result: result.trial.repeat)))
    best = chosen.best_trained
    again = training.with_weights(best)
    if again is None:
        return None
    return replace(chosen, trials=tuple(again if result is best else result for result in chosen.trials))


def plan_longer(verdict: Verdict, ranking: Sequence[ConfigurationResult], training: Training) -> ProbePlan | None:
    """Plans the longer training of a few configurations; returns None if even that would cost too much."""

    def cost(configuration: ConfigurationResult) -> float:
        return nominal_seconds(training.engine, configuration.model_params, n_rows, training.settings)

    def full_trainings(configuration: ConfigurationResult) -> float:
        return sum(len(result.test_losses) for result in configuration.trials) / training.settings.epochs

    n_rows = len(training.tables[verdict.best.trials[0].trial.fold].train)
    search_cost = sum(cost(configuration) * full_trainings(configuration) for configuration in ranking)
    return plan_probe(verdict, ranking, cost, search_cost / training.members)


def is_trained(plan: ProbePlan, training: Training) -> bool:
    """Returns whether the journal holds all trainings of the plan already."""
    return all(len(training.kept(plan.trials, factor)) == len(plan.trials) for factor in plan.factors)


def train_longer(plan: ProbePlan, verdict: Verdict, training: Training, loaded: Loaded) -> Probe | None:
    """Trains what was planned, and returns what it shows; None if the run was asked to stop."""
    results = {factor: list(training.run(plan.trials, factor)) for factor in plan.factors}
    if training.stops():
        return None
    relative_sd = verdict.relative_sd if verdict.training_df > 0 else None
    part = loaded.part(loaded.folds[0])
    return read_probe(plan, results, epochs=training.settings.epochs, part=part, relative_sd=relative_sd)
