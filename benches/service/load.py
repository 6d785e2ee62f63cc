"""The programs that send requests: wrk in a closed loop, and `rate.rs` at a fixed rate."""

import json
import os
import subprocess
from pathlib import Path

from service import CREDENTIALS, TARGET, folder

SCRIPT, RATE = Path(__file__).with_name("load.lua"), TARGET / "release/examples/rate"
CLIENTS = 64
# Logouts whose cost for the rest of the system is measured.
LOGOUTS_A_SECOND = 50
SECONDS = int(os.environ.get("BENCH_SECONDS", "4"))


def write(name, lines):
    """Writes a file of tokens or credentials, one a line."""
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def load(service, path, kind, file, core=(), seconds=SECONDS, may_fail=False, collected=None):
    """Sends requests without pause. Returns their number and their processor time. `load.lua` lists the kinds."""
    command = [*core, "wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}", "--timeout", "15", "-s", SCRIPT,
               f"http://{service.address}{path}", "--", kind, file, *([collected] if collected else [])]
    before = service.cpu_seconds()
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    said = json.loads(output.splitlines()[-1])
    assert may_fail or said["failed"] == 0, output
    said["per_second"] = said["requests"] / said["seconds"]
    said["cpu_us"] = (service.cpu_seconds() - before) * 1e6 / said["requests"]
    return said


def check(service, tokens, path="/protected/dashboard", core=()):
    """Sends requests with each token in turn."""
    return load(service, path, "check", tokens, core)


def flood(service, seconds):
    """Logs in without pause, also after refusals."""
    credentials = write("credentials", [json.dumps(CREDENTIALS)])
    load(service, "/auth/login", "login", credentials, seconds=seconds, may_fail=True)


def at_rate(service, tokens, rate, method="GET", path="/protected/dashboard", seconds=SECONDS):
    """Sends requests at a fixed rate. The latency of each counts from the time at which it is due."""
    command = [RATE, service.address, method, path, tokens, str(rate), str(seconds), str(CLIENTS)]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert (said["failed"], said["requests"]) == (0, rate * seconds), said
    return said


def log_out(service, tokens):
    """Ends sessions, LOGOUTS_A_SECOND of them for SECONDS."""
    at_rate(service, tokens, LOGOUTS_A_SECOND, "POST", "/auth/logout")
