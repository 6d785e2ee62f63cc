#!/usr/bin/env python3
"""Runs the commands of the README and of `docs/`, page by page."""

import json
import os
import re
import shutil
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

from page import BLOCK, ROOT, Page
from processes import free_port, run_main

TIME_LIMIT = 300
SERVER = urlsplit(os.environ["TEST_DATABASE_URL"])
ADDRESS = f"{SERVER.hostname}:{SERVER.port}"
# Of the password "secret", made by Werkzeug.
HASH = "pbkdf2:sha256:260000$Cw2y5bKcHDdOQJkY$0000000000000000000000000000000000000000000000000000000000000000"
PASSWORD = "correct horse battery staple"
ID = re.compile(r"[0-9a-f]{8}-[-0-9a-f]{27}")
SECRET = re.compile(r"pcs_[\w-]+")
LOG_IN = """TOKEN=$(curl -sf -H 'Content-Type: application/json' \\
    -d '{"username":"NAME","password":"PASSWORD"}' http://127.0.0.1:5000/auth/login |
    sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')"""


def log_in(page, name="testuser", password="testpass"):
    """Logs in, and returns the access token."""
    page.shell(page.translate(LOG_IN.replace("NAME", name).replace("PASSWORD", password)))
    return page.env["TOKEN"]


def start(page, *accounts):
    """Starts the service with accounts."""
    page.start()
    for name in ("testuser", *accounts):
        page.shell(f"portcullis user create {name}", input="testpass")


def create_client(page, *permissions):
    """Creates a client, and sets the variables that the pages use for it.

    Before the start: on SQLite, a running service knows it up to a second later.
    """
    page.shell("portcullis migrate")
    options = " ".join(f"--permission {permission}" for permission in permissions)
    created = page.shell(f"portcullis client create machine {options}")
    page.env["CLIENT_ID"], page.env["CLIENT_SECRET"] = ID.findall(created)[0], SECRET.search(created)[0]


def user_id(page, name):
    return ID.search(page.shell(f"portcullis user show {name}"))[0]


def run_readme():
    page = Page("README.md")
    page.run(4)
    text = (ROOT / "README.md").read_text()
    program = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
    program = program.replace('client_id="…"', f'client_id="{ID.findall(page.output)[0]}"')
    program = program.replace("pcs_…", SECRET.search(page.output)[0])
    (page.folder / "orders.py").write_text(page.translate(program))
    page.run(1)
    log_in(page)
    page.run(2)
    page.run(1, input=PASSWORD)
    page.stop()
    with compose(page):
        page.run()


def run_administration():
    page = Page("docs/administration.md")
    start(page)
    page.replacements["2c1f…"] = user_id(page, "testuser")
    page.run(1, input=PASSWORD)
    page.env["ADMIN"] = log_in(page, "root", PASSWORD)
    page.run()


def run_clients():
    page = Page("docs/clients.md")
    create_client(page, "orders:read")
    start(page)
    page.run(2)
    page.replacements["0b8f1f6e-…"] = ID.findall(page.shell("portcullis client show orders-api"))[1]
    page.run()


def run_gateways():
    page = Page("docs/gateways.md")
    start(page)
    log_in(page)
    page.run()


def run_guessing():
    page = Page("docs/guessing.md")
    start(page, "alice")
    page.replacements["{id}"] = user_id(page, "alice")
    page.shell("portcullis user set-roles alice --role admin")
    log_in(page, "alice")
    page.run()


