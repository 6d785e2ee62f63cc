"""Elapsed time."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Stamp(NamedTuple):
    """A moment, on two clocks, in seconds."""

    monotonic: float
    wall: float

    def elapsed(self, now: "Stamp") -> float:
        """Return the time until `now`, in seconds.

        It is the larger of the two advances: a monotonic clock may stop while the machine is
        suspended, and a wall clock can be set back.
        """
        return max(now.monotonic - self.monotonic, now.wall - self.wall)


NEVER = Stamp(float("-inf"), float("-inf"))

Clock = Callable[[], Stamp]


def system_clock() -> Stamp:
    """Read the clocks of the machine."""
    return Stamp(time.monotonic(), time.time())
