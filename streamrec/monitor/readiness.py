"""Whether the pipeline is healthy, and if not, why: the one rule behind status, probes, dashboard and alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from streamrec.adapters.kafka.lag import GROUPS
from streamrec.metrics import PAUSED, WAITING
from streamrec.monitor.groups import STALLED_S, GroupState
from streamrec.monitor.lists import why_waiting
from streamrec.visible import visible

if TYPE_CHECKING:
    from streamrec.monitor.observation import Observation

BLIND_S = 15.0
"""Maximum age of the groups' figures."""


MODEL_AGE_LIMIT_S = 600.0
"""The serving model may lack so much of the stream; the alert `ModelNotUpdated` has the same limit."""

DEAD_LETTER_LIMIT = 0.01
"""So large a share of the events may be dead-lettered; the alert `DeadLetters` has the same limit."""


class Cause(NamedTuple):
    """A cause of an unhealthy pipeline, or a warning about a healthy one."""

    name: str
    """Kind of the cause: the value of the metric's label."""
    subject: str
    """The affected group, worker, server or topic."""
    text: str
    """Description."""
    next_step: str
    """What to do about it."""


class Check(NamedTuple):
    """Checks for one kind of cause.

    Parameters
    ----------
    name
        Kind of the cause.
    next_step
        What to do about it.
    find
        Yields the subject and description of each cause of this kind.
    """

    name: str
    next_step: str
    find: Callable[[Observation], Iterator[tuple[str, str]]]


def causes(now: Observation) -> list[Cause]:
    """Return the causes of an unhealthy pipeline; empty if it is healthy."""
    return _found(CHECKS, now)


def warnings(now: Observation) -> list[Cause]:
    """Return what needs attention although the pipeline may be healthy."""
    return _found(WARNINGS, now)


def _found(checks: Sequence[Check], now: Observation) -> list[Cause]:
    return [
        Cause(check.name, subject, visible(text), check.next_step)
        for check in checks
        for subject, text in check.find(now)
    ]


def _silent_servers(now: Observation) -> Iterator[tuple[str, str]]:
    for server, fault in now.faults.items():
        yield server, f"{server} does not answer: {fault}"


def _unfit_servers(now: Observation) -> Iterator[tuple[str, str]]:
    for server, reasons in now.unfit.items():
        for because in reasons:
            yield server, f"{server}: {because}"


def _not_read(now: Observation) -> Iterator[tuple[str, str]]:
    read_s_ago = now.read_s_ago
    if "Kafka" in now.faults:
        return  # reported above
    if read_s_ago is None:
        yield "Kafka", "consumer groups were not read yet"
    elif read_s_ago > BLIND_S:
        yield "Kafka", f"consumer groups were last read {read_s_ago:.0f} s ago"


def _paused(now: Observation) -> Iterator[tuple[str, str]]:
    for worker in now.workers:
        for because, for_s in worker.reasons(PAUSED).items():
            name = worker.endpoint.worker
            yield name, f"{name} has paused itself for {for_s:.0f} s: {because}"


def _waiting(now: Observation) -> Iterator[tuple[str, str]]:
    for worker in now.workers:
        for because, for_s in worker.reasons(WAITING).items():
            if for_s > now.lag_limit_s:
                name = worker.endpoint.worker
                yield name, f"{name} has been retrying for {for_s:.0f} s: {because}"


def _unsaved(now: Observation) -> Iterator[tuple[str, str]]:
    for worker in now.workers:
        if worker.gauge("streamrec_checkpoint_failing"):
            name = worker.endpoint.worker
            yield name, f"{name} cannot write its checkpoints: a restart would resume from the last one"


def _open_transactions(now: Observation) -> Iterator[tuple[str, str]]:
    read = {topic for topics in GROUPS.values() for topic in topics}
    for held in now.held_back:
        if held.topic in read and held.held_s is not None and held.held_s > now.lag_limit_s:
            what = f"{held.records} records in {held.partitions} partitions of {held.topic}"
            yield held.topic, f"an open transaction has held back {what} for {held.held_s:.0f} s"


def _lost(now: Observation) -> Iterator[tuple[str, str]]:
    for group in _ours(now):
        if group.lost:
            yield group.name, f"{group.name} has lost up to {group.lost} records: they were deleted before it read them"


def _missing_topics(now: Observation) -> Iterator[tuple[str, str]]:
    for group in _ours(now):
        if group.missing:
            yield group.name, f"{group.name} reads topics that do not exist: {', '.join(group.missing)}"


def _no_members(now: Observation) -> Iterator[tuple[str, str]]:
    for group in _ours(now):
        if not group.members:
            yield group.name, f"{group.name} has no members"


def _behind(now: Observation) -> Iterator[tuple[str, str]]:
    for group in _ours(now):
        if group.behind_s is not None and group.behind_s > now.lag_limit_s:
            yield group.name, f"{group.name} is {group.behind_s:.0f} s behind, more than {now.lag_limit_s:g} s"


