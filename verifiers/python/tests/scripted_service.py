"""A service that follows a script. It serves the feed, keys and introspection, or misbehaves."""

import contextlib
import gzip
import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

ISSUER = "https://auth.example.com"
AUDIENCE = "orders"

Fault = Callable[["Handler"], None]


class ScriptedService(ThreadingHTTPServer):
    """`faults` has a function for each route that is broken, which answers instead of it."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        if tls is not None:
            self.url = f"https://localhost:{self.server_port}"
            # The handshake is made by the thread of the connection, at its first read.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.bound_ms, self.max_age = 500, 300
        self.faults: dict[str, Fault] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.active = True
        self._revoked: list[tuple[str, int]] = []
        self._changed = threading.Condition()
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self._tokens = 0
        self.add_key("key-1")
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    def add_key(self, kid: str) -> None:
        self._keys[kid] = ec.generate_private_key(ec.SECP256R1())

    def revoke(self, token_id: str) -> None:
        with self._changed:
            self._revoked.append((token_id, int(time.time()) + 3600))
            self._changed.notify_all()

    def issue(self, kid: str = "key-1", **claims: Any) -> str:
        now = int(time.time())
        self._tokens += 1
        ids = {"sub": "user-1", "sid": "session-1", "jti": f"token-{self._tokens}"}
        times = {"iat": now, "nbf": now, "exp": now + 3600}
        scope = {"iss": ISSUER, "aud": [ISSUER, AUDIENCE], "scope": "orders:read"}
        header = {"typ": "at+jwt", "kid": kid}
        return jwt.encode(ids | times | scope | claims, self._keys[kid], "ES256", header)

    def jwks(self) -> dict[str, Any]:
        keys = []
        for kid, key in self._keys.items():
            public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            keys.append(public | {"kid": kid, "alg": "ES256", "use": "sig"})
        return {"keys": keys}

    def feed(self, query: dict[str, str]) -> dict[str, Any]:
        arrived = time.monotonic()
        seen = int(query.get("cursor", 0))
        with self._changed:
            self._changed.wait_for(
                lambda: "cursor" not in query or len(self._revoked) > seen, float(query["wait"])
            )
            return {
                "nonce": query["nonce"],
                "cursor": str(len(self._revoked)),
                "age_ms": round((arrived - time.monotonic()) * 1000),
                "now": int(time.time()),
                "bound_ms": self.bound_ms,
                "complete": "cursor" not in query,
                "revoked": self._revoked[seen:],
            }

    def reads(self) -> int:
        return sum(path == "/revocations" for path, _ in self.requests)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedService

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.requests.append((parts.path, dict(self.headers)))
        fault = self.server.faults.get(parts.path)
        if fault is not None:
            fault(self)
        elif parts.path == "/revocations":
            self.answer(self.server.feed(self.query))
        else:
            cache_control = f"public, max-age={self.server.max_age}"
            self.answer(self.server.jwks(), {"Cache-Control": cache_control})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.requests.append((self.path, dict(self.headers)))
        fault = self.server.faults.get(self.path)
        if fault is not None:
            fault(self)
            return
        claims = jwt.decode(form["token"][0], options={"verify_signature": False})
        self.answer(
            {"active": True, "jti": claims["jti"]} if self.server.active else {"active": False}
        )

    def answer(self, body: Any, headers: dict[str, str] | None = None, status: int = 200) -> None:
        data = gzip.compress(json.dumps(body).encode())
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        # A verifier that was closed takes no reply.
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def refuse(status: int, headers: dict[str, str] | None = None) -> Fault:
    return lambda handler: handler.answer({"msg": "no"}, headers, status)


def cut(handler: Handler) -> None:
    handler.close_connection = True


def stall(released: threading.Event) -> Fault:
    """Answer nothing until the event."""

    def wait(handler: Handler) -> None:
        released.wait(60)
        handler.close_connection = True

    return wait


def trickle(head: bool) -> Fault:
    """Answer a byte at a time, without an end: of the head, or of the body."""

    def answer(handler: Handler) -> None:
        if not head:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
        handler.close_connection = True
        # Until the verifier hangs up.
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"H" if head else b" ")
                time.sleep(0.01)

    return answer


def repeat_first_reply() -> Fault:
    """Answer like a cache that ignores the query."""
    replies: list[Any] = []

    def answer(handler: Handler) -> None:
        if not replies:
            replies.append(handler.server.feed(handler.query))
        handler.answer(replies[0])

    return answer


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)
