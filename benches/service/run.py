#!/usr/bin/env python3
"""Measures the service against controls on the same machine, at the same time: `make bench`.

The service and its control are measured alternately, in several rounds. A figure is the median of
the ratios of the rounds, shown with the lowest and the highest. docs/performance.md explains them.
"""

import base64, hashlib, hmac, http.client, json, os, shutil, socket, statistics, subprocess
import sys, tempfile, threading, time, urllib.parse, uuid
from pathlib import Path

HERE = Path(__file__).parent
TARGET = Path("target")
PROGRAM, CONTROL, RATE = [TARGET / f"release/{name}" for name in ["portcullis", "examples/control", "examples/rate"]]
SERVER = os.environ.get("TEST_DATABASE_URL", "")
KEY = "0123456789abcdef0123456789abcdef"
CREDENTIALS = {"username": "testuser", "password": "testpass"}
JSON = {"Content-Type": "application/json"}
ROUNDS, SECONDS, CLIENTS, REVOCATIONS = 5, 4, 64, 1_000_000
# Number of tokens in use at once. A single token would measure only the cache of verified tokens.
CHECKED = 500
# PBKDF2 iterations: the default, and the minimum for measurements of other things.
ITERATIONS, CHEAP = 600_000, 100_000
# Hashes are few: a long measurement reduces the effect of the unfinished one.
HASHING_SECONDS = 8
LOGINS = 'portcullis_logins_total{outcome="success"}'

folder = Path(tempfile.mkdtemp())
processes, figures = [], []


# Checks are measured on one core, with the load generator on another. On shared cores, the result
# would depend mostly on scheduling.
SERVER_CORE, CLIENT_CORE = ["taskset", "-c", "1"], ["taskset", "-c", "0"]


