"""Who calls: the document cannot tell Schemathesis."""

import os
import subprocess
import uuid

import requests
import schemathesis

URL = os.environ["API_URL"]
# The password that the examples in the document have.
PASSWORD = "testpass"
CREATE = [os.environ["PROGRAM"], "user", "create", "--role", "user", "--role", "admin"]


@schemathesis.auth(refresh_interval=None)
class Bearer:
    """Lends each resource an administrator of its own, and another once the token of that one is
    refused: what is tested ends sessions, changes passwords and deletes accounts."""

    def __init__(self):
        self.tokens = {}

    def get(self, case, context):
        resource = context.operation.path.split("/{")[0]
        if not is_good(self.tokens.get(resource)):
            self.tokens[resource] = token_of_a_new_administrator()
        return self.tokens[resource]

    def set(self, case, token, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}


def is_good(token):
    return requests.get(f"{URL}/auth/me", headers={"Authorization": f"Bearer {token}"}).ok


def token_of_a_new_administrator():
    username = f"admin-{uuid.uuid4()}"
    subprocess.run([*CREATE, username], input=PASSWORD, text=True, stdout=subprocess.DEVNULL, check=True)
    credentials = {"username": username, "password": PASSWORD}
    reply = requests.post(f"{URL}/auth/login", json=credentials)
    reply.raise_for_status()
    return reply.json()["access_token"]
