"""`Verifier`: decides whether a token may be accepted."""

import asyncio
import json
import logging
import ssl
from dataclasses import asdict
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from portcullis_verifier.clock import system_clock
from portcullis_verifier.errors import (
    PermissionMissing,
    TokenInvalid,
    TokenRevoked,
    Unavailable,
    VerificationError,
)
from portcullis_verifier.follower import Follower
from portcullis_verifier.http import RequestFailed, Service
from portcullis_verifier.keys import KeySet
from portcullis_verifier.receiver import Receiver, Verdict
from portcullis_verifier.tokens import Claims, TokenRules

logger = logging.getLogger("portcullis_verifier")

# Shortest time between two lines about tokens that could not be verified, in seconds.
LOG_INTERVAL = 1.0
# Longest wait for an introspection, in seconds.
INTROSPECTION_TIMEOUT = 2.0
# Longest wait of a token for the first read, in seconds.
FIRST_READ_TIMEOUT = 2.0
# The service keeps a revocation for so much longer than its tokens live, in seconds.
LARGEST_LEEWAY = 60


class _NeedsRequest(Exception):
    """The memory cannot answer."""


class _UnknownKey(_NeedsRequest):
    pass


class _UnknownRevocation(_NeedsRequest):
    def __init__(self, claims: Claims) -> None:
        super().__init__()
        self.claims = claims


