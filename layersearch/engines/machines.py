"""Trials on several machines: batches of them as tasks of a Ray cluster that is already running.

    with connected(arguments, identity, stops) as machines:
        for result in machines.run_trials(trials, "compiled", tables, settings, checkpoints, stops=stops):
            ...

The machines have their own copy of this program, and are refused if that, or anything else that shapes bits, is not the
same as here. Only this process writes files. What goes to and fro is pickled here, as bytes: Ray's own way gives arrays
that cannot be written to. `benchmarks/many_machines.md` says where the numbers below come from.

Ray: Moritz et al. 2018, OSDI, arXiv:1712.05889.
"""

from __future__ import annotations

import argparse
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

from layersearch.engines.lifecycle import (
    CHECKPOINT_SECONDS,
    Checkpoints,
    InMemory,
    SplitTable,
    Trainer,
    TrainingSettings,
    nominal_seconds,
)
from layersearch.engines.workers import POLL_SECONDS, is_out_of_memory
from layersearch.errors import Interrupted, UsageError
from layersearch.journal.identity import machine_identity
from layersearch.space.configurations import ParameterCounts
from layersearch.space.trials import Trial, TrialResult, TrialState, no_memory_for
from layersearch.words import count

Identity = Mapping[str, str | None]
Tables = Mapping[int | None, SplitTable]
Batch = list[tuple[Trial, TrialState | None]]

BATCH_SECONDS = 1.0  # of nominal work in a task; what a machine that dies takes with it
TASK_SECONDS = (
    0.004  # that this process is busy with a task: a batch must keep its core busy while all others get theirs
)
SHARES = 4  # batches that each core gets of what is left: they shrink towards the end, so that all end together
QUEUED = 2  # tasks for each core, so that none waits for this process
RETRIES = 5  # of a batch whose machine or process dies
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
LOOK_SECONDS = 5.0  # between two looks at how many machines there are
GONE_SECONDS = 10.0  # without the head, after which the cluster is lost
SETTINGS = {  # of Ray, which else has its say on the console, or reports on its use
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
INSTALL = "pip install -r requirements-ray.txt"
SAME_PROGRAM = (
    "have this program and what it requires there too, at the same path or on PYTHONPATH where Ray is started"
)


# Here


@contextmanager
def connected(
    arguments: argparse.Namespace, identity: Identity, stops: Callable[[], bool]
) -> Iterator[Machines | None]:
    """The cluster that `--ray_address` names, as long as this lasts; None without `--distributed`.

    `identity`: what a machine must share with this one.

    Raises:
        UsageError: there is no Ray, or no cluster that answers.
        Interrupted: told to stop before one does.
    """
    if not arguments.distributed:
        yield None
        return
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"--distributed ray needs Ray ({error}); {INSTALL}") from None
    _connect(ray, arguments.ray_address, stops)
    machines = Machines(ray, arguments.threads, identity)
    try:
        if not machines.n_cores:
            raise UsageError("--distributed ray: the cluster has no cores; start a node (ray start --address=...)")
        yield machines
    finally:
        if not machines.is_lost:  # else Ray would wait for it, and then end the process
            ray.shutdown()


def _connect(ray: Any, address: str, stops: Callable[[], bool]) -> None:
    """In a thread of its own, which may hang, and where Ray leaves the handlers of signals alone."""
    asked, remedy = f"--ray_address {address}", "start one with: ray start --head"
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    if address != "auto" and not _listens(address):
        raise UsageError(f"{asked}: nothing answers at {address}; {remedy}")
    errors: list[BaseException | None] = []

    def connect() -> None:
        try:
            ray._private.worker.print_to_stdstream = lambda *_, **__: None  # what raylets report, to the console
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
        except BaseException as error:  # SystemExit, too
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
    """For Ray's own log, which goes there until it is connected, from C++."""
    try:
        sys.stderr.flush()
        stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except (AttributeError, OSError):  # there is none
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
    """The cluster this process is connected to."""

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
            try:  # this function is sent as it stands, the rest must be there
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
        """How many trainings: `--threads`, or as many as there are cores."""
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
        """Trains all trials and yields results as their batches finish; see `workers.run_trials`.

        What a trial paused with goes to `checkpoints`, and comes from there.

        Raises:
            UsageError: a machine is not as this one.
            ConnectionError: the cluster is gone, or its processes die again and again.
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
        """The tables in the cluster's object store, once."""
        if self._tables is None or self._tables[0] is not tables:
            self._tables = tables, self._ray.put(dict(tables))
        return self._tables[1]

    def _next(self, done: SimpleQueue[Any], stops: Callable[[], bool]) -> Any:
        """The next batch that is done; None if none is and it is time to stop."""
        while True:
            self._look()
            stopping = stops()
            try:
                return done.get(block=not stopping, timeout=POLL_SECONDS)
            except Empty:
                if stopping:
                    return None

    def _look(self) -> None:
        """Every now and then: whether the cluster is still there, and how large it is."""
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
        """What a batch came to."""
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
    """How much work the next batch is to hold, of so many seconds that are left.

    About `BATCH_SECONDS`; less towards the end, so that all cores end together; more where this process could not keep
    so many cores busy, but not so much that it has less to do than they have.
    """
    left = max(left, 0.0)
    by_pace = min(TASK_SECONDS * n_cores, math.sqrt(TASK_SECONDS * left))
    return max(by_pace, min(BATCH_SECONDS, left / (SHARES * n_cores)))


