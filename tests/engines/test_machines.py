"""Trainings on a real cluster of several nodes have the bits of this machine, whatever dies on the way."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_trial
from commands import SMALL, SMALL_CONFIGURATIONS, TINY, Run, assert_one_line, run
from faults import after_record, assert_same_results, raising
from hypothesis import given
from hypothesis import strategies as st
from journals import journal_path
from nodes import ROOT, Nodes
from resumption import N_TRIALS, SEARCHES, n_records, outputs
from strategy_runs import arguments_for

from layersearch.engines import machines
from layersearch.engines.lifecycle import InMemory, first_state
from layersearch.engines.machines import REMEDIES, Machines, Plan, batch_seconds, difference
from layersearch.engines.settings import SplitTable, TrainingSettings
from layersearch.files import SAMPLE_PATH
from layersearch.journal import identity
from layersearch.journal.checkpoints import Checkpoints
from layersearch.journal.identity import machine_identity
from layersearch.space.trials import Trial, TrialResult

PATIENCE = 180.0  # seconds to wait for something that takes a few, or many on a busy machine
ON_RAY = ["--distributed", "ray"]
LONGER = ["--hidden_dims_search", "16,32", "--max_layers", "2", "--repeats", "3", "--epochs", "60", "--no_probe"]
LONGER += ["--data_path", str(SAMPLE_PATH), "--quiet", "--save_models"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    ray = pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.txt)")
    with Nodes() as nodes:
        yield nodes
        ray.shutdown()


@pytest.fixture
def own_nodes(cluster: Nodes) -> Nodes:
    """The cluster, to which the command connects itself, as a process of its own does."""
    import ray

    ray.shutdown()
    return cluster


@pytest.fixture
def nodes(cluster: Nodes, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """The cluster, to which this process stays connected: for each new connection the nodes import torch anew."""
    import ray

    connect = machines._connect

    def connect_once(*arguments: Any) -> None:
        if not ray.is_initialized():
            connect(*arguments)

    monkeypatch.setattr(machines, "_connect", connect_once)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return cluster


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of a few seconds, run on this machine."""
    done = run(tmp_path_factory.mktemp("longer"), *LONGER)
    assert done.status == 0
    return done


def changing_tasks(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, Any], Any]) -> None:
    """Makes the cluster run `change(ray, task)` instead of the task that trains a batch."""
    make = Machines.__init__

    def make_and_change(self: Machines, ray: Any, *arguments: Any) -> None:
        make(self, ray, *arguments)
        self._run_batch = change(ray, self._run_batch)

    monkeypatch.setattr(Machines, "__init__", make_and_change)


def note_given_out(monkeypatch: pytest.MonkeyPatch) -> list[list[Trial]]:
    """Returns the list to which each batch that is handed out from now on is added."""
    batches: list[list[Trial]] = []
    take = Plan.take

    def note(self: Plan, n_cores: int) -> Any:
        settings, batch = take(self, n_cores)
        batches.append([trial for trial, _ in batch])
        return settings, batch

    monkeypatch.setattr(Plan, "take", note)
    return batches


# ------------------------------------------------------------------------------------ the same bits


@pytest.mark.parametrize("title", SEARCHES)
def test_a_cluster_leaves_the_bits_that_this_machine_leaves(
    title: str, nodes: Nodes, wholes: Mapping[str, Run], table: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, "--data_path", table, *SEARCHES[title], "--threads", 0, *nodes.flags)
    assert (done.status, done.err) == (0, "")
    assert "\nEngine: compiled, on Ray, 2 nodes with 2 cores\n" in done.out
    assert done.results()["environment"]["threads"] == 2
    assert outputs(tmp_path) == outputs(wholes[title].folder)


@pytest.mark.parametrize("title", ["bayesian", "halving and stopping"])
def test_strategies_pause_and_propose_as_on_this_machine(
    title: str, nodes: Nodes, by_strategy: Callable[[str], Run], table: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, "--data_path", table, *arguments_for(title), *nodes.flags)
    assert (done.status, done.err) == (0, "")
    assert ", 2 trainings at a time\n" in done.out
    assert_same_results(tmp_path, by_strategy(title).folder)
    assert not list(tmp_path.glob("checkpoint*"))


