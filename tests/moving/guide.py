"""Code blocks of a guide, which the tests run, so that the guide stays true."""

import os
import re
import subprocess
from pathlib import Path

from processes import FOLDER

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?:sh|python|diff|json)$", re.MULTILINE)
BLOCK = re.compile(r"^<!-- test: ([\w./-]+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| *(.*?) *\|$", re.MULTILINE)


class Guide:
    """A page of `docs/`. The comment before each code block names it: `<!-- test: dump -->`."""

    def __init__(self, name, replacements):
        self.text = (ROOT / "docs" / name).read_text()
        blocks = BLOCK.findall(self.text)
        self._blocks = dict(blocks)
        assert len(self._blocks) == len(blocks), "two blocks have the same name"
        assert len(blocks) == len(FENCE.findall(self.text)), "a code block has no name"
        self._unused = set(self._blocks)
        self._replacements = replacements

    def block(self, name):
        """Returns a code block, with the addresses of the test."""
        self._unused.discard(name)
        text = self._blocks[name]
        for example, actual in self._replacements.items():
            text = text.replace(example, actual)
        return text

    def run(self, name, code=0, change=("", ""), **env):
        """Runs a block as a reader does, in the folder of the test.

        The shell is that of a reader: it goes on after a command that failed, and `code` is the
        status of the last one. `change` is what the reader changes in the block, and to what.
        Returns the standard output, and the errors, too, if the block has to fail.
        """
        before, after = change
        text = self.block(name)
        assert before in text, f"{name} has no {before}"
        done = subprocess.run(["bash", "-c", text.replace(before, after) if before else text],
                              cwd=FOLDER, env=os.environ | env, capture_output=True, text=True)
        assert done.returncode == code, f"{name}: {done.returncode}, {done.stdout}{done.stderr}"
        return done.stdout + done.stderr if code else done.stdout

    def table(self, heading):
        """Returns the rows of the table below a heading, without the first two lines."""
        section = self.text.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
        rows = [re.split(r" *\| *", row) for row in ROW.findall(section)]
        return rows[2:]

    def assert_used(self):
        assert not self._unused, f"no test runs these blocks: {sorted(self._unused)}"
