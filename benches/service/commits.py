"""Logouts, refreshes and logins, with commits as they are, and with slow ones. The control is pgbench."""

import subprocess
import time

from load import CLIENTS, SECONDS, load, write
from report import alternate, compare, report
from service import CHEAP, SERVER, new_database, portcullis, sql
from tokens import to_end

# Logins in a round, one after the other.
LOGINS = 20


def commits():
    database, settings = new_database(), {"PBKDF2_ITERATIONS": str(CHEAP), "DATABASE_MAX_CONNECTIONS": "20"}
    service, signing = portcullis(database, **settings), portcullis(new_database(), JWT_ALGORITHM="ES256", **settings)
    for one in [service, signing]:
        one.register()
    token = service.log_in()["access_token"]
    sql(database, "create table control (id uuid primary key, at timestamptz not null)")
    insert = write("insert.sql", ["insert into control values (gen_random_uuid(), now());"])

    def pgbench(clients):
        command = ["pgbench", "-n", "-M", "prepared", f"-c{clients}", "-j1", f"-T{SECONDS}", "-f", insert, database]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return {"per_second": float(output.split("tps = ")[1].split()[0])}

    def logouts():
        # More tokens than two seconds can use up.
        tokens = to_end(database, token, 150_000)
        return load(service, "/auth/logout", "logout", tokens, seconds=2)

    def refreshes():
        tokens = write("tokens", [signing.log_in()["refresh_token"] for _ in range(CLIENTS + 8)])
        return load(signing, "/auth/refresh", "refresh", tokens)

    def logins():
        began_at = time.monotonic()
        for _ in range(LOGINS):
            signing.log_in()
        return {"seconds": (time.monotonic() - began_at) / LOGINS}

    rounds = {}
    try:
        for milliseconds in [0, 1, 5]:
            delay_commits(milliseconds)
            rounds[milliseconds] = alternate(pgbench=lambda: pgbench(CLIENTS), one=lambda: pgbench(1), logouts=logouts,
                                             refreshes=refreshes, logins=logins)
    finally:
        for setting in ["commit_delay", "commit_siblings"]:
            sql(SERVER, f"alter system reset {setting}")
        sql(SERVER, "select pg_reload_conf()")
    for one in [service, signing]:
        one.stop()
    show(rounds)


def show(rounds):
    cheap = rounds[0]
    compare("logouts a second over pgbench's commits", cheap, "logouts", "pgbench", "per_second", 0.8, 1.0)
    compare("refreshes a second over pgbench's commits", cheap, "refreshes", "pgbench", "per_second", 0.9, 1.1)
    report("processor time of a logout", "µs", [one["logouts"]["cpu_us"] for one in cheap])
    for milliseconds, throughput, latency in [(1, (), ()), (5, (0.8, 1.0), (1.6, 1.2))]:
        slow, name = rounds[milliseconds], f"commits of {milliseconds} ms"
        for kind in ["logouts", "refreshes"]:
            compare(f"{kind} a second over pgbench's, {name}", slow, kind, "pgbench", "per_second", *throughput)
            # A closed loop: its clients divided by its rate are its latency.
            ratios = [CLIENTS / one[kind]["per_second"] * one["one"]["per_second"] for one in slow]
            report(f"latency of {kind} over that of a commit, {name}", "×", ratios, *latency)
    # The rest of a login is a hash, which takes as long with every commit.
    waits = [(late["logins"]["seconds"] - soon["logins"]["seconds"])
             / (1 / late["one"]["per_second"] - 1 / soon["one"]["per_second"])
             for soon, late in zip(cheap, rounds[5])]
    report("commits that a login waits for", "", waits)


def delay_commits(milliseconds):
    """Lets Postgres wait before each write to the disk, which other commits join meanwhile."""
    for setting in [f"commit_delay = {milliseconds * 1000}", "commit_siblings = 0"]:
        sql(SERVER, f"alter system set {setting}")
    sql(SERVER, "select pg_reload_conf()")
