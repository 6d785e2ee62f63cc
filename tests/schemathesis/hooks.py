"""Authentication for Schemathesis, which the OpenAPI document cannot describe."""

import os
import subprocess
import uuid

import requests
import schemathesis

URL = os.environ["API_URL"]
# The password in the examples of the document.
PASSWORD = "testpass"
CREATE = [os.environ["PROGRAM"], "user", "create", "--role", "user", "--role", "admin"]


@schemathesis.auth(refresh_interval=None)
class Bearer:
    """Gives each resource a separate administrator, and a new one when its token is refused: the
    tested operations end sessions, change passwords and delete accounts."""

    def __init__(self):
        self.tokens = {}

    def get(self, case, context):
        resource = context.operation.path.split("/{")[0]
        if not is_accepted(self.tokens.get(resource)):
            self.tokens[resource] = create_administrator_token()
        return self.tokens[resource]

    def set(self, case, token, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}


def is_accepted(token):
    return requests.get(f"{URL}/auth/me", headers={"Authorization": f"Bearer {token}"}).ok


def create_administrator_token():
    username = f"admin-{uuid.uuid4()}"
    subprocess.run([*CREATE, username], input=PASSWORD, text=True, stdout=subprocess.DEVNULL, check=True)
    credentials = {"username": username, "password": PASSWORD}
    reply = requests.post(f"{URL}/auth/login", json=credentials)
    reply.raise_for_status()
    return reply.json()["access_token"]
