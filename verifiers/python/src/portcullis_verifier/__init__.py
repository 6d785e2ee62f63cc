"""Verifies access tokens of Portcullis offline, and refuses them soon after a logout."""

from portcullis_verifier.errors import (
    PermissionMissing,
    TokenInvalid,
    TokenMissing,
    TokenRevoked,
    Unavailable,
    VerificationError,
    bearer_token,
)
from portcullis_verifier.tokens import Claims
from portcullis_verifier.verifier import Verifier

__all__ = [
    "Claims",
    "PermissionMissing",
    "TokenInvalid",
    "TokenMissing",
    "TokenRevoked",
    "Unavailable",
    "VerificationError",
    "Verifier",
    "bearer_token",
]
