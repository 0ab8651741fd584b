"""The journal returns its results bit for bit, and damage costs only the damaged record."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from journals import (
    EPOCHS,
    IDENTITY,
    OTHER,
    RESULTS,
    bits,
    found,
    journal_path,
    line_ends,
    make_state,
    open_here,
    read_lines,
    without_weights,
    write_journal,
)

from layersearch.errors import UsageError
from layersearch.journal import journal
from layersearch.journal.journal import open_journal
from layersearch.journal.records import Key, checksum, read_records
from layersearch.space.trials import Trial, no_memory_for


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `os.fsync` do nothing, for tests with many journals."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


# Round trip


def test_what_was_appended_comes_back_bit_for_bit(tmp_path: Path) -> None:
    write_journal(tmp_path, RESULTS, weights=[1])
    expected = [without_weights(result) for result in RESULTS]
    expected[1] = bits(RESULTS[1])
    assert found(tmp_path) == expected


def test_what_was_appended_is_found_at_once_as_it_will_be_later(tmp_path: Path) -> None:
    with open_here(tmp_path) as opened:
        for result in RESULTS:
            opened.append(Key(result.trial, EPOCHS), result, with_weights=False)
        now = [bits(opened.find(Key(result.trial, EPOCHS))) for result in RESULTS]
    assert now == [without_weights(result) for result in RESULTS] == found(tmp_path)


def test_losses_that_json_does_not_know_come_back_too(tmp_path: Path) -> None:
    result = replace(RESULTS[0], final_train_loss=float("nan"), final_test_loss=float("inf"))
    write_journal(tmp_path, [result])
    assert found(tmp_path, [result]) == [without_weights(result)]


def test_arrays_that_come_back_can_be_written_to(tmp_path: Path) -> None:
    write_journal(tmp_path, RESULTS[:1], weights=[0])
    with open_here(tmp_path) as opened:
        back = opened.find(Key(RESULTS[0].trial, EPOCHS))
    assert back is not None
    for array in (back.train_losses, back.test_losses, back.row_errors, back.parameters):
        array[...] = 0


@pytest.mark.parametrize("other", [Trial((1, 2), 1), Trial((1, 2), 0, 0), Trial((1,), 0), Trial((2, 1), 0)])
def test_another_trial_is_not_found(tmp_path: Path, other: Trial) -> None:
    write_journal(tmp_path, RESULTS[:1])
    with open_here(tmp_path) as opened:
        assert opened.find(Key(other, EPOCHS)) is None


def test_a_trial_of_more_epochs_is_another_training(tmp_path: Path) -> None:
    longer = replace(RESULTS[0], seconds=9.0)
    with open_here(tmp_path) as opened:
        opened.append(Key(longer.trial, 2 * EPOCHS), longer, with_weights=False)
        opened.append(Key(RESULTS[0].trial, EPOCHS), RESULTS[0], with_weights=False)
    with open_here(tmp_path) as opened:
        assert bits(opened.find(Key(longer.trial, 2 * EPOCHS))) == without_weights(longer)
        assert bits(opened.find(Key(longer.trial, EPOCHS))) == without_weights(RESULTS[0])


def test_what_did_not_fit_into_memory_is_not_kept(tmp_path: Path) -> None:
    trial = RESULTS[0].trial
    with open_here(tmp_path) as opened:
        opened.append(Key(no_memory_for(trial).trial, EPOCHS), no_memory_for(trial), with_weights=True)
        assert opened.find(Key(trial, EPOCHS)) is None
    assert len(read_lines(journal_path(tmp_path))) == 1


def test_weights_are_kept_once(tmp_path: Path) -> None:
    with open_here(tmp_path) as opened:
        opened.append(Key(RESULTS[0].trial, EPOCHS), RESULTS[0], with_weights=True)
        opened.append_weights(Key(RESULTS[0].trial, EPOCHS), RESULTS[0])
    assert [line["kind"] for line in read_lines(journal_path(tmp_path))] == ["search", "trial", "weights"]


def test_each_latent_size_has_a_journal_of_its_own(tmp_path: Path) -> None:
    for latent_dim in (3, 30):
        with open_journal(tmp_path, latent_dim, IDENTITY, fresh=False, notices=[]) as opened:
            assert opened.find(Key(RESULTS[0].trial, EPOCHS)) is None
            opened.append(Key(RESULTS[0].trial, EPOCHS), RESULTS[0], with_weights=False)
            opened.checkpoints(EPOCHS).save(RESULTS[1].trial, make_state(1))
    with open_here(tmp_path) as opened:
        opened.complete(None, EPOCHS)
    assert [path.name for path in tmp_path.glob("checkpoint*")] != []
    assert all(path.name.startswith("checkpoint_latent30_") for path in tmp_path.glob("checkpoint*"))


def test_the_last_training_is_the_one_that_was_finished_last_whatever_the_time_zones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = (
        datetime(2026, 3, 1, hour, 30, tzinfo=timezone(timedelta(hours=offset))) for hour, offset in ((9, 5), (8, 0))
    )
    with open_here(tmp_path) as opened:
        for result, moment in zip(RESULTS, (late, early, early, early), strict=True):
            at = SimpleNamespace(now=lambda moment=moment: moment, fromisoformat=datetime.fromisoformat)
            monkeypatch.setattr(journal, "datetime", at)
            monkeypatch.setattr(at, "now", lambda moment=moment: SimpleNamespace(astimezone=lambda: moment))
            opened.append(Key(result.trial, EPOCHS), result, with_weights=False)
        assert opened.last_finished == late


# Damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Returns a journal of four trainings with the weights of the first and the last, which are its last line."""
    return write_journal(tmp_path_factory.mktemp("whole"), RESULTS, weights=[0, 3]).read_bytes()


