# Sourced by run.sh and test.sh: sets PYTHON to an interpreter that has the locked packages.
#   prepare NAME.lock ...
# In order: the environment that an earlier call has made (in the project, or where that cannot be
# written), a python3 that already has them (a container), or a new environment.

# A stream that the caller has closed (`>&-`) is silence; left closed, printing would end the script.
[ -e /dev/fd/0 ] || exec </dev/null
[ -e /dev/fd/1 ] || exec >/dev/null
[ -e /dev/fd/2 ] || exec 2>/dev/null

prepare() {
    local project lock home venv missing elsewhere
    project="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
    elsewhere="${TMPDIR:-/tmp}/disentanglement-submission-$(id -u)"
    # A checkout that belongs to somebody else, or is mounted read-only, gets its files elsewhere;
    # submission/runtime/paths.py follows the same rule.
    home="${SUBMISSION_HOME:-$project/scratch}"
    if [ -L "$home" ] && [ ! -e "$home" ]; then
        echo "error: $home is a link to $(readlink "$home"), which is not there: make that folder, or remove the link" >&2
        exit 2
    fi
    if [ -z "${SUBMISSION_HOME:-}" ] && ! { [ -w "$home" ] || { [ ! -e "$home" ] && [ -w "$project" ]; }; }; then
        echo "$project/scratch cannot be written by this user: working files and results go to $elsewhere" >&2
        home="$elsewhere"
    fi
    export SUBMISSION_HOME="$home"

    for venv in "$home/venv" "$project/.venv"; do
        venv="$(without_colon "$venv" "$elsewhere")"
        [ -x "$venv/bin/python" ] || continue
        missing=
        for lock in "$@"; do
            grep -qxF "$lock: $(cksum <"$project/$lock")" "$venv/installed-locks" 2>/dev/null || missing=yes
        done
        if [ -z "$missing" ]; then
            PYTHON="$venv/bin/python"
            return
        fi
    done
    # Somebody else's is left alone, whatever it has.
    [ -w "$project" ] && { [ ! -e "$venv" ] || [ -w "$venv" ]; } || venv="$home/venv"
    venv="$(without_colon "$venv" "$elsewhere")"
    if command -v python3 >/dev/null && (cd "$project" && python3 - "$@") <<'EOF'; then
import importlib.metadata, platform, sys
if sys.version_info[:2] != (3, 11):
    sys.exit(1)
for lock in sys.argv[1:]:
    for line in open(lock):
        # NAME==VERSION, for one platform or for all, then its hashes in lines of their own.
        name, _, version = line.partition(";")[0].partition("==")
        here = (sys.platform, platform.machine()) == ("linux", "x86_64")
        if version and (here or ";" not in line):
            try:
                if importlib.metadata.version(name.strip()) != version.strip(" \\\n"):
                    sys.exit(1)
            except importlib.metadata.PackageNotFoundError:
                sys.exit(1)
EOF
        PYTHON=python3
        return
    fi
    if [ -n "${AICROWD_IS_GRADING:-}${CROWDAI_IS_GRADING:-}" ]; then
        echo "error: the packages of requirements.lock are missing and the server has no network: install them when the image is built" >&2
        exit 2
    fi
    local base=""
    for candidate in python3.11 python3 python; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            base="$candidate"
            break
        fi
    done
    if [ -z "$base" ]; then
        echo "error: no Python 3.11 found: install it (python3.11 with its venv module) and run this again" >&2
        exit 2
    fi
    echo "installing the packages of $* into $venv (once; 6 GB, a few minutes)" >&2
    # Made again if it was interrupted before it had pip.
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$base" -m venv "$venv" || prepare_failed "$venv"
    # The lock files share packages, and one that was installed before another's earlier state is
    # none any more: so all are installed, which takes seconds where they are there.
    rm -f "$venv/installed-locks"
    for lock in "$@"; do
        "$venv/bin/python" -m pip install --quiet --require-hashes --no-deps -r "$project/$lock" || prepare_failed "$venv"
        echo "$lock: $(cksum <"$project/$lock")" >>"$venv/installed-locks"
    done
    PYTHON="$venv/bin/python"
}

# An environment's place, or another one: Python makes none in a path with a colon, which would be two
# paths in PATH.
without_colon() {
    case "$1" in *:*) echo "$2/venv" ;; *) echo "$1" ;; esac
}

prepare_failed() {
    echo "error: the packages could not be installed into $1: see the lines above (network? disk space?), then run this again" >&2
    exit 2
}