def test_the_reference_engine_trains_there_too(nodes: Nodes, table: Path, tmp_path: Path) -> None:
    arguments = ["--data_path", table, *TINY, "--repeats", 3, "--no_probe", "--save_models", "--engine", "reference"]
    assert run(tmp_path / "here", *arguments).status == 0
    assert run(tmp_path / "there", *arguments, *nodes.flags, "--threads", 1).status == 0
    assert_same_results(tmp_path / "there", tmp_path / "here")


def test_a_search_from_a_saved_model_has_the_same_bits_there(nodes: Nodes, table: Path, tmp_path: Path) -> None:
    pretrained = run(tmp_path / "pretrained", "--data_path", table, *TINY, "--no_probe", "--save_models")
    assert pretrained.status == 0
    start = ["--init_from", tmp_path / "pretrained" / "best_model_latent3.pth", "--freeze_encoder"]
    arguments = ["--data_path", table, *SEARCHES["plain"], "--no_probe", "--save_models", *start]
    assert run(tmp_path / "here", *arguments).status == 0
    assert run(tmp_path / "there", *arguments, *nodes.flags).status == 0
    assert_same_results(tmp_path / "there", tmp_path / "here")


def test_a_long_training_is_saved_here_again_and_again_and_ends_with_the_same_bits(
    nodes: Nodes, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "CHECKPOINT_SECONDS", 0.0)  # all count as long: each epoch is a task
    saved: list[int] = []
    save = Checkpoints.save

    def note(self: Checkpoints, trial: Trial, state: Any) -> None:
        saved.append(state.epoch)
        save(self, trial, state)

    monkeypatch.setattr(Checkpoints, "save", note)
    monkeypatch.setattr(machines, "batch_seconds", lambda left, n_cores: 0.0)
    arguments = ["--data_path", table, *SEARCHES["plain"], "--no_probe"]
    assert run(tmp_path / "there", *arguments, *nodes.flags).status == 0
    assert sorted(saved) == [1] * N_TRIALS + [2] * N_TRIALS
    here = run(tmp_path / "here", *arguments)
    assert_same_results(tmp_path / "there", here.folder)


# ------------------------------------------------------------------------------------ what dies


