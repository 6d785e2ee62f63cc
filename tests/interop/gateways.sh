#!/usr/bin/env bash
# Starts gateways with the files of examples/gateways, in front of a small API, and asks for it:
# tests/interop/gateways.py. Arguments select gateways: tests/interop/gateways.sh nginx envoy. Takes up to two
# minutes, on loopback only. A database named by TEST_DATABASE_URL has to be empty.
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/shared/programs.sh
require_programs python3-venv nginx haproxy

tools=$PWD/target/interop-gateways
[ -n "${PROGRAM:-}" ] || cargo build --release --locked
export PROGRAM=${PROGRAM:-$PWD/target/release/portcullis} PYTHONPATH=$PWD/tests/shared

[ -d "$tools" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --requirement tests/interop/gateways_requirements.txt

# -B: no compiled files beside the sources.
exec tests/with-postgres.sh "$tools/bin/python" -B tests/interop/gateways.py "$@"
