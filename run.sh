#!/usr/bin/env bash
# On the evaluation server (AICROWD_IS_GRADING or CROWDAI_IS_GRADING set): features, VAE, export.
# Anywhere else: the local dry run, down to the five scores. Options: ./run.sh --help
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"  # `sh run.sh`
set -euo pipefail
here="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
source "$here/prepare.sh"
prepare requirements.lock
# Not by PYTHONPATH, in which a path with a colon is two.
start='import sys; sys.path.insert(0, sys.argv.pop(1)); from submission.__main__ import main; sys.exit(main())'
exec "$PYTHON" -P -c "$start" "$here" run "$@"
