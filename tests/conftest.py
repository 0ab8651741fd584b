"""What all tests share: fixed seeds, the real table where it is at hand, and finished runs to look at.

`finished`, `wholes` and `by_strategy` are runs of the command that many tests look at. Each is made once in a test
session, whichever of pytest-xdist's workers needs it first; see `shared_runs.py`. Their folders are for reading: a
test that runs the command in one copies it first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import ROWS, SMALL, Run, run
from resumption import SEARCHES
from shared_runs import SharedRuns, open_shared_runs
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
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedRuns]:
    """The runs that all workers of this test session share."""
    runs = open_shared_runs(tmp_path_factory)
    yield runs
    runs.assert_untouched()


@pytest.fixture(scope="session")
def table(shared_runs: SharedRuns) -> Path:
    """A user's own table: the bundled sample's rows with the fewest zeros, so that no column is constant.

    No ID is shared. There are 15 schools of 4 rows, one country, and two terms.
    """

    def write(folder: Path) -> Path:
        folder.mkdir()
        sample = pd.read_csv(SAMPLE_PATH)
        fullest = (sample != 0).sum(axis=1).nlargest(ROWS).index
        row = np.arange(ROWS)
        mine = sample.loc[fullest].drop(columns="Course ID").assign(School=row // 4, Country="here", Term=row % 2)
        mine["Instructor ID"] = row + 1
        mine.to_csv(folder / "mine.csv", index=False)
        return folder / "mine.csv"

    return shared_runs.make_once("table", write)


@pytest.fixture(scope="session")
def finished(table: Path, shared_runs: SharedRuns) -> Run:
    """A finished search with pictures and a saved model."""
    arguments = ["--data_path", table, "--save_models", *SMALL]
    return shared_runs.make_once("finished é", lambda folder: run(folder / "out put", *arguments, pictures=True))


@pytest.fixture(scope="session")
def wholes(table: Path, shared_runs: SharedRuns) -> Mapping[str, Run]:
    """The searches of `resumption.py`, never interrupted, by their titles."""

    def search(title: str) -> Run:
        return shared_runs.make_once(
            f"whole {title}", lambda folder: run(folder, "--data_path", table, *SEARCHES[title])
        )

    done = {title: search(title) for title in SEARCHES}
    assert all(run.status == 0 for run in done.values())
    return done


@pytest.fixture(scope="session")
def by_strategy(table: Path, shared_runs: SharedRuns) -> Callable[[str], Run]:
    """The searches of `strategy_runs.py` by their titles."""

    def searched(title: str) -> Run:
        arguments = ["--data_path", table, *arguments_for(title)]
        done = shared_runs.make_once(f"strategy {title}", lambda folder: run(folder, *arguments))
        assert (done.status, done.err) == (0, "")
        return done

    return searched
