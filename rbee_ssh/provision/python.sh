# A Python environment in ~/.local/share/rbee/venv, and an engine's package in it. After node/lib/.
# package, what to ask pip for, index, a package that an index of everything has (or ''), what the name of a
# device it has to see begins with (a pattern, or ''), Python that tries it, CMAKE_ARGS.
# shellcheck disable=SC2154 # base, found: steps.sh

package=$1 wanted=$2 index=$3 companion=$4 pattern=$5 trial=$6
replace=
if [ -n "$7" ]; then
    # A wheel that was compiled with other settings may lie in a cache.
    export CMAKE_ARGS="$7" PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1
fi
venv=$base/venv
# Beside the environment: `venv` while that is made, a package's name while pip works on it.
unfinished=$base/venv.unfinished

# works: whether the engine runs and sees the devices it shall see; what it says is in $told.
works() {
    told=$("$venv/bin/python" -I -c "$trial" 2>&1 </dev/null) || return
    [ -z "$pattern" ] || printf '%s\n' "$told" | grep -Eq "^device=($pattern)"
}

# The first Python that can make environments, in $python; else in $plain one that runs.
seek_python() {
    plain=''
    old=''
    for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 \
        /usr/bin/python3 /usr/local/bin/python3 /opt/homebrew/bin/python3; do
        python=$(command -v "$python" 2>/dev/null) && [ -n "$python" ] || continue
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
            old=$python
            continue
        }
        plain=${plain:-$python}
        "$python" -c 'import venv, ensurepip; ensurepip.version()' >/dev/null 2>&1 && return 0
    done
    return 1
}

make_environment() {
    printf venv >"$unfinished" || give_up home
    rm -rf "$venv"
    if seek_python; then
        tell step "making a Python environment with $python"
        "$python" -m venv "$venv" || return
    elif has uv "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv"; then
        tell step "making a Python environment with $found"
        "$found" venv --no-progress --python "${plain:->=3.10}" "$venv" || return
    else
        [ ! -r /etc/os-release ] || tell system "$(
            . /etc/os-release
            printf '%s %s' "${ID:-}" "${ID_LIKE:-}"
        )"
        if [ -n "$plain" ]; then
            give_up no-venv "$plain cannot make environments: its ensurepip is missing, and there is no uv"
        elif [ -n "$old" ]; then
            give_up old-python "$old is $("$old" -V 2>&1), which is older than 3.10, and there is no uv"
        fi
        give_up no-python 'there is neither python3 nor uv'
    fi
    rm -f "$unfinished"
}

# Whether the node's own settings lead to http: for an index that it trusts, or by a proxy.
own_http() {
    env | grep -Eq '^(PIP|UV)_[A-Z_]*=.*http://' ||
        grep -qs http:// /etc/pip.conf /etc/uv/uv.toml "$HOME/.pip/pip.conf" \
            "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf" "${XDG_CONFIG_HOME:-$HOME/.config}/uv/uv.toml"
}

# pip and uv follow a redirect from https to http, of an index or a wheel, and neither has an option against it:
# there is no such proxy, for no host. With a proxy for https, what need not go through it stays as it is.
https_only() {
    own_http && return
    export http_proxy=http://127.0.0.1:9 HTTP_PROXY=http://127.0.0.1:9
    [ -n "${https_proxy:-}${HTTPS_PROXY:-}${all_proxy:-}${ALL_PROXY:-}" ] || unset no_proxy NO_PROXY
}

# install INDEX EXTRA-INDEX ARGUMENT…: by the environment's own pip, else by uv. An index may hold a password: it
# goes by environment, which other users do not see.
install() {
    if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        [ -z "$1" ] || export PIP_INDEX_URL="$1"
        [ -z "$2" ] || export PIP_EXTRA_INDEX_URL="$2"
        [ -z "$replace" ] || set -- "$@" --force-reinstall
        shift 2
        PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_PROGRESS_BAR=off PIP_USER=0 \
            "$venv/bin/python" -m pip install "$@"
    elif has uv "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv"; then
        [ -z "$1" ] || export UV_DEFAULT_INDEX="$1"
        [ -z "$2" ] || export UV_INDEX="$2"
        [ -z "$replace" ] || set -- "$@" --reinstall
        shift 2
        UV_NO_PROGRESS=1 "$found" pip install --python "$venv/bin/python" "$@"
    else
        give_up no-pip "$venv has no pip, and there is no uv"
    fi
}

# An index of GPU builds has this one package; what it needs besides comes from where the node gets its packages.
install_with_companions() {
    if [ -z "$index" ] || [ -z "$companion" ]; then
        install "$index" '' "$wanted"
    elif (
        replace=
        install "$index" '' --dry-run --no-deps "$companion"
    ) >/dev/null 2>&1; then
        install "$index" '' "$wanted"
    else
        (install "$index" '' --no-deps "$package") && replace= && install '' "$index" "$wanted"
    fi
}

watch
lock
state=$(cat "$unfinished" 2>/dev/null)
if [ -z "$state" ] && [ -x "$venv/bin/python" ] && works; then
    tell 'done' already
    exit 0
fi
if [ "$state" = venv ]; then
    tell step 'the environment was not finished: making it anew'
    make_environment || give_up venv
elif "$venv/bin/python" -c '' 2>/dev/null; then
    # Whatever there is of the package does not do.
    replace=1
else
    [ ! -e "$venv" ] || tell step 'the environment does not run: making it anew'
    make_environment || give_up venv
fi
tell step "installing $wanted"
https_only
printf %s "$package" >"$unfinished" || give_up home
install_with_companions || give_up install
rm -f "$unfinished"
tell step "trying $package"
if ! works; then
    printf '%s\n' "$told"
    case $told in *finished=yes*) give_up no-device ;; esac
    give_up broken
fi
tell 'done' installed
exit 0
