"""The service and its control as processes, and their databases."""

import base64
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from pathlib import Path

TARGET = Path("target").absolute()
PROGRAM, CONTROL = TARGET / "release/portcullis", TARGET / "release/examples/control"
SERVER = os.environ.get("TEST_DATABASE_URL", "")
KEY = "0123456789abcdef0123456789abcdef"
CREDENTIALS = {"username": "testuser", "password": "testpass"}
# PBKDF2 iterations: the default, and the minimum for measurements of other things.
ITERATIONS, CHEAP = 600_000, 100_000

# A server on one core with the load generator on another. On shared cores, the result depends on
# scheduling as well.
SERVER_CORE, CLIENT_CORE = ["taskset", "-c", "1"], ["taskset", "-c", "0"]

folder = Path(tempfile.mkdtemp())
processes, databases = [], []


class Service:
    """A process that serves HTTP: the service or the control."""

    def __init__(self, command, **settings):
        began_at = time.monotonic()
        log = folder / f"log{len(processes)}"
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command, stdout=output, cwd=folder,
                env={"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": "0", "LOG_FORMAT": "json"} | settings)
        processes.append(self.process)
        while "listening on http://" not in (text := log.read_text()):
            if self.process.poll() is not None:
                sys.exit(f"{command} ended unexpectedly")
            time.sleep(0.001)
        self.address = text.split("http://")[1].split('"')[0].split("\n")[0]
        if PROGRAM in command:
            assert self.ask("GET", "/health/ready")[0] == 200
        self.ready_after = time.monotonic() - began_at

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.address)
        connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())

    def register(self, username=CREDENTIALS["username"]):
        status, reply = self.ask("POST", "/auth/register", CREDENTIALS | {"username": username})
        assert status == 201, reply

    def log_in(self, username=CREDENTIALS["username"]):
        status, reply = self.ask("POST", "/auth/login", CREDENTIALS | {"username": username})
        assert status == 200, reply
        return reply

    def count(self, series):
        """Returns the value of a metric."""
        connection = http.client.HTTPConnection(self.address)
        connection.request("GET", "/metrics")
        return float(connection.getresponse().read().decode().split(series)[1].split()[0])

    def cpu_seconds(self):
        """Returns the processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")")[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


def portcullis(database, core=(), **settings):
    """Starts the service. With HS256, `tokens.another` can sign its tokens."""
    return Service([*core, PROGRAM], **(settings_of(database) | settings))


def settings_of(database):
    return {"DATABASE_URL": database, "JWT_SECRET_KEY": KEY, "JWT_ALGORITHM": "HS256"}


def bare(core=()):
    """Starts the control: bare handlers with the replies of the service."""
    return Service([*core, CONTROL, "http"])


def hashing(seconds):
    """Starts raw hashing on all cores, at the priority of the hashing threads of the service."""
    command = ["nice", "-n", "10", CONTROL, "pbkdf2", str(ITERATIONS), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def new_database():
    name = f"bench_{uuid.uuid4().hex}"
    sql(SERVER, f"create database {name}")
    databases.append(name)
    return urllib.parse.urlsplit(SERVER)._replace(path=f"/{name}").geturl()


def sql(database, statement):
    command = ["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def insert_revocations(database, count):
    sql(database, "insert into revocations (id, expires_at) "
                  f"select gen_random_uuid(), now() + interval '1 hour' from generate_series(1, {count})")
    # Otherwise, Postgres would do this during the measurement.
    sql(database, "vacuum analyze revocations")
    sql(database, "checkpoint")


def delays(database, arrivals):
    """Returns the milliseconds from just before the commit of each revocation to its arrival, sorted.

    Arrivals are ids of revocations and Unix times in seconds, by the same clock: the database runs here.
    """
    rows = sql(database, "select id, extract(epoch from revoked_at) from revocations").split()
    revoked_at = {id: float(at) for id, at in (row.split("|") for row in rows)}
    return sorted((at - revoked_at[id]) * 1e3 for id, at in arrivals)


def new_client(database, permission):
    """Creates a client with a permission, and returns its credentials for HTTP Basic."""
    command = [PROGRAM, "client", "create", "bench", "--permission", permission, "--json"]
    environment = {"PATH": os.environ["PATH"]} | settings_of(database)
    client = json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
    return base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()


def clean_up():
    for process in processes:
        process.kill()
    for name in databases:
        sql(SERVER, f"drop database {name} with (force)")
    shutil.rmtree(folder)
