"""The release build and its binary."""

import subprocess
import tempfile
import time

from report import report
from service import PROGRAM, TARGET


def build():
    """Measures a clean release build, for minutes."""
    with tempfile.TemporaryDirectory(dir=TARGET) as target:
        began_at = time.monotonic()
        subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", target], check=True)
    report("clean release build", "s", [time.monotonic() - began_at], 210, 150)


def size():
    report("stripped binary", "MiB", [PROGRAM.stat().st_size / 2**20], 15, 10)
