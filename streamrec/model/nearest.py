"""Exact nearest items: every item is scored, and only the best blocks of scores are searched."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from streamrec.model.vocabulary import BLOCK_ROWS


def score_all(vectors: np.ndarray, size: int, queries: np.ndarray) -> Tensor:
    """Return the inner product of each query with each of the first rows, and with padding up to whole blocks.

    Parameters
    ----------
    vectors
        `(capacity, D)`, float32.
    size
        How many of its rows count.
    queries
        `(B, D)`, float32.

    Returns
    -------
    Tensor
        `(B, N)`, N the next multiple of `BLOCK_ROWS`; what belongs to rows at or beyond `size` means nothing.
    """
    padded = -(-size // BLOCK_ROWS) * BLOCK_ROWS
    table = torch.from_numpy(vectors[:padded])
    if len(table) < padded:
        table = torch.nn.functional.pad(table, (0, 0, 0, padded - len(table)))
    with torch.inference_mode():
        if len(queries) == 1:  # reads the table at the speed of memory
            return torch.mv(table, torch.from_numpy(queries[0]))[None]
        return torch.from_numpy(queries) @ table.T


def best_rows(scores: Tensor, n: int) -> np.ndarray:
    """Return the rows of the n highest scores of each query, in no order, `(B, n)`.

    The n best lie in the n blocks with the highest maxima, so that only those are searched.
    """
    users, items = scores.shape
    blocked = scores.view(users, items // BLOCK_ROWS, BLOCK_ROWS)
    with torch.inference_mode():
        blocks = blocked.amax(2).topk(min(n, blocked.shape[1]), sorted=False).indices
        pool = blocked.gather(1, blocks[:, :, None].expand(-1, -1, BLOCK_ROWS)).flatten(1)
        place = pool.topk(min(n, pool.shape[1]), sorted=False).indices
        rows: np.ndarray = (blocks.gather(1, place // BLOCK_ROWS) * BLOCK_ROWS + place % BLOCK_ROWS).numpy()
    return rows
