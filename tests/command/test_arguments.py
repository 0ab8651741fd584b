"""Every argument has the documented default, and every fault gets one clear line."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from layersearch.command.arguments import build_parser, parse_arguments
from layersearch.command.request import read_request
from layersearch.command.values import (
    duplicate_widths,
    read_objectives,
    read_width_range,
    read_widths,
)
from layersearch.space.configurations import Space
from layersearch.words import PROG

ROOT = Path(__file__).resolve().parent.parent.parent

# The table of the command line that the program promises; type and value both count.
DEFAULTS = {
    "latent_dim": 3,
    "hidden_dims_search": "16,32,64,128",
    "max_layers": 3,
    "epochs": 20,
    "batch_size": 32,
    "initial_lr": 0.001,
    "eta_min": 1e-6,
    "data_path": "data/stains.csv",
    "device": "auto",
    "output_dir": "output",
    "save_models": False,
    "fresh": False,
    "seed": 42,
    "repeats": 5,
    "dropout": 0.1,
    "weight_decay": 1e-4,
    "scaling": "robust",
    "columns": "copus",
    "engine": "auto",
    "threads": 0,
    "quiet": False,
}
MORE_DEFAULTS = {
    "distributed": None,
    "ray_address": "auto",
    "label_column": None,
    "max_configurations": 10_000,
    "select": "best",
    "objectives": "loss,params",
    "confidence": 0.95,
    "margin": 0.05,
    "cv_folds": 0,
    "no_probe": False,
    "group_column": None,
    "stratify_column": None,
    "search": "grid",
    "trials": 0,
    "list_configurations": False,
    "patience": 0,
    "min_delta": 0.0,
    "validation_fraction": 0.1,
    "halving_factor": 3,
    "min_epochs": 0,
    "batch_trials": 0,
    "width_range": None,
    "arrangement": "decreasing",
    "normalization": "layer",
    "input_normalization": "layer",
    "study": None,
    "study_configs": 0,
    "init_from": None,
    "freeze_encoder": False,
    "ensemble": None,
    "encode": None,
    "model": None,
}


# Where a flag is used at all.
USED_BY = {
    "trials": ["--search", "random"],
    "min_delta": ["--patience", "2"],
    "validation_fraction": ["--patience", "2"],
    "halving_factor": ["--search", "halving"],
    "min_epochs": ["--search", "halving"],
    "batch_trials": ["--search", "bayesian", "--trials", "5"],
}

Faults = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def faults_of(capsys: pytest.CaptureFixture[str]) -> Faults:
    """The lines on stderr, less the program's name; the status is checked to be 2 and stdout to be empty."""

    def faults(*argv: str) -> list[str]:
        with pytest.raises(SystemExit) as exit_:
            parse_arguments(argv)
        assert exit_.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert all(line.startswith(f"{PROG}: error: ") for line in lines)
        return [line.removeprefix(f"{PROG}: error: ") for line in lines]

    return faults


def test_defaults_and_their_types_are_the_documented_ones() -> None:
    given = read_request(parse_arguments([])).arguments
    expected = DEFAULTS | MORE_DEFAULTS
    assert given == expected
    assert {name: type(value) for name, value in given.items()} == {n: type(v) for n, v in expected.items()}


@pytest.mark.parametrize("name", [name for name, default in DEFAULTS.items() if isinstance(default, int | float)])
def test_a_number_keeps_its_type_when_it_is_given(name: str) -> None:
    if isinstance(DEFAULTS[name], bool):
        assert getattr(parse_arguments([f"--{name}"]), name) is True
    else:
        text = "2" if isinstance(DEFAULTS[name], int) else "0.0005"
        value = getattr(parse_arguments([f"--{name}", text]), name)
        assert value == float(text)
        assert type(value) is type(DEFAULTS[name])


def space_of(arguments: argparse.Namespace) -> Space:
    """Returns the space that these arguments span."""
    return read_request(arguments).space


