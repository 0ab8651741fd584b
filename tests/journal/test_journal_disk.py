"""The journal on a disk that fills up, loses files or is slow; checkpoints; and kills at any moment."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journals import (
    EPOCHS,
    OTHER,
    RESULTS,
    bits,
    found,
    journal_path,
    line_ends,
    make_result,
    make_state,
    open_here,
    read_lines,
    state_bits,
    without_weights,
    write_journal,
)

from layersearch.journal import journal
from layersearch.journal.journal import Journal
from layersearch.journal.records import Key, read_records
from layersearch.space.trials import TrialResult

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps open files where they are")

# The disk


class Disk(NamedTuple):
    """A clock that advances only when it is told to, and the times at which the journal was flushed."""

    journal: Journal
    seconds: list[float]
    synced: list[float]

    def at(self, seconds: float) -> None:
        self.seconds[0] = seconds


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Yields an open journal with a watched `os.fsync`."""
    with open_here(tmp_path) as opened:
        disk = Disk(opened, [100.0], [])
        file = opened._file.fileno()
        monkeypatch.setattr(os, "fsync", lambda fd: disk.synced.append(disk.seconds[0]) if fd == file else None)
        monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: disk.seconds[0]))
        opened._last_sync = 100.0
        yield disk


def test_what_is_appended_is_on_the_disk_after_a_second_and_a_seconds_trials_share_one_sync(disk: Disk) -> None:
    appended = {100.0: 0, 100.4: 1, 100.9: 2, 103.0: 3}
    for tenth in range(1000, 1060):
        disk.at(tenth / 10)
        if tenth / 10 in appended:
            disk.journal.append(
                Key(RESULTS[appended[tenth / 10]].trial, EPOCHS), RESULTS[appended[tenth / 10]], with_weights=False
            )
        disk.journal.sync()
    assert disk.synced == [101.0, 103.0]


def test_it_can_be_brought_to_the_disk_at_once(disk: Disk) -> None:
    disk.journal.append(Key(RESULTS[0].trial, EPOCHS), RESULTS[0], with_weights=False)
    for _ in range(2):
        disk.journal.sync(at_once=True)
    assert disk.synced == [100.0]


def test_where_nothing_was_appended_nothing_is_synced(disk: Disk) -> None:
    for seconds in range(100, 110):
        disk.at(seconds)
        disk.journal.sync()
    assert disk.synced == []


def test_what_is_not_yet_on_the_disk_goes_there_when_the_journal_is_left(disk: Disk) -> None:
    disk.journal.append(Key(RESULTS[0].trial, EPOCHS), RESULTS[0], with_weights=False)
    disk.journal.__exit__(None, None, None)
    assert disk.synced == [100.0]


def test_what_is_appended_is_in_the_file_at_once(disk: Disk) -> None:
    for number, result in enumerate(RESULTS, 1):
        disk.journal.append(Key(result.trial, EPOCHS), result, with_weights=False)
        assert len(read_lines(disk.journal.path)) == 1 + number


@posix_only
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_journal_that_is_removed_while_it_is_open_comes_back_whole(disk: Disk, what: str) -> None:
    disk.journal.append(Key(RESULTS[0].trial, EPOCHS), RESULTS[0], with_weights=True)
    path = disk.journal.path
    path.unlink() if what == "file" else shutil.rmtree(path.parent)
    disk.journal.append(Key(RESULTS[1].trial, EPOCHS), RESULTS[1], with_weights=False)
    disk.at(101)
    disk.journal.sync()
    disk.journal.append(Key(RESULTS[2].trial, EPOCHS), RESULTS[2], with_weights=False)
    expected = [bits(RESULTS[0]), without_weights(RESULTS[1]), without_weights(RESULTS[2]), None]
    assert found(path.parent) == expected


@posix_only
def test_a_journal_that_another_process_has_replaced_is_an_error(disk: Disk, tmp_path: Path) -> None:
    disk.journal.append(Key(RESULTS[0].trial, EPOCHS), RESULTS[0], with_weights=False)
    other = tmp_path / "other"
    other.write_text("another's")
    os.replace(other, disk.journal.path)
    disk.at(101)
    with pytest.raises(OSError, match="replaced by another process"):
        disk.journal.sync()
    assert disk.journal.path.read_text() == "another's"


