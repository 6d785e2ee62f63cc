"""The receiver of the revocation feed, without I/O.

It decides whether a token may be accepted from memory. `docs/write-a-verifier.md` lists its rules,
and `docs/revocation.md` proves that they suffice.
"""

import enum
import secrets
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from portcullis_verifier.clock import NEVER, Clock, Stamp

# Largest difference between the clocks of this machine and of the service, in seconds.
CLOCK_SKEW_ALLOWANCE = 300.0
# Largest step back of the wall clock that does not matter, in seconds.
OVERLOOKED_STEP = 1.0
# Entries are forgotten a minute at a time, so many at once.
FORGOTTEN_AT_ONCE = 10_000


class Verdict(enum.Enum):
    """Answer of the memory to the ids of a token."""

    CLEAR = "clear"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


class ReplyRefused(Exception):
    """A reply of the feed proves nothing."""


@dataclass(frozen=True)
class Request:
    """A read of the feed."""

    sent: Stamp
    nonce: str
    cursor: str | None
    # Longest time for which the service may hold the reply, in seconds.
    wait: float


class Applied(NamedTuple):
    """A reply that counts: whether it was a complete one, and its number of entries."""

    is_complete: bool
    entries: int


@dataclass
class Minute:
    """Ids that are forgotten in the same minute of the monotonic clock."""

    number: int
    ids: list[str] = field(default_factory=list)


@dataclass
class Known:
    """The moment up to which the memory is complete."""

    until: Stamp
    # Once it was found too old, for good: a clock can be set back afterwards.
    is_outdated: bool = False


