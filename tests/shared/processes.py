"""Processes of a test, on loopback, in a temporary folder."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from string import Template

import requests
from urllib3.util import Retry

FOLDER = Path(tempfile.mkdtemp())
ending = threading.Event()
_processes = []


def free_port():
    # Below the ephemeral ports of the system, so no connection takes it while a process restarts.
    while True:
        port = random.randrange(10000, 30000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def render(name, **values):
    """Writes a configuration file from the template beside the test, and returns its path."""
    template = Template(Path(sys.path[0], name).read_text())
    return write(name, template.safe_substitute(values))


def write(name, text):
    """Writes a file in the folder, and returns its path."""
    path = FOLDER / name
    path.write_text(text)
    return str(path)


def run(name, command, port=None, **env):
    """Starts a process, with its output in a file, and waits until it listens on the port."""
    env = os.environ | {key: str(value) for key, value in env.items()}
    with open(FOLDER / f"{name}.log", "a") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    _processes.append(process)
    if port:
        eventually(lambda: listens(process, name, port))
    return process


def listens(process, name, port):
    assert process.poll() is None, f"{name} ended: {log_of(name)}"
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def log_of(name):
    return (FOLDER / f"{name}.log").read_text()[-2000:]


def end_all():
    ending.set()
    for process in _processes:
        process.terminate()
    for process in _processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def run_main(main, time_limit):
    """Runs the main function of a test, which returns a list of problems, then ends all processes and exits."""
    def on_signal(number, _frame):
        sys.exit(f"ended by {signal.Signals(number).name}; the time limit is {time_limit} s")

    signal.signal(signal.SIGALRM, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    signal.alarm(time_limit)
    failed = True
    try:
        problems = main()
        for problem in problems:
            print(f"FAILED: {problem}", file=sys.stderr)
        failed = bool(problems)
    finally:
        end_all()
        if failed:
            print(f"logs: {FOLDER}", file=sys.stderr)
        else:
            shutil.rmtree(FOLDER)
    sys.exit(failed)


def eventually(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def http_session():
    """A client that keeps connections and repeats a request that was not served."""
    session = requests.Session()
    retry = Retry(total=10, backoff_factor=0.05, backoff_max=0.5, allowed_methods=None,
                  raise_on_status=False, status_forcelist=[429, 502, 503, 504])
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
    return session


def repetitions(reply):
    """Returns how often the request was repeated before this reply."""
    return len(reply.raw.retries.history)
