"""Retention in PostgreSQL: a batch is one transaction of a constant number of statements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, timedelta
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Table, bindparam, cast, column, func, select, table, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert

from streamrec.adapters.postgres.engine import connect, translated_errors
from streamrec.adapters.postgres.tables import (
    REVISION,
    activity,
    calendar,
    counts,
    followed,
    positions,
    topic_ids,
    users,
)
from streamrec.domain.retention import RememberedList, UserRetention
from streamrec.environment import variable_name
from streamrec.errors import StreamrecError
from streamrec.service.batch import Positions, TopicPartition
from streamrec.service.retention_ports import RetentionChanges

_EPOCH = date(1970, 1, 1)

FORMAT = 1
"""Version of the encoding of a user's memory; other versions are refused."""

_StoredMemory = tuple[
    int,  # format
    list[tuple[int, int, list[int]]],  # recent ids: event type, partition, hashes
    list[tuple[str, int, list[int]]],  # lists: id, event time, hashes of items
]

_encoder = msgspec.msgpack.Encoder()
_memory_decoder = msgspec.msgpack.Decoder(_StoredMemory)


class PostgresRetentionStore:
    """Stores retention and the positions of its topics.

    Parameters
    ----------
    url
        Address of PostgreSQL.
    installation
        Name of the installation, which is the schema of the tables.
    time_zone
        IANA time zone of the written days; not needed for reading positions.
    """

    other_topics = ()

    def __init__(self, url: str, *, installation: str = "", time_zone: str = "") -> None:
        self._engine = connect(url, installation=installation)
        self._time_zone = time_zone
        self._checked = False

    @contextmanager
    def transaction(self) -> Iterator[PostgresTransaction]:
        """Return a transaction that commits on exit and rolls back on an error."""
        with translated_errors(), self._engine.begin() as connection:
            yield PostgresTransaction(connection)

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was read.

        Raises
        ------
        StreamrecError
            If the tables belong to another release or time zone.
        """
        with self._connection() as connection:
            return _read_positions(connection, sources, lock=False)

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the known ids of topics."""
        with self._connection() as connection:
            found = connection.execute(select(topic_ids).where(topic_ids.c.topic.in_(topics)))
            return {row.topic: row.topic_id for row in found}

    def adopt_topic_ids(self, ids: Mapping[str, str]) -> None:
        """Replace the stored topic ids."""
        rows = [{"topic": topic, "topic_id": topic_id} for topic, topic_id in sorted(ids.items())]
        with self.transaction() as transaction:
            transaction.adopt(rows)

    def contains_any(self, sources: Sequence[TopicPartition]) -> bool:
        """Return whether anything from these partitions was read."""
        return any(self.positions(sources).values())

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with translated_errors(), self._engine.begin() as connection:
            if not self._checked:
                _check_revision(connection)
                if self._time_zone:
                    _check_calendar(connection, self._time_zone)
                self._checked = True
            yield connection


def _check_revision(connection: Connection) -> None:
    found = connection.execute(select(column("version_num")).select_from(table("alembic_version"))).scalar()
    if found != REVISION:
        raise StreamrecError(
            f"PostgreSQL has tables of revision {found}, this release of streamrec requires {REVISION}: "
            "run `streamrec migrate` of the newest release in use"
        )


def _check_calendar(connection: Connection, time_zone: str) -> None:
    """Set the time zone of stored days, or refuse to mix them with those of another one."""
    connection.execute(insert(calendar).values(one=1, time_zone=time_zone).on_conflict_do_nothing())
    found = connection.execute(select(calendar.c.time_zone)).scalar_one()
    if found != time_zone:
        raise StreamrecError(
            f"PostgreSQL holds days of the time zone {found}, and {variable_name('time_zone')} is {time_zone}: set it "
            "back, or empty the tables, as docs/procedures.md says"
        )


