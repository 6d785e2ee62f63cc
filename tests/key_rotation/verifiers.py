"""Verifiers of access tokens that know the service only by its JWKS."""

import random
import re
import signal
import threading
import time
from collections import namedtuple

import jwt
import requests
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry
from joserfc.jwt import decode as joserfc_decode

from processes import FOLDER, ending, free_port, http_session, render, repetitions, run

AUDIENCE = "orders"
Reply = namedtuple("Reply", "fetched_at max_age etag jwks")


class Refused(Exception):
    pass


def fetch_from_any(urls, previous=None):
    """Fetches the JWKS from a random instance, revalidating the previous reply."""
    headers = {"If-None-Match": previous.etag} if previous else {}
    for url in random.sample(urls, len(urls)):
        fetched_at = time.monotonic()
        try:
            reply = requests.get(f"{url}/.well-known/jwks.json", headers=headers, timeout=5)
        except requests.ConnectionError:
            continue
        if reply.status_code == 503:
            continue
        reply.raise_for_status()
        max_age = int(re.search(r"max-age=(\d+)", reply.headers["Cache-Control"])[1])
        jwks = previous.jwks if reply.status_code == 304 else reply.json()
        return Reply(fetched_at, max_age, reply.headers["ETag"], jwks)
    raise Refused("no instance serves the JWKS")


class SharedCache:
    """An HTTP cache in front of the instances. Fetches a reply when the one before has expired."""

    def __init__(self, urls):
        self.reply = fetch_from_any(urls)
        threading.Thread(target=self._refresh, args=[urls], daemon=True).start()

    def _refresh(self, urls):
        while not ending.wait(self.reply.max_age):
            self.reply = fetch_from_any(urls, self.reply)


class Keys:
    """A verifier's own copy of the JWKS. Never fetches before max-age has passed."""

    def __init__(self, fetch, parse, hold=1):
        self.fetch, self.parse, self.hold = fetch, parse, hold
        self.expires_at, self.oldest = 0, 0

    def get(self):
        if time.monotonic() >= self.expires_at:
            self.reply = self.fetch()
            self.keys = self.parse(self.reply.jwks)
            self.expires_at = time.monotonic() + self.reply.max_age * self.hold
        self.oldest = max(self.oldest, time.monotonic() - self.reply.fetched_at)
        return self.keys


class Strict:
    """PyJWT with a JWKS that is up to twice max-age old: it comes from the shared cache, and its
    age there does not count. `hold` multiplies max-age: more than 1 violates it."""

    def __init__(self, issuer, cache, hold=1):
        self.issuer = issuer
        self.keys = Keys(lambda: cache.reply, jwt.PyJWKSet.from_dict, hold)

    def verify(self, token):
        kid = jwt.get_unverified_header(token)["kid"]
        key = next((key for key in self.keys.get().keys if key.key_id == kid), None)
        if not key:
            raise Refused(f"unknown key {kid}")
        decode(token, key, self.issuer)


class PyJWKClient:
    """PyJWT with its own JWKS client."""

    def __init__(self, issuer, jwks_uri, max_age):
        # The client ignores Cache-Control, and its default is 300 s.
        self.issuer, self.client = issuer, jwt.PyJWKClient(jwks_uri, lifespan=max_age)

    def verify(self, token):
        decode(token, self.client.get_signing_key_from_jwt(token), self.issuer)


def decode(token, key, issuer):
    jwt.decode(token, key, algorithms=["ES256"], issuer=issuer, audience=AUDIENCE)


class Joserfc:
    """joserfc. It has no JWKS client, so the JWKS comes from the instances."""

    def __init__(self, issuer, urls):
        self.keys = Keys(lambda: fetch_from_any(urls), KeySet.import_key_set)
        self.claims = JWTClaimsRegistry(
            iss={"essential": True, "value": issuer}, aud={"essential": True, "value": AUDIENCE}
        )

    def verify(self, token):
        decoded = joserfc_decode(token, self.keys.get(), algorithms=["ES256"])
        self.claims.validate(decoded.claims)


class Gateway:
    """A process that answers 200 or 401 to a request with a token."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.http, self.repeated = http_session(), 0

    def verify(self, token):
        headers = {"Authorization": f"Bearer {token}"}
        reply = self.http.get(self.url, headers=headers, timeout=10)
        self.repeated += repetitions(reply)
        if reply.status_code != 200:
            raise Refused(f"{reply.status_code} {reply.text}")


class Service(Gateway):
    """The service itself, behind its load balancer."""

    def __init__(self, issuer):
        super().__init__()
        self.url = f"{issuer}/protected/dashboard"


class Jose(Gateway):
    """jose on Node.js with createRemoteJWKSet."""

    def __init__(self, issuer, jwks_uri, max_age):
        super().__init__()
        run("jose", ["node", "tests/key_rotation/jose.mjs"], port=self.port, PORT=self.port,
            JWKS_URI=jwks_uri, ISSUER=issuer, AUDIENCE=AUDIENCE, MAX_AGE=max_age)


class Envoy(Gateway):
    """Envoy with jwt_authn and a remote JWKS."""

    def __init__(self, program, issuer, jwks_uri, max_age):
        super().__init__()
        config = render("tests/key_rotation/envoy.yaml", port=self.port, issuer=issuer, audience=AUDIENCE,
                        jwks_uri=jwks_uri, jwks_port=re.search(r":(\d+)/", jwks_uri)[1],
                        max_age=max_age)
        run("envoy", [program, "-c", config, "--concurrency", "1", "--disable-hot-restart",
                      "--log-level", "warning"], port=self.port)


class HAProxy(Gateway):
    """HAProxy with jwt_verify, and a thread that fetches the JWKS and reloads HAProxy with it."""

    def __init__(self, issuer, urls):
        super().__init__()
        self.issuer, self.urls = issuer, urls
        reply = fetch_from_any(urls)
        config = self._write(reply.jwks)
        # -W: a master process that replaces the worker at SIGUSR2.
        self.process = run("haproxy", ["haproxy", "-W", "-f", config], port=self.port)
        threading.Thread(target=self._follow, args=[reply], daemon=True).start()

    def _follow(self, reply):
        while not ending.wait(reply.max_age):
            previous, reply = reply, fetch_from_any(self.urls, reply)
            if reply.jwks != previous.jwks:
                self._write(reply.jwks)
                self.process.send_signal(signal.SIGUSR2)

    def _write(self, jwks):
        lines = []
        for key in jwks["keys"]:
            # The kid is a hash in base64url, so it is a safe file name.
            assert re.fullmatch(r"[\w-]+", key["kid"]), key
            pem = jwt.PyJWK(key).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            path = FOLDER / f"{key['kid']}.pem"
            path.write_bytes(pem)
            # `--` because a kid may begin with a hyphen.
            lines.append(f'    http-request set-var(txn.verified) http_auth_bearer,'
                         f'jwt_verify("ES256","{path}")'
                         f' if {{ var(txn.kid) -m str -- {key["kid"]} }}')
        return render("tests/key_rotation/haproxy.cfg", port=self.port, issuer=self.issuer, audience=AUDIENCE,
                      keys="\n".join(lines))
