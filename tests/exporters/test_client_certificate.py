"""OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY: a receiver that asks for a certificate."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from otelbridge.exporters.answers import Verdict
from otelbridge.exporters.destinations import full_stream
from otelbridge.settings import Settings
from tests.exporters.fault_server import Receiver


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for both sides, and its key."""
    directory = tmp_path_factory.mktemp("mtls")
    made, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=otelbridge test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", key, "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


@pytest.mark.parametrize("form", ["", "TRACES_"])
def test_the_receiver_gets_the_certificate(pair: tuple[Path, Path], form: str) -> None:
    """With both variables, or one file with both parts, spans are taken; without none are."""
    made, key = pair
    both = made.with_name("both.pem")
    both.write_bytes(made.read_bytes() + key.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    context.load_verify_locations(made)
    context.verify_mode = ssl.CERT_REQUIRED
    receiver = Receiver(tls=context)
    general = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(made),
    }
    name = f"OTEL_EXPORTER_OTLP_{form}CLIENT_"
    try:
        for given, taken in (
            ({f"{name}CERTIFICATE": str(made), f"{name}KEY": str(key)}, True),
            ({f"{name}CERTIFICATE": str(both)}, True),
            ({}, False),
        ):
            settings = Settings.from_env(general | given)
            assert settings.warnings == ()
            delivery = full_stream(settings).delivery()
            answer = delivery.post(b"", encoding="", tick=lambda: None)
            delivery.close()
            assert (answer.verdict is Verdict.DELIVERED) is taken, answer
    finally:
        receiver.close()


def test_an_encrypted_key_fails_without_asking(pair: tuple[Path, Path]) -> None:
    """A key with a passphrase is an error, not a question at somebody's terminal."""
    made, key = pair
    locked = key.with_name("locked.pem")
    subprocess.run(
        ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", key, "-out", locked],
        check=True, capture_output=True,
    )  # fmt: skip
    settings = Settings.from_env(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:1",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(made),
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(locked),
        }
    )
    with pytest.raises(ssl.SSLError):
        full_stream(settings).delivery()._tls_context()


def test_mistakes_are_said() -> None:
    """A missing file, and a key without its certificate."""
    settings = Settings.from_env(
        {"OTEL_EXPORTER_OTLP_CLIENT_KEY": "/no/such.pem", "OTEL_SERVICE_NAME": "s"}
    )
    assert len(settings.warnings) == 2
    assert "no such file" in settings.warnings[0]
    assert "without OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" in settings.warnings[1]
