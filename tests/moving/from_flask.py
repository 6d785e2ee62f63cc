#!/usr/bin/env python3
"""Moves a Flask API to the service and back, as docs/move-from-flask.md says."""

import json
import os
import secrets
import shutil
import subprocess
import sys

import jwt
from flask_client import PASSWORD, differences, talk_to
from guide import ROOT, Guide
from processes import FOLDER, eventually, free_port, http_session, run, run_main, write

TIME_LIMIT = 240
APPS = ROOT / "tests/moving/flask_app"
OLD = os.environ["TEST_DATABASE_URL"]
SECRET, NEW_SECRET = secrets.token_hex(32), secrets.token_hex(32)
PORT, OLD_PORT, ORDERS_PORT = free_port(), free_port(), free_port()
URL, OLD_URL = f"http://127.0.0.1:{PORT}", f"http://127.0.0.1:{OLD_PORT}"
ORDERS_URL = f"http://127.0.0.1:{ORDERS_PORT}/orders"
# The variables of the guide.
os.environ |= {"OLD": OLD, "ORDERS": OLD, "DATABASE_URL": OLD.rsplit("/", 1)[0] + "/portcullis",
               "JWT_SECRET_KEY": SECRET, "NEW_SECRET": NEW_SECRET}
# Users of the old API, and their passwords.
USERS = {"John Doe": PASSWORD, "ann": "secret", "Ζωή": "πασσωορδ ☃", 'q"u\\o\'te': "a\tb",
         "bob": "x" * 100, "carol": PASSWORD, "dave": PASSWORD, "eve": PASSWORD}

guide = Guide("move-from-flask.md", {
    "https://auth.example.com": URL, "http://127.0.0.1:5000": URL, "PORT=5000": f"PORT={PORT}"})
processes = {}
http = http_session()


def start_flask(name, port, secret=""):
    command = [f"{sys.prefix}/bin/flask", "--app", FOLDER / name, "run", "--port", str(port)]
    url = OLD.replace("postgres:", "postgresql+psycopg:")
    processes[name] = run(name, command, port=port, OLD_SQLALCHEMY_URL=url, OLD_SECRET=secret,
                          PORTCULLIS_ISSUER=URL, PYTHONDONTWRITEBYTECODE=1)


def start_service(block):
    processes[block] = run(block, ["bash", "-c", guide.block(block)], port=PORT, HOST="127.0.0.1",
                           PBKDF2_ITERATIONS=100_000, LOG_FORMAT="json")
    eventually(lambda: http.get(f"{URL}/health/ready").ok)


def stop(name):
    process = processes.pop(name)
    process.terminate()
    process.wait(20)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def post(url, path, username=None, password=None, token=None):
    headers = bearer(token) if token else {}
    body = {"username": username, "password": password}
    return http.post(f"{url}{path}", json=body, headers=headers, timeout=20)


def log_in(url, username, password):
    """Returns the access token of a login, which has to succeed."""
    reply = post(url, "/auth/login", username, password)
    assert reply.status_code == 200, f"{username}: {reply.status_code} {reply.text}"
    return reply.json()["access_token"]


def get(url, token):
    return http.get(url, headers=bearer(token), timeout=20)


def orders(token):
    reply = get(ORDERS_URL, token)
    assert reply.status_code == 200, f"{reply.status_code} {reply.text}"
    return reply.json()["orders"]


def order(token, item):
    reply = http.post(ORDERS_URL, json={"item": item}, headers=bearer(token))
    assert reply.status_code == 201, f"{reply.status_code} {reply.text}"


