"""Logins beside raw hashing."""

import time
from concurrent.futures import ThreadPoolExecutor

from load import flood
from report import alternate, compare
from service import hashing, new_database, portcullis

# Hashes are few: a long measurement reduces the effect of the unfinished one.
SECONDS = 8
SUCCEEDED = 'portcullis_logins_total{outcome="success"}'


def logins():
    service = portcullis(new_database())
    service.register()

    def raw():
        return {"per_second": float(hashing(SECONDS).communicate()[0])}

    def served():
        with ThreadPoolExecutor() as pool:
            clients = pool.submit(flood, service, SECONDS + 2)
            time.sleep(1)
            before, began_at = service.count(SUCCEEDED), time.monotonic()
            time.sleep(SECONDS)
            rate = (service.count(SUCCEEDED) - before) / (time.monotonic() - began_at)
            clients.result()
        return {"per_second": rate}

    rounds = alternate(raw=raw, served=served)
    compare("logins a second over raw PBKDF2", rounds, "served", "raw", "per_second", 0.98, 1.0)
    service.stop()