def expected_of(lines: int) -> list[object]:
    """Returns what the first so many lines of `whole` hold."""
    there = [1 + number + (number > 0) < lines for number in range(4)]
    weights = {0: lines > 2, 3: lines > 6}
    return [
        None if not is_there else bits(result) if weights.get(number) else without_weights(result)
        for number, (result, is_there) in enumerate(zip(RESULTS, there, strict=True))
    ]


@pytest.mark.usefixtures("no_fsync")
def test_of_a_journal_that_ends_anywhere_exactly_the_whole_records_come_back(tmp_path: Path, whole: bytes) -> None:
    path, ends = journal_path(tmp_path), line_ends(whole)
    assert len(ends) == 7
    near = [end + off for end in ends for off in (-2, -1, 0, 1, 2)]
    sizes = {*near, *range(ends[0], ends[-2], 13), *range(ends[-2], ends[-1])}
    for size in sorted(size for size in sizes if ends[0] <= size <= ends[-1]):
        path.write_bytes(whole[:size])
        notices: list[str] = []
        lines = sum(end - 1 <= size for end in ends)  # a newline holds nothing
        assert found(tmp_path, notices=notices) == expected_of(lines), size
        is_torn = all(size not in (end, end - 1) for end in ends)
        assert len(notices) == is_torn, (size, notices)
        left = read_records(path)
        assert left is not None
        assert left.is_sound, "the file is mended"


@pytest.mark.usefixtures("no_fsync")
def test_a_journal_torn_in_its_first_line_is_set_aside_whole(tmp_path: Path, whole: bytes) -> None:
    path, end = journal_path(tmp_path), line_ends(whole)[0]
    for size in range(end - 1):
        path.write_bytes(whole[:size])
        notices: list[str] = []
        assert found(tmp_path, notices=notices) == [None] * 4
        (notice,) = notices
        assert "journal_latent3.damaged" in notice
        assert (tmp_path / "journal_latent3.damaged").read_bytes() == whole[:size]
        (tmp_path / "journal_latent3.damaged").unlink()
        assert path.read_bytes().count(b"\n") == 1


def test_what_was_set_aside_before_stays(tmp_path: Path) -> None:
    for text in ("first\n", "second\n"):
        journal_path(tmp_path).write_text(text)
        assert found(tmp_path) == [None] * 4
    others = [path for path in tmp_path.iterdir() if path != journal_path(tmp_path)]
    assert sorted(path.read_text() for path in others) == ["first\n", "second\n"]


