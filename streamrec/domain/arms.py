"""Experiment arms: users in the control arm get popular items only, as a baseline for all others."""

from __future__ import annotations

from hashlib import blake2b

PERSONAL = "personal"
CONTROL = "control"


def assign_arm(experiment: str, user_id: str, *, control_share: float) -> str:
    """Return the arm of a user: a pure function of names, so all workers agree and nothing is stored.

    Parameters
    ----------
    experiment
        Name of the experiment; another name reassigns users.
    control_share
        Share of users in the control arm, 0 to 1.

    Examples
    --------
    >>> assign_arm("default", "u1", control_share=0.0)
    'personal'
    >>> assign_arm("default", "u1", control_share=1.0)
    'control'
    """
    if control_share <= 0:
        return PERSONAL
    draw = int.from_bytes(blake2b(f"{experiment}\0{user_id}".encode(), digest_size=8).digest(), "big") / 2**64
    return CONTROL if draw < control_share else PERSONAL
