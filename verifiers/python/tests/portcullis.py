"""The real service, on SQLite, in a process of its own."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
from scripted_service import AUDIENCE, ISSUER, eventually

BOUND = 2


class Portcullis:
    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder = program, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._environment = os.environ | {
            "DATABASE_URL": f"sqlite://{folder}/portcullis.db",
            "PORT": str(self._port),
            "PUBLIC_URL": ISSUER,
            "JWT_AUDIENCE": AUDIENCE,
            "REVOCATION_MAX_STALENESS": str(BOUND),
            "REVOCATION_POLL_INTERVAL": "1",
            "PBKDF2_ITERATIONS": "100000",
        }
        self.start()

    def start(self) -> None:
        log = (self._folder / "log").open("a")
        self._process = subprocess.Popen(
            [self._program], env=self._environment, cwd=self._folder, stdout=log, stderr=log
        )
        eventually(self._is_ready, 30)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready").is_success
        except httpx.TransportError:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def command(self, *arguments: str) -> str:
        return subprocess.run(
            [self._program, *arguments],
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def new_client(self, *permissions: str) -> tuple[str, str]:
        options = [part for permission in permissions for part in ("--permission", permission)]
        client = json.loads(self.command("client", "create", "orders", *options, "--json"))
        return client["client_id"], client["client_secret"]

    def log_in(self) -> str:
        credentials = {"username": "testuser", "password": "testpass"}
        httpx.post(f"{self.url}/auth/register", json=credentials)
        reply: dict[str, Any] = httpx.post(f"{self.url}/auth/login", json=credentials).json()
        return str(reply["access_token"])

    def log_out(self, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        httpx.post(f"{self.url}/auth/logout", headers=headers).raise_for_status()
