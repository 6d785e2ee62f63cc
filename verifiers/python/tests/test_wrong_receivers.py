"""Each rule of the receiver is needed: a vector fails when it is broken."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from vectors import FEED, play

from portcullis_verifier import receiver

SOURCE = Path(receiver.__file__).read_text()

# Rule that is broken: what stands in the source, and what a wrong receiver has instead.
WRONG = {
    "any nonce": ("if nonce != request.nonce:", "if False:"),
    "first reply may be incomplete": ("request.cursor is None and not is_complete", "False"),
    "staleness from the arrival": ("(request.sent, age, arrived)", "(arrived, age, arrived)"),
    "age is ignored": ("(request.sent, age, arrived)", "(request.sent, 0, arrived)"),
    "moments in the future": (
        "(request.sent, age, arrived)",
        "(request.sent, age, Stamp(float('inf'), float('inf')))",
    ),
    "both clocks of the arrival": (
        "min(sent.wall - age, max(sent.wall, arrived.wall))",
        "sent.wall - age if sent.monotonic - age <= arrived.monotonic else arrived.wall",
    ),
    "a step back before the arrival is hidden": ("max(sent.wall, arrived.wall)", "arrived.wall"),
    "knows less again": ("if moment.elapsed(now) <=", "if True or moment.elapsed(now) <="),
    "cursor before the entries": (
        "        entries = self._add(revoked, now, arrived)\n",
        "        self._cursor = cursor\n        entries = self._add(revoked, now, arrived)\n",
    ),
    "vouches before the entries": (
        "        entries = self._add(revoked, now, arrived)\n",
        "        self._vouch(request.sent, arrived)\n"
        "        entries = self._add(revoked, now, arrived)\n",
    ),
    "complete reply replaces": (
        "        entries = self._add(revoked, now, arrived)\n",
        "        if is_complete:\n            self._revoked.clear()\n"
        "        entries = self._add(revoked, now, arrived)\n",
    ),
    "cursor stays": ("        self._cursor = cursor\n", ""),
    "monotonic clock alone": ("max(monotonic, wall) >", "monotonic >"),
    "wall clock alone": ("max(monotonic, wall) >", "wall >"),
    "wall clock may be set back": (" or wall < monotonic - OVERLOOKED_STEP", ""),
    "a clock that is set back makes clear again": (
        "known = self._known\n",
        "known = Known(self._known.until)\n",
    ),
    "freshness before all": (
        "        for token_id in ids:\n",
        "        if self.staleness() > self._max_staleness:\n"
        "            return Verdict.UNKNOWN\n        for token_id in ids:\n",
    ),
    "only the id of the token": ("for token_id in ids:", "for token_id in ids[:1]:"),
    "any clock": ("if abs(request.sent.wall - now) > CLOCK_SKEW_ALLOWANCE:", "if False:"),
    "no allowance": ("CLOCK_SKEW_ALLOWANCE + leeway + 1 + OVERLOOKED_STEP", "leeway"),
    "forgets by the wall clock": (
        "self._clock().monotonic // 60",
        "(arrival_wall_offset + self._clock().wall) // 60",
    ),
    "shortens entries": ("held is None or held.number < number", "True"),
    "keeps the first expiry": ("held is None or held.number < number", "held is None"),
    "any bound": ("if self._max_staleness < 2 * bound:", "if False:"),
    "waits for too long": ("self._max_staleness / 4", "self._max_staleness"),
    "introspection from its arrival": ("0 <= sent.elapsed(self._clock())", "0 <= 0"),
    "introspection for the whole bound": (
        "self._max_staleness - self.service_bound",
        "self._max_staleness",
    ),
}


@pytest.mark.parametrize("rule", WRONG)
def test_wrong_receiver_fails_a_vector(rule: str) -> None:
    right, wrong = WRONG[rule]
    assert SOURCE.count(right) == 1
    module = ModuleType("wrong_receiver")
    # The vectors begin with a monotonic clock of 0 and this wall clock.
    module.__dict__["arrival_wall_offset"] = -1767323000
    sys.modules[module.__name__] = module
    exec(SOURCE.replace(right, wrong), module.__dict__)
    assert any(play(vector, module) for vector in FEED)
