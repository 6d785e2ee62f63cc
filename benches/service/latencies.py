"""Latency of checks at fixed rates: alone, and beside what takes the processor and the database."""

import time

from load import SECONDS, at_rate, flood, in_background, load, write
from report import alternate, compare, report
from service import bare, hashing, new_database, portcullis
from tokens import checked, open_sessions

# Time for the load to begin before the checks, and to go on after them.
MARGIN = 1


def latencies():
    database = new_database()
    service, control = portcullis(database), bare()
    service.register()
    service.register("leaver")
    tokens = checked(service.log_in()["access_token"])
    leaver = service.log_in("leaver")["access_token"]

    for rate in [500, 5_000, 20_000]:
        rounds = alternate(alone=lambda: at_rate(service, tokens, rate))
        for key, name in [("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9")]:
            report(f"{name} of checks at {rate:,} a second", "ms", [one["alone"][key] for one in rounds], 1.0, 0.6)

    def beside_hashing():
        # No server can do better beside threads of that priority.
        threads = hashing(SECONDS + 2 * MARGIN)
        time.sleep(MARGIN)
        said = at_rate(control, tokens, 5_000)
        threads.communicate()
        return said

    def beside(start):
        clients = start()
        time.sleep(MARGIN)
        said = at_rate(service, tokens, 5_000)
        clients.join()
        return said

    def storm():
        ended = write("ended", open_sessions(database, leaver, 100_000).values())
        return in_background(load, service, "/auth/logout", "logout", ended, seconds=SECONDS + 2 * MARGIN,
                             may_fail=True)

    rounds = alternate(bare=beside_hashing, flooded=lambda: beside(lambda: flood(service, SECONDS + 2 * MARGIN)),
                       storm=lambda: beside(storm))
    compare("p99 of checks at 5,000 a second, 64 logging-in clients, over bare beside hashing", rounds, "flooded", "bare",
            "p99_ms", 1.15, 1.0)
    report("p99 of checks at 5,000 a second in a storm of logouts", "ms", [one["storm"]["p99_ms"] for one in rounds], 5, 2)
    for one in [service, control]:
        one.stop()
