"""Reasons not to accept a token."""

from typing import ClassVar


class VerificationError(Exception):
    """A token was not accepted. `status`, `headers` and `detail` are for the reply to give."""

    status: ClassVar[int] = 401
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer error="invalid_token"'}

    @property
    def detail(self) -> str:
        """Return the reason, as far as the client may know it."""
        return str(self)


class TokenMissing(VerificationError):
    """The request has no bearer token."""

    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class TokenInvalid(VerificationError):
    """The token is malformed, forged, expired, or for another API."""


class TokenRevoked(TokenInvalid):
    """The token, its session or its key was revoked."""


class PermissionMissing(VerificationError):
    """The token is good, but lacks a permission that the request needs."""

    status: ClassVar[int] = 403
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}


class Unavailable(VerificationError):
    """The verifier cannot know whether the token was revoked. A later attempt may succeed.

    The message has the cause, which is logged; `detail` has not.
    """

    status: ClassVar[int] = 503
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}

    @property
    def detail(self) -> str:
        """Return a text that says nothing of the internal network."""
        return "tokens cannot be verified at the moment"


def bearer_token(authorization: str | None) -> str:
    """Return the token of the header `Authorization` (RFC 6750 section 2.1).

    Raises `TokenMissing`.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenMissing("the request has no bearer token")
    return token.strip()