def test_what_is_appended_after_a_first_line_without_its_end_is_found(tmp_path: Path, whole: bytes) -> None:
    journal_path(tmp_path).write_bytes(whole[: line_ends(whole)[0] - 1])
    write_journal(tmp_path, RESULTS[:1])
    assert found(tmp_path, RESULTS[:1]) == [without_weights(RESULTS[0])]


@pytest.mark.usefixtures("no_fsync")
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_drops_its_line_alone(tmp_path: Path, whole: bytes, mask: int) -> None:
    path, ends = journal_path(tmp_path), line_ends(whole)
    whole_file = expected_of(7)
    for line, (start, end) in enumerate(pairwise(ends), 1):
        for place in range(start, end - 1, 17):
            damaged = bytearray(whole)
            damaged[place] ^= mask
            path.write_bytes(damaged)
            notices: list[str] = []
            # the lines of `whole`: header, trial 0, its weights, trials 1 to 3, the last one's weights
            trial, is_weights = (0, 0, 0, 1, 2, 3, 3)[line], line in (2, 6)
            left = list(whole_file)
            left[trial] = without_weights(RESULTS[trial]) if is_weights else None
            assert found(tmp_path, notices=notices) == left, place
            assert len(notices) == 1, notices
            assert found(tmp_path, notices=notices) == left, "and is so from then on"
            assert len(notices) == 1, "said once"


def test_a_lost_line_end_costs_the_two_lines_it_parted(tmp_path: Path, whole: bytes) -> None:
    damaged = bytearray(whole)
    damaged[line_ends(whole)[3] - 1] ^= 1
    journal_path(tmp_path).write_bytes(damaged)
    assert [result is not None for result in found(tmp_path)] == [True, False, False, True]


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\0" * 100 + b"\n", b"\xff\xfe\n", b"\n", b"\r\n\r\n", b"{}\n"])
def test_a_tail_of_anything_is_dropped_with_a_notice(tmp_path: Path, whole: bytes, tail: bytes) -> None:
    journal_path(tmp_path).write_bytes(whole + tail)
    notices: list[str] = []
    assert found(tmp_path, notices=notices) == expected_of(7)
    assert len(notices) == 1
    assert "damaged" in notices[0]
    assert "\n" not in notices[0]


@pytest.mark.parametrize("record", ["{}", "[]", "7", '{"kind":"trial"}', '{"kind":"trial","config":3}'])
def test_a_line_of_another_make_is_dropped_though_its_checksum_is_right(
    tmp_path: Path, whole: bytes, record: str
) -> None:
    line = f"{checksum(record)} {record}\n".encode()
    journal_path(tmp_path).write_bytes(whole + line)
    assert found(tmp_path) == expected_of(7)
    journal_path(tmp_path).write_bytes(line + whole)
    assert found(tmp_path) == [None] * 4


def test_weights_of_a_training_whose_result_is_lost_are_lost_too(tmp_path: Path, whole: bytes) -> None:
    ends = line_ends(whole)
    journal_path(tmp_path).write_bytes(whole[: ends[0]] + whole[ends[1] :])
    with open_here(tmp_path) as opened:
        opened.append(Key(RESULTS[0].trial, EPOCHS), RESULTS[0], with_weights=False)
        assert bits(opened.find(Key(RESULTS[0].trial, EPOCHS))) == without_weights(RESULTS[0])


# Another search


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--epochs": 50}, "--epochs 3, now 50"),
        ({"--group_column": "Instructor ID"}, "--group_column None, now 'Instructor ID'"),
        ({"--scaling": "none"}, "--scaling 'robust', now 'none'"),
        ({"table": "ff00"}, "another table"),
        ({"program": "ff00"}, "another program"),
        ({"torch": "2.14.0"}, "torch '2.13.0', now '2.14.0'"),
        ({"processor": "Abacus 2"}, "processor 'Abacus 1', now 'Abacus 2'"),
        ({"numba": "0.68"}, "numba None, now '0.68'"),
        ({"--epochs": 50, "table": "ff00"}, "another table; --epochs 3, now 50"),
        ({"--group_column": "two\nlines"}, r"--group_column None, now 'two\nlines'"),
    ],
)
def test_another_search_is_refused_by_one_line_that_names_what_differs(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    before = write_journal(tmp_path, RESULTS).read_bytes()
    with pytest.raises(UsageError) as caught:
        open_here(tmp_path, {**IDENTITY, **changed})
    message = str(caught.value)
    assert f"({said})" in message
    assert "\n" not in message
    assert str(journal_path(tmp_path)) in message
    assert "--output_dir" in message
    assert "--fresh" in message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"journal_latent3.jsonl": before}


