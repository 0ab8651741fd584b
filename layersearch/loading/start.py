"""Searches that start from a saved model (`--init_from`, `--freeze_encoder`): what they require.

    source = find_source(start_options, training_options, latent_dim=3)
    scaling, notices = stored_scaling(data_options, training_options, dataset, source, seed=42)
    space = behind_encoder(space, source)

The weights of the saved model were learnt on values scaled for its own table. If this table has the same columns, all
folds use that scaling too. No scaling is then fitted on this table, so none can leak information from the test rows.
`engines/weights.py` transfers the weights themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dataset import COPUSDataset, Scaling
from layersearch.engines.lifecycle import build_model
from layersearch.engines.settings import TrainingSettings
from layersearch.engines.weights import Source, read_source
from layersearch.errors import UsageError
from layersearch.options import DataOptions, StartOptions, TrainingOptions
from layersearch.space.configurations import Space
from layersearch.space.naming import config_text
from layersearch.space.ranking import ConfigurationResult

MANY_CLIPPED = 0.05  # a larger share of clipped cells gets a notice; with a table's own scaling it is at most 0.02


def find_source(start: StartOptions, training: TrainingOptions, latent_dim: int) -> Source | None:
    """Reads the saved model that `--init_from` names; returns None without it.

    Raises:
        UsageError: The model cannot be read, or its encoder does not fit the options although it is to be frozen.
    """
    if start.init_from is None:
        return None
    try:
        source = read_source(start.init_from, freezes=start.freeze_encoder)
    except (OSError, ValueError) as error:
        fault = str(error).removeprefix(f"{Path(start.init_from)}: ")
        raise UsageError(f"--init_from {start.init_from!r}: {fault}") from None
    if start.freeze_encoder:
        _check_frozen({"latent_dim": latent_dim, **vars(training)}, source)
    return source


def _check_frozen(options: Mapping[str, Any], source: Source) -> None:
    for name in ("latent_dim", "normalization", "input_normalization"):
        ours, theirs = options[name], getattr(source.model, name)
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
    data: DataOptions, training: TrainingOptions, dataset: COPUSDataset, source: Source, *, seed: int
) -> tuple[Scaling | None, list[str]]:
    """Returns the saved model's scaling (None if this table gets its own) and notices about the start.

    Raises:
        UsageError: The encoder is frozen and the table has other columns.
    """
    model, origin = source.model, source.origin
    shape = f"{config_text(source.config)}, latent dimension {model.latent_dim}, {source.n_parameters} parameters"
    frozen = "its encoder stays as it is, and " if source.start.freezes else ""
    notices = [f"starting from {source.path}: {shape}; {frozen}the verdict holds for this start alone"]
    for name in ("normalization", "input_normalization"):
        if getattr(training, name) != getattr(model, name):
            notices.append(f"that model was trained with --{name} {getattr(model, name)}")
    own = "the scaling is fitted on this table, and weights are taken column by column as they come"
    if origin is None:
        return None, [*notices, f"no results beside {source.path} name it, so its columns are not known: {own}"]
    if origin.has_other_split(dataset.sha256, {"seed": seed, **vars(data)}):
        notices.append(
            "that model was trained on this very table, split in another way: it may have seen rows that test here, "
            "so losses may look better than they are"
        )
    if origin.columns != dataset.columns:
        which = f"that model was trained on other columns ({_first_difference(origin.columns, dataset.columns)})"
        if source.start.freezes:
            raise UsageError(f"--freeze_encoder: {which}; give a table with its columns, or name them with --columns")
        return None, [*notices, f"{which}: {own}"]
    if data.scaling is not None:
        return None, [*notices, f"--scaling {data.scaling} is used, not the scaling of that model"]
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
    """Returns the share of the observed cells that lie beyond the range of the scaling."""
    if scaling.kind != "robust":
        return 0.0
    low, high = (torch.as_tensor(bound, device=values.device) for bound in (scaling.low, scaling.high))
    beyond = (values < low) | (values > high)
    return float(beyond.sum() / (~values.isnan()).sum())


def behind_encoder(space: Space, source: Source | None) -> Space:
    """Returns the space, restricted to decoders for the saved encoder if that is frozen."""
    return replace(space, encoder=source.encoder) if source and source.start.freezes else space


def describe_start(
    source: Source | None,
    is_scaling_stored: bool,
    chosen: ConfigurationResult | None,
    input_dim: int,
    settings: TrainingSettings,
) -> dict[str, Any] | None:
    """Returns the `init_from` part of the results; None if the search did not start from a saved model."""
    if source is None:
        return None
    taken = None
    if chosen:
        taken = source.start.give(build_model(chosen.trials[0].trial, input_dim, settings))
    return {
        "file": source.path.as_posix(),
        "sha256": source.sha256,
        "config": source.config,
        "latent_dim": source.model.latent_dim,
        "model_params": source.n_parameters,
        "taken": taken,
        "frozen": source.start.freezes,
        "stored_scaling": is_scaling_stored,
    }
