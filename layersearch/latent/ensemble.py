"""Ensembles of trained models (`--ensemble`): their mean, their common latent space and their disagreement.

    ensemble, notices = assemble("tied", ranking, verdict, single, loaded, training, repeats=5, is_copus=True)
    ensemble.ensemble.encode_rows(scaled)                    # codes, errors, disagreement, latent_spread
    ensemble = load_ensemble("output/ensemble_latent3.pth")  # the file that a finished search wrote

The ensemble reconstructs a row as the mean of its members' reconstructions. The program's loss is a weighted mean of
squared errors. For squared errors, the loss of the ensemble is the mean loss of its members minus the variance of the
members around their mean (Krogh & Vedelsby 1995, "Neural network ensembles, cross validation, and active learning",
NIPS 7). It is therefore never worse than the average member, though it can be worse than the best one.

The latent spaces of two trainings have no axes in common. The codes of each member are centred on the training rows,
scaled to the size of the reference member's codes (root mean square distance from the centre), and rotated or
reflected to match these as closely as possible: orthogonal Procrustes (Schönemann 1966, doi:10.1007/BF02289451).
Rotation preserves all angles and all ratios of distances. The overall size carries no information, since a decoder
undoes it; if sizes were not matched, the member with the widest codes would dominate the mean. The least-squares scale
would shrink members with little agreement towards the centre, so sizes are matched instead. The mean of the aligned
codes is the consensus, in the coordinates of the reference member. The agreement of a member with the reference is the
R² of Procrustes with a free scale (Gower 1975, doi:10.1007/BF02291478). It is low for spaces that differ by more than
rotation, reflection and size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataset import Scaling
from layersearch.engines.lifecycle import trained_model
from layersearch.engines.training import Training
from layersearch.latent.codes import encode_scaled, error_quantiles, in_blocks
from layersearch.loading.loaded import Loaded
from layersearch.options import LARGEST_ENSEMBLE
from layersearch.randomness import stream_key
from layersearch.space.naming import config_entry
from layersearch.space.ranking import ConfigurationResult, loss_or_infinity
from layersearch.space.trials import Trial, TrialResult
from layersearch.table.scoring import ScoredPart, count_units
from layersearch.verdict.evidence import Evidence, loss_and_influences
from layersearch.verdict.uncertainty import Interval, draw_errors, intervals
from layersearch.verdict.verdict import Verdict, n_draws
from layersearch.words import count, difference_text, interval_text, loss_text, percent
from losses import squared_error_sums
from models import (
    DynamicAutoencoder,
    assign_weights,
    columns_of,
    is_of_copus,
    loading_weights,
    model_of,
    read_own,
    read_quantiles,
    reading_results,
)

ENSEMBLE_AGAIN = "run the search again with --ensemble"
FILE = re.compile(r"ensemble_latent([1-9]\d*)\.pth")


@dataclass(frozen=True)
class Ensemble:
    """M models trained on the same rows, and the transformations that align their codes."""

    members: Sequence[DynamicAutoencoder]
    centres: Tensor  # [M, L] float64: mean code of the training rows, by member
    turns: Tensor  # [M, L, L] float64: rotation or reflection times a scale, by member
    origin: Tensor  # [L] float64: the centre of the reference member
    columns: list[str]
    scaling: Scaling
    is_copus: bool = False
    training_errors: np.ndarray | None = None  # `codes.error_quantiles` of the training rows
    test_errors: np.ndarray | None = None  # `codes.error_quantiles` of the test rows
    n_test: int = 0

    @torch.no_grad()
    def evaluate(self, scaled: Tensor) -> dict[str, Tensor]:
        """Returns the joint output of the members for scaled rows [B, F] (NaN: missing).

        Returns:
            "codes" [B, L]: the consensus.
            "sums" [B, 2]: `squared_error_sums` of the mean reconstruction.
            "errors" [B]: its mean squared error over the observed cells.
            "disagreement" [B]: the root mean square, over the observed cells, of the members' standard deviation. Its
                square equals the members' mean error minus the error of their mean.
            "latent_spread" [B]: the root mean square distance of the members' aligned codes from their mean.
        """
        filled, observed = scaled.nan_to_num(nan=0.0), ~scaled.isnan()
        mean, square = (torch.zeros(scaled.shape, dtype=torch.float64) for _ in range(2))  # of reconstructions [B, F]
        codes = torch.zeros(len(scaled), len(self.origin), dtype=torch.float64)
        distance = torch.zeros(len(scaled), dtype=torch.float64)  # mean squared distance from the reference's centre
        share = 1 / len(self.members)
        for member, centre, turn in zip(self.members, self.centres, self.turns, strict=True):
            reconstruction, latent = (part.double() for part in member(filled))
            turned = (latent - centre) @ turn  # [B, L] @ [L, L] -> [B, L]
            mean += share * reconstruction
            square += share * reconstruction.square()
            codes += share * turned
            distance += share * turned.square().sum(1)
        variance = ((square - mean.square()).clamp(min=0) * observed).sum(1) / observed.sum(1)
        sums = squared_error_sums(mean.float(), scaled)
        return {
            "codes": (codes + self.origin).float(),
            "sums": sums,
            "errors": sums[:, 1] / observed.sum(1),
            "disagreement": variance.sqrt().float(),
            "latent_spread": (distance - codes.square().sum(1)).clamp(min=0).sqrt().float(),
        }

    def encode_rows(self, scaled: Tensor) -> dict[str, Tensor]:
        """Returns what `--encode` writes for scaled rows [B, F]: the output of `evaluate` without the sums."""
        made = self.evaluate(scaled)
        del made["sums"]
        return made

    def state_dict(self) -> dict[str, Tensor]:
        """Returns all tensors by name: `members.0.input_norm.weight` …, `centres`, `turns`, `origin`."""
        weights = {
            f"members.{number}.{name}": tensor
            for number, member in enumerate(self.members)
            for name, tensor in member.state_dict().items()
        }
        return {**weights, "centres": self.centres, "turns": self.turns, "origin": self.origin}


@dataclass(frozen=True)
class EnsembleFindings:
    """An ensemble and its results. All losses are on the test rows."""

    ensemble: Ensemble
    members: Sequence[TrialResult]
    n_configurations: int
    first_repeat: int  # the number of the members' first repeat
    asked: str  # the value of --ensemble
    n_failed: int  # trainings that diverged and were left out
    reference: int  # index of the member whose coordinates the consensus uses
    agreement: np.ndarray  # [M] R² of each member's codes and those of the reference, on the training rows
    single: TrialResult  # the training of the best single model
    loss: float
    difference: float  # `loss` minus that of the single model; below 0 if the ensemble is better
    difference_interval: Interval | None  # over test rows or groups; None if there is only one
    mean_member_loss: float
    infos: Sequence[Mapping[str, Any]]  # each member's `get_model_info`


# --- Aligning latent spaces ------------------------------------------------------------------------


def turn_onto(codes: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the matrix [L, L] that aligns centred codes [N, L] with centred reference codes [N, L], and their R².

    The matrix is a rotation or reflection times the ratio of the two sizes. R² is 0 if either has no extent.
    """
    left, singular, right = np.linalg.svd(codes.T @ reference)
    sizes = np.linalg.norm(codes), np.linalg.norm(reference)
    if not all(sizes):
        return left @ right, 0.0
    return left @ right * (sizes[1] / sizes[0]), min(float((singular.sum() / np.prod(sizes)) ** 2), 1.0)


