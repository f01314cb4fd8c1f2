"""Recall's exact top-K search over item vectors, compared with a naive product and sort."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from msgspec import Struct

from streamrec.bench.peer_environment import run_peer
from streamrec.model.retrievers.item_vectors import ItemVectors
from streamrec.model.retrievers.nearest import kernel_for, nearest
from streamrec.model.retrievers.products import Kernel
from streamrec.model.threads import limit_threads

K = 100
DIM = 64


class TopKTime(Struct, kw_only=True):
    """Durations of a search, medians over all repeats."""

    items: int
    users: int
    """Users per search."""
    kernel: str
    """What multiplied."""
    p50_ms: float
    p99_ms: float
    naive_p50_ms: float
    """`torch.topk` over the scores of all items."""
    same_items: bool
    """Whether both found the same items in every search."""
    faiss_p50_ms: float
    """Exact, over a flat index, of vectors and queries from the same distribution."""
    usearch_p50_ms: float
    """Approximate, over a graph (HNSW) with its default settings."""
    usearch_recall: float


def measure(
    sizes: Sequence[int], users: Sequence[int], python: Path, *, kernels: Sequence[Kernel], repeats: int, seed: int
) -> Iterator[TopKTime]:
    """Yield the durations for all combinations of items, users and kernels, on one thread.

    Recall's and the naive search alternate; faiss and usearch run before, in a separate process started by `python`.
    By default the kernel that a worker would choose here is used.
    """
    rng = np.random.default_rng(seed)
    limit_threads()
    torch.set_num_threads(1)
    for size in sizes:
        # capacity in whole blocks, like the tables of a version
        items = ItemVectors.of(_unit(rng.standard_normal((size, DIM), np.float32))).grown(size + 1)
        vectors = items.take(np.arange(size))
        peers = run_peer(python, "nearest.py", size, DIM, repeats, seed, *users)
        for together, kernel in [(count, each) for count in users for each in kernels or [kernel_for(size, count)]]:
            search = partial(_exact, items, kernel)
            search(size, vectors[:together])  # compiled or loaded before timing
            queries = [_unit(rng.standard_normal((together, DIM), np.float32)) for _ in range(repeats)]
            pairs = [(_timed(search, size, query), _timed(partial(_naive, vectors), size, query)) for query in queries]
            found_ms, naive_ms = ([pair[way][1] for pair in pairs] for way in (0, 1))
            yield TopKTime(
                items=size,
                users=together,
                kernel=kernel.name,
                p50_ms=round(median(found_ms), 3),
                p99_ms=round(float(np.percentile(found_ms, 99)), 3),
                naive_p50_ms=round(median(naive_ms), 3),
                same_items=all(np.array_equal(np.sort(one), np.sort(other)) for (one, _), (other, _) in pairs),
                **peers[str(together)],
            )


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _exact(items: ItemVectors, kernel: Kernel, size: int, queries: np.ndarray) -> np.ndarray:
    return nearest(items, size, queries, K, kernel=kernel)


def _naive(vectors: np.ndarray, size: int, queries: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        scores = torch.from_numpy(queries) @ torch.from_numpy(vectors[:size]).T
        rows: np.ndarray = scores.topk(K).indices.numpy()
    return rows


def _timed(search: Callable[[int, np.ndarray], np.ndarray], size: int, queries: np.ndarray) -> tuple[np.ndarray, float]:
    started_s = time.perf_counter()
    found = search(size, queries)
    return found, (time.perf_counter() - started_s) * 1_000
