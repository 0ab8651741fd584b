"""Everything written for people but the pictures: JSON, CSV, .pth and the closing summary.

    document = results_document(findings, args=…, environment=…, data=…, timing=…)
    write_json(output_dir / "hyperparam_results_latent3.json", document)
    write_csv(output_dir / "hyperparam_results_latent3.csv", findings)
    print(closing_summary(findings.chosen, saved_model))

`results_schema.json` describes the JSON field by field. Importing this module is cheap: torch and
pandas come in only where a function needs them. Pictures are in `plots.py` and `latent_plots.py`.

Source on formula injection: OWASP, "CSV Injection",
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from files import replacing
from search import TrialResult
from selection import ConfigurationResult

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from probe import Probe
    from verdict import Baseline, Estimate, Standing, Verdict

FORMAT_VERSION = 1
METHOD = (
    "multiple comparisons with the best (Hsu 1984, Annals of Statistics 12, 1136-1144); critical values of the largest "
    "standardised difference from a bootstrap over rows or groups and Student's t over trainings, whose variances are "
    "moderated (Smyth 2004, doi:10.2202/1544-6115.1027)"
)
LINE_END = "\r\n"  # RFC 4180; also what makes writers put quotes around a cell with a line break of either kind
RULE = "=" * 70


# Words shared by the summary and the pictures


def config_text(config: Sequence[int]) -> str:
    """`[64, 32]`, as everywhere in the program's output."""
    return "[" + ", ".join(str(width) for width in config) + "]"


def loss_text(loss: float, sd: float | None = None) -> str:
    """`0.0379`, or `0.0379 ± 0.0012`: at least 4 decimals below 1, 5 significant digits from 1 on."""
    exponent = math.floor(math.log10(abs(loss))) if loss else 0
    decimals = max(0, 4 - exponent) if exponent >= 0 else max(4, 2 - exponent)
    return f"{loss:.{decimals}f}" if sd is None else f"{loss:.{decimals}f} ± {sd:.{decimals}f}"


def percent(share: float) -> str:
    """`95 %`, `99.5 %`."""
    return f"{100 * share:.6g} %"


# JSON


@dataclass(frozen=True)
class Findings:
    """All that a search found, for the files; nothing but the ranking if every configuration failed."""

    ranking: Sequence[ConfigurationResult]  # best first, failed ones last
    verdict: Verdict | None = None
    statement: Sequence[str] = ()  # the verdict in words
    chosen: ConfigurationResult | None = None  # by --select
    trained: TrialResult | None = None  # the training of it that is saved and drawn
    honest: Estimate | None = None  # its loss on the test rows, where it was chosen on folds
    probe: Probe | None = None
    model_info: Mapping[str, Any] | None = None
    saved_model_file: str | None = None
    is_complete: bool = True  # not interrupted
    n_configurations: int = 0  # asked for; more than those of `ranking` if it was interrupted


def results_document(
    findings: Findings,
    *,
    args: Mapping[str, Any],
    environment: Mapping[str, Any],
    data: Mapping[str, Any],
    timing: Mapping[str, float],
    timestamp: str | None = None,
) -> dict[str, Any]:
    """The whole result as one plain document, in the form of `results_schema.json`.

    `timestamp` is ISO 8601 with an offset, now by default. But for `timestamp` and `timing` the same search gives the
    same document (except that a Pareto front over time depends on time). If every configuration failed,
    `best_configuration` and `verdict` are None.
    """
    from verdict import Standing

    verdict = findings.verdict
    standings = verdict.standings if verdict else {}
    document = {
        "format_version": FORMAT_VERSION,
        "timestamp": timestamp or datetime.now().astimezone().isoformat(timespec="seconds"),
        "args": args,
        "environment": environment,
        "data": data,
        "timing": timing,
        "complete": findings.is_complete,
        "total_configurations": findings.n_configurations or len(findings.ranking),
        "best_configuration": _best_configuration(findings),
        "verdict": _verdict_entry(findings, verdict) if verdict else None,
        "pareto_front": [_brief(configuration) for configuration in verdict.front] if verdict else [],
        "all_results": [
            _configuration_entry(rank, configuration, standings.get(configuration.config, Standing()))
            for rank, configuration in enumerate(findings.ranking, start=1)
        ],
    }
    plain: dict[str, Any] = to_plain(document)
    return plain


