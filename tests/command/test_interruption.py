"""The first signal asks, the second leaves, and none is lost."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import impatient

from layersearch.command import interruption
from layersearch.command.interruption import READER_GONE, Interruption
from layersearch.errors import Interrupted

STOPPING = [number for name in interruption.SIGNALS if (number := getattr(signal, name, None)) is not None]
PATIENCE = 10.0  # seconds, for what takes a fraction of one


class LeftError(Exception):
    """In place of the end of the process."""


@pytest.fixture(autouse=True)
def _handlers_are_as_before() -> Iterator[None]:
    before = [signal.getsignal(number) for number in STOPPING]
    yield
    assert [signal.getsignal(number) for number in STOPPING] == before


@pytest.fixture
def leaves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit statuses with which the process would have ended."""
    statuses: list[int] = []

    def leave(status: int) -> None:
        statuses.append(status)
        raise LeftError

    monkeypatch.setattr(os, "_exit", leave)
    return statuses


@pytest.mark.parametrize("number", STOPPING)
def test_before_there_is_anything_to_lose_a_signal_ends_the_process(
    number: int, leaves: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LeftError), Interruption():
        signal.raise_signal(number)
    assert leaves == [128 + number]
    assert capfd.readouterr().err == "hyperparam_optimizer.py: interrupted\n"


@pytest.mark.parametrize("number", STOPPING)
def test_later_the_first_asks_to_stop_and_the_second_raises(
    number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    impatient(monkeypatch)
    with Interruption() as asked:
        asked.is_deferred = True
        assert not asked.is_requested()
        signal.raise_signal(number)
        assert asked.is_requested()
        assert asked.status == 128 + number
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
        assert asked.status == 128 + number, "the first one's"
    assert capfd.readouterr().err == ""


def test_a_signal_that_is_sent_twice_at_once_counts_as_one() -> None:
    with Interruption() as asked:
        asked.is_deferred = True
        signal.raise_signal(signal.SIGTERM)  # as `timeout` does: to the process and to its group
        signal.raise_signal(signal.SIGTERM)
        assert asked.status == 143


def test_a_reader_that_is_gone_is_no_first_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    with Interruption() as asked:
        asked.is_deferred = True
        asked.request()
        signal.raise_signal(signal.SIGTERM)  # a terminal that closes does both
        assert asked.status == READER_GONE


def test_what_the_parent_has_ignored_stays_ignored() -> None:
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as asked:
            signal.raise_signal(signal.SIGINT)
            assert not asked.is_requested()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


def test_a_handler_that_is_not_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    with Interruption() as asked:
        pass
    monkeypatch.undo()
    assert not asked.is_requested()


def test_outside_the_main_thread_no_handler_is_set() -> None:
    faults: list[BaseException] = []

    def enter() -> None:
        try:
            with Interruption() as asked:
                asked.request()
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert faults == []


def test_an_import_is_finished_before_a_second_signal_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    (tmp_path / "half_imported.py").write_text("import signal; signal.raise_signal(signal.SIGINT); whole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "half_imported", raising=False)
    with Interruption() as asked:
        asked.is_deferred = True
        signal.raise_signal(signal.SIGINT)
        assert importlib.import_module("half_imported").whole
        with pytest.raises(Interrupted):
            _compute(PATIENCE)


def _compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
