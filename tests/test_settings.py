"""A wrong setting is named with one that works; a secret is never shown."""

from __future__ import annotations

import pickle

import pytest
from pydantic import SecretStr

from streamrec import settings_table
from streamrec.adapters.redis.keys import Keys
from streamrec.environment import KINDS_OF_KEYS, variable_name
from streamrec.errors import SettingsError, UsageError
from streamrec.service.batch import TopicPartition
from streamrec.settings import Settings

SECRET = "s3cr3t-word"
URLS = {"redis_url": f"redis://:{SECRET}@h:1/0", "postgres_url": f"postgresql://me:{SECRET}@h:1/db"}
FIELDS = list(Settings.model_fields)


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch):
    for field in FIELDS:
        monkeypatch.delenv(variable_name(field), raising=False)


def test_defaults_need_no_environment():
    settings = Settings.from_env()
    assert (settings.kafka, settings.redis_url, settings.postgres_url) == (None, None, None)
    assert settings.top_k == 100


def test_environment_is_read(monkeypatch):
    monkeypatch.setenv("STREAMREC_TOP_K", "7")
    monkeypatch.setenv("STREAMREC_HIDE_SEEN", "true")
    monkeypatch.setenv("STREAMREC_REDIS_URL", URLS["redis_url"])
    settings = Settings.from_env()
    assert (settings.top_k, settings.hide_seen) == (7, True)
    assert settings.require_redis_url() == URLS["redis_url"]


def test_argument_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("STREAMREC_TOP_K", "7")
    assert Settings.from_env(top_k=9).top_k == 9