def test_a_node_that_dies_loses_only_its_batch(
    nodes: Nodes, longer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed = nodes.add()
    notes = tmp_path / "notes"
    notes.mkdir()
    folder = str(notes)

    def noting(ray: Any, _: Any) -> Any:
        def run_batch(expected: Any, shared: Any, work: bytes) -> Any:
            import os
            import time

            from layersearch.engines.machines import train_batch

            node = ray.get_runtime_context().get_node_id()
            name = f"{folder}/{node}_{os.getpid()}_{len(os.listdir(folder))}"
            open(f"{name}_started", "w").close()
            if node == doomed:
                time.sleep(600)  # the node keeps this batch until it dies
            answer = train_batch(expected, shared, work)
            open(f"{name}_ended", "w").close()
            return answer

        return ray.remote(num_cpus=1, max_retries=machines.RETRIES)(run_batch)

    changing_tasks(monkeypatch, noting)
    batches = note_given_out(monkeypatch)

    def count(what: str) -> int:
        return len(list(notes.glob(what)))

    def kill() -> None:
        deadline = time.monotonic() + PATIENCE  # for the node to get a batch
        while not count(f"{doomed}*started") and time.monotonic() < deadline:
            time.sleep(0.002)
        nodes.kill(doomed)

    after_record(monkeypatch, 3, kill)
    done = run(tmp_path / "there", *LONGER, *nodes.flags)
    assert (done.status, done.err.count("Note")) == (0, done.err.count("\n"))  # no notes but those about the sample
    assert_same_results(tmp_path / "there", longer.folder)
    trials = [trial for batch in batches for trial in batch]
    assert n_records(journal_path(tmp_path / "there").read_bytes()) == len(trials) == len(set(trials))
    assert count("*started") - count("*ended") == 1
    assert count("*ended") == len(batches)


def test_a_driver_that_is_killed_goes_on_from_its_journal(
    nodes: Nodes, longer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [sys.executable, str(ROOT / "hyperparam_optimizer.py"), *LONGER, *nodes.flags]
    journal = journal_path(tmp_path / "there")
    process = subprocess.Popen([*words, "--output_dir", str(tmp_path / "there")], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while not (journal.exists() and n_records(journal.read_bytes()) >= 2) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    left = n_records(journal.read_bytes())
    batches = note_given_out(monkeypatch)
    assert run(tmp_path / "there", *LONGER, *nodes.flags).status == 0
    trials = [trial for batch in batches for trial in batch]
    assert 2 <= left < 15
    assert len(trials) == len(set(trials)) == 15 - left
    assert_same_results(tmp_path / "there", longer.folder)


def test_ctrl_c_reports_what_there_is_and_the_same_command_goes_on(
    nodes: Nodes, finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data_path", table, *SEARCHES["plain"], *nodes.flags, "--threads", 1]
    with monkeypatch.context() as patches:
        patches.setattr(machines, "batch_seconds", lambda left, n_cores: 0.0)  # one training in each batch
        after_record(patches, 4, raising(signal.SIGINT))
        done = run(tmp_path, *arguments, latent=True)
    assert done.status == 130
    assert done.err == (
        f"Note: interrupted, 2 of {SMALL_CONFIGURATIONS} configurations trained; the same command goes on from here\n"
    )
    assert done.results()["complete"] is False
    assert run(tmp_path, *arguments, latent=True).status == 0
    assert_same_results(tmp_path, finished.folder)


def test_a_cluster_that_is_lost_costs_one_line_and_no_training(
    nodes: Nodes, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data_path", table, *SEARCHES["plain"], *nodes.flags]
    with monkeypatch.context() as patches:
        for name in ("LOOK_SECONDS", "GONE_SECONDS"):
            patches.setattr(machines, name, 0.0)
        after_record(patches, 3, lambda: patches.setattr(machines, "_listens", lambda address: False))
        done = run(tmp_path, *arguments)
    assert "the Ray cluster does not go on (its head does not answer)" in assert_one_line(done, 1)
    assert n_records(journal_path(tmp_path).read_bytes()) >= 3
    again = run(tmp_path, *arguments)
    assert (again.status, again.err) == (0, "")


# ------------------------------------------------------------------------------------ who is refused


def a_changed_copy(folder: Path) -> Path:
    """Returns a copy of the program whose text differs but whose numbers do not."""
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder / path.name)
    shutil.copytree(ROOT / "layersearch", folder / "layersearch", ignore=shutil.ignore_patterns("__pycache__"))
    with open(folder / "losses.py", "a", encoding="utf-8") as file:
        file.write("CHANGED = True\n")
    return folder


def another_numba(folder: Path) -> str:
    """Returns a path on which metadata of another version of Numba comes first."""
    metadata = folder / "numba-0.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n", encoding="utf-8")
    return f"{folder}{os.pathsep}{ROOT}"


@pytest.mark.parametrize(
    ("make_path", "said"),
    [
        (a_changed_copy, "has program {other}, this machine {own}; copy this program there"),
        (another_numba, "has numba 0.1, this machine {numba}; install the same there"),
        (
            lambda folder: folder,
            "cannot import this program (No module named 'layersearch'); have this program and what ",
        ),
    ],
    ids=["another program", "another Numba", "no program"],
)
def test_a_machine_that_is_not_as_this_one_is_refused_with_one_line(
    make_path: Callable[[Path], object],
    said: str,
    own_nodes: Nodes,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = str(make_path(elsewhere))
    monkeypatch.chdir(tmp_path)  # workers also import from this process's working directory
    changing_tasks(
        monkeypatch, lambda ray, task: task.options(runtime_env={"env_vars": {"PYTHONPATH": path}}, max_retries=0)
    )
    done = run(tmp_path / "out", "--data_path", table, *SMALL, *own_nodes.flags)
    line = assert_one_line(done, 2)
    assert line.startswith("error: --distributed ray: node ")
    own = identity._program_digest()
    with monkeypatch.context() as patches:
        patches.setattr(identity, "PROGRAM", elsewhere)
        other = identity._program_digest() if (elsewhere / "losses.py").exists() else ""
    assert said.format(own=own, other=other, numba=identity._version("numba")) in line


@pytest.mark.parametrize("name", REMEDIES)
def test_a_difference_names_the_node_both_values_and_the_remedy(name: str) -> None:
    ours: dict[str, str | None] = dict.fromkeys(REMEDIES, "same")
    assert difference("n1", ours, ours) == ""
    assert difference("n1", ours | {name: "a"}, ours | {name: "b"}) == (
        f"node n1 has {name} a, this machine b; {REMEDIES[name]}"
    )


def test_all_that_must_be_the_same_has_a_remedy() -> None:
    told = {"engine", "device"}  # the machine is told these
    assert set(machine_identity("0", torch.device("cpu"), "compiled")) - told == set(REMEDIES)


# ------------------------------------------------------------------------------------ no cluster


def test_without_ray_one_line_says_what_to_install(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    line = assert_one_line(run(tmp_path, "--data_path", table, *TINY, *ON_RAY), 2)
    assert line.startswith("error: --distributed ray needs Ray (")
    assert line.endswith("; pip install -r requirements-ray.txt")
    assert run(tmp_path, "--data_path", table, *TINY).status == 0


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_where_nothing_answers_one_line_says_how_to_start_a_cluster(
    way: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.txt)")
    flags = ["--ray_address", "127.0.0.1:1"] if way == "flag" else []
    if way == "environment":
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    line = assert_one_line(run(tmp_path, "--data_path", table, *TINY, *ON_RAY, *flags), 2)
    asked = "127.0.0.1:1" if way == "flag" else "auto"
    assert line == f"error: --ray_address {asked}: nothing answers at 127.0.0.1:1; start one with: ray start --head"


def test_an_error_of_ray_becomes_one_line(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.txt)")

    def refuse(**_: Any) -> None:
        raise RuntimeError("Version mismatch:\n    Ray: 2.0\n")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", refuse)
    line = assert_one_line(run(tmp_path, "--data_path", table, *TINY, *ON_RAY), 2)
    assert line == "error: --ray_address auto: Version mismatch: Ray: 2.0; start one with: ray start --head"


def test_a_cluster_that_never_answers_is_given_up(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.txt)")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda **_: time.sleep(2))
    monkeypatch.setattr(machines, "ANSWER_SECONDS", 0.2)
    line = assert_one_line(run(tmp_path, "--data_path", table, *TINY, *ON_RAY), 2)
    assert line == (
        "error: --ray_address auto: no Ray cluster answers within 0 s; ray stop, then start one with: ray start --head"
    )


# ------------------------------------------------------------------------------------ batches


@given(left=st.floats(0, 1e9), n_cores=st.integers(1, 100_000))
def test_a_batch_is_about_a_second_or_what_the_driver_can_keep_pace_with(left: float, n_cores: int) -> None:
    seconds = batch_seconds(left, n_cores)
    assert 0 <= seconds <= max(machines.BATCH_SECONDS, machines.TASK_SECONDS * n_cores)
    if left > 1e8 and n_cores <= 250:
        assert seconds == machines.BATCH_SECONDS
    if left > 1e-6:  # handing out the rest takes no longer than the longest batch, or than each core's share of work
        assert left / seconds * machines.TASK_SECONDS <= max(seconds, left / n_cores) * (1 + 1e-9)


SETTINGS = TrainingSettings(
    latent_dim=3, epochs=20, batch_size=32, initial_lr=0.01, eta_min=1e-6, weight_decay=1e-4, dropout=0.1, seed=5
)


@pytest.fixture
def split_table() -> SplitTable:
    return SplitTable(torch.rand(2000, 24), torch.arange(1600), torch.arange(1600, 2000))


def test_every_trial_is_given_out_once_in_batches_that_shrink(split_table: SplitTable) -> None:
    trials = [Trial((64, 64), repeat) for repeat in range(500)]
    plan = Plan(trials, "compiled", {None: split_table}, SETTINGS, InMemory())
    batches = []
    while plan:
        settings, batch = plan.take(4)
        assert settings == SETTINGS
        batches.append([trial for trial, _ in batch])
    assert [trial for batch in batches for trial in batch] == trials
    sizes = list(map(len, batches))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 5
    assert sizes[-1] == 1


def test_a_long_training_pauses_about_every_minute_and_then_goes_first(split_table: SplitTable) -> None:
    settings, states = replace(SETTINGS, epochs=1_000_000, pause_after=900_000), InMemory()
    first, second = (Trial((64, 64), repeat) for repeat in range(2))
    plan = Plan([first, second], "compiled", {None: split_table}, settings, states)
    made, [(trial, state)] = plan.take(4)
    assert (trial, state) == (first, None)
    pause = made.pause_after
    assert pause is not None
    assert 1000 < pause < 100_000
    assert made == replace(settings, pause_after=pause)
    parameters = np.zeros(3, dtype=np.float32)
    saved = replace(first_state(parameters, settings), epoch=pause)
    states.save(first, saved)
    paused = replace(make_trial((64, 64), 0), is_paused=True, test_losses=np.zeros(pause))
    assert plan.goes_on(paused)
    again, [(trial, state)] = plan.take(4)
    assert trial == first
    assert state is saved
    assert again.pause_after == 2 * pause
    assert not plan.goes_on(replace(paused, test_losses=np.zeros(900_000)))  # the strategy's own pause
    assert not plan.goes_on(make_trial((64, 64), 0))
    assert len(plan) == 1


def test_a_state_sent_there_and_back_can_be_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    states = InMemory()

    def train(trial: Trial) -> TrialResult:
        state = states.load(trial)
        assert state is not None
        state.parameters += 1  # in place
        states.save(trial, replace(state, epoch=state.epoch + 2))
        return replace(make_trial(trial.config, trial.repeat), is_paused=True)

    monkeypatch.setattr(machines, "_refusal", lambda expected: "")
    monkeypatch.setattr(machines, "_trainer", lambda *_: (train, states))
    trial, state = Trial((4,), 0), first_state(np.zeros(5, dtype=np.float32), SETTINGS)
    for epoch in (2, 4):
        answer = machines.train_batch({}, [None], pickle.dumps(("compiled", SETTINGS, [(trial, state)])))
        assert isinstance(answer, bytes)
        [(_, state)] = pickle.loads(answer)
        assert (state.epoch, state.parameters.tolist()) == (epoch, [epoch / 2] * 5)
        assert states.load(trial) is None


def test_a_trial_that_does_not_fit_there_is_a_failed_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(trial: Trial) -> TrialResult:
        raise MemoryError

    monkeypatch.setattr(machines, "_refusal", lambda expected: "")
    monkeypatch.setattr(machines, "_trainer", lambda *_: (fail, InMemory()))
    work = pickle.dumps(("compiled", SETTINGS, [(Trial((4,), 0), None)]))
    answer = machines.train_batch({}, [None], work)
    assert isinstance(answer, bytes)
    [(result, state)] = pickle.loads(answer)
    assert (result.out_of_memory, state) == (True, None)


def test_weights_are_sent_back_only_if_training_again_would_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(trial: Trial) -> TrialResult:
        return replace(make_trial(trial.config, trial.repeat), parameters=np.ones(5), seconds=2.0 * trial.repeat)

    monkeypatch.setattr(machines, "_refusal", lambda expected: "")
    monkeypatch.setattr(machines, "_trainer", lambda *_: (train, InMemory()))
    batch: Sequence[Any] = [(Trial((4,), repeat), None) for repeat in (0, 1)]
    answer = machines.train_batch({}, [None], pickle.dumps(("compiled", SETTINGS, batch)))
    assert isinstance(answer, bytes)
    assert [result.parameters.size for result, _ in pickle.loads(answer)] == [0, 5]
