"""Trains trials on several machines, as tasks of a running Ray cluster.

    with connected("10.0.0.1:6379", limit, identity, stops) as machines:
        for result in machines.run_trials(trials, "compiled", tables, settings, checkpoints, stops=stops):
            ...

Every machine has its own copy of this program. If its program, libraries, processor or arithmetic differ from those of
this machine, it is refused, because its results could differ. Only this process writes files. Trials and results are
pickled here and sent as bytes, because arrays that Ray itself unpickles are read-only. `benchmarks/many_machines.md`
explains the constants below.

Ray: Moritz et al. 2018, OSDI, arXiv:1712.05889.
"""

from __future__ import annotations

import math
import os
import pickle
import platform
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

import torch

from layersearch.background import POLL_SECONDS
from layersearch.engines.dispatch import make_trainer, try_out
from layersearch.engines.lifecycle import CHECKPOINT_SECONDS, Checkpoints, InMemory, Trainer
from layersearch.engines.settings import SplitTable, TrainingSettings, nominal_seconds
from layersearch.engines.workers import is_out_of_memory
from layersearch.errors import Interrupted, UsageError
from layersearch.journal.identity import machine_identity
from layersearch.space.configurations import ParameterCounts
from layersearch.space.trials import Trial, TrialResult, TrialState, no_memory_for
from layersearch.words import count

Identity = Mapping[str, str | None]
Tables = Mapping[int | None, SplitTable]
Batch = list[tuple[Trial, TrialState | None]]

BATCH_SECONDS = 1.0  # estimated work in a task, which is lost if its machine fails
TASK_SECONDS = 0.004  # time this process spends on each task; a batch must take longer than handing out one per core
SHARES = 4  # towards the end, the number of batches into which each core's share of the remaining work is divided
QUEUED = 2  # number of tasks submitted for each core, so that no core waits for this process
RETRIES = 5  # number of retries of a batch whose machine or process failed
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
LOOK_SECONDS = 5.0  # time between two checks of the cluster's size
GONE_SECONDS = 10.0  # time without an answer from the head node after which the cluster is considered lost
SETTINGS = {  # prevent Ray from writing to the console and from reporting usage statistics
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
INSTALL = "pip install -r requirements-ray.txt"
SAME_PROGRAM = (
    "have this program and what it requires there too, at the same path or on PYTHONPATH where Ray is started"
)


# In the process that the user started


@contextmanager
def connected(
    address: str | None, limit: int, identity: Identity, stops: Callable[[], bool]
) -> Iterator[Machines | None]:
    """Connects to a Ray cluster for the duration of the `with` block.

    Args:
        address: `--ray_address`, such as "auto" or "10.0.0.1:6379"; None yields None instead of a cluster.
        limit: the largest number of trainings at a time; 0 for the number of cores of the cluster.
        identity: the properties that every machine must share with this one (`journal/identity.py`).
        stops: returns whether to stop waiting for the cluster; called a few times a second.

    Raises:
        UsageError: Ray is not installed, or no cluster answers.
        Interrupted: `stops` returned True first.
    """
    if address is None:
        yield None
        return
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"--distributed ray needs Ray ({error}); {INSTALL}") from None
    _connect(ray, address, stops)
    machines = Machines(ray, limit, identity)
    try:
        if not machines.n_cores:
            raise UsageError("--distributed ray: the cluster has no cores; start a node (ray start --address=...)")
        yield machines
    finally:
        if not machines.is_lost:  # for a lost cluster Ray would wait, and then end this process
            ray.shutdown()


