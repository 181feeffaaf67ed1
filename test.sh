#!/usr/bin/env bash
# Prepares the environment and runs the fast tests; arguments go to pytest (--slow for all).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/prepare.sh"
prepare requirements.lock requirements-dev.lock
cd "$here"
exec "$PYTHON" -m pytest "$@"
