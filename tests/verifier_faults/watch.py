"""Verifies tokens without pause, and reports when each is accepted first and refused at last.

Reads `id token` from standard input, a line each, and `status` to report the state of all tokens.
All times are those of CLOCK_MONOTONIC.
"""

import json
import os
import sys
import threading
import time

from portcullis_verifier import TokenRevoked, VerificationError, Verifier

verifier = Verifier(
    os.environ["ISSUER"], "orders", client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"], url=os.environ["URL"],
    max_staleness=float(os.environ["MAX_STALENESS"]))
watched, lock = {}, threading.Lock()


def report(**fields):
    print(json.dumps(fields), flush=True)


def verify_once():
    with lock:
        tokens = list(watched.items())
    for name, state in tokens:
        try:
            began_at = time.monotonic()
            verifier.verify(state["token"])
            state["accepted_at"] = began_at
            if not state["seen"]:
                state["seen"] = True
                report(token=name, event="accepted")
        except TokenRevoked:
            with lock:
                del watched[name]
            report(token=name, event="revoked", at=time.monotonic(), last=state["accepted_at"])
        except VerificationError:
            state["refused"] += 1


def watch():
    while True:
        verify_once()
        # Lets the other threads run.
        time.sleep(0.0002)


verifier.wait_until_ready(30)
threading.Thread(target=watch, daemon=True).start()
report(event="ready")
for line in sys.stdin:
    name, _, token = line.strip().partition(" ")
    if name == "status":
        now = time.monotonic()
        with lock:
            states = {key: {"age": now - state["accepted_at"], "refused": state["refused"]}
                      for key, state in watched.items()}
        report(event="status", counters=verifier.counters(), tokens=states)
    else:
        with lock:
            watched[name] = {"token": token, "seen": False, "accepted_at": 0.0, "refused": 0}
