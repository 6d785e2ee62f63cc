#!/usr/bin/env bash
# Has Schemathesis look for requests that the service answers otherwise than its OpenAPI document says, on
# SQLite and on Postgres. It is as random as its seed, which is fixed.
set -euo pipefail
cd "$(dirname "$0")/.."

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

# Runs the service on a database, and Schemathesis against it.
look_for_faults() {
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

# It writes where it is run.
cp tests/schemathesis/* "$folder"
echo '== on SQLite'
look_for_faults "sqlite://$folder/portcullis.db"
echo '== on Postgres'
look_for_faults "$TEST_DATABASE_URL"
