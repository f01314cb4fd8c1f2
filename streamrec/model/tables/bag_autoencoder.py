"""A multinomial variational autoencoder of users' bags of items, trained on a stream.

Mult-VAE (Liang et al. 2018, "Variational Autoencoders for Collaborative Filtering", arXiv 1802.05814): a bag of items
is encoded as a normal distribution, and a sample of it predicts the items. Here the bag holds a user's items before an
event, later ones with more weight; the event's item and some items of the bag are predicted; and the softmax is over
shared negatives (Jean et al. 2015, arXiv 1412.2007) instead of all items, so that a step costs the same whatever the
catalogue. Encoder and decoder share one unit vector per item.

Shapes: B users, N items of a bag, T targets, K negatives, D width of items, Z width of the latent vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DIM, LATENT_DIM = 64, 64

BAG = 8
"""Maximum number of items in a bag: the latest distinct ones."""

TARGETS = 4
"""Predictions from each bag: the event's item, and others from the bag itself."""

_STEP_DECAY = 0.6
"""Weight of each item of a bag, relative to the next later one."""

_RECONSTRUCTION = 0.1
"""Weight of predicting an item of the bag, relative to the event's own."""

_DROPPED = 0.15
"""Share of items that the encoder does not see in training."""

_GAIN = np.float32(8.0)
"""Norm of an encoded bag before the first layer: entries of the order of 1."""

_TEMPERATURE = np.float32(10.0)
"""Factor on cosines in the softmax."""


class Batch(NamedTuple):
    """Bags and what to predict from them.

    Attributes
    ----------
    bags
        Rows, newest first, 0 for padding, `(B, N)`.
    targets
        Rows, the event's own first, 0 for padding, `(B, T)`.
    negatives
        Rows, `(K,)`.
    expected
        Logarithm of the expected number of each among the negatives, `(K,)`, float32.
    """

    bags: np.ndarray
    targets: np.ndarray
    negatives: np.ndarray
    expected: np.ndarray


class Network(NamedTuple):
    """The dense weights, float32.

    Attributes
    ----------
    bias
        Of the first layer, whose weights are the vectors of items, `(D,)`.
    to_mean, to_log_variance
        From the first layer to the latent distribution, `(D, Z)`.
    mean_bias, log_variance_bias
        `(Z,)`.
    to_items
        From a latent vector to the vector that items are compared with, `(Z, D)`.
    items_bias
        `(D,)`.
    """

    bias: np.ndarray
    to_mean: np.ndarray
    mean_bias: np.ndarray
    to_log_variance: np.ndarray
    log_variance_bias: np.ndarray
    to_items: np.ndarray
    items_bias: np.ndarray

    @classmethod
    def initial(cls) -> Network:
        """Return weights that pass a bag on nearly as it is: then predictions begin as means of vectors."""
        through = np.eye(DIM, LATENT_DIM, dtype=np.float32)
        return cls(
            bias=np.zeros(DIM, np.float32),
            to_mean=through,
            mean_bias=np.zeros(LATENT_DIM, np.float32),
            to_log_variance=np.zeros((DIM, LATENT_DIM), np.float32),
            log_variance_bias=np.full(LATENT_DIM, -4.0, np.float32),
            to_items=through.T.copy(),
            items_bias=np.zeros(DIM, np.float32),
        )

    def latent(self, units: np.ndarray, bags: np.ndarray) -> np.ndarray:
        """Return the latent means of bags, zero for empty ones, `(B, Z)`.

        Parameters
        ----------
        units
            Unit vectors of the bags' items, zero for padding, `(B, N, D)`.
        bags
            Rows, newest first, 0 for padding, `(B, N)`.
        """
        summed, norms = summed_up(units, weights_of(bags))
        means = np.tanh(_GAIN * summed / norms + self.bias) @ self.to_mean + self.mean_bias
        return np.asarray(np.where(summed.any(axis=1, keepdims=True), means, np.float32(0.0)))

    def decoded(self, latent: np.ndarray) -> np.ndarray:
        """Return the unit vectors that items are compared with, zero for zero vectors, `(B, D)`."""
        vectors, _ = unit(latent @ self.to_items + self.items_bias)
        return np.asarray(np.where(latent.any(axis=1, keepdims=True), vectors, np.float32(0.0)))


class Gradients(NamedTuple):
    """Gradients of a step.

    Attributes
    ----------
    network
        Of the dense weights.
    rows, of_rows
        Rows, which may repeat, `(n,)`, and gradients of their vectors, `(n, D)`.
    """

    network: Network
    rows: np.ndarray
    of_rows: np.ndarray


def weights_of(bags: np.ndarray) -> np.ndarray:
    """Return the weight of each item in its bag, `(B, N)`, float32."""
    return np.where(bags > 0, _STEP_DECAY ** np.arange(bags.shape[1]), 0.0).astype(np.float32)


