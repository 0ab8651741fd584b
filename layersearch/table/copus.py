"""What the COPUS codes and the published profiles are called in full, for pictures and reports.

    named = full_names(dataset.columns)              # "Lecturing (Lec)"; names of any other table stay as they are
    labels = in_words(dataset.others["Cluster"], dataset.columns)   # "Profile 3, interactive lecture"

Codes: Smith et al. 2013, doi:10.1187/cbe.13-08-0154. The seven profiles, and the three styles that they fall into:
Stains et al. 2018, doi:10.1126/science.aap8892.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED_NAME = "stains.csv"  # of the file that `dataset.py --download` writes
N_ROWS = 2008  # of the published table
PROFILE_COLUMN = "Cluster"  # the published profiles, 1 to 7
NAMES = {
    "L": "Listening, taking notes",
    "Ind": "Individual thinking",
    "CG": "Clicker question in groups",
    "WG": "Worksheet in groups",
    "OG": "Other group activity",
    "S_Anq": "Student answers a question",
    "SQ": "Student asks a question",
    "WC": "Whole-class discussion",
    "PRD": "Predicting an outcome",
    "SP": "Student presentation",
    "TQ": "Test or quiz",
    "S_W": "Students wait",
    "S_O": "Students: other",
    "Lec": "Lecturing",
    "RTW": "Real-time writing",
    "FUP": "Follow-up, feedback",
    "T_PQ": "Instructor poses a question",
    "CQ": "Instructor asks with clickers",
    "T_ANQ": "Instructor answers questions",
    "MG": "Moving through the class",
    "ONE_O_ONE": "One-on-one discussion",
    "DV": "Demonstration or video",
    "ADMIN": "Administration",
    "T_W": "Instructor waits",
}
STYLES = ("didactic", "didactic", "interactive lecture", "interactive lecture", *["student-centred"] * 3)
PROFILES = tuple(f"Profile {number}, {style}" for number, style in enumerate(STYLES, start=1))


def is_copus(columns: Sequence[str]) -> bool:
    """Whether all 24 codes are there: a column `L` of any other table may be anything."""
    return NAMES.keys() <= set(columns)


def full_names(columns: Sequence[str]) -> list[str]:
    """For each column what a picture calls it."""
    known = NAMES if is_copus(columns) else {}
    return [f"{known[name]} ({name})" if name in known else name for name in columns]


def in_words(labels: pd.Series[Any], columns: Sequence[str]) -> pd.Series[Any]:
    """The published profiles 1 to 7 as words, in their order; any other labels as they are. [N] -> [N]."""
    import pandas as pd

    numbers = range(1, len(PROFILES) + 1)
    if labels.name != PROFILE_COLUMN or not is_copus(columns) or not labels.dropna().isin(numbers).all():
        return labels
    words = labels.map(dict(zip(numbers, PROFILES, strict=True)))
    return words.astype(pd.CategoricalDtype(list(PROFILES), ordered=True))
