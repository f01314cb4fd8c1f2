"""The servers of the session, asking for a login and speaking TLS."""

from __future__ import annotations

import pytest
from secured import PASSWORD, USER, make_certificates, secured_kafka, tls_before
from sqlalchemy import make_url

from streamrec.local.guardian import Guardian
from streamrec.settings import Settings

ACL_RULES = (
    "resetkeys ~interest:* ~rec:* ~rec-default ~position:* ~topic:* ~withdrawn* ~lists:* ~identity resetchannels "
    "-@all +@connection +info +get +set +mget +mset +getrange +eval +evalsha +script|load +zadd +zrem "
    "+zmscore +zrange +zremrangebyscore +zremrangebyrank +zrevrangebyscore +zcard +zcount "
    "+scan +sadd +srem +scard +smembers +smismember +rename +del"
)
"""All that streamrec needs of Redis."""


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def kafka_listeners(tmp_path_factory, certificates):
    """Run a secured broker; return the address of each of its listeners."""
    directory = tmp_path_factory.mktemp("secured-kafka")
    with Guardian() as guardian, secured_kafka(directory, certificates, guardian) as listeners:
        yield listeners


@pytest.fixture
def kafka_settings(kafka_listeners, certificates):
    """Return what makes settings for a way into the broker."""

    def make(protocol, **settings):
        fields = {"kafka": kafka_listeners[protocol], "kafka_security_protocol": protocol}
        if protocol.startswith("SASL"):
            fields |= {"kafka_username": USER, "kafka_password": PASSWORD}
        if protocol.endswith("SSL"):
            fields["kafka_ca_file"] = certificates.ca
        return Settings(**fields | settings)

    return make


@pytest.fixture(scope="session")
def acl_rules():
    """Return what the user of Redis may do."""
    return ACL_RULES


@pytest.fixture
def acl_user(redis_client):
    """Make a user of Redis who may do what streamrec does and nothing else."""
    redis_client.execute_command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", *ACL_RULES.split())
    yield USER
    redis_client.execute_command("ACL", "DELUSER", USER)


@pytest.fixture
def rediss_url(stack, acl_user, certificates):
    """Return Redis behind TLS, for that user."""
    port = int(stack.settings.require_redis_url().rpartition(":")[2].partition("/")[0])
    with tls_before(port, certificates) as secured:
        yield f"rediss://{acl_user}:{PASSWORD}@localhost:{secured}/0?ssl_ca_certs={certificates.ca}"


@pytest.fixture
def tls_postgres_url(postgres_url, certificates):
    """Return a database behind TLS."""
    address = make_url(postgres_url)
    with tls_before(address.port, certificates, speaks_postgres=True) as secured:
        query = {"sslmode": "verify-full", "sslrootcert": str(certificates.ca)}
        yield address.set(host="localhost", port=secured, query=query).render_as_string(hide_password=False)
