"""A client of the old API, which does not know that the API has moved."""

import json

import requests

PASSWORD = "correct horse"


class Client:
    """Sends requests, and records the status and the body of each reply, with `zoe` as the name."""

    def __init__(self, url, name):
        self.url, self.name = url, name
        self.replies = {}

    def send(self, what, method, path, token=None, headers=None, **options):
        headers = headers or ({"Authorization": f"Bearer {token}"} if token else {})
        reply = requests.request(method, self.url + path, headers=headers, timeout=20, **options)
        is_json = reply.headers["Content-Type"] == "application/json"
        body = json.loads(reply.text.replace(self.name, "zoe")) if is_json else "HTML"
        self.replies[what] = reply.status_code, body
        return body

    def post(self, what, path, username, password, **options):
        return self.send(what, "POST", path, json={"username": username, "password": password},
                         **options)


def talk_to(url, name):
    """Does all that the clients of one user do. Returns the reply to each request."""
    client = Client(url, name)
    client.send("`GET /`", "GET", "/")
    client.send("register without a password", "POST", "/auth/register", json={"username": name})
    client.post("register", "/auth/register", name, PASSWORD)
    client.post("register a name that exists", "/auth/register", name, PASSWORD)
    client.post("register `ZOE`, where `zoe` exists", "/auth/register", name.upper(), PASSWORD)
    client.post("register a name with a space", "/auth/register", f"{name} {name}", PASSWORD)
    client.post("register with a password of six characters", "/auth/register", f"{name}-2",
                "secret")
    client.post("log in without a password", "/auth/login", name, "")
    client.post("log in with a wrong password", "/auth/login", name, "wrong")
    client.post("log in with a wrong name", "/auth/login", "unknown", "wrong")
    client.post("log in as `Zoe`, registered as `zoe`", "/auth/login", name.title(), PASSWORD)
    token = client.post("log in", "/auth/login", name, PASSWORD)["access_token"]

    def read_dashboard(what, **options):
        client.send(what, "GET", "/protected/dashboard", **options)

    read_dashboard("call the API", token=token)
    read_dashboard("call the API without a token")
    read_dashboard("call the API with another scheme", headers={"Authorization": "Basic eA=="})
    read_dashboard("a header that is no bearer token", headers={"Authorization": "Bearer"})
    read_dashboard("a token that is no JWT", token="x")
    read_dashboard("a forged token", token=token[:-4] + "AAAA")
    client.send("a body that is no JSON", "POST", "/auth/login", data="x")
    client.send("an unknown path", "GET", "/nowhere")
    client.send("log out without a token", "POST", "/auth/logout")
    client.send("log out", "POST", "/auth/logout", token=token)
    read_dashboard("call the API after the logout", token=token)
    client.send("log out again", "POST", "/auth/logout", token=token)
    client.post("log in again", "/auth/login", name, PASSWORD)
    return client.replies


def differences(old, new):
    """Returns the requests with other replies, as [request, old reply, new reply].

    A field that only the new reply has is no difference, since clients ignore it.
    """
    def shown(status, body):
        if isinstance(body, str):
            return f"{status} {body}"
        return f"{status} `{body['msg']}`" if "msg" in body else str(status)

    def same(old, new):
        if isinstance(old[1], str) or isinstance(new[1], str):
            return old == new
        return old[0] == new[0] and all(
            new[1].get(name) == value or (name == "access_token" and name in new[1])
            for name, value in old[1].items())

    return [[what, shown(*old[what]), shown(*new[what])] for what in old
            if not same(old[what], new[what])]
