#!/usr/bin/env bash
# Proves that others can use the API without code of ours: OAuth clients, clients that are generated from
# the OpenAPI document, in Python and TypeScript, and a browser on another origin. Runs the service on SQLite.
# Takes a minute after the build, and three the first time, when it installs the tools.
# Not in CI: it needs PyPI, npm and Chromium.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/shared/programs.sh
require_programs python3-venv npm node chromium curl jq

tools=$PWD/target/interop-clients
program=${PROGRAM:-$PWD/target/release/portcullis}

[ -n "${PROGRAM:-}" ] || cargo build --release --locked
[ -d "$tools" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --requirement tests/interop/clients_requirements.txt
cp tests/interop/clients_package.json "$tools/package.json"
npm install --silent --prefix "$tools"

folder=$(mktemp -d)
pids=()
clean_up() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Waits until a log contains the URL of a server, and prints its port.
port_in() {
    for _ in $(seq 500); do
        port=$(sed -n 's|.*http://127.0.0.1:\([0-9]*\).*|\1|p' "$1")
        [ -z "$port" ] || break
        sleep 0.02
    done
    echo "$port"
}

# Serves the empty page that the browser's application runs in.
mkdir "$folder/page"
echo '<!DOCTYPE html><title>Application</title>' >"$folder/page/index.html"
python3 -u -m http.server --bind 127.0.0.1 --directory "$folder/page" 0 >"$folder/page.log" 2>&1 &
pids+=($!)
PAGE_PORT=$(port_in "$folder/page.log")
export PAGE_PORT

# A known port, since the issuer has it.
API_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export PUBLIC_URL=http://127.0.0.1:$API_PORT
export CORS_ALLOWED_ORIGINS="http://127.0.0.1:$PAGE_PORT" DATABASE_URL="sqlite://$folder/portcullis.db"
# Before the service starts, so that it knows the client.
"$program" migrate >/dev/null 2>&1
machine=$("$program" client create machine --permission tokens:introspect --json 2>"$folder/client.log")
CLIENT_ID=$(jq -r .client_id <<<"$machine")
CLIENT_SECRET=$(jq -r .client_secret <<<"$machine")
export CLIENT_ID CLIENT_SECRET

"$program" --port "$API_PORT" >"$folder/service.log" &
pids+=($!)
API_URL=http://127.0.0.1:$(port_in "$folder/service.log")
export API_URL
curl --silent --show-error --fail --output "$folder/openapi.json" "$API_URL/openapi.json"

echo '== Authlib'
"$tools/bin/python" -B tests/interop/clients_authlib.py

echo '== oauth4webapi'
cp tests/interop/clients_oauth4webapi.mjs "$tools/oauth4webapi.mjs"
node "$tools/oauth4webapi.mjs"

echo '== openapi-python-client'
PATH=$tools/bin:$PATH "$tools/bin/openapi-python-client" generate --meta none \
    --path "$folder/openapi.json" --output-path "$folder/portcullis_client" >"$folder/generator.log"
PYTHONPATH=$folder "$tools/bin/python" -B tests/interop/clients_python.py

echo '== openapi-typescript, openapi-fetch'
cp tests/interop/clients_typescript.ts "$tools/client.ts"
(
    cd "$tools"
    npx --no-install openapi-typescript "$folder/openapi.json" --output schema.ts >"$folder/generator.log"
    npx --no-install tsc --strict --target es2022 --module nodenext --outDir build client.ts
    node build/client.js
)

echo '== Chromium'
cp tests/interop/clients_browser.mjs "$tools/browser.mjs"
CHROMIUM=$(command -v chromium) node "$tools/browser.mjs"