def test_what_can_only_be_written_in_parts_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_here(tmp_path) as opened:
        file = opened._file
        parts = SimpleNamespace(write=lambda data: file.write(data[:7]), fileno=file.fileno, close=file.close)
        parts.closed = False
        monkeypatch.setattr(opened, "_file", parts)
        opened.append(Key(RESULTS[0].trial, EPOCHS), RESULTS[0], with_weights=True)
    assert found(tmp_path)[0] == bits(RESULTS[0])


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Lets no file of this process grow beyond `size` bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_record_for_which_there_is_no_room_leaves_what_was_there(tmp_path: Path, room: int) -> None:
    path = write_journal(tmp_path, RESULTS[:2])
    before = path.read_bytes()
    with open_here(tmp_path) as opened:
        with limited(len(before) + room), pytest.raises(OSError, match=r"journal_latent3\.jsonl") as caught:
            opened.append(Key(RESULTS[3].trial, EPOCHS), RESULTS[3], with_weights=False)
        assert caught.value.errno == errno.EFBIG
        assert path.read_bytes() == before
        opened.append(Key(RESULTS[2].trial, EPOCHS), RESULTS[2], with_weights=False)  # there is room again
    notices: list[str] = []
    expected = [*(without_weights(result) for result in RESULTS[:3]), None]
    assert found(tmp_path, notices=notices) == expected
    assert notices == []


@pytest.mark.parametrize("is_fresh", [False, True])
def test_a_journal_that_cannot_be_completed_for_want_of_room_is_an_error_of_the_system(
    tmp_path: Path, is_fresh: bool
) -> None:
    write_journal(tmp_path, RESULTS[:1])
    with pytest.raises(OSError, match=r"File too large"), open_here(tmp_path, fresh=is_fresh) as opened:  # noqa: PT012
        opened.append(Key(RESULTS[1].trial, EPOCHS), RESULTS[1], with_weights=True)
        with limited(100):
            opened.complete(None, EPOCHS)
    records = read_records(journal_path(tmp_path))
    assert records is not None
    assert (records.is_sound, len(records.results)) == (True, 1 if is_fresh else 2)
    assert found(tmp_path, RESULTS[1:2]) == [bits(RESULTS[1])], "nothing is lost"


# Checkpoints


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Journal]:
    """Yields a journal in `tmp_path`."""
    with open_here(tmp_path) as opened:
        yield opened


TRIALS = [result.trial for result in RESULTS]


def test_the_state_that_was_saved_last_comes_back_bit_for_bit(opened: Journal) -> None:
    checkpoints = opened.checkpoints(EPOCHS)
    assert checkpoints.load(TRIALS[0]) is None
    for number, state in ((0, make_state(5)), (0, make_state(6)), (1, make_state(7))):
        checkpoints.save(TRIALS[number], state)
    for number, state in ((0, make_state(6)), (1, make_state(7))):
        assert state_bits(checkpoints.load(TRIALS[number])) == state_bits(state)
    assert checkpoints.load(TRIALS[2]) is None
    assert opened.checkpoints(2 * EPOCHS).load(TRIALS[0]) is None


def test_a_state_that_came_back_can_be_trained_in_place(opened: Journal) -> None:
    opened.checkpoints(EPOCHS).save(TRIALS[0], make_state(5))
    state = opened.checkpoints(EPOCHS).load(TRIALS[0])
    assert state is not None
    for array in (state.train_losses, state.test_losses, state.parameters, state.moments):
        array[...] = 0


def test_the_state_of_another_search_is_not_taken(opened: Journal, tmp_path: Path) -> None:
    opened.checkpoints(EPOCHS).save(TRIALS[0], make_state(5))
    with open_here(tmp_path, OTHER, fresh=True) as other:
        assert other.checkpoints(EPOCHS).load(TRIALS[0]) is None
        other.checkpoints(EPOCHS).save(TRIALS[0], make_state(6))
    assert state_bits(opened.checkpoints(EPOCHS).load(TRIALS[0])) == state_bits(make_state(5))


