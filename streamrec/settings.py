"""All settings, read once from the environment (`STREAMREC_*`) by :meth:`Settings.from_env`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamrec.environment import ENV_PREFIX, check_names, find_zone
from streamrec.errors import SettingsError, UsageError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


KINDS_OF_KEYS = frozenset({"interest", "lists", "position", "rec", "topic"})
"""What keys in Redis begin with where the installation has no name."""


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where Kafka is and how to get in; see the settings `kafka` and `kafka_*` for each field."""

    bootstrap: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None
    installation: str = ""

    def on_broker(self, name: str) -> str:
        """Return the name that a topic or a consumer group of this installation has on the broker.

        Examples
        --------
        >>> KafkaAccess("localhost:9092", installation="shop2").on_broker("clicks")
        'shop2.clicks'
        """
        return f"{self.installation}.{name}" if self.installation else name

    def own_name(self, name: str) -> str | None:
        """Return the topic or group of this installation that has a name on the broker, `None` if it is another's.

        Without an installation every name on the broker is taken as it is.

        Examples
        --------
        >>> KafkaAccess("localhost:9092", installation="shop2").own_name("shop2.clicks")
        'clicks'
        """
        prefix = self.on_broker("")
        return name.removeprefix(prefix) if name.startswith(prefix) else None


