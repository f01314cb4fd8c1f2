"""All settings, read once from the environment (`STREAMREC_*`) by :meth:`Settings.from_env`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import tzinfo
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from streamrec.domain.event_context import read_context_keys
from streamrec.domain.feedback import DEFAULT_WEIGHTS, Weights, read_weights
from streamrec.domain.interest import FoldRules
from streamrec.environment import ENV_PREFIX, check_names, find_zone, variable_name
from streamrec.errors import SettingsError, UsageError
from streamrec.kafka_settings import KafkaSettings
from streamrec.settings_errors import example, explain


class Settings(KafkaSettings):
    """Settings of the operator; defaults suit one small machine.

    A field `redis_url` is read from `STREAMREC_REDIS_URL`. The three addresses have no default:
    `streamrec up` and `streamrec demo` start a local server for each one that is not set.
    """

    # an empty variable counts as not set, as Compose passes unset optional ones
    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    # where the servers are
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
        description="Directory of the local servers' data and the trainer's checkpoints.",
        examples=["/var/lib/streamrec"],
    )

    # topics
    partitions: int = Field(4, ge=1, le=1024, description="Partitions of topics that are created.", examples=["32"])
    replication: int = Field(1, ge=1, le=5, description="Replicas of topics that are created.", examples=["3"])

    # interest state
    sequence_length: int = Field(
        50, ge=2, le=1000, description="Number of latest events kept in a user's sequence.", examples=["50"]
    )
    state_ttl_days: int = Field(
        180, ge=1, description="Days without an event after which a user's interest state expires.", examples=["180"]
    )
    event_weights: str = Field(
        "",
        description="Weights of kinds of events in a user's interests, as far as other than by default: "
        + ", ".join(f"{kind.name.lower()} {weight:g}" for kind, weight in DEFAULT_WEIGHTS.items())
        + ". A negative weight means that the user did not like the item: it is left out of the user's lists, and the "
        "model does not learn to list it. Set it for `interests` and `recall` alike.",
        examples=["like=2,return=1"],
    )
    context_keys: str = Field(
        "device,os,country,region,referrer",
        description="Keys of events' `context` that the model uses, at most six, separated by commas. `hour` and "
        "`weekday` are those of the event's time, in UTC, unless the context has them. Set it for `interests`.",
        examples=["device,country,hour"],
    )
    dead_letter_limit: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the last 1,000 records that may be refused before `interests` pauses; 1 for no limit.",
        examples=["1"],
    )

    # lists
    top_k: int = Field(100, ge=1, le=1000, description="Number of items in a list.", examples=["100"])
    hide_seen: bool = Field(
        False,
        description="Leave out items that the user has already clicked or bought, as for news: those in the sequence, "
        "and up to 200 from older events, purchases first, then the latest clicks. Lists then live as long as interest "
        "states do. Set it for `interests`, `trainer` and `recall` alike; older events are remembered from then on. "
        "Without it the model learns whether users return to items.",
        examples=["true"],
    )
    list_ttl_days: int = Field(
        30,
        ge=1,
        description="Days without an event after which a user's list expires; one that leaves items out lives as long "
        "as the interest state.",
        examples=["30"],
    )
    experiment: str = Field(
        "default", description="Name of the experiment; seeds the assignment of arms.", examples=["2026-q1"]
    )
    control_share: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of users in the control arm, who get popular items only.",
        examples=["0.1"],
    )
    follow_window_minutes: int = Field(
        30,
        ge=1,
        description="Minutes for which an event without a list id counts for the user's list.",
        examples=["30"],
    )

    # reports
    time_zone: str = Field(
        "UTC",
        description="Time zone (IANA name) of days in retention reports; stored days keep their own.",
        examples=["Europe/Berlin"],
    )

    # model
    model_device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Device that the sequence model trains on; lists are made on the CPU.", examples=["cpu"]
    )
    embedding_dim: int = Field(64, ge=8, le=512, description="Width of the sequence model.", examples=["128"])
    admit_after: int = Field(
        1,
        ge=1,
        description="Events of an item before its embedding is trained; until then content and counts stand in.",
        examples=["3"],
    )
    channels: str = Field(
        "neighbour,session,category,title,popular,context,model",
        pattern="^[a-z][a-z0-9_-]*(,[a-z][a-z0-9_-]*)*$",
        description="Recall channels of the model, separated by commas; the trainer decides for every recall worker.",
        examples=["neighbour,popular,model"],
    )
    micro_batch_events: int = Field(64, ge=1, description="New events that trigger a training step.", examples=["256"])
    micro_batch_age_s: float = Field(
        1.0, gt=0, description="Age of the oldest waiting event that triggers a training step.", examples=["1.0"]
    )
    checkpoint_interval_s: float = Field(
        30.0, gt=0, description="Seconds between checkpoints while events arrive.", examples=["30"]
    )

    # monitoring
    metrics_host: str = Field(
        "127.0.0.1", description="Address that workers serve their metrics on.", examples=["10.0.0.5"]
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Port of the metrics; 0 takes a free one, which the monitor finds through the data directory.",
        examples=["9464"],
    )
    metrics_targets: str = Field(
        "",
        pattern=r"^(\s*[\w.-]+:\d+\s*(,|$))*$",
        description="Metrics endpoints of workers on other machines, separated by commas.",
        examples=["interests:9464,trainer:9464"],
    )
    monitor_host: str = Field(
        "127.0.0.1",
        description="Address of the dashboard; one that other machines can reach requires a token.",
        examples=["10.0.0.5"],
    )
    monitor_port: int = Field(
        8474, ge=0, le=65_535, description="Port of the dashboard; 0 takes a free one.", examples=["8474"]
    )
    monitor_token: SecretStr | None = Field(
        None,
        description="Bearer token for the dashboard; required where other machines can reach it.",
        examples=["a-long-secret"],
    )
    lag_limit_s: float = Field(
        10.0,
        gt=0,
        description="Age of the oldest waiting record, in seconds, above which the pipeline is unhealthy.",
        examples=["60"],
    )

    # logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Minimum severity of log lines.", examples=["DEBUG"]
    )

    @field_validator("time_zone", "event_weights", "context_keys")
    @classmethod
    def _is_usable(cls, text: str, field: ValidationInfo) -> str:
        readers: dict[str | None, Callable[[str], object]] = {
            "time_zone": find_zone,
            "event_weights": read_weights,
            "context_keys": read_context_keys,
        }
        readers[field.field_name](text)
        return text

    @property
    def weights(self) -> Weights:
        """The weight of each kind of event."""
        return read_weights(self.event_weights)

    @property
    def fold_rules(self) -> FoldRules:
        """What interest states keep of events."""
        keys = read_context_keys(self.context_keys)
        return FoldRules(self.sequence_length, self.hide_seen, self.weights, keys)

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
            If a variable is invalid or unknown; the message names it with a valid example.
        """
        cls.check_environment()
        try:
            settings = cls(**overrides)  # type: ignore[arg-type]  # pydantic checks them
            settings.data_dir.expanduser()
        except ValidationError as error:
            raise SettingsError(explain(error, cls.model_fields)) from None
        except RuntimeError:  # it is `~`, of a user who has no home
            raise SettingsError(f"no home directory: set {example('data_dir', cls.model_fields)}") from None
        return settings

    @classmethod
    def check_environment(cls) -> None:
        """Reject unknown variables with a `SettingsError` that suggests the closest one."""
        check_names(os.environ, [variable_name(field) for field in cls.model_fields])

    @classmethod
    def for_own_servers(cls, **overrides: object) -> Self:
        """Read the environment for a command with temporary servers.

        Raises
        ------
        UsageError
            If an address is set: simulated events must not be written there.
        """
        settings = cls.from_env(**{"installation": ""} | overrides)
        if found := settings.addresses():
            names = ", ".join(map(variable_name, found))
            raise UsageError(f"this command starts its own servers and writes simulated events: unset {names}")
        return settings

    @property
    def hiding_ttl_days(self) -> int:
        """Days until a list expires that leaves items out: as long as interest states."""
        return max(self.list_ttl_days, self.state_ttl_days)

    def with_addresses(self, addresses: Mapping[str, str]) -> Self:
        """Return these settings with missing addresses (`kafka`, `redis_url`, `postgres_url`) filled in."""
        missing = {field: address for field, address in addresses.items() if getattr(self, field) is None}
        return type(self)(**self.model_dump() | missing)

    def addresses(self) -> dict[str, str]:
        """Return the addresses that are set, by field."""
        found = {"kafka": self.kafka, "redis_url": _reveal(self.redis_url), "postgres_url": _reveal(self.postgres_url)}
        return {field: address for field, address in found.items() if address}

    def environment(self) -> dict[str, str]:
        """Return environment variables for another process with the same settings."""
        return {
            variable_name(field): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for field, value in self
            if value is not None
        }

    @property
    def checkpoint_dir(self) -> Path:
        """Directory of the trainer's checkpoints."""
        return self.data_dir.expanduser() / self.installation / "model"

    def require_redis_url(self) -> str:
        """Return the address of Redis, or raise a `SettingsError` that names the variable."""
        return self._require("redis_url", _reveal(self.redis_url))

    def require_postgres_url(self) -> str:
        """Return the address of PostgreSQL, or raise a `SettingsError` that names the variable."""
        return self._require("postgres_url", _reveal(self.postgres_url))


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
