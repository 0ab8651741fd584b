"""All that a search found, as the JSON file and as the closing summary of the console.

    document = results_document(results, args=…, environment=…, data=…, timing=…)
    write_json(output_dir / "hyperparam_results_latent3.json", document)
    print(closing_summary(results, saved_model))

`docs/results_schema.json` describes the JSON field by field. Tables for a spreadsheet are in `tables.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from layersearch.engines.settings import TrainingSettings, settings_of
from layersearch.files import replacing
from layersearch.latent.ensemble import EnsembleFindings, ensemble_line
from layersearch.report.statement import scope_of, state
from layersearch.report.study import state_study, study_entry
from layersearch.search.history import FULL_GRID, History
from layersearch.search.running import Searched
from layersearch.space.configurations import Configuration, decoder_dims, encoder_dims, layers_of, options_of
from layersearch.space.naming import config_entry, config_text
from layersearch.space.ranking import ConfigurationResult
from layersearch.verdict.conclusion import Best
from layersearch.verdict.probe import Probe
from layersearch.verdict.verdict import Baseline, Standing, Verdict
from layersearch.words import count, count_of, loss_text, percent, short
from losses import ALL_WEIGHT, NONZERO_WEIGHT

FORMAT_VERSION = 1
METHOD = (
    "multiple comparisons with the best (Hsu 1984, Annals of Statistics 12, 1136-1144); critical values of the largest "
    "standardised difference from a bootstrap over rows or groups and Student's t over trainings, whose variances are "
    "moderated (Smyth 2004, doi:10.2202/1544-6115.1027)"
)
RULE = "=" * 70
ANNOUNCED = {  # files that the closing summary names, in its order: field of `output_files.OutputFiles` -> words
    "search_plot": "Performance plot",
    "configurations_plot": "Configuration scatter",
    "verdict_plot": "Verdict plot",
    "history_plot": "Search history",
    "study_plot": "Study plot",
    "latent_plot": "Latent space plot",
    "axes_plot": "Latent axes",
    "reconstruction_plot": "Reconstruction by code",
    "agreement_plot": "Label agreement",
    "clusters_plot": "Latent clusters",
    "ensemble": "Ensemble saved",
    "report": "Report",
    "results": "Results saved",
}


@dataclass(frozen=True)
class Results:
    """All that a search found; nothing but what was searched if every configuration failed."""

    searched: Searched
    verdict: Verdict | None = None
    best: Best | None = None
    ensemble: EnsembleFindings | None = None
    probe: Probe | None = None
    is_complete: bool = True  # not interrupted
    n_test: int = 0  # test rows
    settings: TrainingSettings | None = None  # of the trainings

    @property
    def ranking(self) -> Sequence[ConfigurationResult]:
        """The configurations that came to an end, best first, failed ones last."""
        return self.searched.ranking

    @property
    def chosen(self) -> ConfigurationResult | None:
        """The best configuration, as `--select` asks; None if every configuration failed."""
        return self.best.configuration if self.best else None

    def statement(self, time: str = "") -> list[str]:
        """Returns the verdict in words, line by line; empty without a verdict.

        Args:
            time: how long the search would take with the suggested epochs, such as "takes about 25 s".
        """
        if self.verdict is None:
            return []
        lines = state(
            self.verdict,
            probe=self.probe,
            honest=self.best.honest if self.best else None,
            n_test=self.n_test,
            time=time,
            scope=scope_of(self.searched.history, self.ranking),
            trained=_trained(self.verdict.best, self.settings) if self.settings else "",
            model=_model_line(self.best) if self.best and self.best.trained else "",
        )
        return [*lines, f"  {ensemble_line(self.ensemble)}"] if self.ensemble else lines


def _trained(best: ConfigurationResult, settings: TrainingSettings) -> str:
    settings = settings_of(best.trials[0].trial, settings)
    return f" at {count_of(settings.epochs, 'epoch')}, learning rate {short(settings.initial_lr)}"


def _model_line(best: Best) -> str:
    """Returns which training's weights are the model, and that training's own loss."""
    assert best.trained is not None
    assert best.trained.final_test_loss is not None
    own = loss_text(best.trained.final_test_loss)
    name, repeats = config_text(best.configuration.config), best.configuration.repeats
    if repeats == 1:
        return f"The model of {name} has a test loss of {own}."
    repeat = best.trained.trial.repeat - best.configuration.first_repeat + 1
    return f"The model of {name} is that of repeat {repeat} (lowest training loss), whose own test loss is {own}."


class Written(NamedTuple):
    """What the files say about the best model and the ensemble, for the results to repeat."""

    model_file: str | None = None  # name of the .pth with --save_models, and its digest
    model_sha256: str | None = None
    training_errors: np.ndarray | None = None  # `latent.codes.error_quantiles` of the training rows
    test_errors: np.ndarray | None = None  # of the test rows
    latent_space: Mapping[str, Any] | None = None  # `LatentFindings.entry`
    ensemble: Mapping[str, Any] | None = None  # `ensemble.ensemble_entry`


NOTHING_WRITTEN = Written()


def results_document(
    results: Results,
    written: Written = NOTHING_WRITTEN,
    *,
    args: Mapping[str, Any],
    environment: Mapping[str, Any],
    data: Mapping[str, Any],
    timing: Mapping[str, float],
    init_from: Mapping[str, Any] | None = None,
    timestamp: str | None = None,
) -> dict[str, Any]:
    """Returns the whole result as one plain document, in the form of `docs/results_schema.json`.

    But for `timestamp` and `timing` the same search gives the same document, except that a Pareto front over time
    depends on time. If every configuration failed, `best_configuration` and `verdict` are None.

    Args:
        results: what the search found.
        written: what the files say about the best model.
        args: the value of each option by name.
        environment: what the search ran on.
        data: the table, its scaling and its split.
        timing: seconds by stage.
        init_from: the saved model that trainings started from.
        timestamp: ISO 8601 with an offset; now by default.
    """
    verdict, searched = results.verdict, results.searched
    study = verdict.study if verdict else None
    standings = verdict.standings if verdict else {}
    document = {
        "format_version": FORMAT_VERSION,
        "timestamp": timestamp or datetime.now().astimezone().isoformat(timespec="seconds"),
        "args": args,
        "environment": environment,
        "data": data,
        "timing": timing,
        "init_from": init_from,
        "loss": {"nonzero": NONZERO_WEIGHT, "all": ALL_WEIGHT},
        "complete": results.is_complete,
        "total_configurations": searched.n_configurations or len(results.ranking),
        "search": _search_entry(results.ranking, searched.history),
        "best_configuration": _best_configuration(results.best, written) if results.best else None,
        "verdict": _verdict_entry(results, verdict) if verdict else None,
        "study": study_entry(study, searched.first) if study else None,
        "latent_space": written.latent_space,
        "ensemble": written.ensemble,
        "pareto_front": [_brief(configuration) for configuration in verdict.front] if verdict else [],
        "all_results": [
            _configuration_entry(rank, configuration, standings.get(configuration.config, Standing()))
            for rank, configuration in enumerate(results.ranking, start=1)
        ],
    }
    plain: dict[str, Any] = to_plain(document)
    return plain


def _search_entry(ranking: Sequence[ConfigurationResult], history: History) -> dict[str, Any]:
    """Leaves out the seconds of the history, which differ from run to run."""
    return {
        "strategy": history.strategy,
        "space_size": history.space_size,
        "tried": len(ranking),
        **_fates(ranking),
        "history": [
            {**config_entry(step.config), "trainings": step.trainings, "loss": step.loss, "best_loss": step.best_loss}
            for step in history.steps
        ],
    }


def _fates(ranking: Sequence[ConfigurationResult]) -> dict[str, int]:
    """Returns how many configurations finished, were dropped, and failed."""
    dropped = sum(configuration.drop is not None for configuration in ranking)
    finished = sum(configuration.failure is None for configuration in ranking)
    return {"finished": finished, "dropped": dropped, "failed": len(ranking) - finished - dropped}


def _best_configuration(best: Best, written: Written) -> dict[str, Any]:
    chosen, trained, honest = best.configuration, best.trained, best.honest
    model = trained and {
        "repeat": trained.trial.repeat - chosen.first_repeat + 1,
        "train_loss": trained.final_train_loss,
        "test_loss": trained.final_test_loss,
    }
    saved = {"file": written.model_file, "sha256": written.model_sha256}
    return {
        **config_entry(chosen.config),
        **_layer_counts(chosen.config),
        "final_test_loss": chosen.final_test_loss,
        "final_test_loss_sd": chosen.final_test_loss_sd,
        "honest_test_loss": honest.loss if honest else None,
        "honest_test_loss_interval": honest.interval if honest else None,
        "model_params": chosen.model_params,
        "model_info": best.model_info,
        "model": model,
        "saved_model": {**saved, **model} if written.model_file and model else None,
        "training_errors": written.training_errors,
        "test_errors": written.test_errors,
    }


def _layer_counts(config: Configuration) -> dict[str, int]:
    return {"num_layers": len(encoder_dims(config)), "num_decoder_layers": len(decoder_dims(config))}


def _brief(configuration: ConfigurationResult) -> dict[str, Any]:
    return {
        **config_entry(configuration.config),
        "model_params": configuration.model_params,
        "final_test_loss": configuration.final_test_loss,
    }


def _verdict_entry(results: Results, verdict: Verdict) -> dict[str, Any]:
    known = verdict.is_known
    return {
        "statement": results.statement(),
        "method": METHOD,
        "confidence": verdict.confidence,
        "resampled": verdict.resampled,
        "n_resampled": verdict.n_resampled,
        "best_measured": _brief(verdict.best),
        "best_measured_interval": verdict.best_interval,
        "margin": verdict.margin,
        "recommended": _brief(verdict.recommended),
        "recommended_difference_at_most": verdict.recommendation.bound,
        "repeats_to_recommend_smaller": verdict.recommendation.repeats_needed,
        "proven": verdict.is_proven if known else None,
        "tied": [layers_of(configuration.config) for configuration in verdict.tied] if known else None,
        **_tied_options(verdict),
        "optimism": verdict.optimism,
        "objectives": verdict.objectives,
        "baselines": [_baseline_entry(baseline) for baseline in verdict.all_baselines],
        "probe": _probe_entry(results.probe) if results.probe else None,
    }


def _tied_options(verdict: Verdict) -> dict[str, Any]:
    options = [options_of(c.config) for c in verdict.tied]
    return {"tied_options": options} if any(options) else {}


def _baseline_entry(baseline: Baseline) -> dict[str, Any]:
    return {
        "name": baseline.name,
        "components": baseline.components,
        "loss": baseline.loss,
        "difference": baseline.difference,
        "difference_interval": baseline.difference_interval,
        "not_beaten_by": baseline.not_beaten_by,
    }


def _probe_entry(probe: Probe) -> dict[str, Any]:
    return {
        "epochs": probe.epochs,
        "repeats": probe.repeats,
        "losses": [
            {**config_entry(config), "loss": losses} for config, losses in zip(probe.configs, probe.losses, strict=True)
        ],
        "noise": probe.noise,
        "long_enough": probe.is_long_enough,
        "order_changes": probe.overtaking is not None,
        "suggested_epochs": probe.suggested_epochs,
    }


def _configuration_entry(rank: int, configuration: ConfigurationResult, standing: Standing) -> dict[str, Any]:
    folds = {"test_loss_per_fold": configuration.losses} if configuration.is_cross_validated else {}
    drop = configuration.drop
    return {
        "rank": None if configuration.failure else rank,
        **config_entry(configuration.config),
        **_layer_counts(configuration.config),
        "model_params": configuration.model_params,
        "final_test_loss": configuration.final_test_loss,
        "final_test_loss_sd": configuration.final_test_loss_sd,
        "standard_error": standing.standard_error,
        "difference_to_best": standing.difference,
        "difference_interval": standing.difference_interval,
        "tied": standing.is_tied,
        "pareto": standing.on_front,
        "status": configuration.status,
        "dropped_at_epoch": drop.epoch if drop else None,
        "loss_when_dropped": drop.loss if drop else None,
        **_stopping_entry(configuration),
        "test_loss_per_repeat": configuration.test_loss_per_repeat,
        **folds,
        "train_loss_per_repeat": configuration.train_loss_per_repeat,
        "curves": _curves_entry(configuration),
    }


def _stopping_entry(configuration: ConfigurationResult) -> dict[str, Any]:
    """Returns the epoch at which each training stopped and that of the weights it kept; None without early stopping."""
    trials = configuration.trials
    if not _stops_early(configuration):
        return {"stopped_epoch": None, "best_epoch": None}
    return {
        "stopped_epoch": [None if r.final_test_loss is None else len(r.test_losses) for r in trials],
        "best_epoch": [result.best_epoch for result in trials],
    }


def _curves_entry(configuration: ConfigurationResult) -> dict[str, Any]:
    trials = configuration.trials
    curves: dict[str, list[Any]] = {"train": [r.train_losses for r in trials], "test": [r.test_losses for r in trials]}
    if _stops_early(configuration):
        curves["validation"] = [[] if r.validation_losses is None else r.validation_losses for r in trials]
    return curves


def _stops_early(configuration: ConfigurationResult) -> bool:
    return any(result.validation_losses is not None for result in configuration.trials)


def to_plain(value: Any) -> Any:
    """Returns a value in the types of JSON: NumPy becomes numbers and lists, NaN and infinity become None.

    Raises:
        TypeError: a value has no place in a JSON file; the message names its type.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):  # np.float64 is one
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and np.isfinite(value).all():
        return value.tolist()  # curves, most of a document
    if isinstance(value, np.generic | np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, PathLike):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be written to JSON")


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Writes strict JSON (no NaN, no Infinity), indented by 2, with a list of numbers or words on one line."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(_json_pieces(to_plain(document), indent=""))
        file.write("\n")


