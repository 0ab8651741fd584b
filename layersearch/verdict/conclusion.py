"""What follows from a finished search: the verdict, the chosen configuration's model, what longer training would do.

    verdict = reach_verdict(arguments, loaded, search, stopwatch)
    findings = conclude(arguments, loaded, training, search, verdict, stopwatch, console)
    print("\\n".join(findings.statement))

The order of these steps and no more; each has a module of its own: `verdict.py`, `baselines.py`, `probe.py`,
`statement.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from layersearch.command.values import read_objectives
from layersearch.console import Console, Stopwatch
from layersearch.engines.lifecycle import build_model
from layersearch.engines.settings import nominal_seconds
from layersearch.engines.training import Training
from layersearch.loading.loaded import Loaded
from layersearch.report.results import Findings
from layersearch.report.statement import scope_of, state
from layersearch.search.running import Search
from layersearch.space.configurations import Variant
from layersearch.space.factors import factors_of
from layersearch.space.naming import config_text
from layersearch.space.ranking import ConfigurationResult
from layersearch.space.trials import Trial, TrialResult
from layersearch.table.scoring import ScoredPart
from layersearch.verdict.baselines import baseline_errors
from layersearch.verdict.probe import Probe, plan_probe, read_probe
from layersearch.verdict.verdict import Verdict, estimate_loss, judge

if TYPE_CHECKING:
    from layersearch.verdict.study import Study


def reach_verdict(
    arguments: argparse.Namespace, loaded: Loaded, search: Search, stopwatch: Stopwatch
) -> Verdict | None:
    """From the ranking to the verdict; None if no configuration finished."""
    ranking = search.ranking
    if not ranking or ranking[0].failure:
        stopwatch.lap("select")
        return None
    parts = [loaded.part(fold) for fold in loaded.folds]
    tables = [loaded.tables[fold] for fold in loaded.folds]
    by_fold = [baseline_errors(table, arguments.latent_dim) for table in tables]
    verdict = judge(
        ranking,
        parts,
        {name: [t.bundled(e[name].numpy()) for t, e in zip(tables, by_fold, strict=True)] for name in by_fold[0]},
        confidence=arguments.confidence,
        seed=arguments.seed,
        components=min(arguments.latent_dim, loaded.table.input_dim),
        objectives=read_objectives(arguments.objectives),
        grouped=loaded.dataset.groups is not None,
    )
    if arguments.study is not None:
        verdict = replace(verdict, study=reach_study(arguments, ranking, parts))
    stopwatch.lap("select")
    return verdict


def reach_study(
    arguments: argparse.Namespace, ranking: Sequence[ConfigurationResult], parts: Sequence[ScoredPart]
) -> Study | None:
    """What `--study` has shown; None if it was interrupted before its best were crossed."""
    from layersearch.verdict.study import analyse

    if not isinstance(ranking[0].config, Variant):
        return None
    factors = factors_of(arguments)
    return analyse(
        ranking,
        parts,
        factors,
        own={factor.name: getattr(arguments, factor.name) for factor in factors},
        epochs=arguments.epochs,
        confidence=arguments.confidence,
        seed=arguments.seed,
    )


def conclude(
    arguments: argparse.Namespace,
    loaded: Loaded,
    training: Training,
    search: Search,
    verdict: Verdict | None,
    stopwatch: Stopwatch,
    console: Console,
    on_trained: Callable[[ConfigurationResult, TrialResult], None] = lambda chosen, trained: None,
) -> Findings:
    """From the verdict to the chosen configuration and its model, and what longer training would do.

    `on_trained` is told the chosen configuration and its best training as soon as that has its weights: the probe is
    yet to come. A search that was interrupted gets its verdict, and nothing more is trained.
    """
    findings = Findings(
        search.ranking, history=search.history, n_configurations=search.n_configurations, first=search.first
    )
    if verdict is None:
        return replace(findings, is_complete=not training.stops())
    chosen = verdict.recommended if arguments.select == "simplest" else verdict.best
    final = train_chosen(arguments, chosen, training)
    honest = None
    if final is None:
        pass
    elif final.failure:
        name = config_text(chosen.config)
        lacks = "it has no honest test loss" if chosen.is_cross_validated else "there is no model of it"
        console.warn(f"{name} {final.failure} when trained on all training rows: {lacks}")
    elif chosen.is_cross_validated:
        honest = estimate_loss(final, loaded.part(None), verdict, confidence=arguments.confidence, seed=arguments.seed)
    stopwatch.lap("retrain")
    trained = final.best_trained if final else None
    trained = None if trained is None or trained.has_failed else trained
    ensemble = None
    if trained is not None:
        on_trained(chosen, trained)
        if arguments.ensemble is not None:
            from layersearch.latent.ensemble import assemble

            which = "tied" if arguments.ensemble == "tied" else int(arguments.ensemble)
            ensemble, warnings = assemble(
                which,
                search.ranking,
                verdict,
                trained,
                loaded,
                training,
                repeats=arguments.repeats,
                is_copus=arguments.columns == "copus",
            )
            for warning in warnings:
                console.warn(warning)
            stopwatch.lap("ensemble")
    part = loaded.part(loaded.folds[0])
    probe = None if arguments.no_probe else probe_longer(verdict, search.ranking, training, part, console)
    stopwatch.lap("probe")
    findings = replace(
        findings,
        verdict=verdict,
        chosen=chosen,
        trained=trained,
        ensemble=ensemble,
        honest=honest,
        probe=probe,
        model_info=build_model(chosen.trials[0].trial, loaded.table.input_dim, training.settings).get_model_info(),
        is_complete=not training.stops(),
    )
    return replace(findings, statement=state_findings(findings, loaded))


def state_findings(findings: Findings, loaded: Loaded, time: str = "") -> list[str]:
    """The verdict in words; `time`: how long the suggested number of epochs takes."""
    assert findings.verdict is not None
    lines = state(
        findings.verdict,
        probe=findings.probe,
        honest=findings.honest,
        n_test=len(loaded.table.test),
        time=time,
        scope=scope_of(findings.history, findings.ranking),
    )
    if findings.ensemble:
        from layersearch.latent.ensemble import ensemble_line

        lines.append(f"  {ensemble_line(findings.ensemble)}")
    return lines


def train_chosen(
    arguments: argparse.Namespace, chosen: ConfigurationResult, training: Training
) -> ConfigurationResult | None:
    """The chosen configuration with the weights of its best training, trained on all training rows.

    After folds that is a training anew, with as many repeats. Otherwise the search has trained it, and only weights
    that were not kept are made again: a trial gives the same bits each time. None if the run was asked to stop.
    """
    if chosen.is_cross_validated:
        first = chosen.first_repeat
        trials = [Trial(chosen.config, repeat) for repeat in range(first, first + arguments.repeats)]
        results = list(training.run(trials))
        if len(results) < len(trials):
            return None
        chosen = replace(chosen, trials=tuple(sorted(results, key=lambda result: result.trial.repeat)))
    best = chosen.best_trained
    again = training.with_weights(best)
    if again is None:
        return None
    return replace(chosen, trials=tuple(again if result is best else result for result in chosen.trials))


def _full_trainings(configuration: ConfigurationResult, training: Training) -> float:
    return sum(len(result.test_losses) for result in configuration.trials) / training.settings.epochs


def probe_longer(
    verdict: Verdict, ranking: list[ConfigurationResult], training: Training, part: ScoredPart, console: Console
) -> Probe | None:
    """Trains a few configurations longer, as far as that is cheap. None too if the run was asked to stop."""

    def cost(configuration: ConfigurationResult) -> float:
        return nominal_seconds(training.engine, configuration.model_params, n_rows, training.settings)

    if training.stops():
        return None
    n_rows = len(training.tables[verdict.best.trials[0].trial.fold].train)
    search_cost = sum(cost(configuration) * _full_trainings(configuration, training) for configuration in ranking)
    search_cost /= training.members
    plan = plan_probe(verdict, ranking, cost, search_cost)
    if plan is None:
        console.say("Longer training is not probed: even once would cost more than a tenth of the search")
        return None
    if any(len(training.kept(plan.trials, factor)) < len(plan.trials) for factor in plan.factors):
        console.say("Probing longer training ...")
    results = {factor: list(training.run(plan.trials, factor)) for factor in plan.factors}
    if training.stops():
        return None
    relative_sd = verdict.relative_sd if verdict.training_df > 0 else None
    return read_probe(plan, results, epochs=training.settings.epochs, part=part, relative_sd=relative_sd)