def test_help_states_every_default_truly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    parser = build_parser()
    entries = re.split(r"^  --", parser.format_help(), flags=re.MULTILINE)[1:]
    stated = {entry.split()[0]: re.findall(r"\(default: (.*)\)", entry)[-1] for entry in entries}
    real = read_request(parser.parse_args([])).arguments
    assert stated.keys() == real.keys()
    words = {
        "label_column": "Cluster or Bcluster, where there is one",
        "min_epochs": "a twentieth of --epochs",
        "batch_trials": "as many as fill the cores",
        "False": "off",
        "None": "none",
    }
    expected = {name: words.get(name, words.get(str(default), str(default))) for name, default in real.items()}
    assert stated == expected


def test_help_loads_nothing_heavy() -> None:
    heavy = {"torch", "pandas", "matplotlib", "numpy", "numba", "tqdm", "scipy", "sklearn"}
    code = (
        "import sys, hyperparam_optimizer\n"
        "try: hyperparam_optimizer.main(['--help'])\n"
        "finally: print(sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--latent_dim" in done.stdout
    assert heavy.isdisjoint(eval(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("latent_dim", ["0", "-1", "1e3", "3.0", "", "nan", "1_0", "٣", "１", "9" * 12, "9" * 5000]),
        ("max_layers", ["0", "-1", "1e3", "101", "inf"]),
        ("epochs", ["0", "-20", "1e3", "2.5", "1000001", "²"]),
        ("batch_size", ["0", "-1", "32.0", "0x20", str(2**31)]),
        ("repeats", ["0", "-1", "five", "10001"]),
        ("seed", ["-1", "1.5", str(2**63)]),
        ("threads", ["-1", "all", "5000"]),
        ("max_configurations", ["0", "1e6"]),
        ("initial_lr", ["0", "-0.001", "-1e-3", "nan", "inf", "-inf", "1_0", "", "fast", "１", "1e400"]),
        ("eta_min", ["-1e-9", "nan", "inf", "0.01"]),
        ("dropout", ["1", "1.5", "-0.1", "nan"]),
        ("weight_decay", ["-1", "nan", "inf", "none"]),
        ("scaling", ["", "Robust", "minmax"]),
        ("engine", ["", "torch", "Compiled"]),
        (
            "device",
            ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:99999", "cuda:256", "cuda:00", "cpu:0", "mps", "CPU"],
        ),
        ("columns", ["", " , "]),
        ("margin", ["-0.01", "1.01", "5", "nan", "inf", "", "5 %"]),
        ("confidence", ["0", "1", "0.99999", "-0.95", "95", "nan", "inf", "", "high"]),
        ("cv_folds", ["1", "-1", "5.0", "1001", "all"]),
        ("select", ["", "Best", "smallest"]),
        ("objectives", ["", "loss", "params", "params,time", "loss,", "loss,speed", "Loss,params", "loss;params"]),
        ("search", ["", "Grid", "optuna", "hyperband"]),
        ("arrangement", ["", "Any", "mirrored"]),
        ("trials", ["-1", "1e3", "all", str(2**31)]),
        ("patience", ["-1", "2.5", "never", "1000001"]),
        ("min_delta", ["-0.1", "nan", "inf", "small"]),
        ("validation_fraction", ["0", "1", "-0.1", "10", "nan"]),
        ("halving_factor", ["1", "0", "-3", "2.5", "1001"]),
        ("min_epochs", ["-1", "0.5", "1000001"]),
        ("batch_trials", ["-1", "two", "10001"]),
        ("width_range", ["", "4", "256:4", "4:", ":8", "4:8:0", "4:8:-1", "0:8", "4:65537", "4:8:2:1", "4-8", "a:b"]),
        ("output_dir", ["", " ", "nul\0", "ungrad\udcff"]),
        ("hidden_dims_search", ["1e3", "16,,32", "16;32", "64-32", "", ",", "16,", "0", "16,-4", "nan", "٣", "65537"]),
    ],
)
def test_a_bad_value_gets_one_line_that_names_its_flag(faults_of: Faults, flag: str, values: list[str]) -> None:
    for value in values:
        (fault,) = faults_of(f"--{flag}", value, *USED_BY.get(flag, []))
        assert fault.startswith(f"--{flag} "), value
        assert len(fault) > len(f"--{flag} {value[:80]}") + 10, "the remedy is named"
        assert len(fault) < 250


def test_all_faults_are_reported_together(faults_of: Faults) -> None:
    faults = faults_of("--epochs", "--latent-dim", "2", "--dropout", "2", "--device", "tpu", "--data_path", "no.csv")
    assert [fault.split(":")[0].split(" ")[0] for fault in faults] == [
        "--epochs", "unknown", "--dropout", "--device", "--data_path",
    ]  # fmt: skip


@pytest.mark.parametrize("argv", [["--epochs"], ["--epochs", "--seed", "1"], ["--epochs", "--quiet"], ["--epochs=--"]])
def test_a_flag_without_its_value_is_named(faults_of: Faults, argv: list[str]) -> None:
    assert faults_of(*argv) == ["--epochs: give a value; see --help"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--latent-dim", "--latent_dim"),
        ("--epoch", "--epochs"),
        ("--min-epoch", "--min_epochs"),
        ("--lr", "--initial_lr"),
        ("--gpu", None),
    ],
)
def test_an_unknown_flag_is_answered_with_the_closest_one(faults_of: Faults, given: str, meant: str | None) -> None:
    advice = f"did you mean {meant}?" if meant else "see --help"
    for argv in ([given], [f"{given}=3"], [given, "3"]):
        assert faults_of(*argv) == [f"unknown argument {argv[0]!r}; {advice}"]


