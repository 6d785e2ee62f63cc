#!/usr/bin/env bash
# Starts nginx and HAProxy with the files of examples/reverse-proxy and deploy, in front of the service:
# tests/interop/proxies.py. Takes half a minute, on loopback only.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/shared/programs.sh
require_programs python3-venv nginx haproxy openssl

tools=$PWD/target/interop-proxies
[ -n "${PROGRAM:-}" ] || cargo build --release --locked
export PROGRAM=${PROGRAM:-$PWD/target/release/portcullis} PYTHONPATH=$PWD/tests/shared

[ -d "$tools" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --requirement tests/interop/proxies_requirements.txt

# -B: no compiled files beside the sources.
exec "$tools/bin/python" -B tests/interop/proxies.py "$@"
