"""Logs in, reads and logs out with a client that openapi-python-client has generated."""

import os
from pathlib import Path

import portcullis_client
from portcullis_client import AuthenticatedClient, Client
from portcullis_client.api.authentication import login, logout, register
from portcullis_client.api.protected import dashboard
from portcullis_client.models import Credentials, Dashboard, Error, Login, LoginTokens, Message

URL = os.environ["API_URL"]

with Client(base_url=URL) as client:
    register.sync(client=client, body=Credentials(username="python", password="testpass"))
    refused = login.sync(client=client, body=Login(username="python", password="wrong"))
    assert isinstance(refused, Error) and refused.code == "invalid_credentials", refused
    tokens = login.sync(client=client, body=Login(username="python", password="testpass"))
    assert isinstance(tokens, LoginTokens), tokens

with AuthenticatedClient(base_url=URL, token=tokens.access_token) as client:
    read = dashboard.sync(client=client)
    assert isinstance(read, Dashboard), read
    ended = logout.sync(client=client)
    assert isinstance(ended, Message), ended
    refused = dashboard.sync(client=client)
    assert isinstance(refused, Error) and refused.code == "token_revoked", refused

models = {path.stem for path in Path(portcullis_client.__file__).parent.glob("models/*.py")}
count = len(models - {"__init__"})
assert count < 100, models
print(f"logged in, read the dashboard, logged out; {count} models")