def _stalled(now: Observation) -> Iterator[tuple[str, str]]:
    for group in _ours(now):
        # after the lag limit, so that a single poll, which cannot detect stalls, reaches the same result through
        # `behind`
        if group.stalled_s > max(STALLED_S, now.lag_limit_s):
            yield group.name, f"{group.name} has been stalled for {group.stalled_s:.0f} s while records wait"


def _leaderless(now: Observation) -> Iterator[tuple[str, str]]:
    for group in _ours(now):
        if group.leaderless:
            yield group.name, f"{group.name} waits for {group.leaderless} partitions without a leader"


def _unassigned(now: Observation) -> Iterator[tuple[str, str]]:
    for group in _ours(now):
        if group.unassigned:
            first = f"{group.unassigned[0].topic}:{group.unassigned[0].partition}"
            which = first if len(group.unassigned) == 1 else f"{first} and {len(group.unassigned) - 1} more partitions"
            yield group.name, f"{group.name} does not read {which}: no member is assigned them"


def _beyond_end(now: Observation) -> Iterator[tuple[str, str]]:
    for group in _ours(now):
        if group.beyond_end:
            where = f"beyond the end of {group.beyond_end} partitions"
            yield group.name, f"{group.name} has read {where}: topics were re-created or truncated"


def _lists_waiting(now: Observation) -> Iterator[tuple[str, str]]:
    if not now.lists:
        return
    if why := why_waiting(now.lists):
        yield "recall", f"lists wait to be rebuilt: {why}"
    marked = now.lists.facts.rollbacks
    if marked is not None and marked < now.versions.rolled_back:
        yield "recall", "lists of a model version that was rolled back are not marked yet"


def _late_lists(now: Observation) -> Iterator[tuple[str, str]]:
    p99_s = now.fresh_s.get(("recall", 99))
    if p99_s is not None and p99_s > now.lag_limit_s:
        limit = f"the limit is {now.lag_limit_s:g} s"
        yield "recall", f"1 % of lists are published more than {p99_s:.0f} s after their event, {limit}"


def _old_model(now: Observation) -> Iterator[tuple[str, str]]:
    age_s = now.model_age_s
    if age_s is not None and age_s > MODEL_AGE_LIMIT_S:
        limit = f"the limit is {MODEL_AGE_LIMIT_S:g} s"
        yield "trainer", f"the serving model lacks the last {age_s:.0f} s of events, {limit}"


def _dead_letters(now: Observation) -> Iterator[tuple[str, str]]:
    share = now.dead_letter_share
    if share is not None and share > DEAD_LETTER_LIMIT:
        limit = f"the limit is {100 * DEAD_LETTER_LIMIT:g} %"
        yield "interests", f"{100 * share:.1f} % of the latest events are dead letters, {limit}"


def _server_settings(now: Observation) -> Iterator[tuple[str, str]]:
    for server, found in now.server_warnings.items():
        for warning in found:
            yield server, f"{server}: {warning}"


def _ours(now: Observation) -> Iterator[GroupState]:
    return (group for group in now.groups if group.ours)


CHECKS = (
    Check("server-down", "Bring the server back: workers wait for it and continue by themselves.", _silent_servers),
    Check("unfit-server", "Change the setting in the message; waiting workers continue by themselves.", _unfit_servers),
    Check("not-read", "If this persists, check the monitor's log and restart it.", _not_read),
    Check("paused", "Fix what the message names; refused records: streamrec dlq list.", _paused),
    Check("retrying", "Fix what the message names; the worker continues by itself.", _waiting),
    Check("unsaved", "Free disk space for the trainer, or fix what its log names.", _unsaved),
    Check("open-transaction", "Find the producer that hangs: kafka-transactions.sh find-hanging.", _open_transactions),
    Check("missing-topic", "Create the topics: streamrec topics create.", _missing_topics),
    Check("no-members", "Start the worker; the last line of its log says why it exited.", _no_members),
    Check("behind", "Wait if a replay is running; else start more processes of the worker.", _behind),
    Check("stalled", "Read the worker's log; if it names nothing, restart the worker.", _stalled),
    Check("leaderless", "Bring back the brokers that hold these partitions.", _leaderless),
    Check("unassigned", "Wait 15 s; if it persists, restart the worker.", _unassigned),
    Check("lost", "Raise the topic's retention.ms above the longest outage you plan for.", _lost),
    Check("lists-waiting", "Wait while the count falls: streamrec lists status.", _lists_waiting),
    Check("beyond-end", "Start with empty stores, or point the workers at the right broker.", _beyond_end),
)
"""All checks, in the order in which causes are reported."""

WARNINGS = (
    Check("late-lists", "Start more processes of the worker with the greatest lag.", _late_lists),
    Check("old-model", "Check that trainer runs and that recall serves its latest version.", _old_model),
    Check("dead-letters", "See what is wrong with them: streamrec dlq list.", _dead_letters),
    Check("server-setting", "Check the setting in the message; the pipeline continues meanwhile.", _server_settings),
)
"""What needs attention and does not make the pipeline unhealthy, in the order in which it is reported."""
