"""Servers that ask for a login and speak TLS, for tests: certificates are made for each session."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography.hazmat.primitives import serialization

from streamrec.local.guardian import Guardian
from streamrec.local.kafka_broker import _PROPERTIES, java_command
from streamrec.local.server import HOST, answers, choose_port, run_to_end, wait_until

USER = "shop"
PASSWORD = "a-s3cr3t-of-the-tests"
KEY_PASSWORD = "the-k3y-of-the-tests"


class Certificates(NamedTuple):
    """Files in PEM form."""

    ca: Path
    server: Path
    """Key and certificate of a server on this machine."""
    client: Path
    client_key: Path
    """Encrypted with `KEY_PASSWORD`."""
    other_ca: Path
    """Has signed nothing here."""


def make_certificates(directory: Path) -> Certificates:
    made = Certificates(*(directory / f"{name}.pem" for name in Certificates._fields))
    ca = trustme.CA()
    server, client = ca.issue_cert(HOST, "localhost"), ca.issue_cert("client@example.org")
    ca.cert_pem.write_to_path(made.ca)
    trustme.CA().cert_pem.write_to_path(made.other_ca)
    # Kafka reads PKCS #8 alone
    made.server.write_bytes(_pkcs8(server.private_key_pem, None) + server.cert_chain_pems[0].bytes())
    made.client.write_bytes(client.cert_chain_pems[0].bytes())
    made.client_key.write_bytes(_pkcs8(client.private_key_pem, KEY_PASSWORD))
    return made


def _pkcs8(key: trustme.Blob, password: str | None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    loaded = serialization.load_pem_private_key(key.bytes(), None)
    return loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


SECURED = ("SASL_SSL", "SASL_PLAINTEXT", "SSL")
"""Listeners of the secured broker; the last one asks for the client's certificate."""

_SECURED_PROPERTIES = """\
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.ssl.ssl.client.auth=required
"""
_LOGIN = """\
listener.name.{listener}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
listener.name.{listener}.scram-sha-256.sasl.jaas.config={scram};
listener.name.{listener}.scram-sha-512.sasl.jaas.config={scram};
"""
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required"


@contextlib.contextmanager
def secured_kafka(directory: Path, certificates: Certificates, guardian: Guardian) -> Iterator[dict[str, str]]:
    """Run a broker of the local stack with secured listeners; answer the address of each."""
    ports = {protocol: choose_port(directory, protocol) for protocol in SECURED}
    properties = _PROPERTIES.format(
        host=HOST,
        port=choose_port(directory, "plain"),
        controller_port=choose_port(directory, "controller"),
        directory=directory,
        session_ms=9_000,
    )
    listeners = "".join(f",{protocol}://{HOST}:{port}" for protocol, port in ports.items())
    lines = []
    for line in properties.splitlines():
        grows = line.startswith(("listeners=", "advertised.listeners="))
        maps = line.startswith("listener.security.protocol.map=")
        lines.append(line + (listeners if grows else "".join(f",{each}:{each}" for each in SECURED) if maps else ""))
    text = "\n".join(lines) + "\n" + _SECURED_PROPERTIES.format(server=certificates.server, ca=certificates.ca)
    for listener in ("sasl_ssl", "sasl_plaintext"):
        text += _LOGIN.format(listener=listener, user=USER, password=PASSWORD, scram=_SCRAM)
    file = directory / "server.properties"
    file.write_text(text)
    java = java_command(progress=False)
    users = [f"--add-scram=SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]" for bits in (256, 512)]
    run_to_end(
        [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={uuid.uuid4().hex[:22]}", "-c", file, *users],
        what="the secured broker's storage cannot be formatted",
    )
    log = directory / "kafka.log"
    process = guardian.spawn([*java, "kafka.Kafka", file], log=log)
    wait_until(lambda: all(map(answers, ports.values())), process, name="the secured broker", log=log)
    yield {protocol: f"{HOST}:{port}" for protocol, port in ports.items()}
    process.kill()
    process.wait()


@contextlib.contextmanager
def tls_before(port: int, certificates: Certificates, *, speaks_postgres: bool = False) -> Iterator[int]:
    """Terminate TLS on a separate port in front of a server without it; return the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    with socket.create_server((HOST, 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):  # it is closed
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=serve, args=(client,), daemon=True).start()

        def serve(client: socket.socket) -> None:
            with contextlib.suppress(OSError), client, socket.create_connection((HOST, port)) as server:
                if speaks_postgres:
                    client.recv(8)  # the request to speak TLS
                    client.sendall(b"S")
                with context.wrap_socket(client, server_side=True) as secured:
                    threading.Thread(target=pump, args=(server, secured), daemon=True).start()
                    pump(secured, server)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)
