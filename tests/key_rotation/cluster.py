"""Three instances of the service on one database, behind HAProxy."""

import json
import os
import subprocess
import time

import requests

from processes import eventually, free_port, log_of, render, run
from verifiers import AUDIENCE

PROGRAM = os.environ["PROGRAM"]
# Short, so that a rotation takes seconds. The staleness bound is the lowest possible.
MAX_AGE = 2
MAX_STALENESS = 2
# Time for which a pending key is published before it signs.
WAITING_TIME = 2 * MAX_AGE + MAX_STALENESS
# Short, so that tokens expire and keys are deleted during the test.
TOKEN_LIFE = 20


class Cluster:
    def __init__(self, secret):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.secret = secret
        self.settings = {
            "DATABASE_URL": os.environ["TEST_DATABASE_URL"], "HOST": "127.0.0.1",
            "LOG_FORMAT": "json", "PUBLIC_URL": self.url, "JWT_AUDIENCE": AUDIENCE,
            "JWT_ACCESS_TOKEN_EXPIRES": TOKEN_LIFE, "JWT_KEY_ROTATION_INTERVAL": 0,
            "JWKS_MAX_AGE": MAX_AGE, "REVOCATION_MAX_STALENESS": MAX_STALENESS,
            "REVOCATION_POLL_INTERVAL": 1, "PBKDF2_ITERATIONS": 100_000,
        }
        # Time before which the pending key was not published.
        self.published_at = time.monotonic()
        self.instances = [Instance(f"instance{number}", self.settings) for number in (1, 2, 3)]
        for instance in self.instances:
            instance.start(JWT_SECRET_KEY=secret)
        servers = [f"    server {it.name} 127.0.0.1:{it.port}" for it in self.instances]
        config = render("tests/key_rotation/balancer.cfg", port=self.port, servers="\n".join(servers))
        run("balancer", ["haproxy", "-f", config], port=self.port)
        eventually(lambda: requests.get(f"{self.url}/health/ready").ok)

    @property
    def urls(self):
        return [instance.url for instance in self.instances]

    def command(self, *arguments):
        """Runs a command of the program on the database."""
        env = {key: str(value) for key, value in self.settings.items()}
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=30,
                              env=os.environ | env | {"JWT_SECRET_KEY": self.secret})

    def keys(self, state):
        """Returns the ids of the signing keys in a state."""
        result = self.command("key", "list", "--json")
        assert result.returncode == 0, result.stderr
        keys = [json.loads(line) for line in result.stdout.splitlines()]
        return [key["kid"] for key in keys if key["state"] == state]

    def rotate(self):
        """Rotates as soon as the service permits it. Returns the key that signs from then on, the
        time for which it had been published, and the number of refused attempts."""
        [pending] = self.keys("pending")
        deadline = time.monotonic() + WAITING_TIME + 10
        refused = 0
        while True:
            began_at = time.monotonic()
            result = self.command("key", "rotate", "--json")
            if result.returncode == 0:
                break
            assert began_at < deadline, f"failed to rotate: {result.stderr}"
            refused += 1
            time.sleep(0.1)
        published_for = time.monotonic() - self.published_at
        self.published_at = began_at
        assert self.keys("active") == [pending], "the pending key did not become active"
        return pending, published_for, refused


class Instance:
    def __init__(self, name, settings):
        self.name, self.settings, self.port = name, settings, free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, **secrets):
        self.process = run(self.name, [PROGRAM], self.port, PORT=self.port,
                           **self.settings, **secrets)
        eventually(lambda: requests.get(f"{self.url}/health/ready").ok)

    def start_refused(self, **secrets):
        """Starts a process that has to end with an error, and returns its log."""
        name = f"{self.name}-refused"
        process = run(name, [PROGRAM], PORT=self.port, **self.settings, **secrets)
        assert process.wait(20) != 0, f"{name} ended without an error"
        return log_of(name).strip()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(40) == 0, log_of(self.name)