def _connect(ray: Any, address: str, stops: Callable[[], bool]) -> None:
    """Connects in a separate thread, because connecting may hang and Ray would replace signal handlers otherwise."""
    asked, remedy = f"--ray_address {address}", "start one with: ray start --head"
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    if address != "auto" and not _listens(address):
        raise UsageError(f"{asked}: nothing answers at {address}; {remedy}")
    errors: list[BaseException | None] = []

    def connect() -> None:
        try:
            ray._private.worker.print_to_stdstream = lambda *_, **__: None  # suppresses output of the workers
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
        except BaseException as error:  # includes SystemExit
            errors.append(error)
        else:
            errors.append(None)

    thread = threading.Thread(target=connect, daemon=True, name="ray")
    deadline = time.monotonic() + ANSWER_SECONDS
    with _without_stderr():
        thread.start()
        while thread.is_alive() and time.monotonic() < deadline and not stops():
            thread.join(POLL_SECONDS)
    if stops():
        raise Interrupted
    if not errors:
        raise UsageError(f"{asked}: no Ray cluster answers within {ANSWER_SECONDS:.0f} s; ray stop, then {remedy}")
    if errors[0]:
        raise UsageError(f"{asked}: {' '.join(str(errors[0]).split())}; {remedy}")


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Silences the log that Ray's C++ code writes to stderr until it is connected."""
    try:
        sys.stderr.flush()
        stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except (AttributeError, OSError):  # this process has no stderr
        yield
        return
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


class Machines:
    """The cluster that this process is connected to; `connected` describes the arguments."""

    def __init__(self, ray: Any, limit: int, identity: Identity) -> None:
        self.is_lost = False
        self._ray = ray
        self._limit = limit
        self._identity = dict(identity)
        self._address = ray.get_runtime_context().gcs_address
        self._last_look = self._last_seen = time.monotonic()
        self.n_cores = self._count_cores()
        self._tables: tuple[Tables, Any] | None = None

        def run_batch(expected: Identity, shared: list[Any], work: bytes) -> bytes | str:
            try:  # Ray sends only this function to a node, which needs its own copy of the program
                from layersearch.engines.machines import train_batch
            except ImportError as error:
                return f"node {platform.node()} cannot import this program ({error}); {SAME_PROGRAM}"
            return train_batch(expected, shared, work)

        self._run_batch = ray.remote(num_cpus=1, max_retries=RETRIES)(run_batch)

    def __str__(self) -> str:
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        limit = f", {count(self._limit, 'training')} at a time" if self._limit else ""
        return f"Ray, {count(nodes, 'node')} with {count(self.n_cores, 'core')}{limit}"

    @property
    def at_a_time(self) -> int:
        """The number of trainings at a time."""
        return self._limit or self.n_cores

    def run_trials(
        self,
        trials: Sequence[Trial],
        engine: str,
        tables: Tables,
        settings: TrainingSettings,
        checkpoints: Checkpoints,
        *,
        stops: Callable[[], bool],
    ) -> Iterator[TrialResult]:
        """Trains all trials and yields their results as batches finish, like `workers.run_trials`.

        States of paused trainings are loaded from `checkpoints` and saved there.

        Raises:
            UsageError: a machine differs from this one.
            ConnectionError: the cluster does not answer, or its processes fail repeatedly.
        """
        if not trials or stops():
            return
        self._last_look = self._last_seen = time.monotonic()
        plan = Plan(trials, engine, tables, settings, checkpoints)
        shared = [self._put(tables)]
        done: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        pending: dict[Any, Any] = {}
        try:
            while plan or pending:
                while plan and len(pending) < (self._limit or QUEUED * self.n_cores) and not stops():
                    work = pickle.dumps((engine, *plan.take(self.at_a_time)))
                    ref = self._run_batch.remote(self._identity, shared, work)
                    future = ref.future()
                    pending[future] = ref
                    future.add_done_callback(lambda future: done.put((future, future.exception())))
                finished = self._next(done, stops)
                if finished is None:
                    return
                future, error = finished
                del pending[future]
                for result, state in self._unpack(future, error):
                    if state is not None:
                        checkpoints.save(result.trial, state)
                    if not plan.goes_on(result):
                        yield result
        finally:
            if not self.is_lost:
                for ref in pending.values():
                    self._ray.cancel(ref, force=True)

    def _put(self, tables: Tables) -> Any:
        """Puts the tables into the cluster's object store, once, and returns the reference."""
        if self._tables is None or self._tables[0] is not tables:
            self._tables = tables, self._ray.put(dict(tables))
        return self._tables[1]

    def _next(self, done: SimpleQueue[Any], stops: Callable[[], bool]) -> Any:
        """Waits for the next finished batch; returns None if `stops` returns True and none is finished."""
        while True:
            self._look()
            stopping = stops()
            try:
                return done.get(block=not stopping, timeout=POLL_SECONDS)
            except Empty:
                if stopping:
                    return None

    def _look(self) -> None:
        """Checks every `LOOK_SECONDS` that the cluster still answers, and updates its number of cores."""
        now = time.monotonic()
        if now - self._last_look < LOOK_SECONDS:
            return
        self._last_look = now
        if _listens(self._address):
            self._last_seen = now
            self.n_cores = self._count_cores() or self.n_cores
        elif now - self._last_seen > GONE_SECONDS:
            self._lose("its head does not answer")

    def _lose(self, why: str) -> NoReturn:
        self.is_lost = True
        raise ConnectionError(f"the Ray cluster does not go on ({' '.join(why.split())[:200]})")

    def _count_cores(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0))

    def _unpack(self, future: Any, error: BaseException | None) -> list[tuple[TrialResult, TrialState | None]]:
        """Returns the results of a finished batch, with the states of paused trainings, or raises its error."""
        if isinstance(error, self._ray.exceptions.RayTaskError):
            raise getattr(error, "cause", None) or error
        if error:
            self._lose(str(error))
        answer = future.result()
        if isinstance(answer, str):
            raise UsageError(f"--distributed ray: {answer}")
        results: list[tuple[TrialResult, TrialState | None]] = pickle.loads(answer)
        return results


