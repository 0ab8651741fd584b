"""What all tests share: fixed seeds, and the real table where it is at hand."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

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