def _json_pieces(value: Any, indent: str) -> Iterator[str]:
    """Yields a plain value as JSON text, piece by piece. Each curve stays on one line."""
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        opening, closing = "{", "}"
        items = [(f"{_leaf(key)}: ", item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        opening, closing = "[", "]"
        items = [("", item) for item in value]
    else:
        yield _leaf(value)
        return
    for number, (name, item) in enumerate(items):
        yield f"{',' if number else opening}\n{deeper}{name}"
        yield from _json_pieces(item, deeper)
    yield f"\n{indent}{closing}"


def _leaf(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


# The closing summary, in two parts: the pictures are drawn between them


def closing_summary(results: Results, saved_model: Path | None = None, *, time: str = "") -> str:
    """Returns the result and the verdict in a few lines, up to "Generating visualizations...".

    Args:
        results: of a search in which a configuration finished.
        saved_model: where the best model is going to be.
        time: as for `Results.statement`.
    """
    best, search = results.chosen, search_line(results)
    assert best is not None
    assert results.verdict is not None
    study = results.verdict.study
    loss = loss_text(best.final_test_loss, best.final_test_loss_sd)
    lines = [
        RULE,
        f"HYPERPARAMETER OPTIMIZATION {'COMPLETED' if results.is_complete else 'INTERRUPTED'}",
        RULE,
        *([search] if search else []),
        f"Best configuration: {config_text(best.config)}",
        f"Best final test loss: {loss}" + _averaged_over(best) + _interval_with_rows(results.verdict, best),
        f"Best model parameters: {best.model_params}",
        *([] if saved_model is None else [f"Best model saved: {saved_model}"]),
        "",
        *results.statement(time),
        *(["", *state_study(study)] if study else []),
    ]
    return "\n".join([*lines, "", "Generating visualizations..."])


def search_line(results: Results) -> str | None:
    """Returns `Search: halving, 125 of 125 configurations tried, 120 dropped early`; None for the full grid."""
    history = results.searched.history
    if history.strategy == FULL_GRID:
        return None
    fates = _fates(results.ranking)
    parts = [f"{len(results.ranking)} of {count(history.space_size, 'configuration')} tried"]
    parts += [f"{fates['dropped']} dropped early"] * (fates["dropped"] > 0)
    parts += [f"{fates['failed']} failed"] * (fates["failed"] > 0)
    return f"Search: {', '.join([history.strategy, *parts])}"


def _averaged_over(best: ConfigurationResult) -> str:
    over = [f"{best.folds} folds"] * best.is_cross_validated + [f"{best.repeats} repeats"] * (best.repeats > 1)
    return f" ({' x '.join(over)})" if over else ""


def closing_files(written: Mapping[str, Path]) -> str:
    """Returns the lines below "Generating visualizations...", which say where the files are.

    Args:
        written: paths by the field of `OutputFiles`; those that `ANNOUNCED` does not name are left out.
    """
    return "\n".join(f"{words}: {written[name]}" for name, words in ANNOUNCED.items() if name in written)


def _interval_with_rows(verdict: Verdict, best: ConfigurationResult) -> str:
    """Returns the interval that counts rows and trainings; the standard deviation is that of trainings alone."""
    if verdict.best_interval is None or best is not verdict.best:
        return ""
    low, high = map(loss_text, verdict.best_interval)
    return f", {percent(verdict.confidence)} interval {low} to {high}"
