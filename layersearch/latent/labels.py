"""Turns labels into categories, one for each different text, in the order that a reader expects.

    number, names = number_labels(labels)  # each row's index in `names`, -1 for a missing label
    category, names = categories(labels)   # at most 8 categories, and one for missing labels; for pictures

Used by `agreement.py` and the pictures of the latent space.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

CATEGORIES = 8  # largest number that can be told apart in a picture
UNLABELLED, OTHER = "no label", "other"


def number_labels(labels: pd.Series[Any]) -> tuple[np.ndarray, list[str]]:
    """Returns the index of each row's label in the names of the labels, [N], -1 if it is missing; and these names.

    Ordered categories and numbers keep their order; other texts are sorted by frequency, the commonest first. The
    values 1, 1.0, "1" and " 1" are the same label.
    """
    found, values = labels.factorize()  # [N], -1 where missing
    texts, same_text = np.unique(np.array([_text(value) for value in values], dtype=str), return_inverse=True)
    found = np.where(found < 0, -1, same_text[found]) if len(texts) else found
    order = np.argsort(-np.bincount(found[found >= 0], minlength=len(texts)), kind="stable")
    if getattr(labels.dtype, "ordered", False):
        places = {_text(value): place for place, value in enumerate(labels.cat.categories)}
        order = np.argsort([places[text] for text in texts])
    elif all(map(_is_number, texts)):
        order = np.argsort([float(text) for text in texts], kind="stable")
    rank = np.empty(len(texts), dtype=int)
    rank[order] = np.arange(len(texts))
    return np.where(found < 0, -1, rank[found]) if len(texts) else found, [str(texts[k]) for k in order]


def categories(labels: pd.Series[Any]) -> tuple[np.ndarray, list[str]]:
    """Returns the category of each row, [N], and the names of the categories.

    Like `number_labels`, but if there are more than 8 labels, the rarest form one category; missing labels form
    another, which comes last.
    """
    found, names = number_labels(labels)
    if len(names) > CATEGORIES:
        counts = np.bincount(found[found >= 0], minlength=len(names))
        kept = np.sort(np.argsort(-counts, kind="stable")[: CATEGORIES - 1])
        rank = np.full(len(names), len(kept))
        rank[kept] = np.arange(len(kept))
        found = np.where(found < 0, -1, rank[found])
        names = [*(names[k] for k in kept), OTHER]
    if (found < 0).any():
        return np.where(found < 0, len(names), found), [*names, UNLABELLED]
    return found, names


def _text(label: Any) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label).strip()


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