def test_widths_that_the_shell_took_apart_are_explained(faults_of: Faults) -> None:
    faults = faults_of("--hidden_dims_search", "16,", "32")
    assert any(fault.startswith("unexpected '32'") and "quotes" in fault for fault in faults)


def test_a_missing_data_file_is_a_fault_even_where_it_is_the_default(faults_of: Faults) -> None:
    assert faults_of("--data_path", "data/stains.csv") == ["--data_path 'data/stains.csv': there is no such file"]
    assert parse_arguments([]).data_path is None


def test_a_data_path_that_is_no_table_is_a_fault(faults_of: Faults, tmp_path: Path) -> None:
    (tmp_path / "table.docx").touch()
    (tmp_path / "folder.csv").mkdir()
    assert "ends in .csv" in faults_of("--data_path", "table.docx")[0]
    assert "is a folder" in faults_of("--data_path", "folder.csv")[0]
    assert "no such file" in faults_of("--data_path", "table.docx/inner.csv")[0]
    assert "no such file" in faults_of("--data_path", "x" * 5000 + ".csv")[0]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".tab", ".xlsx", ".parquet", ".CSV"])
def test_each_table_format_is_accepted(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"table{suffix}").touch()
    assert parse_arguments(["--data_path", f"table{suffix}"]).data_path == f"table{suffix}"