def run_import_and_export():
    page = Page("docs/import-and-export.md")
    rows = [{"username": name, "password_hash": HASH} for name in ("alice", "John Doe")]
    (page.folder / "accounts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    page.run()
    assert "John Doe" in (page.folder / "accounts.jsonl").read_text()


def run_keys():
    page = Page("docs/keys.md", JWKS_MAX_AGE="1", REVOCATION_MAX_STALENESS="2")
    page.run(1)
    page.shell("portcullis user create testuser", input="testpass")
    page.run(1)
    # The pending key may not sign before it has been published for four seconds.
    rotate = "portcullis key rotate"
    page.replacements[rotate] = f"until {rotate}; do sleep 0.2; done"
    page.run(1)
    page.replacements["KID"] = re.search(r"(\S+) +active", page.output)[1]
    page.run()


@contextmanager
def compose(page):
    """Makes ready for the commands of Docker Compose, see compose.py. Ends what they start."""
    page.env |= {"MANAGEMENT_ADDRESS": f"127.0.0.1:{free_port()}", "PGHOST": SERVER.hostname,
                 "PGPORT": str(SERVER.port), "PGUSER": SERVER.username}
    page.shell("""createuser --superuser portcullis || true
        createdb --owner portcullis portcullis""")
    folder = page.folder
    try:
        yield
    finally:
        page.folder = folder
        page.shell("docker compose down; dropdb --force portcullis")


def run_operations():
    page = Page("docs/operations.md")
    with compose(page):
        run_operations_with_compose(page)


def run_operations_with_compose(page):
    checkout = page.folder
    # Upgrades, and a backup.
    page.run(2)
    page.shell("docker compose exec -T app portcullis user create alice", input=PASSWORD)
    page.run(1)
    page.shell("docker compose exec -T app portcullis user delete alice")
    page.run(1)
    assert "alice" in page.shell("docker compose exec app portcullis user list")
    page.shell("docker compose stop app")
    run_operations_on_sqlite(page)
    # Secrets of the stack.
    page.folder = checkout
    page.shell("docker compose start app")
    page.run(3)
    page.shell("docker compose stop app")
    # A role for the service.
    page.replacements |= databases("portcullis")
    page.run(1)
    page.stop()
    # Several instances, administrators, passwords, roles.
    page.run(2, input=PASSWORD)
    page.shell("docker compose stop app")
    page.start()
    page.shell("portcullis user create alice", input=PASSWORD)
    page.run(1)
    page.replacements |= {"pcr_…": re.search(r"pcr_[\w-]+", page.output)[0], "…": PASSWORD}
    page.run()


def run_operations_on_sqlite(page):
    """Backs up, restores and moves a database of SQLite, in a folder of its own."""
    page.folder = page.folder / "sqlite"
    shutil.copytree(ROOT / "deploy", page.folder / "deploy")
    start(page)
    page.run(1)
    page.shell("portcullis user delete testuser")
    page.stop()
    page.run(1)
    page.start()
    assert "testuser" in page.shell("portcullis user list")
    page.run(1)
    page.stop()
    page.shell("createdb moved")
    page.replacements |= databases("moved")
    page.run(1)
    page.stop()


def databases(name):
    """Returns what the reader writes in place of the addresses of the page."""
    return {f"{role}{password}@db/portcullis": f"{actual}@{ADDRESS}/{name}"
            for role, actual in [("owner", "portcullis"), ("portcullis_service",) * 2]
            for password in ("", ":…")}


def run_protect_your_api():
    page = Page("docs/protect-your-api.md")
    create_client(page, "tokens:introspect")
    start(page)
    log_in(page)
    page.run(1)
    page.shell("portcullis client delete orders-api --yes")
    page.run()


PAGES = {
    "README.md": run_readme,
    "docs/administration.md": run_administration,
    "docs/clients.md": run_clients,
    "docs/gateways.md": run_gateways,
    "docs/guessing.md": run_guessing,
    "docs/import-and-export.md": run_import_and_export,
    "docs/keys.md": run_keys,
    "docs/operations.md": run_operations,
    "docs/protect-your-api.md": run_protect_your_api,
}


# `make interop-moving` runs these.
ELSEWHERE = {"docs/move-from-flask.md", "docs/move-from-django.md"}
# These change a cluster and a machine. `.ci/check-kubernetes` and `.ci/check-systemd` check their files.
NOT_RUN = {"docs/kubernetes.md", "docs/systemd.md"}


def main():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    with_commands = {str(path.relative_to(ROOT)) for path in pages if BLOCK.search(path.read_text())}
    untested = with_commands - set(PAGES) - ELSEWHERE - NOT_RUN
    assert not untested, f"no test runs the commands of {sorted(untested)}"
    for name in sys.argv[1:] or PAGES:
        PAGES[name]()
        print(f"ok: {name}", flush=True)
    return []


if __name__ == "__main__":
    run_main(main, TIME_LIMIT)
