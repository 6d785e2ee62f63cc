"""Clients that log in and refresh all the time, and the checks of the tokens that they get."""

import collections
import queue
import random
import threading
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from processes import http_session, repetitions

CLIENTS = 6
PAUSE = 0.1
PASSWORD = "testpass"


class Load:
    """Clients with several sessions each. Every new token goes to all watches."""

    def __init__(self, url, watches):
        self.url, self.watches = url, watches
        self.done, self.failures, self.repeated = collections.Counter(), [], 0
        self.kids = collections.Counter()
        self.sessions = collections.defaultdict(list)
        self.stopping = threading.Event()
        self.clients = [threading.Thread(target=self._use, args=[f"client{number}"], daemon=True)
                        for number in range(CLIENTS)]

    def start(self):
        for client in self.clients:
            client.start()

    def stop(self):
        """Refreshes every session a last time. None may have been lost."""
        self.stopping.set()
        for client in self.clients:
            client.join()
        http = http_session()
        for session in sum(self.sessions.values(), []):
            self._refresh(http, session)

    def _use(self, username):
        http, sessions = http_session(), self.sessions[username]
        credentials = {"username": username, "password": PASSWORD}
        self._post(http, "register", credentials)
        while not self.stopping.is_set():
            if not sessions or random.random() < 0.05:
                if session := self._post(http, "login", credentials):
                    sessions.append(session)
            elif not self._refresh(http, session := random.choice(sessions)):
                sessions.remove(session)
            time.sleep(PAUSE)

    def _refresh(self, http, session):
        reply = self._post(http, "refresh", {"refresh_token": session["refresh_token"]})
        session.update(reply or {})
        return reply

    def _post(self, http, action, body):
        try:
            reply = http.post(f"{self.url}/auth/{action}", json=body, timeout=15)
        except OSError as error:
            self.failures.append(f"{action}: {error}")
            return None
        self.repeated += repetitions(reply)
        if not reply.ok:
            self.failures.append(f"{action}: {reply.status_code} {reply.text}")
            return None
        self.done[action] += 1
        if token := reply.json().get("access_token"):
            self.kids[jwt.get_unverified_header(token)["kid"]] += 1
            for watch in self.watches:
                watch.tokens.put((token, time.monotonic()))
        return reply.json()


class Watch(threading.Thread):
    """Gives each token to a verifier at once, and older ones again while they are valid."""

    def __init__(self, name, verifier, token_life):
        super().__init__(daemon=True)
        self.name, self.verifier = name, verifier
        # The times in a token are whole seconds, so it may expire a second early.
        self.usable = token_life - 2
        self.tokens = queue.SimpleQueue()
        self.accepted, self.reasons, self.latest = 0, [], 0

    def run(self):
        recent = collections.deque(maxlen=1000)
        while (issued := self.tokens.get()) is not None:
            recent.append(issued)
            self._check(*issued)
            self.latest = max(self.latest, time.monotonic() - issued[1])
            self._check(*random.choice(recent))

    def stop(self):
        self.tokens.put(None)
        self.join()

    def _check(self, token, issued_at):
        age = time.monotonic() - issued_at
        if age > self.usable:
            return
        try:
            self.verifier.verify(token)
            self.accepted += 1
        except Exception as error:
            self.reasons.append(f"{type(error).__name__} {error} (token {age:.1f} s old)")


def forge(token):
    """Returns tokens that a verifier must refuse, by name."""
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    first, _, signature = token.split(".")
    _, changed, _ = jwt.encode(claims | {"sub": "other"}, None, "none").split(".")
    key = ec.generate_private_key(ec.SECP256R1())
    return {
        "signature of another key": jwt.encode(claims, key, "ES256", header),
        "unknown key": jwt.encode(claims, key, "ES256", header | {"kid": "unknown"}),
        "changed claims": f"{first}.{changed}.{signature}",
        "no signature": jwt.encode(claims, None, "none", {"kid": header["kid"]}),
    }


def prove_refusals(name, verifier, token):
    """Checks that a verifier accepts a token and refuses forged ones."""
    verifier.verify(token)
    for kind, forged in forge(token).items():
        try:
            verifier.verify(forged)
        except Exception:
            continue
        raise AssertionError(f"{name} accepted a token with {kind}")
