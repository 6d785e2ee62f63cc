#!/usr/bin/env python3
"""Sends requests through real reverse proxies, with the files that users are given:
`make interop-proxies`."""

import os
import re
import secrets
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
import urllib3

from processes import FOLDER, eventually, free_port, log_of, run, run_main, write

PROGRAM = os.environ["PROGRAM"]
TIME_LIMIT = 120
CREDENTIALS = {"username": "testuser", "password": "testpass"}
# The limits in the files.
MAX_CONNECTIONS, MAX_REQUESTS = 200, 1000
# Written in every way that a proxy and the service might take differently.
HIDDEN = ["/admin/users", "//admin/users", "/./admin/users", "/auth/../admin/users",
          "/auth/%2e%2e/admin/users", "/%61dmin/users", "/admin%2fusers", "/metrics", "/%6detrics",
          "/health/ready", "/docs", "/openapi.json", "http://localhost/metrics",
          "http://127.0.0.1:5001/metrics"]
OTHER_ADDRESS = "127.0.0.2"
# No check before the one of requests has sent any from here: they would count, too.
FRESH_ADDRESS = "127.0.0.3"


class Service:
    def __init__(self):
        self.port, self.management_port = free_port(), free_port()
        self.settings = dict(
            PORT=self.port, HOST="127.0.0.1", MANAGEMENT_ADDRESS=f"127.0.0.1:{self.management_port}",
            DATABASE_URL=f"sqlite://{FOLDER}/portcullis.db", JWT_SECRET_KEY=secrets.token_hex(32),
            TRUSTED_PROXIES="127.0.0.1", PBKDF2_ITERATIONS=100_000, LOG_FORMAT="json")
        run("service", [PROGRAM], port=self.port, **self.settings)
        management = f"http://127.0.0.1:{self.management_port}"
        eventually(lambda: requests.get(f"{management}/health/ready").ok)
        reply = requests.post(f"http://127.0.0.1:{self.port}/auth/register", json=CREDENTIALS)
        reply.raise_for_status()

    def command(self, *arguments):
        env = os.environ | {name: str(value) for name, value in self.settings.items()}
        return subprocess.run([PROGRAM, *arguments], env=env, check=True, capture_output=True,
                              text=True).stdout


class Proxy:
    """A reverse proxy. Only ports, paths and names of hosts are replaced in its file."""

    scheme = "https"

    def __init__(self, service, certificate):
        self.name = type(self).__name__
        self.port = free_port()
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"
        text = Path(self.file).read_text()
        for part, replacement in {
            "/etc/ssl/auth.example.com.pem": certificate,
            "/etc/ssl/auth.example.com.key": certificate,
            "bind :5001": f"bind 127.0.0.1:{free_port()}",
            "bind :5000": f"bind :{self.port}",
            "app:5000 resolvers docker init-addr none": f"127.0.0.1:{service.port}",
            "app:5001 resolvers docker init-addr none": f"127.0.0.1:{service.management_port}",
        }.items():
            text = text.replace(part, replacement)
        ports = {"5000": service.port, "5001": service.management_port, "443": self.port}
        text = re.sub(r"\b(5000|5001|443)\b", lambda port: str(ports[port[0]]), text)
        self.start(write(f"{self.name}.cfg", text))

    def start(self, config):
        run(self.name, ["haproxy", "-db", "-f", config], port=self.port)

    def connect(self, address="127.0.0.1"):
        connection = socket.create_connection(("127.0.0.1", self.port), 10, (address, 0))
        if self.scheme == "https":
            connection = CONTEXT.wrap_socket(connection)
        return connection

    def get_raw(self, target, connection=None):
        """Sends a request target as it is. Returns the status, 0 without a reply."""
        head = f"GET {target} HTTP/1.1\r\nHost: auth.example.com\r\n\r\n".encode()
        try:
            connection = connection or self.connect()
            connection.sendall(head)
            reply = connection.recv(4096)
        except OSError:
            return 0
        return int(reply.split()[1]) if reply else 0

    def send(self, method, path, token=None, **options):
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        return requests.request(method, f"{self.url}{path}", headers=headers, verify=False,
                                timeout=30, **options)


class Nginx(Proxy):
    file = "examples/reverse-proxy/nginx.conf"

    def start(self, config):
        main = write("nginx-main.conf", f"""
            daemon off; user root; pid {FOLDER}/nginx.pid; error_log stderr;
            events {{ worker_connections 4096; }}
            http {{ access_log off; client_body_temp_path {FOLDER}/body; include {config}; }}
        """)
        run(self.name, ["nginx", "-p", FOLDER, "-c", main], port=self.port)


