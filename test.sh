#!/usr/bin/env bash
# Prepares the environment and runs the fast tests; arguments go to pytest (--slow for all).
set -euo pipefail
here="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
source "$here/prepare.sh"
prepare requirements.lock requirements-dev.lock
cd "$here"
exec "$PYTHON" -m pytest "$@"
