#!/usr/bin/env bash
# Tests the verifiers, by themselves and against the service. Installs what they need into
# target/verifiers.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/shared/programs.sh
require_programs python3-venv npm node

tools=$PWD/target/verifiers
export PORTCULLIS=$PWD/target/debug/portcullis PYTHONDONTWRITEBYTECODE=1

cargo build --quiet --locked --bin portcullis
mkdir -p "$tools"

echo 'Python'
[ -d "$tools/venv" ] || python3 -m venv "$tools/venv"
PATH=$tools/venv/bin:$PATH
pip install --quiet './verifiers/python[test]'
(
    cd verifiers/python
    ruff format --check --no-cache
    ruff check --no-cache
    mypy --cache-dir "$tools/mypy"
    pytest --quiet -p no:cacheprovider
)

echo 'JavaScript'
# In a copy, because npm installs beside the package.
rm -rf "$tools/vectors" "$tools"/javascript/{src,test}
cp -r verifiers/vectors verifiers/javascript "$tools"
cd "$tools/javascript"
npm install --silent
rm -r types
npm run --silent types
diff --recursive types "$OLDPWD/verifiers/javascript/types" ||
    { echo 'run `npm run types` in verifiers/javascript and commit the types' >&2; exit 1; }
node --test --test-reporter=dot test/*.test.js