def _best_configuration(findings: Findings) -> dict[str, Any] | None:
    chosen, trained, honest = findings.chosen, findings.trained, findings.honest
    if chosen is None:
        return None
    model = trained and {
        "repeat": trained.trial.repeat + 1,
        "train_loss": trained.final_train_loss,
        "test_loss": trained.final_test_loss,
    }
    file = findings.saved_model_file
    return {
        "config": chosen.config,
        "num_layers": len(chosen.config),
        "final_test_loss": chosen.final_test_loss,
        "final_test_loss_sd": chosen.final_test_loss_sd,
        "honest_test_loss": honest.loss if honest else None,
        "honest_test_loss_interval": honest.interval if honest else None,
        "model_params": chosen.model_params,
        "model_info": findings.model_info,
        "model": model,
        "saved_model": {"file": file, **model} if file and model else None,
    }


def _brief(configuration: ConfigurationResult) -> dict[str, Any]:
    return {
        "config": configuration.config,
        "model_params": configuration.model_params,
        "final_test_loss": configuration.final_test_loss,
    }


def _verdict_entry(findings: Findings, verdict: Verdict) -> dict[str, Any]:
    known = verdict.is_known
    return {
        "statement": findings.statement,
        "method": METHOD,
        "confidence": verdict.confidence,
        "resampled": verdict.resampled,
        "n_resampled": verdict.n_resampled,
        "best_measured": _brief(verdict.best),
        "recommended": _brief(verdict.simplest),
        "proven": verdict.is_proven if known else None,
        "tied": [configuration.config for configuration in verdict.tied] if known else None,
        "optimism": verdict.optimism,
        "repeats_to_settle": verdict.repeats_to_settle,
        "objectives": verdict.objectives,
        "baselines": [_baseline_entry(baseline) for baseline in verdict.baselines],
        "probe": _probe_entry(findings.probe) if findings.probe else None,
    }


def _baseline_entry(baseline: Baseline) -> dict[str, Any]:
    return {
        "name": baseline.name,
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
            {"config": config, "loss": losses} for config, losses in zip(probe.configs, probe.losses, strict=True)
        ],
        "noise": probe.noise,
        "long_enough": probe.is_long_enough,
        "order_changes": probe.overtaking is not None,
        "suggested_epochs": probe.suggested_epochs,
    }


def _configuration_entry(rank: int, configuration: ConfigurationResult, standing: Standing) -> dict[str, Any]:
    folds = {"test_loss_per_fold": configuration.losses} if configuration.is_cross_validated else {}
    return {
        "rank": None if configuration.failure else rank,
        "config": configuration.config,
        "num_layers": len(configuration.config),
        "model_params": configuration.model_params,
        "final_test_loss": configuration.final_test_loss,
        "final_test_loss_sd": configuration.final_test_loss_sd,
        "standard_error": standing.standard_error,
        "difference_to_best": standing.difference,
        "difference_interval": standing.difference_interval,
        "probability_best": standing.probability_best,
        "tied": standing.is_tied,
        "pareto": standing.on_front,
        "status": configuration.status,
        "test_loss_per_repeat": configuration.test_loss_per_repeat,
        **folds,
        "train_loss_per_repeat": configuration.train_loss_per_repeat,
        "curves": {
            "train": [result.train_losses for result in configuration.trials],
            "test": [result.test_losses for result in configuration.trials],
        },
    }


