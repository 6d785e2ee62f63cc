import json
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from flask import Flask, g
from scripted_service import ScriptedService, eventually

from portcullis_verifier import Claims, Verifier
from portcullis_verifier.fastapi import require as fastapi_require
from portcullis_verifier.flask import require as flask_require


def fastapi_client(verifier: Verifier) -> Any:
    app = FastAPI()

    @app.get("/orders")
    async def orders(
        claims: Annotated[Claims, Depends(fastapi_require(verifier, "orders:read"))],
    ) -> str:
        return str(claims["sub"])

    return TestClient(app)


def flask_client(verifier: Verifier) -> Any:
    app = Flask("orders")

    @app.get("/orders")
    @flask_require(verifier, "orders:read")
    def orders() -> str:
        return str(g.claims["sub"])

    return app.test_client()


@pytest.mark.parametrize("client_of", [fastapi_client, flask_client])
def test_framework_answers_with_the_right_status(
    service: ScriptedService, verifier: Verifier, client_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(verifier)

    def get(token: str | None) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return client.get("/orders", headers=headers)

    good = service.issue()
    assert get(good).status_code == 200
    missing = get(None)
    assert (missing.status_code, missing.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert get("no.such.token").status_code == 401
    forbidden = get(service.issue(scope="dashboard:read"))
    assert forbidden.status_code == 403
    assert "insufficient_scope" in forbidden.headers["WWW-Authenticate"]
    service.revoke("token-1")
    eventually(lambda: get(good).status_code == 401)
    verifier.close()
    eventually(lambda: get(service.issue()).status_code == 503)
    unavailable = get(service.issue())
    assert unavailable.headers["Retry-After"] == "1"
    body = json.loads(unavailable.text)
    assert body == {"detail": "tokens cannot be verified at the moment"}
    assert "failed to verify a token: what is known is" in caplog.text
