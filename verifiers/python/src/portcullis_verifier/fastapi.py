"""A dependency for FastAPI (or Starlette's requests)."""

from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request

from portcullis_verifier.errors import VerificationError, bearer_token
from portcullis_verifier.tokens import Claims
from portcullis_verifier.verifier import Verifier


def require(verifier: Verifier, *permissions: str) -> Callable[[Request], Awaitable[Claims]]:
    """Return a dependency: the claims of the bearer, who has the permissions.

    Use it as `claims: Annotated[Claims, Depends(require(verifier, "orders:read"))]`.
    """

    async def verified_claims(request: Request) -> Claims:
        try:
            token = bearer_token(request.headers.get("Authorization"))
            return await verifier.verify_async(token, *permissions)
        except VerificationError as error:
            raise HTTPException(error.status, error.detail, error.headers) from error

    return verified_claims