class PostgresTransaction:
    """A transaction; rows are locked in key order, so that two transactions never deadlock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock_positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was read, and lock them."""
        rows = [{"topic": source.topic, "partition": source.partition} for source in sorted(sources)]
        self._insert(_insert_missing(positions, "topic", "partition"), rows)
        return _read_positions(self._connection, sources, lock=True)

    def lock_users(self, arms: Mapping[str, str]) -> dict[str, UserRetention]:
        """Return the state of each user, empty if there is none, and lock them."""
        if not arms:
            return {}
        rows = [{"user_id": user_id, "arm": arm} for user_id, arm in sorted(arms.items())]
        self._insert(_insert_missing(users, "user_id", "arm"), rows)
        found = self._connection.execute(
            select(users.c.user_id, users.c.first_day, users.c.last_day, users.c.memory)
            .where(users.c.user_id == func.any(bindparam("user_ids", list(arms))))
            .order_by(users.c.user_id)
            .with_for_update()
        )
        return {row.user_id: _decode_user(row.first_day, row.last_day, row.memory) for row in found}

    def write(self, changes: RetentionChanges, moved: Positions) -> None:
        """Write all changes and move the positions."""
        self._upsert(
            users,
            [
                {
                    "user_id": user_id,
                    # settings may have changed the arm of an existing user
                    "arm": changes.arms[user_id],
                    "first_day": _date(user.first_day),
                    "last_day": _date(user.last_day),
                    "memory": _encode_memory(user),
                }
                for user_id, user in changes.users.items()
            ],
        )
        self._upsert(
            activity,
            [
                {"day": _date(day), "user_id": user_id, "clicks": each.clicks, "purchases": each.purchases}
                for (user_id, day), each in changes.activity.items()
            ],
        )
        self._upsert(
            counts, [{"day": _date(day), "arm": arm, **asdict(each)} for (day, arm), each in changes.counts.items()]
        )
        self._upsert(
            followed,
            [
                {"list_id": list_id, "arm": changes.arms[each.user_id], **asdict(each)}
                for list_id, each in changes.followed.items()
            ],
        )
        self._upsert(
            positions,
            [{"topic": source.topic, "partition": source.partition, "next_offset": to} for source, to in moved.items()],
        )

    def adopt(self, rows: list[dict[str, Any]]) -> None:
        """Store topic ids."""
        self._upsert(topic_ids, rows)

    def _insert(self, statement: Insert, rows: list[dict[str, Any]]) -> None:
        """Insert rows in one statement: every column is bound as an array."""
        if rows:
            self._connection.execute(statement, {name: [row[name] for row in rows] for name in rows[0]})

    def _upsert(self, table: Table, rows: list[dict[str, Any]]) -> None:
        """Insert rows; on conflict, counts are added and other columns replaced."""
        keys = [column.name for column in table.primary_key]
        self._insert(_upsert_into(table), sorted(rows, key=lambda row: [str(row[key]) for key in keys]))


def _insert_into(table: Table, *names: str) -> Insert:
    """Return a statement that inserts rows bound as an array per column.

    Rows are inserted, and locked, in the order of the arrays. Binding a list per column is cheap, whereas SQLAlchemy
    would expand parameters for each row.
    """
    arrays = [cast(bindparam(name, type_=ARRAY(table.c[name].type)), ARRAY(table.c[name].type)) for name in names]
    rows = func.unnest(*arrays).table_valued(*names).render_derived(name="new")
    return insert(table).from_select(names, select(*rows.c))


@cache
def _insert_missing(table: Table, *names: str) -> Insert:
    return _insert_into(table, *names).on_conflict_do_nothing()


@cache
def _upsert_into(table: Table) -> Insert:
    statement = _insert_into(table, *table.columns.keys())
    return statement.on_conflict_do_update(
        index_elements=[column.name for column in table.primary_key],
        set_={
            column.name: _merged(column, statement.excluded[column.name])
            for column in table.columns
            if not column.primary_key
        },
    )


def _merged(stored: Column[Any], new: ColumnElement[Any]) -> ColumnElement[Any]:
    if stored is followed.c.first_followed_at_ms:
        return func.least(stored, new)
    if stored.table is followed and stored.server_default is None:
        # a list stays with the first user who clicked it: any event may name it
        return stored
    # only counts have a default
    return new if stored.server_default is None else stored + new


def _read_positions(connection: Connection, sources: Sequence[TopicPartition], *, lock: bool) -> Positions:
    statement = (
        select(positions)
        .where(tuple_(positions.c.topic, positions.c.partition).in_([tuple(source) for source in sources]))
        .order_by(positions.c.topic, positions.c.partition)
    )
    rows = connection.execute(statement.with_for_update() if lock else statement)
    return {TopicPartition(row.topic, row.partition): row.next_offset for row in rows if row.next_offset is not None}


def _decode_user(first_day: date | None, last_day: date | None, memory: bytes | None) -> UserRetention:
    user = UserRetention(_day(first_day), _day(last_day))
    if memory is not None:
        recent_ids, lists = _decode_memory(memory)
        user.recent_ids = {(kind, partition): ids for kind, partition, ids in recent_ids}
        user.lists = [RememberedList(list_id, made_ms, frozenset(items)) for list_id, made_ms, items in lists]
    return user


def _decode_memory(memory: bytes) -> tuple[list[tuple[int, int, list[int]]], list[tuple[str, int, list[int]]]]:
    try:
        number, recent_ids, lists = _memory_decoder.decode(memory)
    except msgspec.DecodeError as error:
        raise StreamrecError(f"the memory of a user in PostgreSQL cannot be read: {error}") from error
    if number != FORMAT:
        raise StreamrecError(f"the memory of a user in PostgreSQL has format {number}, this release reads {FORMAT}")
    return recent_ids, lists


def _encode_memory(user: UserRetention) -> bytes:
    return _encoder.encode(
        (
            FORMAT,
            [(*source, ids) for source, ids in user.recent_ids.items()],
            [(made.list_id, made.event_time_ms, list(made.items)) for made in user.lists],
        )
    )


def _date(day: int | None) -> date | None:
    return None if day is None else _EPOCH + timedelta(days=day)


def _day(value: date | None) -> int | None:
    return None if value is None else (value - _EPOCH).days
