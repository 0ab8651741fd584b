"""The bundled sample is what its script draws, and has the statistics of the published table."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from conftest import REAL_TABLE, ROOT

from dataset import COPUS_CODES, COPUSDataset

SAMPLE = ROOT / "data" / "sample.csv"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Returns data/make_sample.py as a module."""
    spec = importlib.util.spec_from_file_location("make_sample", ROOT / "data" / "make_sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    return pd.read_csv(SAMPLE)


def test_script_reproduces_the_sample_byte_for_byte(tmp_path: Path) -> None:
    again = tmp_path / "again.csv"
    subprocess.run([sys.executable, ROOT / "data" / "make_sample.py", "--output", again], check=True)
    assert again.read_bytes() == SAMPLE.read_bytes()


def test_sample_is_read_without_a_notice() -> None:
    dataset = COPUSDataset(SAMPLE)
    assert (dataset.n_samples, dataset.columns) == (2000, list(COPUS_CODES))
    assert dataset.label_column == "Cluster"
    assert dataset.notices == []


def test_sample_has_the_published_columns_in_order(sample: pd.DataFrame) -> None:
    about = ["Instructor ID", "Course ID", "Semester", "Year", "Broader", "Level", "Size", "Layout"]
    assert list(sample.columns) == [*about, *COPUS_CODES, "T_O", "Cluster", "Bcluster"]


def test_sample_has_the_real_header_and_none_of_the_real_rows(sample: pd.DataFrame, real_table: Path) -> None:
    real = pd.read_csv(real_table)
    assert list(sample.columns) == list(real.columns)
    codes = list(COPUS_CODES)
    shared = set(map(tuple, sample[codes].to_numpy())) & set(map(tuple, real[codes].to_numpy()))
    # A class of lecturing alone looks the same everywhere; an equal row with more codes would be a copy.
    assert all(sum(value > 0 for value in row) <= 4 for row in shared)


def test_scripts_table_is_that_of_the_statistics(script: ModuleType) -> None:
    source = REAL_TABLE.with_name("copus_profile_statistics.json")
    if not source.exists():
        pytest.skip("the statistics are not at hand (../shared/data/copus_profile_statistics.json)")
    profiles = json.loads(source.read_text(encoding="utf-8"))["clusters"]
    codes, figures = script.read_table()
    assert [profile["style"] for profile in profiles.values()] == list(script.STYLES)
    assert [profile["share"] for profile in profiles.values()] == list(script.PROFILE_SHARES)
    names = ("p_present", "mean_if_present", "sd_if_present")
    expected = [[[profile["codes"][code][name] for name in names] for code in codes] for profile in profiles.values()]
    np.testing.assert_allclose(figures * [1, 100, 100], expected, rtol=0, atol=1e-9)


def test_cells_are_k_of_n_intervals_to_one_decimal(sample: pd.DataFrame) -> None:
    values = sample[[*COPUS_CODES, "T_O"]].to_numpy()
    lengths = np.array([*range(22, 29), *range(34, 41)])
    possible = [set(np.round(100 * np.arange(n + 1) / n, 1)) for n in lengths]
    assert all(any(set(row) <= percentages for percentages in possible) for row in values)


def test_zeros_are_as_frequent_as_in_the_published_table(sample: pd.DataFrame) -> None:
    zeros = sample[list(COPUS_CODES)] == 0
    assert zeros.to_numpy().mean() == pytest.approx(0.55, abs=0.01)
    for code, share in {"PRD": 0.96, "TQ": 0.96, "SP": 0.95, "Lec": 0.02, "L": 0.008}.items():
        assert zeros[code].mean() == pytest.approx(share, abs=0.015)


def test_profiles_and_styles_have_the_published_shares(script: ModuleType, sample: pd.DataFrame) -> None:
    shares = sample["Cluster"].value_counts(normalize=True).sort_index()
    # Classes of one instructor are correlated, so shares vary more than in 2,000 independent draws (SD 0.011).
    np.testing.assert_allclose(shares, script.PROFILE_SHARES, atol=0.03)
    assert sample["Bcluster"].tolist() == [script.STYLES[cluster - 1] for cluster in sample["Cluster"]]


def test_rates_means_and_spreads_per_profile_follow_the_table(script: ModuleType, sample: pd.DataFrame) -> None:
    """In units of the standard error, the 175 deviations are bounded and have a standard deviation of about 1."""
    codes, figures = script.read_table()
    rates, means, spreads = [], [], []
    for profile, rows in sample.groupby("Cluster"):
        for (share, mean, sd), code in zip(figures[int(str(profile)) - 1], codes, strict=True):
            values = rows[code].to_numpy() / 100
            present = values[values > 0]
            if share in (0, 1):
                assert len(present) == share * len(values)
                continue
            rates.append((len(present) / len(values) - share) / np.sqrt(share * (1 - share) / len(values)))
            if len(present) >= 30:
                means.append((present.mean() - mean) / (sd / np.sqrt(len(present))))
                spreads.append(present.std() / sd)
    assert len(rates) > 150
    assert len(means) > 100
    assert np.abs(rates).max() < 4.5
    assert np.std(rates) < 1.3
    assert np.abs(means).max() < 4.5
    assert np.std(means) < 1.3
    assert np.mean(spreads) == pytest.approx(1, abs=0.05)


def test_instructors_repeat_as_in_the_published_table(sample: pd.DataFrame) -> None:
    classes = sample["Instructor ID"].value_counts()
    assert sample["Instructor ID"].isna().mean() == pytest.approx(0.14, abs=0.001)
    assert 480 <= len(classes) <= 620
    assert (classes <= 4).mean() == pytest.approx(0.81, abs=0.05)
    assert 15 <= classes.max() <= 33


def pair_agreement(groups: pd.Series, profiles: pd.Series) -> float:
    """Returns how often two classes of one group have the same profile."""
    pairs = same = 0
    for _, members in profiles.groupby(groups):
        counts = members.value_counts().to_numpy()
        pairs += len(members) * (len(members) - 1)
        same += int((counts * (counts - 1)).sum())
    return same / pairs


def test_classes_of_one_instructor_resemble_one_another(sample: pd.DataFrame) -> None:
    named = sample.dropna(subset="Instructor ID")
    strangers = named["Instructor ID"].sample(frac=1, random_state=0).set_axis(named.index)
    assert pair_agreement(strangers, named["Cluster"]) == pytest.approx(0.22, abs=0.05)
    assert pair_agreement(named["Instructor ID"], named["Cluster"]) > 0.4
