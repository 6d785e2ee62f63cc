"""Rounds of measurements, and the figures that they give."""

import json
import math
import os
import platform
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))

figures = []


def alternate(**measures):
    """Takes the measurements in turn and returns the results of each round."""
    return [{name: measure() for name, measure in measures.items()} for _ in range(ROUNDS)]


def report(figure, unit, values, reach=None, beyond=None, measured=None, control=None):
    """Adds a figure: the median of the values. `reach` and `beyond` are its targets, if it has any."""
    middle = statistics.median
    row = {"figure": figure, "unit": unit, "median": middle(values), "lowest": min(values), "highest": max(values),
           "reach": reach, "beyond": beyond}
    if measured:
        row |= {"measured": middle(measured), "control": middle(control)}
    figures.append(row)
    print(f"{figure}: {row['median']:.3f} {unit}", file=sys.stderr)


def compare(figure, rounds, measured, control, key, reach=None, beyond=None):
    """Adds the ratio of two measurements that were taken in turn."""
    ours, theirs = [one[measured][key] for one in rounds], [one[control][key] for one in rounds]
    report(figure, "×", [a / b for a, b in zip(ours, theirs)], reach, beyond, ours, theirs)


def show():
    """Prints the figures as a table in Markdown."""
    rows = [("figure", "unit", "median", "lowest to highest", "reach", "beyond", "measured / control")]
    for row in figures:
        spread = f"{number(row['lowest'])} to {number(row['highest'])}" if row["lowest"] < row["highest"] else ""
        targets = ["" if row[key] is None else f"{row[key]:g}" for key in ["reach", "beyond"]]
        sides = f"{number(row['measured'])} / {number(row['control'])}" if "measured" in row else ""
        rows.append((row["figure"], row["unit"], number(row["median"]), spread, *targets, sides))
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        print("|", " | ".join(cell.ljust(width) for cell, width in zip(row, widths)), "|")


def number(value):
    """Rounds to three significant digits."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(digits, 0), 3)}f}"


def write(path):
    """Writes the figures as JSON, with the circumstances of the run."""
    run = {"date": datetime.now(UTC).isoformat(timespec="seconds"),
           "commit": commit(), "rounds": ROUNDS,
           "machine": {"cores": os.cpu_count(), "cpu": cpu_model(), "kernel": platform.release(),
                       "postgres": output("psql", "-XAt", "-d", os.environ["TEST_DATABASE_URL"], "-c", "show server_version")},
           "figures": figures}
    path.write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n")


def commit():
    git = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return output(*git) if Path(".git").exists() else "unknown"


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def cpu_model():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
