from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from themed_lessons import PER_THEME, ROWS, THEMES, best, followed, lessons, rows_of, users_of

from streamrec.model.retrievers import autoencoder
from streamrec.model.retrievers.autoencoder import KL_STEPS, KL_WEIGHT, MAX_STEPS, AutoencoderRetriever, kl_weight
from streamrec.model.tables.bag_autoencoder import BAG, DIM, LATENT_DIM, TARGETS, Batch, Network, gradients
from streamrec.model.tables.dense_adam import DenseAdam


def taught(number=40):
    teacher = AutoencoderRetriever.teacher(0)
    for lesson in lessons(number):
        teacher.learn(lesson)
    return teacher


def latent_of(retriever, own):
    latent = retriever.latent(users_of(own))
    return latent / np.linalg.norm(latent, axis=1, keepdims=True)


def divergence(teacher):
    """Return the mean divergence of users from the standard normal distribution, without its constant."""
    bags = np.stack([rows_of(theme)[:BAG] for theme in range(THEMES)])
    network = teacher.network
    return float(np.square(network.latent(teacher._units(bags), bags)).sum(axis=1).mean())


def test_items_of_a_theme_are_found_for_a_user_of_that_theme():
    retriever = followed(AutoencoderRetriever(), taught(), everything=True)
    for theme in range(THEMES):
        of_theme = rows_of(theme).tolist()
        assert np.isin(best(retriever, of_theme[:3], 10), of_theme).mean() >= 0.9


