"""What the instances that share a database cost it."""

import time
from functools import partial
from pathlib import Path

from load import LOGOUTS_A_SECOND, SECONDS, log_out
from report import alternate, report
from service import SERVER, new_database, portcullis, sql
from tokens import to_end


def growth():
    database = new_database()
    first = portcullis(database)
    first.register()
    token, instances = first.log_in()["access_token"], [first]

    def with_logouts():
        ended = to_end(database, token, LOGOUTS_A_SECOND * SECONDS)
        return cost(database, partial(log_out, first, ended))

    for count in [2, 4, 8]:
        instances += [portcullis(database) for _ in range(count - len(instances))]
        # Postgres counts the commits of a connection that has become idle up to ten seconds later.
        time.sleep(10)
        rounds = {"idle": alternate(cost=partial(cost, database, partial(time.sleep, SECONDS))),
                  f"{LOGOUTS_A_SECOND} logouts/s": alternate(cost=with_logouts)}
        for load, costs in rounds.items():
            cpu, commits = zip(*[one["cost"] for one in costs])
            report(f"processor time of the database, {count} instances, {load}", "ms/s", cpu)
            report(f"commits, {count} instances, {load}", "/s", commits)
    for one in instances:
        one.stop()


def cost(database, work):
    """Does work for SECONDS, and returns the processor time of the database in milliseconds, and its commits, each a second."""
    before, commits = cpu_of_postgres(), commits_of(database)
    work()
    after = cpu_of_postgres()
    # Other processes are those of this benchmark, above all.
    cpu = sum(after[process] - before[process] for process in before.keys() & after.keys())
    return cpu / 1e6 / SECONDS, (commits_of(database) - commits) / SECONDS


def commits_of(database):
    name = database.rsplit("/", 1)[1]
    return int(sql(SERVER, f"select xact_commit from pg_stat_database where datname = '{name}'"))


def cpu_of_postgres():
    """Returns the processor time of each process of the server so far, in nanoseconds."""
    file = sql(SERVER, "select setting from pg_settings where name = 'data_directory'").strip() + "/postmaster.pid"
    postmaster = Path(file).read_text().split()[0]
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return {process: nanoseconds(process) for process in [postmaster, *children]}


def nanoseconds(process):
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[0])
    except FileNotFoundError:
        return 0
