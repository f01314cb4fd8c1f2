"""Top-100 with faiss (exact, flat) and usearch (HNSW, approximate), with batched queries, on one thread.

Command line: number of items, dimensions, repeats, seed, numbers of users together. Prints one JSON object, with the
figures by number of users.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median

import faiss  # type: ignore[import-not-found]  # in an environment of its own
import numpy as np
from usearch.index import Index  # type: ignore[import-not-found]

K = 100


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return unit vectors."""
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


size, dim, repeats, seed, *users = map(int, sys.argv[1:])
rng = np.random.default_rng(seed)
vectors = unit(rng.standard_normal((size, dim), np.float32))
flat = faiss.IndexFlatIP(dim)
flat.add(vectors)
graph = Index(ndim=dim, metric="ip")
graph.add(np.arange(size), vectors)  # builds with all threads
faiss.omp_set_num_threads(1)


def measure(together: int) -> dict[str, float]:
    """Return the median durations of searches with this many users."""
    times_ms: dict[str, list[float]] = {"faiss": [], "usearch": []}
    hits = 0
    for query in [unit(rng.standard_normal((together, dim), np.float32)) for _ in range(repeats)]:
        started_s = time.perf_counter()
        _scores, exact = flat.search(query, K)
        times_ms["faiss"].append((time.perf_counter() - started_s) * 1_000)
        started_s = time.perf_counter()
        found = graph.search(query, K, threads=1).keys
        times_ms["usearch"].append((time.perf_counter() - started_s) * 1_000)
        hits += sum(len(np.intersect1d(*pair)) for pair in zip(exact, np.atleast_2d(found), strict=True))
    return {f"{name}_p50_ms": round(median(each), 3) for name, each in times_ms.items()} | {
        "usearch_recall": round(hits / (K * together * repeats), 4)
    }


print(json.dumps({together: measure(together) for together in users}))  # noqa: T201
