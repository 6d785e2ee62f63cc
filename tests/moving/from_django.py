#!/usr/bin/env python3
"""Moves a Django project to the service and back, as docs/move-from-django.md says."""

import json
import os
import secrets
import shutil
import subprocess
import sys

from guide import ROOT, Guide
from processes import FOLDER, eventually, free_port, http_session, run, run_main, write

TIME_LIMIT = 240
PROJECT = ROOT / "tests/moving/django_project"
PORT, DJANGO_PORT = free_port(), free_port()
URL, DJANGO = f"http://127.0.0.1:{PORT}", f"http://127.0.0.1:{DJANGO_PORT}"
NOTES = f"{DJANGO}/api/notes/"
PASSWORD = "correct horse"
CLERK = "Bob the clerk@example.com"
# Users who can log in at Django before the move.
USERS = ["alice", CLERK, "dora", "pat", "pbkdf2_sha256", "pbkdf2_sha1", "argon2", "bcrypt_sha256",
         "bcrypt", "scrypt", "md5"]
# Those who can log in after the move. "bcrypt" stays away until the way back.
MOVED = [name for name in USERS if name not in ("md5", "bcrypt")]

os.environ |= {
    "OLD": os.environ["TEST_DATABASE_URL"], "DATABASE_URL": f"sqlite://{FOLDER}/portcullis.db",
    "DJANGO_SECRET_KEY": secrets.token_hex(32), "PORTCULLIS_ISSUER": URL,
    "PORT": str(PORT), "HOST": "127.0.0.1", "LOG_FORMAT": "json", "PBKDF2_ITERATIONS": "100000",
    "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}

guide = Guide("move-from-django.md", {"https://auth.example.com": URL})
processes = {}
http = http_session()


def start_service():
    processes["service"] = run("service", ["bash", "-c", guide.block("start")], port=PORT)
    eventually(lambda: http.get(f"{URL}/health/ready").ok)


def start_django():
    command = ["python", "manage.py", "runserver", "--noreload", f"127.0.0.1:{DJANGO_PORT}"]
    processes["django"] = run("django", ["env", "--chdir", FOLDER, *command], port=DJANGO_PORT)


def stop(name):
    process = processes.pop(name)
    process.terminate()
    process.wait(20)


def manage(*arguments):
    subprocess.run(["python", "manage.py", *arguments], cwd=FOLDER, check=True,
                   stdout=subprocess.DEVNULL)


def sql(text):
    done = subprocess.run(["psql", os.environ["OLD"], "--no-psqlrc", "--quiet", "--command", text],
                          capture_output=True, text=True, check=True)
    return done.stdout


def portcullis(*arguments):
    done = subprocess.run(["portcullis", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def post(url, token=None, **fields):
    return http.post(url, json=fields, headers=bearer(token) if token else {}, timeout=20)


def log_in(username, password=PASSWORD):
    """Logs in at the service. Returns the reply, which has to succeed."""
    reply = post(f"{URL}/auth/login", username=username, password=password)
    assert reply.status_code == 200, f"{username}: {reply.status_code} {reply.text}"
    return reply.json()


def django_log_in(username, password=PASSWORD):
    """Logs in at Django. Returns the reply, which has to succeed."""
    reply = post(f"{DJANGO}/api/token/", username=username, password=password)
    assert reply.status_code == 200, f"{username}: {reply.status_code} {reply.text}"
    return reply.json()


def status_of_login(username, password):
    return post(f"{URL}/auth/login", username=username, password=password).status_code


def notes(token):
    reply = http.get(NOTES, headers=bearer(token), timeout=20)
    assert reply.status_code == 200, f"{reply.status_code} {reply.text}"
    return [note["text"] for note in reply.json()]


def status_of_notes(token):
    return http.get(NOTES, headers=bearer(token), timeout=20).status_code


def write_block(path):
    """Writes the file that a block of the guide shows."""
    write(path, guide.block(path))


def use_django():
    """Does what users do before the move. Returns tokens of two sessions; the second has ended."""
    shutil.copytree(PROJECT, FOLDER, dirs_exist_ok=True)
    manage("migrate")
    manage("shell", "-v", "0", "--command", "from project.fill import fill; fill()")
    start_django()
    # Only one user: Django replaces other hashes than the default at the login.
    session, ended = django_log_in("alice"), django_log_in("alice")
    post(f"{DJANGO}/api/token/blacklist/", refresh=ended["refresh"]).raise_for_status()
    return session, ended


def move_users():
    guide.run("startapp")
    write_block("moving/management/commands/export_users.py")
    settings = (FOLDER / "project/settings.py").read_text()
    write("project/settings.py", f"{settings}\nINSTALLED_APPS += [\"moving\"]\n")
    guide.run("roles")
    guide.run("export")
    refused = guide.run("dry-run", code=5)
    assert "md5" in refused, refused
    guide.run("import", code=5)
    assert (FOLDER / "users.jsonl").exists()
    guide.run("unusable")
    guide.run("dry-run")
    guide.run("import")
    assert not (FOLDER / "users.jsonl").exists()
    write("project/settings.py", settings)


def switch():
    for path in ["moving/models.py", "moving/management/commands/link_accounts.py"]:
        write_block(path)
    settings = FOLDER / "project/settings.py"
    settings.write_text(settings.read_text() + 'INSTALLED_APPS += ["moving"]\n')
    guide.run("link")
    write_block("moving/authentication.py")
    client = json.loads(guide.run("client"))
    os.environ["PORTCULLIS_CLIENT_ID"] = client["client_id"]
    os.environ["PORTCULLIS_CLIENT_SECRET"] = client["client_secret"]
    settings.write_text((PROJECT / "project/settings.py").read_text() + guide.block("settings.py"))
    subprocess.run(["patch", "--quiet", "--strip=0"], cwd=FOLDER, input=guide.block("urls.diff"),
                   text=True, check=True)
    stop("django")
    start_service()
    start_django()
    counts = guide.run("check").splitlines()[:2]
    assert counts[0] == counts[1], counts


def check_accounts():
    for username in MOVED:
        assert status_of_login(username, "wrong horse") == 401
        assert notes(log_in(username)["access_token"]) == [f"note of {username}"], username
    for username in ["ian", "una", "md5"]:
        assert status_of_login(username, PASSWORD) == 401
    admin = bearer(log_in("alice")["access_token"])
    users = http.get(f"{URL}/admin/users", headers=admin).json()["users"]
    users = {user["username"]: user for user in users}
    assert users["alice"]["roles"] == ["admin", "user"], users["alice"]
    assert users["alice"]["metadata"] == {"email": "alice@example.com", "name": "Alice Liddell"}
    assert users[CLERK]["roles"] == ["group.order-clerks", "user"], users[CLERK]
    assert users["ian"]["disabled_at"] and not users["una"]["disabled_at"]
    reset = portcullis("user", "reset-code", "una")
    reset_code = next(word for word in reset.split() if word.startswith("pcr_"))
    post(f"{URL}/auth/reset", reset_code=reset_code, new_password="una's horse").raise_for_status()
    assert notes(log_in("una", "una's horse")["access_token"]) == ["note of una"]


def check_clients(session, ended):
    # Clients that have not changed go on with the tokens of Simple JWT, until they expire.
    assert notes(session["access"]) == ["note of alice"]
    refreshed = post(f"{DJANGO}/api/token/refresh/", refresh=session["refresh"]).json()["access"]
    assert notes(refreshed) == ["note of alice"]
    assert post(f"{DJANGO}/api/token/refresh/", refresh=ended["refresh"]).status_code == 401
    assert post(f"{DJANGO}/api/token/", username="alice", password=PASSWORD).status_code == 404
    # Clients that have changed.
    tokens = log_in("alice")
    tokens = post(f"{URL}/auth/refresh", refresh_token=tokens["refresh_token"]).json()
    token = tokens["access_token"]
    post(NOTES, token, text="second note").raise_for_status()
    assert http.get(f"{URL}/auth/check", headers=bearer(token)).status_code == 200
    post(f"{URL}/auth/logout", token).raise_for_status()
    eventually(lambda: status_of_notes(token) == 401)
    assert status_of_notes("x") == 401 == http.get(NOTES).status_code
    # A user that is deactivated in Django.
    token = log_in("pat")["access_token"]
    for is_active, status in [("false", 401), ("true", 200)]:
        sql(f"update auth_user set is_active = {is_active} where username = 'pat'")
        assert status_of_notes(token) == status
    # A user who is new, and a machine.
    post(f"{URL}/auth/register", username="nina", password=PASSWORD).raise_for_status()
    token = log_in("nina")["access_token"]
    post(NOTES, token, text="note of nina").raise_for_status()
    assert notes(token) == ["note of nina"]
    client = portcullis("client", "create", "robot", "--permission", "orders:read", "--json")
    client = json.loads(client)

    def machine_token():
        return http.post(f"{URL}/oauth/token", data={"grant_type": "client_credentials"},
                             auth=(client["client_id"], client["client_secret"]))

    eventually(lambda: machine_token().ok)
    assert status_of_notes(machine_token().json()["access_token"]) == 401


def failed_way_back_changes_nothing():
    users = sql("select * from auth_user order by id")
    empty = f"sqlite://{FOLDER}/empty.db"
    subprocess.run(["portcullis", "migrate"], env=os.environ | {"DATABASE_URL": empty},
                   capture_output=True, check=True)

    def way_back_fails(reason, **env):
        output = guide.run("way-back", code=1, **env)
        assert reason in output, output
        assert sql("select * from auth_user order by id") == users, reason

    way_back_fails("none.db", DATABASE_URL=f"sqlite://{FOLDER}/none.db")
    way_back_fails("the export has no account of the users", DATABASE_URL=empty)
    way_back_fails("1 users have no account: dora")


def move_back():
    """Changes accounts at the service, then moves back."""
    token = {name: log_in(name)["access_token"] for name in ["pat", "dora"]}
    http.put(f"{URL}/auth/password", headers=bearer(token["pat"]), json={
        "current_password": PASSWORD, "new_password": "battery staple"}).raise_for_status()
    http.delete(f"{URL}/auth/me", headers=bearer(token["dora"]),
                    json={"password": PASSWORD}).raise_for_status()
    # Another person with the same name, who does not see the notes of the former one.
    post(f"{URL}/auth/register", username="dora", password="dora's horse").raise_for_status()
    assert notes(log_in("dora", "dora's horse")["access_token"]) == []
    last_token = log_in("alice")["access_token"]
    stop("service")
    stop("django")
    write_block("moving/management/commands/import_users.py")
    failed_way_back_changes_nothing()
    guide.run("way-back", change=("--deleted 0", "--deleted 1"))
    for path in ["project/urls.py", "project/settings.py"]:
        shutil.copy(PROJECT / path, FOLDER / path)
    start_django()

    changed = {"pat": "battery staple", "dora": "dora's horse", "una": "una's horse",
               "nina": PASSWORD}
    for username, password in (dict.fromkeys(USERS, PASSWORD) | changed).items():
        session = django_log_in(username, password)
        own = [] if username == "dora" else [f"note of {username}"]
        assert notes(session["access"])[:1] == own, username
    refused = {"ian": PASSWORD, "pat": PASSWORD, "dora": PASSWORD}
    for username, password in refused.items():
        assert post(f"{DJANGO}/api/token/", username=username, password=password).status_code == 401
    assert status_of_notes(last_token) == 401


def main():
    session, ended = use_django()
    print("the project has users of each kind")
    move_users()
    switch()
    check_accounts()
    print("every user with a password logged in at the service, and sees the same data")
    check_clients(session, ended)
    print("old and new clients call the project")
    move_back()
    print("every user logged in at the project again")
    guide.assert_used()
    return []


if __name__ == "__main__":
    run_main(main, TIME_LIMIT)