class Verifier:
    """Verifies access tokens offline, and follows the revocation feed in a thread of its own.

    `issuer` is the `PUBLIC_URL` of the service, `audience` the name of your API in `JWT_AUDIENCE`.
    `client_id` and `client_secret` are those of a client with the permission `revocations:read`.
    With `introspect`, for which it needs `tokens:introspect` as well, the service is asked about
    tokens while the memory is too old.

    A token is accepted no later than `max_staleness` seconds after its revocation was committed;
    that has to be at least twice the `REVOCATION_MAX_STALENESS` of the service. `leeway`, in
    seconds, is added to the times in the token, and is at most 60. `url` is where the
    service is reached, if not at its issuer; `secret` is the `JWT_SECRET_KEY` of a service that
    signs with HS256.
    """

    def __init__(
        self,
        issuer: str,
        audience: str,
        *,
        client_id: str,
        client_secret: str,
        max_staleness: float = 10.0,
        leeway: float = 5.0,
        introspect: bool = False,
        url: str | None = None,
        secret: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if not max_staleness > 0:
            raise ValueError("max_staleness has to be positive")
        if not 0 <= leeway <= LARGEST_LEEWAY:
            raise ValueError(f"leeway has to be from 0 to {LARGEST_LEEWAY} s")
        if not issuer or not audience:
            raise ValueError("issuer and audience must not be empty")
        self._rules = TokenRules(issuer, audience, leeway)
        self._introspects = introspect
        self._service = Service(url or issuer, client_id, client_secret, ssl_context)
        self._receiver = Receiver(max_staleness, leeway, system_clock)
        keys = None if secret is None else KeySet.from_secret(secret, system_clock())
        self._follower = Follower(self._service, self._receiver, system_clock, max_staleness, keys)
        self._counters = self._follower.counters
        self._logged_at = float("-inf")

    def wait_until_ready(self, timeout: float) -> None:
        """Start to follow, and wait for the first complete read and the keys.

        Raises `Unavailable` after `timeout` seconds, with the cause.
        """
        self._follower.start()
        if not self._follower.wait_until_ready(timeout):
            problem = self._follower.problem or "the service has not answered"
            raise Unavailable(f"not ready after {timeout:g} s: {problem}")

    async def wait_until_ready_async(self, timeout: float) -> None:
        """Do the same as `wait_until_ready`, without blocking the event loop."""
        await asyncio.to_thread(self.wait_until_ready, timeout)

    def verify(self, token: str, *permissions: str) -> Claims:
        """Return the claims of a token that is good and has the permissions.

        It takes some 0.1 ms, most of it for the signature, and does no I/O, unless the key is
        unknown or the memory too old. The first tokens wait for the first read, for up to 2 s.
        Raises `TokenInvalid`, `TokenRevoked`, `PermissionMissing` or `Unavailable`, whose `status`
        is the HTTP status to answer with.
        """
        try:
            try:
                claims = self._verify_in_memory(token)
            except _NeedsRequest:
                claims = self._verify_with_request(token)
            return self._accept(claims, permissions)
        except VerificationError as error:
            self._count(error)
            raise

    async def verify_async(self, token: str, *permissions: str) -> Claims:
        """Do the same as `verify`, without blocking the event loop where it needs a request."""
        try:
            try:
                claims = self._verify_in_memory(token)
            except _NeedsRequest:
                claims = await asyncio.to_thread(self._verify_with_request, token)
            return self._accept(claims, permissions)
        except VerificationError as error:
            self._count(error)
            raise

    def staleness(self) -> float:
        """Return the age of what is known, in seconds; infinite before the first complete read."""
        return self._receiver.staleness()

    def counters(self) -> dict[str, int]:
        """Return counts since the start, for your metrics."""
        self._counters.revocations = len(self._receiver)
        return asdict(self._counters)

    def close(self) -> None:
        """Stop following. From `max_staleness` on, `verify` raises `Unavailable`."""
        self._follower.close()

    def __enter__(self) -> "Verifier":
        """Close at the end of a `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _verify_in_memory(self, token: str) -> Claims:
        keys = self._follower.keys
        key = None if keys is None else keys.find(token)
        if keys is None or key is None:
            raise _UnknownKey
        claims = self._rules.decode(token, key)
        keys.remember(token, key)
        verdict = self._receiver.check((claims["jti"], claims["sid"], key.revocation_id))
        if verdict is Verdict.REVOKED:
            raise TokenRevoked("the token was revoked")
        # A revocation of a key is forgotten when no verifier holds the key any longer.
        if verdict is Verdict.UNKNOWN or not keys.is_fresh(system_clock()):
            raise _UnknownRevocation(claims)
        return claims

    def _verify_with_request(self, token: str) -> Claims:
        self._follower.start()
        # Otherwise the first tokens after the start would be refused.
        self._follower.wait_until_tried(FIRST_READ_TIMEOUT)
        try:
            try:
                return self._verify_in_memory(token)
            except _UnknownKey:
                # It may be new.
                self._follower.read_keys_again()
                return self._verify_in_memory(token)
        except _UnknownKey as error:
            raise TokenInvalid("the key of the token is unknown") from error
        except RequestFailed as error:
            raise Unavailable(str(error)) from error
        except _UnknownRevocation as unknown:
            self._introspect(token, unknown.claims)
            return unknown.claims

    def _accept(self, claims: Claims, permissions: tuple[str, ...]) -> Claims:
        if permissions and not set(permissions).issubset(str(claims.get("scope", "")).split()):
            raise PermissionMissing(f"the token needs the permission {' '.join(permissions)}")
        self._counters.accepted += 1
        return claims

    def _count(self, error: VerificationError) -> None:
        if isinstance(error, TokenRevoked):
            self._counters.revoked += 1
        elif isinstance(error, TokenInvalid):
            self._counters.invalid += 1
        elif isinstance(error, PermissionMissing):
            self._counters.forbidden += 1
        else:
            self._counters.unavailable += 1
            self._log(error)

    def _log(self, error: VerificationError) -> None:
        now = system_clock().monotonic
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            logger.warning("failed to verify a token: %s", error)

    def _introspect(self, token: str, claims: Claims) -> None:
        """Ask the service about a token whose signature and claims are good."""
        if not self._introspects:
            problem = self._follower.problem or "no reply of the revocation feed"
            raise Unavailable(f"what is known is {self.staleness():.1f} s old: {problem}")
        sent = system_clock()
        try:
            fields = self._read_introspection(token)
        except (RequestFailed, ValueError) as error:
            raise Unavailable(f"failed to introspect: {error}") from error
        if not self._receiver.introspection_counts(sent):
            raise Unavailable("failed to introspect: the reply came too late")
        if fields.get("active") is False:
            raise TokenRevoked("the token was revoked")
        if fields.get("active") is not True or fields.get("jti") != claims["jti"]:
            raise Unavailable("failed to introspect: the reply is about another token")

    def _read_introspection(self, token: str) -> dict[str, Any]:
        self._counters.introspections += 1
        connection = self._service.connect(INTROSPECTION_TIMEOUT)
        try:
            reply = connection.request(
                "/oauth/introspect",
                {"Authorization": self._service.authorization()},
                form=urlencode({"token": token}),
            )
        finally:
            connection.close()
        fields = json.loads(reply.body)
        if not isinstance(fields, dict):
            raise ValueError("the reply is malformed")
        return fields
