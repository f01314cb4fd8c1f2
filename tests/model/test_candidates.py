"""The compiled loops find and describe what the plain words of `plain_candidates.py` do."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

import llvmlite.binding
import msgspec
import numpy as np
import pytest
import torch
from interests import stream
from plain_candidates import find_one, follow

from streamrec.contracts.incoming import Item
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.forward import Encoder
from streamrec.model.network.sequence_model import SequenceModel
from streamrec.model.network.weights import weights_of
from streamrec.model.ranking.candidates import encode, find
from streamrec.model.ranking.context import make_context
from streamrec.model.retrievers import byte_products, products
from streamrec.model.retrievers.item_vectors import ItemVectors
from streamrec.model.retrievers.nearest import SCORES_TOGETHER, kernel_for, nearest
from streamrec.model.retrievers.products import KERNELS, LARGE_ROWS, MANY_QUERIES, Kernel, fastest, for_search


def in_contexts(interest):
    """Return an interest whose events have a context of one or two values, by item and user."""
    sequence = [
        event._replace(context=(1 + len(interest.user_id), 3 + len(event.item_id)) if event.offset % 3 else (9,))
        for event in interest.sequence
    ]
    return msgspec.structs.replace(interest, sequence=sequence)


@pytest.fixture
def taught(new_trainer):
    """Return a trainer, and interests that it has learned."""
    trainer = new_trainer()
    interests = [in_contexts(interest) for interest in stream(1_200)]
    for item_id in {event.item_id for interest in interests for event in interest.sequence}:
        trainer.put_item(Item(item_id=item_id, title=f"item {item_id.replace('-', ' ')}"))
    for start in range(0, len(interests), 60):
        trainer.train(interests[start : start + 60], behind=0)
        trainer.take_update()
    return trainer, interests


@pytest.mark.parametrize("hide_seen", [True, False])
@pytest.mark.parametrize("everything", [True, False])
def test_candidates_and_features_are_those_of_the_plain_reference(taught, hide_seen, everything):
    trainer, interests = taught
    model = trainer.serving
    kinds = itertools.cycle([0, 0, 3, 0, 4, 1, 0, 9, -10, 2, -9])
    contexts = [
        make_context(
            model,
            [event._replace(event_type=next(kinds)) for event in interest.sequence],
            hide_seen=hide_seen,
            hidden=[model.ids[4], model.ids[7]] if number % 2 else (),
        )
        for number, interest in enumerate(interests[-40:])
    ]
    contexts += [make_context(model, [])]
    contexts[0].rows[:] = 0
    contexts[2].times_ms[:-3] -= 3_600_000  # a session before this one
    contexts[3].now_ms += 3_600_000  # a session that is over
    hidden = encode(model, contexts)
    options = {"k": model.size if everything else 7}
    withdrawn, risen = np.array([3, 5]), np.array([9, model.size - 1])
    found = find(model, contexts, hidden, **options, withdrawn=withdrawn, risen=risen)
    assert hidden[1].any()
    assert not hidden[0].any()
    assert hide_seen or found.features.any(axis=0).all()
    (of_neighbours,) = (number for number, each in enumerate(model.retrievers) if each.name == "neighbour")
    every = np.arange(len(found.features))
    all_leads = model.retrievers[of_neighbours].leads(found.retrievals[of_neighbours], every)
    for user, context in enumerate(contexts):
        rows, leads, features = find_one(
            model, context, hidden[user], **options, withdrawn=withdrawn.tolist(), risen=risen.tolist()
        )
        own = slice(found.candidates.starts[user], found.candidates.starts[user + 1])
        assert found.candidates.rows[own].tolist() == rows
        assert all_leads[own].tolist() == leads
        np.testing.assert_allclose(found.features[own], features, atol=2e-5)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_encoder_says_what_the_network_says(taught, blocks):
    trainer, interests = taught
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SequenceModel(ModelConfig(dim=trainer.config.dim, max_length=12, blocks=blocks)).eval()
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    model = trainer.serving
    model.encoder = Encoder(network.config, weights_of(network))
    contexts = [make_context(model, interest.sequence[-index:]) for index, interest in enumerate(interests[-20:], 1)]
    for context, vector in zip(contexts, encode(model, contexts), strict=True):
        np.testing.assert_allclose(vector, follow(network, model, context), atol=1e-5)


@pytest.fixture(params=KERNELS, ids=lambda kernel: kernel.name)
def kernel(request):
    """Return every kernel in turn: which one a processor is given depends on the processor."""
    return request.param


@pytest.mark.parametrize("dim", [32, 64, 200, 1_500])
@pytest.mark.parametrize(("size", "n"), [(6_400, 100), (5_000, 1), (100, 90), (70, 128)])
def test_the_search_is_exact_although_it_scores_roughly(size, n, dim, kernel):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((size + 30, dim)).astype(np.float32)
    vectors[: size // 2] = vectors[0] + 0.05 * vectors[: size // 2]  # closer to each other than a rough score can tell
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = np.concatenate([vectors[:3], -vectors[:1]])
    items = ItemVectors.of(vectors)
    vectors = items.take(np.arange(len(vectors)))
    found = nearest(items, size, queries, n, kernel=kernel)
    wanted = np.sort(-(queries @ vectors[:size].T), axis=1)[:, :n]
    assert all(len(set(rows)) == min(n, size) for rows in found.tolist())
    scores = np.take_along_axis(queries @ vectors[:size].T, found, axis=1)
    np.testing.assert_allclose(np.sort(-scores, axis=1), wanted, atol=1e-6)


def test_the_search_is_exact_where_every_rough_number_is_as_large_as_can_be(kernel):
    """Processors without instructions for products of bytes add two of them in 16 bits."""
    rng = np.random.default_rng(1)
    vectors = (rng.choice([-1.0, 1.0], (5_000, 64)) / 8.0).astype(np.float32)
    vectors[::7] = vectors[0]
    queries = np.concatenate([vectors[:3], -vectors[:1]])
    items = ItemVectors.of(vectors)
    found = nearest(items, 5_000, queries, 800, kernel=kernel)
    scores = queries @ items.take(np.arange(5_000)).T
    np.testing.assert_allclose(
        np.sort(np.take_along_axis(scores, found, axis=1), axis=1), np.sort(scores, axis=1)[:, -800:], atol=1e-6
    )


def test_searches_of_many_users_share_little_memory(monkeypatch):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((4_000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = ItemVectors.of(vectors)
    together = nearest(items, 4_000, vectors[:50], 10)
    monkeypatch.setattr("streamrec.model.retrievers.nearest.SCORES_TOGETHER", 12_001)
    assert np.array_equal(np.sort(nearest(items, 4_000, vectors[:50], 10)), np.sort(together))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_search_for_what_is_no_number_or_among_such_finds_rows_that_are_there(kernel):
    vectors = np.random.default_rng(1).standard_normal((6_000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = np.concatenate([vectors[:1], np.full((1, 32), np.nan, np.float32)])
    items = ItemVectors.of(vectors)
    found = nearest(items, 6_000, queries, 100, kernel=kernel)
    assert set(found[0]) == set(np.argsort(-(items.take(np.arange(6_000)) @ vectors[0]))[:100])
    assert len(set(found[1].tolist())) == 100

    vectors[7] = np.nan
    found = nearest(ItemVectors.of(vectors), 6_000, queries, 100, kernel=kernel)
    assert found.min() >= 0
    assert found.max() < 6_000


def test_all_kernels_give_the_same_products(kernel):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((907, 70)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = ItemVectors.of(vectors[:900])
    for users, n in itertools.product((1, 4, 7), (900, 893, 5)):
        products, margins = kernel.products(vectors[900 : 900 + users], items.head(n))
        wrong = abs(products - vectors[900 : 900 + users] @ items.take(np.arange(n)).T)
        assert (wrong.max(axis=1) <= margins / 2).all()


def test_products_with_blocks_that_are_not_there_are_refused():
    items = ItemVectors.empty(64, 900)
    with pytest.raises(ValueError, match="fewer than 1000"):
        byte_products.products(
            np.zeros((1, 64), np.int8), np.ones(1, np.float32), items._replace(steps=np.zeros(1_000, np.float32))
        )


OTHER_CPUS = {
    "avx512vnni": "+avx2,+avx512f,+avx512bw,+avx512vl,+avx512vnni",
    "avxvnni": "+avx2,+avxvnni",
    "avx2": "+avx2",
    "": "+sse2",
}
"""Features of CPUs by the instructions for products of bytes that they have."""

PRODUCTS = """
import sys
import numpy as np
from streamrec.model.retrievers import byte_products
from streamrec.model.retrievers.item_vectors import ItemVectors
from streamrec.model.retrievers.products import KERNELS

