"""A search that starts from a saved model: `--init_from` and `--freeze_encoder`, and what they ask of table and space.

    source = find_source(arguments)
    scaling, notices = stored_scaling(arguments, dataset, source)
    space = behind_encoder(space, source)

The saved model's weights were learnt on values scaled by its own table. Where this table has the same columns, that
scaling is used here too, for all folds: so nothing is fitted on this table, and nothing can leak. The weights
themselves are up to `weights.py`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dataset import COPUSDataset, Scaling
from layersearch.command.values import DEFAULT_SCALING
from layersearch.engines.lifecycle import build_model
from layersearch.engines.settings import TrainingSettings
from layersearch.engines.weights import Source, read_source
from layersearch.errors import UsageError
from layersearch.space.configurations import Space
from layersearch.space.naming import config_text

if TYPE_CHECKING:
    from layersearch.loading.loaded import Loaded
    from layersearch.space.ranking import ConfigurationResult

MANY_CLIPPED = 0.05  # of the cells, beyond the range of another table's scaling; of its own it is at most 0.02


def find_source(arguments: argparse.Namespace) -> Source | None:
    """The saved model that `--init_from` names; None without it.

    Raises:
        UsageError: it cannot be read, or `--freeze_encoder` asks for another encoder than it has.
    """
    if arguments.init_from is None:
        return None
    try:
        source = read_source(arguments.init_from, freezes=arguments.freeze_encoder)
    except (OSError, ValueError) as error:
        fault = str(error).removeprefix(f"{Path(arguments.init_from)}: ")
        raise UsageError(f"--init_from {arguments.init_from!r}: {fault}") from None
    if arguments.freeze_encoder:
        _check_frozen(arguments, source)
    return source


def _check_frozen(arguments: argparse.Namespace, source: Source) -> None:
    for name in ("latent_dim", "normalization", "input_normalization"):
        ours, theirs = getattr(arguments, name), getattr(source.model, name)
        if ours != theirs:
            raise UsageError(
                f"--{name} {ours}: the encoder that --freeze_encoder keeps has {theirs}; give --{name} {theirs}"
            )
    if source.origin is None:
        raise UsageError(
            f"--freeze_encoder: no results beside {source.path} name it, so its columns and their scaling are not "
            f"known; put its hyperparam_results_latent{source.model.latent_dim}.json there"
        )


def stored_scaling(
    arguments: argparse.Namespace, dataset: COPUSDataset, source: Source
) -> tuple[Scaling | None, list[str]]:
    """The saved model's scaling, where this table is to have it, and what the user should know about the start.

    Raises:
        UsageError: the encoder is frozen and the table has other columns.
    """
    model, origin = source.model, source.origin
    shape = f"{config_text(source.config)}, latent dimension {model.latent_dim}, {source.n_parameters} parameters"
    frozen = "its encoder stays as it is, and " if source.start.freezes else ""
    notices = [f"starting from {source.path}: {shape}; {frozen}the verdict holds for this start alone"]
    for name in ("normalization", "input_normalization"):
        if getattr(arguments, name) != getattr(model, name):
            notices.append(f"that model was trained with --{name} {getattr(model, name)}")
    own = "the scaling is fitted on this table, and weights are taken column by column as they come"
    if origin is None:
        return None, [*notices, f"no results beside {source.path} name it, so its columns are not known: {own}"]
    if origin.has_other_split(dataset.sha256, vars(arguments)):
        notices.append(
            "that model was trained on this very table, split in another way: it may have seen rows that test here, "
            "so losses may look better than they are"
        )
    if origin.columns != dataset.columns:
        which = f"that model was trained on other columns ({_first_difference(origin.columns, dataset.columns)})"
        if source.start.freezes:
            raise UsageError(f"--freeze_encoder: {which}; give a table with its columns, or name them with --columns")
        return None, [*notices, f"{which}: {own}"]
    if arguments.scaling is not DEFAULT_SCALING:
        return None, [*notices, f"--scaling {arguments.scaling} is used, not the scaling of that model"]
    scaling = Scaling.from_dict(origin.results["data"]["scaling"])
    notices.append("values are scaled as that model's were")
    share = _share_clipped(scaling, dataset.data)
    if share > MANY_CLIPPED:
        notices.append(f"{share:.0%} of the cells lie beyond the range of that scaling and are clipped to it")
    return scaling, notices


def _first_difference(theirs: list[str], ours: list[str]) -> str:
    if len(theirs) != len(ours):
        return f"{len(theirs)}, here {len(ours)}"
    return next(f"'{one}' where this has '{other}'" for one, other in zip(theirs, ours, strict=True) if one != other)


def _share_clipped(scaling: Scaling, values: torch.Tensor) -> float:
    """Of the observed cells."""
    if scaling.kind != "robust":
        return 0.0
    low, high = (torch.as_tensor(bound, device=values.device) for bound in (scaling.low, scaling.high))
    beyond = (values < low) | (values > high)
    return float(beyond.sum() / (~values.isnan()).sum())


def behind_encoder(space: Space, source: Source | None) -> Space:
    """The space of decoders behind the saved encoder, if that stays as it is; else the space itself."""
    return replace(space, encoder=source.encoder) if source and source.start.freezes else space


def describe_start(
    loaded: Loaded, settings: TrainingSettings, chosen: ConfigurationResult | None
) -> dict[str, Any] | None:
    """The `init_from` part of the results; None where nothing was started from."""
    source = loaded.source
    if source is None:
        return None
    taken = None
    if chosen:
        taken = source.start.give(build_model(chosen.trials[0].trial, loaded.table.input_dim, settings))
    return {
        "file": source.path.as_posix(),
        "sha256": source.sha256,
        "config": source.config,
        "latent_dim": source.model.latent_dim,
        "model_params": source.n_parameters,
        "taken": taken,
        "frozen": source.start.freezes,
        "stored_scaling": loaded.is_scaling_stored,
    }
