"""Bayesian search, with Optuna as the engine.

    study = make_study(42, ["loss"])
    plan = bayesian(space, study, n_trials=40, batch_size=2, seed=42, values_of=values_of)

It keeps the form of `strategies.py`. Configurations are proposed in batches and told back in the order in which they
were asked for, and every run tells the study from its start: what is known is answered at once, so that an
interrupted search proposes what it would have proposed. Nothing is trained twice.

Every parameter has bounds of its own that never change. `layers`; `width_1`, a position in the ascending list of
widths; and `share_2`, …: how far up the list, as a share of the positions that the layer before leaves, so that no
layer is wider than the one before it. The tree-structured Parzen estimator: Bergstra et al. 2011,
https://papers.nips.cc/paper/4443; several objectives: Ozaki et al. 2022, doi:10.1613/jair.1.13188.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as StudyState

from layersearch.errors import UsageError
from layersearch.randomness import stream_key
from layersearch.search.strategies import Batch, Plan
from layersearch.space.configurations import Configuration, Space, Widths, decoder_dims, encoder_dims, join_dims
from layersearch.space.ranking import ConfigurationResult

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

STARTUP = 5  # trials drawn at random before the first proposal
PATIENCE = 20  # proposals in a row of what is known already, before one is drawn at random
STUDY_NAME = "hidden layers"
Values = list[float] | None  # of the objectives; None: failed


def make_study(seed: int, objectives: list[str], storage: BaseStorage | None = None) -> optuna.Study:
    """An empty study that minimises these objectives, by the names that Optuna's pictures will show."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=stream_key(seed, "bayesian search") % 2**32,
            n_startup_trials=STARTUP,
            multivariate=True,
            group=True,
            constant_liar=True,
        )
        study = optuna.create_study(
            directions=["minimize"] * len(objectives), sampler=sampler, storage=storage, study_name=STUDY_NAME
        )
        study.set_metric_names(objectives)
    return study


def open_storage(path: Path, search: str, *, fresh: bool) -> BaseStorage:
    """An empty journal file for Optuna, in place of the one of an earlier run of the same `search`.

    What it held comes again: everything is told from the start. `optuna-dashboard PATH` shows it, also meanwhile.

    Raises:
        UsageError: the file is another search's.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; move it, or give another --output_dir")
    if path.exists():
        if not fresh and _search_of(path) != search:
            raise UsageError(
                f"{path} is the study of another search; give another --output_dir, or --fresh to start anew"
            )
        path.unlink()
    return JournalStorage(JournalFileBackend(str(path)))


def _search_of(path: Path) -> str | None:
    try:
        study = optuna.load_study(study_name=STUDY_NAME, storage=JournalStorage(JournalFileBackend(str(path))))
        return str(study.user_attrs.get("search"))
    except Exception:  # whatever Optuna makes of a file that is none of its own, or damaged
        return None


def bayesian(
    space: Space,
    study: optuna.Study,
    *,
    n_trials: int,
    batch_size: int,
    seed: int,
    values_of: Callable[[ConfigurationResult], Values],
) -> Plan:
    """Up to `n_trials` different configurations, `batch_size` at a time."""
    generator = random.Random(stream_key(seed, "bayesian search", "when stuck"))
    known: dict[Configuration, Values] = {}
    n_trials = min(n_trials, space.size)
    while len(known) < n_trials:
        asked = _ask(space, study, known, min(batch_size, n_trials - len(known)), generator)
        new = list(dict.fromkeys(config for _, config in asked if config not in known))
        results = yield Batch(new)
        known |= {config: values_of(result) for config, result in zip(new, results, strict=True)}
        for trial, config in asked:
            _tell(study, trial, known[config])


def _ask(
    space: Space, study: optuna.Study, known: Mapping[Configuration, Values], n: int, generator: random.Random
) -> list[tuple[optuna.Trial, Configuration]]:
    """Proposals among which are `n` configurations that are not known, in the order of asking.

    One that is known is told at once, and so is not among them.
    """
    asked: list[tuple[optuna.Trial, Configuration]] = []
    new: set[Configuration] = set()
    in_vain = 0
    while len(new) < n:
        if in_vain == PATIENCE:
            unseen = _draw_unseen(space, known.keys() | new, generator)
            study.enqueue_trial(parameters_of(space, unseen))
        trial = study.ask()
        config = propose(space, trial)
        trial.set_user_attr("configuration", str(config))
        if config in known:
            _tell(study, trial, known[config])
        else:
            asked.append((trial, config))
        in_vain = 0 if config not in known and config not in new else in_vain + 1
        if config not in known:
            new.add(config)
    return asked


def _tell(study: optuna.Study, trial: optuna.Trial, values: Values) -> None:
    if values is None:
        study.tell(trial, state=StudyState.FAIL)
    else:
        study.tell(trial, values)


def _draw_unseen(space: Space, seen: set[Configuration], generator: random.Random) -> Configuration:
    """One that was not yet proposed, each as likely as any other; there must be one."""
    if space.size > 2 * len(seen):
        while (config := space.sample(generator)) in seen:
            pass
        return config
    return generator.choice([config for config in space.configurations() if config not in seen])


# From parameters to configurations and back


def propose(space: Space, trial: optuna.Trial) -> Configuration:
    """The configuration that the study proposes."""
    if space.arrangement == "asymmetric":
        return join_dims(_half(space, trial, "encoder_"), _half(space, trial, "decoder_")[::-1])
    return space.complete(_half(space, trial, ""))


def _half(space: Space, trial: optuna.Trial, prefix: str) -> Widths:
    widths = sorted(set(space.widths))
    layers = trial.suggest_int(f"{prefix}layers", 1, space.max_layers)
    places = [trial.suggest_int(f"{prefix}width_1", 0, len(widths) - 1)]
    for layer in range(2, layers + 1):
        if space.arrangement == "any":
            places.append(trial.suggest_int(f"{prefix}width_{layer}", 0, len(widths) - 1))
        else:
            share = trial.suggest_float(f"{prefix}share_{layer}", 0, 1)
            places.append(min(int(share * (places[-1] + 1)), places[-1]))
    return tuple(widths[place] for place in places)


def parameters_of(space: Space, config: Configuration) -> dict[str, float]:
    """What `propose` makes this configuration from."""
    if space.arrangement == "asymmetric":
        encoder, decoder = encoder_dims(config), decoder_dims(config)[::-1]
        return _half_parameters(space, encoder, "encoder_") | _half_parameters(space, decoder, "decoder_")
    return _half_parameters(space, space.half_of(config), "")


def _half_parameters(space: Space, half: Widths, prefix: str) -> dict[str, float]:
    widths = sorted(set(space.widths))
    places = [widths.index(width) for width in half]
    parameters: dict[str, float] = {f"{prefix}layers": len(half), f"{prefix}width_1": places[0]}
    for layer, (before, place) in enumerate(pairwise(places), start=2):
        if space.arrangement == "any":
            parameters[f"{prefix}width_{layer}"] = place
        else:
            parameters[f"{prefix}share_{layer}"] = (place + 0.5) / (before + 1)
    return parameters
