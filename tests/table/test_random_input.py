"""For any arguments and any file, the command succeeds, fails with a reason, or refuses the input.

This takes about half a minute. To test longer, and with other input each time:

    HYPOTHESIS_MINUTES=10 python -m pytest tests/table/test_random_input.py
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from commands import Run, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_tables import copus_frame, write
from openpyxl.utils.exceptions import IllegalCharacterError

from layersearch.words import PROG

USUAL = "0.35"
MINUTES = float(os.environ.get("HYPOTHESIS_MINUTES", USUAL))  # more of them try more examples, drawn at random
REPRODUCIBLE = settings(
    derandomize=float(USUAL) == MINUTES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Valid values that would make a search large are left out.
ODD = ["", " ", "0", "-1", "-0", "+1", "1e3", "1.5", "nan", "inf", "-inf", "None", "٣", "1_0", "9" * 30, "\0", "\n"]
ODD += ["=1+1", "\udcff", "🙂", "$x$", "-", "--", "16;32", "64-32", "16,,32", "%s", "{0}", "a" * 300]
VALUES: dict[str, list[str]] = {
    "latent_dim": ["1", "2", "3", "30", "10001"],
    "hidden_dims_search": ["4", "2,3", "1", " 5 ,5", "8,"],
    "max_layers": ["1", "2", "101"],
    "repeats": ["1", "2", "10001"],
    "max_configurations": ["1", "100", "2147483647"],
    "seed": ["7", "9223372036854775807", "9223372036854775808"],
    "select": ["best", "simplest"],
    "objectives": ["loss,params", "time,loss", "loss", "loss,params,time"],
    "confidence": ["0.5", "0.9999", "1e-9", "1"],
    "cv_folds": ["2", "5", "16", "17"],
    "columns": ["copus", "numeric", "L,WG", "L, Ind ,CG,WG", "Bcluster", "L,L", "Indd", '"L', "l,wg,og"],
    "scaling": ["robust", "percent", "none"],
    "label_column": ["Bcluster", "Instructor ID", "T_O", "L"],
    "group_column": ["Bcluster", "Instructor ID", "L"],
    "stratify_column": ["Bcluster", "Instructor ID", "T_O"],
    "epochs": ["1", "2", "1000001"],
    "batch_size": ["1", "7", "32", "2147483647"],
    "initial_lr": ["0.001", "1", "1e30", "1e308", "1e-308", "5e-324"],
    "eta_min": ["0", "1e-6", "1e-400"],
    "dropout": ["0", "0.5", "0.999999", "1e-300"],
    "weight_decay": ["0", "0.1", "1e308"],
    "device": ["cpu", "auto", "cuda", "cuda:1", "cuda:256"],
    "engine": ["auto", "compiled", "reference", "stacked"],
    "threads": ["0", "1", "2", "7"],
    "data_path": ["no.csv", "/", "/dev/zero", "x.doc"],
}
SWITCHES = ["--quiet", "--no_probe", "--save_models", "--fresh"]
TINY = {"hidden_dims_search": "4", "max_layers": "1", "epochs": "1", "repeats": "1", "threads": "1"}


def assert_promise(done: Run, warned: Sequence[warnings.WarningMessage]) -> None:
    """Checks for a success, a failure with one reason, or a refusal with a line for each fault and nothing written."""
    assert not warned
    lines = done.err.splitlines()
    errors = [line for line in lines if line.startswith(f"{PROG}: error: ")]
    assert all(line.startswith("Note: ") for line in lines if line not in errors)
    assert all(line.isprintable() for line in lines)
    assert done.global_state_kept
    if done.status == 2:
        assert errors == lines
        assert not done.folder.exists()
    else:
        assert (done.status, len(errors)) in ((0, 0), (1, 1))


def search(arguments: Sequence[str], name: str | None = None, content: bytes = b"") -> None:
    """Runs the command on a file with this content, and checks how it ends."""
    folder = Path(tempfile.mkdtemp())
    try:
        if name is not None:
            (folder / name).write_bytes(content)
            arguments = [*arguments, f"--data_path={folder / name}"]
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            done = run(folder / "new", *arguments)
        assert_promise(done, warned)
    finally:
        shutil.rmtree(folder)


def as_list(values: dict[str, str]) -> list[str]:
    """Returns the arguments as `--name=value`, which allows values that begin with a dash."""
    return ["--no_probe", *(f"--{name}={value}" for name, value in {**TINY, **values}.items())]


# --- Arguments -------------------------------------------------------------------------------------

# Only a few values are odd, since one is enough for a refusal.
flags = st.dictionaries(st.sampled_from([*VALUES, "data_path"]), st.integers(0, 10**6), min_size=1, max_size=6).map(
    lambda drawn: {name: VALUES[name][number % len(VALUES[name])] for name, number in drawn.items()}
)
odd_flags = st.dictionaries(st.sampled_from(sorted(VALUES)), st.sampled_from(ODD) | st.text(max_size=20), max_size=2)
garbage = st.lists(
    st.sampled_from([*SWITCHES, "--", "-h1", "--epochs", "--latent-dim", "-x", "=", *ODD])
    | st.text(max_size=10).filter(lambda text: text not in ("-h", "--help")),
    max_size=3,
)
SOUND = copus_frame().to_csv(index=False).encode()


@settings(REPRODUCIBLE, max_examples=int(90 * MINUTES))
@given(flags, st.lists(st.sampled_from(SWITCHES), max_size=2))
def test_any_allowed_values_together_end_as_promised(values: dict[str, str], switches: list[str]) -> None:
    values.pop("data_path", None)
    search([*as_list(values), *switches], "a.csv", SOUND)


@settings(REPRODUCIBLE, max_examples=int(350 * MINUTES))
@given(flags, odd_flags, garbage)
def test_any_arguments_at_all_end_as_promised(values: dict[str, str], odd: dict[str, str], more: list[str]) -> None:
    is_own = "data_path" in values or "data_path" in odd
    arguments = [*as_list(values | odd), *more]
    search(arguments, None if is_own else "a.csv", SOUND)


# --- Files -----------------------------------------------------------------------------------------


def sound_files() -> dict[str, bytes]:
    """Returns a valid table in each format, of 12 rows so that the workbook is small."""
    frame, files = copus_frame(12), {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".csv", ".tsv", ".xlsx", ".parquet"):
            files[suffix] = write(frame, Path(folder, f"a{suffix}")).read_bytes()
        files["european"] = frame.to_csv(index=False, sep=";", decimal=",").encode("utf-16")
    return files


FILES = sound_files()
BEGINNINGS = {
    ".csv": b"L,WG\n",
    ".tsv": b"\xff\xfe",
    ".tab": b"\xef\xbb\xbf",
    ".xlsx": b"PK\x03\x04",
    ".parquet": b"PAR1",
}
CELLS = ["", "5", "-5", "1e39", "3e38", "1e-45", "inf", "nan", "NA", "12,5", "1.234,5", "lots", "=1+1", '"', "\0", "\n"]
CELLS += ["\r", "\x1b[2J", "é", "🙂", "\u2028", "$", "100.1", "0", "1", " ", "\t", ";", ",", "x" * 500, "L", "1/2/2020"]


def damaged(content: bytes, seed: int, how: int) -> bytes:
    """Returns the content with a few bytes changed, removed or repeated, or its end cut off."""
    rng = random.Random(seed)
    damaged_ = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(damaged_) or 1), rng.choice([1, 1, 2, 8, 100])
        if how == 0:
            damaged_[at : at + length] = rng.randbytes(length)
        elif how == 1:
            del damaged_[at : at + length]
        elif how == 2:
            damaged_[at:at] = damaged_[at : at + length]
        else:
            del damaged_[at:]
    return bytes(damaged_)


seeds = st.integers(0, 2**32)
kinds = st.sampled_from(sorted(FILES))
columns = st.sampled_from(["copus", "numeric", "L,WG"])
cells = st.sampled_from(CELLS) | st.text(max_size=8)


@settings(REPRODUCIBLE, max_examples=int(240 * MINUTES))
@given(kinds, seeds, st.integers(0, 3), columns)
def test_any_damage_to_a_file_ends_as_promised(kind: str, seed: int, how: int, chosen: str) -> None:
    suffix = ".csv" if kind == "european" else kind
    search(as_list({"columns": chosen, "scaling": "percent"}), f"a{suffix}", damaged(FILES[kind], seed, how))


@settings(REPRODUCIBLE, max_examples=int(150 * MINUTES))
@given(st.sampled_from(sorted(BEGINNINGS)), st.binary(max_size=2000), st.booleans(), columns)
def test_any_bytes_as_a_file_end_as_promised(suffix: str, content: bytes, is_begun: bool, chosen: str) -> None:
    search(as_list({"columns": chosen}), f"a{suffix}", (BEGINNINGS[suffix] if is_begun else b"") + content)


@settings(REPRODUCIBLE, max_examples=int(150 * MINUTES))
@given(
    st.lists(st.tuples(st.integers(0, 14), st.integers(0, 26), cells), max_size=4),
    st.sampled_from([".csv", ".tsv", ".xlsx", ".parquet"]),
    st.sampled_from(["robust", "percent", "none"]),
    columns,
    st.sampled_from(["T_O", "Bcluster", "Instructor ID"]),
    st.sampled_from(["1", "1", "1", "2"]),  # 2 has a picture of the labels, which takes long
)
def test_any_cells_in_a_table_end_as_promised(
    changes: list[tuple[int, int, str]], suffix: str, scaling: str, chosen: str, label: str, latent: str
) -> None:
    frame = copus_frame(15).astype(object)
    names = list(frame)
    for row, column, cell in changes:
        if row == 0:
            names[column] = cell
        else:
            frame.iloc[row, column] = cell
    with tempfile.TemporaryDirectory() as folder:
        try:
            content = write(frame.set_axis(names, axis=1), Path(folder, f"a{suffix}")).read_bytes()
        except (ValueError, TypeError, IllegalCharacterError):  # what this kind of file cannot hold
            return
    arguments = {"scaling": scaling, "columns": chosen, "label_column": label, "latent_dim": latent}
    search(as_list(arguments), f"a{suffix}", content)
