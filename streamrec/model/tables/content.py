"""Item content, category and title words, as buckets of a hashed table."""

from __future__ import annotations

import re
from zlib import crc32

import numpy as np

BUCKETS = 16_384
"""Number of rows shared by categories and words; row 0 is padding."""

MAX_PARTS = 8
"""Maximum number of parts: the category and the first words of the title."""

_WORD = re.compile(r"\w{2,}")


def category_code(category: str) -> int:
    """Return a code for a category, 0 for none; deterministic across processes."""
    return crc32(category.encode()) & 0x7FFF_FFFF | 1 if category else 0


def content_buckets(category: int, title: str) -> np.ndarray:
    """Return the distinct buckets of an item, padded with 0, `(MAX_PARTS,)`.

    Parameters
    ----------
    category
        From :func:`category_code`.
    title
        Title, of which only the first words are used.

    Examples
    --------
    >>> int((content_buckets(category_code("shoes"), "Red shoes") > 0).sum())
    3
    """
    parts = [f"category {category}"] if category else []
    parts += [f"word {word}" for word in _WORD.findall(title.lower())]
    buckets = list(dict.fromkeys(crc32(part.encode()) % (BUCKETS - 1) + 1 for part in parts))[:MAX_PARTS]
    return np.array(buckets + [0] * (MAX_PARTS - len(buckets)), np.int64)
