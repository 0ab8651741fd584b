"""The codes of the COPUS protocol (their order, spellings and full names) and the published profiles.

    code_of("I.1o1")                                 # "ONE_O_ONE"
    named = full_names(dataset.columns)              # "Lecturing (Lec)"; the names of any other table are kept
    labels = in_words(dataset.others["Cluster"], dataset.columns)   # "Profile 3, interactive lecture"

Sources: Smith et al. 2013, doi:10.1187/cbe.13-08-0154, for the codes; Stains et al. 2018, doi:10.1126/science.aap8892,
for the published table and its seven profiles in three styles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# The 24 features, in the order of the published table. T_O is also a code and a column there, but not a feature.
STUDENT_CODES = ("L", "Ind", "CG", "WG", "OG", "S_Anq", "SQ", "WC", "PRD", "SP", "TQ", "S_W", "S_O")
INSTRUCTOR_CODES = ("Lec", "RTW", "FUP", "T_PQ", "CQ", "T_ANQ", "MG", "ONE_O_ONE", "DV", "ADMIN", "T_W")
COPUS_CODES = STUDENT_CODES + INSTRUCTOR_CODES
N_ROWS = 2008  # number of observed classes in the published table
PUBLISHED_NAME = "stains.csv"  # name of the file that `dataset.py --download` writes
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
CIRCULAR = (
    "The published profiles were found in these very codes: agreement with them shows what is kept of the codes, and "
    "nothing beyond them."
)


def is_copus(columns: Sequence[str]) -> bool:
    """Returns whether all 24 codes are among the columns; if not, a column named `L` may mean anything."""
    return NAMES.keys() <= set(columns)


def are_profiles(labels: Iterable[str]) -> bool:
    """Returns whether these labels are the published profiles, which were made from the codes themselves."""
    return set(labels) <= set(PROFILES)


def full_names(columns: Sequence[str]) -> list[str]:
    """Returns the name of each column in pictures."""
    known = NAMES if is_copus(columns) else {}
    return [f"{known[name]} ({name})" if name in known else name for name in columns]


def in_words(labels: pd.Series[Any], columns: Sequence[str]) -> pd.Series[Any]:
    """Returns the published profiles 1 to 7 as ordered categories in words, [N]; any other labels unchanged."""
    import pandas as pd

    numbers = range(1, len(PROFILES) + 1)
    if labels.name != PROFILE_COLUMN or not is_copus(columns) or not labels.dropna().isin(numbers).all():
        return labels
    words = labels.map(dict(zip(numbers, PROFILES, strict=True)))
    return words.astype(pd.CategoricalDtype(list(PROFILES), ordered=True))


# --- Spellings of the codes


def words_of(name: str) -> list[str]:
    """Returns the words of a column name in lower case, without punctuation."""
    return re.findall(r"[^\W_]+", name.casefold())


def flat(name: str) -> str:
    """Returns the letters and digits of a column name, in lower case."""
    return "".join(words_of(name))


def _known_spellings() -> tuple[dict[str, str], dict[str, str]]:
    """Maps the spellings, as `flat` returns them, to student codes and to instructor codes (T_O among them)."""
    student = {flat(code): code for code in STUDENT_CODES}
    student |= {flat(code[2:]): code for code in STUDENT_CODES if code.startswith("S_")}
    instructor = {flat(code): code for code in (*INSTRUCTOR_CODES, "T_O")}
    for code in [code for code in instructor.values() if code.startswith("T_")]:
        instructor |= {flat(code[2:]): code, flat("i" + code[2:]): code}
    instructor |= {"1o1": "ONE_O_ONE", "1on1": "ONE_O_ONE", "ooo": "ONE_O_ONE", "adm": "ADMIN"}
    return student, instructor


_STUDENT, _INSTRUCTOR = _known_spellings()
_PREFIXES = (
    *((prefix, _STUDENT) for prefix in ("students", "student", "s")),
    *((prefix, _INSTRUCTOR) for prefix in ("instructors", "instructor", "teachers", "teacher", "i", "t")),
)


def code_of(name: str) -> str | None:
    """Returns the COPUS code that a column name stands for, or None.

    Case and punctuation are ignored: '1o1', 'D/V', 'RtW', 'Adm'. A prefix may name students or instructor: 'S',
    'Student', 'I', 'T', 'Instructor' and the like ('S.AnQ', 'Instructor W'); a single letter counts only as a separate
    word. AnQ, W and O exist for both. Without a prefix they are the students': the instructor's are commonly written
    TAnQ, TW, TO.
    """
    spelling = flat(name)
    if code := _STUDENT.get(spelling) or _INSTRUCTOR.get(spelling):
        return code
    for prefix, codes in _PREFIXES:
        own_word = len(prefix) > 1 or words_of(name)[:1] == [prefix]
        if own_word and spelling.startswith(prefix) and (code := codes.get(spelling.removeprefix(prefix))):
            return code
    return None
