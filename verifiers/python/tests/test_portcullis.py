"""Against the real service, whose program is named by PORTCULLIS."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from portcullis import BOUND, Portcullis
from scripted_service import AUDIENCE, ISSUER, eventually

from portcullis_verifier import TokenRevoked, Unavailable, VerificationError, Verifier

pytestmark = pytest.mark.skipif("PORTCULLIS" not in os.environ, reason="PORTCULLIS is not set")

MAX_STALENESS = 2 * BOUND


@pytest.fixture
def portcullis(tmp_path: Path) -> Iterator[Portcullis]:
    service = Portcullis(os.environ["PORTCULLIS"], tmp_path)
    yield service
    service.kill()


@pytest.fixture
def verifier(portcullis: Portcullis) -> Iterator[Verifier]:
    client_id, client_secret = portcullis.new_client("revocations:read", "tokens:introspect")
    verifier = Verifier(
        ISSUER,
        AUDIENCE,
        client_id=client_id,
        client_secret=client_secret,
        max_staleness=MAX_STALENESS,
        introspect=True,
        url=portcullis.url,
    )
    with verifier:
        verifier.wait_until_ready(20)
        yield verifier


def refused_within_bound(verifier: Verifier, token: str) -> VerificationError:
    """Verify a token until it is refused. It must not be accepted beyond the bound."""
    begin = time.monotonic()
    while True:
        began_at = time.monotonic()
        try:
            verifier.verify(token)
        except VerificationError as error:
            return error
        assert began_at - begin <= MAX_STALENESS


def test_logout_reaches_verifier(portcullis: Portcullis, verifier: Verifier) -> None:
    token, other = portcullis.log_in(), portcullis.log_in()
    assert verifier.verify(token, "dashboard:read")["username"] == "testuser"
    portcullis.log_out(token)
    assert isinstance(refused_within_bound(verifier, token), TokenRevoked)
    verifier.verify(other)


def test_revoked_key_reaches_verifier(portcullis: Portcullis, verifier: Verifier) -> None:
    token = portcullis.log_in()
    verifier.verify(token)
    portcullis.command("key", "revoke", "--all", "--yes")
    assert isinstance(refused_within_bound(verifier, token), TokenRevoked)
    # Keys that nobody has published before sign from now on.
    eventually(lambda: verifier.verify(portcullis.log_in())["iss"] == ISSUER)


def test_service_that_is_gone_makes_verifier_refuse(
    portcullis: Portcullis, verifier: Verifier
) -> None:
    token, revoked = portcullis.log_in(), portcullis.log_in()
    verifier.verify(token)
    portcullis.log_out(revoked)
    portcullis.kill()
    assert isinstance(refused_within_bound(verifier, token), Unavailable)
    portcullis.start()
    eventually(lambda: verifier.staleness() < MAX_STALENESS)
    verifier.verify(token)
    assert isinstance(refused_within_bound(verifier, revoked), TokenRevoked)


def test_service_that_is_frozen_makes_verifier_refuse(
    portcullis: Portcullis, verifier: Verifier
) -> None:
    token = portcullis.log_in()
    portcullis.freeze()
    assert isinstance(refused_within_bound(verifier, token), Unavailable)
    portcullis.thaw()
    eventually(lambda: verifier.staleness() < MAX_STALENESS)
    verifier.verify(token)


def test_introspection_answers_while_the_feed_is_out_of_reach(
    portcullis: Portcullis, verifier: Verifier
) -> None:
    token, revoked = portcullis.log_in(), portcullis.log_in()
    verifier.close()
    eventually(lambda: verifier.staleness() > MAX_STALENESS)
    portcullis.log_out(revoked)
    verifier.verify(token)
    with pytest.raises(TokenRevoked):
        verifier.verify(revoked)
    assert verifier.counters()["introspections"] == 2