class Plan:
    """The trials that are still to be given out, in batches; truthy while there are any."""

    def __init__(
        self, trials: Sequence[Trial], engine: str, tables: Tables, settings: TrainingSettings, checkpoints: Checkpoints
    ) -> None:
        table = next(iter(tables.values()))
        self._waiting = deque(trials)
        self._settings, self._checkpoints = settings, checkpoints
        self._end = min(settings.epochs, settings.pause_after or settings.epochs)
        n_parameters = ParameterCounts(table.input_dim, settings.latent_dim, **settings.normalizations)
        one_epoch = replace(settings, epochs=1)
        self._costs = {  # seconds an epoch
            config: nominal_seconds(engine, n_parameters[config], len(table.train), one_epoch)
            for config in {trial.config for trial in trials}
        }
        self._left = sum(self._costs[trial.config] for trial in trials) * self._end  # seconds of work

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, n_cores: int) -> tuple[TrainingSettings, Batch]:
        """The next batch, and its settings: a long trial pauses every `CHECKPOINT_SECONDS`, to be saved here."""
        enough = batch_seconds(self._left, n_cores)
        batch: Batch = []
        cost = 0.0
        while self._waiting and (not batch or cost + self._costs[self._waiting[0].config] * self._end <= enough):
            trial = self._waiting.popleft()
            batch.append((trial, self._checkpoints.load(trial)))
            cost += self._costs[trial.config] * self._end
        self._left -= cost
        (trial, state), *others = batch
        start = state.epoch if state else 0
        pause_after = start + max(1, int(CHECKPOINT_SECONDS / self._costs[trial.config]))
        if others or pause_after >= self._end:
            return self._settings, batch
        return replace(self._settings, pause_after=pause_after), batch

    def goes_on(self, result: TrialResult) -> bool:
        """Whether it has only paused to be saved; then it waits again."""
        epochs_left = self._end - len(result.test_losses)
        goes_on = result.is_paused and epochs_left > 0
        if goes_on:
            self._waiting.appendleft(result.trial)
            self._left += self._costs[result.trial.config] * epochs_left
        return goes_on


# There


def train_batch(expected: Identity, shared: list[Any], work: bytes) -> bytes | str:
    """Trains a batch in a process of the cluster; returns the results, pickled, or why this machine is refused."""
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
        keeps_weights = result.seconds >= BATCH_SECONDS  # others are made again sooner than all are sent
        parameters = result.parameters if keeps_weights else result.parameters[:0].copy()
        left = states.load(trial)  # which forgets it
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
    """A trainer, and where it finds and leaves the states of what pauses; kept, since batches of a kind follow."""
    from layersearch.engines.training import make_trainer

    states = InMemory()
    return make_trainer(engine, _fetch(shared), settings, states), states


@lru_cache(maxsize=1)
def _refusal(expected: tuple[tuple[str, str | None], ...]) -> str:
    """Why this machine may not train what the one with this identity asks for; empty if it may. Found out once."""
    from layersearch.engines.training import try_out

    theirs, node, cpu = dict(expected), platform.node(), torch.device("cpu")
    engine, arithmetic = str(theirs["engine"]), str(theirs["arithmetic"])
    differs = difference(node, machine_identity(arithmetic, cpu, engine), theirs)  # before a kernel is compiled
    return differs or difference(node, machine_identity(try_out(engine), cpu, engine), theirs)


def difference(node: str, ours: Identity, theirs: Identity) -> str:
    """`node n1 has numba 0.62, this machine 0.68; ...`: what comes first of all that differs. Empty if nothing does."""
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
