"""The command from its arguments to its files, as a user runs it."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from builders import make_failed_trial
from commands import (
    CODE_TOLERANCE,
    ENGINE_TOLERANCE,
    ROOT,
    ROWS,
    SMALL,
    SMALL_CONFIGURATIONS,
    TINY,
    VALIDATOR,
    Run,
    assert_one_line,
    but_for_threads,
    make_diverge,
    run,
)
from matplotlib.figure import Figure

from dataset import COPUSDataset
from layersearch.engines import training
from layersearch.files import SAMPLE_PATH
from layersearch.loading import loaded as loaded_module
from layersearch.pictures import search_pictures
from layersearch.pictures.latent import scatter
from layersearch.space.naming import config_text
from layersearch.space.ranking import rank_configurations
from layersearch.words import PROG, loss_text
from losses import sparse_aware_loss
from models import load_best

# ------------------------------------------------------------------------------------- a finished run


def test_a_finished_run_exits_with_0_and_leaves_every_file(finished: Run) -> None:
    assert finished.status == 0
    assert finished.files() == {
        "hyperparam_search_latent3.png",
        "config_performance_latent3.png",
        "verdict_latent3.png",
        "search_history_latent3.png",
        "hyperparam_results_latent3.json",
        "hyperparam_results_latent3.csv",
        "report_latent3.html",
        "best_model_latent3.pth",
        "latent_codes_latent3.csv",
        "latent_space_latent3.png",
        "latent_axes_latent3.png",
        "reconstruction_by_code_latent3.png",
        "label_agreement_latent3.png",
        "journal_latent3.jsonl",
        ".lock",
    }


def test_the_first_line_waits_for_nothing_heavy() -> None:
    code = """