def align(
    codes_of: Callable[[int], np.ndarray], n_members: int, reference: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aligns the latent spaces of all members with that of the reference member.

    Args:
        codes_of: Returns the codes of the training rows, [N, L], from the member with this index. It is called for one
            member at a time, so that the codes of all members are never in memory together.
        n_members: M, the number of members.
        reference: Index of the reference member.

    Returns:
        The members' centres [M, L], their transformations [M, L, L], and the R² of their codes and those of the
        reference, [M].
    """
    target = codes_of(reference).astype(np.float64)
    target -= target.mean(axis=0)
    centres, turns, agreement = [], [], []
    for member in range(n_members):
        codes = codes_of(member).astype(np.float64)
        centres.append(codes.mean(axis=0))
        turn, r2 = turn_onto(codes - centres[-1], target)
        turns.append(np.eye(len(turn)) if member == reference else turn)  # exactly, without rounding errors
        agreement.append(r2)
    return np.stack(centres), np.stack(turns), np.array(agreement)


# --- Building the ensemble -------------------------------------------------------------------------


def assemble(
    which: str | int,
    ranking: Sequence[ConfigurationResult],
    verdict: Verdict,
    single: TrialResult,
    loaded: Loaded,
    training: Training,
    *,
    repeats: int,
    is_copus: bool,
) -> tuple[EnsembleFindings | None, list[str]]:
    """Builds the ensemble of all repeats of the chosen configurations, trained on all training rows.

    Args:
        which: "tied" for the tied configurations, or a number of best configurations.
        ranking: All configurations, best first.
        verdict: The verdict on them; it sets the confidence level of the interval.
        single: The training of the best single model.
        loaded: The table.
        training: Trains the members that have not been trained, or whose weights have not been kept.
        repeats: Number of trainings of each configuration.
        is_copus: Whether the columns are COPUS codes.

    Returns:
        The ensemble, and warnings of one line each. The ensemble is None if the run was asked to stop or fewer than two
        models remain.
    """
    chosen, warnings = choose_configurations(which, ranking, verdict, repeats)
    results = train_members(chosen, training, repeats)
    if results is None:
        return None, warnings
    members = [result for result in results if not result.has_failed]
    n_failed = len(results) - len(members)
    if n_failed:
        warnings.append(f"--ensemble: {count(n_failed, 'training')} that diverged (or had no memory) left out")
    if len(members) < 2:
        return None, [*warnings, f"--ensemble {which}: fewer than two models; there is no ensemble"]
    table, seed = loaded.table, training.settings.seed
    models = [trained_model(member, table, training.settings) for member in members]
    reference = choose_reference(members, single)
    ensemble, agreement = combine(models, reference, loaded, is_copus=is_copus)
    sums = in_blocks(ensemble.evaluate, table.values[table.test].cpu())["sums"]
    loss, difference, interval = compare(
        table.bundled(sums), single.row_errors, loaded.part(None), confidence=verdict.confidence, seed=seed
    )
    found = EnsembleFindings(
        ensemble=ensemble,
        members=members,
        n_configurations=len(chosen),
        first_repeat=chosen[0].first_repeat,
        asked=str(which),
        n_failed=n_failed,
        reference=reference,
        agreement=agreement,
        single=single,
        loss=loss,
        difference=difference,
        difference_interval=interval,
        mean_member_loss=float(np.mean([member.final_test_loss for member in members])),
        infos=[model.get_model_info() for model in models],
    )
    return found, warnings


def choose_configurations(
    which: str | int, ranking: Sequence[ConfigurationResult], verdict: Verdict, repeats: int
) -> tuple[list[ConfigurationResult], list[str]]:
    """Returns the configurations whose repeats form the ensemble, at most `LARGEST_ENSEMBLE` models, and warnings."""
    warnings = []
    if isinstance(which, int):
        wanted = [configuration for configuration in ranking if configuration.failure is None][:which]
        if len(wanted) < which:
            warnings.append(f"--ensemble {which}: only {count(len(wanted), 'configuration')} finished")
    else:
        wanted = list(verdict.tied)
    most = max(1, LARGEST_ENSEMBLE // repeats)
    if len(wanted) > most:
        warnings.append(
            f"--ensemble {which}: {len(wanted)} configurations x {repeats} repeats are more "
            f"than {LARGEST_ENSEMBLE} models; the best {most} make the ensemble"
        )
    return wanted[:most], warnings


def train_members(chosen: Sequence[ConfigurationResult], training: Training, repeats: int) -> list[TrialResult] | None:
    """Returns all repeats of these configurations with their weights, in order; None if the run was asked to stop.

    After cross-validation they are trained anew, on all training rows. Otherwise the search has trained them already,
    and only weights that were not kept are computed again.
    """
    results = [result for configuration in chosen for result in configuration.trials]
    if results and results[0].trial.fold is not None:
        trials = [Trial(c.config, c.first_repeat + number) for c in chosen for number in range(repeats)]
        by_trial = {result.trial: result for result in training.run(trials)}
        if len(by_trial) < len(trials):
            return None
        results = [by_trial[trial] for trial in trials]
    return training.with_all_weights(results)


def choose_reference(members: Sequence[TrialResult], single: TrialResult) -> int:
    """Returns the index of the best single model among the members.

    If it is not a member, returns the member of the best configuration with the lowest training loss.
    """
    trials = [member.trial for member in members]
    if single.trial in trials:
        return trials.index(single.trial)
    of_best = [n for n, trial in enumerate(trials) if trial.config == trials[0].config]
    return min(of_best, key=lambda n: loss_or_infinity(members[n].final_train_loss))


def combine(
    models: Sequence[DynamicAutoencoder], reference: int, loaded: Loaded, *, is_copus: bool
) -> tuple[Ensemble, np.ndarray]:
    """Returns the ensemble of these models, aligned on the training rows, and the members' R² [M]."""
    rows = loaded.table.values[loaded.table.train].cpu()

    def codes_of(member: int) -> np.ndarray:
        return in_blocks(lambda block: {"codes": models[member].encode(block.nan_to_num(nan=0.0))}, rows)["codes"]

    centres, turns, agreement = align(codes_of, len(models), reference)
    ensemble = Ensemble(
        models,
        torch.from_numpy(centres),
        torch.from_numpy(turns),
        torch.from_numpy(centres[reference]),
        loaded.dataset.columns,
        loaded.scaling,
        is_copus,
    )
    return ensemble, agreement


def compare(
    errors: np.ndarray, others: np.ndarray, part: ScoredPart, *, confidence: float, seed: int
) -> tuple[float, float, Interval | None]:
    """Compares two models on the same rows.

    The comparison is paired, so errors that both models share cancel out. The interval accounts for the choice of
    scored rows or groups, by the bootstrap of `verdict/uncertainty.py`. Both models are regarded as fixed: the interval
    does not account for the variation between trainings.

    Args:
        errors: Squared error sums of the first model by row or bundle of rows, [N, 2].
        others: The same of the second model, [N, 2].
        part: The rows that are scored.
        confidence: Confidence level of the interval.
        seed: Seed of the bootstrap.

    Returns:
        The loss of the first model, its difference from that of the second, and the interval of this difference, which
        is None if there is a single row or group.
    """
    (loss, influence), (other, other_influence) = (loss_and_influences([e], [part]) for e in (errors, others))
    n_units = count_units([part])
    if n_units < 2:
        return loss, loss - other, None
    evidence = Evidence(np.array([loss - other]), (influence - other_influence)[None], np.zeros(1), 0, n_units - 1)
    rng = np.random.default_rng(stream_key(seed, "ensemble"))
    drawn = draw_errors(evidence, n_draws(1, confidence), rng)
    low, high = intervals(evidence.losses, drawn.total, confidence)[0].tolist()
    return loss, loss - other, Interval(low, high)


# --- Reports and files -----------------------------------------------------------------------------


def ensemble_line(found: EnsembleFindings) -> str:
    """Returns the line of the closing summary that reports the ensemble and its gain over the best single model."""
    n, n_failed = found.n_configurations, found.n_failed
    repeats = (len(found.members) + n_failed) // n
    of = [count(n, "tied configuration") if found.asked == "tied" else f"the best {count(n, 'configuration')}"]
    of += [f" x {count(repeats, 'repeat')}"] * (repeats > 1) + [f", {n_failed} left out"] * (n_failed > 0)
    single, interval = found.single.final_test_loss or 0.0, found.difference_interval
    change = difference_text(found.difference, single) + (f" {interval_text(interval, single)}" if interval else "")
    return (
        f"Ensemble of {len(found.members)} models ({''.join(of)}): test loss {loss_text(found.loss)} against "
        f"{loss_text(single)} of the best single model: {change}; its members alone "
        f"{loss_text(found.mean_member_loss)} on average. Their latent spaces agree to "
        f"{percent(round(_mean_agreement(found), 2))} (Procrustes R², mean)."
    )


def _mean_agreement(found: EnsembleFindings) -> float:
    """Returns the mean R² of all members except the reference, which always has 1."""
    return float(np.delete(found.agreement, found.reference).mean())


def encode_all(found: EnsembleFindings, loaded: Loaded) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the consensus codes [N, L] of the table's rows, and further columns [N] by name.

    The columns are "reconstruction_error", "disagreement" and "latent_spread".
    """
    encoded = encode_scaled(found.ensemble, loaded.table.values.cpu())
    return encoded.codes, {"reconstruction_error": encoded.errors, **encoded.more}


def ensemble_entry(found: EnsembleFindings, errors: np.ndarray, loaded: Loaded, file: Path) -> dict[str, Any]:
    """Returns the `ensemble` part of the results; `errors` [N] are of all rows, `file` is that of the ensemble."""
    table = loaded.table
    return {
        "asked": found.asked,
        "file": file.name,
        "sha256": sha256(file.read_bytes()).hexdigest(),
        "configurations": found.n_configurations,
        "left_out": found.n_failed,
        "test_loss": found.loss,
        "mean_member_test_loss": found.mean_member_loss,
        "best_single": {**_named(found, found.single), "test_loss": found.single.final_test_loss},
        "difference": found.difference,
        "difference_interval": found.difference_interval,
        "reference": found.reference,
        "mean_agreement": _mean_agreement(found),
        "members": [
            {**_named(found, member), "test_loss": member.final_test_loss, "agreement": r2, "model_info": info}
            for member, r2, info in zip(found.members, found.agreement.tolist(), found.infos, strict=True)
        ],
        "training_errors": error_quantiles(errors[table.train.cpu().numpy()]),
        "test_errors": error_quantiles(errors[table.test.cpu().numpy()]),
    }


def _named(found: EnsembleFindings, result: TrialResult) -> dict[str, Any]:
    return {**config_entry(result.trial.config), "repeat": result.trial.repeat - found.first_repeat + 1}


def load_ensemble(path: str | Path) -> Ensemble:
    """Rebuilds the ensemble that a search with `--ensemble` wrote, from its .pth and the JSON beside it.

    No code in either file is run.

    Raises:
        FileNotFoundError: There is no such file, or the search wrote no ensemble.
        ValueError: One of the files is damaged, is of another kind, or does not match the other.
    """
    path = Path(path)
    latent_dim = (FILE.fullmatch(path.name) or [""])[0].removeprefix("ensemble_latent").removesuffix(".pth")
    results_path = path.with_name(f"hyperparam_results_latent{latent_dim}.json")
    with reading_results(results_path):
        results = json.loads(results_path.read_text(encoding="utf-8"))
        entry = results.get("ensemble")
        if entry is None or entry["file"] != path.name:
            raise FileNotFoundError(f"{results_path}: its search wrote no {path.name}; run it again with --ensemble")
        with torch.device("meta"):
            models = [model_of(member["model_info"]) for member in entry["members"]]
        columns, scaling = columns_of(results, models[0].input_dim)
        training, test = (read_quantiles(entry[f"{part}_errors"]) for part in ("training", "test"))
        n_test = int(results["data"].get("test_rows", 0))
    size = models[0].latent_dim
    shapes = {"centres": (len(models), size), "turns": (len(models), size, size), "origin": (size,)}
    with loading_weights(path, read_own(path, entry, ENSEMBLE_AGAIN), ENSEMBLE_AGAIN) as tensors:
        tensors = dict(tensors)
        turning = [tensors.pop(name) for name in shapes]
        if not all(
            t.shape == shape and t.dtype == torch.float64 and t.isfinite().all()
            for t, shape in zip(turning, shapes.values(), strict=True)
        ):
            raise ValueError("centres, turns or origin are not of the members' shape")
        for number, model in enumerate(models):
            prefix = f"members.{number}."
            own = {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
            assign_weights(model, own)
        if tensors:
            raise ValueError("it holds more than its members")
    members, (centres, turns, origin) = [model.eval() for model in models], turning
    return Ensemble(members, centres, turns, origin, columns, scaling, is_of_copus(results), training, test, n_test)
