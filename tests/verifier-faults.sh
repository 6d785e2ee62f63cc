#!/usr/bin/env bash
# Measures how soon a logout holds at the verifiers, and breaks everything between them and the
# database: tests/verifier_faults/run.py. Takes a quarter of an hour, or two minutes with LOGOUTS=0; on
# loopback only. A database named by TEST_DATABASE_URL has to be empty.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/verifiers
export PROGRAM=$PWD/target/release/portcullis VERIFIER=$tools/javascript/src/index.js
PATH=$PATH:/usr/sbin

cargo build --release --locked
mkdir -p "$tools"
[ -d "$tools/venv" ] || python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet requests ./verifiers/python
cp -r verifiers/javascript "$tools"
npm install --silent --prefix "$tools/javascript"
for package in haproxy nginx; do
    command -v $package >/dev/null && continue
    root=
    [ "$(id -u)" -eq 0 ] || root='sudo -n'
    { $root apt-get update -q && $root apt-get install -qy --no-install-recommends $package; } \
        >/dev/null || { echo "failed to install $package: install it" >&2; exit 1; }
done

export PYTHONPATH=$PWD/tests/shared
# -B: no compiled files beside the sources.
exec tests/with-postgres.sh "$tools/venv/bin/python" -B tests/verifier_faults/run.py