import sys, hyperparam_optimizer as program
def stop(*_): raise program.UsageError(str(sorted({'torch', 'pandas', 'numpy'} & sys.modules.keys())))
program.prepared = stop
sys.exit(program.main([]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Searching 34 configurations")
    assert done.stderr == f"{PROG}: error: []\n"


def test_the_closing_summary_has_the_promised_form(finished: Run) -> None:
    results = finished.results()
    best, statement = results["best_configuration"], results["verdict"]["statement"]
    assert len(statement) > 3
    verdict = "\n".join(statement)
    interval = "95 % interval " + " to ".join(map(loss_text, results["verdict"]["best_measured_interval"]))
    summary = f"""\
======================================================================
HYPERPARAMETER OPTIMIZATION COMPLETED
======================================================================
Best configuration: {config_text(best["config"])}
Best final test loss: {loss_text(best["final_test_loss"], best["final_test_loss_sd"])} (2 repeats), {interval}
Best model parameters: {best["model_params"]}
Best model saved: {finished.folder / "best_model_latent3.pth"}

{verdict}

Generating visualizations...
Performance plot: {finished.folder / "hyperparam_search_latent3.png"}
Configuration scatter: {finished.folder / "config_performance_latent3.png"}
Verdict plot: {finished.folder / "verdict_latent3.png"}
Latent space plot: {finished.folder / "latent_space_latent3.png"}
Latent axes: {finished.folder / "latent_axes_latent3.png"}
Reconstruction by code: {finished.folder / "reconstruction_by_code_latent3.png"}
Label agreement: {finished.folder / "label_agreement_latent3.png"}
Report: {finished.folder / "report_latent3.html"}
Results saved: {finished.folder / "hyperparam_results_latent3.json"}
"""
    said = re.sub(r"(--epochs \d+) takes about \d+ s", r"\1", finished.out)  # the time is on the console alone
    assert said.endswith(f"\n{summary}")
    assert re.search(
        r"^Best final test loss: 0\.\d{4} ± 0\.\d{4} \(2 repeats\), 95 % interval 0", finished.out, re.MULTILINE
    )


def test_the_run_says_what_it_will_do_before_it_does_it(finished: Run) -> None:
    first, *rest = finished.out.splitlines()
    assert first == "Searching 5 configurations x 2 repeats of 3 epochs, latent dimension 3"
    assert "Table: 60 rows x 24 columns from mine.csv, 48 for training and 12 for testing" in rest
    assert any(line.startswith("  10 of 10 trainings, best so far [") for line in rest)


def test_the_results_follow_the_schema(finished: Run) -> None:
    results = finished.results()
    VALIDATOR.validate(results)
    assert results["total_configurations"] == len(results["all_results"]) == SMALL_CONFIGURATIONS
    assert results["data"]["synthetic"] is False
    assert results["args"]["epochs"] == 3
    assert results["timing"]["total"] == pytest.approx(sum(s for n, s in results["timing"].items() if n != "total"))


def test_the_best_is_the_first_of_a_sorted_ranking(finished: Run) -> None:
    results = finished.results()
    losses = [entry["final_test_loss"] for entry in results["all_results"]]
    assert losses == sorted(losses)
    assert results["best_configuration"]["config"] == results["all_results"][0]["config"]
    assert results["best_configuration"]["final_test_loss"] == losses[0]


def test_the_csv_holds_the_same_ranking(finished: Run) -> None:
    ranking = pd.read_csv(finished.folder / "hyperparam_results_latent3.csv")
    results = finished.results()["all_results"]
    baselines = finished.results()["verdict"]["baselines"]
    names = [config_text(entry["config"]) for entry in results] + [baseline["name"] for baseline in baselines]
    assert list(ranking["configuration"]) == names
    losses = [entry["final_test_loss"] for entry in results] + [baseline["loss"] for baseline in baselines]
    np.testing.assert_allclose(ranking["final_test_loss"], losses, rtol=1e-15)  # older pandas reads the last bit wrong
    differences = [entry["difference_to_best"] for entry in results]
    np.testing.assert_allclose(ranking["difference_to_best"][: len(results)], differences, rtol=1e-14)


def test_latent_codes_name_rows_as_a_spreadsheet_does_where_one_was_left_out(table: Path, tmp_path: Path) -> None:
    lines = table.read_text(encoding="utf-8").splitlines()
    lines.insert(4, "," * lines[0].count(","))  # row 5 holds nothing
    gappy = tmp_path / "gappy.csv"
    gappy.write_text("\n".join(lines), encoding="utf-8")
    done = run(tmp_path / "output", *TINY, "--data_path", gappy)
    rows = list(pd.read_csv(done.folder / "latent_codes_latent3.csv")["row"])
    assert rows == [2, 3, 4, *range(6, ROWS + 3)]


def test_the_saved_model_encodes_raw_values_to_the_written_codes(finished: Run, table: Path) -> None:
    saved = load_best(finished.folder, 3)
    codes = pd.read_csv(finished.folder / "latent_codes_latent3.csv")
    raw = pd.read_csv(table)[saved.columns].to_numpy(np.float32)
    written = codes[["latent_1", "latent_2", "latent_3"]].to_numpy()
    assert len(codes) == ROWS
    assert written.std(axis=0).min() > 100 * CODE_TOLERANCE, "codes that differ"
    np.testing.assert_allclose(saved.encode(raw).numpy(), written, rtol=0, atol=CODE_TOLERANCE)
    assert (codes["split"] == "test").sum() == 12
    assert list(codes["Bcluster"]) == list(pd.read_csv(table)["Bcluster"])


def test_the_saved_model_is_of_the_repeat_with_the_lowest_training_loss(finished: Run) -> None:
    results = finished.results()
    train_losses = results["all_results"][0]["train_loss_per_repeat"]
    saved = results["best_configuration"]["saved_model"]
    assert saved["file"] == "best_model_latent3.pth"
    assert saved["repeat"] == 1 + int(np.argmin(train_losses))
    assert saved["train_loss"] == min(train_losses)


def test_the_saved_model_has_the_losses_that_the_results_state(finished: Run, table: Path) -> None:
    saved, results = load_best(finished.folder, 3), finished.results()["best_configuration"]["saved_model"]
    dataset = COPUSDataset(table)
    scaled = saved.scaling.apply(dataset.data)
    for rows, stated in zip(dataset.split(42), (results["train_loss"], results["test_loss"]), strict=True):
        loss = sparse_aware_loss(saved.model(scaled[rows])[0].detach(), scaled[rows])
        assert float(loss) == pytest.approx(stated, rel=CODE_TOLERANCE)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_second_run_gives_the_same_results_on_any_number_of_threads(
    finished: Run, table: Path, tmp_path: Path, threads: int
) -> None:
    again = run(tmp_path, "--data_path", table, "--save_models", *SMALL, "--threads", threads, latent=True).results()
    assert again["environment"]["threads"] == threads
    assert finished.results()["environment"]["threads"] == 2
    assert but_for_threads(again) == but_for_threads(finished.results())


def test_another_seed_gives_another_split_and_other_trainings(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = run(tmp_path / "split", "--data_path", table, *SMALL, "--seed", 43).results()
    assert other["data"]["scaling"] != finished.results()["data"]["scaling"]
    split = COPUSDataset.split
    monkeypatch.setattr(COPUSDataset, "split", lambda dataset, _: split(dataset, 42))
    other = run(tmp_path / "trainings", "--data_path", table, *SMALL, "--seed", 43).results()
    assert other["data"] == finished.results()["data"]
    assert other["all_results"][0]["final_test_loss"] != finished.results()["all_results"][0]["final_test_loss"]


def test_no_global_state_is_touched(finished: Run, table: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    assert finished.global_state_kept
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(2)  # unlike the one that the reference engine trains on
    assert run(tmp_path, "--data_path", table, *SMALL, "--engine", "reference").global_state_kept


# ------------------------------------------------------------------------------------------ variations


def test_one_layer_gives_the_single_layer_configurations_alone(table: Path, tmp_path: Path) -> None:
    results = run(tmp_path, "--data_path", table, *SMALL, "--max_layers", 1, "--epochs", 1).results()
    assert sorted(entry["config"] for entry in results["all_results"]) == [[8], [16]]


def test_two_latent_dimensions_draw_the_latent_space_without_a_saved_model(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--latent_dim", 2, "--max_layers", 1, pictures=True)
    assert (tmp_path / "latent_space_2d_best_config.png").read_bytes().startswith(b"\x89PNG")
    assert f"\nLatent space plot: {tmp_path / 'latent_space_2d_best_config.png'}\n" in done.out
    assert not list(tmp_path.glob("*.pth"))
    assert "Best model saved" not in done.out
    assert done.results()["best_configuration"]["saved_model"] is None


def test_one_repeat_claims_no_spread_and_no_verdict(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--repeats", 1)
    results = done.results()
    VALIDATOR.validate(results)
    assert re.search(r"^Best final test loss: 0\.\d{4}$", done.out, re.MULTILINE)
    assert "luck cannot be told from merit" in done.out
    assert "proven" not in done.out
    assert [results["verdict"][name] for name in ("proven", "tied", "optimism", "best_measured_interval")] == [None] * 4
    unknown = ("final_test_loss_sd", "standard_error", "difference_to_best", "tied")
    assert all(entry[name] is None for entry in results["all_results"] for name in unknown)


def test_quiet_prints_the_closing_summary_alone(table: Path, tmp_path: Path) -> None:
    loud = run(tmp_path, "--data_path", table, *SMALL)
    quiet = run(tmp_path, "--data_path", table, *SMALL, "--quiet")
    assert quiet.out == loud.out[loud.out.index("=====") :]
    assert quiet.err == ""


def test_duplicate_widths_are_noticed_and_used_once(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--hidden_dims_search", " 8, 16,8 ", "--epochs", 1)
    assert "Note: --hidden_dims_search names 8 more than once; used once\n" in done.err
    assert done.results()["total_configurations"] == SMALL_CONFIGURATIONS


def test_a_latent_space_that_does_not_compress_is_noticed(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--latent_dim", 30, "--epochs", 1)
    assert done.status == 0
    assert "Note: --latent_dim 30 does not compress 24 columns\n" in done.err
    assert "PCA with 24 components 0.0000" in done.out, "it has no more than that"
    assert [b["components"] for b in done.results()["verdict"]["baselines"]] == [None, None, 24, 24]


def test_a_batch_may_be_larger_than_the_table(table: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", "--data_path", table, *SMALL, "--batch_size", 48).results()
    larger = run(tmp_path / "larger", "--data_path", table, *SMALL, "--batch_size", 2**31 - 1).results()
    assert larger["all_results"] == whole["all_results"]


def test_the_engines_agree(finished: Run, table: Path, tmp_path: Path) -> None:
    reference = run(tmp_path, "--data_path", table, *SMALL, "--engine", "reference").results()
    compiled = finished.results()
    assert (reference["environment"]["engine"], compiled["environment"]["engine"]) == ("reference", "compiled")
    losses_of = {tuple(entry["config"]): entry["test_loss_per_repeat"] for entry in compiled["all_results"]}
    for entry in reference["all_results"]:
        expected = pytest.approx(entry["test_loss_per_repeat"], rel=ENGINE_TOLERANCE)
        assert losses_of[tuple(entry["config"])] == expected


# -------------------------------------------------------------------------------- the bundled sample


@pytest.fixture
def pictures_notes(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The small line of each picture that is asked for; none is drawn."""
    notes: list[str | None] = []

    def blank_picture(*_: Any, note: str | None = None, **__: Any) -> Figure:
        notes.append(note)
        return Figure()

    for module, draw in (
        (search_pictures, "draw_curves"),
        (search_pictures, "draw_sizes"),
        (search_pictures, "draw_verdict"),
        (scatter, "draw_latent_space"),
    ):
        monkeypatch.setattr(module, draw, blank_picture)
    return notes


def test_without_a_table_the_sample_is_used_and_said_so_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures_notes: list[str | None]
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = tmp_path / "program" / "sample.csv"  # not beside a real table that a developer has downloaded
    sample.parent.mkdir()
    sample.write_bytes(SAMPLE_PATH.read_bytes())
    monkeypatch.setattr(loaded_module, "SAMPLE_PATH", sample)
    done = run(Path("output"), *TINY, "--latent_dim", 2, pictures=True)
    assert done.status == 0
    assert "SYNTHETIC" in done.err
    data = done.results()["data"]
    assert data["synthetic"] is True
    assert data["path"] == sample.as_posix()
    assert len(pictures_notes) == 4
    assert all(note and "synthetic" in note.lower() for note in pictures_notes)


def test_the_sample_is_synthetic_when_named_too_and_said_so_even_when_quiet(tmp_path: Path) -> None:
    done = run(tmp_path / "output", *TINY, "--data_path", SAMPLE_PATH, "--quiet")
    assert "SYNTHETIC" in done.err
    assert done.results()["data"]["synthetic"] is True


def test_started_elsewhere_the_real_table_beside_the_program_is_found(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    beside = tmp_path / "program" / "stains.csv"
    beside.parent.mkdir()
    beside.write_bytes(table.read_bytes())
    monkeypatch.setattr(loaded_module, "SAMPLE_PATH", beside.with_name("sample.csv"))
    done = run(Path("output"), *TINY)
    assert done.results()["data"]["path"] == beside.as_posix()
    assert done.results()["data"]["synthetic"] is False


def test_a_table_at_the_default_place_is_used(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures_notes: list[str | None]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stains.csv").write_bytes(table.read_bytes())
    done = run(Path("output"), *TINY, "--latent_dim", 2, pictures=True)
    assert done.err == ""
    assert done.results()["data"]["synthetic"] is False
    assert done.results()["data"]["rows"] == ROWS
    assert pictures_notes == [None] * 4


def test_a_table_that_is_named_and_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(tmp_path / "output", "--data_path", "data/stains.csv")
    assert (done.status, done.out) == (2, "")
    assert done.err == f"{PROG}: error: --data_path 'data/stains.csv': there is no such file\n"
    assert not done.folder.exists()


# -------------------------------------------------------------------------------------------- failures


def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    assert "bad.csv" in assert_one_line(run(tmp_path / "out", "--data_path", bad, *SMALL), 2)


@pytest.mark.parametrize("engine", ["compiled", "reference", "stacked"])
def test_a_search_that_fails_entirely_exits_with_1_and_lists_the_failures(
    table: Path, tmp_path: Path, engine: str
) -> None:
    arguments = ["--data_path", table, *SMALL, "--initial_lr", 1e30, "--save_models", "--engine", engine]
    done = run(tmp_path, *arguments, "--quiet", pictures=True)
    assert "every configuration failed" in assert_one_line(done, 1)
    assert done.out == ""
    assert done.files() == {
        "hyperparam_results_latent3.json",
        "hyperparam_results_latent3.csv",
        "report_latent3.html",
        "journal_latent3.jsonl",
        ".lock",
    }
    results = done.results()
    VALIDATOR.validate(results)
    assert (results["best_configuration"], results["verdict"], results["pareto_front"]) == (None, None, [])
    assert all(entry["status"].startswith("failed: not finite at epoch 1") for entry in results["all_results"])
    ranking = pd.read_csv(tmp_path / "hyperparam_results_latent3.csv")
    assert len(ranking) == SMALL_CONFIGURATIONS
    assert ranking["status"].str.startswith("failed").all()
    assert ranking["rank"].isna().all()


def test_a_configuration_that_fails_is_listed_last_and_leaves_the_others_as_they_were(
    finished: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = tuple(finished.results()["best_configuration"]["config"])
    make_diverge(monkeypatch, lambda trial: trial.config == best)
    done = run(tmp_path, "--data_path", table, *SMALL)
    results = done.results()
    VALIDATOR.validate(results)
    assert done.status == 0
    assert results["all_results"][-1]["config"] == list(best)
    assert results["all_results"][-1]["final_test_loss"] is None
    expected = [entry["test_loss_per_repeat"] for entry in finished.results()["all_results"][1:]]
    assert [entry["test_loss_per_repeat"] for entry in results["all_results"][:-1]] == expected


def test_the_last_of_a_rankings_failures_never_leads() -> None:
    assert rank_configurations([make_failed_trial((8,))], {(8,): 1})[0].failure


KERNEL = ("step", "product", "strips")


@pytest.fixture
def fresh_kernel() -> Iterator[None]:
    """The next `import kernel` runs its code anew; what it imports of Numba stays imported."""
    package = importlib.import_module("layersearch.engines.kernel")
    modules = {name: sys.modules.pop(f"{package.__name__}.{name}", None) for name in KERNEL}
    for name in KERNEL:
        package.__dict__.pop(name, None)
    yield
    for name, module in modules.items():
        sys.modules.pop(f"{package.__name__}.{name}", None)
        package.__dict__.pop(name, None)
        if module is not None:
            sys.modules[f"{package.__name__}.{name}"] = module
            setattr(package, name, module)


@pytest.fixture
def without_numba(fresh_kernel: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Numba were not installed."""
    monkeypatch.setitem(sys.modules, "numba", None)


@pytest.mark.usefixtures("without_numba")
def test_without_numba_the_reference_engine_takes_over_with_a_notice(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--epochs", 1)
    assert done.status == 0
    assert "Note: Numba is not installed" in done.err
    assert done.results()["environment"]["engine"] == "reference"


@pytest.mark.usefixtures("without_numba")
def test_the_compiled_engine_cannot_be_forced_without_numba(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--engine", "compiled")
    assert "--engine compiled needs Numba" in assert_one_line(done, 2)


@pytest.mark.usefixtures("fresh_kernel")
def test_a_kernel_cache_that_can_be_written_nowhere_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    caching = pytest.importorskip("numba.core.caching")
    places = getattr(caching, "CacheImpl", None) or caching._CacheImpl  # its name before Numba 0.62
    monkeypatch.setattr(places, "_locator_classes", [])
    kernel = importlib.import_module("layersearch.engines.kernel.step")
    values = np.zeros(3, np.float32)
    kernel._fill(values, np.float32(2))
    assert values.tolist() == [2, 2, 2]
    assert kernel._fill.stats.cache_path is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_a_cuda_device_is_one_line(table: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--data_path", table, *SMALL, "--device", "cuda")
    assert "--device cuda" in assert_one_line(done, 2)


def test_an_output_folder_that_cannot_be_made_is_said_before_anything_is_trained(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(training, "run_trials", lambda *_: pytest.fail("trained all the same"))
    assert "--output_dir" in assert_one_line(run(tmp_path / "x", "--data_path", table, *SMALL), 2)


# -------------------------------------------------------------------------------------- the real table


def test_the_basic_command_on_the_real_table(real_table: Path, tmp_path: Path) -> None:
    space = ["--latent_dim", 3, "--hidden_dims_search", "16,32,64", "--max_layers", 3]
    done = run(tmp_path, "--data_path", real_table, *space, "--epochs", 20, "--repeats", 1)
    results = done.results()
    assert done.status == 0
    assert results["total_configurations"] == 19
    assert results["best_configuration"]["final_test_loss"] <= 0.042
    assert results["data"]["synthetic"] is False
    assert (results["data"]["train_rows"], results["data"]["test_rows"]) == (1607, 401)
    sizes = {tuple(entry["config"]): entry["model_params"] for entry in results["all_results"]}
    assert sizes[64, 64] == 12_491


# Rounding grows to 0.0002 at most over 1,020 steps of Adam from the same start: a fifth of the spread over repeats.
REAL_TABLE_TOLERANCE = 5e-4  # of a loss, absolute


def test_engines_give_the_same_losses_on_the_real_table(real_table: Path, tmp_path: Path) -> None:
    space = ["--data_path", real_table, "--hidden_dims_search", "64", "--max_layers", 2, "--repeats", 1]
    compiled, reference = (run(tmp_path / engine, *space, "--engine", engine) for engine in ("compiled", "reference"))
    losses = [
        {tuple(entry["config"]): entry["curves"]["test"][0] for entry in done.results()["all_results"]}
        for done in (compiled, reference)
    ]
    assert list(losses[0]) == [(64, 64), (64,)]
    for config, curve in losses[0].items():
        np.testing.assert_allclose(curve, losses[1][config], rtol=0, atol=REAL_TABLE_TOLERANCE)
