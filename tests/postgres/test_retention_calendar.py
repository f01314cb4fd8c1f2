"""Days of a time zone, and days that are not over yet."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from alembic import command
from alembic.config import Config
from builders import batch, part
from doubles import MemoryPublisher
from sqlalchemy import text
from sqlalchemy.schema import CreateSchema

from streamrec.adapters.postgres import PostgresRetentionStore, RetentionReader
from streamrec.adapters.postgres import migrate as migrations
from streamrec.adapters.postgres.engine import connect
from streamrec.cli.retention import retention_tables
from streamrec.errors import StreamrecError
from streamrec.service.batch import TopicPartition
from streamrec.service.record_retention import RecordRetention

BERLIN = "Europe/Berlin"
CLICKS = TopicPartition("clicks", 0)
PROCEDURES = Path(__file__).parents[2] / "docs" / "procedures.md"


def click(user_id, at):
    at_ms = int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() * 1_000)
    return f'{{"user_id":"{user_id}","item_id":"a","event_time_ms":{at_ms}}}'.encode()


def record(url, clicks, *, time_zone="UTC", start=0):
    store = PostgresRetentionStore(url, time_zone=time_zone)
    store.positions([CLICKS])  # as a worker does when it starts
    zone = UTC if time_zone == "UTC" else ZoneInfo(time_zone)
    RecordRetention(store, MemoryPublisher(), arm_of=lambda _: "personal", follow_window_minutes=30, zone=zone).handle(
        batch(part("clicks", clicks, start=start))
    )


EVENING = [click("u", "2024-01-01T23:30:00"), click("u", "2024-01-02T00:30:00")]


@pytest.mark.parametrize(
    ("time_zone", "days"),
    [("UTC", ["2024-01-01", "2024-01-02"]), (BERLIN, ["2024-01-02"]), ("America/New_York", ["2024-01-01"])],
)
def test_days_are_those_of_the_time_zone_which_every_report_names(postgres_url, time_zone, days):
    record(postgres_url, EVENING, time_zone=time_zone)
    report = RetentionReader(postgres_url).report()

    assert [day.day for day in report.days] == days
    assert report.time_zone == time_zone
    assert time_zone in str(retention_tables(report)[0].title)


def test_stored_days_are_never_mixed_with_those_of_another_zone(postgres_url):
    record(postgres_url, EVENING)
    with pytest.raises(StreamrecError, match=f"time zone UTC, and STREAMREC_TIME_ZONE is {BERLIN}: set it back"):
        PostgresRetentionStore(postgres_url, time_zone=BERLIN).positions([CLICKS])

    assert PostgresRetentionStore(postgres_url).positions([CLICKS]) == {CLICKS: 2}
    assert PostgresRetentionStore(postgres_url, time_zone="UTC").positions([CLICKS]) == {CLICKS: 2}


def test_the_procedure_for_another_time_zone_counts_all_days_again(postgres_url):
    record(postgres_url, EVENING)
    (statement,) = re.findall(r"```sql\n\s*(.*?)\n\s*```", PROCEDURES.read_text(), re.DOTALL)
    engine = connect(postgres_url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
    record(postgres_url, EVENING, time_zone=BERLIN)

    report = RetentionReader(postgres_url).report()
    assert ([day.day for day in report.days], report.time_zone) == (["2024-01-02"], BERLIN)


def test_days_from_before_there_was_a_setting_are_those_of_utc(postgres_url):
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent / "migrations"))
    engine = connect(postgres_url, installation="older")
    with engine.begin() as connection:
        connection.execute(CreateSchema("older"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.execute(text("INSERT INTO retention_user (user_id, arm) VALUES ('u', 'personal')"))
    engine.dispose()
    migrations.migrate(postgres_url, installation="older")

    with pytest.raises(StreamrecError, match="time zone UTC"):
        PostgresRetentionStore(postgres_url, installation="older", time_zone=BERLIN).positions([CLICKS])


def test_one_event_of_another_year_does_not_end_days_on_which_nobody_could_come_back(postgres_url):
    clicks = [click(f"u{n}", f"2023-03-{day:02}T12:00:00") for n in range(3) for day in (1, 2, 9)]
    clicks += [click("u9", "2023-03-09T12:00:00")]
    record(postgres_url, clicks)
    before = RetentionReader(postgres_url).report().days
    record(postgres_url, [click("u9", "2024-11-29T12:00:00"), click("u8", "2019-01-01T12:00:00")], start=len(clicks))
    after = {day.day: day for day in RetentionReader(postgres_url).report().days}

    assert [(day.day, day.day_1, day.day_7, day.day_30) for day in before] == [
        ("2023-03-01", 1.0, 0.0, None),
        ("2023-03-02", None, None, None),
        ("2023-03-09", None, None, None),
    ]
    assert [after[day.day] for day in before[:2]] == before[:2]
    assert (after["2023-03-09"].day_1, after["2023-03-09"].rolling_30) == (None, None)
    assert (after["2019-01-01"].day_1, after["2019-01-01"].day_30) == (None, None)


def test_a_cohorts_day_counts_when_it_is_over(postgres_url):
    record(postgres_url, [click("a", "2024-01-01T10:00:00"), click("b", "2024-01-02T10:00:00")])
    assert RetentionReader(postgres_url).report().days[0].day_1 is None

    record(postgres_url, [click("b", "2024-01-03T00:00:00")], start=2)
    assert RetentionReader(postgres_url).report().days[0].day_1 == 0.0
