"""A decorator for Flask."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import abort, g, make_response, request

from portcullis_verifier.errors import VerificationError, bearer_token
from portcullis_verifier.verifier import Verifier

P = ParamSpec("P")
R = TypeVar("R")


def require(verifier: Verifier, *permissions: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator of a view, which finds the claims of the bearer in `flask.g.claims`.

    Place it below `@app.route`.
    """

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def verified_view(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                token = bearer_token(request.headers.get("Authorization"))
                g.claims = verifier.verify(token, *permissions)
            except VerificationError as error:
                abort(make_response({"detail": error.detail}, error.status, error.headers))
            return view(*args, **kwargs)

        return verified_view

    return decorate
