#!/usr/bin/env bash
# Runs Schemathesis, on SQLite and on Postgres, to find replies that differ from the OpenAPI document.
# The random seed is fixed.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/shared/programs.sh
require_programs python3-venv curl

version=4.32.5
venv=$PWD/target/schemathesis-$version
export PROGRAM=$PWD/target/release/portcullis

if [ ! -x "$venv/bin/st" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "schemathesis==$version"
fi
cargo build --release --locked
if [ -z "${TEST_DATABASE_URL:-}" ]; then
    exec tests/with-postgres.sh "$0"
fi

folder=$(mktemp -d)
pid=
clean_up() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

JWT_SECRET_KEY=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export JWT_SECRET_KEY HOST=127.0.0.1 PORT=0 PBKDF2_ITERATIONS=100000 LOG_FORMAT=json
# All requests come from one address.
export LOGIN_NETWORK_BURST=0 REGISTRATION_NETWORK_BURST=0

# Runs the service on a database and Schemathesis against the service.
fuzz_on() {
    export DATABASE_URL=$1
    "$PROGRAM" >"$folder/log" &
    pid=$!
    for _ in $(seq 500); do
        grep -q 'listening on' "$folder/log" && break
        sleep 0.02
    done
    API_URL=$(sed -n 's|.*listening on \(http://127.0.0.1:[0-9]*\).*|\1|p' "$folder/log")
    export API_URL
    curl --silent --show-error --fail --output "$folder/openapi.json" "$API_URL/openapi.json"
    (cd "$folder" && "$venv/bin/st" run --url "$API_URL" --checks all openapi.json)
    kill $pid
    wait $pid
    pid=
}

# Schemathesis reads its settings from the folder that it runs in, and writes files there.
cp tests/schemathesis/* "$folder"
echo '== on SQLite'
fuzz_on "sqlite://$folder/portcullis.db"
echo '== on Postgres'
fuzz_on "$TEST_DATABASE_URL"