def test_an_output_dir_that_is_or_lies_below_a_file_is_a_fault(faults_of: Faults, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    assert "is a file" in faults_of("--output_dir", "taken")[0]
    assert "is a file" in faults_of("--output_dir", "taken/below/it")[0]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_a_fault(faults_of: Faults, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "cannot be written to" in faults_of("--output_dir", str(locked / "new"))[0]


def test_nothing_is_created_by_the_checks(tmp_path: Path) -> None:
    parse_arguments(["--output_dir", "some/new/folder"])
    assert not list(tmp_path.iterdir())


def test_the_compiled_engine_is_refused_on_cuda(faults_of: Faults) -> None:
    assert "--engine compiled" in faults_of("--engine", "compiled", "--device", "cuda:1")[0]


def test_too_many_configurations_are_refused_with_their_number(faults_of: Faults) -> None:
    argv = ["--hidden_dims_search", "16,32,64,128", "--max_layers", "30"]
    for limit in ([], ["--max_configurations", "46374"]):
        (fault,) = faults_of(*argv, *limit)
        assert "46375 configurations" in fault
    assert parse_arguments([*argv, "--max_configurations", "46375"]).max_layers == 30


def test_a_number_of_configurations_that_is_never_allowed_is_not_offered(faults_of: Faults) -> None:
    (fault,) = faults_of("--hidden_dims_search", ",".join(map(str, range(1, 301))), "--max_layers", "100")
    assert "configurations, more than --max_configurations 10000; narrow the search" in fault
    assert "raise it" not in fault


def test_too_many_trainings_are_refused_with_how_many_repeats_there_may_be(faults_of: Faults) -> None:
    argv = ["--hidden_dims_search", "1,2,3", "--max_layers", "10", "--cv_folds", "5"]  # 285 configurations
    (fault,) = faults_of(*argv, "--repeats", "702")
    assert fault.endswith(
        "285 configurations x 702 repeats x 5 folds are more than 1000000 trainings; give at most 701"
    )
    assert parse_arguments([*argv, "--repeats", "701"]).repeats == 701
    (fault,) = faults_of(*argv, "--repeats", "1", "--cv_folds", "1000", "--hidden_dims_search", "1,2,3,4,5")
    assert fault.endswith(
        "3002 configurations x 1 repeats x 1000 folds are more than 1000000 trainings; narrow the search"
    )


def test_a_model_too_large_for_memory_is_refused_with_its_size(faults_of: Faults) -> None:
    (fault,) = faults_of("--hidden_dims_search", "16,65536", "--max_layers", "2")
    assert "8591245318 parameters" in fault
    assert parse_arguments(["--hidden_dims_search", "16,65536", "--max_layers", "1"]).max_layers == 1
    assert len(faults_of("--hidden_dims_search", "65536", "--max_layers", "1", "--latent_dim", "9999")) == 1


def test_objectives_may_have_spaces_and_duplicates_in_any_order() -> None:
    assert read_objectives(" time,loss , params,loss") == ["time", "loss", "params"]


def test_an_unknown_objective_is_named(faults_of: Faults) -> None:
    (fault,) = faults_of("--objectives", "loss,speed")
    assert fault == "--objectives 'loss,speed': 'speed' is no objective; give some of loss, params, time"


def test_the_simplest_of_the_tied_needs_more_than_one_training_each(faults_of: Faults) -> None:
    simplest = ["--select", "simplest", "--repeats", "1"]
    (fault,) = faults_of(*simplest)
    assert fault.startswith("--select simplest")
    assert "--repeats 2" in fault
    assert parse_arguments([*simplest, "--cv_folds", "2"]).select == "simplest"


# ------------------------------------------------------------------------------ searching with less


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("--trials 5", "--trials goes with --search random or bayesian; leave it out"),
        ("--trials 5 --search halving", "--trials goes with --search random or bayesian; leave it out"),
        ("--batch_trials 2 --search random --trials 5", "--batch_trials goes with --search bayesian; leave it out"),
        ("--batch_trials=0", "--batch_trials goes with --search bayesian; leave it out"),
        ("--halving_factor 3", "--halving_factor goes with --search halving; leave it out"),
        ("--min_epochs 2 --search bayesian --trials 5", "--min_epochs goes with --search halving; leave it out"),
        ("--freeze_encoder", "--freeze_encoder goes with --init_from; leave it out"),
        ("--min_delta 0.1", "--min_delta goes with --patience; leave it out"),
        ("--validation_fraction 0.1 --patience 0", "--validation_fraction goes with --patience; leave it out"),
        (
            "--width_range 4:8 --hidden_dims_search 4,8",
            "--width_range and --hidden_dims_search exclude each other; leave one out",
        ),
    ],
)
def test_a_flag_that_what_was_chosen_does_not_use_is_a_fault(faults_of: Faults, argv: str, said: str) -> None:
    assert faults_of(*argv.split()) == [said]