def batch_seconds(left: float, n_cores: int) -> float:
    """Returns the estimated work of the next batch, in seconds.

    It is about `BATCH_SECONDS`, and less towards the end so that all cores finish together. It is larger if this
    process could not submit batches of that size fast enough to keep all cores busy, but never so large that
    submitting the remaining batches takes less time than one batch.

    Args:
        left: estimated remaining work, in seconds.
        n_cores: number of cores of the cluster.
    """
    left = max(left, 0.0)
    by_pace = min(TASK_SECONDS * n_cores, math.sqrt(TASK_SECONDS * left))
    return max(by_pace, min(BATCH_SECONDS, left / (SHARES * n_cores)))


class Plan:
    """The trials that have not been submitted yet, divided into batches; false when there are none left."""

    def __init__(
        self, trials: Sequence[Trial], engine: str, tables: Tables, settings: TrainingSettings, checkpoints: Checkpoints
    ) -> None:
        table = next(iter(tables.values()))
        self._waiting = deque(trials)
        self._settings, self._checkpoints = settings, checkpoints
        n_parameters = ParameterCounts(table.input_dim, settings.latent_dim, **settings.normalizations)
        one_epoch = replace(settings, epochs=1)
        self._costs = {  # estimated seconds per epoch
            config: nominal_seconds(engine, n_parameters[config], len(table.train), one_epoch)
            for config in {trial.config for trial in trials}
        }
        self._left = sum(map(self._cost, trials))  # estimated seconds

    def __len__(self) -> int:
        return len(self._waiting)

    def _cost(self, trial: Trial) -> float:
        """Returns the estimated time of the whole training, in seconds."""
        return self._costs[trial.config] * self._settings.end

    def take(self, n_cores: int) -> tuple[TrainingSettings, Batch]:
        """Removes the next batch from the plan, and returns its settings and trials.

        A long trial is the only one in its batch. It pauses every `CHECKPOINT_SECONDS`, so that this process can save
        its state.
        """
        enough = batch_seconds(self._left, n_cores)
        batch: Batch = []
        cost = 0.0
        while self._waiting and (not batch or cost + self._cost(self._waiting[0]) <= enough):
            trial = self._waiting.popleft()
            batch.append((trial, self._checkpoints.load(trial)))
            cost += self._cost(trial)
        self._left -= cost
        (trial, state), *others = batch
        start = state.epoch if state else 0
        pause_after = start + max(1, int(CHECKPOINT_SECONDS / self._costs[trial.config]))
        if others or pause_after >= self._settings.end:
            return self._settings, batch
        return replace(self._settings, pause_after=pause_after), batch

    def goes_on(self, result: TrialResult) -> bool:
        """Returns whether a training only paused to save its state; if so, it is added to the plan again."""
        epochs_left = self._settings.end - len(result.test_losses)
        goes_on = result.is_paused and epochs_left > 0
        if goes_on:
            self._waiting.appendleft(result.trial)
            self._left += self._costs[result.trial.config] * epochs_left
        return goes_on