def sql(text, database=OLD):
    done = subprocess.run(["psql", database, "--no-psqlrc", "--no-align", "--tuples-only", "-c", text],
                          capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def is_refused(reply, block):
    """Returns whether the reply is the one that the guide shows."""
    return reply.status_code == 401 and reply.json() == json.loads(guide.block(block))


def use_old_apps():
    """Does what users do before the move. Returns the replies to a client, and two tokens."""
    shutil.copytree(APPS, FOLDER, dirs_exist_ok=True)
    start_flask("app", OLD_PORT, SECRET)
    start_flask("orders", ORDERS_PORT, SECRET)
    for user in USERS.items():
        assert post(OLD_URL, "/auth/register", *user).status_code == 201
    replies = talk_to(OLD_URL, "zoe.old")
    tokens = {name: log_in(OLD_URL, name, USERS[name]) for name in ["bob", "carol"]}
    for name, token in tokens.items():
        order(token, f"tea of {name}")
    post(OLD_URL, "/auth/logout", token=tokens["carol"]).raise_for_status()
    return replies, tokens


def move_users():
    guide.run("create")
    stop("app")
    guide.run("dump")
    refused = guide.run("dry-run", code=5)
    assert "ZOE.OLD: an earlier row has the same username" in refused, refused
    # A stranger registers a name of the old system first.
    subprocess.run(["portcullis", "user", "create", "bob"], text=True,
                   input=PASSWORD, capture_output=True, check=True)
    refused = guide.run("import", code=5)
    assert "bob: the username belongs to an account that may be of another" in refused, refused
    assert (FOLDER / "users.jsonl").exists()
    subprocess.run(["portcullis", "user", "delete", "bob"], capture_output=True, check=True)
    sql("update users set username = 'zoe' where username = 'ZOE.OLD'")
    guide.run("dump")
    guide.run("dry-run")
    guide.run("import")
    assert not (FOLDER / "users.jsonl").exists()


def check_service(old_replies, old_token):
    start_service("start")
    counts = guide.run("check").splitlines()[:2]
    assert counts[0] == counts[1].strip(), counts
    found = differences(old_replies, talk_to(URL, "zoe.new"))
    assert found == guide.table("### Replies that differ"), "\n".join(map(str, found))
    assert is_refused(get(f"{URL}/auth/me", old_token), "refused")
    for username, password in USERS.items():
        assert post(URL, "/auth/login", username, password + "x").status_code == 401
        # Eve stays away until the way back.
        if username != "eve":
            account = get(f"{URL}/auth/me", log_in(URL, username, password)).json()
            former_id = sql(f"select id from users where username = $${username}$$")
            assert [account["external_id"]] == former_id, account
    stop("start")


def move_orders_with_shared_secret(old_tokens):
    start_service("start-hs256")
    assert is_refused(get(f"{URL}/auth/me", old_tokens["bob"]), "refused-hs256")
    token = log_in(URL, "bob", USERS["bob"])
    # Accepted before the service is changed, which fails at the new id.
    assert get(ORDERS_URL, token).status_code == 500
    stop("orders")
    guide.run("map-ids")
    client = json.loads(guide.run("client"))
    os.environ["PORTCULLIS_CLIENT_ID"] = client["client_id"]
    os.environ["PORTCULLIS_CLIENT_SECRET"] = client["client_secret"]
    subprocess.run(["patch", "--quiet", "orders.py"], cwd=FOLDER, input=guide.block("orders.diff"),
                   text=True, check=True)
    start_flask("orders", ORDERS_PORT, SECRET)

    order(token, "milk of bob")
    assert orders(token) == orders(old_tokens["bob"]) == ["tea of bob", "milk of bob"]
    assert get(ORDERS_URL, old_tokens["carol"]).status_code == 401
    assert orders(log_in(URL, "carol", USERS["carol"])) == ["tea of carol"]
    post(URL, "/auth/register", "frank", PASSWORD).raise_for_status()
    order(log_in(URL, "frank", PASSWORD), "cake of frank")
    logout_holds(token)

    stop("orders")
    source = (FOLDER / "orders.py").read_text()
    write("orders.py", source.replace("\njwt =", f"\n{guide.block('audience')}jwt ="))
    start_flask("orders", ORDERS_PORT, SECRET)
    assert get(ORDERS_URL, old_tokens["bob"]).status_code == 422
    assert orders(log_in(URL, "frank", PASSWORD)) == ["cake of frank"]


def logout_holds(token):
    """Logs out, and waits until the second service refuses the token, too."""
    post(URL, "/auth/logout", token=token).raise_for_status()
    eventually(lambda: get(ORDERS_URL, token).status_code == 401)


def move_orders_to_public_keys():
    stop("orders")
    stop("start-hs256")
    write("orders.py", guide.block("orders.py"))
    start_service("start-es256")
    start_flask("orders", ORDERS_PORT)
    token = log_in(URL, "bob", USERS["bob"])
    assert jwt.get_unverified_header(token)["alg"] == "ES256"
    assert orders(token) == ["tea of bob", "milk of bob"]
    logout_holds(token)
    guide.run("retire")


def failed_way_back_changes_nothing():
    users = sql("select * from users order by id")
    empty = f"sqlite://{FOLDER}/empty.db"
    subprocess.run(["portcullis", "migrate"], env=os.environ | {"DATABASE_URL": empty},
                   capture_output=True, check=True)

    def way_back_fails(reason, code, **env):
        output = guide.run("way-back", code, **env)
        assert reason in output, output
        assert sql("select * from users order by id") == users, reason
        assert not (FOLDER / "ids.csv").exists(), reason

    way_back_fails("none.db", code=1, DATABASE_URL=f"sqlite://{FOLDER}/none.db")
    way_back_fails("export.jsonl has no account of accounts.jsonl", code=3, DATABASE_URL=empty)
    rename = "update users set username = '{}' where username_key = 'eve'"
    sql(rename.format("eve\u200b"), os.environ["DATABASE_URL"])
    way_back_fails("1 accounts were left out", code=5)
    sql(rename.format("eve"), os.environ["DATABASE_URL"])
    way_back_fails("1 users have no account in export.jsonl", code=3)


def move_back():
    """Changes accounts at the service, then moves back."""
    token = {name: log_in(URL, name, USERS[name]) for name in ["carol", "dave"]}
    http.put(f"{URL}/auth/password", headers=bearer(token["carol"]), json={
        "current_password": USERS["carol"], "new_password": "battery staple"}).raise_for_status()
    http.delete(f"{URL}/auth/me", headers=bearer(token["dave"]),
                    json={"password": USERS["dave"]}).raise_for_status()
    for change in [["disable", "ann"], ["set-external-id", "bob", "1000"],
                   ["set-external-id", "carol"]]:
        subprocess.run(["portcullis", "user", *change], capture_output=True, check=True)
    last_token = log_in(URL, "bob", USERS["bob"])
    stop("start-es256")
    stop("orders")

    failed_way_back_changes_nothing()
    guide.run("way-back", change=("--set deleted=0", "--set deleted=1"))
    guide.run("way-back-orders")
    shutil.copytree(APPS, FOLDER, dirs_exist_ok=True)
    app = (FOLDER / "app.py").read_text()
    write("app.py", app.replace("\n@app.get", f"\n{guide.block('invalid-token')}\n\n@app.get", 1))
    start_flask("app", OLD_PORT, NEW_SECRET)
    start_flask("orders", ORDERS_PORT, NEW_SECRET)

    good = USERS | {"carol": "battery staple", "frank": PASSWORD, "zoe.old": PASSWORD,
                    "zoe.new": PASSWORD}
    for username in ["ann", "dave"]:
        assert post(OLD_URL, "/auth/login", username, good.pop(username)).status_code == 401
    for username, password in good.items():
        log_in(OLD_URL, username, password)
        assert post(OLD_URL, "/auth/login", username, password + "x").status_code == 401
    assert orders(log_in(OLD_URL, "bob", USERS["bob"])) == ["tea of bob", "milk of bob"]
    assert orders(log_in(OLD_URL, "frank", PASSWORD)) == ["cake of frank"]
    assert get(f"{OLD_URL}/protected/dashboard", last_token).status_code == 401


def main():
    old_replies, old_tokens = use_old_apps()
    print("the old API has users, and a second service has their orders")
    move_users()
    check_service(old_replies, old_tokens["bob"])
    print("every user logged in at the service, and an old client saw only the listed differences")
    move_orders_with_shared_secret(old_tokens)
    print("the second service accepts old and new tokens with the shared secret")
    move_orders_to_public_keys()
    print("the second service verifies with the public keys")
    move_back()
    print("every user logged in at the old API again")
    guide.assert_used()
    return []


if __name__ == "__main__":
    run_main(main, TIME_LIMIT)
