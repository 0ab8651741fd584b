"""Kills searches repeatedly at random moments, and checks that the resumed searches give the same files.

    python benchmarks/soak.py [--data_path TABLE] [--kills 50] [--seed 0]

Three searches take turns: a plain one, one with folds, and one that saves its best model. Each is first run without
interruption. Then the same command is started in a new folder and killed (SIGKILL) at a random moment within the time
that the first run took, start-up and report included; it is started and killed again until it finishes. This continues
until the number of kills is reached. A kill never truncates a line of the journal, since a line is written at once, but
a power failure may. So after half of the kills, chosen at random, the journal is truncated at a random byte of its last
records. At the end every file must equal that of the uninterrupted search, byte for byte, except `timestamp` and
`timing` in the JSON and the times in the journal. Prints each kill and the phase in which it occurred; the exit status
is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402 - the project's modules lie one folder up

from layersearch.engines.dispatch import try_out  # noqa: E402
from layersearch.engines.workers import available_cores  # noqa: E402
from layersearch.files import DRAFTS, HOLDER  # noqa: E402
from layersearch.journal.identity import describe_environment  # noqa: E402
from layersearch.journal.records import Records, read_records  # noqa: E402
from layersearch.space.trials import TrialResult  # noqa: E402

SEARCHES = MappingProxyType(
    {
        "plain": ("--hidden_dims_search", "16,32,64", "--max_layers", "3", "--epochs", "20"),
        "folds": ("--hidden_dims_search", "16,32,64", "--max_layers", "2", "--epochs", "15", "--cv_folds", "3"),
        "saved": ("--hidden_dims_search", "16,32,64", "--epochs", "12", "--save_models", "--latent_dim", "2"),
    }
)
TORN = 0.5  # share of kills after which the journal is truncated too
LAST_RECORDS = 3  # number of records that a power failure may damage
MOST = 8  # largest number of kills of one search, which is then left to finish
PATIENCE = 300.0  # seconds after which a search is assumed to hang


class SearchFailedError(Exception):
    """The command ended with an exit status other than 0; the message is its stderr."""


@dataclass
class Strike:
    """One kill."""

    moment: float  # seconds after the start of the command
    phase: str
    trained: int  # records in the journal
    torn: int  # number of records that were truncated


@dataclass
class Soak:
    """The kills so far, and the files that differ."""

    strikes: list[Strike] = field(default_factory=list)
    searches: int = 0
    differences: list[str] = field(default_factory=list)


# One search


def start(folder: Path, data_path: Path, flags: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts the command in `folder` with arguments that do not depend on it, since the results contain them."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "hyperparam_optimizer.py"), "--data_path", str(data_path.resolve()), *flags]
    log = folder.with_suffix(".log")
    with open(log, "wb") as file:
        return subprocess.Popen([*command, "--output_dir", folder.name], cwd=folder.parent, stdout=file, stderr=file)


def finish(process: subprocess.Popen[bytes], folder: Path, timeout: float = PATIENCE) -> None:
    """Waits for the command to end.

    Raises:
        subprocess.TimeoutExpired: The command takes too long.
        SearchFailedError: It ends with an exit status other than 0.
    """
    if process.wait(timeout):
        raise SearchFailedError(folder.with_suffix(".log").read_text(encoding="utf-8", errors="replace"))


def run_whole(folder: Path, data_path: Path, flags: Sequence[str]) -> float:
    """Runs a search without interruption and returns its seconds."""
    started = time.monotonic()
    finish(start(folder, data_path, flags), folder)
    return time.monotonic() - started


def kill_after(folder: Path, data_path: Path, flags: Sequence[str], moment: float) -> int | None:
    """Starts the command and kills it after `moment` seconds; returns its process id, or None if it finished first."""
    process = start(folder, data_path, flags)
    try:
        finish(process, folder, moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return process.pid
    return None


# The files that a kill leaves


def phase_of(folder: Path, pid: int) -> str:
    """Returns the phase in which the process was killed, inferred from the files that it left."""
    holder = folder / HOLDER
    if not holder.exists() or f"process {pid}," not in holder.read_text(encoding="utf-8"):
        return "start-up"
    if list(folder.glob(f"{DRAFTS}*")):  # its own, since it removes those of earlier processes
        return "report"
    if list(folder.glob("hyperparam_results_*.json")):
        return "end"
    log = folder.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
    return "conclusion" if "Probing longer training" in log else "training"


def journal_of(folder: Path) -> Path | None:
    """Returns the path of the journal; None if there is none."""
    return next(folder.glob("journal_*.jsonl"), None)


def cut_off(path: Path, place: float) -> int:
    """Truncates the file at the share `place` of its last records; returns the number of damaged records."""
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    last = sum(map(len, lines[-LAST_RECORDS:]))
    path.write_bytes(data[: len(data) - last + round(place * last)])
    records = read_records(path)
    return 1 if records is None else records.n_damaged


def records_in(path: Path | None) -> int:
    """Returns the number of trainings in the journal."""
    records = read_records(path) if path else None
    return len(records.results) if records else 0


# Comparing


def outputs(folder: Path) -> dict[str, object]:
    """Returns the part of each file's content that must be equal if the search is the same."""
    return {path.name: content(path) for path in folder.iterdir() if ".damaged" not in path.name}


