#!/usr/bin/env python3
"""Measures how soon a logout holds at verifiers, and how late under faults: `make verifier-faults`.

Three instances on one database are behind HAProxy, which both verifiers follow through a proxy
that can break. No token may be accepted later than the bound after the acknowledgement of its
logout, and none that is valid may be refused once all is well again.
"""

import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from string import Template

import requests
from processes import FOLDER, end_all, eventually, free_port, run, write
from proxies import Proxy, start_caching_proxy

HERE = Path(__file__).parent
BALANCER = Template((HERE.parent / "key_rotation" / "balancer.cfg").read_text())
PROGRAM = os.environ["PROGRAM"]
LOGOUTS = int(os.environ.get("LOGOUTS", "1000"))
USERS = 20
SERVICE_BOUND, BOUND = 2, 4
# Duration of a fault: beyond the bound.
FAULT = BOUND + 3
problems = []


class Cluster:
    def __init__(self):
        database = os.environ["TEST_DATABASE_URL"]
        self.database = Proxy(int(database.rpartition(":")[2].partition("/")[0]))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {
            "HOST": "127.0.0.1", "LOG_FORMAT": "json", "PUBLIC_URL": "https://auth.example.com",
            "JWT_AUDIENCE": "orders", "DATABASE_URL": database,
            "JWT_SECRET_KEY": os.urandom(32).hex(),
            "REVOCATION_MAX_STALENESS": SERVICE_BOUND, "REVOCATION_POLL_INTERVAL": 1,
            "PBKDF2_ITERATIONS": 100_000, "SHUTDOWN_DRAIN": 0,
            # All users are in one network.
            "LOGIN_NETWORK_BURST": 0, "REGISTRATION_NETWORK_BURST": 0,
        }
        self.ports = [free_port() for _ in range(3)]
        self.processes = [self.start_instance(number) for number in range(3)]
        self.balancer = self.start_balancer()
        self.http = requests.Session()

    def start_instance(self, number):
        settings = dict(self.settings)
        if number == 0:
            # Its connections to the database can be cut.
            host = settings["DATABASE_URL"].rpartition(":")[0]
            settings["DATABASE_URL"] = f"{host}:{self.database.port}/postgres"
        port = self.ports[number]
        process = run(f"instance{number}", [PROGRAM], port, PORT=port, **settings)
        eventually(lambda: requests.get(f"{self.instance_url(number)}/health/ready").ok)
        return process

    def start_balancer(self):
        servers = [f"    server instance{number} 127.0.0.1:{port}"
                   for number, port in enumerate(self.ports)]
        text = BALANCER.safe_substitute(port=self.port, servers="\n".join(servers))
        config = write("balancer.cfg", text)
        process = run("balancer", ["haproxy", "-f", config], port=self.port)
        eventually(lambda: requests.get(f"{self.url}/health/ready").ok)
        return process

    def client(self):
        environment = os.environ | {key: str(value) for key, value in self.settings.items()}
        output = subprocess.run(
            [PROGRAM, "client", "create", "orders", "--permission", "revocations:read", "--json"],
            env=environment, cwd=FOLDER, capture_output=True, text=True, check=True).stdout
        return json.loads(output)

    def log_in(self, user, url=None):
        body = {"username": f"user{user}", "password": "testpass"}
        url = url or self.url
        reply = self.http.post(f"{url}/auth/login", json=body, timeout=20)
        if reply.status_code == 401:
            self.http.post(f"{url}/auth/register", json=body, timeout=20)
            reply = self.http.post(f"{url}/auth/login", json=body, timeout=20)
        return reply.json()["access_token"]

    def log_out(self, token, url):
        """Logs out, and returns the time of the acknowledgement."""
        headers = {"Authorization": f"Bearer {token}"}
        reply = self.http.post(f"{url}/auth/logout", headers=headers, timeout=20)
        assert reply.ok, reply.text
        return time.monotonic()

    def instance_url(self, number):
        return f"http://127.0.0.1:{self.ports[number]}"


