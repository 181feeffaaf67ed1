#!/usr/bin/env bash
# On the evaluation server (AICROWD_IS_GRADING or CROWDAI_IS_GRADING set): features, VAE, export.
# Anywhere else: the local dry run, down to the five scores. Options: ./run.sh --help
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"  # `sh run.sh`
set -euo pipefail
here="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
source "$here/prepare.sh"
prepare requirements.lock
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -P -m submission run "$@"
