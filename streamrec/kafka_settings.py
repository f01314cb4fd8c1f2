"""Settings of Kafka."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from streamrec.environment import check_installation
from streamrec.kafka_access import KafkaAccess, SaslMechanism, SecurityProtocol
from streamrec.settings_errors import missing


class KafkaSettings(BaseSettings):
    """The part of :class:`~streamrec.settings.Settings` that says how to reach Kafka."""

    kafka: str | None = Field(None, description="Kafka bootstrap servers.", examples=["localhost:9092"])

    installation: str = Field(
        "",
        pattern="^([a-z][a-z0-9_]{0,31})?$",
        description="Name of this installation where several share a broker, a Redis or a PostgreSQL database: it "
        "prefixes topics, consumer groups and Redis keys, and names the schema of the tables.",
        examples=["shop2"],
    )

    # Kafka authentication; ignored without an address in `kafka`
    kafka_security_protocol: SecurityProtocol = Field(
        "PLAINTEXT",
        description="Kafka security protocol: TLS (SSL), authentication (SASL), both or none.",
        examples=["SASL_SSL"],
    )
    kafka_sasl_mechanism: SaslMechanism = Field(
        "SCRAM-SHA-512", description="SASL mechanism of Kafka authentication.", examples=["PLAIN"]
    )
    kafka_username: str | None = Field(None, description="Kafka user, with a SASL protocol.", examples=["streamrec"])
    kafka_password: SecretStr | None = Field(None, description="Kafka password.", examples=["a-long-random-password"])
    kafka_ca_file: Path | None = Field(
        None,
        description="CA bundle of the brokers (PEM); the system's by default.",
        examples=["/etc/streamrec/kafka-ca.pem"],
    )
    kafka_certificate_file: Path | None = Field(
        None, description="Client certificate (PEM), if brokers require one.", examples=["/etc/streamrec/client.pem"]
    )
    kafka_key_file: Path | None = Field(
        None, description="Private key of the client certificate (PEM).", examples=["/etc/streamrec/client.key"]
    )
    kafka_key_password: SecretStr | None = Field(
        None, description="Password of the private key, if it has one.", examples=["another-random-password"]
    )

    @field_validator("installation")
    @classmethod
    def _is_name(cls, name: str) -> str:
        check_installation(name)
        return name

    def require_kafka(self) -> KafkaAccess:
        """Return address and authentication of Kafka.

        Raises
        ------
        SettingsError
            If the address is missing, or authentication settings conflict; the message names the variable.
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
        access.check()
        return access

    def _require(self, field: str, value: str | None) -> str:
        if value:
            return value
        raise missing(field, type(self).model_fields)