@pytest.mark.parametrize("search", ["random", "bayesian"])
@pytest.mark.parametrize("trials", [[], ["--trials", "0"]])
def test_a_search_that_samples_needs_to_know_how_much(faults_of: Faults, search: str, trials: list[str]) -> None:
    (fault,) = faults_of("--search", search, *trials)
    assert fault.startswith(f"--search {search} ")
    assert "--trials 40" in fault


def test_bayesian_search_does_not_weigh_time(faults_of: Faults) -> None:
    (fault,) = faults_of("--search", "bayesian", "--trials", "5", "--objectives", "loss,time")
    assert fault.startswith("--objectives: bayesian search does not weigh time")
    assert parse_arguments(["--search", "random", "--trials", "5", "--objectives", "loss,time"]).trials == 5


def test_a_width_range_has_both_its_ends() -> None:
    assert read_width_range("4:256:4") == range(4, 257, 4)
    assert read_width_range("8:8") == range(8, 9)
    assert list(read_width_range("4:9:3")) == [4, 7]
    assert space_of(parse_arguments(["--width_range", "4:6", "--max_layers", "2"])) == Space(range(4, 7), 2)


def test_a_reversed_range_is_answered_with_the_right_one(faults_of: Faults) -> None:
    assert faults_of("--width_range", "256:4") == ["--width_range '256:4': it ends below its start; give 4:256"]


def test_a_large_space_may_be_sampled_but_not_trained_or_listed_whole(faults_of: Faults) -> None:
    large = ["--width_range", "4:256", "--max_layers", "4"]
    sampled = [*large, "--search", "bayesian", "--trials", "40"]
    assert space_of(parse_arguments(sampled)).size > 10**8
    for argv in (large, [*large, "--search", "halving"], [*sampled, "--list_configurations"]):
        (fault,) = faults_of(*argv)
        assert "configurations, more than --max_configurations 10000" in fault
    (fault,) = faults_of(*large, "--search", "random", "--trials", "10001")
    assert fault.startswith("--trials 10001: more than --max_configurations 10000")


def test_the_arrangement_counts_for_the_size_of_the_search(faults_of: Faults) -> None:
    argv = ["--hidden_dims_search", "8,16,32,64", "--max_layers", "4"]  # 69 halves
    assert space_of(parse_arguments([*argv, "--arrangement", "any"])).size == 340
    assert space_of(parse_arguments([*argv, "--arrangement", "asymmetric"])).size == 69**2
    (fault,) = faults_of(*argv, "--arrangement", "asymmetric", "--max_configurations", "4760")
    assert "4761 configurations" in fault


def test_flags_of_a_strategy_are_accepted_where_it_is_chosen() -> None:
    for flag, user in USED_BY.items():
        parse_arguments([*user, *([f"--{flag}", "5"] if flag != "validation_fraction" else [f"--{flag}", "0.5"])])


def test_widths_may_have_spaces_and_duplicates() -> None:
    assert read_widths(" 64, 16 ,64,+8,08") == [64, 16, 8]
    assert duplicate_widths(" 64, 16 ,64,+8,08") == [8, 64]
    assert duplicate_widths("16,32") == []


def test_edge_values_are_accepted() -> None:
    argv = "--dropout 0 --eta_min 0.001 --weight_decay 0 --seed 0 --max_layers 1 --latent_dim 10000 --initial_lr 1e-3"
    assert parse_arguments(argv.split()).seed == 0
    assert parse_arguments(["--confidence", "0.001", "--cv_folds", "2"]).confidence == 0.001
    assert parse_arguments(["--seed", str(2**63 - 1), "--device", "cuda:3"]).device == "cuda:3"
