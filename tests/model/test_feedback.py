"""What a user does not like is in none of the user's lists, and teaches nobody to list it."""

from __future__ import annotations

import msgspec
import numpy as np
from interests import START_MS, fold, stream
from rankers import ids, ranker_of, trained

from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import InterestState
from streamrec.model.network.learner import Learner
from streamrec.model.network.weights import weights_of
from streamrec.model.ranking.context import make_context
from streamrec.service.list_aging import hidden_hashes, hide
from streamrec.service.make_lists import ListMaker

LATER_MS = START_MS + 10_000_000


def interest_of(*events, sequence_length=20):
    """Return the interest of a user with these events: kind and item."""
    state = InterestState()
    for offset, (kind, item_id) in enumerate(events):
        event = Event("u", item_id, LATER_MS + 1_000 * offset, Source(kind, 9), offset)
        interest = fold(state, event, sequence_length=sequence_length)
    return interest


def test_a_disliked_item_leaves_every_list_and_comes_back_with_the_user(new_trainer):
    _, records = trained(new_trainer(hide_seen=False))
    ranker = ranker_of(records, hide_seen=False)
    likes = [(EventType.CLICK, "0-1"), (EventType.CLICK, "0-2"), (EventType.ADD_TO_CART, "0-3")]
    disliked = interest_of(*likes, (EventType.DISLIKE, "0-2"))
    came_back = interest_of(*likes, (EventType.DISLIKE, "0-2"), (EventType.CLICK, "0-2"))
    for rank in (ranker.rank, ranker.popular):
        assert "0-2" not in ids(rank([disliked], k=1_000)[0])
        assert "0-2" in ids(rank([came_back], k=1_000)[0])
    before = msgspec.structs.replace(interest_of(*likes), disliked_before=["0-2", "unknown"])
    assert "0-2" not in ids(ranker.rank([before], k=1_000)[0])


def test_readers_are_told_to_leave_out_what_the_user_dislikes(new_trainer):
    _, records = trained(new_trainer(hide_seen=False))
    maker = ListMaker(
        ranker_of(records, hide_seen=False), top_k=5, arm_of=lambda _user: "personal", now_ms=lambda: LATER_MS
    )
    (made,) = maker.make([interest_of((EventType.CLICK, "0-1"), (EventType.RETURN, "0-2"))])
    assert hidden_hashes(made.hidden) == hidden_hashes(hide(["0-2"]))
    (made,) = maker.make([interest_of((EventType.CLICK, "0-1"))])
    assert made.hidden == b""


def test_a_dislike_is_learned_as_an_event_and_not_as_interest(new_trainer):
    trainer = new_trainer()
    interests = stream(200)
    trainer.train(interests, behind=0)
    model = trainer.model
    row, before = model.items.vocabulary.row("0-1"), model.items.popularity.counts.copy()
    tested, events = model.stacking.tested, model.events
    disliked = interest_of((EventType.DISLIKE, "0-1"), (EventType.DISLIKE, "never seen"))
    trainer.train([msgspec.structs.replace(disliked, new=disliked.new)], behind=0)

    assert np.array_equal(model.items.popularity.counts[row], before[row])
    assert model.items.vocabulary.row("never seen") == 0
    assert (model.stacking.tested, model.events) == (tested, events + len(disliked.new))


def test_the_channels_do_not_see_what_a_user_dislikes(new_trainer):
    trainer, _ = new_trainer(), None
    trainer.train(stream(400), behind=0)
    trainer.take_update()
    sequence = interest_of((EventType.DISLIKE, "0-1"), (EventType.RATING, "1-1"), (EventType.FAVOURITE, "1-2")).sequence
    assert sequence[1].event_type == -EventType.RATING  # of nothing
    context = make_context(trainer.serving, sequence)
    row = trainer.serving.row
    assert context.rows.tolist() == [row("0-1"), row("1-1"), row("1-2")]
    assert context.of_interest.rows.tolist() == [row("1-1"), row("1-2")]
    assert context.left_out.tolist() == [row("0-1"), row("1-1")]


def test_a_low_rating_counts_but_is_no_target(new_trainer):
    trainer = new_trainer()
    trainer.train(stream(200), behind=0)
    model = trainer.model
    row, tested = model.items.vocabulary.row("0-1"), model.stacking.tested
    events = int(model.items.vocabulary.events[row])
    trainer.train([interest_of((EventType.CLICK, "0-2"), (EventType.RATING, "0-1"))], behind=0)

    assert model.items.vocabulary.events[row] == events + 1
    assert model.stacking.tested == tested


def test_weights_of_a_release_without_feedback_are_read(new_trainer):
    trainer = new_trainer()
    trainer.train(stream(200), behind=0)
    learner = trainer.model.learner
    state = learner.state(len(trainer.model.items))
    assert not state["model.other_event_type.weight"].any()
    old = {name: value for name, value in state.items() if "other_event_type" not in name}
    last = max(int(name.split(".")[1]) for name in old if name.startswith("adam."))
    old = {name: value for name, value in old.items() if not name.startswith(f"adam.{last}.")}
    other = Learner(learner.model.config, device=learner.device, seed=1)
    other.load(old)
    for part, ours in (("model", learner.model), ("average", learner.average)):
        theirs = weights_of(getattr(other, part))
        assert all(np.array_equal(theirs[name], value) for name, value in weights_of(ours).items())
    moments = other.optimizer.state()
    assert all(np.array_equal(moments[name.removeprefix("adam.")], state[name]) for name in old if "adam" in name)
