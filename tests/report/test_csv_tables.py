"""The CSV tables agree with the results, and are safe to open in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import make_ranking, make_results

from layersearch.report import tables
from layersearch.report.results import Results
from layersearch.space.configurations import enumerate_configurations
from layersearch.space.naming import config_text

FAILED = (16, 16)
SEARCHED = enumerate_configurations([16, 32, 64], 2)


@pytest.fixture
def results() -> Results:
    """Nine configurations, of which three are tied and one failed."""
    return make_results(make_ranking(SEARCHED, repeats=3, epochs=4, failed=[FAILED], seed=4))


@pytest.fixture
def in_folds() -> Results:
    """A search with two folds, in which one configuration failed."""
    return make_results(make_ranking(SEARCHED, repeats=3, folds=2, epochs=4, failed=[FAILED]))


def csv_rows(path: Path, results: Results) -> list[dict[str, str]]:
    """Returns the rows that `write_csv` writes, as text."""
    tables.write_csv(path, results.ranking, results.verdict)
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_holds_the_ranking(tmp_path: Path, results: Results) -> None:
    rows, verdict = csv_rows(tmp_path / "x.csv", results), results.verdict
    assert verdict is not None
    second = results.ranking[1]
    standing = verdict.standings[second.config]
    assert standing.difference_interval is not None
    assert rows[1] == {
        "rank": "2",
        "configuration": config_text(second.config),
        "num_layers": str(len(second.config)),
        "model_params": str(second.model_params),
        "final_test_loss": repr(second.final_test_loss),
        "final_test_loss_sd": repr(second.final_test_loss_sd),
        "standard_error": repr(standing.standard_error),
        "difference_to_best": repr(standing.difference),
        "difference_low": repr(standing.difference_interval.low),
        "difference_high": repr(standing.difference_interval.high),
        "tied": "True",
        "test_loss_repeat_1": repr(second.test_loss_per_repeat[0]),
        "test_loss_repeat_2": repr(second.test_loss_per_repeat[1]),
        "test_loss_repeat_3": repr(second.test_loss_per_repeat[2]),
        "pareto": str(standing.on_front),
        "status": "ok",
    }
    failed = rows[len(SEARCHED) - 1]
    assert (failed["rank"], failed["final_test_loss"], failed["final_test_loss_sd"]) == ("", "", "")
    assert (failed["tied"], failed["difference_low"]) == ("", "")
    assert (failed["test_loss_repeat_3"], failed["pareto"]) == ("", "False")
    assert failed["status"].startswith("failed")
    ranked = [config_text(c.config) for c in results.ranking]
    assert [row["configuration"] for row in rows] == [
        *ranked,
        "column means",
        "best constant",
        "PCA",
        "linear autoencoder",
    ]


def test_a_baseline_stands_behind_the_ranking_with_its_difference_to_the_best(tmp_path: Path, results: Results) -> None:
    *_, pca, _ = csv_rows(tmp_path / "x.csv", results)
    assert results.verdict is not None
    baseline = results.verdict.baselines[1]
    assert {name: cell for name, cell in pca.items() if cell} == {
        "configuration": "PCA",
        "final_test_loss": repr(baseline.loss),
        "difference_to_best": repr(-baseline.difference),  # above 0 if the baseline is worse, as for configurations
        "difference_low": pca["difference_low"],
        "difference_high": pca["difference_high"],
        "status": "baseline",
    }
    bounds = [float(pca[name]) for name in ("difference_low", "difference_to_best", "difference_high")]
    assert bounds == sorted(bounds)
    assert bounds[1] == pytest.approx(baseline.loss - results.ranking[0].final_test_loss)


def test_csv_of_one_repeat_or_of_failures_alone_claims_nothing(tmp_path: Path) -> None:
    once = make_results(make_ranking(SEARCHED, repeats=1, epochs=2))
    failed = make_results(make_ranking(SEARCHED, epochs=2, failed=SEARCHED))
    for name, expected in (("once", len(SEARCHED) + 4), ("failed", len(SEARCHED))):
        rows = csv_rows(tmp_path / f"{name}.csv", {"once": once, "failed": failed}[name])
        assert len(rows) == expected
        assert not any(row[column] for row in rows for column in ("tied", "difference_low"))


def test_csv_of_folds_has_a_column_a_repeat(tmp_path: Path, in_folds: Results) -> None:
    first = csv_rows(tmp_path / "x.csv", in_folds)[0]
    assert [name for name in first if name.startswith("test_loss")] == [f"test_loss_repeat_{n}" for n in (1, 2, 3)]
    assert float(first["test_loss_repeat_2"]) == in_folds.ranking[0].test_loss_per_repeat[1]


def test_csv_names_decoders_of_their_own_and_says_what_was_dropped(tmp_path: Path) -> None:
    pair = ((64, 64, 32), (16, 64))
    ranking = make_ranking([(64, 64), pair, (16,)], repeats=2, epochs=9, dropped=[(16,)])
    rows = {row["configuration"]: row for row in csv_rows(tmp_path / "x.csv", make_results(ranking))}
    assert (rows["[64, 64, 32] -> [16, 64]"]["num_layers"], rows["[64, 64]"]["num_layers"]) == ("3", "2")
    dropped = rows["[16]"]
    assert dropped["status"].startswith("dropped at epoch 3 (loss 0.")
    empty = ("rank", "final_test_loss", "final_test_loss_sd", "tied", "test_loss_repeat_1", "standard_error")
    assert [dropped[name] for name in empty] == [""] * len(empty)


@pytest.fixture
def codes_csv(tmp_path: Path) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def write_and_read(others: pd.DataFrame) -> pd.DataFrame:
        n = len(others)
        codes = np.arange(2 * n, dtype=np.float32).reshape(n, 2) / 3
        errors = np.linspace(0, 1, n)
        columns = {"reconstruction_error": errors}
        tables.write_codes(tmp_path / "codes.csv", codes, columns, np.arange(n) % 2 == 1, np.arange(2, n + 2), others)
        return pd.read_csv(tmp_path / "codes.csv", keep_default_na=False, dtype=str)

    return write_and_read


def test_latent_codes_stand_beside_who_they_belong_to(codes_csv: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    others = pd.DataFrame({"Instructor ID": [7.0, np.nan, 9.0], "Bcluster": ["Lecture", None, "é, ü"]}, index=[5, 3, 1])
    table = codes_csv(others)
    own = ["row", "latent_1", "latent_2", "reconstruction_error", "split"]
    assert list(table.columns) == [*own, "Instructor ID", "Bcluster"]
    assert table["row"].tolist() == ["2", "3", "4"]
    assert table["split"].tolist() == ["train", "test", "train"]
    assert table["reconstruction_error"].astype(float).tolist() == [0.0, 0.5, 1.0]
    assert table["latent_2"].astype(np.float32).tolist() == (np.array([1, 3, 5], np.float32) / 3).tolist()
    assert table["Instructor ID"].tolist() == ["7.0", "", "9.0"]
    assert table["Bcluster"].tolist() == ["Lecture", "", "é, ü"]


@pytest.mark.parametrize("dtype", ["object", "str", "category"])
def test_formulas_in_text_are_disarmed(dtype: str, codes_csv: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    bad = ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "\n=1+1", " =1+1", "＝1", "\nx"]
    good = ["a=1", "-1.5", "+3", "-2e-3", " -3", " x", "'=1", ""]
    table = codes_csv(pd.DataFrame({"note": pd.Series(bad + good, dtype=dtype), "number": -1.5}))
    assert table["note"].tolist() == ["'" + text for text in bad] + good
    assert set(table["number"]) == {"-1.5"}
    assert table["latent_1"].tolist()[0] == "0.0"


def test_formulas_in_column_names_are_disarmed(codes_csv: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    assert codes_csv(pd.DataFrame({"=HYPERLINK()": [1, 2]})).columns[-1] == "'=HYPERLINK()"


def test_columns_with_our_names_are_kept_under_another(codes_csv: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    others = pd.DataFrame([["a", "b", "c", "d"]] * 2, columns=["split", "split (table)", "latent_1", "row"])
    table = codes_csv(others)
    assert list(table.columns[5:]) == ["split (table)", "split (table) (table)", "latent_1 (table)", "row (table)"]
    assert table.iloc[0, 5:].tolist() == ["a", "b", "c", "d"]


def test_table_without_other_columns_still_gets_its_codes(codes_csv: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    assert codes_csv(pd.DataFrame(index=range(4))).shape == (4, 5)
