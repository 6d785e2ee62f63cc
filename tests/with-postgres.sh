#!/bin/sh
# Runs a command with TEST_DATABASE_URL set to the URL of a Postgres server. If the variable is not
# set, starts a private server in a temporary folder and removes it after the command. The command can
# stop and start the private server with $TEST_POSTGRES_CTL.
#
#     tests/with-postgres.sh cargo test
set -eu

if [ -n "${TEST_DATABASE_URL:-}" ]; then
    exec "$@"
fi

# Prints the program folder of the newest Postgres server on this machine.
find_postgres() {
    {
        command -v initdb | xargs -r dirname
        ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin \
            /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
            /usr/libexec/postgresql* 2>/dev/null
    } | while read -r folder; do
        [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ] && echo "$folder"
    done | sort -V | tail -n 1
}

# Installs a package with the package manager of the system, if permitted.
install() {
    root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v brew >/dev/null && { brew install "$1"; return; }
        root='sudo -n'
    fi
    if command -v apt-get >/dev/null; then
        $root apt-get update -q && $root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qy --no-install-recommends "$1"
    elif command -v dnf >/dev/null; then
        $root dnf install -qy "$1"
    elif command -v apk >/dev/null; then
        $root apk add --quiet "$1"
    elif command -v pacman >/dev/null; then
        $root pacman -Sy --noconfirm "$1"
    else
        false
    fi
}

install_postgres() {
    if command -v dnf >/dev/null; then
        install postgresql-server
    else
        install postgresql
    fi
}

bin=$(find_postgres)
if [ -z "$bin" ]; then
    echo 'no Postgres server found on this machine; installing one' >&2
    install_postgres >&2 || true
    bin=$(find_postgres)
fi
if [ -z "$bin" ]; then
    echo 'a Postgres server, version 13 or later, is missing: apt install postgresql, or brew install postgresql,' >&2
    echo 'or set TEST_DATABASE_URL=postgres://USER:PASSWORD@HOST/NAME to use another server' >&2
    exit 1
fi

# One test runs PgBouncer in front of Postgres.
PATH=$bin:$PATH:/usr/sbin
command -v pgbouncer >/dev/null || install pgbouncer >&2 || true

# Postgres refuses to run as root.
folder=$(mktemp -d)
as_owner=
if [ "$(id -u)" -eq 0 ]; then
    owner=postgres
    id "$owner" >/dev/null 2>&1 || owner=nobody
    chown "$owner" "$folder"
    as_owner="setpriv --reuid=$owner --regid=$(id -g "$owner") --clear-groups"
fi

stop() {
    $as_owner "$bin/pg_ctl" -D "$folder/data" -m immediate -s stop || true
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT TERM

original_folder=$PWD
cd "$folder"
$as_owner "$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --no-sync >"$folder/log" 2>&1 \
    || { cat "$folder/log" >&2; exit 1; }
# Tries ten ports. Any other cause of failure persists, so its log is printed then.
port=$((20000 + $$ % 20000))
last=$((port + 10))
cat >>"$folder/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
unix_socket_directories = '$folder'
max_connections = 400
fsync = ${TEST_POSTGRES_FSYNC:-off}
END
ctl="$as_owner $bin/pg_ctl -D $folder/data -l $folder/data/log -s -w"
until echo "port = $port" >>"$folder/data/postgresql.conf" && $ctl start 2>/dev/null; do
    port=$((port + 1))
    [ "$port" -lt "$last" ] || { cat "$folder/data/log" >&2; exit 1; }
done
cd "$original_folder"

TEST_POSTGRES_CTL=$ctl TEST_DATABASE_URL="postgres://postgres@127.0.0.1:$port/postgres" "$@"
