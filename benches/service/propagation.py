"""From a logout at one instance to its effect at another."""

import socket
import time

from report import ROUNDS, report
from service import CHEAP, delays, new_database, portcullis
from tokens import open_sessions

# Logouts in a round.
LOGOUTS = 400


def propagation():
    database = new_database()
    here, there = portcullis(database, PBKDF2_ITERATIONS=str(CHEAP)), portcullis(database)
    here.register()
    token = here.log_in()["access_token"]
    rounds = [measure(here, there, open_sessions(database, token, LOGOUTS), database) for _ in range(ROUNDS)]
    report("logout to refusal by another instance, p99", "ms", rounds, 10, 3)
    for service in [here, there]:
        service.stop()


def measure(here, there, tokens, database):
    """Ends sessions one after the other, and returns the p99 of the delays in milliseconds."""
    out, seen, refused_at = Connection(here), Connection(there), {}
    for session, token in tokens.items():
        time.sleep(0.01)
        out.send("POST", "/auth/logout", token)
        status = 200
        while status == 200:
            seen.send("GET", "/protected/dashboard", token)
            status = seen.status()
        refused_at[session] = time.time()
        assert (status, out.status()) == (401, 200)
    sorted_delays = delays(database, refused_at.items())
    return sorted_delays[len(sorted_delays) * 99 // 100]


class Connection:
    """A persistent connection. Requests are written by hand: the measured time is a millisecond."""

    def __init__(self, service):
        host, port = service.address.split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, method, path, token):
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())

    def status(self):
        return int(self.socket.recv(65536).split()[1])
