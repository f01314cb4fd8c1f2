"""Search for settings that rank better, with optuna (Akiba et al. 2019, arXiv 1907.10902).

Trials play the same events with different settings, the first one with the current settings. A later one ends early
once its lists are worse than those of the median trial at the same event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from streamrec.evaluation.ablation import Outcome
from streamrec.evaluation.metrics import CUTOFF, ndcg
from streamrec.model.retrievers.channels import BUILT_IN

Values = dict[str, Any]
"""Values of settings by field."""

Check = Callable[[int, float], None]
"""Takes the number of a comparison and the mean NDCG so far; raises `optuna.TrialPruned` if the trial is to end."""

CHOICES: dict[str, Sequence[int]] = {
    "embedding_dim": (32, 64, 128),
    "sequence_length": (20, 50, 100),
    "micro_batch_events": (32, 64, 128, 256),
    "admit_after": (1, 2, 3),
}
"""Values of the numeric settings that are tried, besides the current ones."""

NOT_TRIED = ("popular", "model")
"""Channels that no trial changes: lists of new users come from the first, and the second is what training is for."""

PLAYED_WHOLE = 5
"""Number of trials that do not end early: the median is then known."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial.

    Attributes
    ----------
    values
        Its settings.
    outcome
        `None` if it ended early.
    """

    values: Values
    outcome: Outcome | None

    @property
    def hits(self) -> int:
        """Number of lists with the event's item among the first ten."""
        return 0 if self.outcome is None else int((self.outcome.ranks < CUTOFF).sum())

    @property
    def ndcg(self) -> float:
        """NDCG@10, -inf if it ended early."""
        return -float("inf") if self.outcome is None else float(ndcg(self.outcome.ranks).mean())


def tune(current: Values, play: Callable[[Values, Check], Outcome], *, trials: int, seed: int) -> Iterator[Trial]:
    """Play trials, and yield each when it has ended, the one with the current settings first.

    Parameters
    ----------
    current
        Current values of the settings in :data:`CHOICES` and of `channels`.
    play
        Plays the events with given settings.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=PLAYED_WHOLE),
    )
    optional = [name for name in BUILT_IN if name not in NOT_TRIED]
    on = current["channels"].split(",")
    study.enqueue_trial({name: current[name] for name in CHOICES} | {name: name in on for name in optional})
    for _ in range(trials):
        asked = study.ask()
        values = {
            name: asked.suggest_categorical(name, sorted({*choices, current[name]}))
            for name, choices in CHOICES.items()
        }
        chosen = [name for name in optional if asked.suggest_categorical(name, [True, False])]
        # and those of other packages
        values["channels"] = ",".join([*chosen, *(name for name in on if name not in optional)])

        def check(comparison: int, so_far: float, asked: optuna.Trial = asked) -> None:
            asked.report(so_far, comparison)
            if asked.should_prune():
                raise optuna.TrialPruned

        try:
            outcome = play(values, check)
        except optuna.TrialPruned:
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            yield Trial(values, None)
        else:
            trial = Trial(values, outcome)
            study.tell(asked, trial.ndcg)
            yield trial