class Receiver:
    """Revocations in memory, and the moment up to which they are complete.

    One thread sends requests and applies replies. Any thread may call `check`, which takes no lock:
    a lookup is atomic, and the entries are added before the moment that vouches for them.
    """

    def __init__(self, max_staleness: float, leeway: float, clock: Clock) -> None:
        self._max_staleness = max_staleness
        # Beyond the expiry of an entry. The clock of this machine may be behind by the allowance
        # when a reply is checked, which counts whole seconds, and by an overlooked step after it.
        self._retention = CLOCK_SKEW_ALLOWANCE + leeway + 1 + OVERLOOKED_STEP
        self._clock = clock
        self._known = Known(NEVER)
        self._cursor: str | None = None
        # Both hold each id: by itself, and by the minute in which it is forgotten.
        self._revoked: dict[str, Minute] = {}
        self._minutes: dict[int, Minute] = {}
        self.service_bound: float | None = None

    def __len__(self) -> int:
        """Return the number of revocations in memory."""
        return len(self._revoked)

    def request(self, longest_wait: float) -> Request:
        """Begin a read. A request that was made before is given up."""
        wait = min(longest_wait, self._max_staleness / 4)
        if self.service_bound is not None:
            wait = min(wait, self.service_bound / 2)
        return Request(self._clock(), secrets.token_urlsafe(16), self._cursor, wait)

    def apply(self, request: Request, reply: Any) -> Applied:
        """Apply a reply. Its entries may come from an iterator.

        Raises `ReplyRefused` if the reply proves nothing. Entries only ever add, so those of a
        refused reply may stay.
        """
        arrived = self._clock()
        try:
            nonce, cursor, revoked = reply["nonce"], reply["cursor"], reply["revoked"]
            age, bound = reply["age_ms"] / 1000, reply["bound_ms"] / 1000
            now, is_complete = float(reply["now"]), reply["complete"] is True
        except (KeyError, TypeError, ValueError) as error:
            raise ReplyRefused(f"the reply is malformed: {error!r}") from error
        if nonce != request.nonce:
            raise ReplyRefused("the reply is to another request")
        if not isinstance(cursor, str) or (request.cursor is None and not is_complete):
            raise ReplyRefused("the reply has no cursor, or is not complete")

        entries = self._add(revoked, now, arrived)
        self.service_bound = bound
        # That is the bound of the service and two waits, the longest of which is half of it.
        if self._max_staleness < 2 * bound:
            raise ReplyRefused(
                f"max_staleness is {self._max_staleness:g} s, and has to be at least "
                f"{2 * bound:g} s, twice the bound of the service"
            )
        if abs(request.sent.wall - now) > CLOCK_SKEW_ALLOWANCE:
            raise ReplyRefused("the clock of this machine differs from that of the service")
        self._cursor = cursor
        self._vouch(_proven_moment(request.sent, age, arrived), arrived)
        return Applied(is_complete, entries)

    def check(self, ids: tuple[str, ...]) -> Verdict:
        """Look up the ids of a token: its own, its session's and its key's."""
        # In this order: a thread that is held up in between answers `UNKNOWN`.
        known = self._known
        revoked = self._revoked
        for token_id in ids:
            if token_id in revoked:
                return Verdict.REVOKED
        if self._is_too_old(known.until):
            known.is_outdated = True
        return Verdict.UNKNOWN if known.is_outdated else Verdict.CLEAR

    def staleness(self) -> float:
        """Return the age of what is known, in seconds; infinite before the first complete read."""
        return self._known.until.elapsed(self._clock())

    def introspection_counts(self, sent: Stamp) -> bool:
        """Return whether an introspection that was sent then, and has been answered, counts."""
        if self.service_bound is None:
            return False
        return 0 <= sent.elapsed(self._clock()) <= self._max_staleness - self.service_bound

    def forget(self) -> None:
        """Forget some of the entries whose tokens have expired.

        By the monotonic clock alone: it never runs ahead, as a wall clock does that is set forward
        and back again, which would forget entries whose tokens are then accepted.
        """
        this_minute = self._clock().monotonic // 60
        budget = FORGOTTEN_AT_ONCE
        for minute in [minute for minute in self._minutes.values() if minute.number < this_minute]:
            while minute.ids and budget:
                token_id = minute.ids.pop()
                budget -= 1
                # A later expiry may have arrived since, and may be over, too.
                if self._revoked.get(token_id) is minute:
                    del self._revoked[token_id]
            if not minute.ids:
                del self._minutes[minute.number]

    def _add(self, revoked: Any, now: float, arrived: Stamp) -> int:
        base = arrived.monotonic + self._retention - now
        entries = 0
        try:
            for token_id, expiry in revoked:
                entries += 1
                number = int((base + expiry) // 60)
                minute = self._minutes.get(number) or self._minutes.setdefault(
                    number, Minute(number)
                )
                held = self._revoked.get(token_id)
                if held is None or held.number < number:
                    self._revoked[token_id] = minute
                    minute.ids.append(token_id)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise ReplyRefused(f"an entry is malformed: {error!r}") from error
        return entries

    def _vouch(self, moment: Stamp, now: Stamp) -> None:
        # Either moment is proven. On two clocks, the later one is that from which less has elapsed.
        if moment.elapsed(now) <= self._known.until.elapsed(now):
            # The machine may have slept since the request, which the first check may not see.
            self._known = Known(moment, self._is_too_old(moment))

    def _is_too_old(self, moment: Stamp) -> bool:
        now = self._clock()
        monotonic = now.monotonic - moment.monotonic
        wall = now.wall - moment.wall
        # A wall clock that was set back hides a suspension, and revives expired tokens.
        return max(monotonic, wall) > self._max_staleness or wall < monotonic - OVERLOOKED_STEP


def _proven_moment(sent: Stamp, age: float, arrived: Stamp) -> Stamp:
    """Return the moment up to which a reply is complete: its age before its request was sent.

    A negative age moves it forward, on each clock by no more than that clock has advanced.
    """
    return Stamp(
        min(sent.monotonic - age, max(sent.monotonic, arrived.monotonic)),
        min(sent.wall - age, max(sent.wall, arrived.wall)),
    )
