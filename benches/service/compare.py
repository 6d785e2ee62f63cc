#!/usr/bin/env python3
"""Compares target/bench.json with that of an earlier run: `make bench-compare BASE=earlier.json`.

    compare.py BEFORE AFTER

Marks the figures whose medians are further apart than the rounds of either run.
"""

import json
import sys
from pathlib import Path


def main():
    before, after = [json.loads(Path(path).read_text()) for path in sys.argv[1:]]
    for name, run in [("before", before), ("after", after)]:
        machine = run["machine"]
        print(f"{name:6} {run['commit']}, {run['date']}, {run['rounds']} rounds: {machine['cores']} cores, {machine['cpu']}, "
              f"Linux {machine['kernel']}, Postgres {machine['postgres']}")
    earlier = {row["figure"]: row for row in before["figures"]}
    width = max(len(row["figure"]) for row in after["figures"])
    print(f"\n{'':{width}} {'before':>10} {'after':>10} {'ratio':>7}")
    for row in after["figures"]:
        if old := earlier.pop(row["figure"], None):
            mark = " moved" if has_moved(old, row) else ""
            ratio = f"{row['median'] / old['median']:7.2f}" if old["median"] else f"{'':7}"
            print(f"{row['figure']:{width}} {old['median']:10.3f} {row['median']:10.3f} {ratio} {row['unit']:5}{mark}")
        else:
            print(f"{row['figure']:{width}} {'':10} {row['median']:10.3f} {'':7} {row['unit']:5} new")
    for row in earlier.values():
        print(f"{row['figure']:{width}} {row['median']:10.3f} {'':18} {row['unit']:5} not measured")


def has_moved(before, after):
    spread = max(row["highest"] - row["lowest"] for row in [before, after])
    return abs(after["median"] - before["median"]) > spread


main()