def test_the_order_of_an_identity_does_not_matter(tmp_path: Path) -> None:
    write_journal(tmp_path, RESULTS)
    with open_here(tmp_path, dict(reversed(list(IDENTITY.items())))) as opened:
        assert opened.find(Key(RESULTS[0].trial, EPOCHS)) is not None


def test_a_fresh_journal_leaves_the_old_one_until_it_is_complete(tmp_path: Path) -> None:
    before = write_journal(tmp_path, RESULTS).read_bytes()
    with open_here(tmp_path, OTHER, fresh=True) as opened:
        assert opened.find(Key(RESULTS[0].trial, EPOCHS)) is None
        opened.append(Key(RESULTS[1].trial, EPOCHS), RESULTS[1], with_weights=False)
        assert journal_path(tmp_path).read_bytes() == before
        opened.complete(None, EPOCHS)
        assert {path.name for path in tmp_path.iterdir()} == {"journal_latent3.jsonl"}
        opened.append(Key(RESULTS[2].trial, EPOCHS), RESULTS[2], with_weights=False)
    with open_here(tmp_path, OTHER) as opened:
        assert [opened.find(Key(result.trial, EPOCHS)) is not None for result in RESULTS] == [False, True, True, False]


def test_after_a_kill_both_the_fresh_and_the_old_journal_go_on_where_they_were(tmp_path: Path) -> None:
    write_journal(tmp_path, RESULTS[:1])
    with open_here(tmp_path, OTHER, fresh=True) as opened:
        opened.append(Key(RESULTS[1].trial, EPOCHS), RESULTS[1], with_weights=False)
    with open_here(tmp_path, OTHER) as opened:
        assert opened.find(Key(RESULTS[0].trial, EPOCHS)) is None
        assert opened.find(Key(RESULTS[1].trial, EPOCHS)) is not None
    assert found(tmp_path, RESULTS[:2]) == [without_weights(RESULTS[0]), None]


def test_of_the_same_search_the_fresh_journal_goes_on(tmp_path: Path) -> None:
    write_journal(tmp_path, RESULTS[:1])
    with open_here(tmp_path, fresh=True) as opened:
        opened.append(Key(RESULTS[1].trial, EPOCHS), RESULTS[1], with_weights=False)
    assert found(tmp_path, RESULTS[:2]) == [None, without_weights(RESULTS[1])]


def test_fresh_a_second_time_starts_anew_again(tmp_path: Path) -> None:
    write_journal(tmp_path, RESULTS[:1])
    for _ in range(2):
        with open_here(tmp_path, fresh=True) as opened:
            assert opened.find(Key(RESULTS[1].trial, EPOCHS)) is None
            opened.append(Key(RESULTS[1].trial, EPOCHS), RESULTS[1], with_weights=False)


def test_fresh_where_nothing_is_needs_no_second_file(tmp_path: Path) -> None:
    with open_here(tmp_path, fresh=True):
        assert {path.name for path in tmp_path.iterdir()} == {"journal_latent3.jsonl"}


def test_when_complete_of_all_weights_those_of_the_chosen_stay(tmp_path: Path) -> None:
    with open_here(tmp_path) as opened:
        for result in RESULTS:
            opened.append(Key(result.trial, EPOCHS), result, with_weights=True)
        opened.complete(RESULTS[3], EPOCHS)
        opened.append_weights(Key(RESULTS[0].trial, EPOCHS), RESULTS[0])  # it is still open
    expected = [without_weights(result) for result in RESULTS]
    expected[0], expected[3] = bits(RESULTS[0]), bits(RESULTS[3])
    assert found(tmp_path) == expected


def test_a_complete_journal_is_not_written_again(tmp_path: Path) -> None:
    path = write_journal(tmp_path, RESULTS, weights=[3])
    before = path.stat().st_mtime_ns, path.stat().st_ino
    with open_here(tmp_path) as opened:
        opened.complete(RESULTS[3], EPOCHS)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