def to_plain(value: Any) -> Any:
    """The same value in what JSON knows: NumPy becomes numbers and lists, NaN and infinity become None.

    Raises TypeError, naming the type, for anything that has no place in a JSON file.
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
    """Strict JSON (no NaN, no Infinity), indented by 2, a list of numbers or words on one line."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(_json_pieces(to_plain(document), indent=""))
        file.write("\n")


def _json_pieces(value: Any, indent: str) -> Iterator[str]:
    """A plain value as JSON text, piece by piece: curves stay on one line each, all else is spread out."""
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


# Tables for a spreadsheet


CSV_COLUMNS = (
    *("rank", "configuration", "num_layers", "model_params", "final_test_loss", "final_test_loss_sd"),
    *("standard_error", "difference_to_best", "difference_low", "difference_high", "probability_best", "tied"),
)


def write_csv(path: Path, findings: Findings) -> None:
    """The ranking, one row a configuration, then the baselines; what a row lacks is empty.

    A configuration is written `[64, 32]`, brackets and all: a spreadsheet takes `6-4` for a date and
    `64,32` for a number.
    """
    from verdict import Standing

    repeats = max((configuration.repeats for configuration in findings.ranking), default=0)
    per_repeat = [f"test_loss_repeat_{repeat}" for repeat in range(1, repeats + 1)]
    verdict = findings.verdict
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*CSV_COLUMNS, *per_repeat, "pareto", "status"], lineterminator=LINE_END)
        writer.writeheader()
        for rank, configuration in enumerate(findings.ranking, start=1):
            standing = verdict.standings.get(configuration.config, Standing()) if verdict else Standing()
            row = _csv_row(rank, configuration, standing)
            writer.writerow(row | dict(zip(per_repeat, configuration.test_loss_per_repeat, strict=False)))
        for baseline in verdict.baselines if verdict else ():
            row = {"configuration": baseline.name, "final_test_loss": baseline.loss, "status": "baseline"}
            low, high = baseline.difference_interval or (None, None)
            signs = {"difference_to_best": -baseline.difference}
            signs |= {"difference_low": -high, "difference_high": -low} if low is not None and high is not None else {}
            writer.writerow(row | signs)


def _csv_row(rank: int, configuration: ConfigurationResult, standing: Standing) -> dict[str, Any]:
    failed = configuration.failure is not None
    low, high = standing.difference_interval or (None, None)
    return {
        "rank": None if failed else rank,
        "configuration": config_text(configuration.config),
        "num_layers": len(configuration.config),
        "model_params": configuration.model_params,
        "final_test_loss": None if failed else configuration.final_test_loss,
        "final_test_loss_sd": configuration.final_test_loss_sd,
        "standard_error": standing.standard_error,
        "difference_to_best": standing.difference,
        "difference_low": low,
        "difference_high": high,
        "probability_best": standing.probability_best,
        "tied": standing.is_tied,
        "pareto": standing.on_front,
        "status": configuration.status,
    }


def write_latent_codes(
    path: Path,
    codes: np.ndarray,
    errors: np.ndarray,
    is_test: np.ndarray,
    row_numbers: np.ndarray,
    others: pd.DataFrame,
) -> None:
    """One row an observation, in the table's order: what the best model makes of it, and who it is.

    codes [N, L] latent coordinates · errors [N] reconstruction error · is_test [N] bool · row_numbers [N] row of
    the table as a spreadsheet shows it · others: its N rows of ID and label columns. Columns: `row`, `latent_1` …,
    `reconstruction_error`, `split` (train or test), then `others`, where a name that is taken gets
    ` (table)` behind it. Text that a spreadsheet would run as a formula gets a `'` in front.
    """
    import pandas as pd

    own = pd.DataFrame({"row": row_numbers})
    for dimension in range(codes.shape[1]):
        own[f"latent_{dimension + 1}"] = codes[:, dimension]
    own["reconstruction_error"] = errors
    own["split"] = np.where(is_test, "test", "train")

    theirs = others.reset_index(drop=True)
    theirs.columns = pd.Index(free_names([_harmless(str(name)) for name in theirs.columns], taken=list(own.columns)))
    theirs = theirs.apply(_harmless_column)
    with replacing(path) as temporary:
        pd.concat([own, theirs], axis=1).to_csv(temporary, index=False, encoding="utf-8", lineterminator=LINE_END)


