"""A store of another installation is refused, and one that is new or was emptied is taken."""

from __future__ import annotations

import pytest

from streamrec.errors import StreamrecError, TransientError
from streamrec.service.store_identity import PATIENCE_S, StoreIdentityCheck


class Shop:
    """A broker, a store, and the check of a worker that wants to use both."""

    name = "Redis"

    def __init__(self, *, held="", registered=""):
        self.held, self.registered = held, registered
        self.in_use = False
        self.now_s = 0.0
        self.checks = 0

    def identity(self):
        return self.held

    def claim(self, identity):
        self.held = self.held or identity
        return self.held

    def read(self, _store):
        return self.registered

    def write(self, _store, identity):
        self.registered = identity

    def check(self):
        return StoreIdentityCheck(
            self,
            self,
            in_use=lambda: self.in_use,
            make_identity=lambda: "made",
            monotonic_s=lambda: self.now_s,
        )


def refusal(shop):
    """Return what is said when the contradiction has lasted, after having been transient before."""
    check = shop.check()
    with pytest.raises(TransientError):
        check.check()
    shop.now_s += PATIENCE_S - 1
    with pytest.raises(TransientError):
        check.check()
    shop.now_s += 1
    with pytest.raises(StreamrecError) as refused:
        check.check()
    assert not isinstance(refused.value, TransientError)
    return str(refused.value)


def test_a_new_store_of_a_new_installation_gets_an_identity_that_the_broker_knows():
    shop = Shop()
    shop.check().check()
    assert shop.held == shop.registered == "made"


def test_the_registered_store_is_taken_and_stays_registered():
    shop = Shop(held="a", registered="a")
    shop.in_use = True
    shop.check().check()
    assert (shop.held, shop.registered) == ("a", "a")


def test_a_store_of_another_installation_is_refused_with_a_clear_error():
    message = refusal(Shop(held="b", registered="a"))
    assert "belongs to another installation" in message
    assert "STREAMREC_INSTALLATION=shop2" in message


def test_a_second_shop_with_an_empty_store_is_refused_while_the_first_one_works():
    shop = Shop(registered="a")
    shop.in_use = True
    assert "is empty while other workers" in refusal(shop)
    assert shop.held == ""


def test_an_emptied_store_becomes_the_installations_again_when_nobody_uses_another_one():
    shop = Shop(registered="a")
    shop.check().check()
    assert shop.held == shop.registered == "made"


def test_the_first_shop_is_refused_when_a_second_one_took_its_broker_meanwhile():
    first = Shop(held="a", registered="a")
    first.registered = "b"
    refusal(first)


def test_a_contradiction_that_passes_is_no_refusal():
    shop = Shop(registered="a")
    shop.in_use = True
    check = shop.check()
    with pytest.raises(TransientError):
        check.check()
    shop.held = "a"  # the workers that run gave it back
    shop.now_s += 2 * PATIENCE_S
    check.check()
    assert shop.registered == "a"


def test_a_running_worker_gives_an_emptied_store_its_identity_back():
    shop = Shop(held="a", registered="a")
    check = shop.check()
    check.check()
    shop.held = ""
    check.keep()
    assert shop.held == "a"


def test_a_store_filled_before_identities_existed_is_taken():
    shop = Shop(registered="")
    shop.in_use = True
    shop.check().check()
    assert shop.held == shop.registered


def test_a_store_that_has_its_identity_is_not_written_by_those_who_keep_it():
    shop = Shop(held="a", registered="a")
    check = shop.check()
    check.check()
    shop.claim = None
    check.keep()
    assert shop.held == "a"


def test_a_store_that_is_exchanged_under_a_running_worker_is_refused():
    shop = Shop(held="a", registered="a")
    check = shop.check()
    check.check()
    shop.held = "b"
    with pytest.raises(TransientError, match="belongs to another installation"):
        check.keep()
    shop.now_s += PATIENCE_S
    with pytest.raises(StreamrecError, match="belongs to another installation") as refused:
        check.keep()
    assert not isinstance(refused.value, TransientError)


def test_a_worker_that_slept_while_its_store_was_emptied_and_taken_over_works_on():
    shop = Shop(held="a", registered="a")
    check = shop.check()
    check.check()
    shop.held = shop.registered = "b"
    check.keep()
    check.keep()
    assert (shop.held, shop.registered) == ("b", "b")
