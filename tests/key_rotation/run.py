#!/usr/bin/env python3
"""Rotates signing keys and changes the secret of three instances under load: `make key-rotation`.

No request may be refused, neither by the service nor by verifiers that know it only by its JWKS. The
control is a verifier that holds the JWKS for longer than max-age: it has to refuse tokens, which
shows that the test can fail.
"""

import os
import secrets
import sys
import time

import requests

from cluster import MAX_AGE, TOKEN_LIFE, WAITING_TIME, Cluster, Instance
from load import Load, Watch, prove_refusals
from processes import http_session, run_main
from verifiers import Envoy, HAProxy, Jose, Joserfc, PyJWKClient, Service, SharedCache, Strict

ROTATIONS = 10
STRICT_VERIFIERS = 8
TIME_LIMIT = 240
problems = []


def main():
    cluster = Cluster(secret=secrets.token_hex(32))
    metadata = requests.get(f"{cluster.url}/.well-known/oauth-authorization-server").json()
    assert metadata["issuer"] == cluster.url, metadata
    watches = watch(cluster, metadata["jwks_uri"])
    load = Load(cluster.url, watches)
    for thread in watches:
        thread.start()
    load.start()

    print("\nrotation  published before it signs  attempts refused until then")
    signers = cluster.keys("active")
    signers += [rotate(cluster, number) for number in range(1, ROTATIONS + 1)]
    change_secret(cluster)
    signers.append(rotate(cluster, ROTATIONS + 1))
    time.sleep(2 * MAX_AGE)

    load.stop()
    for thread in watches:
        thread.stop()
    problems.extend(f"{kid} signed no token" for kid in signers if not load.kids[kid])
    retiring = len(cluster.keys("retiring"))
    print(f"\n{len(signers)} keys have signed; {retiring} of them are still retiring")
    return report(load, watches)


def watch(cluster, jwks_uri):
    """Starts a verifier of each kind, and a thread for each."""
    cache = SharedCache(cluster.urls)
    envoy = os.path.join(os.path.dirname(sys.executable), "envoy")
    verifiers = {
        "service": Service(cluster.url),
        "PyJWKClient": PyJWKClient(cluster.url, jwks_uri, MAX_AGE),
        "joserfc": Joserfc(cluster.url, cluster.urls),
        "jose": Jose(cluster.url, jwks_uri, MAX_AGE),
        "Envoy": Envoy(envoy, cluster.url, jwks_uri, MAX_AGE),
        "HAProxy": HAProxy(cluster.url, cluster.urls),
        "control": Strict(cluster.url, cache, hold=1000),
    }
    strict = {f"strict {number}": Strict(cluster.url, cache)
              for number in range(1, STRICT_VERIFIERS + 1)}
    token = first_token(cluster.url)
    for name, verifier in (verifiers | strict).items():
        prove_refusals(name, verifier, token)
        # The strict verifiers fetch at different times, so that their copies have different ages.
        time.sleep(MAX_AGE / STRICT_VERIFIERS if name in strict else 0)
    print(f"{len(verifiers | strict)} verifiers accept a token and refuse forged ones")
    return [Watch(name, verifier, TOKEN_LIFE) for name, verifier in (verifiers | strict).items()]


def first_token(url):
    credentials = {"username": "testuser", "password": "testpass"}
    http = http_session()
    http.post(f"{url}/auth/register", json=credentials).raise_for_status()
    return http.post(f"{url}/auth/login", json=credentials).json()["access_token"]


def rotate(cluster, number):
    kid, published_for, refused = cluster.rotate()
    print(f"{number:8}  {published_for:24.2f} s  {refused:30}", flush=True)
    if published_for < WAITING_TIME:
        problems.append(f"{kid} signs after {published_for:.2f} s, not {WAITING_TIME} s")
    return kid


def change_secret(cluster):
    """Restarts one instance after the other with a new secret, and retires the old one."""
    old, new = cluster.secret, secrets.token_hex(32)
    for instance in cluster.instances:
        instance.stop()
        instance.start(JWT_SECRET_KEY=new, JWT_SECRET_KEY_PREVIOUS=old)
        # The load balancer has to notice it before the next instance stops.
        time.sleep(0.5)
    print("\nall instances have the new secret")

    late = Instance("late", cluster.settings)
    late.start(JWT_SECRET_KEY=old)
    late.stop()
    cluster.secret = new
    result = cluster.command("secret", "retire")
    assert result.returncode == 0, result.stderr
    message = late.start_refused(JWT_SECRET_KEY=old)
    print(f"the old secret is retired; an instance that has it ends with:\n    {message}")
    late.start(JWT_SECRET_KEY=new)
    late.stop()
    print("an instance that has only the new secret starts")


def report(load, watches):
    kept = sum(map(len, load.sessions.values()))
    print(f"{load.done['refresh']} refreshes; {kept} of {load.done['login']} sessions kept")
    print("verifier      accepted  refused  verified within")
    for it in watches:
        print(f"{it.name:12}  {it.accepted:8}  {len(it.reasons):7}  {it.latest:12.2f} s")
        if it.name != "control":
            problems.extend(f"{it.name}: {reason}" for reason in it.reasons[:3])
        elif not it.reasons:
            problems.append("the control refused no token: the test is blind")
    oldest = max(it.verifier.keys.oldest for it in watches if it.name.startswith("strict"))
    print(f"the strict verifiers used a JWKS up to {oldest:.2f} s old; max-age is {MAX_AGE} s")
    service = next(it.verifier for it in watches if it.name == "service")
    print(f"requests repeated after 429, 502, 503 or a lost connection: "
          f"{load.repeated + service.repeated}")

    problems.extend(load.failures[:10])
    if not problems:
        print("no key and no secret was missing anywhere")
    return problems


if __name__ == "__main__":
    run_main(main, TIME_LIMIT)