def test_a_damaged_state_is_none(opened: Journal, tmp_path: Path) -> None:
    checkpoints = opened.checkpoints(EPOCHS)
    checkpoints.save(TRIALS[0], make_state(5))
    (path,) = tmp_path.glob("checkpoint_latent3_*.npz")
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (whole.index(b"epoch.npy") + 200, middle)
    ]
    for content in (whole[:-2], whole[:40], b"", b"\0" * len(whole), *flipped):
        path.write_bytes(content)
        assert checkpoints.load(TRIALS[0]) is None


def test_all_states_are_removed_when_the_search_is_complete(opened: Journal, tmp_path: Path) -> None:
    checkpoints = opened.checkpoints(EPOCHS)
    for trial in TRIALS[:3]:
        checkpoints.save(trial, make_state(5))
    checkpoints.remove(TRIALS[0])
    assert [checkpoints.load(trial) is None for trial in TRIALS] == [True, False, False, True]
    opened.complete(None, EPOCHS)
    assert {path.name for path in tmp_path.iterdir()} == {"journal_latent3.jsonl"}


def test_a_state_for_which_there_is_no_room_leaves_the_last(opened: Journal, tmp_path: Path) -> None:
    checkpoints = opened.checkpoints(EPOCHS)
    checkpoints.save(TRIALS[0], make_state(5))
    with limited(50), pytest.raises(OSError, match="File too large"):
        checkpoints.save(TRIALS[0], make_state(6))
    assert state_bits(checkpoints.load(TRIALS[0])) == state_bits(make_state(5))
    assert len(list(tmp_path.iterdir())) == 2, "no temporary file is left"


# Whatever may happen

MANY = [make_result(number, n_parameters=3) for number in range(6)]
steps = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("kill"), st.floats(0, 1), st.booleans()),
)


def lines_of(data: bytes) -> dict[tuple[str, int], int]:
    """Returns the end of each record in the file, by kind and repeat."""
    lines = data.splitlines(keepends=True)
    records = [json.loads(line.split(b" ", 1)[1]) for line in lines[1:]]
    return {(r["kind"], r["repeat"]): end - 1 for r, end in zip(records, line_ends(data)[1:], strict=True)}


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(steps, max_size=25))
def test_however_it_is_killed_what_was_whole_is_there_and_the_end_is_the_same(
    story: list[tuple[str, Any, bool]],
) -> None:
    with tempfile.TemporaryDirectory() as name, mock.patch("os.fsync"):
        folder = Path(name)
        opened = open_here(folder)
        for what, value, flag in story:
            if what == "append":
                if opened.find(Key(MANY[value].trial, EPOCHS)) is None:  # as a search does
                    opened.append(Key(MANY[value].trial, EPOCHS), MANY[value], with_weights=flag)
                continue
            opened._file.close()  # the process is gone
            data = opened.path.read_bytes()
            cut = round(value * len(data)) if flag else len(data)
            opened.path.write_bytes(data[:cut])
            whole = {record for record, end in lines_of(data).items() if end <= cut}
            if cut < line_ends(data)[0] - 1:
                whole = set()
            opened = open_here(folder)
            for result in MANY:
                kept = opened.find(Key(result.trial, EPOCHS))
                is_whole, has_weights = (kind_is(kind, result) in whole for kind in ("trial", "weights"))
                expected = bits(result) if has_weights else without_weights(result)
                assert bits(kept) == (expected if is_whole else None)
        for result in MANY:
            opened.append(Key(result.trial, EPOCHS), result, with_weights=False)
            opened.append_weights(Key(result.trial, EPOCHS), result)
        opened._file.close()
        assert found(folder, MANY) == [bits(result) for result in MANY]


def kind_is(kind: str, result: TrialResult) -> tuple[str, int]:
    """Returns the name that `lines_of` gives a record."""
    return kind, result.trial.repeat
