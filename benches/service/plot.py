#!/usr/bin/env python3
"""Draws the latencies and the working sets of a run as SVG: `make bench-plot`.

    plot.py RUN DRAWING
"""

import json
import math
import sys
from pathlib import Path

LOADS = {
    "checks at 5,000/s alone": "alone",
    "checks at 5,000/s beside the bootstrap of a verifier": "a verifier starts, again and again",
    "checks at 5,000/s beside logins that obey Retry-After": "64 clients log in and obey",
    "checks at 5,000/s beside logins that ignore Retry-After": "64 clients log in and ignore refusals",
    "bare handler at 5,000/s beside raw hashing and such logins": "the same beside a bare handler",
    "checks at 5,000/s beside a storm of logouts": "64 clients log out",
}
PERCENTILES = {"p50": "#9ecae1", "p99": "#3182bd", "p99.9": "#0b3d5c"}
SIZES = ["500", "50,000", "500,000"]
ALGORITHMS = {"HS256": "#3182bd", "ES256": "#0b3d5c"}
TEXT, FAINT, GRID = "#1f2328", "#57606a", "#d0d7de"

WIDTH, HEIGHT, ROW = 760, 460, 26
# Right edges of the labels and of the numbers beside them, and of the drawing.
LABELS, NUMBERS, RIGHT = 270, 350, 720

HEAD = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" \
font-size="13" role="img" aria-labelledby="title">
<title id="title">Latency of 5,000 checks a second, alone and beside other load, and processor time of a check by the \
number of tokens in use.</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"""


def main():
    rows = {row["figure"]: row for row in json.loads(Path(sys.argv[1]).read_text())["figures"]}
    drawing = [HEAD, *draw_latencies(rows, top=20), *draw_working_sets(rows, top=266), "</svg>\n"]
    Path(sys.argv[2]).write_text("\n".join(drawing))


def draw_latencies(rows, top):
    """Draws the percentiles of each load as points on a logarithmic scale."""
    values = {load: {name: rows[f"{load}, {name}"]["median"] for name in PERCENTILES} for load in LOADS}
    every = [value for points in values.values() for value in points.values()]
    first, last = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))

    def x(value):
        return NUMBERS + 30 + (RIGHT - NUMBERS - 30) * (math.log10(value) - first) / (last - first)

    bottom = top + 50 + ROW * len(LOADS)
    yield heading(top, "Latency of 5,000 checks a second", PERCENTILES)
    yield text(NUMBERS, top + 36, "p99", "end", FAINT)
    for power in range(first, last + 1):
        yield line(x(10**power), top + 40, x(10**power), bottom, GRID)
        yield text(x(10**power), bottom + 16, f"{10.0**power:g} ms", "middle", FAINT)
    for index, (load, label) in enumerate(LOADS.items()):
        y = top + 60 + ROW * index
        yield text(LABELS - 14, y + 4, label, "end")
        yield line(x(values[load]["p50"]), y, x(values[load]["p99.9"]), y, FAINT)
        yield text(NUMBERS, y + 4, f"{values[load]['p99']:.2f} ms", "end")
        for name, colour in PERCENTILES.items():
            yield f'<circle cx="{x(values[load][name]):.1f}" cy="{y}" r="5.5" fill="{colour}"/>'


def draw_working_sets(rows, top):
    """Draws the processor time of a check as a bar for each algorithm and number of tokens."""
    values = {}
    for algorithm in ALGORITHMS:
        for size in ["50,000", "500,000"]:
            row = rows[f"processor time of a check, {algorithm}, {size} tokens in use, over 500"]
            values["500", algorithm], values[size, algorithm] = row["control"], row["measured"]
    longest = max(values.values())
    yield heading(top, "Processor time of a check, by tokens in use", ALGORITHMS)
    for index, size in enumerate(SIZES):
        y = top + 28 + index * 2 * ROW
        yield text(LABELS - 14, y + ROW, f"{size} tokens", "end")
        for offset, (algorithm, colour) in enumerate(ALGORITHMS.items()):
            value, bar = values[size, algorithm], y + 4 + offset * 20
            width = (RIGHT - 60 - LABELS) * value / longest
            yield f'<rect x="{LABELS}" y="{bar}" width="{width:.1f}" height="17" fill="{colour}"/>'
            yield text(LABELS + width + 8, bar + 13, f"{value:.1f} µs", "start", FAINT)


def heading(top, title, legend):
    parts = [f'<text x="20" y="{top + 12}" font-weight="600" fill="{TEXT}">{title}</text>']
    for index, (name, colour) in enumerate(reversed(legend.items())):
        x = RIGHT - 30 - index * 80
        parts += [f'<circle cx="{x - 12}" cy="{top + 8}" r="5.5" fill="{colour}"/>', text(x, top + 12, name)]
    return "\n".join(parts)


def text(x, y, content, anchor="start", colour=TEXT):
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="{colour}">{content}</text>'


def line(x1, y1, x2, y2, colour):
    return f'<path d="M{x1:.1f} {y1}L{x2:.1f} {y2}" stroke="{colour}"/>'


main()
