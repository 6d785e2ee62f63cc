import json
from collections.abc import Iterator
from typing import Any

import pytest

from portcullis_verifier import feed
from portcullis_verifier.clock import system_clock
from portcullis_verifier.receiver import Receiver, ReplyRefused, Request, Verdict


def reply_with(request: Request, entries: object) -> dict[str, Any]:
    return {
        "nonce": request.nonce,
        "cursor": "1",
        "age_ms": 0,
        "now": round(system_clock().wall),
        "bound_ms": 500,
        "complete": True,
        "revoked": entries,
    }


def body_of(count: int, **layout: Any) -> bytes:
    fields = {"nonce": "1", "revoked": [[f"token-{number}", number] for number in range(count)]}
    return json.dumps(fields, **layout).encode()


@pytest.mark.parametrize("count", [0, 1, 2_000, 20_000])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
def test_reply_is_parsed_as_a_whole_would_be(count: int, separators: tuple[str, str]) -> None:
    body = body_of(count, separators=separators)
    fields = feed.parse_reply(body)
    assert fields | {"revoked": list(fields["revoked"])} == json.loads(body)


def test_long_reply_is_parsed_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    parse = json.loads

    def measure(text: bytes) -> Any:
        lengths.append(len(text))
        return parse(text)

    monkeypatch.setattr(json, "loads", measure)
    body = body_of(20_000, separators=(",", ":"))
    list(feed.parse_reply(body)["revoked"])
    assert sum(lengths) >= len(body)
    assert max(lengths) < feed.SLICE + 100


def test_long_reply_with_a_malformed_entry_is_refused() -> None:
    body = body_of(20_000, separators=(",", ":")).replace(b'["token-19000",', b'["token-19000"')
    receiver = Receiver(1, 5, system_clock)
    request = receiver.request(1)
    with pytest.raises(ReplyRefused, match="malformed"):
        receiver.apply(request, reply_with(request, feed.parse_reply(body)["revoked"]))
    assert receiver.check(("token-1",)) is Verdict.REVOKED
    assert receiver.check(("token-0a",)) is Verdict.UNKNOWN
    assert receiver.request(1).cursor is None


def test_nothing_is_clear_before_the_last_entry() -> None:
    receiver = Receiver(1, 5, system_clock)
    request = receiver.request(1)

    def entries() -> Iterator[tuple[str, float]]:
        for number in range(100):
            assert receiver.check(("last",)) is Verdict.UNKNOWN
            assert receiver.request(1).cursor is None
            yield f"token-{number}", system_clock().wall + 3600
        yield "last", system_clock().wall + 3600

    assert receiver.apply(request, reply_with(request, entries())) == (True, 101)
    assert receiver.check(("last",)) is Verdict.REVOKED
    assert receiver.check(("other",)) is Verdict.CLEAR
