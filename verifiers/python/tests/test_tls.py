import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from scripted_service import AUDIENCE, ISSUER, ScriptedService

from portcullis_verifier import Unavailable, Verifier


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Certificate and key for localhost, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        key.private_bytes(pem, pkcs8, serialization.NoEncryption()) + certificate.public_bytes(pem)
    )
    return path


@pytest.fixture
def service(certificate: Path) -> Iterator[ScriptedService]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    service = ScriptedService(context)
    yield service
    service.shutdown()
    service.server_close()


def new_verifier(service: ScriptedService, context: ssl.SSLContext | None) -> Verifier:
    return Verifier(
        ISSUER,
        AUDIENCE,
        client_id="orders",
        client_secret="secret",
        url=service.url,
        max_staleness=1,
        ssl_context=context,
    )


def test_private_authority_can_be_trusted(service: ScriptedService, certificate: Path) -> None:
    with new_verifier(service, ssl.create_default_context(cafile=str(certificate))) as verifier:
        verifier.wait_until_ready(10)
        verifier.verify(service.issue())


def test_unknown_authority_is_refused(service: ScriptedService) -> None:
    with new_verifier(service, None) as verifier, pytest.raises(Unavailable, match="CERTIFICATE"):
        verifier.wait_until_ready(0.5)
