"""Address, authentication and topic names of Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from streamrec.environment import variable_name
from streamrec.errors import SettingsError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Address and authentication of Kafka; for each field see the settings `kafka` and `kafka_*`."""

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
        """Return the installation's name of a topic or group on the broker, `None` if it belongs to another one.

        Without an installation every name is returned unchanged.

        Examples
        --------
        >>> KafkaAccess("localhost:9092", installation="shop2").own_name("shop2.clicks")
        'clicks'
        """
        prefix = self.on_broker("")
        return name.removeprefix(prefix) if name.startswith(prefix) else None

    def check(self) -> None:
        """Reject credentials that would silently be ignored, and missing ones.

        Raises
        ------
        SettingsError
            If settings contradict each other; the message names the variable.
        """
        protocol = f"with {variable_name('kafka_security_protocol')}={self.security_protocol}"
        for field, is_set in (("kafka_username", self.username), ("kafka_password", self.password)):
            if self.security_protocol.startswith("SASL") and not is_set:
                raise SettingsError(f"{variable_name(field)} is not set, but required {protocol}")
            if is_set and not self.security_protocol.startswith("SASL"):
                raise SettingsError(f"{variable_name(field)} is set and would not be used {protocol}")
        if bool(self.certificate_file) != bool(self.key_file):
            missing = "kafka_key_file" if self.certificate_file else "kafka_certificate_file"
            raise SettingsError(f"{variable_name(missing)} is not set: a certificate and its key must both be set")
        for field in ("kafka_ca_file", "kafka_certificate_file"):
            if getattr(self, field.removeprefix("kafka_")) and not self.security_protocol.endswith("SSL"):
                raise SettingsError(f"{variable_name(field)} is set and would not be used {protocol}")
