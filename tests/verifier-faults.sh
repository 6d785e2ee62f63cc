#!/usr/bin/env bash
# Measures how soon a logout holds at the verifiers, and breaks everything between them and the
# database: tests/verifier_faults/run.py. Takes a quarter of an hour, or two minutes with LOGOUTS=0; on
# loopback only. A database named by TEST_DATABASE_URL has to be empty.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/shared/programs.sh
require_programs python3-venv npm node haproxy nginx

tools=$PWD/target/verifiers
export PROGRAM=$PWD/target/release/portcullis VERIFIER=$tools/javascript/src/index.js

cargo build --release --locked
mkdir -p "$tools"
[ -d "$tools/venv" ] || python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet requests ./verifiers/python
cp -r verifiers/javascript "$tools"
npm install --silent --prefix "$tools/javascript"

export PYTHONPATH=$PWD/tests/shared
# -B: no compiled files beside the sources.
exec tests/with-postgres.sh "$tools/venv/bin/python" -B tests/verifier_faults/run.py
