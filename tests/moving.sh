#!/usr/bin/env bash
# Moves an API of Flask and one of Django to the service and back, block by block as
# docs/move-from-flask.md and docs/move-from-django.md say. Arguments select one:
# tests/moving.sh flask. Installs the APIs into target/interop-moving. Takes a minute after the
# build, on loopback only.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/shared/programs.sh
require_programs python3-venv curl patch

tools=$PWD/target/interop-moving
program=${PROGRAM:-$PWD/target/release/portcullis}
[ -n "${PROGRAM:-}" ] || cargo build --quiet --release --locked

[ -d "$tools" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --requirement tests/moving/requirements.txt
mkdir -p "$tools/program"
ln --force --symbolic "$program" "$tools/program/portcullis"
export PATH=$tools/program:$PATH PYTHONPATH=$PWD/tests/shared

[ $# -gt 0 ] || set -- flask django
for origin in "$@"; do
    echo "== $origin"
    # -B: no compiled files beside the sources.
    tests/with-postgres.sh "$tools/bin/python" -B "tests/moving/from_$origin.py"
done