class Settings(BaseSettings):
    """What an operator can set; every default suits one small machine.

    A field `redis_url` is read from `STREAMREC_REDIS_URL`. The three addresses have no default:
    `streamrec up` and `streamrec demo` start a local server for each one that is not set.
    """

    # an empty variable counts as one that is not set, which is how Compose hands an optional one on
    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    # where the servers are
    kafka: str | None = Field(None, description="Kafka bootstrap servers.", examples=["localhost:9092"])
    redis_url: SecretStr | None = Field(
        None,
        description="Redis or Valkey; `rediss://USER:PASSWORD@HOST:PORT/0?ssl_ca_certs=FILE` for TLS and an ACL user.",
        examples=["redis://localhost:6379/0"],
    )
    postgres_url: SecretStr | None = Field(
        None,
        description="PostgreSQL; `?sslmode=verify-full&sslrootcert=FILE` for TLS.",
        examples=["postgresql://streamrec:secret@localhost:5432/streamrec"],
    )
    data_dir: Path = Field(
        Path("~/.local/share/streamrec"),
        description="Where the local servers and the trainer's checkpoints live.",
        examples=["/var/lib/streamrec"],
    )

    installation: str = Field(
        "",
        pattern="^([a-z][a-z0-9_]{0,31})?$",
        description="Name of this installation where several share a broker, a Redis or a PostgreSQL database: it "
        "prefixes topics, consumer groups and Redis keys, and names the schema of the tables.",
        examples=["shop2"],
    )

    # how Kafka lets us in; of no use without an address in `kafka`
    kafka_security_protocol: SecurityProtocol = Field(
        "PLAINTEXT",
        description="Whether Kafka speaks TLS (SSL) and asks for a login (SASL).",
        examples=["SASL_SSL"],
    )
    kafka_sasl_mechanism: SaslMechanism = Field(
        "SCRAM-SHA-512", description="How Kafka checks the password.", examples=["PLAIN"]
    )
    kafka_username: str | None = Field(None, description="User of Kafka, with a SASL protocol.", examples=["streamrec"])
    kafka_password: SecretStr | None = Field(
        None, description="Password of that user.", examples=["a-long-random-password"]
    )
    kafka_ca_file: Path | None = Field(
        None,
        description="Certificates that sign the brokers' ones, PEM; without it those of the system.",
        examples=["/etc/streamrec/kafka-ca.pem"],
    )
    kafka_certificate_file: Path | None = Field(
        None, description="Our own certificate, PEM, if brokers ask for one.", examples=["/etc/streamrec/client.pem"]
    )
    kafka_key_file: Path | None = Field(
        None, description="The private key of our certificate, PEM.", examples=["/etc/streamrec/client.key"]
    )
    kafka_key_password: SecretStr | None = Field(
        None, description="Password of that key, if it has one.", examples=["another-random-password"]
    )

    # topics
    partitions: int = Field(4, ge=1, le=1024, description="Partitions of every topic that is created.", examples=["32"])
    replication: int = Field(1, ge=1, le=5, description="Replicas of every topic that is created.", examples=["3"])

    # interest state
    sequence_length: int = Field(
        50, ge=2, le=1000, description="Newest events kept in a user's sequence.", examples=["50"]
    )
    state_ttl_days: int = Field(
        180, ge=1, description="An interest state is dropped after so many days without an event.", examples=["180"]
    )
    dead_letter_limit: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the last 1,000 records that may be refused before `interests` pauses; 1 for no limit.",
        examples=["1"],
    )

    # lists
    top_k: int = Field(100, ge=1, le=1000, description="Items in a list.", examples=["100"])
    hide_seen: bool = Field(
        False,
        description="Leave out items that the user has had, as news does: those of the sequence, and of older events "
        "200 items, purchases first, then the latest clicks. Lists then live as long as interest states do. Set it for "
        "`interests`, `trainer` and `recall` alike; older events are remembered from then on. Without it the model "
        "learns whether people come back to things.",
        examples=["true"],
    )
    list_ttl_days: int = Field(
        30, ge=1, description="A list is dropped after so many days without an event of its user.", examples=["30"]
    )
    experiment: str = Field("default", description="Name that seeds the assignment of arms.", examples=["2026-q1"])
    control_share: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of users in the control arm, which gets popular items only.",
        examples=["0.1"],
    )
    follow_window_minutes: int = Field(
        30, ge=1, description="An event without a list id follows the user's list for so long.", examples=["30"]
    )

    # reports
    time_zone: str = Field(
        "UTC",
        description="Time zone of the days of retention, an IANA name; days that are stored keep theirs.",
        examples=["Europe/Berlin"],
    )

    # model
    model_device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the sequence model trains; lists are made on the CPU.", examples=["cpu"]
    )
    embedding_dim: int = Field(64, ge=8, le=512, description="Width of the sequence model.", examples=["128"])
    admit_after: int = Field(
        1,
        ge=1,
        description="Events of an item before its row learns; content and counts stand in until then.",
        examples=["3"],
    )
    micro_batch_events: int = Field(64, ge=1, description="New events that trigger a training step.", examples=["256"])
    micro_batch_age_s: float = Field(
        1.0, gt=0, description="Age of the oldest waiting event that triggers a training step.", examples=["1.0"]
    )
    checkpoint_interval_s: float = Field(
        30.0, gt=0, description="Seconds between checkpoints while events arrive.", examples=["30"]
    )

    # what can be watched
    metrics_host: str = Field(
        "127.0.0.1", description="Address that workers show their metrics on.", examples=["10.0.0.5"]
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Port of it; 0 takes a free one, which the monitor finds through the data directory.",
        examples=["9464"],
    )
    metrics_targets: str = Field(
        "",
        pattern=r"^(\s*[\w.-]+:\d+\s*(,|$))*$",
        description="Where the monitor finds the metrics of workers on other machines, apart by commas.",
        examples=["interests:9464,trainer:9464"],
    )
    monitor_host: str = Field(
        "127.0.0.1",
        description="Address of the monitor's page; one that others can reach needs a token.",
        examples=["10.0.0.5"],
    )
    monitor_port: int = Field(
        8474, ge=0, le=65_535, description="Port of the monitor's page; 0 takes a free one.", examples=["8474"]
    )
    monitor_token: SecretStr | None = Field(
        None,
        description="Who brings it may see the page; needed where others can reach it.",
        examples=["a-long-secret"],
    )
    lag_limit_s: float = Field(
        10.0,
        gt=0,
        description="The pipeline keeps up while the oldest record that waits is younger than this.",
        examples=["60"],
    )

    # logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe log line that is written.", examples=["DEBUG"]
    )

    @field_validator("installation")
    @classmethod
    def _is_no_kind_of_key(cls, name: str) -> str:
        """Refuse a name that would give keys in Redis the names of keys of an installation without one."""
        if name in KINDS_OF_KEYS:
            raise ValueError(f"{name} is the beginning of streamrec's own keys in Redis: choose another name")
        return name

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        find_zone(name)
        return name

    @property
    def zone(self) -> tzinfo:
        """The time zone of reports."""
        return find_zone(self.time_zone)

    @classmethod
    def from_env(cls, **overrides: object) -> Self:
        """Read the environment.

        Raises
        ------
        SettingsError
            If a variable has a wrong value, or sets nothing; the message names it and shows one that works.
        """
        cls.check_environment()
        try:
            settings = cls(**overrides)  # type: ignore[arg-type]  # pydantic checks them
            settings.data_dir.expanduser()
        except ValidationError as error:
            raise SettingsError(_explain(cls, error)) from None
        except RuntimeError:  # it is `~`, of a user who has no home
            raise SettingsError(f"there is no home directory: set {_example(cls, 'data_dir')}") from None
        return settings

    @classmethod
    def check_environment(cls) -> None:
        """Refuse variables that set nothing, with a `SettingsError` that names the nearest one."""
        check_names(os.environ, [variable_name(field) for field in cls.model_fields])

    @classmethod
    def for_own_servers(cls, **overrides: object) -> Self:
        """Read the environment for servers that are started for this and go with it.

        Raises
        ------
        UsageError
            If an address is set: nobody wants made-up events there.
        """
        settings = cls.from_env(**{"installation": ""} | overrides)
        if found := settings.addresses():
            names = ", ".join(map(variable_name, found))
            raise UsageError(f"this starts servers of its own and writes made-up events: unset {names}")
        return settings

    @property
    def list_lifetime_days(self) -> int:
        """How long a list is kept: where lists hide what a user has had, as long as that is known.

        A user without a list gets the list of unknown users, which hides nothing.
        """
        return max(self.list_ttl_days, self.state_ttl_days) if self.hide_seen else self.list_ttl_days

    def with_addresses(self, addresses: Mapping[str, str]) -> Self:
        """Return these settings with addresses (`kafka`, `redis_url`, `postgres_url`) filled in where none is set."""
        missing = {field: address for field, address in addresses.items() if getattr(self, field) is None}
        return type(self)(**self.model_dump() | missing)

    def addresses(self) -> dict[str, str]:
        """Return the addresses that are set, by field."""
        found = {"kafka": self.kafka, "redis_url": _reveal(self.redis_url), "postgres_url": _reveal(self.postgres_url)}
        return {field: address for field, address in found.items() if address}

    def environment(self) -> dict[str, str]:
        """Return the variables that make another process read the same settings."""
        return {
            variable_name(field): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for field, value in self
            if value is not None
        }

    @property
    def checkpoint_dir(self) -> Path:
        """Where the trainer keeps its checkpoints."""
        return self.data_dir.expanduser() / self.installation / "model"

    def require_kafka(self) -> KafkaAccess:
        """Return where Kafka is and how to get in.

        Raises
        ------
        SettingsError
            If the address is missing, or settings of the login contradict each other; the message names the variable.
        """
        access = KafkaAccess(
            self._require("kafka", self.kafka),
            self.kafka_security_protocol,
            self.kafka_sasl_mechanism,
            self.kafka_username,
            self.kafka_password,
            self.kafka_ca_file,
            self.kafka_certificate_file,
            self.kafka_key_file,
            self.kafka_key_password,
            self.installation,
        )
        self._check(access)
        return access

    def require_redis_url(self) -> str:
        """Return the address of Redis, or raise a `SettingsError` that names the variable."""
        return self._require("redis_url", _reveal(self.redis_url))

    def require_postgres_url(self) -> str:
        """Return the address of PostgreSQL, or raise a `SettingsError` that names the variable."""
        return self._require("postgres_url", _reveal(self.postgres_url))

    def _check(self, access: KafkaAccess) -> None:
        """Refuse a login or a certificate that would silently not be used, and one that is missing."""
        protocol = f"with {variable_name('kafka_security_protocol')}={access.security_protocol}"
        for field, is_set in (("kafka_username", access.username), ("kafka_password", access.password)):
            if access.security_protocol.startswith("SASL") and not is_set:
                raise SettingsError(f"{variable_name(field)} is not set: it is needed {protocol}")
            if is_set and not access.security_protocol.startswith("SASL"):
                raise SettingsError(f"{variable_name(field)} is set and would not be used {protocol}")
        if bool(access.certificate_file) != bool(access.key_file):
            missing = "kafka_key_file" if access.certificate_file else "kafka_certificate_file"
            raise SettingsError(f"{variable_name(missing)} is not set: a certificate and its key go together")
        for field in ("kafka_ca_file", "kafka_certificate_file"):
            if getattr(self, field) and not access.security_protocol.endswith("SSL"):
                raise SettingsError(f"{variable_name(field)} is set and would not be used {protocol}")

    def _require(self, field: str, value: str | None) -> str:
        if value:
            return value
        raise SettingsError(
            f"{variable_name(field)} is not set (example: {_example(type(self), field)}); "
            "`streamrec up` starts local servers and needs none"
        )


def variable_name(field: str) -> str:
    """Return the environment variable that sets a field.

    Examples
    --------
    >>> variable_name("redis_url")
    'STREAMREC_REDIS_URL'
    """
    return f"{ENV_PREFIX}{field.upper()}"


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _example(settings: type[Settings], field: str) -> str:
    examples = settings.model_fields[field].examples or [""]
    return f"{variable_name(field)}={examples[0]}"


def _explain(settings: type[Settings], error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        field = str(fault["loc"][0])
        if field not in settings.model_fields:
            lines.append(f"{field}: no such setting")
            continue
        message = fault["msg"].removeprefix("Value error, ")
        lines.append(
            f"{variable_name(field)}: {message[0].lower()}{message[1:]} (example: {_example(settings, field)})"
        )
    return "; ".join(lines)
