"""What all tests share: fixed seeds, and the real table where it is at hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import ROWS, SMALL, Run, run
from resumption import SEARCHES
from strategy_runs import arguments_for

from layersearch.files import SAMPLE_PATH

torch.set_num_threads(1)  # matrices of this size only get slower with more

ROOT = Path(__file__).resolve().parent.parent
REAL_TABLE = ROOT.parent / "shared" / "data" / "stains2018.csv"


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Every test starts from the same global random states."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global generator is what is being fixed
    torch.manual_seed(0)


@pytest.fixture
def real_table() -> Path:
    """The table of Stains et al. 2018; its rows may not enter the repository."""
    if not REAL_TABLE.exists():
        pytest.skip("the real table is not at hand (../shared/data/stains2018.csv)")
    return REAL_TABLE


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own table: the bundled sample's rows with the fewest zeros, so that no column is constant.

    No ID is shared. There are 15 schools of 4 rows, one country, and two terms.
    """
    path = tmp_path_factory.mktemp("table") / "mine.csv"
    sample = pd.read_csv(SAMPLE_PATH)
    fullest = (sample != 0).sum(axis=1).nlargest(ROWS).index
    row = np.arange(ROWS)
    mine = sample.loc[fullest].drop(columns="Course ID").assign(School=row // 4, Country="here", Term=row % 2)
    mine["Instructor ID"] = row + 1
    mine.to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def finished(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search with pictures and a saved model."""
    folder = tmp_path_factory.mktemp("finished") / "new" / "out put é"
    return run(folder, "--data_path", table, "--save_models", *SMALL, pictures=True)


@pytest.fixture(scope="session")
def wholes(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """The searches of `resumption.py`, never interrupted."""
    folder = tmp_path_factory.mktemp("wholes")
    done = {title: run(folder / title, "--data_path", table, *flags) for title, flags in SEARCHES.items()}
    assert all(run.status == 0 for run in done.values())
    return done


@pytest.fixture(scope="session")
def by_strategy(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The searches of `strategy_runs.py`, each run when a test first asks for it."""
    folder = tmp_path_factory.mktemp("strategies")

    @cache
    def searched(title: str) -> Run:
        done = run(folder / title, "--data_path", table, *arguments_for(title))
        assert (done.status, done.err) == (0, "")
        return done

    return searched
