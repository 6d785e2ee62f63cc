"""A page of the documentation, whose commands are run as a reader runs them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from processes import FOLDER, eventually, free_port, log_of, run

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
# A block whose last command serves until it is ended.
SERVER = re.compile(r"(^|\s)(portcullis|venv/bin/uvicorn .*|npm start)$")
# Commands that are not run: CI runs the tests, the folder of the test is no checkout, and the test
# itself stops and starts the service.
LEFT_OUT = ("make test", "git pull", "systemctl ")


class Page:
    """Runs the blocks of a page in order, in a folder with the files of a checkout."""

    def __init__(self, name, **env):
        self._name = name
        self.folder = FOLDER / name.removesuffix(".md")
        for folder in ["verifiers/python", "examples", "deploy", "monitoring", "tests/shared"]:
            shutil.copytree(ROOT / folder, self.folder / folder)
        for file in ["Makefile", ".env.example", *ROOT.glob("docker-compose*.yml")]:
            shutil.copy(ROOT / file, self.folder)
        self._blocks = BLOCK.findall((ROOT / name).read_text())
        assert self._blocks, f"{name} has no commands"
        # For free ports, so that no other program is in the way.
        self._ports = {port: str(free_port()) for port in ("5000", "8000", "8001")}
        self.url = f"http://127.0.0.1:{self._ports['5000']}"
        # Text of the page, and what the reader writes in its place.
        self.replacements = {"https://auth.example.com": self.url}
        self.env = os.environ | {
            "PATH": f"{os.environ['PROGRAMS']}:{os.environ['PATH']}", "HOST": "127.0.0.1",
            "PORT": self._ports["5000"], "CURL_HOME": str(self.folder)} | env
        (self.folder / ".curlrc").write_text("silent\n")
        # Output of the latest block.
        self.output = ""
        self._service = None

    def run(self, count=None, input=""):
        """Runs the next blocks, by default all that are left, and compares the replies."""
        blocks = self._blocks[:count]
        del self._blocks[:count]
        for block in blocks:
            self._run_block(self.translate(block), input)

    def start(self, command="portcullis"):
        """Starts an API, or the service in place of the former one."""
        port = re.search(r"--port (\d+)", command)
        name = f"{self.folder.name}-{port[1] if port else 'service'}"
        url = f"http://127.0.0.1:{port[1]}/docs" if port else f"{self.url}/.well-known/jwks.json"
        if not port:
            self.stop()
        script = f"cd {self.folder} && exec env {command}"
        process = run(name, ["bash", "-c", script], **self.env)
        if not port:
            self._service = process
        check = ["curl", "--fail", "--silent", "--output", "/dev/null", url]
        eventually(lambda: not subprocess.run(check).returncode or process.poll() is not None)
        assert process.poll() is None, f"{self._name}: {command}: {log_of(name)}"

    def stop(self):
        """Stops the service, if it runs."""
        if self._service:
            self._service.terminate()
            self._service.wait(20)
            self._service = None

    def shell(self, block, input=""):
        """Runs a block in a shell, keeps its variables, and returns the output."""
        script = f"set -ae\n{block}\nenv --null > environment"
        done = subprocess.run(["bash", "-c", script], cwd=self.folder, env=self.env, text=True,
                              input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, f"{self._name}: {block}\n{done.returncode}: {done.stdout}"
        variables = (self.folder / "environment").read_text().split("\0")
        self.env = dict(variable.split("=", 1) for variable in variables if variable)
        return done.stdout

    def translate(self, block):
        """Returns a block with the addresses and the program of the test."""
        for text, actual in self.replacements.items():
            block = block.replace(text, actual)
        for port, actual in self._ports.items():
            block = block.replace(f"127.0.0.1:{port}", f"127.0.0.1:{actual}")
            block = block.replace(f"localhost:{port}", f"127.0.0.1:{actual}")
            block = block.replace(f"--port {port}", f"--port {actual}")
        block = block.replace("cargo run --release -- ", "portcullis ")
        block = block.replace("cargo run --release", "portcullis")
        return block.replace("target/release/portcullis", "portcullis")

    def _run_block(self, block, input):
        lines = block.rstrip().split("\n")
        lines = [line for line in lines if not line.strip().startswith(LEFT_OUT)]
        *before, last = lines or [""]
        server = last if SERVER.search(last) else None
        output = self.output = self.shell("\n".join(before if server else lines), input)
        if server:
            self.start(server)
        examples = [json.loads(line[2:]) for line in lines if line.startswith("# {")]
        replies = list(find_objects(output))
        for example in examples:
            found = [reply for reply in replies if is_like(example, reply)]
            assert found, f"{self._name}: no reply is like {example}\n{block}\n{output}"
            replies.remove(found[0])
        errors = [reply for reply in replies if "code" in reply or "detail" in reply]
        assert not errors, f"{self._name}: {errors}\n{block}"


def find_objects(output):
    """Yields the JSON objects in the output of commands."""
    decoder, position = json.JSONDecoder(), 0
    while (position := output.find("{", position)) >= 0:
        try:
            found, position = decoder.raw_decode(output, position)
            yield found
        except json.JSONDecodeError:
            position += 1


def is_like(example, actual):
    """Returns `True` if a value is the example, except for numbers, times, and what `…` leaves out."""
    if isinstance(example, dict) and isinstance(actual, dict):
        return example.keys() == actual.keys() and all(
            is_like(example[key], actual[key]) for key in example)
    if isinstance(example, list) and isinstance(actual, list):
        return len(example) == len(actual) and all(map(is_like, example, actual))
    if isinstance(example, str) and isinstance(actual, str):
        if TIME.fullmatch(example):
            return bool(TIME.fullmatch(actual))
        pattern = ".*".join(map(re.escape, example.split("…")))
        return bool(re.fullmatch(pattern, actual))
    return type(example) is type(actual) and (example == actual or type(example) is int)