# In a process of the cluster


def train_batch(expected: Identity, shared: list[Any], work: bytes) -> bytes | str:
    """Trains a batch and returns the pickled results, or the reason why this machine is refused.

    Args:
        expected: the identity that this machine must have.
        shared: the reference to the tables, in a list because Ray fetches references that are passed directly.
        work: the pickled engine, settings and batch.
    """
    refusal = _refusal(tuple(expected.items()))
    if refusal:
        return refusal
    engine, settings, batch = pickle.loads(work)
    train, states = _trainer(engine, settings, *shared)
    done = []
    for trial, state in batch:
        if state:
            states.save(trial, state)
        result = _train(train, trial)
        keeps_weights = result.seconds >= BATCH_SECONDS  # others are faster to train again than to send
        parameters = result.parameters if keeps_weights else result.parameters[:0].copy()
        left = states.load(trial)  # also removes the state
        done.append((replace(result, parameters=parameters), left if result.is_paused else None))
    return pickle.dumps(done)


def _train(train: Trainer, trial: Trial) -> TrialResult:
    try:
        return train(trial)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return no_memory_for(trial)


@lru_cache(maxsize=1)
def _fetch(shared: Any) -> Tables:
    import ray

    tables: Tables = ray.get(shared)
    return tables


@lru_cache(maxsize=1)
def _trainer(engine: str, settings: TrainingSettings, shared: Any) -> tuple[Trainer, InMemory]:
    """Returns a trainer and its checkpoints in memory, cached for the next batch with the same settings."""

    states = InMemory()
    return make_trainer(engine, _fetch(shared), settings, states), states


@lru_cache(maxsize=1)
def _refusal(expected: tuple[tuple[str, str | None], ...]) -> str:
    """Returns why this machine is refused by one with the `expected` identity; empty if it is not."""

    theirs, node, cpu = dict(expected), platform.node(), torch.device("cpu")
    engine, arithmetic = str(theirs["engine"]), str(theirs["arithmetic"])
    differs = difference(node, machine_identity(arithmetic, cpu, engine), theirs)  # saves compiling the kernel
    return differs or difference(node, machine_identity(try_out(engine), cpu, engine), theirs)


def difference(node: str, ours: Identity, theirs: Identity) -> str:
    """Returns the first difference of two identities, such as `node n1 has numba 0.62, this machine 0.68; ...`.

    Returns an empty string if they are equal.
    """
    for name, remedy in REMEDIES.items():
        if ours.get(name) != theirs.get(name):
            return f"node {node} has {name} {ours.get(name)}, this machine {theirs.get(name)}; {remedy}"
    return ""


SAME_KIND = "bits are the same on one kind of machine alone; leave it out of the cluster, or start this command there"
REMEDIES = {
    "system": SAME_KIND,
    "processor": SAME_KIND,
    **dict.fromkeys(("torch", "numpy", "numba", "llvmlite"), "install the same there"),
    "program": "copy this program there",
    "arithmetic": "one of them computes other bits; leave it out of the cluster",
}
