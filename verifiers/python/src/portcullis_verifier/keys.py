"""Keys that verify the signatures of tokens."""

import base64
import binascii
import math
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from portcullis_verifier.clock import Stamp
from portcullis_verifier.errors import TokenInvalid

# What RFC 9068 section 2.1 says, and RFC 7515 section 4.1.9 permits.
TOKEN_TYPES = ("at+jwt", "application/at+jwt")
# Lifetime of keys whose reply names none, in seconds.
DEFAULT_MAX_AGE = 300.0


@dataclass(frozen=True)
class Key:
    """A key, and the id under which the feed lists it when it was revoked."""

    key: jwt.PyJWK
    algorithm: str
    revocation_id: str


class KeySet:
    """Keys that may be used for `max_age` seconds after they were asked for."""

    def __init__(
        self, algorithm: str, find_by_kid: Callable[[str], Key | None], sent: Stamp, max_age: float
    ) -> None:
        self._algorithm, self._find_by_kid = algorithm, find_by_kid
        self._by_header: dict[str, Key] = {}
        self.sent, self.max_age = sent, max_age

    @staticmethod
    def from_jwks(jwks: Any, cache_control: str, sent: Stamp) -> "KeySet":
        """Read a JWK set (RFC 7517). Other kinds of keys are skipped. Raises `ValueError`."""
        if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
            raise ValueError("not a JWK set")
        keys = {jwk["kid"]: _public_key(jwk) for jwk in jwks["keys"] if _is_ours(jwk)}
        max_age = re.search(r"\bmax-age=(\d+)", cache_control)
        return KeySet("ES256", keys.get, sent, float(max_age[1]) if max_age else DEFAULT_MAX_AGE)

    @staticmethod
    def from_secret(secret: str, now: Stamp) -> "KeySet":
        """Use the secret of a service with `JWT_ALGORITHM=HS256`, for every token."""
        encoded = base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
        key = jwt.PyJWK.from_dict({"kty": "oct", "k": encoded, "alg": "HS256"})
        return KeySet("HS256", lambda kid: Key(key, "HS256", revocation_id(kid)), now, math.inf)

    def find(self, token: str) -> Key | None:
        """Return the key of a token, or `None` if it is not among these.

        Raises `TokenInvalid` if the header is not one of an access token.
        """
        key = self._by_header.get(token.partition(".")[0])
        return key or self._find_by_kid(read_header(token, self._algorithm))

    def remember(self, token: str, key: Key) -> None:
        """Remember the header of a token that the key has signed: each key has one."""
        self._by_header.setdefault(token.partition(".")[0], key)

    def is_fresh(self, now: Stamp) -> bool:
        """Return whether the keys may still be used."""
        return self.sent.elapsed(now) <= self.max_age


def read_header(token: str, algorithm: str) -> str:
    """Return the `kid` of a token. Raises `TokenInvalid` if its header is not as it has to be."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, AttributeError) as error:
        raise TokenInvalid(f"the token is malformed: {error}") from error
    kid, typ = header.get("kid"), header.get("typ")
    if header.get("alg") != algorithm:
        raise TokenInvalid(f"the algorithm is not {algorithm}")
    if not isinstance(typ, str) or typ.lower() not in TOKEN_TYPES:
        raise TokenInvalid("not an access token")
    if "crit" in header or "b64" in header:
        raise TokenInvalid("the header has an extension that is not supported")
    if not isinstance(kid, str):
        raise TokenInvalid("the token names no key")
    return kid


def revocation_id(kid: str) -> str:
    """Return the id of a revoked key: the first half of its thumbprint, as a UUID."""
    try:
        return str(uuid.UUID(bytes=base64.urlsafe_b64decode(kid + "=")[:16]))
    except (binascii.Error, ValueError):
        return kid


def _is_ours(jwk: Any) -> bool:
    return (
        isinstance(jwk, dict)
        and isinstance(jwk.get("kid"), str)
        and (jwk.get("kty"), jwk.get("crv")) == ("EC", "P-256")
        and jwk.get("alg", "ES256") == "ES256"
        and jwk.get("use", "sig") == "sig"
    )


def _public_key(jwk: dict[str, Any]) -> Key:
    return Key(jwt.PyJWK.from_dict(jwk, "ES256"), "ES256", revocation_id(jwk["kid"]))