class Service:
    """A process that serves HTTP: the service or a control."""

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
        if PROGRAM.absolute() in command:
            assert self.ask("GET", "/health/ready")[0] == 200
        self.ready_after = time.monotonic() - began_at

    def ask(self, method, path, body=None, token=None):
        connection = http.client.HTTPConnection(self.address)
        headers = JSON | ({"Authorization": f"Bearer {token}"} if token else {})
        connection.request(method, path, body and json.dumps(body), headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())

    def log_in(self):
        status, reply = self.ask("POST", "/auth/login", CREDENTIALS)
        assert status == 200, reply
        return reply

    def count(self, series):
        connection = http.client.HTTPConnection(self.address)
        connection.request("GET", "/metrics")
        return float(connection.getresponse().read().decode().split(series)[1].split()[0])

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")")[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


def portcullis(database, core=(), **settings):
    """Starts the service. With HS256, `another` can sign tokens."""
    settings = {"DATABASE_URL": database, "JWT_SECRET_KEY": KEY, "JWT_ALGORITHM": "HS256"} | settings
    return Service([*core, PROGRAM.absolute()], **settings)


def new_database():
    name = f"bench_{uuid.uuid4().hex}"
    sql(SERVER, f"create database {name}")
    return urllib.parse.urlsplit(SERVER)._replace(path=f"/{name}").geturl()


def sql(database, statement):
    command = ["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def write(name, lines):
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def load(service, path, kind, file, core=(), clients=CLIENTS, seconds=SECONDS, pause_ms=0, may_fail=False):
    """Sends requests with wrk and returns its summary."""
    command = [*core, "wrk", "-t1", f"-c{clients}", f"-d{seconds}", "--timeout", "15", "-s", HERE / "load.lua",
               f"http://{service.address}{path}", "--", kind, file, str(pause_ms)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    said = json.loads(output.splitlines()[-1])
    assert may_fail or said["failed"] == 0, output
    said["per_second"] = said["requests"] / said["seconds"]
    return said


def check(service, tokens, path="/protected/dashboard", **options):
    """Sends requests with tokens; adds the processor time per request to the summary of wrk."""
    before = service.cpu_seconds()
    said = load(service, path, "check", tokens, **options)
    said["cpu_us"] = (service.cpu_seconds() - before) * 1e6 / said["requests"]
    return said


def alternate(**measures):
    """Takes the measurements alternately and returns the results of each round."""
    return [{name: measure() for name, measure in measures.items()} for _ in range(ROUNDS)]


def report(figure, unit, values, reach, beyond, measured=None, control=None):
    """Adds a row to the table."""
    middle = statistics.median
    row = {"figure": figure, "unit": unit, "median": middle(values), "lowest": min(values), "highest": max(values),
           "reach": reach, "beyond": beyond}
    if measured:
        row |= {"measured": middle(measured), "control": middle(control)}
    figures.append(row)
    print(f"{figure}: {row['median']:.3f} {unit}", file=sys.stderr)


def compare(figure, rounds, measured, control, key, reach, beyond):
    ours, theirs = [one[measured][key] for one in rounds], [one[control][key] for one in rounds]
    report(figure, "×", [a / b for a, b in zip(ours, theirs)], reach, beyond, ours, theirs)


def checks():
    database = new_database()
    idle = portcullis(database)
    time.sleep(1)
    report("memory, idle", "MiB", [idle.resident_bytes() / 2**20], 25, 15)
    idle.ask("POST", "/auth/register", CREDENTIALS)
    token = idle.log_in()["access_token"]
    tokens = write("checked", [another(token, str(uuid.uuid4())) for _ in range(CHECKED)])
    few = idle.resident_bytes()
    sql(database, "insert into revocations (id, expires_at) "
                  f"select gen_random_uuid(), now() + interval '1 hour' from generate_series(1, {REVOCATIONS})")
    idle.stop()
    starts = [portcullis(database, SERVER_CORE) for _ in range(3)]
    report("ready, Postgres, 1,000,000 revocations", "s", [one.ready_after for one in starts], 5, 2.5)
    full, *others = starts
    for other in others:
        other.stop()
    report("memory for each revocation", "bytes", [(full.resident_bytes() - few) / REVOCATIONS], 350, 150)

    database = new_database()
    portcullis(database).stop()
    starts = [portcullis(database, SERVER_CORE) for _ in range(ROUNDS)]
    report("ready, Postgres", "s", [one.ready_after for one in starts], 0.3, 0.15)
    empty, *others = starts
    for other in others:
        other.stop()
    bare = Service([*SERVER_CORE, CONTROL.absolute(), "http"])
    rounds = alternate(bare=lambda: check(bare, tokens, core=CLIENT_CORE),
                       empty=lambda: check(empty, tokens, core=CLIENT_CORE),
                       full=lambda: check(full, tokens, core=CLIENT_CORE))
    compare("processor time of a checked request over a bare handler's", rounds, "empty", "bare", "cpu_us", 1.30, 1.15)
    compare("checked requests a second over a bare handler's", rounds, "empty", "bare", "per_second", 0.85, 0.93)
    compare("with 1,000,000 revocations over with none", rounds, "full", "empty", "per_second", 0.97, 0.99)
    for service in [full, empty, bare]:
        service.stop()


def gateways():
    """Measures `/auth/check` over a bare handler with the same reply, and introspection, beside the dashboard."""
    database = new_database()
    service = portcullis(database, SERVER_CORE)
    service.ask("POST", "/auth/register", CREDENTIALS)
    token = service.log_in()["access_token"]
    checked = [another(token, str(uuid.uuid4())) for _ in range(CHECKED)]
    tokens, asked = write("checked", checked), write("asked", [new_client(database), *checked])
    bare = Service([*SERVER_CORE, CONTROL.absolute(), "http"])
    introspect = lambda: load(service, "/oauth/introspect", "introspect", asked, core=CLIENT_CORE)
    door = "/auth/check?permission=dashboard:read"
    rounds = alternate(bare=lambda: check(bare, tokens, door, core=CLIENT_CORE),
                       door=lambda: check(service, tokens, door, core=CLIENT_CORE),
                       introspection=introspect,
                       dashboard=lambda: check(service, tokens, core=CLIENT_CORE))
    compare("processor time of /auth/check over a bare handler's", rounds, "door", "bare", "cpu_us", 1.30, 1.15)
    compare("/auth/check a second over the dashboard", rounds, "door", "dashboard", "per_second", 0.95, 1.0)
    compare("introspections a second over the dashboard", rounds, "introspection", "dashboard", "per_second", 0.5, 0.7)
    service.stop(), bare.stop()


def new_client(database):
    """Creates a client that can introspect, and returns its credentials for HTTP Basic."""
    settings = {"PATH": os.environ["PATH"], "DATABASE_URL": database, "JWT_SECRET_KEY": KEY, "JWT_ALGORITHM": "HS256"}
    command = [PROGRAM, "client", "create", "bench", "--permission", "tokens:introspect", "--json"]
    client = json.loads(subprocess.run(command, check=True, capture_output=True, env=settings).stdout)
    return base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()


def signatures():
    """Measures the cost of ES256 with the tokens of real logins."""
    services = {}
    for algorithm in ["HS256", "ES256"]:
        settings = {"JWT_ALGORITHM": algorithm, "PBKDF2_ITERATIONS": str(CHEAP)}
        service = portcullis(new_database(), SERVER_CORE, **settings)
        service.ask("POST", "/auth/register", CREDENTIALS)
        tokens = [service.log_in() for _ in range(CHECKED)]
        checked = write(f"checked_{algorithm}", [one["access_token"] for one in tokens])
        services[algorithm] = service, checked

    def checks_with(algorithm):
        service, tokens = services[algorithm]
        return lambda: check(service, tokens, core=CLIENT_CORE)

    rounds = alternate(es256=checks_with("ES256"), hs256=checks_with("HS256"))
    compare("processor time of a checked request, ES256 over HS256", rounds, "es256", "hs256", "cpu_us", 1.1, 1.05)

    def refreshes_with(algorithm):
        def measure():
            service, _ = services[algorithm]
            tokens = write("tokens", [service.log_in()["refresh_token"] for _ in range(CLIENTS + 8)])
            return load(service, "/auth/refresh", "refresh", tokens, core=CLIENT_CORE)
        return measure

    rounds = alternate(es256=refreshes_with("ES256"), hs256=refreshes_with("HS256"))
    compare("refreshes a second, ES256 over HS256", rounds, "es256", "hs256", "per_second", 0.8, 0.9)
    for service, _ in services.values():
        service.stop()


def starts_with_sqlite():
    database = f"sqlite://{folder}/ready.db"
    portcullis(database).stop()
    starts = [portcullis(database) for _ in range(ROUNDS)]
    report("ready, SQLite", "s", [one.ready_after for one in starts], 0.1, 0.05)
    for service in starts:
        service.stop()


def raw_hashing():
    # At the priority of the hashing threads of the service.
    command = ["nice", "-n", "10", CONTROL.absolute(), "pbkdf2", str(ITERATIONS), str(HASHING_SECONDS)]
    return {"per_second": float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)}


def flooding(service, seconds):
    """Starts clients that log in without pause for some seconds."""
    credentials = write("credentials", [json.dumps(CREDENTIALS)])
    options = {"seconds": seconds, "may_fail": True}
    thread = threading.Thread(target=load, args=[service, "/auth/login", "login", credentials], kwargs=options)
    thread.start()
    return thread


def logins():
    service = portcullis(new_database())
    service.ask("POST", "/auth/register", CREDENTIALS)

    def served():
        clients = flooding(service, HASHING_SECONDS + 2)
        time.sleep(1)
        before, began_at = service.count(LOGINS), time.monotonic()
        time.sleep(HASHING_SECONDS)
        rate = (service.count(LOGINS) - before) / (time.monotonic() - began_at)
        clients.join()
        return {"per_second": rate}

    compare("logins a second over raw PBKDF2", alternate(raw=raw_hashing, served=served),
            "served", "raw", "per_second", 0.95, 0.98)
    service.stop()


def at_rate(service, tokens, rate):
    """Sends checks at a fixed rate. The latency of each counts from the time at which it is due."""
    command = [RATE, service.address, "/protected/dashboard", tokens, str(rate), str(SECONDS), str(CLIENTS)]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert said["failed"] == 0, said
    return said


def latencies():
    """Measures checks at fixed rates: alone, and beside what takes the processor and the database."""
    database = new_database()
    service = portcullis(database)
    service.ask("POST", "/auth/register", CREDENTIALS)
    token = service.log_in()["access_token"]
    tokens = write("checked", [another(token, str(uuid.uuid4())) for _ in range(CHECKED)])
    bare = Service([CONTROL.absolute(), "http"])
    for rate, reach, beyond in [(500, 1.0, 0.6), (5_000, 1.0, 0.6), (20_000, 1.0, 0.6)]:
        rounds = alternate(alone=lambda: at_rate(service, tokens, rate))
        for key, name in [("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9")]:
            report(f"{name} of checks at {rate:,} a second", "ms", [one["alone"][key] for one in rounds], reach, beyond)

    def beside_hashing():
        # At the priority of the hashing threads: no server can do better beside them.
        command = ["nice", "-n", "10", CONTROL.absolute(), "pbkdf2", str(ITERATIONS), str(SECONDS + 2)]
        hashing = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(1)
        said = at_rate(bare, tokens, 5_000)
        hashing.wait()
        return said

    def beside(start):
        def measure():
            clients = start()
            time.sleep(1)
            said = at_rate(service, tokens, 5_000)
            clients.join()
            return said
        return measure

    def storm():
        tokens = write("ended", open_sessions(database, token, 100_000).values())
        options = {"seconds": SECONDS + 2, "may_fail": True}
        clients = threading.Thread(target=load, args=[service, "/auth/logout", "logout", tokens], kwargs=options)
        clients.start()
        return clients

    rounds = alternate(bare=beside_hashing, flooded=beside(lambda: flooding(service, SECONDS + 2)), storm=beside(storm))
    compare("p99 of checks at 5,000 a second, 64 logging-in clients, over bare beside hashing", rounds, "flooded", "bare",
            "p99_ms", 1.15, 1.0)
    report("p99 of checks at 5,000 a second in a storm of logouts", "ms", [one["storm"]["p99_ms"] for one in rounds], 5, 2)
    service.stop(), bare.stop()


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def another(token, session):
    """Signs a copy of a token for another session."""
    header, payload, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims |= {"sid": session, "jti": str(uuid.uuid4())}
    message = f"{header}.{encode(json.dumps(claims).encode())}"
    return f"{message}.{encode(hmac.digest(KEY.encode(), message.encode(), hashlib.sha256))}"


def open_sessions(database, token, count):
    """Inserts sessions without logins and returns their access tokens by session id."""
    ids = sql(database, "insert into sessions (id, user_id, generation, created_at, last_used_at, expires_at, address, "
                        "user_agent) select gen_random_uuid(), id, 0, now(), now(), now() + interval '1 day', "
                        f"'127.0.0.1', '' from users, generate_series(1, {count}) returning id")
    # Otherwise, the autovacuum would run during the measurement.
    sql(database, "vacuum analyze sessions")
    return {session: another(token, session) for session in ids.split()}


def commits():
    """Measures logouts and refreshes over pgbench, with commits as they are, of 1 ms and of 5 ms more."""
    database = new_database()
    service = portcullis(database, PBKDF2_ITERATIONS=str(CHEAP), DATABASE_MAX_CONNECTIONS="20")
    service.ask("POST", "/auth/register", CREDENTIALS)
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

    for delay_ms, name, targets in [(0, "", [(0.8, 1.0), (0.9, 1.1)]), (1, ", commits of 1 ms", [(0.8, 1.0)] * 2),
                                    (5, ", commits of 5 ms", [(0.8, 1.0)] * 2)]:
        # Waits for so long before each write to the disk, which others join meanwhile.
        for setting in [f"commit_delay = {delay_ms * 1000}", "commit_siblings = 0"]:
            sql(SERVER, f"alter system set {setting}")
        sql(SERVER, "select pg_reload_conf()")
        rounds = alternate(pgbench=lambda: pgbench(CLIENTS), one=lambda: pgbench(1), logouts=logouts,
                           refreshes=refreshes)
        for kind, (reach, beyond) in zip(["logouts", "refreshes"], targets):
            compare(f"{kind} a second over pgbench's commits{name}", rounds, kind, "pgbench", "per_second", reach, beyond)
        if delay_ms:
            # A closed loop: its clients divided by its rate are its latency.
            for kind in ["logouts", "refreshes"]:
                latencies = [CLIENTS / one[kind]["per_second"] * one["one"]["per_second"] for one in rounds]
                report(f"latency of {kind} in commits{name}", "×", latencies, 1.6, 1.2)
    service.stop()


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


def propagation():
    database = new_database()
    here, there = portcullis(database, PBKDF2_ITERATIONS=str(CHEAP)), portcullis(database)
    here.ask("POST", "/auth/register", CREDENTIALS)
    tokens = open_sessions(database, here.log_in()["access_token"], 400)
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
    # revoked_at is a time just before the commit, by the same clock: the database runs here.
    rows = sql(database, "select id, extract(epoch from revoked_at) from revocations").split()
    delays = sorted((refused_at[id] - float(at)) * 1e3 for id, at in (row.split("|") for row in rows))
    figure = "logout to refusal by another instance, p99"
    report(figure, "ms", [delays[len(delays) * 99 // 100]], 10, 3)
    here.stop(), there.stop()


def build():
    """Measures a clean release build. It takes minutes, so it runs only if named on the command line."""
    with tempfile.TemporaryDirectory(dir=TARGET) as target:
        began_at = time.monotonic()
        subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", target], check=True)
    report("clean release build", "s", [time.monotonic() - began_at], 300, 180)


def sizes():
    report("stripped binary", "MiB", [PROGRAM.stat().st_size / 2**20], 15, 10)


def show():
    print(f"\n{'':60} {'median':>9} {'lowest':>9} {'highest':>9} {'reach':>6} {'beyond':>6}    measured / control")
    for row in figures:
        sides = f"{row['measured']:10.1f} / {row['control']:.1f}" if "measured" in row else ""
        print(f"{row['figure']:60} {row['median']:9.3f} {row['lowest']:9.3f} {row['highest']:9.3f} "
              f"{row['reach']:6} {row['beyond']:6} {row['unit']:5} {sides}")
    (TARGET / "bench.json").write_text(json.dumps(figures, indent=2))


def require(program, package):
    if not shutil.which(program):
        sys.exit(f"{program} is not installed: install the package `{package}`")


def main():
    require("wrk", "wrk")
    require("taskset", "util-linux")
    require("pgbench", "postgresql-contrib, or postgresql on Debian")
    parts = [sizes, starts_with_sqlite, checks, gateways, signatures, logins, latencies, commits, propagation]
    for part in [build, *parts]:
        if part.__name__ in (sys.argv[1:] or [one.__name__ for one in parts]):
            part()
    show()


try:
    main()
finally:
    for process in processes:
        process.kill()
    shutil.rmtree(folder)
