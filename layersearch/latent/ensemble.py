"""`--ensemble`: many trained models as one, their latent spaces turned onto each other, and how far they disagree.

    found = assemble(arguments, loaded, training, ranking, verdict, single, console)
    found.ensemble.encode_rows(scaled)                       # codes, errors, disagreement, latent_spread
    ensemble = load_ensemble("output/ensemble_latent3.pth")  # what a finished search left behind

The ensemble reconstructs a row as the mean of its members' reconstructions. For squared errors, which the program's
loss is a weighted mean of, its loss is that of its members on average less how much they vary around their mean
(Krogh & Vedelsby 1995, "Neural network ensembles, cross validation, and active learning", NIPS 7): never worse than the
average member, though perhaps than the best.

Latent spaces of two trainings have no axes in common. Each member's codes are centred on the training rows, brought to
the size of the reference member's (root mean square distance from the centre) and rotated or reflected onto them as
closely as can be: orthogonal Procrustes (Schönemann 1966, doi:10.1007/BF02289451). Rotation keeps all angles and
proportions of distances; overall size is free to choose, since a decoder undoes it, and without matching it the
member with the widest codes would decide the mean. The least-squares factor would shrink members that agree little
towards the centre, so sizes are matched instead. The mean of the turned codes is the consensus, in the coordinates of
the reference member. How well a member agrees is the R² of Procrustes with a free scale (Gower 1975,
doi:10.1007/BF02291478); spaces that differ by more than rotation, reflection and size have a low one.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from layersearch.command.faults import LARGEST_ENSEMBLE
from layersearch.console import Console
from layersearch.engines.lifecycle import build_model, trained_model
from layersearch.engines.training import Training
from layersearch.latent.encoding import encode_scaled, error_quantiles, in_blocks
from layersearch.randomness import stream_key
from layersearch.report.results import config_entry
from layersearch.space.configurations import Trial, TrialResult
from layersearch.space.ranking import ConfigurationResult, loss_or_infinity
from layersearch.verdict.uncertainty import Evidence, ScoredPart, count_units, draw_errors, intervals, weigh_fixed
from layersearch.verdict.verdict import Interval, Verdict, n_draws
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

if TYPE_CHECKING:
    from dataset import Scaling
    from layersearch.loading.loaded import Loaded

ENSEMBLE_AGAIN = "run the search again with --ensemble"
FILE = re.compile(r"ensemble_latent([1-9]\d*)\.pth")


@dataclass(frozen=True)
class Ensemble:
    """M models that were trained on the same rows, and how each one's codes are turned."""

    members: Sequence[DynamicAutoencoder]
    centres: Tensor  # [M, L] float64: mean code of the training rows
    turns: Tensor  # [M, L, L] float64: a rotation or reflection, times a size
    origin: Tensor  # [L] float64: the centre of the reference member
    columns: list[str]
    scaling: Scaling
    is_copus: bool = False
    training_errors: np.ndarray | None = None  # quantiles, as those of `models.SavedModel`
    test_errors: np.ndarray | None = None
    n_test: int = 0

    @torch.no_grad()
    def evaluate(self, scaled: Tensor) -> dict[str, Tensor]:
        """Of scaled rows [B, F] (NaN = missing) all that the members make of them together.

        "codes" [B, L] the consensus · "sums" [B, 2] as `squared_error_sums`, of the mean reconstruction · "errors" [B]
        the same by observed cell · "disagreement" [B] root mean square over the observed cells of the members' standard
        deviation, so that its square is the members' error on average less that of their mean · "latent_spread" [B]
        root mean square distance of the turned codes from their mean.
        """
        filled, observed = scaled.nan_to_num(nan=0.0), ~scaled.isnan()
        mean, square = (torch.zeros(scaled.shape, dtype=torch.float64) for _ in range(2))  # of reconstructions [B, F]
        codes = torch.zeros(len(scaled), len(self.origin), dtype=torch.float64)
        distance = torch.zeros(len(scaled), dtype=torch.float64)  # mean squared, from the reference's centre
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
        """What `--encode` writes of scaled rows [B, F]: `evaluate` without the sums."""
        made = self.evaluate(scaled)
        del made["sums"]
        return made

    def state_dict(self) -> dict[str, Tensor]:
        """All as tensors: `members.0.input_norm.weight` …, `centres`, `turns`, `origin`."""
        weights = {
            f"members.{number}.{name}": tensor
            for number, member in enumerate(self.members)
            for name, tensor in member.state_dict().items()
        }
        return {**weights, "centres": self.centres, "turns": self.turns, "origin": self.origin}


@dataclass(frozen=True)
class EnsembleFindings:
    """An ensemble and what is known of it. All losses are of the test rows."""

    ensemble: Ensemble
    members: Sequence[TrialResult]
    n_configurations: int
    first_repeat: int  # the number of the members' first repeat
    asked: str  # --ensemble
    n_failed: int  # trainings that diverged, and were left out
    reference: int  # the number of the member whose coordinates the consensus has
    agreement: np.ndarray  # [M] R² of each member's codes with the reference's, on the training rows
    single: TrialResult  # the best single model
    loss: float
    difference: float  # to the single model's
    difference_interval: Interval | None  # by test rows; None where there is a single one (or group)
    mean_member_loss: float
    infos: Sequence[Mapping[str, Any]]  # `get_model_info` of each member


