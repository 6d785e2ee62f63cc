#!/usr/bin/env bash
# Demonstrates that a logout takes effect at every instance. Starts a private Postgres, three
# instances and a load balancer on loopback, and removes them at the end. Each round logs in at one
# instance and out at another, while the third instance is sent the token continuously.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=10
program=target/release/portcullis

if [ -z "${TEST_DATABASE_URL:-}" ]; then
    . tests/shared/programs.sh
    require_programs curl haproxy
    cargo build --release --locked
    exec tests/with-postgres.sh "$0"
fi

folder=$(mktemp -d)
pids=()
clean_up() {
    kill "${pids[@]}" 2>/dev/null || true
    wait "${pids[@]}" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Runs a command until it succeeds, for at most ten seconds.
eventually() {
    local deadline=$((SECONDS + 10))
    until "$@" 2>/dev/null; do
        [ $SECONDS -lt $deadline ] || { echo "timed out: $*" >&2; exit 1; }
        sleep 0.02
    done
}

# Sends a request and prints the body of the reply.
api() {
    curl --silent --show-error --fail --header 'Content-Type: application/json' "$@"
}

JWT_SECRET_KEY=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export JWT_SECRET_KEY DATABASE_URL=$TEST_DATABASE_URL HOST=127.0.0.1 PORT=0 LOG_FORMAT=json
instances=()
for number in 1 2 3; do
    "$program" >"$folder/log$number" &
    pids+=($!)
    eventually grep -q 'listening on' "$folder/log$number"
    instances+=("$(sed -n 's|.*listening on \(http://127.0.0.1:[0-9]*\).*|\1|p' "$folder/log$number")")
    echo "instance $number:     ${instances[-1]}"
done

# Below the ephemeral ports of the system, so it cannot collide with an instance.
port=$((20000 + $$ % 10000))
cat >"$folder/haproxy.cfg" <<END
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
frontend all
    bind 127.0.0.1:$port
    default_backend instances
backend instances
    option httpchk GET /health/ready
$(for number in 0 1 2; do echo "    server instance$number ${instances[$number]#http://} check inter 200ms"; done)
END
haproxy -f "$folder/haproxy.cfg" &
pids+=($!)
balancer=http://127.0.0.1:$port
eventually api "$balancer/health/ready" --output /dev/null
echo "load balancer:  $balancer"

credentials='{"username":"testuser","password":"testpass"}'
api --data "$credentials" "$balancer/auth/register" --output /dev/null

# Logs in and prints the token.
log_in() {
    api --data "$credentials" "$1/auth/login" | sed 's/.*"access_token":"\([^"]*\)".*/\1/'
}

# Sends a token to the third instance on one connection until it is refused. Records the time of each
# acceptance.
record_acceptances() {
    # Line buffering: the block buffering of curl would delay the recorded times.
    stdbuf -oL curl --silent --fail --fail-early --header "Authorization: Bearer $1" \
        --output /dev/null --write-out '%{http_code}\n' \
        "${instances[2]}/protected/dashboard?[1-1000000]" |
        while read -r status; do
            [ "$status" = 200 ] && echo "${EPOCHREALTIME/./}" >>"$folder/accepted"
        done || true
}

echo
echo "round  last acceptance by instance 3 after the logout at instance 2"
times=()
for round in $(seq $rounds); do
    token=$(log_in "${instances[0]}")
    : >"$folder/accepted"
    record_acceptances "$token" &
    recorder=$!
    eventually test -s "$folder/accepted"
    # The time at which the reply arrives, not at which curl exits.
    acknowledged=$(api --no-buffer --request POST --header "Authorization: Bearer $token" \
        "${instances[1]}/auth/logout" | { read -r -d '}' _ && echo "${EPOCHREALTIME/./}"; })
    wait $recorder
    after=$(($(tail -n 1 "$folder/accepted") - acknowledged))
    times+=($((after > 0 ? after : 0)))
    awk -v round="$round" -v time="${times[-1]}" 'BEGIN { printf "%5d  %.1f ms\n", round, time / 1000 }'
done
printf '%s\n' "${times[@]}" | sort -n | awk '
    { time[NR] = $1 / 1000 }
    END { printf "\nmedian %.1f ms, maximum %.1f ms; the bound is 5000 ms\n", time[int((NR + 1) / 2)], time[NR] }'
