#!/usr/bin/env python3
"""Measures the service against controls on the same machine, at the same time: `make bench`.

    run.py [PART]…

Without parts, takes all but `build`. The service and its control are measured alternately, in several
rounds. A figure is the median of the ratios of the rounds, shown with the lowest and the highest.
docs/performance.md explains them.
"""

import shutil
import signal
import sys

import report
import service
from build import build, size
from checks import checks, gateways, signatures
from commits import commits
from feed import feed
from growth import growth
from latencies import latencies
from logins import logins
from propagation import propagation
from starts import starts
from working_sets import working_sets

PARTS = [build, size, starts, checks, gateways, signatures, working_sets, logins, latencies, commits, propagation, feed,
         growth]
PROGRAMS = {"wrk": "wrk", "taskset": "util-linux", "pgbench": "postgresql-contrib, or postgresql on Debian"}


def main():
    for program, package in PROGRAMS.items():
        if not shutil.which(program):
            sys.exit(f"{program} is not installed: install the package `{package}`")
    names = [part.__name__ for part in PARTS]
    chosen = sys.argv[1:] or names[1:]
    if unknown := set(chosen) - set(names):
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(names)}")
    try:
        for part in PARTS:
            if part.__name__ in chosen:
                part()
    finally:
        report.show()
        report.write(service.TARGET / "bench.json")


# Processes and files are removed then, too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
try:
    main()
finally:
    service.clean_up()
