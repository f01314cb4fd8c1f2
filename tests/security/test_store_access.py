"""Redis and PostgreSQL behind TLS, with a user of our own, are reached by their addresses alone.

The servers of the local stack are built without TLS: it is spoken by a relay before them, as a proxy would do it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from doubles import MemoryPublisher
from redis.exceptions import NoPermissionError
from secured import PASSWORD, USER
from sqlalchemy import make_url

from streamrec.adapters.postgres import PostgresRetentionStore
from streamrec.adapters.postgres.migrate import migrate
from streamrec.adapters.redis import RedisInterestStore, RedisTopKStore, TopKReader
from streamrec.adapters.redis.client import connect
from streamrec.cli.app import main
from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import FoldRules
from streamrec.errors import SettingsError, TransientError
from streamrec.service.batch import Slice, TopicPartition
from streamrec.service.clean_lists import CleanLists
from streamrec.service.list_marks import Made, Mark
from streamrec.service.list_ports import EncodedList, ListOrigin
from streamrec.service.withdrawn import Withdrawn

CLICKS = TopicPartition("clicks", 0)
INTERESTS = TopicPartition("user-interests", 0)
NOW_MS = 1_760_000_000_000
WRONG = "wr0ng-s3cr3t"

TOPK = TopKList(
    state_version=1,
    list_id="l1",
    user_id="u1",
    items=ListedItems.of([ListItem("i1", 1.0, Reason("popular")), ListItem("gone", 0.5, Reason("popular"))]),
    model_version="",
    arm="personal",
    event_time_ms=NOW_MS,
    produced_at_ms=NOW_MS,
    made_at_ms=NOW_MS,
)


def test_the_user_of_these_tests_is_the_one_that_is_documented(acl_rules):
    document = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    assert f"ACL SETUSER streamrec on >PASSWORD {acl_rules}\n" in document


def test_redis_over_tls_with_a_user_who_may_do_no_more_than_needed(rediss_url):
    store = RedisInterestStore(rediss_url, state_ttl_days=1)
    snapshot = store.load(["u1"], [CLICKS])
    snapshot.states["u1"].fold(Event("u1", "i1", NOW_MS, Source(EventType.CLICK, 0), offset=0), FoldRules(5))
    snapshot.progress[CLICKS].next_offset = 1
    assert store.compare_and_set(snapshot)
    assert store.positions([CLICKS]) == {CLICKS: 1}
    store.topics.adopt_topic_ids({"clicks": "an-id"})
    assert store.topics.topic_ids(["clicks"]) == {"clicks": "an-id"}
    lists = RedisTopKStore(rediss_url, list_ttl_days=1)
    assert lists.put_lists([EncodedList("u1", 1, msgspec.json.encode(TOPK))], [Slice(INTERESTS, 0, 1)])
    assert lists.advance([Slice(INTERESTS, 0, 1)], [Mark("u1", Made.BEHIND, 1, None)])
    lists.put_default(TOPK)
    withdrawn = Withdrawn()
    lists.mark_items(withdrawn.change({"gone": NOW_MS}, ["i1"]))
    assert TopKReader(rediss_url).read("u1").items.ids == ["i1"]
    lists.replace_marks(withdrawn)
    cleaning = CleanLists(lists.stored, MemoryPublisher(), lists.marks)
    assert cleaning.is_needed()
    while cleaning.step():
        pass
    assert lists.stored.lists_to_clean(0) == (0, [])
    lists.marks.undo(above=0)
    lists.marks.drop({"u1": ListOrigin(1, NOW_MS)})

    with connect(rediss_url) as client:
        for forbidden in (("FLUSHALL",), ("KEYS", "*"), ("GET", "another-key"), ("CONFIG", "GET", "*")):
            with pytest.raises(NoPermissionError):
                client.execute_command(*forbidden)


def test_redis_with_a_wrong_password_is_a_clear_error(rediss_url):
    with pytest.raises(TransientError, match="invalid username-password pair") as error:
        TopKReader(rediss_url.replace(PASSWORD, WRONG)).read("u1")
    assert not {PASSWORD, WRONG} & set(str(error.value).split())


def test_what_a_user_may_not_do_is_a_clear_error_that_passes_when_the_right_is_granted(rediss_url, redis_client):
    redis_client.execute_command("ACL", "SETUSER", USER, "-mget")
    reader = TopKReader(rediss_url)
    with pytest.raises(TransientError, match="no permissions"):
        reader.read("u1")
    redis_client.execute_command("ACL", "SETUSER", USER, "+mget")
    assert reader.read("u1") is None


def test_a_redis_that_others_signed_is_not_believed(rediss_url, certificates):
    url = rediss_url.replace(str(certificates.ca), str(certificates.other_ca))
    with pytest.raises(TransientError, match="CERTIFICATE_VERIFY_FAILED"):
        TopKReader(url).read("u1")
    with pytest.raises(TransientError, match="Redis"):
        TopKReader(rediss_url.replace("rediss://", "redis://").partition("?")[0]).read("u1")


def test_postgres_over_tls(tls_postgres_url):
    migrate(tls_postgres_url)
    assert PostgresRetentionStore(tls_postgres_url).positions([CLICKS]) == {}


def test_a_postgres_that_others_signed_is_not_believed(tls_postgres_url, certificates):
    url = make_url(tls_postgres_url).update_query_dict({"sslrootcert": str(certificates.other_ca)})
    with pytest.raises(TransientError, match="certificate verify failed"):
        migrate(url.render_as_string(hide_password=False))


def test_a_postgres_without_tls_is_refused_where_tls_is_asked_for(postgres_url):
    with pytest.raises(TransientError, match="does not support SSL"):
        migrate(f"{postgres_url}?sslmode=require")


def test_postgres_with_a_wrong_password_is_a_clear_error(tls_postgres_url):
    with pytest.raises(TransientError, match="password authentication failed") as error:
        migrate(make_url(tls_postgres_url).set(password=WRONG).render_as_string(hide_password=False))
    assert WRONG not in str(error.value)


@pytest.mark.parametrize("password", ["a/b", "a#b", "a?b", "a@b", "a:b"])
@pytest.mark.parametrize("variable", ["STREAMREC_REDIS_URL", "STREAMREC_POSTGRES_URL"])
def test_a_password_that_was_not_escaped_is_not_shown(variable, password, monkeypatch, capsys):
    """Such a password ends up in what is taken for the host, the port or the path, which errors show."""
    secret = f"f1rst{password}s3cond"
    scheme = "redis" if "REDIS" in variable else "postgresql"
    monkeypatch.setenv(variable, f"{scheme}://me:{secret}@127.0.0.1:1/0")
    with pytest.raises(SystemExit) as exit_info:
        main(["topk", "u1"] if scheme == "redis" else ["retention"])
    message = capsys.readouterr().err
    assert exit_info.value.code in {1, 2}
    assert message.count("\n") == 1
    assert "f1rst" not in message
    assert "s3cond" not in message


@pytest.mark.parametrize("url", ["nonsense", "http://h:1", "redis://h:port/0"])
def test_what_is_no_address_of_redis_names_the_variable(url):
    with pytest.raises(SettingsError, match="STREAMREC_REDIS_URL"):
        TopKReader(url)
