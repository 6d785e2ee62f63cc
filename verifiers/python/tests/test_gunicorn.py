import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from scripted_service import ScriptedService, eventually

WORKERS = 4


@pytest.fixture
def url(service: ScriptedService, tmp_path: Path) -> Iterator[str]:
    log = tmp_path / "log"
    command = ["-m", "gunicorn", "--preload", f"--workers={WORKERS}", "--bind=127.0.0.1:0"]
    environment = os.environ | {"SERVICE_URL": service.url, "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *command, "--no-control-socket", "gunicorn_app:app"],
            cwd=Path(__file__).parent,
            env=environment,
            stderr=output,
        )
    try:
        eventually(lambda: "Listening at" in log.read_text() or process.poll() is not None, 30)
        listening = re.search(r"Listening at: (\S+)", log.read_text())
        assert listening, log.read_text()
        yield listening[1]
    finally:
        process.terminate()
        process.wait(30)


def test_every_preloaded_worker_follows(service: ScriptedService, url: str) -> None:
    token = service.issue()

    def get() -> httpx.Response:
        # A new connection each time, so that any worker may accept it.
        return httpx.get(f"{url}/orders", headers={"Authorization": f"Bearer {token}"})

    processes: set[int] = set()

    def has_seen_all() -> bool:
        reply = get()
        assert reply.status_code == 200
        processes.add(reply.json()["process"])
        return len(processes) == WORKERS

    eventually(has_seen_all, 30)
    # They and the process that has loaded the app read for themselves, beyond the bound.
    beyond = time.monotonic() + 1.5
    eventually(lambda: time.monotonic() > beyond and get().status_code == 200)
    assert service.connections == WORKERS + 1
    service.revoke("token-1")
    refused = 0

    def is_refused_by_all() -> bool:
        nonlocal refused
        refused = refused + 1 if get().status_code == 401 else 0
        return refused >= 10 * WORKERS

    eventually(is_refused_by_all, 30)