def free_names(names: Iterable[str], taken: Collection[str]) -> list[str]:
    """`names`, each followed by ` (table)`, ` (table 2)`, … where it is taken or came before."""
    used = set(taken)
    free: list[str] = []
    for name in names:
        candidate, attempt = name, 0
        while candidate in used:
            attempt += 1
            candidate = f"{name} (table)" if attempt == 1 else f"{name} (table {attempt})"
        used.add(candidate)
        free.append(candidate)
    return free


def _harmless_column(column: pd.Series[Any]) -> pd.Series[Any]:
    from pandas.api import types

    if types.is_numeric_dtype(column) or types.is_datetime64_any_dtype(column):
        return column
    return column.astype(object).map(_harmless, na_action="ignore")


FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def _harmless(cell: Any) -> Any:
    """Text that begins like a formula, with `'` in front; a number in text form stays as it is."""
    if not isinstance(cell, str) or _NUMBER.fullmatch(cell.strip()):
        return cell
    is_formula = cell.startswith(("\t", "\r", "\n")) or cell.lstrip().startswith(FORMULA_STARTS)
    return "'" + cell if is_formula else cell


# The best model


def save_state_dict(path: Path, state_dict: Mapping[str, torch.Tensor]) -> None:
    """A plain state_dict, tensors on the CPU and nothing else: `torch.load(path, weights_only=True)`."""
    import torch

    buffer = io.BytesIO()  # torch.save puts a file's name into the file; a temporary one must not end up there
    torch.save({name: tensor.detach().cpu().clone() for name, tensor in state_dict.items()}, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


# The closing summary, in two parts: the pictures are drawn between them


def closing_summary(
    best: ConfigurationResult,
    saved_model: Path | None = None,
    statement: Sequence[str] = (),
    *,
    is_complete: bool = True,
) -> str:
    """The result and the verdict in a few lines, up to "Generating visualizations..."; `best` is the chosen one."""
    repeats = best.repeats
    loss = loss_text(best.final_test_loss, best.final_test_loss_sd)
    lines = [
        RULE,
        f"HYPERPARAMETER OPTIMIZATION {'COMPLETED' if is_complete else 'INTERRUPTED'}",
        RULE,
        f"Best configuration: {config_text(best.config)}",
        f"Best final test loss: {loss}" + _averaged_over(best.folds if best.is_cross_validated else 0, repeats),
        f"Best model parameters: {best.model_params}",
    ]
    if saved_model is not None:
        lines.append(f"Best model saved: {saved_model}")
    verdict = ["", *statement] if statement else []
    return "\n".join([*lines, *verdict, "", "Generating visualizations..."])


def _averaged_over(folds: int, repeats: int) -> str:
    over = [f"{folds} folds"] * (folds > 0) + [f"{repeats} repeats"] * (repeats > 1)
    return f" ({' x '.join(over)})" if over else ""


def closing_files(
    search_plot: Path, configurations_plot: Path, verdict_plot: Path, results: Path, latent_plot: Path | None = None
) -> str:
    """Where the pictures and the results lie: the lines below "Generating visualizations..."."""
    lines = [
        f"Performance plot: {search_plot}",
        f"Configuration scatter: {configurations_plot}",
        f"Verdict plot: {verdict_plot}",
    ]
    if latent_plot is not None:
        lines.append(f"Latent space plot: {latent_plot}")
    return "\n".join([*lines, f"Results saved: {results}"])
