"""Start and memory."""

import time

from report import ROUNDS, report
from service import SERVER_CORE, folder, insert_revocations, new_database, portcullis

REVOCATIONS = 1_000_000


def starts():
    sqlite, postgres, full = f"sqlite://{folder}/ready.db", new_database(), new_database()
    for database in [sqlite, postgres, full]:
        # The first start creates the schema.
        portcullis(database).stop()
    insert_revocations(full, REVOCATIONS)

    report("ready, SQLite", "s", [start(sqlite)[0] for _ in range(ROUNDS)], 0.1, 0.05)
    ready, idle = zip(*[start(postgres) for _ in range(ROUNDS)])
    report("ready, Postgres", "s", ready, 0.3, 0.15)
    report("memory, idle", "MiB", [size / 2**20 for size in idle], 15, 10)
    ready, loaded = zip(*[start(full) for _ in range(ROUNDS)])
    report(f"ready, Postgres, {REVOCATIONS:,} revocations", "s", ready, 5, 2.5)
    each = [(after - before) / REVOCATIONS for before, after in zip(idle, loaded)]
    report("memory for each revocation", "bytes", each, 200, 100)


def start(database):
    """Starts the service, and returns the time until it is ready and its memory at rest."""
    service = portcullis(database, SERVER_CORE)
    time.sleep(1)
    memory = service.resident_bytes()
    service.stop()
    return service.ready_after, memory
