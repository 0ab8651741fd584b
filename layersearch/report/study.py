"""The results of a study in sentences, as a part of the JSON, and as a CSV file.

    print("\\n".join(state_study(study)))
    document["study"] = study_entry(study, first)
    write_study_csv(output_dir / "study_latent3.csv", study)

The statistics are in `verdict/study.py`, the picture is in `pictures/study.py`.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersearch.files import replacing
from layersearch.report.tables import LINE_END
from layersearch.space.factors import Factor
from layersearch.space.naming import config_text
from layersearch.verdict.study import Interaction, MainEffect, Study
from layersearch.words import change_text, count, is_told, level_text, percent

if TYPE_CHECKING:
    from layersearch.search.running import Searched

METHOD = (
    "contrasts in a full factorial design; luck of the rows by bootstrap, luck in training by Student's t over the "
    "differences within each repeat; the intervals of all main effects hold together, and so do those of all "
    "interactions (balanced: Beran 1988, Journal of the American Statistical Association 83, 679-686)"
)
NAMES = ("factor", "level", "reference")
CSV_COLUMNS = (
    *("kind", *NAMES, "with_factor", "with_level", "with_reference", "effect"),
    *("standard_error", "low", "high", "strongest", "epochs", "configurations", "repeats"),
)
LITTLE = 0.01  # share of the loss; a smaller effect does not matter


# Words


def state_study(study: Study) -> list[str]:
    """Returns the lines of the study, of which all but the first are indented."""
    if not study.main_effects:
        return [f"Study: of {_asked(study)} nothing can be compared.", *_left_out(study)]
    lines = [f"Study at {count(study.epochs, 'epoch')} (at other lengths the answer may differ): {_scope(study)}"]
    lines += [f"  {_effect_text(study, effect)}" for effect in study.main_effects]
    lines += [f"  {_strongest_text(study, study.strongest)}"] if study.strongest else []
    lines += [f"  {line}" for line in advise(study)]
    return lines + _left_out(study)


def _asked(study: Study) -> str:
    return ", ".join(factor.name for factor in study.asked)


def _scope(study: Study) -> str:
    n = len(study.layers)
    mean = f"mean change of {count(n, 'configuration')}" if n > 1 else f"change of {config_text(study.layers[0])}"
    return mean + (f"; {percent(study.confidence)} intervals that hold together" if study.is_known else "")


def _left_out(study: Study) -> list[str]:
    return [f"  Left out: {'; '.join(study.left_out)}."] if study.left_out else []


def _effect_text(study: Study, effect: MainEffect) -> str:
    """Returns `dropout 0 instead of 0.1: -0.0049 [-0.0056, -0.0042]`."""
    levels = f"{level_text(effect.level)} instead of {level_text(effect.reference)}"
    return f"{effect.factor} {levels}: {change_text(effect.estimate, effect.interval, study.mean_loss)}"


def _strongest_text(study: Study, strongest: Interaction) -> str:
    text = interaction_text(study, strongest)
    if strongest.interval and not is_told(strongest.interval):
        return f"No interaction can be told (the strongest: {text})."
    return f"Strongest interaction: {text}."


def interaction_text(study: Study, interaction: Interaction) -> str:
    """Returns `dropout 0 with normalization none, +0.0031 [+0.0020, +0.0042] on top of what each does alone`."""
    names = [f"{f} {level_text(level)}" for f, level in zip(interaction.factors, interaction.levels, strict=True)]
    change = change_text(interaction.estimate, interaction.interval, study.mean_loss)
    return f"{' with '.join(names)}, {change} on top of what each does alone"


def advise(study: Study) -> list[str]:
    """Returns what follows from the study for the user, in one or two lines."""
    if not study.is_known:
        if study.repeats * study.folds == 1:
            return ["No intervals: with one training each luck cannot be told from merit; --repeats 5 can tell."]
        return ["No intervals: a single row or group was scored."]
    give, keep, small, open_ = [], [], [], []
    least = LITTLE * study.mean_loss
    for factor in study.factors:
        effects = [effect for effect in study.main_effects if effect.factor == factor.name]
        told = [effect for effect in effects if is_told(effect.interval)]
        best = min(told, key=lambda effect: effect.estimate, default=None)
        if all(effect.interval and max(map(abs, effect.interval)) < least for effect in effects):
            small.append(factor.name)
        elif best is None:
            open_.append(factor.name)
        elif best.estimate < 0:
            give.append(f"--{factor.name} {level_text(best.level)}")
        else:
            keep.append(f"--{factor.name} {level_text(best.reference)}")
    parts = [f"a lower loss comes with {' '.join(give)}"] if give else []
    parts += [f"nothing here beats {' '.join(keep)}"] if keep else []
    parts += [f"less than {percent(LITTLE)} of the loss depends on {' and '.join(small)}"] if small else []
    parts += [f"no difference can be told for {' and '.join(open_)}"] if open_ else []
    text = "; ".join(parts)
    lines = [f"{text[0].upper()}{text[1:]}."]
    if study.strongest and is_told(study.strongest.interval) and give:
        lines.append("They do not simply add up: choose the combination by the verdict rather than each by itself.")
    return lines


# JSON


def study_entry(study: Study, first: Searched | None) -> dict[str, Any]:
    """Returns the entry `study` of the results, as `results_schema.json` describes it.

    Args:
        study: the study.
        first: the search that chose the study's configurations, if one did.
    """
    return {
        "statement": state_study(study),
        "method": METHOD,
        "epochs": study.epochs,
        "confidence": study.confidence,
        "factors": [_factor_entry(study, factor) for factor in study.asked],
        "configurations": study.layers,
        "repeats": study.repeats,
        "left_out": study.left_out,
        "main_effects": [_effect_entry(effect) for effect in study.main_effects],
        "interactions": [_effect_entry(interaction) for interaction in study.interactions],
        "strongest_interaction": _effect_entry(study.strongest) if study.strongest else None,
        "first_stage": _first_stage(first) if first else None,
    }


def _factor_entry(study: Study, factor: Factor) -> dict[str, Any]:
    kept = next((some for some in study.factors if some.name == factor.name), None)
    means = dict(zip(kept.levels, study.mean_losses(factor.name).tolist(), strict=True)) if kept else {}
    return {
        "name": factor.name,
        "levels": factor.levels,
        "reference": study.references.get(factor.name),
        "mean_losses": [means.get(level) for level in factor.levels],
    }


def _effect_entry(effect: MainEffect | Interaction) -> dict[str, Any]:
    return {"effect" if name == "estimate" else name: value for name, value in effect._asdict().items()}


def _first_stage(first: Searched) -> dict[str, Any]:
    ranking = [
        {"config": c.config, "model_params": c.model_params, "final_test_loss": c.final_test_loss, "status": c.status}
        for c in first.ranking
    ]
    return {"strategy": first.history.strategy, "ranking": ranking}


# CSV


def write_study_csv(path: Path, study: Study) -> None:
    """Writes one row an effect: the main effects, then the interactions."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator=LINE_END)
        writer.writeheader()
        effects: list[MainEffect | Interaction] = [*study.main_effects, *study.interactions]
        writer.writerows(_csv_row(study, effect) for effect in effects)


def _csv_row(study: Study, effect: MainEffect | Interaction) -> dict[str, Any]:
    if isinstance(effect, MainEffect):
        names = {"kind": "main effect", **dict(zip(NAMES, effect[:3], strict=True))}
    else:
        one, other = zip(effect.factors, effect.levels, effect.references, strict=True)
        names = {"kind": "interaction", "strongest": effect == study.strongest, **dict(zip(NAMES, one, strict=True))}
        names |= {f"with_{name}": value for name, value in zip(NAMES, other, strict=True)}
    low, high = effect.interval or (None, None)
    return names | {
        "effect": effect.estimate,
        "standard_error": effect.standard_error,
        "low": low,
        "high": high,
        "epochs": study.epochs,
        "configurations": len(study.layers),
        "repeats": study.repeats,
    }
