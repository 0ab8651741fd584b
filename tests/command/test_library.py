"""A search from Python does what the command does, and leaves the process as it was."""

from __future__ import annotations

import copy
import gc
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from commands import ROOT, Run, but_for_threads, but_for_time, global_state, make_diverge
from faults import nothing_is_trained, raising, stopping_after_record

from hyperparam_optimizer import search
from layersearch.command.library import SearchResults, read_keywords
from layersearch.pictures import drawing
from layersearch.report import output_files
from layersearch.verdict import conclusion
from models import load_best

SMALL: dict[str, Any] = {
    "hidden_dims_search": [8, 16],
    "max_layers": 2,
    "epochs": 3,
    "repeats": 2,
    "threads": 2,
    "quiet": True,
}


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "draw_search", lambda *_, **__: {})


@pytest.fixture(scope="module")
def results(table: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResults:
    """Those of the search that `finished` is, without a saved model."""
    return search(**SMALL, data_path=table, output_dir=tmp_path_factory.mktemp("library") / "new")


def test_it_finds_what_the_command_finds(results: SearchResults, finished: Run) -> None:
    ours, theirs = map(but_for_threads, (copy.deepcopy(results.document), finished.results()))
    for document in (ours, theirs):
        del document["best_configuration"]["saved_model"]
        document["args"] |= {"save_models": None, "quiet": None}
    assert ours == theirs
    written = {path.name for path in results.output_dir.iterdir()}
    assert written == finished.files() - {"best_model_latent3.pth"}


def test_the_document_is_the_jsons_content(results: SearchResults) -> None:
    assert results.document == Run(0, "", "", results.output_dir, True).results()
    assert results.complete
    assert results.verdict == results.document["verdict"]["statement"]


def test_the_best_model_is_there_without_a_file_and_is_the_saved_one(
    results: SearchResults, finished: Run, table: Path
) -> None:
    saved = load_best(finished.folder, 3)
    assert results.best_model is not None
    assert results.best_model.columns == saved.columns
    values = pd.read_csv(table)[saved.columns].to_numpy()
    assert torch.equal(results.best_model.encode(values), saved.encode(values))


@pytest.mark.usefixtures("without_pictures")
def test_a_study_is_a_mapping_and_the_table_has_a_column_for_each_factor(table: Path, tmp_path: Path) -> None:
    study = {"dropout": [0, 0.2], "normalization": ["layer", "none"]}
    found = search(**SMALL | {"max_layers": 1}, study=study, no_probe=True, data_path=table, output_dir=tmp_path)
    assert found.document["args"]["study"] == "dropout=0,0.2; normalization=layer,none"
    options = [entry["options"] for entry in found.document["all_results"]]
    assert found.table[["dropout", "normalization"]].to_dict("records") == options
    assert (found.table.dtypes["dropout"], found.table.dtypes["normalization"]) == ("float64", "string")


def test_the_table_is_the_ranking_with_types(results: SearchResults) -> None:
    table, entries = results.table, results.document["all_results"]
    assert list(table["model_params"]) == [entry["model_params"] for entry in entries]
    assert list(table["rank"]) == [1, 2, 3, 4, 5]
    assert list(table["tied"]) == [entry["tied"] for entry in entries]
    assert list(table["difference_high"]) == [entry["difference_interval"][1] for entry in entries]
    assert table.dtypes.astype(str).to_dict() == {
        "rank": "Int64",
        "configuration": "string",
        "num_layers": "Int64",
        "model_params": "Int64",
        "final_test_loss": "float64",
        "final_test_loss_sd": "float64",
        "standard_error": "float64",
        "difference_to_best": "float64",
        "difference_low": "float64",
        "difference_high": "float64",
        "tied": "boolean",
        "pareto": "boolean",
        "status": "string",
    }


def test_it_shows_itself_in_words(results: SearchResults) -> None:
    assert repr(results).splitlines() == [*results.verdict, f"Files: {results.output_dir}"]
    assert "<td>[16, 16]</td>" in results._repr_html_()


@pytest.mark.usefixtures("without_pictures")
def test_quiet_prints_the_closing_summary_alone(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = search(**SMALL, data_path=table, output_dir=tmp_path)
    out, err = capsys.readouterr()
    assert out.startswith("=====")
    assert found.verdict[0] in out
    assert err == ""


@pytest.mark.usefixtures("without_pictures")
def test_the_second_call_goes_on_from_the_first(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = search(**SMALL, data_path=table, output_dir=tmp_path)
    nothing_is_trained(monkeypatch)
    second = search(**SMALL, data_path=table, output_dir=tmp_path)
    assert but_for_time(second.document) == but_for_time(first.document)


# ------------------------------------------------------------------------------------------------ keywords


def test_keywords_are_the_commands_arguments_in_pythons_types() -> None:
    request = read_keywords(
        {
            "hidden_dims_search": (np.int64(16), 32),
            "columns": ["A b", "C"],
            "objectives": ["loss", "time"],
            "output_dir": Path("here"),
            "initial_lr": 1e-05,
            "dropout": np.float64(0.25),
            "label_column": None,
            "group_column": "--odd name=1",
            "no_probe": True,
            "save_models": False,
        }
    )
    given = request.given
    assert (given["hidden_dims_search"], given["columns"], given["objectives"]) == ("16,32", "A b,C", "loss,time")
    assert (given["output_dir"], given["initial_lr"], given["dropout"]) == ("here", 1e-05, 0.25)
    assert (given["label_column"], given["group_column"]) == (None, "--odd name=1")
    assert (given["no_probe"], given["save_models"], given["epochs"]) == (True, False, 20)


FAULTS = [
    ({"repeats": 0}, "--repeats 0: give a whole number from 1 to 10000"),
    ({"repeats": True}, "--repeats 'True': give a whole number from 1 to 10000"),
    ({"epochs": 2.5}, "--epochs '2.5': give a whole number from 1 to 1000000"),
    ({"epoch": 5}, "unknown argument '--epoch=5'; did you mean --epochs?"),
    ({"help": True}, "unknown argument '--help=True'; "),
    ({"quiet": "yes"}, "--quiet 'yes': give True or False"),
    ({"list_configurations": True}, "--list_configurations trains nothing; leave it out, or give it to the command"),
    ({"trials": 5}, "--trials goes with --search random or bayesian; leave it out"),
    ({"data_path": "no/such.csv"}, "--data_path 'no/such.csv': there is no such file"),
    ({"repeats": 0, "epochs": 0}, "--repeats 0: give a whole number from 1 to 10000\n--epochs 0: give a whole number"),
]


@pytest.mark.parametrize(("keywords", "message"), FAULTS)
def test_a_fault_is_a_value_error_with_the_commands_line(
    keywords: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        search(**keywords)
    assert capsys.readouterr() == ("", "")


def test_a_fault_in_the_table_is_a_value_error_too(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(ValueError, match=r"short\.csv"):
        search(**SMALL, data_path=path, columns="numeric", output_dir=tmp_path / "out")


@pytest.mark.usefixtures("without_pictures")
def test_where_every_configuration_failed_the_results_say_so(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_diverge(monkeypatch, lambda trial: True)
    found = search(**SMALL, data_path=table, output_dir=tmp_path)
    assert (found.best_model, found.verdict, found.complete) == (None, [], True)
    assert found.table["rank"].isna().all()
    assert found.table["status"].str.startswith("failed").all()
    assert repr(found).startswith("No configuration finished.")
    assert "error: every configuration failed" in capsys.readouterr().err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate")])
def test_too_little_memory_is_a_memory_error_with_the_remedy(
    error: Exception, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(conclusion, "judge_search", fail)
    with pytest.raises(MemoryError, match="fewer --threads"):
        search(**SMALL, data_path=table, output_dir=tmp_path)


# ---------------------------------------------------------------------------------------- in another's process


@pytest.mark.usefixtures("without_pictures")
def test_the_process_is_as_it_was(table: Path, tmp_path: Path) -> None:
    def look() -> tuple[object, ...]:
        signals = [signal.getsignal(number) for number in signal.valid_signals()]
        return (
            global_state(),
            signals,
            dict(os.environ),
            sys.stdout,
            sys.stderr,
            gc.isenabled(),
        )

    before, threads = look(), set(threading.enumerate())  # of which those of other tests may end meanwhile
    search(**SMALL, data_path=table, output_dir=tmp_path)
    assert look() == before
    assert set(threading.enumerate()) <= threads


@pytest.mark.usefixtures("without_pictures")
def test_it_runs_in_a_thread_of_its_own(table: Path, tmp_path: Path) -> None:
    found: list[SearchResults] = []
    thread = threading.Thread(target=lambda: found.append(search(**SMALL, data_path=table, output_dir=tmp_path)))
    thread.start()
    thread.join()
    assert found[0].complete


@pytest.mark.usefixtures("without_pictures")
def test_ctrl_c_gives_what_there_is_and_the_next_call_goes_on(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: SearchResults
) -> None:
    with monkeypatch.context() as patches:
        stopping_after_record(patches, 4, raising(signal.SIGINT))
        part = search(**SMALL, data_path=table, output_dir=tmp_path)
    assert not part.complete
    assert repr(part).startswith("Interrupted.")
    assert len(part.table) < len(results.table)
    whole = search(**SMALL, data_path=table, output_dir=tmp_path)
    assert but_for_threads(whole.document) == but_for_threads(results.document)


def script(text: str, folder: Path, **environment: str) -> str:
    """What a script that is run there prints."""
    (folder / "script.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{text}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_is_light() -> None:
    code = "import sys; from hyperparam_optimizer import search;"
    code += "sys.exit(bool({'torch', 'pandas', 'numpy', 'matplotlib'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


COMMON_NAMES = (
    *(
        "search",
        "files",
        "report",
        "history",
        "training",
        "console",
        "journal",
        "verdict",
        "kernel",
        "tables",
        "options",
    ),
    *("labels", "methods", "plots", "statement", "words", "engines", "latent", "pictures", "command", "loading"),
)


def import_beside(names: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Imports the program in a folder with modules of these names, as a notebook there would."""
    for name in names:
        (folder / f"{name}.py").write_text("raise SystemExit('a user's own module was imported')\n", encoding="utf-8")
    code = f"import sys; sys.path.append({str(ROOT)!r}); from hyperparam_optimizer import search; import models"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_users_own_modules_are_in_nobodys_way(tmp_path: Path) -> None:
    done = import_beside(COMMON_NAMES, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["dataset", "models", "losses"])
def test_a_module_with_a_name_of_the_design_card_is_named(name: str, tmp_path: Path) -> None:
    done = import_beside([name], tmp_path)
    assert done.returncode == 1
    assert f"ImportError: {tmp_path / name}.py is in the way of {ROOT / name}.py" in done.stderr
    assert "rename it" in done.stderr.splitlines()[-1]


def test_a_script_needs_no_guard_and_keeps_its_own_pictures(table: Path, tmp_path: Path) -> None:
    text = f"""
from hyperparam_optimizer import search
found = search(data_path={str(table)!r}, hidden_dims_search=[4], max_layers=1, epochs=1, repeats=1, no_probe=True,
               quiet=True)
import matplotlib
print("backend:", matplotlib.rcParams["backend"], "pyplot" in str(sorted(sys.modules)))
print("size:", matplotlib.rcParams["figure.figsize"])
"""
    (tmp_path / "matplotlibrc").write_text("figure.figsize: 3, 2\n")
    out = script(text, tmp_path, MPLBACKEND="svg", PYTHONIOENCODING="ascii")
    assert "backend: svg" in out
    assert "size: [3.0, 2.0]" in out
    assert "\\xb1" not in out.partition("Best final")[0]
    assert (tmp_path / "output" / "report_latent3.html").exists()


def test_before_there_is_anything_to_lose_ctrl_c_is_pythons_own(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object) -> Path:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")

    monkeypatch.setattr(output_files, "make_folder", press)
    with pytest.raises(KeyboardInterrupt):
        search(**SMALL, data_path=table, output_dir=tmp_path)