def summed_up(units: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted sums of vectors, `(B, D)`, and their norms, `(B, 1)`."""
    summed = (weights[:, None, :] @ units)[:, 0]
    _, norms = unit(summed)
    return summed, norms


def unit(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors divided by their norms, and these, at least 1e-6."""
    norms = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-6))
    return vectors / norms, norms


def gradients(
    network: Network, vectors: np.ndarray, batch: Batch, kl_weight: float, rng: np.random.Generator
) -> Gradients:
    """Return the gradients of the negative evidence lower bound, with a weight of the divergence.

    Parameters
    ----------
    vectors
        Of items by row, of any norm, `(capacity, D)`.
    """
    count = np.float32(len(batch.bags))
    kept = rng.random(batch.bags.shape) >= _DROPPED
    kept[:, 0] |= ~(kept & (batch.bags > 0)).any(axis=1)
    bags = np.where(kept, batch.bags, 0)
    bag_units, bag_norms = unit(vectors[bags])
    target_units, target_norms = unit(vectors[batch.targets])
    negative_units, negative_norms = unit(vectors[batch.negatives])

    weights = weights_of(batch.bags) * kept
    summed, norms = summed_up(bag_units, weights)
    direction = summed / norms
    hidden = np.tanh(_GAIN * direction + network.bias)
    mean = hidden @ network.to_mean + network.mean_bias
    log_variance = hidden @ network.to_log_variance + network.log_variance_bias
    noise = rng.standard_normal(mean.shape, np.float32) * np.exp(np.float32(0.5) * log_variance)
    latent = mean + noise
    out, out_norms = unit(latent @ network.to_items + network.items_bias)

    shares = np.where(batch.targets > 0, np.float32(_RECONSTRUCTION), np.float32(0.0))
    shares[:, 0] = 1.0
    for_targets, for_negatives = _softmax(out, target_units, negative_units, batch, shares)
    of_out = (for_targets[:, None, :] @ target_units)[:, 0] + for_negatives @ negative_units
    of_targets = for_targets[:, :, None] * out[:, None, :]
    of_negatives = for_negatives.T @ out

    of_decoded = _through_norm(of_out, out, out_norms)
    of_latent = of_decoded @ network.to_items.T
    of_mean = of_latent + np.float32(kl_weight) / count * mean
    of_log_variance = np.float32(0.5) * (
        of_latent * noise + np.float32(kl_weight) / count * (np.exp(log_variance) - np.float32(1.0))
    )
    of_hidden = of_mean @ network.to_mean.T + of_log_variance @ network.to_log_variance.T
    of_first = of_hidden * (np.float32(1.0) - hidden**2)
    of_bag = weights[:, :, None] * _through_norm(_GAIN * of_first, direction, norms)[:, None, :]
    parts = (
        (bags, _through_norm(of_bag, bag_units, bag_norms)),
        (batch.targets, _through_norm(of_targets, target_units, target_norms)),
        (batch.negatives, _through_norm(of_negatives, negative_units, negative_norms)),
    )
    return Gradients(
        network=Network(
            bias=of_first.sum(axis=0),
            to_mean=hidden.T @ of_mean,
            mean_bias=of_mean.sum(axis=0),
            to_log_variance=hidden.T @ of_log_variance,
            log_variance_bias=of_log_variance.sum(axis=0),
            to_items=latent.T @ of_decoded,
            items_bias=of_decoded.sum(axis=0),
        ),
        rows=np.concatenate([rows.ravel() for rows, _ in parts]),
        of_rows=np.concatenate([each.reshape(-1, DIM) for _, each in parts]).astype(np.float32),
    )


def _softmax(
    out: np.ndarray, targets: np.ndarray, negatives: np.ndarray, batch: Batch, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of the products with targets, `(B, T)`, and negatives, `(B, K)`."""
    of_negatives = _TEMPERATURE * (out @ negatives.T) - batch.expected
    of_targets = _TEMPERATURE * (targets @ out[:, :, None])[:, :, 0]
    # a bag's own targets are no negatives of it
    is_own = (batch.negatives[None, None, :] == batch.targets[:, :, None]).any(axis=1)
    of_negatives = np.where(is_own, np.float32(-1e9), of_negatives)
    highest = np.maximum(of_negatives.max(axis=1), of_targets.max(axis=1))[:, None]
    likely_negatives, likely_targets = np.exp(of_negatives - highest), np.exp(of_targets - highest)
    # each target competes with the negatives only
    totals = likely_negatives.sum(axis=1, keepdims=True) + likely_targets
    shared = (shares / totals).sum(axis=1, keepdims=True)
    scale = _TEMPERATURE / np.float32(len(out))
    return scale * shares * (likely_targets / totals - 1.0), scale * shared * likely_negatives


def _through_norm(of_units: np.ndarray, units: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Return the gradient of vectors from that of their unit vectors."""
    along = (of_units * units).sum(axis=-1, keepdims=True)
    return np.asarray((of_units - along * units) / norms)
