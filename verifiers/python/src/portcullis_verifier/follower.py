"""The thread that follows the service: revocations from the feed, keys from the JWKS."""

import json
import logging
import os
import random
import threading
import weakref
from functools import partial
from urllib.parse import urlencode

from portcullis_verifier.clock import Clock
from portcullis_verifier.counters import Counters
from portcullis_verifier.feed import parse_reply
from portcullis_verifier.http import Connection, RequestFailed, Service
from portcullis_verifier.keys import KeySet
from portcullis_verifier.receiver import Receiver, Request

logger = logging.getLogger("portcullis_verifier")

# Pause after a first failure, in seconds. It doubles with each further one, up to the longest.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
# Pause after a reply without entries that came at once, in seconds. The service makes it, too.
SHORTEST_ROUND = 0.2
# Shortest time between two reads of the keys for the sake of an unknown one, in seconds.
UNKNOWN_KEY_INTERVAL = 5.0
# Longest time for a whole reply of the feed, beyond its wait, in seconds.
REPLY_TIMEOUT = 60.0


class Follower:
    """Follows the service from `start` to `close`, in one thread, with one request at a time."""

    def __init__(
        self,
        service: Service,
        receiver: Receiver,
        clock: Clock,
        max_staleness: float,
        keys: KeySet | None,
    ) -> None:
        self._service, self._receiver, self._clock = service, receiver, clock
        self._timeout = max_staleness / 4
        self._longest_pause = min(LONGEST_PAUSE, max_staleness / 4)
        # Replaced as a whole; `None` before the first read.
        self.keys = keys
        self.counters = Counters()
        # Cause of the latest failure, until a read succeeds.
        self.problem: str | None = None
        self._keys_retry_at = float("-inf")
        self._read_again_at = float("-inf")
        self._read_again_failure: str | None = None
        self._set_up()
        os.register_at_fork(after_in_child=partial(_restart, weakref.ref(self)))

    def _set_up(self) -> None:
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        # Set once the first complete read and the keys are there.
        self._ready = threading.Event()
        # Set once the first attempt at both has ended.
        self._tried = threading.Event()
        self._starting = threading.Lock()
        self._reading_again = threading.Lock()
        self._connection = self._service.connect(self._timeout)

    def start(self) -> None:
        """Start the thread, unless it runs or was closed."""
        with self._starting:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="portcullis-verifier", daemon=True
                )
                self._thread.start()

    def restart_after_fork(self) -> None:
        """Start a thread in a forked process. What the parent knew stays known."""
        was_following = self._thread is not None and not self._stopping.is_set()
        was_ready, had_tried = self._ready.is_set(), self._tried.is_set()
        self._connection.close_inherited()
        self._set_up()
        if was_ready:
            self._ready.set()
        if had_tried:
            self._tried.set()
        if was_following:
            self.start()

    def wait_until_ready(self, timeout: float) -> bool:
        """Wait for the first complete read and the keys."""
        return self._ready.wait(timeout)

    def wait_until_tried(self, timeout: float) -> None:
        """Wait for the end of the first attempt to read, whether it succeeds or not.

        After the first wait that was too long, it is not waited for any more.
        """
        if not self._tried.wait(timeout):
            self._tried.set()

    def close(self) -> None:
        """End the thread."""
        self._tried.set()
        self._stopping.set()
        self._connection.abort()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._timeout)

    def read_keys_again(self) -> None:
        """Read the keys, for a token with an unknown one, unless this was done a moment ago.

        Callers share the read and its failure. Raises `RequestFailed`.
        """
        with self._reading_again:
            if self._clock().monotonic - self._read_again_at >= UNKNOWN_KEY_INTERVAL:
                self._read_again_failure = self._try_to_read_keys()
                # Afterwards: a slow read is not repeated by those that waited for it.
                self._read_again_at = self._clock().monotonic
            if self._read_again_failure is not None:
                raise RequestFailed(self._read_again_failure)

    def _try_to_read_keys(self) -> str | None:
        connection = self._service.connect(self._timeout)
        try:
            self._read_keys(connection)
        except (RequestFailed, ValueError) as error:
            return str(error)
        finally:
            connection.close()
        return None

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            pause = 0.0
            try:
                pause = self._follow()
                failures = 0
            # Of any kind: the thread has to go on.
            except Exception as error:
                if self._stopping.is_set():
                    return
                pause = self._failed(error, failures)
                failures += 1
            self._tried.set()
            self._stopping.wait(pause)
        self._connection.close()

    def _follow(self) -> float:
        """Read the keys if they are due, then the feed. Return the pause before the next read."""
        if self._keys_due_in() <= 0:
            self._renew_keys()
        request = self._receiver.request(max(self._keys_due_in(), 0))
        entries = self._read_feed(request)
        self._receiver.forget()
        if self.problem is not None:
            logger.info("following the revocation feed again")
            self.problem = None
        self._ready.set()
        took = self._clock().monotonic - request.sent.monotonic
        is_early = not entries and took < min(request.wait, SHORTEST_ROUND)
        return SHORTEST_ROUND if is_early else 0.0

    def _read_feed(self, request: Request) -> int:
        """Read the feed. Return the number of entries."""
        query = {"nonce": request.nonce, "wait": f"{request.wait:.3f}"}
        if request.cursor is not None:
            query["cursor"] = request.cursor
        reply = self._connection.request(
            f"/revocations?{urlencode(query)}",
            {"Authorization": self._service.authorization()},
            wait=request.wait,
            deadline=request.wait + REPLY_TIMEOUT,
        )
        applied = self._receiver.apply(request, parse_reply(reply.body))
        self.counters.reads += 1
        self.counters.complete_reads += applied.is_complete
        self.counters.entries += applied.entries
        return applied.entries

    def _renew_keys(self) -> None:
        """Read the keys. A failure does not stop the feed while those in memory are fresh."""
        try:
            self._read_keys(self._connection)
        except (RequestFailed, ValueError) as error:
            now = self._clock()
            if self.keys is None or not self.keys.is_fresh(now):
                raise
            self.counters.failures += 1
            self._keys_retry_at = now.monotonic + self._longest_pause
            logger.warning("failed to read the keys; those in memory are still good: %s", error)

    def _read_keys(self, connection: Connection) -> None:
        sent = self._clock()
        reply = connection.request("/.well-known/jwks.json", {})
        cache_control = reply.headers.get("Cache-Control", "")
        keys = KeySet.from_jwks(json.loads(reply.body), cache_control, sent)
        if self.keys is None or self.keys.sent.monotonic <= sent.monotonic:
            self.keys = keys
        self.counters.key_reads += 1

    def _keys_due_in(self) -> float:
        """Return the time until the keys have to be read, in seconds.

        That is after half of their life; after a failure, some time later, but within their life.
        """
        if self.keys is None:
            return 0.0
        now = self._clock()
        age = self.keys.sent.elapsed(now)
        retry_in = min(self._keys_retry_at - now.monotonic, self.keys.max_age - age)
        return max(self.keys.max_age / 2 - age, retry_in)

    def _failed(self, error: Exception, failures: int) -> float:
        """Note a failure. Return the pause before the next attempt, with jitter."""
        self._connection.close()
        self.counters.failures += 1
        if self.problem is None:
            logger.warning("failed to follow the revocation feed; retrying: %s", error)
        self.problem = str(error)
        pause = min(FIRST_PAUSE * 2.0 ** min(failures, 16), self._longest_pause)
        if isinstance(error, RequestFailed):
            pause = max(pause, min(error.retry_after, self._longest_pause))
        return pause * random.uniform(0.5, 1.5)


def _restart(follower: "weakref.ref[Follower]") -> None:
    if (forked := follower()) is not None:
        forked.restart_after_fork()
