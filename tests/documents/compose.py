#!/usr/bin/env python3
"""Stands in for Docker where there is no daemon: runs the commands of the pages on this machine.

Docker Compose itself reads the configuration. `app`, `migrate` and `service-role` are processes with
the environment that it gives them, and `postgres` is the server of the test. Other services only
have to be in the configuration.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

SERVER = urlsplit(os.environ["TEST_DATABASE_URL"])
APP = Path("app.json")
READY = f"http://{os.environ['MANAGEMENT_ADDRESS']}/health/ready"


def read_services():
    config = subprocess.run(["docker-compose", "config", "--format", "json"], check=True,
                            stdout=subprocess.PIPE)
    return json.loads(config.stdout)["services"]


def environment(service):
    """Returns the environment of a service, with the addresses of the test."""
    given = {name: value.replace("@postgres:5432", f"@{SERVER.hostname}:{SERVER.port}")
             for name, value in service["environment"].items() if value is not None}
    ours = {"PATH": os.environ["PATH"], "PGHOST": SERVER.hostname, "PGPORT": str(SERVER.port)}
    return given | ours | {name: os.environ[name] for name in ("HOST", "PORT", "MANAGEMENT_ADDRESS")}


def execute(name, command=()):
    """Runs a service that ends, or a command in another, in a folder without `.env`."""
    service = read_services()[name]
    entrypoint = service.get("entrypoint") or ["portcullis"]
    command = list(command) or [
        part.replace("/service-role.sql", str(Path("deploy/service-role.sql").absolute()))
        for part in entrypoint + (service.get("command") or [])]
    done = subprocess.run(command, env=environment(service), cwd="/")
    if done.returncode:
        sys.exit(done.returncode)


def start():
    """Starts the service, unless it runs with the same environment."""
    env = environment(read_services()["app"])
    if APP.exists():
        if json.loads(APP.read_text())["env"] == env:
            return
        stop()
    with open("app.log", "a") as log:
        process = subprocess.Popen(["portcullis"], env=env, cwd="/", stdout=log, stderr=log,
                                   start_new_session=True)
    APP.write_text(json.dumps({"pid": process.pid, "env": env}))
    for _ in range(200):
        with suppress(OSError), urllib.request.urlopen(READY):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    sys.exit(f"the service does not start: {Path('app.log').read_text()[-2000:]}")


def stop():
    """Stops the service, and waits until it has closed its connections."""
    if APP.exists():
        os.kill(json.loads(APP.read_text())["pid"], signal.SIGTERM)
        APP.unlink()
        users = ("select count(*) from pg_stat_activity "
                 "where application_name = 'portcullis' and datname = 'portcullis'")
        for _ in range(1000):
            found = subprocess.run(["psql", "-qXAt", "-c", users, os.environ["TEST_DATABASE_URL"]],
                                   check=True, stdout=subprocess.PIPE, text=True)
            if found.stdout.strip() == "0":
                return
            time.sleep(0.02)
        sys.exit("the service does not stop")


def main():
    words = sys.argv[1:]
    if words[0] != "compose":
        # `docker stop ID` prints the id; `docker rm` has nothing left to do.
        if words[0] == "stop":
            stop()
            print(words[1])
        return
    command, *rest = words[1:]
    options = [word for word in rest if word.startswith("--")]
    names = [word for word in rest if not word.startswith("-")]
    match command:
        case "exec":
            position = rest.index(names[0])
            execute(names[0], rest[position + 1:])
        case "run":
            execute(names[0])
        case "ps" if APP.exists():
            print(json.loads(APP.read_text())["pid"])
        case "stop" | "down":
            stop()
        case "start" | "up":
            assert set(names) <= set(read_services())
            if command == "up" and "--no-deps" not in options:
                execute("migrate")
                execute("service-role")
            if not names or "app" in names:
                start()
        case "build" | "ps" | "version":
            pass
        case _:
            sys.exit(f"unknown command: {command}")


main()
