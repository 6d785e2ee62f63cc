#!/usr/bin/env bash
# Shows that a logout holds in other services. Starts Portcullis, an API with each verifier, and nginx
# in front of a third one, all on loopback and in a temporary folder. Logs in, calls all of them, logs
# out, and prints when each has refused the token.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/shared/programs.sh
require_programs python3-venv npm node nginx curl

tools=$PWD/target/demo
program=$PWD/target/release/portcullis

echo 'building and installing'
cargo build --quiet --release --locked
mkdir -p "$tools"
[ -d "$tools/venv" ] || python3 -m venv "$tools/venv"
(cd examples/fastapi && "$tools/venv/bin/pip" install --quiet --requirement requirements.txt)
cp examples/express/app.js "$tools"
sed "s|file:../..|file:$PWD|" examples/express/package.json >"$tools/package.json"
npm install --silent --install-links --prefix "$tools"

folder=$(mktemp -d)
pids=()
clean_up() {
    kill "${pids[@]}" 2>/dev/null || true
    wait "${pids[@]}" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Starts a program in the background, with its output in a file.
start() {
    local name=$1
    shift
    "$@" >"$folder/$name.log" 2>&1 &
    pids+=($!)
}

# Runs a command until it succeeds, for at most 30 seconds.
eventually() {
    local deadline=$((SECONDS + 30))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { echo "timed out: $*" >&2; cat "$folder"/*.log >&2; exit 1; }
        sleep 0.05
    done
}

# Sends a request and prints the body of the reply.
api() {
    curl --silent --show-error --fail --header 'Content-Type: application/json' "$@"
}

# Prints a field of the JSON on standard input.
field() {
    sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"
}

# Below the ephemeral ports of the system.
port=$((20000 + $$ % 10000))
service=http://127.0.0.1:$port
fastapi=http://127.0.0.1:$((port + 1))
express=http://127.0.0.1:$((port + 2))
gateway=http://127.0.0.1:$((port + 3))

cd "$folder"
export HOST=127.0.0.1 PORT=$port PUBLIC_URL=$service JWT_AUDIENCE=orders LOG_FORMAT=json
start service "$program"
eventually api "$service/health/ready"

client=$("$program" client create orders-api --permission revocations:read --json 2>client.log)
export PORTCULLIS_ISSUER=$service
PORTCULLIS_CLIENT_ID=$(field client_id <<<"$client")
PORTCULLIS_CLIENT_SECRET=$(field client_secret <<<"$client")
export PORTCULLIS_CLIENT_ID PORTCULLIS_CLIENT_SECRET

start fastapi "$tools/venv/bin/uvicorn" app:app --app-dir "$OLDPWD/examples/fastapi" \
    --port $((port + 1)) --no-access-log
PORT=$((port + 2)) start express node "$tools/app.js"

# The API behind the gateway is one line of nginx, too: it sees the identity headers alone.
sed -e "s/127.0.0.1:5000/127.0.0.1:$port/" -e "s/127.0.0.1:9000/127.0.0.1:$((port + 4))/" \
    -e "s/listen 8080/listen 127.0.0.1:$((port + 3))/" \
    "$OLDPWD/examples/gateways/nginx.conf" >gateway.conf
cat >nginx.conf <<END
daemon off;
pid $folder/nginx.pid;
events {}
http {
    access_log off;
    include gateway.conf;
    server {
        listen 127.0.0.1:$((port + 4));
        location /orders { return 200 "orders of \$http_x_auth_user_id\n"; }
    }
}
END
start nginx nginx -e stderr -p "$folder" -c nginx.conf

eventually api "$fastapi/health"
eventually api "$express/health"
eventually curl --silent "$gateway"

credentials='{"username":"testuser","password":"testpass"}'
api --data "$credentials" "$service/auth/register" >/dev/null
{
    "$program" role set customer --permission orders:read
    "$program" user set-roles testuser --role user --role customer
} >roles.log 2>&1
token=$(api --data "$credentials" "$service/auth/login" | field access_token)
bearer="Authorization: Bearer $token"

printf '\nlogged in at %s\n\n' "$service"
for url in "$fastapi" "$express"; do
    api --header "$bearer" --data '{"item":"tea"}' "$url/orders" >/dev/null
done
declare -A names=([$fastapi]='FastAPI, offline verifier' [$express]='Express, offline verifier'
    [$gateway]='nginx, /auth/check')
for url in "$fastapi" "$express" "$gateway"; do
    printf '%-26s GET %s/orders: %s\n' "${names[$url]}" "$url" "$(api --header "$bearer" "$url/orders")"
done

# Calls an API on one connection until it refuses. Records the time of each acceptance, then the
# status of the refusal.
record_acceptances() {
    # Line buffering: the block buffering of curl would delay the recorded times.
    stdbuf -oL curl --silent --fail --fail-early --header "$bearer" --output /dev/null \
        --write-out '%{http_code}\n' "$1/orders?[1-1000000]" |
        while read -r status; do echo "$status ${EPOCHREALTIME/./}"; done >"$2" || true
}

recorders=()
for url in "$fastapi" "$express" "$gateway"; do
    record_acceptances "$url" "$folder/${url##*:}" &
    recorders+=($!)
done
sleep 0.5
acknowledged=$(api --no-buffer --request POST --header "$bearer" "$service/auth/logout" |
    { read -r -d '}' _ && echo "${EPOCHREALTIME/./}"; })
wait "${recorders[@]}"

printf '\nlogged out; last acceptance after the acknowledgement, and the answer from then on:\n\n'
for url in "$fastapi" "$express" "$gateway"; do
    awk -v name="${names[$url]}" -v acknowledged="$acknowledged" '
        $1 == 200 { last = $2 }
        { status = $1 }
        END {
            after = (last - acknowledged) / 1000
            printf "%-26s %6.1f ms  %d\n", name, (after > 0 ? after : 0), status
            exit status != 401
        }' "$folder/${url##*:}"
done
printf '\nThe bound is 5 s for the gateway and 10 s for these verifiers, under every failure in between.\n'
