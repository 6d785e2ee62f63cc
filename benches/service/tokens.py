"""Access tokens that no login issued."""

import base64
import functools
import hashlib
import hmac
import json
import uuid

from load import write
from service import KEY, sql

# Number of tokens in use at once. A single token would measure only the cache of verified tokens.
CHECKED = 500


def checked(token):
    """Writes a file of copies of a token, each for a session of its own."""
    return write("checked", copies(token))


def copies(token, count=CHECKED):
    return [another(token, str(uuid.uuid4())) for _ in range(count)]


def another(token, session):
    """Signs a copy of an HS256 token for another session."""
    header = token.split(".")[0]
    claims = claims_of(token) | {"sid": session, "jti": str(uuid.uuid4())}
    message = f"{header}.{encode(json.dumps(claims).encode())}"
    return f"{message}.{encode(hmac.digest(KEY.encode(), message.encode(), hashlib.sha256))}"


@functools.cache
def claims_of(token):
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def open_sessions(database, token, count):
    """Inserts sessions of the account of a token, and returns their access tokens by session id."""
    ids = sql(database, "insert into sessions (id, user_id, generation, created_at, last_used_at, expires_at, address, "
                        "user_agent) select gen_random_uuid(), id, 0, now(), now(), now() + interval '1 day', "
                        f"'127.0.0.1', '' from users, generate_series(1, {count}) "
                        f"where users.id = '{claims_of(token)['sub']}' returning sessions.id")
    # Otherwise, the autovacuum would run during the measurement.
    sql(database, "vacuum analyze sessions")
    return {session: another(token, session) for session in ids.split()}


def to_end(database, token, count):
    """Opens sessions, and writes a file of their access tokens."""
    return write("to_end", open_sessions(database, token, count).values())
