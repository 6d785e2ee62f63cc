import asyncio
import base64
import os
import threading
import time

import pytest
from conftest import Verifiers
from scripted_service import (
    Handler,
    ScriptedService,
    cut,
    eventually,
    refuse,
    repeat_first_reply,
    stall,
    trickle,
)

from portcullis_verifier import (
    PermissionMissing,
    TokenInvalid,
    TokenRevoked,
    Unavailable,
    VerificationError,
    Verifier,
)
from portcullis_verifier import verifier as verifier_module
from portcullis_verifier.clock import Stamp
from portcullis_verifier.follower import Follower
from portcullis_verifier.http import Connection, RequestFailed, Service
from portcullis_verifier.receiver import Receiver


def is_refused(verifier: Verifier, token: str, reason: type[VerificationError]) -> bool:
    try:
        verifier.verify(token)
    except VerificationError as error:
        return type(error) is reason
    return False


def is_accepted(verifier: Verifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except VerificationError:
        return False
    return True


def test_good_token_returns_its_claims(service: ScriptedService, verifier: Verifier) -> None:
    claims = verifier.verify(service.issue(sub="user-7"), "orders:read")
    assert claims["sub"] == "user-7"
    assert verifier.staleness() < 1
    assert verifier.counters()["accepted"] == 1


@pytest.mark.parametrize("revoked", ["token-1", "session-1", "key-1"])
def test_revoked_id_refuses_token(
    service: ScriptedService, verifier: Verifier, revoked: str
) -> None:
    token = service.issue()
    verifier.verify(token)
    service.revoke(revoked)
    eventually(lambda: is_refused(verifier, token, TokenRevoked))


def test_missing_permission_is_not_a_bad_token(
    service: ScriptedService, verifier: Verifier
) -> None:
    with pytest.raises(PermissionMissing):
        verifier.verify(service.issue(), "orders:read", "orders:write")


def test_async_verify_gives_the_same_answers(service: ScriptedService, verifier: Verifier) -> None:
    token = service.issue()
    assert asyncio.run(verifier.verify_async(token))["jti"] == "token-1"
    service.add_key("key-2")
    assert asyncio.run(verifier.verify_async(service.issue("key-2")))["jti"] == "token-2"
    service.revoke("token-1")
    eventually(lambda: is_refused(verifier, token, TokenRevoked))
    with pytest.raises(TokenRevoked):
        asyncio.run(verifier.verify_async(token))


def test_nothing_is_accepted_before_the_first_read(
    service: ScriptedService, new_verifier: Verifiers
) -> None:
    service.faults["/revocations"] = refuse(503)
    verifier = new_verifier()
    with pytest.raises(Unavailable, match="503"):
        verifier.wait_until_ready(0.3)
    assert is_refused(verifier, service.issue(), Unavailable)
    service.faults.clear()
    verifier.wait_until_ready(10)
    verifier.verify(service.issue())


def test_first_verification_starts_to_follow_and_waits_for_the_first_read(
    service: ScriptedService, new_verifier: Verifiers
) -> None:
    verifier = new_verifier()
    assert verifier.staleness() == float("inf")
    verifier.verify(service.issue())


def test_first_read_that_trickles_in_is_waited_for_once(
    service: ScriptedService, new_verifier: Verifiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier_module, "FIRST_READ_TIMEOUT", 0.3)
    service.faults["/revocations"] = trickle(head=False)
    verifier = new_verifier()
    assert is_refused(verifier, service.issue(), Unavailable)
    monkeypatch.setattr(verifier_module, "FIRST_READ_TIMEOUT", 3600)
    assert is_refused(verifier, service.issue(), Unavailable)


@pytest.mark.parametrize(
    "fault",
    [refuse(503, {"Retry-After": "1"}), refuse(401), cut, repeat_first_reply()],
    ids=["503", "401", "cut", "cache"],
)
def test_broken_feed_refuses_beyond_the_bound(
    service: ScriptedService, verifier: Verifier, fault: object
) -> None:
    token = service.issue()
    verifier.verify(token)
    service.faults["/revocations"] = fault  # type: ignore[assignment]
    eventually(lambda: is_refused(verifier, token, Unavailable))
    assert verifier.staleness() > 1
    service.faults.clear()
    eventually(lambda: is_accepted(verifier, token))


def test_stalled_network_refuses_beyond_the_bound(
    service: ScriptedService, verifier: Verifier
) -> None:
    token, released = service.issue(), threading.Event()
    service.faults["/revocations"] = stall(released)
    eventually(lambda: is_refused(verifier, token, Unavailable))
    service.faults.clear()
    # The stalled requests stay as they are.
    eventually(lambda: is_accepted(verifier, token))
    released.set()


def test_redirect_is_not_followed(service: ScriptedService, new_verifier: Verifiers) -> None:
    service.faults["/revocations"] = refuse(307, {"Location": f"{service.url}/elsewhere"})
    with pytest.raises(Unavailable, match="307"):
        new_verifier().wait_until_ready(0.3)
    assert all(path != "/elsewhere" for path, _ in service.requests)


def test_credentials_go_with_the_feed_alone(service: ScriptedService, verifier: Verifier) -> None:
    verifier.verify(service.issue())
    basic = base64.b64encode(b"orders:secret").decode()
    expected = {"/revocations": f"Basic {basic}", "/.well-known/jwks.json": None}
    for path, headers in service.requests:
        assert headers.get("Authorization") == expected[path]


def test_requests_share_a_connection(service: ScriptedService, verifier: Verifier) -> None:
    eventually(lambda: service.reads() >= 3)
    assert service.connections == 1


def test_bound_below_that_of_the_service_is_refused(
    service: ScriptedService, new_verifier: Verifiers
) -> None:
    service.bound_ms = 600
    with pytest.raises(Unavailable, match=r"at least 1\.2 s"):
        new_verifier().wait_until_ready(0.3)


def test_introspection_answers_beyond_the_bound(
    service: ScriptedService, new_verifier: Verifiers
) -> None:
    verifier = new_verifier(introspect=True)
    verifier.wait_until_ready(10)
    token = service.issue()
    service.faults["/revocations"] = refuse(503)
    eventually(lambda: verifier.staleness() > 1)
    verifier.verify(token)
    assert verifier.counters()["introspections"] == 1
    service.active = False
    assert is_refused(verifier, token, TokenRevoked)
    service.faults["/oauth/introspect"] = refuse(503)
    assert is_refused(verifier, token, Unavailable)


def test_introspection_that_comes_too_late_proves_nothing(
    service: ScriptedService, new_verifier: Verifiers
) -> None:
    verifier = new_verifier(introspect=True)
    verifier.wait_until_ready(10)
    token = service.issue()
    service.faults["/revocations"] = refuse(503)
    eventually(lambda: verifier.staleness() > 1)

    def answer_late(handler: object) -> None:
        # Longer than what the bound of the service leaves of that of the verifier.
        time.sleep(0.6)
        handler.answer({"active": True, "jti": "token-1"})  # type: ignore[attr-defined]

    service.faults["/oauth/introspect"] = answer_late
    assert is_refused(verifier, token, Unavailable)


@pytest.mark.parametrize("head", [True, False])
def test_introspection_that_trickles_in_is_given_up(
    service: ScriptedService,
    new_verifier: Verifiers,
    monkeypatch: pytest.MonkeyPatch,
    head: bool,
) -> None:
    monkeypatch.setattr(verifier_module, "INTROSPECTION_TIMEOUT", 0.3)
    was_reported = threading.Event()
    abort = Connection.abort

    def abort_slowly(connection: Connection) -> None:
        # The reader can notice the end before the thread that caused it goes on.
        abort(connection)
        was_reported.wait(10)

    monkeypatch.setattr(Connection, "abort", abort_slowly)
    verifier = new_verifier(introspect=True)
    service.faults["/revocations"] = refuse(503)
    service.faults["/oauth/introspect"] = trickle(head)
    # It reads the keys.
    with pytest.raises(Unavailable, match="takes too long"):
        verifier.verify(service.issue())
    was_reported.set()


def test_keys_are_read_again_before_their_age_is_reached(
    service: ScriptedService, new_verifier: Verifiers
) -> None:
    service.max_age = 1
    verifier = new_verifier()
    verifier.wait_until_ready(10)
    service.add_key("key-2")
    eventually(lambda: verifier.counters()["key_reads"] >= 2)
    verifier.verify(service.issue("key-2"))
    service.faults["/.well-known/jwks.json"] = refuse(503)
    # The feed alone does not suffice: the revocation of a key is forgotten some time.
    eventually(lambda: is_refused(verifier, service.issue(), Unavailable))


def test_unknown_key_is_read_once_in_a_while(service: ScriptedService, verifier: Verifier) -> None:
    service.add_key("key-2")
    verifier.verify(service.issue("key-2"))
    service.add_key("key-3")
    reads = verifier.counters()["key_reads"]
    for _ in range(20):
        assert is_refused(verifier, service.issue("key-3"), TokenInvalid)
    assert verifier.counters()["key_reads"] == reads


def test_feed_goes_on_while_the_keys_cannot_be_read(
    service: ScriptedService, new_verifier: Verifiers
) -> None:
    service.max_age = 4
    verifier = new_verifier()
    verifier.wait_until_ready(10)
    service.faults["/.well-known/jwks.json"] = refuse(503)
    token = service.issue()
    # After half of their life.
    eventually(lambda: verifier.counters()["failures"] >= 2)
    verifier.verify(token)
    service.revoke("token-1")
    eventually(lambda: is_refused(verifier, token, TokenRevoked))


def test_slow_read_for_an_unknown_key_is_not_repeated(service: ScriptedService) -> None:
    now = Stamp(0, 0)

    def refuse_late(handler: Handler) -> None:
        nonlocal now
        now = Stamp(now.monotonic + 6, now.wall + 6)
        refuse(503)(handler)

    service.faults["/.well-known/jwks.json"] = refuse_late
    follower = Follower(
        Service(service.url, "orders", "secret"),
        Receiver(1, 5, lambda: now),
        lambda: now,
        max_staleness=1,
        keys=None,
    )
    for _ in range(2):
        with pytest.raises(RequestFailed):
            follower.read_keys_again()
    assert len(service.requests) == 1


def test_forked_process_follows_by_itself(service: ScriptedService, verifier: Verifier) -> None:
    token = service.issue()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            verifier.verify(token)
            os.write(writer, b"a")
            eventually(lambda: is_refused(verifier, token, TokenRevoked))
            os.write(writer, b"r")
        finally:
            os._exit(0)
    assert os.read(reader, 1) == b"a"
    service.revoke("token-1")
    assert os.read(reader, 1) == b"r"
    os.waitpid(child, 0)
    eventually(lambda: is_refused(verifier, token, TokenRevoked))
    # The connection of the parent went on.
    assert verifier.counters()["failures"] == 0


def test_close_ends_a_request_that_waits(service: ScriptedService, verifier: Verifier) -> None:
    released = threading.Event()
    service.faults["/revocations"] = stall(released)
    reads = service.reads()
    eventually(lambda: service.reads() > reads)
    verifier.close()
    assert not any(thread.name == "portcullis-verifier" for thread in threading.enumerate())
    released.set()


@pytest.mark.parametrize("leeway", [-1, 61, float("nan")])
def test_leeway_beyond_the_life_of_a_revocation_is_refused(
    new_verifier: Verifiers, leeway: float
) -> None:
    with pytest.raises(ValueError, match="from 0 to 60 s"):
        new_verifier(leeway=leeway)


def test_secret_is_not_in_the_representation() -> None:
    assert "s3cr3t" not in repr(Service("https://auth.example.com", "orders", "s3cr3t"))


@pytest.mark.parametrize("url", ["http://auth.example.com", "ftp://127.0.0.1", "auth.example.com"])
def test_plain_http_is_refused_except_on_loopback(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Service(url, "orders", "secret")