def test_the_latent_means_of_users_of_a_theme_are_alike():
    retriever = followed(AutoencoderRetriever(), taught(), everything=True)
    halves = [[rows_of(theme)[at : at + 5].tolist() for theme in range(THEMES)] for at in (0, PER_THEME // 2)]
    one, other = (latent_of(retriever, half) for half in halves)
    cosines = one @ other.T
    assert one.shape == (THEMES, LATENT_DIM)
    assert cosines.argmax(axis=1).tolist() == list(range(THEMES))


def test_the_latent_mean_of_a_user_without_items_is_zero():
    retriever = followed(AutoencoderRetriever(), taught(1))
    users = users_of([[], [ROWS + 5_000]])
    assert not retriever.latent(users).any()
    assert retriever.find(SimpleNamespace(size=ROWS), users).ends.tolist() == [0, 0]


def test_gradients_are_those_of_torch():
    draw = np.random.default_rng(3)
    vectors = draw.standard_normal((40, DIM)).astype(np.float32)
    noisy = [each + 0.05 * draw.standard_normal(each.shape).astype(np.float32) for each in Network.initial()]
    bags = draw.permuted(np.tile(np.arange(1, 20), (6, 1)), axis=1)[:, :BAG]
    bags[0, 2:] = 0
    targets = draw.integers(20, 30, (6, TARGETS))
    targets[1, 2] = 0
    negatives = draw.integers(18, 40, 12)
    batch = Batch(bags, targets, negatives, draw.standard_normal(12).astype(np.float32))

    found = gradients(Network(*noisy), vectors, batch, 0.3, np.random.default_rng(5))
    rows, network = by_torch(noisy, vectors, batch, 0.3, np.random.default_rng(5))

    summed = np.zeros_like(vectors)
    np.add.at(summed, found.rows, found.of_rows)
    assert summed[1:] == pytest.approx(rows[1:], abs=1e-4)
    for name, of_network, expected in zip(Network._fields, found.network, network, strict=True):
        assert of_network == pytest.approx(expected, abs=1e-4), name


def by_torch(network, vectors, batch, weight, rng):
    """Return the gradients of vectors and network, by automatic differentiation of the bound."""
    from streamrec.model.tables import bag_autoencoder as constants  # noqa: PLC0415  # its constants are private

    table = torch.tensor(vectors, dtype=torch.float64, requires_grad=True)
    weights = [torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in network]
    bias, to_mean, mean_bias, to_log_variance, log_variance_bias, to_items, items_bias = weights
    kept = rng.random(batch.bags.shape) >= constants._DROPPED
    kept[:, 0] |= ~(kept & (batch.bags > 0)).any(axis=1)
    bag_weights = torch.tensor(constants.weights_of(batch.bags) * kept)
    unit = torch.nn.functional.normalize
    summed = (bag_weights[:, :, None] * unit(table[batch.bags], dim=-1)).sum(1)
    hidden = torch.tanh(float(constants._GAIN) * unit(summed, dim=-1) + bias)
    mean, log_variance = hidden @ to_mean + mean_bias, hidden @ to_log_variance + log_variance_bias
    noise = torch.tensor(rng.standard_normal(mean.shape, np.float32))
    out = unit((mean + noise * (0.5 * log_variance).exp()) @ to_items + items_bias, dim=-1)
    temperature = float(constants._TEMPERATURE)
    of_negatives = temperature * out @ unit(table[batch.negatives], dim=-1).T - torch.tensor(batch.expected)
    is_own = (batch.negatives[None, None] == batch.targets[:, :, None]).any(axis=1)
    of_negatives = of_negatives.masked_fill(torch.tensor(is_own), -torch.inf)
    loss = 0.0
    for place in range(TARGETS):
        score = temperature * (out * unit(table[batch.targets[:, place]], dim=-1)).sum(1)
        cross_entropy = torch.logsumexp(torch.cat([score[:, None], of_negatives], dim=1), dim=1) - score
        share = 1.0 if place == 0 else constants._RECONSTRUCTION
        loss = loss + share * (cross_entropy * torch.tensor(batch.targets[:, place] > 0)).sum()
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
    ((loss + weight * kl) / len(batch.bags)).backward()
    return table.grad.numpy(), [each.grad.numpy() for each in weights]


def test_the_optimizer_is_adam():
    draw = np.random.default_rng(0)
    ours, theirs = np.ones((3, 2), np.float32), torch.nn.Parameter(torch.ones(3, 2))
    adam, reference = DenseAdam([ours], learning_rate=0.1), torch.optim.Adam([theirs], lr=0.1)
    for _ in range(5):
        gradient = draw.standard_normal((3, 2)).astype(np.float32)
        adam.step([gradient])
        theirs.grad = torch.from_numpy(gradient)
        reference.step()
    assert ours == pytest.approx(theirs.detach().numpy(), abs=1e-5)


def test_the_weight_of_the_divergence_rises_from_zero_to_its_value():
    weights = [kl_weight(steps) for steps in range(0, 2 * KL_STEPS, KL_STEPS // 10)]
    assert weights[0] == 0.0
    assert np.diff(weights[:11]) == pytest.approx(KL_WEIGHT / 10)
    assert set(weights[10:]) == {KL_WEIGHT}


def test_latent_distributions_keep_closer_to_the_normal_one_with_a_higher_weight(monkeypatch):
    free = divergence(taught(20))
    monkeypatch.setattr(autoencoder, "kl_weight", lambda _steps: 1.0)
    assert divergence(taught(20)) < 0.5 * free


def test_a_micro_batch_takes_a_bounded_number_of_steps():
    teacher = AutoencoderRetriever.teacher(0)
    (large,) = lessons(1, users=500)
    teacher.learn(large)
    assert teacher._adam.steps == MAX_STEPS


def test_memory_is_a_vector_and_one_number_per_row_and_what_readers_know():
    teacher = taught(2)
    followed(AutoencoderRetriever(), teacher)
    state = teacher.state()
    rows = sum(value.nbytes for name, value in state.items() if name.startswith(("rows.", "publication.sent")))
    assert rows == 1024 * (4 * DIM + 4 + 2 * DIM)
    for lesson in lessons(60):
        teacher.learn(lesson)
    assert len(teacher.state()["recent"]) == autoencoder.RECENT_EVENTS


def test_a_row_that_is_given_away_leaves_nothing_behind():
    teacher = taught(5)
    before = followed(AutoencoderRetriever(), teacher)
    teacher.forget(3)
    after = followed(before, teacher)
    assert before.published.steps[3]
    assert not after.published.steps[3]

    # neither a positive nor a negative of later steps
    for lesson in lessons(5, seed=1):
        keep = lesson.rows != 3
        teacher.learn(lesson._replace(new=lesson.new[keep], shares=lesson.shares[keep]))
    assert not teacher._rows.weights[3].any()


@pytest.mark.parametrize("name", ["factors", "autoencoder"])
def test_both_halves_run_without_torch(name):
    check = (
        "import sys; from themed_lessons import *; from streamrec.model.retrievers.channels import channel\n"
        f"retriever = channel({name!r}); teacher = retriever.teacher(0)\n"
        "for lesson in lessons(2): teacher.learn(lesson)\n"
        "best(followed(retriever(), teacher), [1, 2], 5)\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", check], check=True, env=environment)
