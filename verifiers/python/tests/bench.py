"""Compares the verifier with PyJWT alone, and measures the memory for a million revocations."""

import gc
import json
import statistics
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
from scripted_service import AUDIENCE, ISSUER, ScriptedService

from portcullis_verifier import Verifier
from portcullis_verifier.clock import system_clock
from portcullis_verifier.feed import parse_reply
from portcullis_verifier.receiver import Receiver

ROUNDS, CALLS = 30, 500


def processor_time(call: Callable[[], object]) -> float:
    """Return the time for a call, in microseconds."""
    begin = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - begin) / CALLS * 1e6


def compare() -> None:
    service = ScriptedService()
    service.bound_ms = 5000
    with Verifier(ISSUER, AUDIENCE, client_id="a", client_secret="b", url=service.url) as verifier:
        verifier.wait_until_ready(10)
        token = service.issue()
        key = jwt.PyJWKSet.from_dict(service.jwks())["key-1"]

        def decode() -> object:
            return jwt.decode(
                token, key, algorithms=["ES256"], issuer=ISSUER, audience=AUDIENCE, leeway=5
            )

        calls = {"PyJWT": decode, "verifier": lambda: verifier.verify(token, "orders:read")}
        # In turns, so that both meet the same load of the machine.
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                times[name].append(processor_time(call))
    for name, values in times.items():
        print(f"{name:9} {min(values):6.1f} µs, median {statistics.median(values):6.1f} µs")
    ratios = [ours / theirs for ours, theirs in zip(times["verifier"], times["PyJWT"], strict=True)]
    print(f"ratio     {statistics.median(ratios):.3f}")


def resident_megabytes() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def longest_delay(stopped: threading.Event) -> float:
    """Return the longest delay of a thread that has work every millisecond, in milliseconds."""
    longest = 0.0
    while not stopped.is_set():
        begin = time.perf_counter()
        time.sleep(0.001)
        longest = max(longest, time.perf_counter() - begin - 0.001)
    return longest * 1000


def fill(receiver: Receiver, count: int) -> tuple[float, float]:
    """Apply a complete reply. Return the processor time, and the longest delay of a thread."""
    now = int(time.time())
    revoked = [[str(uuid.uuid4()), now + number % 3600] for number in range(count)]
    request = receiver.request(1)
    fields = {"nonce": request.nonce, "cursor": "1", "age_ms": 0, "now": now, "bound_ms": 5000}
    body = json.dumps(fields | {"complete": True, "revoked": revoked}, separators=(",", ":"))
    encoded = body.encode()
    del revoked, body
    stopped = threading.Event()
    with ThreadPoolExecutor() as pool:
        delay = pool.submit(longest_delay, stopped)
        begin = time.process_time()
        receiver.apply(request, parse_reply(encoded))
        took = time.process_time() - begin
        stopped.set()
        return took, delay.result()


def measure_memory() -> None:
    before = resident_megabytes()
    receiver = Receiver(10, 5, system_clock)
    for _ in range(100):
        fill(receiver, 10_000)
    print(f"a million revocations, in parts: {resident_megabytes() - before:.0f} MB")
    receiver = Receiver(10, 5, system_clock)
    took, delay = fill(receiver, 1_000_000)
    print(f"a million revocations, at once: {took:.1f} s of processor time")
    print(f"longest delay of another thread meanwhile: {delay:.0f} ms")


if __name__ == "__main__":
    compare()
    measure_memory()
