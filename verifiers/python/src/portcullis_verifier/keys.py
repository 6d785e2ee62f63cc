"""Keys that verify the signatures of tokens."""

import base64
import binascii
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt

from portcullis_verifier.clock import Stamp
from portcullis_verifier.errors import TokenInvalid

# What RFC 9068 section 2.1 says, and RFC 7515 section 4.1.9 permits.
TOKEN_TYPES = ("at+jwt", "application/at+jwt")
# Lifetime of keys whose reply names none, in seconds.
DEFAULT_MAX_AGE = 300.0
# Headers are remembered up to this number. The service writes one for each key.
MAX_HEADERS = 1000


@dataclass(frozen=True)
class Key:
    """A key, and the id under which the feed lists it when it was revoked."""

    key: jwt.PyJWK
    algorithm: str
    revocation_id: str


class KeySet:
    """Keys of one reply. They may be used for `max_age` seconds after the request was sent."""

    def __init__(self, keys: Iterable[tuple[str, Key]], sent: Stamp, max_age: float) -> None:
        self._by_kid = dict(keys)
        self._by_header: dict[str, Key] = {}
        self.sent = sent
        self.max_age = max_age

    @staticmethod
    def from_jwks(jwks: Any, cache_control: str, sent: Stamp) -> "KeySet":
        """Read a JWK set (RFC 7517). Other kinds of keys are skipped. Raises `ValueError`."""
        if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
            raise ValueError("not a JWK set")
        keys = [(jwk["kid"], _public_key(jwk)) for jwk in jwks["keys"] if _is_ours(jwk)]
        max_age = re.search(r"\bmax-age=(\d+)", cache_control)
        return KeySet(keys, sent, float(max_age[1]) if max_age else DEFAULT_MAX_AGE)

    def find(self, token: str) -> Key | None:
        """Return the key of a token, or `None` if it is not among these.

        Raises `TokenInvalid` if the header is not one of an access token.
        """
        encoded = token.partition(".")[0]
        # Each key has one header, so it is read once.
        key = self._by_header.get(encoded)
        if key is None:
            key = self._by_kid.get(read_header(token, "ES256"))
            if key is not None and len(self._by_header) < MAX_HEADERS:
                self._by_header[encoded] = key
        return key


class SharedSecret:
    """The secret of a service with `JWT_ALGORITHM=HS256`."""

    def __init__(self, secret: str) -> None:
        encoded = base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
        self._key = jwt.PyJWK.from_dict({"kty": "oct", "k": encoded, "alg": "HS256"})

    def find(self, token: str) -> Key:
        """Return the secret as the key of a token. Raises `TokenInvalid`."""
        return Key(self._key, "HS256", revocation_id(read_header(token, "HS256")))


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