# --- Turning latent spaces -------------------------------------------------------------------------


def turn_onto(codes: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, float]:
    """The matrix [L, L] that turns centred codes [N, L] onto centred reference codes, and their R².

    A rotation or reflection times the ratio of the two sizes; R² is 0 where one of them has no size.
    """
    left, singular, right = np.linalg.svd(codes.T @ reference)
    sizes = np.linalg.norm(codes), np.linalg.norm(reference)
    if not all(sizes):
        return left @ right, 0.0
    return left @ right * (sizes[1] / sizes[0]), min(float((singular.sum() / np.prod(sizes)) ** 2), 1.0)


def align(
    codes_of: Callable[[int], np.ndarray], n_members: int, reference: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From each member's codes of the training rows [N, L], one at a time: centres [M, L], turns [M, L, L], R² [M]."""
    target = codes_of(reference).astype(np.float64)
    target -= target.mean(axis=0)
    centres, turns, agreement = [], [], []
    for member in range(n_members):
        codes = codes_of(member).astype(np.float64)
        centres.append(codes.mean(axis=0))
        turn, r2 = turn_onto(codes - centres[-1], target)
        turns.append(np.eye(len(turn)) if member == reference else turn)  # which it is already, but for rounding
        agreement.append(r2)
    return np.stack(centres), np.stack(turns), np.array(agreement)


# --- Putting it together ---------------------------------------------------------------------------


def assemble(
    arguments: argparse.Namespace,
    loaded: Loaded,
    training: Training,
    ranking: Sequence[ConfigurationResult],
    verdict: Verdict,
    single: TrialResult,
    console: Console,
) -> EnsembleFindings | None:
    """The ensemble that `--ensemble` asks for; None if the run was asked to stop, or fewer than two models are left.

    Members are all repeats of the tied or of the K best configurations, on all training rows. `single`: the best
    single model's training.
    """
    chosen = choose_configurations(arguments, ranking, verdict, console)
    results = train_members(arguments, chosen, training)
    if results is None:
        return None
    sound = [result for result in results if not result.has_failed]
    n_failed = len(results) - len(sound)
    if n_failed:
        console.warn(f"--ensemble: {count(n_failed, 'training')} that diverged (or had no memory) left out")
    if len(sound) < 2:
        console.warn(f"--ensemble {arguments.ensemble}: fewer than two models; there is no ensemble")
        return None
    models = [trained_model(result, loaded.table, training.settings) for result in sound]
    reference = choose_reference(sound, single)
    ensemble, agreement = combine(models, reference, loaded, is_copus=arguments.columns == "copus")
    return _measure(arguments, loaded, training, ensemble, sound, single, chosen, n_failed, reference, agreement)


def choose_configurations(
    arguments: argparse.Namespace, ranking: Sequence[ConfigurationResult], verdict: Verdict, console: Console
) -> list[ConfigurationResult]:
    """The tied, or the K best of those that finished, as far as they have no more than `LARGEST_ENSEMBLE` repeats."""
    if arguments.ensemble == "tied":
        wanted = list(verdict.tied)
    else:
        wanted = [c for c in ranking if c.failure is None][: int(arguments.ensemble)]
        if len(wanted) < int(arguments.ensemble):
            console.warn(f"--ensemble {arguments.ensemble}: only {count(len(wanted), 'configuration')} finished")
    most = max(1, LARGEST_ENSEMBLE // arguments.repeats)
    if len(wanted) > most:
        console.warn(
            f"--ensemble {arguments.ensemble}: {len(wanted)} configurations x {arguments.repeats} repeats are more "
            f"than {LARGEST_ENSEMBLE} models; the best {most} make the ensemble"
        )
    return wanted[:most]


def train_members(
    arguments: argparse.Namespace, chosen: Sequence[ConfigurationResult], training: Training
) -> list[TrialResult] | None:
    """All repeats of these configurations with their weights, in order; None if the run was asked to stop.

    After folds they are trained anew, on all training rows. Otherwise the search has trained them, and only weights
    that were not kept are made again.
    """
    results = [result for configuration in chosen for result in configuration.trials]
    if results and results[0].trial.fold is not None:
        trials = [Trial(c.config, c.first_repeat + number) for c in chosen for number in range(arguments.repeats)]
        by_trial = {result.trial: result for result in training.run(trials)}
        if len(by_trial) < len(trials):
            return None
        results = [by_trial[trial] for trial in trials]
    return training.with_all_weights(results)


def choose_reference(members: Sequence[TrialResult], single: TrialResult) -> int:
    """The number of the best single model, or if it is none of the members of the best trained of the best."""
    trials = [member.trial for member in members]
    if single.trial in trials:
        return trials.index(single.trial)
    of_best = [n for n, trial in enumerate(trials) if trial.config == trials[0].config]
    return min(of_best, key=lambda n: loss_or_infinity(members[n].final_train_loss))


def combine(
    models: Sequence[DynamicAutoencoder], reference: int, loaded: Loaded, *, is_copus: bool
) -> tuple[Ensemble, np.ndarray]:
    """The ensemble, its codes turned on the training rows, and the members' R² [M]."""
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


def _measure(
    arguments: argparse.Namespace,
    loaded: Loaded,
    training: Training,
    ensemble: Ensemble,
    members: Sequence[TrialResult],
    single: TrialResult,
    chosen: Sequence[ConfigurationResult],
    n_failed: int,
    reference: int,
    agreement: np.ndarray,
) -> EnsembleFindings:
    table = loaded.table
    sums = in_blocks(ensemble.evaluate, table.values[table.test].cpu())["sums"]
    loss, difference, interval = compare(
        table.bundled(sums), single.row_errors, loaded.part(None), confidence=arguments.confidence, seed=arguments.seed
    )
    return EnsembleFindings(
        ensemble=ensemble,
        members=members,
        n_configurations=len(chosen),
        first_repeat=chosen[0].first_repeat,
        asked=arguments.ensemble,
        n_failed=n_failed,
        reference=reference,
        agreement=agreement,
        single=single,
        loss=loss,
        difference=difference,
        difference_interval=interval,
        mean_member_loss=float(np.mean([member.final_test_loss for member in members])),
        infos=[build_model(member.trial, table.input_dim, training.settings).get_model_info() for member in members],
    )


def compare(
    errors: np.ndarray, others: np.ndarray, part: ScoredPart, *, confidence: float, seed: int
) -> tuple[float, float, Interval | None]:
    """The loss of row errors [N, 2] (or of bundles), its difference to that of `others`, and the interval of that.

    Both are of the same rows, so what makes a row hard for both drops out. The interval covers which rows (or groups)
    happened to be scored, by the bootstrap of `uncertainty.py`; both models are taken as they are, so it says nothing
    of how others would do that were trained anew. None with a single row or group.
    """
    (loss, influence), (other, other_influence) = (weigh_fixed([e], [part]) for e in (errors, others))
    n_units = count_units([part])
    if n_units < 2:
        return loss, loss - other, None
    evidence = Evidence(np.array([loss - other]), (influence - other_influence)[None], np.zeros(1), 0, n_units - 1)
    rng = np.random.default_rng(stream_key(seed, "ensemble"))
    drawn = draw_errors(evidence, n_draws(1, confidence), rng)
    low, high = intervals(evidence.losses, drawn.total, confidence)[0].tolist()
    return loss, loss - other, Interval(low, high)


# --- What is said and written ----------------------------------------------------------------------


def ensemble_line(found: EnsembleFindings) -> str:
    """For the closing summary: what the ensemble gains, in a line."""
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
    """Of all but the reference, which agrees with itself."""
    return float(np.delete(found.agreement, found.reference).mean())


def encode_all(found: EnsembleFindings, loaded: Loaded) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Consensus codes [N, L] of the table's rows, and by column "reconstruction_error" and how far members disagree."""
    encoded = encode_scaled(found.ensemble, loaded.table.values.cpu())
    return encoded.codes, {"reconstruction_error": encoded.errors, **encoded.more}


def ensemble_entry(found: EnsembleFindings, errors: np.ndarray, loaded: Loaded, file: Path) -> dict[str, Any]:
    """The `ensemble` part of the results; `errors` [N] of the table's rows, `file` as it was written."""
    table = loaded.table
    return {
        "asked": found.asked,
        "file": file.name,
        "sha256": sha256(file.read_bytes()).hexdigest(),
        "configurations": found.n_configurations,
        "left_out": found.n_failed,
        "test_loss": found.loss,
        "mean_member_test_loss": found.mean_member_loss,
        "best_single": {**_name(found, found.single), "test_loss": found.single.final_test_loss},
        "difference": found.difference,
        "difference_interval": found.difference_interval,
        "reference": found.reference,
        "mean_agreement": _mean_agreement(found),
        "members": [
            {**_name(found, member), "test_loss": member.final_test_loss, "agreement": agreement, "model_info": info}
            for member, agreement, info in zip(found.members, found.agreement.tolist(), found.infos, strict=True)
        ],
        "training_errors": error_quantiles(errors[table.train.cpu().numpy()]),
        "test_errors": error_quantiles(errors[table.test.cpu().numpy()]),
    }


def _name(found: EnsembleFindings, result: TrialResult) -> dict[str, Any]:
    return {**config_entry(result.trial.config), "repeat": result.trial.repeat - found.first_repeat + 1}


def load_ensemble(path: str | Path) -> Ensemble:
    """Rebuilds the ensemble that a search with `--ensemble` wrote, by the JSON beside it; nothing in either is run.

    Raises:
        FileNotFoundError: there is no such file, or its search wrote no ensemble.
        ValueError: one of the files is damaged, of another kind, or does not fit the other.
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