@pytest.mark.parametrize("field", FIELDS)
def test_every_setting_is_described_and_its_example_works(field, monkeypatch):
    described = Settings.model_fields[field]
    assert described.description
    (example,) = described.examples
    monkeypatch.setenv(variable_name(field), example)
    Settings.from_env()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STREAMREC_TOP_K", "many"),
        ("STREAMREC_TOP_K", "0"),
        ("STREAMREC_PARTITIONS", "-1"),
        ("STREAMREC_MODEL_DEVICE", "abacus"),
        ("STREAMREC_HIDE_SEEN", "perhaps"),
        ("STREAMREC_CONTROL_SHARE", "0.9"),
        ("STREAMREC_MICRO_BATCH_AGE_S", "0"),
        ("STREAMREC_LOG_LEVEL", "LOUD"),
        ("STREAMREC_METRICS_TARGETS", "interests:9464,trainer"),
    ],
)
def test_error_names_the_variable_and_an_example_that_works(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as error:
        Settings.from_env()
    message = str(error.value)
    assert message.startswith(f"{variable}: ")
    name, example = message.split("(example: ")[1].rstrip(")").split("=")
    assert name == variable
    monkeypatch.setenv(variable, example)
    Settings.from_env()


def test_all_wrong_variables_are_named_at_once(monkeypatch):
    monkeypatch.setenv("STREAMREC_TOP_K", "0")
    monkeypatch.setenv("STREAMREC_PARTITIONS", "0")
    with pytest.raises(SettingsError, match=r"STREAMREC_PARTITIONS.*STREAMREC_TOP_K"):
        Settings.from_env()


def test_unknown_setting_is_refused():
    with pytest.raises(SettingsError, match="colour: no such setting"):
        Settings.from_env(colour="red")


@pytest.mark.parametrize("field", ["kafka", "redis_url", "postgres_url"])
def test_missing_address_is_named_with_an_example(field):
    with pytest.raises(SettingsError, match=rf"{variable_name(field)} is not set \(example: {variable_name(field)}="):
        getattr(Settings(), f"require_{field}")()


@pytest.mark.parametrize(
    "render", [repr, str, "{}".format, Settings.model_dump_json], ids=["repr", "str", "format", "json"]
)
def test_secrets_are_never_shown(render):
    assert SECRET not in render(Settings(**URLS))


@pytest.mark.parametrize("field", URLS)
def test_no_error_shows_a_secret(field, monkeypatch):
    monkeypatch.setenv(variable_name(field), URLS[field])
    monkeypatch.setenv("STREAMREC_TOP_K", SECRET)
    with pytest.raises(SettingsError) as error:
        Settings.from_env()
    assert SECRET not in str(error.value)
    assert SECRET not in repr(error.value)
    assert error.value.__cause__ is None


def test_every_address_with_a_password_is_a_secret():
    assert all(isinstance(getattr(Settings(**URLS), field), SecretStr) for field in URLS)


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().top_k = 5


def test_addresses_are_filled_in_where_none_is_set():
    settings = Settings(kafka="mine:1").with_addresses({"kafka": "local:1", **URLS})
    assert settings.require_kafka().bootstrap == "mine:1"
    assert settings.require_redis_url() == URLS["redis_url"]
    assert SECRET not in repr(settings)


def test_another_process_reads_the_same_settings_from_the_environment(monkeypatch):
    settings = Settings(kafka="mine:1", top_k=3, hide_seen=True, control_share=0.25, **URLS)
    for variable, value in settings.environment().items():
        monkeypatch.setenv(variable, value)
    assert Settings.from_env() == settings
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_made_up_events_never_go_to_servers_that_somebody_named(monkeypatch, tmp_path):
    monkeypatch.setenv("STREAMREC_KAFKA", "kafka:9092")
    with pytest.raises(UsageError, match="unset STREAMREC_KAFKA"):
        Settings.for_own_servers(data_dir=tmp_path)
    monkeypatch.delenv("STREAMREC_KAFKA")
    assert Settings.for_own_servers(data_dir=tmp_path).data_dir == tmp_path


@pytest.mark.parametrize(
    ("misspelt", "nearest"),
    [
        ("STREAMREC_TOPK", "STREAMREC_TOP_K"),
        ("STREAMREC_REDISURL", "STREAMREC_REDIS_URL"),
        ("STREAMREC_HIDE_SEENS", "STREAMREC_HIDE_SEEN"),
        ("streamrec_partition", "STREAMREC_PARTITIONS"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_names_the_nearest(misspelt, nearest, monkeypatch):
    monkeypatch.setenv(misspelt, "7")
    with pytest.raises(SettingsError, match=rf"{misspelt}: no such setting; the nearest one is {nearest}$"):
        Settings.from_env()


def test_a_misspelt_variable_does_not_show_its_value(monkeypatch):
    monkeypatch.setenv("STREAMREC_REDISURL", URLS["redis_url"])
    with pytest.raises(SettingsError) as error:
        Settings.from_env()
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("field", ["kafka", "redis_url", "experiment"])
def test_a_value_that_is_no_text_is_named_and_not_shown(field, monkeypatch):
    monkeypatch.setenv(variable_name(field), f"{SECRET}\udcff")
    with pytest.raises(SettingsError, match=f"^{variable_name(field)}: the value is not UTF-8$"):
        Settings.from_env()


def test_what_is_no_setting_of_ours_is_left_alone(monkeypatch):
    monkeypatch.setenv("STREAMREC_MADE_UP", "")  # as Compose hands on what is not set
    monkeypatch.setenv("STREAMRECORDER", "1")
    for name, value in {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT": "tcp://10.0.0.1:80",
        "PORT_80_TCP": "tcp://10.0.0.1:80",
        "PORT_80_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(f"STREAMREC_PAGE_{name}", value)  # of a service in Kubernetes
    Settings.from_env()


def test_a_user_without_a_home_is_told_which_setting_to_make(monkeypatch):
    def no_home(_path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.expanduser", no_home)
    with pytest.raises(SettingsError, match="no home directory: set STREAMREC_DATA_DIR="):
        Settings.from_env()


@pytest.mark.parametrize(
    ("name", "nearest"), [("Europe/Berln", "Europe/Berlin"), ("../etc/passwd", ""), ("Europe", "")]
)
def test_a_time_zone_is_an_iana_name(name, nearest, monkeypatch):
    monkeypatch.setenv("STREAMREC_TIME_ZONE", name)
    with pytest.raises(SettingsError, match=rf"STREAMREC_TIME_ZONE: no time zone; the nearest name is {nearest}"):
        Settings.from_env()


@pytest.mark.parametrize("name", ["rec", "interest"])
def test_an_installation_is_not_named_like_a_kind_of_key(monkeypatch, name):
    monkeypatch.setenv("STREAMREC_INSTALLATION", name)
    with pytest.raises(SettingsError, match=r"STREAMREC_INSTALLATION: .*another name"):
        Settings.from_env()


def test_every_kind_of_key_in_redis_is_refused_as_the_name_of_an_installation():
    keys, source = Keys(), TopicPartition("clicks", 0)
    kinds = [keys.state("u"), keys.topk("u"), keys.position("w", source), keys.topic("w", "t"), keys.lists("short")]
    assert {key.partition(":")[0] for key in kinds} == KINDS_OF_KEYS


def test_the_table_in_the_docs_is_current(tmp_path, capsys):
    assert settings_table.main(["--check"]) == 0

    outdated = tmp_path / "settings.md"
    outdated.write_text("")
    assert settings_table.main(["--check", "--file", str(outdated)]) == 1
    assert "make settings" in capsys.readouterr().err
    assert settings_table.main(["--file", str(outdated)]) == 0
    assert outdated.read_text() == settings_table.FILE.read_text()


def test_every_setting_has_a_row_with_its_default_and_an_example():
    rows = [line.split(" | ") for line in settings_table.table().splitlines() if line.startswith("| `STREAMREC_")]
    assert [row[0] for row in rows] == [f"| `{variable_name(field)}`" for field in Settings.model_fields]
    assert all(len(row) == 5 for row in rows)
    defaults = {row[0].strip("| `"): row[2] for row in rows}
    assert defaults["STREAMREC_HIDE_SEEN"] == "`false`"
    assert defaults["STREAMREC_KAFKA"] == ""
