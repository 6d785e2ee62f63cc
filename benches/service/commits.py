"""Logouts, refreshes and logins, with commits as they are, and with slow ones. The control is pgbench."""

import subprocess
import time

from load import CLIENTS, SECONDS, load, write
from report import alternate, compare, report
from service import CHEAP, SERVER, new_database, portcullis, sql
from tokens import open_sessions

# Logins in a round, one after the other.
LOGINS = 20


def commits():
    database = new_database()
    service = portcullis(database, PBKDF2_ITERATIONS=str(CHEAP), DATABASE_MAX_CONNECTIONS="20")
    service.register()
    token = service.log_in()["access_token"]
    sql(database, "create table control (id uuid primary key, at timestamptz not null)")
    insert = write("insert.sql", ["insert into control values (gen_random_uuid(), now());"])

    def pgbench(clients):
        command = ["pgbench", "-n", "-M", "prepared", f"-c{clients}", "-j1", f"-T{SECONDS}", "-f", insert, database]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return {"per_second": float(output.split("tps = ")[1].split()[0])}

    def logouts():
        # More tokens than two seconds can use up.
        tokens = write("tokens", open_sessions(database, token, 150_000).values())
        return load(service, "/auth/logout", "logout", tokens, seconds=2)

    def refreshes():
        # What is left of the logouts is too much for one account.
        sql(database, "truncate revocations, sessions")
        tokens = write("tokens", [service.log_in()["refresh_token"] for _ in range(CLIENTS + 8)])
        return load(service, "/auth/refresh", "refresh", tokens)

    def logins():
        began_at = time.monotonic()
        for _ in range(LOGINS):
            service.log_in()
        return {"seconds": (time.monotonic() - began_at) / LOGINS}

    latencies = {}
    for delay_ms, name, targets in [(0, "", {"logouts": (0.8, 1.0), "refreshes": (0.9, 1.1)}),
                                    (1, ", commits of 1 ms", {}),
                                    (5, ", commits of 5 ms", {"logouts": (0.8, 1.0), "refreshes": (0.8, 1.0)})]:
        delay_commits(delay_ms)
        rounds = alternate(pgbench=lambda: pgbench(CLIENTS), one=lambda: pgbench(1), logouts=logouts,
                           refreshes=refreshes, logins=logins)
        latencies[delay_ms] = [(one["logins"]["seconds"], 1 / one["one"]["per_second"]) for one in rounds]
        for kind in ["logouts", "refreshes"]:
            compare(f"{kind} a second over pgbench's commits{name}", rounds, kind, "pgbench", "per_second",
                    *targets.get(kind, ()))
            if delay_ms:
                # A closed loop: its clients divided by its rate are its latency.
                ratios = [CLIENTS / one[kind]["per_second"] * one["one"]["per_second"] for one in rounds]
                report(f"latency of {kind} in commits{name}", "×", ratios, *((1.6, 1.2) if delay_ms == 5 else ()))
    delay_commits(0)
    # The rest of a login is a hash, which takes as long with every commit.
    waits = [(slow - quick) / (slow_commit - quick_commit)
             for (quick, quick_commit), (slow, slow_commit) in zip(latencies[0], latencies[5])]
    report("commits that a login waits for", "", waits)
    service.stop()


def delay_commits(milliseconds):
    """Lets Postgres wait before each write to the disk, which other commits join meanwhile."""
    for setting in [f"commit_delay = {milliseconds * 1000}", "commit_siblings = 0"]:
        sql(SERVER, f"alter system set {setting}")
    sql(SERVER, "select pg_reload_conf()")
