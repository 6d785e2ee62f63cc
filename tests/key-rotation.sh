#!/usr/bin/env bash
# Rotates the signing keys of three instances under load, and changes their secret, while other
# verifiers check every token: tests/key_rotation/run.py. Takes less than two minutes, on loopback
# only. A database named by TEST_DATABASE_URL has to be empty.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/shared/programs.sh
require_programs python3-venv npm node haproxy

tools=$PWD/target/key-rotation
jose=jose@6.2.18
export PROGRAM=$PWD/target/release/portcullis NODE_FOLDER=$tools/$jose PYTHONPATH=$PWD/tests/shared

cargo build --release --locked
[ -d "$tools" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --requirement tests/key_rotation/requirements.txt
[ -d "$NODE_FOLDER/node_modules" ] || npm install --silent --no-save --prefix "$NODE_FOLDER" "$jose"

# -B: no compiled files beside the sources.
exec tests/with-postgres.sh "$tools/bin/python" -B tests/key_rotation/run.py
