"""Checks by the number of tokens in use at once, drawn at random, with a cache of the default size."""

import os
from functools import partial

from load import CLIENTS, at_rate, load, write
from report import alternate, compare
from service import CHEAP, CLIENT_CORE, SERVER_CORE, folder, new_database, portcullis

SIZES = [500, 50_000, 500_000]
# Seconds for which tokens are collected at a time.
COLLECTING = 10


def working_sets():
    for algorithm in ["HS256", "ES256"]:
        # On one core, so that processor time is comparable; with as many workers as there are cores,
        # so that each has its usual share of the cache.
        settings = {"JWT_ALGORITHM": algorithm, "PBKDF2_ITERATIONS": str(CHEAP), "HTTP_WORKERS": str(os.cpu_count())}
        database = new_database()
        issuer = portcullis(database, **settings)
        tokens = collect(issuer, max(SIZES))
        issuer.stop()
        services = {size: portcullis(database, SERVER_CORE, **settings) for size in SIZES}
        measures = {}
        for size, service in services.items():
            used = write(f"tokens_{size}", tokens[:size])
            # Checks each of them once: what fits into the cache is there.
            at_rate(service, used, size, seconds=1)
            measures[str(size)] = partial(load, service, "/protected/dashboard", "sample", used, CLIENT_CORE)
        rounds = alternate(**measures)
        for size in SIZES[1:]:
            targets = (1.5, 1.15) if (algorithm, size) == ("ES256", 500_000) else ()
            compare(f"processor time of a check, {algorithm}, {size:,} tokens in use, over 500", rounds, str(size), "500",
                    "cpu_us", *targets)
        for service in services.values():
            service.stop()


def collect(service, count):
    """Returns access tokens: those of exchanges of refresh tokens, which are many a second."""
    service.register()
    collected = folder / "collected"
    collected.unlink(missing_ok=True)
    tokens = []
    while len(tokens) < count:
        refresh_tokens = write("refresh_tokens", [service.log_in()["refresh_token"] for _ in range(CLIENTS + 8)])
        load(service, "/auth/refresh", "refresh", refresh_tokens, seconds=COLLECTING, collected=collected)
        tokens = collected.read_text().splitlines()
    return tokens
