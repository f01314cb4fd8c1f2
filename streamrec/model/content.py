"""What an item is made of, category and title words, as buckets of a hashed table."""

from __future__ import annotations

import re
from zlib import crc32

import numpy as np

BUCKETS = 16_384
"""Categories and words share so many rows; row 0 stands for nothing."""

MAX_PARTS = 8
"""Category and the first words of a title."""

_WORD = re.compile(r"\w{2,}")


def category_code(category: str) -> int:
    """Return a number for a category, 0 for none: the same in every process."""
    return crc32(category.encode()) & 0x7FFF_FFFF | 1 if category else 0


def content_buckets(category: int, title: str) -> np.ndarray:
    """Return the distinct buckets of an item, filled up with 0, `(MAX_PARTS,)`.

    Parameters
    ----------
    category
        From :func:`category_code`.
    title
        Of which the first words count.

    Examples
    --------
    >>> int((content_buckets(category_code("shoes"), "Red shoes") > 0).sum())
    3
    """
    parts = [f"category {category}"] if category else []
    parts += [f"word {word}" for word in _WORD.findall(title.lower())]
    buckets = list(dict.fromkeys(crc32(part.encode()) % (BUCKETS - 1) + 1 for part in parts))[:MAX_PARTS]
    return np.array(buckets + [0] * (MAX_PARTS - len(buckets)), np.int64)
