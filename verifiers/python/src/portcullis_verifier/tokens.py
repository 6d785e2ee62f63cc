"""Rules that a token has to satisfy, apart from revocation (RFC 9068 section 4)."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import jwt

from portcullis_verifier.errors import TokenInvalid
from portcullis_verifier.keys import Key

Claims: TypeAlias = dict[str, Any]

REQUIRED_CLAIMS = ["iss", "aud", "exp", "sub", "sid", "jti"]


@dataclass(frozen=True)
class TokenRules:
    """Issuer and recipient of the tokens, and the leeway for their times, in seconds."""

    issuer: str
    audience: str
    leeway: float

    def decode(self, token: str, key: Key) -> Claims:
        """Return the claims of a token that its key has signed. Raises `TokenInvalid`."""
        try:
            claims: Claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                issuer=self.issuer,
                audience=self.audience,
                leeway=self.leeway,
                options={"require": REQUIRED_CLAIMS},
            )
        except jwt.InvalidTokenError as error:
            raise TokenInvalid(str(error)) from error
        if not isinstance(claims["jti"], str) or not isinstance(claims["sid"], str):
            raise TokenInvalid("an id of the token is not a string")
        return claims
