"""Files are replaced as a whole: a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from layersearch.files import (
    DRAFTS,
    HOLDER,
    INTERRUPTED,
    LOCK,
    HeldError,
    exclusive,
    publishing,
    remove_leftovers,
    replacing,
)


def test_what_was_written_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_failing_writer_leaves_the_old_file_and_no_temporary(tmp_path: Path, fault: type[BaseException]) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(fault), replacing(path) as temporary:  # noqa: PT012 - the writer fails half-way
        temporary.write_text("ne")
        raise fault
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_before_it_writes_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at once"), replacing(tmp_path / "new.png"):
        raise ValueError("at once")
    assert not list(tmp_path.iterdir())


def test_the_temporary_name_keeps_the_suffix_and_is_hidden(tmp_path: Path) -> None:
    with replacing(tmp_path / "picture.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.name.startswith(".")
        temporary.touch()


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "x.csv") as temporary:
        temporary.write_text("x")


def test_what_was_written_is_on_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: done.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replace") or replace(*paths))  # type: ignore[func-returns-value]
    with replacing(tmp_path / "x.csv") as temporary:
        temporary.write_text("x")
    assert done[:2] == ["fsync", "replace"]
    assert done[2:] in (["fsync"], [])  # of the folder, where the system can


# Several files at once.


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_published_files_take_the_place_of_the_old_and_leave_others_alone(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("old")
    (tmp_path / "notes.txt").write_text("the user's")
    with publishing(tmp_path) as draft:
        (draft / "results.json").write_text("new")
        (draft / "ranking.csv").write_text("new")
        assert (tmp_path / "results.json").read_text() == "old"
    assert contents(tmp_path) == {"results.json": "new", "ranking.csv": "new", "notes.txt": "the user's"}


def test_a_folder_to_publish_in_is_made(tmp_path: Path) -> None:
    with publishing(tmp_path / "new" / "output") as draft:
        (draft / "x").write_text("x")
    assert contents(tmp_path / "new" / "output") == {"x": "x"}


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_of_drafts_that_are_not_finished_nothing_is_published(tmp_path: Path, fault: type[BaseException]) -> None:
    (tmp_path / "results.json").write_text("old")
    with pytest.raises(fault), publishing(tmp_path) as draft:  # noqa: PT012 - the second file fails
        (draft / "results.json").write_text("new")
        raise fault
    assert contents(tmp_path) == {"results.json": "old"}


@pytest.mark.parametrize("moves", range(1, 6))
def test_a_fault_amid_the_moving_leaves_all_as_it_was(
    tmp_path: Path, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"a.csv": "old", "b.json": "old", "mine": "mine"}
    for name, text in old.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(KeyboardInterrupt), publishing(tmp_path) as draft:  # noqa: PT012 - the moving fails
        for name in ("a.csv", "b.json", "c.png"):
            (draft / name).write_text("new")
        replace, calls = os.replace, iter(range(1, 100))

        def failing(*paths: Path) -> None:
            if next(calls) == moves:
                raise KeyboardInterrupt
            replace(*paths)

        monkeypatch.setattr(os, "replace", failing)
    monkeypatch.undo()
    assert contents(tmp_path) == old


def test_a_folder_in_the_way_is_not_moved(tmp_path: Path) -> None:
    (tmp_path / "b.json").mkdir()
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(IsADirectoryError, match=r"b\.json is a folder"), publishing(tmp_path) as draft:  # noqa: PT012
        (draft / "a.csv").write_text("new")
        (draft / "b.json").write_text("new")
    assert (tmp_path / "a.csv").read_text() == "old"
    assert (tmp_path / "b.json").is_dir()


@pytest.mark.parametrize("moves", range(1, 6))
def test_a_kill_amid_the_moving_is_ended_by_the_next_run(
    tmp_path: Path, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    for name in ("a.csv", "b.json"):
        (tmp_path / name).write_text("old")
    with pytest.raises(Killed), publishing(tmp_path) as draft:  # noqa: PT012 - the moving fails
        for name in ("a.csv", "b.json", "c.png"):
            (draft / name).write_text("new")
        replace, calls = os.replace, iter(range(1, 100))

        def killed(*paths: Path) -> None:
            if next(calls) >= moves:
                raise Killed
            replace(*paths)

        monkeypatch.setattr(os, "replace", killed)
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.undo()
    with exclusive(tmp_path):
        pass
    assert contents(tmp_path) == {"a.csv": "new", "b.json": "new", "c.png": "new", LOCK: ""}


# What a killed process leaves.


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    kept = [".lock", ".running", ".hidden.tmp", "results.123.tmp", "a.png", ".x.12a.tmp", ".tmp", ".git"]
    kept += [".notes.2024.tmp", ".mydata.1.tmp.csv", ".draft.1.tmp", ".hyperparam_drafts.mine"]
    for name in kept:
        (tmp_path / name).write_text("")
    left: list[str] = []
    names = ("journal_latent3.new.jsonl", "checkpoint_latent12_0f.npz")
    for write in (*(replacing(tmp_path / name) for name in names), publishing(tmp_path)):
        with pytest.raises(Killed), write as temporary:  # noqa: PT012 - what a kill would leave
            left.append(temporary.name)
            raise Killed
    for name in left[:2]:
        (tmp_path / name).write_text("half")
    (tmp_path / left[2]).mkdir()
    (tmp_path / left[2] / "results.json").write_text("draft")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_leftover_that_links_elsewhere_is_removed_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("")
    (tmp_path / ".journal_latent3.1.tmp.jsonl").symlink_to(elsewhere, target_is_directory=True)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
    assert (elsewhere / "precious").exists()


# A folder to oneself.


def test_a_folder_that_is_held_says_by_whom(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        with (
            pytest.raises(HeldError, match=rf"process {os.getpid()}, since \d{{4}}-\d\d-\d\d"),
            exclusive(tmp_path),
        ):
            pytest.fail("both hold it")
        assert (tmp_path / HOLDER).exists(), "the second has not touched the first's"
    with exclusive(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {LOCK}


def test_a_holder_that_has_not_yet_given_its_name_is_another_process(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        (tmp_path / HOLDER).unlink()
        with pytest.raises(HeldError, match="another process"), exclusive(tmp_path):
            pytest.fail("both hold it")


def test_the_name_of_a_holder_that_was_killed_means_nothing(tmp_path: Path) -> None:
    (tmp_path / HOLDER).write_text("process 1, since 2026-01-01 00:00:00")
    (tmp_path / LOCK).touch()
    with exclusive(tmp_path):
        assert f"process {os.getpid()}," in (tmp_path / HOLDER).read_text()


def test_leftovers_are_only_removed_by_who_holds_the_folder(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        left = [tmp_path / f"{DRAFTS}x", tmp_path / INTERRUPTED / f"{DRAFTS}y"]
        for folder in left:
            folder.mkdir(parents=True)
        with pytest.raises(HeldError), exclusive(tmp_path):
            pytest.fail("both hold it")
        assert all(folder.exists() for folder in left)
    with exclusive(tmp_path):
        assert not any(folder.exists() for folder in left)


def test_a_folder_that_was_left_by_an_error_is_free(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="within"), exclusive(tmp_path):
        raise ValueError("within")
    with exclusive(tmp_path):
        pass
