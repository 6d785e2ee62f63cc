"""Gets, introspects and revokes tokens with Authlib, as a client of the service."""

import os

from authlib.integrations.requests_client import OAuth2Session

URL = os.environ["API_URL"]

for method in ["client_secret_basic", "client_secret_post"]:
    session = OAuth2Session(
        os.environ["CLIENT_ID"],
        os.environ["CLIENT_SECRET"],
        scope="tokens:introspect",
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
    )
    token = session.fetch_token(f"{URL}/oauth/token", grant_type="client_credentials")
    assert token["scope"] == "tokens:introspect", token
    access_token = token["access_token"]

    def introspect() -> dict:
        reply = session.introspect_token(f"{URL}/oauth/introspect", token=access_token)
        reply.raise_for_status()
        return reply.json()

    claims = introspect()
    assert claims["active"] and claims["client_id"] == os.environ["CLIENT_ID"], claims
    session.revoke_token(f"{URL}/oauth/revoke", token=access_token).raise_for_status()
    assert introspect() == {"active": False}

print("got, introspected and revoked tokens, with both methods of authentication")
