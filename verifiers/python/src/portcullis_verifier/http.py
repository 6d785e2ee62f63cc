"""Requests to the service, with the standard library.

It follows no redirect, keeps no cache, and heeds no proxy of the environment: nothing else answers
for the service.
"""

import base64
import contextlib
import os
import ssl
import threading
import time
import zlib
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from socket import SHUT_RDWR, create_connection, socket
from urllib.parse import urlsplit

# Largest body, decompressed. A revocation takes some 52 bytes.
MAX_BODY = 256 * 1024 * 1024
CHUNK = 256 * 1024
OK = 200


class RequestFailed(Exception):
    """The service did not answer, or not with 200."""

    def __init__(self, message: str, retry_after: float = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Service:
    """Address of the service, and the credentials of this client."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        """Refuse plain HTTP, except on loopback."""
        parts = urlsplit(self.url)
        if not parts.hostname or parts.scheme not in ("https", "http"):
            raise ValueError(f"not a URL with https: {self.url}")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError(f"{self.url} needs https: only on loopback is http secure")

    def authorization(self) -> str:
        """Return the value of the header `Authorization` (HTTP Basic)."""
        pair = f"{self.client_id}:{self.client_secret}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def connect(self, timeout: float) -> "Connection":
        """Return a connection, which opens with its first request."""
        return Connection(self, timeout)


@dataclass(frozen=True)
class Reply:
    """A reply with status 200."""

    headers: Message
    body: bytearray


class Connection:
    """A connection to the service that is kept for as long as its requests succeed."""

    def __init__(self, service: Service, timeout: float) -> None:
        self._service = service
        # Longest wait for the next bytes, in seconds.
        self._timeout = timeout
        self._http: HTTPConnection | None = None
        self._socket: socket | None = None
        # End of the request that is under way.
        self._deadline = float("-inf")

    def request(
        self,
        path: str,
        headers: dict[str, str],
        *,
        form: str | None = None,
        wait: float = 0,
        deadline: float | None = None,
    ) -> Reply:
        """Send a GET, or a POST of a form. The service may hold its reply for `wait` seconds.

        The whole reply has to arrive within `deadline` seconds, by default within the timeout of
        the connection. Raises `RequestFailed`, after which the next request opens a new connection.
        """
        method = "GET" if form is None else "POST"
        headers = {"Accept-Encoding": "gzip", "Cache-Control": "no-cache, no-store"} | headers
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        # The timeout of a socket begins anew with every byte.
        limit = self._timeout if deadline is None else deadline
        self._deadline = time.monotonic() + limit
        watch = threading.Timer(limit, self.abort)
        watch.daemon = True
        watch.start()
        try:
            return self._exchange(method, path, headers, form, wait)
        except (OSError, HTTPException, zlib.error) as error:
            self.close()
            is_late = time.monotonic() >= self._deadline
            reason = "the reply takes too long" if is_late else repr(error)
            raise RequestFailed(f"failed to read {path.partition('?')[0]}: {reason}") from error
        except RequestFailed:
            self.close()
            raise
        finally:
            watch.cancel()

    def abort(self) -> None:
        """End a request that another thread waits for."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # That of `SSLSocket` would let the thread read on, without decryption.
                socket.shutdown(self._socket, SHUT_RDWR)

    def close_inherited(self) -> None:
        """Close the connection in a forked process, without a word to the service.

        The thread that uses it exists in the parent process only, and may hold its locks.
        """
        if self._socket is not None:
            os.close(self._socket.detach())

    def close(self) -> None:
        """Close the connection. The next request opens another."""
        http, self._http, self._socket = self._http, None, None
        if http is not None:
            http.close()

    def _exchange(
        self, method: str, path: str, headers: dict[str, str], form: str | None, wait: float
    ) -> Reply:
        http, connected = self._http or self._open(), self._socket
        assert connected is not None
        connected.settimeout(wait + self._timeout)
        http.request(method, urlsplit(self._service.url).path.rstrip("/") + path, form, headers)
        response = http.getresponse()
        connected.settimeout(self._timeout)
        unzip = zlib.decompressobj(wbits=31)
        is_zipped = response.headers.get("Content-Encoding") == "gzip"
        body = bytearray()
        while chunk := response.read1(CHUNK):
            body += unzip.decompress(chunk, MAX_BODY) if is_zipped else chunk
            if len(body) > MAX_BODY or unzip.unconsumed_tail:
                raise RequestFailed("the reply is too large")
        # `read1` leaves the reply open, and with it the connection in use.
        response.close()
        if response.length or (is_zipped and not unzip.eof):
            raise HTTPException("the reply is incomplete")
        if response.status != OK:
            retry_after = response.headers.get("Retry-After", "")
            text = bytes(body[:200]).decode(errors="replace")
            raise RequestFailed(
                f"{method} {path.partition('?')[0]} got {response.status}: {text}",
                float(retry_after) if retry_after.isdecimal() else 0,
            )
        if response.will_close:
            self.close()
        return Reply(response.headers, body)

    def _open(self) -> HTTPConnection:
        parts = urlsplit(self._service.url)
        host = parts.hostname or ""
        context = None
        if parts.scheme == "http":
            http = HTTPConnection(host, parts.port)
        else:
            context = self._service.ssl_context or ssl.create_default_context()
            http = HTTPSConnection(host, parts.port, context=context)
        self._http = http
        # `abort` needs the socket during the handshake, too, and after the head of a last reply,
        # when `http` has let go of it.
        http.sock = self._socket = create_connection((host, http.port), self._timeout)
        if time.monotonic() >= self._deadline:
            raise TimeoutError
        if context is not None:
            encrypted = context.wrap_socket(
                http.sock, server_hostname=host, do_handshake_on_connect=False
            )
            http.sock = self._socket = encrypted
            encrypted.do_handshake()
        return http


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
