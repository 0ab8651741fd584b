"""What a run is started in: terminals and pipes that close, no home, no display, a program that is read-only."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

import pytest
from commands import ROOT, SMALL, Run, run
from faults import after_record, assert_nothing_is_left_over, assert_same_results, can_mount, stopping_after_record

import hyperparam_optimizer
from layersearch.pictures import drawing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals, pipes and mounts are others there")

TESTS = Path(__file__).resolve().parent.parent / "helpers"
SAVED = ["--save_models", *SMALL]
IN_ORDER = [*SAVED, "--threads", "1"]
NOTE = "Note: interrupted, 2 of 5 configurations trained; the same command goes on from here\n"
PATIENCE = 120.0  # seconds, for what takes a few


def main_without_pictures(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: object) -> int:
    """Runs the command with whatever `sys.stdout` and `sys.stderr` are."""
    monkeypatch.setattr(drawing, "draw_search", lambda *_, **__: {})
    return hyperparam_optimizer.main([*map(str, arguments), "--output_dir", str(folder)])


def is_complete(folder: Path) -> bool:
    text = (folder / "hyperparam_results_latent3.json").read_text(encoding="utf-8")
    return bool(json.loads(text)["complete"])


# ------------------------------------------------------------------------- a console that goes, in this process


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Both ends of a pipe, the second to be written to."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield reading, stream


def test_a_reader_that_goes_while_it_trains_ends_the_search_with_what_there_is(
    finished: Run,
    table: Path,
    tmp_path: Path,
    pipe: tuple[int, TextIO],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reading, stream = pipe
    with monkeypatch.context() as patches:
        stopping_after_record(patches, 4, lambda: os.close(reading))
        patches.setattr(sys, "stdout", stream)
        status = main_without_pictures(patches, tmp_path, "--data_path", table, *IN_ORDER)
    assert (status, capsys.readouterr().err) == (141, NOTE)
    assert not is_complete(tmp_path)
    assert run(tmp_path, "--data_path", table, *SAVED, latent=True).status == 0
    assert_same_results(tmp_path, finished.folder)


def test_a_reader_that_is_gone_at_the_end_costs_nothing_but_the_summary(
    finished: Run,
    table: Path,
    tmp_path: Path,
    pipe: tuple[int, TextIO],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reading, stream = pipe
    os.close(reading)
    with monkeypatch.context() as patches:
        patches.setattr(sys, "stdout", stream)
        status = main_without_pictures(patches, tmp_path, "--data_path", table, *SAVED, "--quiet")
    assert (status, capsys.readouterr().err) == (141, "")
    assert_same_results(tmp_path, finished.folder)


def test_a_terminal_that_goes_ends_the_search_with_what_there_is(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both streams fail from then on, and so does the live bar."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as out, open(os.dup(slave), "w") as err, monkeypatch.context() as patches:
        after_record(patches, 4, lambda: os.close(master))  # what the bar shows next fails, and the last it shows
        patches.setattr(sys, "stdout", out)
        patches.setattr(sys, "stderr", err)
        status = main_without_pictures(patches, tmp_path, "--data_path", table, *IN_ORDER)
    assert status == 141
    assert_nothing_is_left_over(tmp_path)
    assert run(tmp_path, "--data_path", table, *SAVED, latent=True).status == 0
    assert_same_results(tmp_path, finished.folder)


@pytest.mark.parametrize("fault", ["--data_path", "--device"])
def test_an_error_that_nobody_can_read_is_an_error_all_the_same(
    fault: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is found before anything is loaded, the other after."""
    arguments = {"--data_path": str(table), "--device": "cpu"} | {
        fault: {"--data_path": "no.csv"}.get(fault, "cuda:99")
    }
    master, slave = os.openpty()
    os.close(master)
    err = os.fdopen(slave, "w", buffering=1)
    with monkeypatch.context() as patches:
        patches.setattr(sys, "stderr", err)
        try:
            given = [part for pair in arguments.items() for part in pair]
            status: object = main_without_pictures(patches, tmp_path / "output", *given)
        except SystemExit as exit_:
            status = exit_.code
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), err.fileno())  # for what could not be written
    err.close()
    assert status == 2