class HAProxy(Proxy):
    file = "examples/reverse-proxy/haproxy.cfg"


class Balancer(Proxy):
    """The load balancer of docker-compose.scale.yml. It has no TLS."""

    scheme = "http"
    file = "deploy/haproxy.cfg"


def check_accounts(proxy, service):
    """Logs in, and expects the address of the client, not one that the client sends."""
    eventually(lambda: proxy.send("GET", "/").ok)
    forged = {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.2"}
    login = proxy.send("POST", "/auth/login", json=CREDENTIALS, headers=forged)
    assert login.status_code == 200, login.text
    token = login.json()["access_token"]
    sessions = proxy.send("GET", "/auth/sessions", token).json()["sessions"]
    address = next(session["ip"] for session in sessions if session["current"])
    assert address == "127.0.0.1", address
    security = login.headers.get("Strict-Transport-Security")
    assert (security is not None) == (proxy.scheme == "https"), security


def check_hidden(proxy, service):
    for target in HIDDEN:
        status = proxy.get_raw(target)
        assert status in (400, 404), f"{target}: {status}"


def check_bodies(proxy, service):
    too_large = proxy.send("POST", "/auth/login", json={"username": "x" * 20_000})
    assert too_large.json()["code"] == "body_too_large", too_large.text


def check_feed(proxy, service):
    """Waits at the revocation feed, for longer than a tick of any of them."""
    client = service.command("client", "create", f"feed-{proxy.name}", "--permission",
                             "revocations:read", "--json")
    client = requests.models.complexjson.loads(client)
    auth = (client["client_id"], client["client_secret"])
    eventually(lambda: proxy.send("GET", "/revocations", auth=auth).ok)
    cursor = proxy.send("GET", "/revocations", auth=auth).json()["cursor"]
    waited = proxy.send("GET", "/revocations", params={"cursor": cursor, "wait": 2}, auth=auth)
    assert waited.status_code == 200 and waited.json()["revoked"] == [], waited.text
    assert waited.elapsed.total_seconds() > 1.5, waited.elapsed


def check_connections(proxy, service):
    """Opens connections until they are refused. Another address is served meanwhile."""
    held = []
    for _ in range(MAX_CONNECTIONS + 20):
        try:
            held.append(proxy.connect())
        except OSError:
            continue
        # nginx counts a connection while it has a request: an upload that does not end.
        held[-1].sendall(b"POST /auth/login HTTP/1.1\r\nHost: auth.example.com\r\n"
                         b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    eventually(lambda: proxy.get_raw("/") in (0, 429))
    # Connections of earlier checks count, too.
    assert len(held) >= MAX_CONNECTIONS - 10, len(held)
    assert proxy.get_raw("/", proxy.connect(OTHER_ADDRESS)) == 200
    for connection in held:
        connection.close()
    eventually(lambda: proxy.get_raw("/") == 200)


def check_requests(proxy, service):
    """Sends requests until they are refused. Another address is served meanwhile."""
    def burst(_):
        connection = proxy.connect(FRESH_ADDRESS)
        return [proxy.get_raw("/", connection) for _ in range(MAX_REQUESTS // 8)]

    with ThreadPoolExecutor(16) as pool:
        statuses = [status for statuses in pool.map(burst, range(16)) for status in statuses]
    assert statuses.count(200) >= 200, statuses.count(200)
    assert 429 in statuses, set(statuses)
    assert set(statuses) <= {0, 200, 429}, set(statuses)
    assert proxy.get_raw("/", proxy.connect(OTHER_ADDRESS)) == 200


def make_certificate():
    path = f"{FOLDER}/certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj",
                    "/CN=auth.example.com", "-keyout", path, "-out", f"{path}.crt"],
                   check=True, capture_output=True)
    with open(path, "a") as file:
        file.write(Path(f"{path}.crt").read_text())
    return path


def main():
    service = Service()
    certificate = make_certificate()
    problems = []
    for kind in [Nginx, HAProxy, Balancer]:
        proxy = kind(service, certificate)
        for check in [check_accounts, check_hidden, check_bodies, check_feed, check_connections,
                      check_requests]:
            try:
                check(proxy, service)
                print(f"ok: {proxy.name}: {check.__name__}", flush=True)
            except (AssertionError, requests.RequestException) as problem:
                problems.append(f"{proxy.name}: {check.__name__}: {problem}")
        print(log_of(proxy.name)[-300:] if problems else "", end="")
    return problems


urllib3.disable_warnings()
CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE
run_main(main, TIME_LIMIT)
