"""Latency of checks at fixed rates: alone, and beside what takes the processor and the database."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from load import CLIENTS, SECONDS, at_rate, flood, load
from report import ROUNDS, alternate, compare, report
from service import CREDENTIALS, bare, hashing, insert_revocations, new_client, new_database, portcullis
from tokens import checked, to_end

# Checks a second beside a load.
RATE = 5_000
# A load begins a second before the checks, and goes on for a second after them.
MARGIN = 1
LOAD_SECONDS = SECONDS + 2 * MARGIN
# Revocations that a verifier reads at its start.
REVOCATIONS = 500_000
LOGINS = 'portcullis_logins_total{outcome="success"}'
PERCENTILES = {"p50_ms": "p50", "p99_ms": "p99", "p999_ms": "p99.9"}


def latencies():
    database = new_database()
    portcullis(database).stop()
    insert_revocations(database, REVOCATIONS)
    verifier = {"Authorization": f"Basic {new_client(database, 'revocations:read')}", "Accept-Encoding": "gzip"}
    service, control = portcullis(database), bare()
    # The revocations of the storm are too many for an account that logs in.
    service.register("leaver")
    service.register()
    tokens, leaver = checked(service.log_in()["access_token"]), service.log_in("leaver")["access_token"]

    for rate in [500, 5_000, 20_000]:
        rounds = alternate(alone=partial(at_rate, service, tokens, rate), bare=partial(at_rate, control, tokens, rate))
        show(f"checks at {rate:,}/s alone", rounds, "alone", (1.0, 0.6) if rate == 20_000 else ())
        show(f"bare handler at {rate:,}/s alone", rounds, "bare")

    def beside(work, *arguments, server=service):
        with ThreadPoolExecutor() as pool:
            background = pool.submit(work, *arguments)
            time.sleep(MARGIN)
            said = at_rate(server, tokens, RATE)
            background.result()
        return said

    def flooded():
        before = service.count(LOGINS)
        said = beside(flood, service, LOAD_SECONDS)
        assert service.count(LOGINS) - before >= LOAD_SECONDS, "fewer than a login a second"
        return said

    def storm():
        ended = to_end(database, leaver, LOAD_SECONDS * 40_000)
        return beside(end, service, ended)

    rounds = alternate(
        flood=flooded,
        hashing=lambda: beside(flood_beside_hashing, control, server=control),
        obeying=lambda: beside(log_in_obediently, service),
        storm=storm,
        bootstrap=lambda: beside(obey, service, "GET", "/revocations", None, verifier))
    assert service.count('portcullis_receiver_replies_total{kind="complete"}') >= ROUNDS
    show(f"checks at {RATE:,}/s beside logins that ignore Retry-After", rounds, "flood")
    show(f"bare handler at {RATE:,}/s beside raw hashing and such logins", rounds, "hashing")
    compare("p99 of checks beside logins that ignore Retry-After over that of the bare handler", rounds, "flood",
            "hashing", "p99_ms", 1.15, 1.0)
    show(f"checks at {RATE:,}/s beside logins that obey Retry-After", rounds, "obeying")
    show(f"checks at {RATE:,}/s beside a storm of logouts", rounds, "storm", (5, 2))
    show(f"checks at {RATE:,}/s beside the bootstrap of a verifier", rounds, "bootstrap")
    for one in [service, control]:
        one.stop()


def show(name, rounds, measured, targets=()):
    """Adds the percentiles. The targets are those of p99."""
    for key, percentile in PERCENTILES.items():
        values = [one[measured][key] for one in rounds]
        report(f"{name}, {percentile}", "ms", values, *(targets if percentile == "p99" else ()))


def flood_beside_hashing(control):
    """Hashes at the priority of the service, beside logins that a bare handler refuses as the service does."""
    threads = hashing(LOAD_SECONDS)
    flood(control, LOAD_SECONDS)
    threads.communicate()


def end(service, tokens):
    load(service, "/auth/logout", "logout", tokens, seconds=LOAD_SECONDS)


def log_in_obediently(service):
    headers = {"Content-Type": "application/json"}
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(obey, service, "POST", "/auth/login", json.dumps(CREDENTIALS), headers)
                   for _ in range(CLIENTS)]
    for client in clients:
        client.result()


def obey(service, method, path, body, headers):
    """Sends a request again and again, and waits before each for as long as the last reply said."""
    ends_at = time.monotonic() + LOAD_SECONDS
    connection = http.client.HTTPConnection(service.address)
    while (left := ends_at - time.monotonic()) > 0:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        while reply.read(2**20):
            pass
        time.sleep(min(left, float(reply.headers.get("Retry-After", 0))))
