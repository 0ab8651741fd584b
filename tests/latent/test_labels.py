"""Labels become categories in the order that readers expect, and the published profiles become words."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dataset import COPUS_CODES
from layersearch.latent.labels import categories, number_labels
from layersearch.table.copus import NAMES, PROFILES, full_names, in_words


def test_categories_are_ordered_and_rare_ones_are_merged() -> None:
    def named(values: list[Any]) -> list[tuple[str, int]]:
        category, names = categories(pd.Series(values, dtype=object))
        return [(name, int((category == k).sum())) for k, name in enumerate(names)]

    assert named(["b", "a", "b", None]) == [("b", 2), ("a", 1), ("no label", 1)]
    assert named([10.0, 2.0, " 2", 1, 1]) == [("1", 2), ("2", 2), ("10", 1)]
    letters = [letter for k, letter in enumerate("abcdefghi") for _ in range(9 - k)]
    assert named(letters) == [*((letter, 9 - k) for k, letter in enumerate("abcdefg")), ("other", 3)]
    assert len(named(list("abcdefgh"))) == 8


def test_all_labels_are_numbered_however_many() -> None:
    place, names = number_labels(pd.Series([*range(30), None, "2"], dtype=object))
    assert names == [str(k) for k in range(30)]
    assert place.tolist() == [*range(30), -1, 2]
    assert number_labels(pd.Series([None, None], dtype=object))[1] == []


def test_ordered_categories_keep_their_order() -> None:
    labels = pd.Series(pd.Categorical(["late ", "early", "late "], ["early", "late ", "never"], ordered=True))
    place, names = number_labels(labels)
    assert names == ["early", "late"]
    assert place.tolist() == [1, 0, 1]


def test_published_profiles_read_as_words_in_their_order() -> None:
    words = in_words(pd.Series([7.0, 1.0, None, 4.0], name="Cluster"), COPUS_CODES)
    place, names = number_labels(words)
    assert names == ["Profile 1, didactic", "Profile 4, interactive lecture", "Profile 7, student-centred"]
    assert place.tolist() == [2, 0, -1, 1]
    assert len(PROFILES) == 7


def test_other_labels_and_other_tables_stay_as_they_are() -> None:
    profiles = pd.Series([1, 2, 7], name="Cluster")
    for labels, columns in (
        (profiles.rename("cluster"), COPUS_CODES),
        (profiles + 1, COPUS_CODES),
        (profiles.astype(str) + "a", COPUS_CODES),
        (profiles, ("L", "Lec", "height")),
    ):
        assert in_words(labels, columns) is labels


def test_every_code_has_a_full_name_and_only_a_copus_table_gets_them() -> None:
    assert set(NAMES) == set(COPUS_CODES)
    assert full_names([*COPUS_CODES, "extra"])[-2:] == ["Instructor waits (T_W)", "extra"]
    assert full_names(["L", "Lec"]) == ["L", "Lec"]
