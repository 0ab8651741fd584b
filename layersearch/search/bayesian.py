"""Bayesian search with Optuna's tree-structured Parzen estimator, as a strategy like those of `strategies.py`.

    study = make_study(42, ["loss"])
    plan = bayesian(space, study, n_trials=40, batch_size=2, seed=42, values_of=values_of)

Configurations are proposed in batches, and their results are told to the study in the order of the proposals. A
resumed search starts with an empty study and replays all proposals, with the results in the journal. It therefore
makes the same proposals as without the interruption, and trains nothing twice.

The estimator requires parameters with constant bounds: `layers` is the number of hidden layers, `width_1` the index of
the first width in the ascending list of widths, and `share_2`, `share_3`, … the index of each further width as a
fraction of the indices up to that of the previous layer, so that no layer is wider than the previous one. With the
arrangement "any" the further widths are indices as well: `width_2`, `width_3`, …

Sources: tree-structured Parzen estimator, Bergstra et al. 2011, https://papers.nips.cc/paper/4443; several
objectives, Ozaki et al. 2022, doi:10.1613/jair.1.13188.
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

STARTUP = 5  # number of configurations drawn at random before the estimator proposes any
PATIENCE = 20  # after so many proposals of known configurations in a row, a new one is drawn at random
STUDY_NAME = "hidden layers"
Values = list[float] | None  # the values of the objectives; None for a failed configuration


def make_study(seed: int, objectives: list[str], storage: BaseStorage | None = None) -> optuna.Study:
    """Returns an empty study that minimises objectives; Optuna's dashboard shows their names."""
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
    """Returns an empty Optuna storage in a file, which `optuna-dashboard PATH` can display during the search.

    The file of an earlier run of the same search is replaced, because the search replays all its results.

    Args:
        path: the file.
        search: digest of the search; the study in an existing file must have it as the attribute "search".
        fresh: whether to replace the file even if it belongs to another search.

    Raises:
        UsageError: the file belongs to another search, or is a folder.
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
    except Exception:  # Optuna raises various types for a foreign or damaged file
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
    """Returns a plan that proposes up to `n_trials` different configurations in batches.

    Args:
        space: the configurations to choose from.
        study: an empty study from `make_study`.
        n_trials: number of configurations; limited to the size of the space.
        batch_size: number of configurations that are proposed before the results of the first are known.
        seed: seed for configurations drawn at random when the estimator repeats itself.
        values_of: returns the values of the objectives for a configuration's result.
    """
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
    """Returns proposals, in order, that contain `n` different configurations without a result.

    If the study proposes a known configuration, it is told the result at once, and the proposal is not returned.
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
    """Draws a configuration that is not in `seen`, uniformly at random; there must be one."""
    if space.size > 2 * len(seen):
        while (config := space.sample(generator)) in seen:
            pass
        return config
    return generator.choice([config for config in space.configurations() if config not in seen])


# From parameters to configurations and back


def propose(space: Space, trial: optuna.Trial) -> Configuration:
    """Returns the configuration that a trial of the study proposes."""
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
    """Returns the parameters for which `propose` returns this configuration."""
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