assert byte_products.INSTRUCTIONS == sys.argv[1]
assert [kernel.name for kernel in KERNELS] == (["int8", "float32"] if sys.argv[1] else ["float32"])
rng = np.random.default_rng(0)
for size, dim, users in ((1, 3, 1), (16, 64, 4), (150, 64, 1), (167, 70, 7)) if sys.argv[1] else ():
    rows, queries = rng.integers(-63, 64, (size, dim), np.int8), rng.integers(-127, 128, (users, dim), np.int8)
    rows[0], queries[0] = 63, 127
    wanted = queries.astype(np.int32) @ rows.astype(np.int32).T
    items = ItemVectors.empty(dim, size).put(np.arange(size), rows, np.ones(size, np.float32))
    assert np.array_equal(byte_products.products(queries, np.ones(users, np.float32), items), wanted)
"""


@pytest.mark.parametrize("instructions", OTHER_CPUS)
def test_products_of_bytes_are_exact_on_other_cpus(instructions, tmp_path):
    has = llvmlite.binding.get_host_cpu_features()
    if not all(has.get(feature.strip("+")) for feature in OTHER_CPUS[instructions].split(",")):
        pytest.skip(f"this CPU has no {instructions}")
    cpu = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": OTHER_CPUS[instructions]}
    environment = {**os.environ, **cpu, "NUMBA_CACHE_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", PRODUCTS, instructions], env=environment, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()


def test_the_kernel_is_measured_once_for_each_kind_of_search():
    small, large = LARGE_ROWS - 1, LARGE_ROWS
    assert for_search(small, 1) is for_search(1, MANY_QUERIES - 1) is fastest(many=False, large=False)
    assert for_search(small, MANY_QUERIES) is for_search(1, 500) is fastest(many=True, large=False)
    assert for_search(large, 1) is fastest(many=False, large=True)
    assert for_search(large, MANY_QUERIES) is fastest(many=True, large=True)
    assert kernel_for(1_000 * SCORES_TOGETHER, 500) is fastest(many=True, large=True), "they share reading the table"


def test_a_kernel_that_is_slow_here_is_not_chosen(monkeypatch):
    def slow(queries, items):
        time.sleep(0.02)
        return products_of_none(queries, items)

    def products_of_none(queries, items):
        return np.zeros((len(queries), len(items.steps)), np.float32), np.zeros(len(queries))

    swift = Kernel("swift", products_of_none)
    monkeypatch.setattr(products, "KERNELS", (Kernel("slow", slow), swift))
    monkeypatch.setattr(products, "_trials", products._trials.__wrapped__)
    assert fastest.__wrapped__(many=False, large=False) is swift
    assert fastest.__wrapped__(many=False, large=True) is swift