class Watcher:
    """A verifier in a process of its own, which verifies all tokens it was given without pause."""

    def __init__(self, name, command, url, client):
        self.name = name
        environment = os.environ | {
            "ISSUER": "https://auth.example.com", "URL": url, "MAX_STALENESS": str(BOUND),
            "CLIENT_ID": client["client_id"], "CLIENT_SECRET": client["client_secret"]}
        with open(FOLDER / f"{name}.log", "w") as log:
            self.process = subprocess.Popen(command, env=environment, text=True, stderr=log,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.accepted, self.revoked, self.status_now = set(), {}, None
        self.is_ready = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                self.is_ready = True
            elif event["event"] == "status":
                self.status_now = event
            elif event["event"] == "accepted":
                self.accepted.add(event["token"])
            else:
                self.revoked[event["token"]] = event

    def watch(self, name, token):
        self.process.stdin.write(f"{name} {token}\n")
        self.process.stdin.flush()

    def status(self):
        self.status_now = None
        self.process.stdin.write("status\n")
        self.process.stdin.flush()
        eventually(lambda: self.status_now is not None)
        return self.status_now

    def is_healthy(self):
        """Returns whether every token that was not logged out has been accepted just now."""
        return all(state["age"] < 0.5 for state in self.status()["tokens"].values())


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure_logouts(cluster, watchers, pause, count, label):
    """Logs out one token after the other, and prints the times until the verifiers refuse them."""
    tokens = {}
    for number in range(count):
        url = cluster.instance_url(number % 3)
        tokens[f"{pause}-{number}"] = cluster.log_in(number % USERS, url)
    acknowledged = {}
    for name, token in tokens.items():
        for watcher in watchers:
            watcher.watch(name, token)
        eventually(lambda name=name: all(name in watcher.accepted for watcher in watchers))
        time.sleep(pause * random.uniform(0.8, 1.2))
        acknowledged[name] = cluster.log_out(token, cluster.url)
    eventually(lambda: all(name in watcher.revoked for watcher in watchers for name in tokens))
    for watcher in watchers:
        times = [(watcher.revoked[name]["at"] - acknowledged[name]) * 1000 for name in tokens]
        print(f"{watcher.name:11} {count} logouts, {label}: p50 {statistics.median(times):.1f} ms, "
              f"p99 {percentile(times, 0.99):.1f} ms, max {max(times):.1f} ms", flush=True)


def under_fault(name, cluster, watchers, begin, end, log_out_at):
    """Logs out before and during a fault, which lasts longer than the bound. Heals it, and prints
    the latest acceptance after an acknowledgement."""
    prefix = name.replace(" ", "-")
    tokens = {f"{prefix}-{moment}": cluster.log_in(moment) for moment in range(8)}
    valid = f"{prefix}-valid"
    tokens[valid] = cluster.log_in(9)
    for key, token in tokens.items():
        for watcher in watchers:
            watcher.watch(key, token)
    eventually(lambda: all(key in watcher.accepted for watcher in watchers for key in tokens))
    acknowledged, names = {}, [key for key in tokens if key != valid]

    def log_out(key):
        try:
            acknowledged[key] = cluster.log_out(tokens[key], log_out_at)
        except (OSError, AssertionError):
            # Not acknowledged: it may or may not hold.
            pass

    log_out(names[0])
    begin()
    began_at = time.monotonic()
    for number, key in enumerate(names[1:6]):
        log_out(key)
        time.sleep(max(0, began_at + (number + 1) * 0.7 - time.monotonic()))
    time.sleep(max(0, began_at + FAULT - time.monotonic()))
    end()
    healed_at = time.monotonic()
    eventually(lambda: all(watcher.is_healthy() for watcher in watchers), 60)
    took = time.monotonic() - healed_at
    for key in names:
        if key not in acknowledged:
            eventually(lambda key=key: requests.get(f"{cluster.url}/health/ready").ok, 60)
            log_out(key)
    eventually(lambda: all(key in watcher.revoked
                           for watcher in watchers for key in acknowledged), 30)
    for watcher in watchers:
        late = max(watcher.revoked[key]["last"] - at for key, at in acknowledged.items())
        refused = watcher.status()["tokens"][valid].get("refused", 0)
        if late > BOUND:
            problems.append(f"{name}: {watcher.name} accepted {late:.2f} s after the logout")
        print(f"{name:24} {watcher.name:11} last acceptance {max(late, 0):5.2f} s after logout; "
              f"{'answered 503 meanwhile' if refused else 'never answered 503'}; "
              f"well again after {took:.1f} s", flush=True)


def faults(cluster, watchers, network):
    """Breaks one thing after the other."""
    postgres = shlex.split(os.environ["TEST_POSTGRES_CTL"])
    third = cluster.instance_url(2)

    def signal_all(processes, number):
        return lambda: [process.send_signal(number) for process in processes]

    def frozen(processes):
        return signal_all(processes, signal.SIGSTOP), signal_all(processes, signal.SIGCONT)

    def kill_instance():
        cluster.processes[1].kill()
        cluster.processes[1].wait()

    def restart_instance():
        cluster.processes[1] = cluster.start_instance(1)

    def kill_balancer():
        cluster.balancer.kill()
        cluster.balancer.wait()

    def restart_balancer():
        cluster.balancer = cluster.start_balancer()

    def stop_postgres():
        subprocess.run([*postgres, "-m", "immediate", "stop"], check=True)

    def start_postgres():
        subprocess.run([*postgres, "start"], check=True, stdout=subprocess.DEVNULL)

    cache_port = start_caching_proxy(cluster.port)
    database, instances = cluster.database, cluster.processes
    for name, begin, end in [
        ("instance killed", kill_instance, restart_instance),
        ("instance frozen", *frozen(instances[:1])),
        ("two instances frozen", *frozen(instances[::2])),
        ("database cut from one", database.cut, database.heal),
        ("database stalls for one", database.stall, database.heal),
        ("balancer killed", kill_balancer, restart_balancer),
        ("network cut", network.cut, network.heal),
        ("network stalls", network.stall, network.heal),
        ("cache repeats replies", lambda: network.lead_to(cache_port),
         lambda: network.lead_to(cluster.port)),
        ("Postgres restarted", stop_postgres, start_postgres),
        ("verifiers frozen", *frozen([watcher.process for watcher in watchers])),
    ]:
        alive = cluster.instance_url(1) if name == "two instances frozen" else third
        under_fault(name, cluster, watchers, begin, end, alive)


def main():
    cluster = Cluster()
    client = cluster.client()
    network = Proxy(cluster.port)
    url = f"http://127.0.0.1:{network.port}"
    watchers = [Watcher("Python", [sys.executable, str(HERE / "watch.py")], url, client),
                Watcher("JavaScript", ["node", str(HERE / "watch.mjs")], url, client)]
    try:
        eventually(lambda: all(watcher.is_ready for watcher in watchers), 40)
        if LOGOUTS:
            measure_logouts(cluster, watchers, 0.25, LOGOUTS, "four a second at most")
            measure_logouts(cluster, watchers, 0.0, LOGOUTS, "one after the other")
        faults(cluster, watchers, network)
        for watcher in watchers:
            print(watcher.name, json.dumps(watcher.status()["counters"]))
    finally:
        for watcher in watchers:
            watcher.process.kill()
    print("\n".join(problems) or f"no token was accepted later than the bound of {BOUND} s")
    return bool(problems)


if __name__ == "__main__":
    try:
        code = main()
    finally:
        end_all()
    sys.exit(code)
