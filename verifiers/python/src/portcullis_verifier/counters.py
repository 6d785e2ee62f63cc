"""Counts since the start, for the user's own metrics."""

from dataclasses import dataclass


@dataclass
class Counters:
    """Counts since the start of the process."""

    # Verifications by their result.
    accepted: int = 0
    invalid: int = 0
    revoked: int = 0
    forbidden: int = 0
    unavailable: int = 0
    # Requests to the service by their kind, and those that failed.
    reads: int = 0
    complete_reads: int = 0
    key_reads: int = 0
    introspections: int = 0
    failures: int = 0
    # Revocations received, and those in memory.
    entries: int = 0
    revocations: int = 0
