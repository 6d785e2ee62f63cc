"""The vectors that all verifiers share: `verifiers/vectors`."""

import json
from pathlib import Path
from typing import Any

from portcullis_verifier import receiver as honest_receiver
from portcullis_verifier.clock import Stamp

FOLDER = Path(__file__).parents[2] / "vectors"
FEED = json.loads((FOLDER / "feed.json").read_text())["vectors"]
TOKENS = json.loads((FOLDER / "tokens.json").read_text())


def stamp(fields: dict[str, float]) -> Stamp:
    return Stamp(fields["monotonic"], fields["wall"])


def play(vector: dict[str, Any], module: Any = honest_receiver) -> list[str]:
    """Play a vector. Return what went otherwise than it says."""
    now = Stamp(0, 0)
    settings = vector["settings"]
    receiver = module.Receiver(settings["max_staleness"], settings["leeway"], lambda: now)
    requests: list[Any] = []
    problems = []

    def expect(what: str, found: object, step: dict[str, Any]) -> None:
        if what in step and found != step[what]:
            problems.append(f"{found!r} instead of {step}")

    for step in vector["steps"]:
        now = stamp(step)
        if step["do"] == "send":
            requests.append(receiver.request(float("inf")))
            expect("cursor", requests[-1].cursor, step)
            expect("wait", requests[-1].wait, step)
        elif step["do"] == "receive":
            reply = dict(step["reply"])
            reply["nonce"] = requests[int(reply["nonce"].removeprefix("$nonce")) - 1].nonce
            try:
                receiver.apply(requests[-1], reply)
                expect("accepted", True, step)
            except module.ReplyRefused:
                expect("accepted", False, step)
        elif step["do"] == "check":
            expect("verdict", receiver.check(tuple(step["ids"])).value, step)
        elif step["do"] == "introspect":
            expect("counts", receiver.introspection_counts(stamp(step["sent"])), step)
        else:
            assert step["do"] == "forget"
            receiver.forget()
    return problems