def test_a_full_disk_behind_stdout_is_said_and_the_files_are_written(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full, monkeypatch.context() as patches:
        patches.setattr(sys, "stdout", full)
        status = main_without_pictures(patches, tmp_path, "--data_path", table, *SAVED)
    expected = "error: the console: No space left on device; the files are written all the same\n"
    assert (status, capsys.readouterr().err) == (1, f"hyperparam_optimizer.py: {expected}")
    assert_same_results(tmp_path, finished.folder)


def test_there_may_be_no_console_at_all(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patches:
        patches.setattr(sys, "stdout", None)  # as after `>&-`
        patches.setattr(sys, "stderr", None)
        assert main_without_pictures(patches, tmp_path, "--data_path", table, *SAVED) == 0
    assert_same_results(tmp_path, finished.folder)


# ------------------------------------------------------------------------------------ in a process of its own

DRIVER = f"""
import runpy, signal, sys, time, types
sys.path[:0] = [{str(ROOT)!r}, {str(TESTS)!r}]
no_pictures = types.SimpleNamespace(draw_search_pictures=lambda *_, **__: dict())
sys.modules["layersearch.pictures.search_pictures"] = no_pictures
{{prepare}}
runpy.run_path({str(ROOT / "hyperparam_optimizer.py")!r}, run_name="__main__")
"""
UNTIL_IT_HANGS_UP = """
import fcntl, pytest, termios
from faults import stopping_after_record
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # from now on it is this process's terminal
def wait_for_it():
    try:
        print("FOUR", flush=True)
        while True:
            termios.tcgetattr(1)
            time.sleep(0.01)
    except (OSError, termios.error):
        pass
stopping_after_record(pytest.MonkeyPatch(), 4, wait_for_it)
"""
ON_IMPORT = """
class Finder:
    @staticmethod
    def find_spec(name, *_):
        if name == {name!r}:
            signal.raise_signal(signal.{kind})
sys.meta_path.insert(0, Finder)
"""


def driven(prepare: str, *arguments: object) -> list[str]:
    """The command line of the program, prepared by this code."""
    return [sys.executable, "-c", DRIVER.format(prepare=prepare), *map(str, arguments)]


def test_a_terminal_that_closes_hangs_up(finished: Run, table: Path, tmp_path: Path) -> None:
    master, slave = os.openpty()
    folder = tmp_path / "output"
    command = driven(UNTIL_IT_HANGS_UP, "--data_path", table, "--output_dir", folder, *IN_ORDER)
    with subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        shown = b""
        while b"FOUR" not in shown:
            shown += os.read(master, 1000)
        os.close(master)
        assert process.wait(PATIENCE) == 129
    assert not is_complete(folder)
    assert_nothing_is_left_over(folder)
    done = run(folder, "--data_path", table, *SAVED, latent=True)
    assert "2 of 5 configurations already trained" in done.out
    assert_same_results(folder, finished.folder)


def test_with_head_the_rest_is_left_to_the_next_run(finished: Run, table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "output"
    command = driven("", "--data_path", table, "--output_dir", folder, *SAVED)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("Searching 5 configurations")
        process.stdout.close()  # as `| head -1`
        said = process.stderr.read()
        assert process.wait(PATIENCE) == 141
    assert re.fullmatch(NOTE.replace("2 of 5", r"\d of 5"), said)  # what was being trained when the reader went
    assert not is_complete(folder)
    assert run(folder, "--data_path", table, *SAVED, latent=True).status == 0
    assert_same_results(folder, finished.folder)


@pytest.mark.parametrize(("name", "kind", "status"), [("numpy.exceptions", "SIGINT", 130), ("torch", "SIGTERM", 143)])
def test_while_libraries_are_loaded_a_signal_just_ends_it(
    name: str, kind: str, status: int, table: Path, tmp_path: Path
) -> None:
    """An exception would not do: here torch would go on without NumPy, and fail later."""
    command = driven(ON_IMPORT.format(name=name, kind=kind), "--data_path", table, "--output_dir", tmp_path / "output")
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (status, "hyperparam_optimizer.py: interrupted\n")
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("place", ["/dev/full", "closed"])
def test_help_that_nobody_can_read_is_no_error(place: str) -> None:
    stdout = os.open("/dev/full", os.O_WRONLY) if place != "closed" else os.pipe()[1]
    command = [sys.executable, "-c", DRIVER.format(prepare=""), "--help"]
    if place == "closed":
        command = ["sh", "-c", 'exec "$0" "$@" >&-', *command]
    done = subprocess.run(
        command,
        env=environment({}),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    os.close(stdout)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


NOWHERE = {
    "HOME": "/dev/null/home",
    "TMPDIR": "/dev/null/tmp",
    "MPLBACKEND": "nonsense",
    "DISPLAY": "",
    "PYTHONDONTWRITEBYTECODE": "",
}
UNSET = ("PYTHONUNBUFFERED", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "WAYLAND_DISPLAY")


def read_only(program: Path, command: list[str]) -> list[str]:
    """The command, to be run where nobody can write to `program`, not even whoever is above permissions."""
    for path in [*program.rglob("*"), program]:
        path.chmod(path.stat().st_mode & ~0o222)
    if not can_mount():
        return command
    script = f"mount --bind '{program}' '{program}' && mount -o remount,bind,ro '{program}' && exec \"$@\""
    return ["unshare", "-m", "sh", "-c", script, "sh", *command]


def copied_program(place: Path) -> Path:
    """The program without its tests, nothing compiled."""
    place.mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, place)
    for name in ("layersearch", "data"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("stains.csv", "__pycache__"))
    return place


def environment(changed: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in UNSET} | dict(changed)


def test_where_nothing_but_the_output_can_be_written_all_is_the_same(
    finished: Run, table: Path, tmp_path: Path
) -> None:
    """A read-only program, so no compiled code is kept; no home; no temporary folder; no display."""
    program, folder = copied_program(tmp_path / "program"), tmp_path / "output"
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    command = [
        sys.executable,
        program / "hyperparam_optimizer.py",
        "--data_path",
        table,
        "--output_dir",
        folder,
        *SAVED,
    ]
    done = subprocess.run(
        read_only(program, [*map(str, command)]),
        cwd=tmp_path,
        env=environment(NOWHERE),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if "mount: " in done.stderr or "unshare: " in done.stderr:
        pytest.skip("file systems cannot be mounted here")
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(program.rglob("__pycache__"))
    assert {path.name for path in folder.iterdir()} == finished.files()
    assert (folder / "verdict_latent3.png").read_bytes() == (finished.folder / "verdict_latent3.png").read_bytes()
    assert_same_results(folder, finished.folder)
