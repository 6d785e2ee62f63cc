"""The reply of the feed, parsed in slices: a million entries at once would stop all threads."""

import json
import time
from collections.abc import Iterator
from typing import Any

# Text that is parsed at once, in bytes. It takes less than a millisecond.
SLICE = 32 * 1024
# Pause after each slice, in seconds, in which other threads run.
PAUSE = 0.0002
# Beginning and end of the list of entries, which is the last field, and the border of two entries.
BEGIN, END, BORDER = b'"revoked":[', b"]}", b"],["


def parse_reply(body: bytes | bytearray) -> Any:
    """Return the fields of a reply. The entries of a long one are parsed while they are iterated.

    Raises `ValueError`, also while iterating.
    """
    start, end = body.find(BEGIN) + len(BEGIN), len(body) - len(END)
    if end - start <= SLICE or start < len(BEGIN) or not body.endswith(END):
        return json.loads(body)
    fields = json.loads(body[:start] + END)
    fields["revoked"] = _entries(body, start, end)
    return fields


def _entries(body: bytes | bytearray, start: int, end: int) -> Iterator[Any]:
    while start < end:
        border = body.find(BORDER, start + SLICE, end)
        stop = end if border < 0 else border + 1
        yield from json.loads(b"[" + body[start:stop] + b"]")
        start = stop + 1
        time.sleep(PAUSE)
