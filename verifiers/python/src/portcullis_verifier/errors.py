"""Reasons not to accept a token."""

from typing import ClassVar


class VerificationError(Exception):
    """A token was not accepted. `status` and `headers` are those of the reply to give."""

    status: ClassVar[int] = 401
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


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
    """The verifier cannot know whether the token was revoked. A later attempt may succeed."""

    status: ClassVar[int] = 503
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


def bearer_token(authorization: str | None) -> str:
    """Return the token of the header `Authorization` (RFC 6750 section 2.1).

    Raises `TokenMissing`.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenMissing("the request has no bearer token")
    return token.strip()
