#!/usr/bin/env python3
"""Asks real gateways for an API behind them, while they ask the service: `make interop-gateways`.

Names of gateways on the command line select some of them.
"""

import os
import secrets
import signal
import subprocess
import sys
from urllib.parse import quote

import jwt
import requests

from gateways_programs import GATEWAYS
from gateways_upstream import Upstream
from processes import eventually, free_port, run, run_main

PROGRAM = os.environ["PROGRAM"]
DATABASE = os.environ["TEST_DATABASE_URL"]
SECRET = secrets.token_hex(32)
USERNAME, PASSWORD = "Ζωή", "testpass"
# The lowest possible.
MAX_STALENESS = 2
TIME_LIMIT = 240
IDENTITY = ["user-id", "username", "roles", "scope", "session-id", "client-id"]
PREFLIGHT = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET",
             "Access-Control-Request-Headers": "authorization"}


class Service:
    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()
        self.post("register").raise_for_status()

    def start(self):
        # With a shared secret, so that the test can sign tokens.
        self.process = run(
            "service", [PROGRAM], port=self.port, PORT=self.port, HOST="127.0.0.1",
            DATABASE_URL=DATABASE, JWT_SECRET_KEY=SECRET, JWT_ALGORITHM="HS256", LOG_FORMAT="json",
            PBKDF2_ITERATIONS=100_000, REVOCATION_MAX_STALENESS=MAX_STALENESS,
            REVOCATION_POLL_INTERVAL=1, DATABASE_ACQUIRE_TIMEOUT=1)
        eventually(lambda: requests.get(f"{self.url}/health/ready").ok)

    def post(self, action, token=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        credentials = {"username": USERNAME, "password": PASSWORD}
        return requests.post(f"{self.url}/auth/{action}", json=credentials, headers=headers)

    def token(self, **claims):
        """Logs in, and returns the token with other claims."""
        token = self.post("login").json()["access_token"]
        claims = jwt.decode(token, options={"verify_signature": False}) | claims
        return jwt.encode(claims, SECRET, "HS256", jwt.get_unverified_header(token))

    def check(self, token):
        return requests.get(f"{self.url}/auth/check", headers={"Authorization": f"Bearer {token}"})


class Asker:
    """Sends requests to the API through one gateway."""

    def __init__(self, gateway, service, upstream):
        self.gateway, self.service, self.upstream = gateway, service, upstream
        self.good = service.token(roles=["clerk", "user"], scope="orders:read users:read")

    def ask(self, token=None, method="GET", path="/orders/7?x=1", **options):
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        headers = options.pop("headers", {}) | bearer
        url = f"{self.gateway.url}{path}"
        return requests.request(method, url, headers=headers, timeout=60, **options)

    def accepted(self, *arguments, **options):
        """Sends a request that has to reach the API. Returns what the API shows."""
        reply = self.ask(*arguments, **options)
        assert reply.status_code == 200, f"{reply.status_code} {reply.text}"
        return reply.json()

    def refused(self, status, *arguments, **options):
        """Sends a request that must not reach the API."""
        reached = self.upstream.requests
        reply = self.ask(*arguments, **options)
        assert self.upstream.requests == reached, f"it reached the API: {reply.text}"
        assert reply.status_code == status, f"{reply.status_code} instead of {status}"
        return reply

    def assert_identity(self, shown, token):
        """Checks that the API has got the identity of the token, and no other one."""
        got = {}
        for name, value in shown["headers"]:
            # As frameworks do that pass headers on as variables.
            got.setdefault(name.lower().replace("_", "-"), []).append(value)
        claims = jwt.decode(token, options={"verify_signature": False})
        expected = [claims["sub"], quote(USERNAME), " ".join(claims["roles"]), claims["scope"],
                    claims["sid"], claims["client_id"]]
        for name, value in zip(IDENTITY, expected):
            values = got.get(f"x-auth-{name}", [""])
            assert values == [value], f"X-Auth-{name} is {values} instead of {value!r}"


def good_token_passes(it):
    shown = it.accepted(it.good)
    assert (shown["method"], shown["path"]) == ("GET", "/orders/7?x=1"), shown
    it.assert_identity(shown, it.good)


def every_method_passes(it):
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PURGE"]:
        shown = it.accepted(it.good, method=method)
        assert shown["method"] == method, shown
        it.assert_identity(shown, it.good)
        it.refused(401, method=method)


def body_passes(it):
    shown = it.accepted(it.good, method="POST", data=b"x" * 1_000_000)
    assert shown["body"] == 1_000_000, shown
    it.assert_identity(shown, it.good)
    it.refused(401, method="POST", data=b"x" * 1_000)


def missing_and_bad_tokens_are_refused(it):
    for token in [None, "nonsense", it.good + "x"]:
        challenge = it.refused(401, token).headers["WWW-Authenticate"]
        assert challenge.startswith("Bearer"), challenge


def logged_out_token_is_refused_at_once(it):
    token = it.service.token(scope="orders:read")
    it.accepted(token)
    it.service.post("logout", token).raise_for_status()
    it.refused(401, token)


def missing_permission_is_refused(it):
    it.refused(403, it.service.token(scope="orders:write"))


def forged_identity_is_replaced(it):
    bare = it.service.token(roles=[], scope="orders:read")
    for token in [it.good, bare]:
        for name in IDENTITY:
            plain = f"X-Auth-{name}"
            for forged in [plain, plain.replace("-", "_"), plain.replace("-", "_", 1),
                           plain[::-1].replace("-", "_", 1)[::-1], plain.lower()]:
                it.assert_identity(it.accepted(token, headers={forged: "admin"}), token)


def identity_survives_hop_by_hop_headers(it):
    named = {"Connection": "keep-alive, X-Auth-User-Id, X-Auth-Roles", "X-Auth-Roles": "admin"}
    it.assert_identity(it.accepted(it.good, headers=named), it.good)


def client_cannot_change_the_question(it):
    token = it.service.token(scope="orders:write")
    for name in ["X-Auth-Require", "X_Auth_Require", "X-Original-URI", "X-Forwarded-Uri"]:
        it.refused(403, token, headers={name: "orders:write"})
    for path in ["/auth/check", "/_check", "/?permission=orders:write", "//", "/%2e%2e/", "/a%2Fb"]:
        assert it.ask(token, path=path).status_code in [400, 403, 404], path


def preflight_is_refused(it):
    it.refused(401, method="OPTIONS", headers=PREFLIGHT)
    it.refused(403, it.service.token(scope=""), method="OPTIONS", headers=PREFLIGHT)


HEALTHY = [good_token_passes, every_method_passes, body_passes, missing_and_bad_tokens_are_refused,
           logged_out_token_is_refused_at_once, missing_permission_is_refused,
           forged_identity_is_replaced, identity_survives_hop_by_hop_headers,
           client_cannot_change_the_question, preflight_is_refused]


def unavailable_service_closes_the_door(it):
    it.refused(503, it.good)


def slow_service_closes_the_door(it):
    it.refused(it.gateway.slow, it.good)


def dead_service_closes_the_door(it):
    it.refused(it.gateway.dead, it.good)


def main(names):
    upstream, service = Upstream(), Service()
    chosen = [kind for kind in GATEWAYS if not names or kind.__name__.lower() in names]
    assert chosen, f"no gateway is named {names}"
    askers = [Asker(kind(service.port, upstream.port), service, upstream) for kind in chosen]
    problems = []
    for case in HEALTHY:
        problems += check(case, askers)

    accept_connections_of_service(False)
    eventually(lambda: service.check(askers[0].good).status_code == 503)
    problems += check(unavailable_service_closes_the_door, askers)
    accept_connections_of_service(True)
    eventually(lambda: service.check(askers[0].good).status_code == 200)

    service.process.send_signal(signal.SIGSTOP)
    problems += check(slow_service_closes_the_door, askers)
    service.process.send_signal(signal.SIGCONT)

    service.process.kill()
    service.process.wait()
    problems += check(dead_service_closes_the_door, askers)
    service.start()
    problems += check(good_token_passes, askers)
    return problems


def check(case, askers):
    """Runs a case with every gateway, and returns what went wrong."""
    problems = []
    for asker in askers:
        try:
            case(asker)
        except Exception as error:
            problems.append(f"{asker.gateway.name}: {case.__name__}: {error}")
    print(f"{case.__name__}: {len(askers) - len(problems)} of {len(askers)}", flush=True)
    return problems


def accept_connections_of_service(is_accepting):
    """Lets the database accept connections, or closes those that it has and refuses others."""
    server, _, name = DATABASE.rpartition("/")
    sql = [f"alter database {name} allow_connections {is_accepting}"]
    if not is_accepting:
        sql.append(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
    for statement in sql:
        subprocess.run(["psql", "-qXAt", "-d", f"{server}/template1", "-c", statement], check=True,
                       stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    run_main(lambda: main(sys.argv[1:]), TIME_LIMIT)