def content(path: Path) -> object:
    """Returns the bytes of a file or, for results and journals, all content except times."""
    if path.name.startswith("hyperparam_results") and path.suffix == ".json":
        results = json.loads(path.read_text(encoding="utf-8"))
        return json.dumps({name: part for name, part in results.items() if name not in ("timestamp", "timing")})
    if path.name.startswith("journal"):
        records = read_records(path)
        return None if records is None or not records.is_sound else timeless(records)
    if path.name.startswith("optuna"):
        return study(path)
    if path.name.startswith("search_history"):
        return None  # the picture shows seconds
    if path.name.startswith("report"):
        return None  # made from the JSON and the pictures, it shows seconds too
    return path.read_bytes()


def study(path: Path) -> list[object]:
    """Returns the contents of an Optuna journal file by trial, without times."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    trials = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(path)))).trials
    return [(trial.number, trial.state.name, trial.values, trial.params, trial.user_attrs) for trial in trials]


def timeless(records: Records) -> Mapping[str, Any]:
    """Returns all contents of a journal except times."""
    arrays = ("train_losses", "test_losses", "row_errors", "validation_losses")
    figures = ("final_train_loss", "final_test_loss", "failed_epoch", "is_paused", "best_epoch")

    def bits(result: TrialResult) -> list[object]:
        found = [getattr(result, name) for name in arrays]
        return [a if a is None else a.tobytes() for a in found] + [repr(getattr(result, name)) for name in figures]

    trials = {key: bits(result) for key, result in records.results.items()}
    weights = {key: parameters.tobytes() for key, parameters in records.weights.items()}
    return {"identity": records.identity, "trials": trials, "weights": weights}


def differences(whole: Mapping[str, object], resumed: Mapping[str, object]) -> list[str]:
    """Returns the names of the files that differ."""
    return sorted(name for name in {*whole, *resumed} if name not in whole or whole[name] != resumed.get(name))


# The test


def strike_until_finished(
    folder: Path, data_path: Path, flags: Sequence[str], seconds: float, chance: random.Random, most: int = MOST
) -> list[Strike]:
    """Kills the search at random moments until it finishes earlier; after `most` kills it is left to finish."""
    strikes: list[Strike] = []
    while True:
        moment = chance.uniform(0, seconds) if len(strikes) < most else PATIENCE
        pid = kill_after(folder, data_path, flags, moment)
        if pid is None:
            return strikes
        if len(strikes) == most:
            raise SearchFailedError(f"{folder} has not come to its end after {PATIENCE:.0f} s")
        path = journal_of(folder)
        trained, tears, place = records_in(path), chance.random() < TORN, chance.random()
        phase = phase_of(folder, pid)
        torn = cut_off(path, place) if path and tears else 0
        strikes.append(Strike(moment, phase, trained, torn))
        print(f"  {moment:5.1f} s  {phase:<10} {trained:3d} trained" + ", last record torn" * bool(torn), flush=True)


def soak(
    data_path: Path, kills: int, seed: int, searches: Mapping[str, Sequence[str]] = SEARCHES, most: int = MOST
) -> Soak:
    """Runs the test described at the top of this file, with at least `kills` kills."""
    try_out("compiled")  # compiles the kernel, so that no search waits for that
    done, chance = Soak(), random.Random(seed)
    whole: dict[str, tuple[float, dict[str, object]]] = {}
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        for title in cycle(searches):
            if len(done.strikes) >= kills:
                return done
            if title not in whole:
                folder = Path(name) / "whole" / title
                whole[title] = run_whole(folder, data_path, searches[title]), outputs(folder)
            seconds, expected = whole[title]
            print(f"{title}, {seconds:.1f} s without interruption", flush=True)
            done.searches += 1
            folder = Path(name) / str(done.searches) / title
            done.strikes += strike_until_finished(folder, data_path, searches[title], seconds, chance, most)
            different = differences(expected, outputs(folder))
            done.differences += [f"search {done.searches} ({title}): {file}" for file in different]
            print(f"  finished: {', '.join(different) + ' differ' if different else 'the same bits'}", flush=True)
    raise AssertionError("there are no searches")


def main() -> int:
    """Parses the arguments, runs the test, prints the results, and returns the exit status."""
    parser = argparse.ArgumentParser(description="Searches that are killed at random moments and go on.")
    parser.add_argument("--data_path", type=Path, default=ROOT / "data" / "sample.csv", help="default: the sample")
    parser.add_argument("--kills", type=int, default=50, help="at least so many (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    arguments = parser.parse_args()
    machine = describe_environment(torch.device("cpu"), "compiled", available_cores())
    print(f"{machine['processor']}, {available_cores()} cores, {platform.system()}, Python {machine['python']}, "
          f"torch {machine['torch']}, numba {machine['numba']}")  # fmt: skip
    done = soak(arguments.data_path, arguments.kills, arguments.seed)
    phases = Counter(strike.phase for strike in done.strikes)
    moments = sorted(strike.moment for strike in done.strikes)
    print(
        f"{len(moments)} kills of {done.searches} searches, {moments[0]:.1f} to {moments[-1]:.1f} s after their start"
    )
    print("they hit " + ", ".join(f"{phase} {number}" for phase, number in phases.most_common()))
    print(f"{sum(strike.torn for strike in done.strikes)} records were torn")
    print("\n".join(done.differences) or "every file of every search has the bits of an uninterrupted one")
    return 1 if done.differences else 0


if __name__ == "__main__":
    sys.exit(main())
