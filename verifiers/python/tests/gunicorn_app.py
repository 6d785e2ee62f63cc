"""An API whose verifier is made before gunicorn forks: `gunicorn --preload gunicorn_app:app`."""

import os

from flask import Flask, g
from scripted_service import AUDIENCE, ISSUER

from portcullis_verifier import Verifier
from portcullis_verifier.flask import require

app = Flask("orders")
verifier = Verifier(
    ISSUER,
    AUDIENCE,
    client_id="orders",
    client_secret="secret",
    url=os.environ["SERVICE_URL"],
    max_staleness=1,
)
verifier.wait_until_ready(10)


@app.get("/orders")
@require(verifier)
def orders() -> dict[str, object]:
    return {"process": os.getpid(), "sub": g.claims["sub"]}
