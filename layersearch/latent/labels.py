"""Labels as categories, one for each text, in the order that a reader expects.

    number, names = number_labels(labels)  # each row's index in `names`, -1 for a missing label
    category, names = categories(labels)   # at most 8 categories, and one of the missing labels; for pictures

Used by `agreement.py` and the pictures of the latent space.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

CATEGORIES = 8  # that a picture can tell apart
UNLABELLED, OTHER = "no label", "other"


def number_labels(labels: pd.Series[Any]) -> tuple[np.ndarray, list[str]]:
    """Returns each row's index [N] in the names of the labels, -1 for a missing label, and these names.

    Ordered categories and numbers keep their order; other texts are sorted by frequency, the commonest first. The
    values 1, 1.0, "1" and " 1" are one label.
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
    """Returns each row's category [N] and the names of the categories.

    As `number_labels`, but of more than 8 labels the rarest form one category, and so do missing labels, which come
    last.
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
