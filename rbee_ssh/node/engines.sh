# Which GPUs and which llama.cpp servers a node has, and whether they run. Part of rbee_facts (facts.sh): uses
# its functions put, tell, limited and home, and takes the same arguments.
# shellcheck disable=SC2154 # os, arch, want, out: facts.sh

rbee_gpus() {
    if rbee_seek nvidia-smi /usr/bin/nvidia-smi /usr/lib/wsl/lib/nvidia-smi /usr/local/nvidia/bin/nvidia-smi; then
        limited 5 "$found" --query-gpu=index,name,memory.total,memory.free,driver_version \
            --format=csv,noheader,nounits
        if [ "$code" -eq 0 ]; then
            tell nvidia 64
        else
            put nvidia_failed "$code"
            tell nvidia_error 1
        fi
    fi
    if rbee_seek rocm-smi /opt/rocm/bin/rocm-smi; then
        limited 8 "$found" --showproductname --showmeminfo vram --showdriverversion --json
        if [ "$code" -eq 0 ]; then
            tell rocm 64
        else
            put rocm_failed "$code"
            tell rocm_error 1
        fi
    fi
}

# rbee_seek PROGRAM PATH…: in $found, by name where PATH has it.
rbee_seek() {
    found=$1
    command -v "$1" >/dev/null 2>&1 && return 0
    shift
    for found in "$@"; do
        [ ! -x "$found" ] || return 0
    done
    return 1
}

rbee_engines() {
    listing=
    case $5 in all | *,devices) listing=1 ;; esac
    # An engine is asked for its devices where there may be some: that costs it a start of the GPU's driver.
    [ "$os" != Darwin ] || listing=1
    for place in /dev/nvidiactl /dev/kfd /dev/dxg /dev/nvhost-gpu /dev/dri/renderD*; do
        [ ! -e "$place" ] || listing=1
    done
    chosen=$2
    python=$3
    shift 5
    for extra in "$@"; do
        shift
        case $extra in
        env:*=*)
            name=${extra#env:}
            case ${name%%=*} in '' | [0-9]* | *[!A-Za-z0-9_]*) ;; *) export "${name%%=*}=${name#*=}" ;; esac
            ;;
        header:* | stored:*) ;;
        *) set -- "$@" "$extra" ;;
        esac
    done
    [ -z "${GGML_VK_VISIBLE_DEVICES:-}" ] || listing=1
    # CUDA's own order is by speed; so its numbers are those of nvidia-smi.
    CUDA_DEVICE_ORDER=PCI_BUS_ID
    export CUDA_DEVICE_ORDER
    seen=:
    runs=
    case $want in all | auto | llama-server) rbee_servers ;; esac
    libraries=
    # A path that was given is meant: nothing else is tried in its place.
    case $want in
    auto) [ -n "$runs" ] || [ -n "$chosen" ] || rbee_pythons "$@" ;;
    llama-server) ;;
    *) rbee_pythons "$@" ;;
    esac
}

rbee_servers() {
    if [ -n "$chosen" ]; then
        home "$chosen"
        put looked llama-server "$place (engine_path)"
        rbee_server "$place"
        return
    fi
    # shellcheck disable=SC2088 # to be read, not opened
    put looked llama-server '~/.local/share/rbee/engines/current' "PATH ($PATH)" '~/.local/bin' '~/.local/share/rbee/engines/*/bin' \
        '~/.local/share/rbee/engines/*' /usr/local/bin /opt/homebrew/bin /usr/local/cuda/bin \
        '~/llama.cpp/build/bin' /opt/llama.cpp/bin
    # What `rbee nodes setup` unpacked last: a link to the program's directory.
    place=$(cd -P "$HOME/.local/share/rbee/engines/current" 2>/dev/null && pwd)
    [ -z "$place" ] || [ ! -f "$place/llama-server" ] || rbee_server "$place/llama-server"
    [ "$want:$runs" != auto:1 ] || return 0
    place=$(command -v llama-server 2>/dev/null)
    case $place in /*) rbee_server "$place" ;; esac
    for place in "$HOME/.local/bin" "$HOME/.local/share/rbee/engines"/*/bin "$HOME/.local/share/rbee/engines"/* \
        /usr/local/bin /opt/homebrew/bin /usr/local/cuda/bin "$HOME/llama.cpp/build/bin" /opt/llama.cpp/bin; do
        [ "$want:$runs" != auto:1 ] || return 0
        [ ! -f "$place/llama-server" ] || rbee_server "$place/llama-server"
    done
}

# engine<TAB>name<TAB>path<TAB>LD_LIBRARY_PATH<TAB>exit status, then engine_out and engine_device lines
rbee_server() {
    real=$1
    [ ! -L "$1" ] || real=$(readlink -f "$1" 2>/dev/null) || real=$1
    case $seen in *":$real:"*) return ;; esac
    seen=$seen$real:
    if [ ! -f "$1" ] || [ ! -x "$1" ]; then
        code=126
        [ -e "$1" ] || code=127
        put engine llama-server "$1" '' "$code"
        return
    fi
    # shellcheck disable=SC2046 # a byte a word
    foreign=$(rbee_foreign $(od -An -tx1 -N20 "$real" 2>/dev/null))
    if [ -n "$foreign" ]; then
        put engine llama-server "$1" '' 126
        put engine_out "$foreign"
        return
    fi
    libraries=
    for beside in "${real%/*}" "${real%/*}/../lib"; do
        for library in "$beside"/lib*.so*; do
            [ -n "$libraries" ] || [ ! -e "$library" ] ||
                libraries=$beside${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
            break
        done
    done
    limited 5 "$1" --version
    put engine llama-server "$1" "$libraries" "$code"
    tell engine_out 12
    [ "$code" -eq 0 ] || return
    runs=1
    [ -n "$listing" ] || return
    limited 8 "$1" --list-devices
    put engine_devices "$code"
    tell engine_device 40
}

# The first 20 bytes of a program, in hex. Says what is wrong with one that was built for another machine: some
# shells, unable to execute it, would read it as a script.
rbee_foreign() {
    [ $# -ge 20 ] || {
        [ $# -ge 2 ] && [ "$1$2" = 2321 ] || printf 'not a program'
        return
    }
    case $os:$1$2$3$4 in
    *:2321*) return ;;
    Darwin:cffaedfe | Darwin:cafebabe | Darwin:cafebabf) return ;;
    Darwin:* | Linux:[!7]* | Linux:7[!f]*)
        printf 'not a program for %s' "$os"
        return
        ;;
    esac
    case $arch:${19}${20} in
    x86_64:3e00 | x86_64:0300 | aarch64:b700 | aarch64:2800 | arm*:2800 | i?86:0300) ;;
    x86_64:* | aarch64:* | arm*:* | i?86:*) printf 'built for another architecture than %s (ELF machine %s)' "$arch" "${19}" ;;
    esac
}

rbee_pythons() {
    if [ -n "$python" ]; then
        home "$python"
        set -- "$place"
    else
        set -- "$HOME/.local/share/rbee/venv/bin/python" "$@" "$(command -v python3 2>/dev/null)" \
            /opt/homebrew/bin/python3 /usr/local/bin/python3
    fi
    put looked 'xllamacpp and llama-cpp-python' "$@"
    for place in "$@"; do
        case $seen in *":$place:"*) continue ;; esac
        seen=$seen$place:
        if [ ! -x "$place" ]; then
            # A link to a Python that was removed, or may not be used: an environment that broke.
            { [ -z "$python" ] && [ ! -L "$place" ]; } || put python "$place" 127
            continue
        fi
        [ -z "$brief" ] || [ -n "$python" ] || ! rbee_bare "$place" || continue
        # shellcheck disable=SC2046 # a byte a word
        foreign=$(rbee_foreign $(od -An -tx1 -N20 "$place" 2>/dev/null))
        if [ -n "$foreign" ]; then
            put python "$place" 126
            put python_out "$foreign"
            continue
        fi
        limited 10 "$place" -c "$rbee_inspect" ${listing:+devices}
        put python "$place" "$code"
        tell python_out 60
        # Nothing later can come before xllamacpp in the order of auto.
        [ "$want:$code" != auto:0 ] || ! grep -q '^xllamacpp=' "$out" || return 0
        [ "$want:$code" != "$want:0" ] || ! grep -q "^$(printf %s "$want" | tr - _)=" "$out" || return 0
    done
}

# rbee_bare PYTHON: whether it has no engine for sure. To ask it would take 15 ms and more, on each of many nodes; so
# where its packages lie in places that we know, we look for ourselves. Whatever is unusual is asked.
rbee_bare() {
    [ -z "${PYTHONPATH:-}${PYTHONHOME:-}${PYTHONUSERBASE:-}" ] && [ ! -e "${1%/*}/../pyvenv.cfg" ] || return 1
    prefix=${1%/bin/*}
    # The program itself, where PYTHON is a link to it: its name tells the version, and it lies beside the link.
    for version in "$prefix"/bin/python3.[0-9] "$prefix"/bin/python3.[0-9][0-9] ''; do
        # shellcheck disable=SC3013 # every sh that is meant has it; POSIX 2024 does too
        [ ! -L "$version" ] && [ "$version" -ef "$1" ] && break
    done
    version=${version##*/}
    [ -n "$version" ] && [ -e "$prefix/lib/$version/os.py" ] || [ -e "$prefix/lib64/$version/os.py" ] || return 1
    for base in "$prefix" /usr/local "$HOME/.local"; do
        for folder in "$base/lib/python3/dist-packages" "$base/lib/$version/dist-packages" \
            "$base/lib/$version/site-packages" "$base/lib64/$version/site-packages"; do
            [ -d "$folder" ] || continue
            # xllamacpp-… and llama_cpp_python-…, in whatever case.
            for entry in "$folder"/[xXlL][lL][lLaA][aAmM]*; do
                [ ! -e "$entry" ] || return 1
            done
            # A file of paths to look in, besides lines of code.
            for entry in "$folder"/*.pth; do
                [ ! -e "$entry" ] || while read -r line || [ -n "$line" ]; do
                    case $line in '' | '#'* | 'import '*) ;; *) return 1 ;; esac
                done <"$entry"
            done
        done
    done
}

# One process tells everything, and imports a heavy package only to ask it for its devices. Looks at names of
# directories: importlib.metadata takes longer to import than the rest of this.
rbee_inspect='
import os, sys
from importlib.util import find_spec
def tell(key, value):
    sys.stdout.write("%s=%s\n" % (key, value))
    sys.stdout.flush()
if sys.path and sys.path[0] == "":
    sys.path.pop(0)
tell("version", "%d.%d.%d" % sys.version_info[:3])
tell("venv", "yes" if find_spec("venv") and find_spec("ensurepip") else "no")
found = {}
for place in sys.path:
    try:
        names = os.listdir(place)
    except OSError:
        continue
    for name in names:
        stem, end = os.path.splitext(name)
        if end in (".dist-info", ".egg-info"):
            project, _, version = stem.partition("-")
            project = project.lower().replace("-", "_")
            if project in ("xllamacpp", "llama_cpp_python"):
                found.setdefault(project, version.partition("-")[0])
for project in found:
    tell(project, found[project])
if "llama_cpp_python" in found:
    needs = ("uvicorn", "fastapi", "pydantic_settings", "sse_starlette", "starlette_context")
    tell("server_lacks", " ".join(name for name in needs if not find_spec(name)))
    spec = find_spec("llama_cpp")
    for place in (spec and spec.submodule_search_locations) or ():
        lib = os.path.join(place, "lib")
        for name in sorted(os.listdir(lib)) if os.path.isdir(lib) else ():
            if "ggml-" in name:
                tell("library", name)
if "xllamacpp" in found and "devices" in sys.argv[1:]:
    tell("xllamacpp_imports", "started")
    import xllamacpp
    for device in xllamacpp.get_device_info():
        tell("xllamacpp_device", device["name"])
        tell("xllamacpp_memory", "%s %s %s" % (
            device["name"], device.get("memory_total", "?"), device.get("memory_free", "?")))
    tell("xllamacpp_imports", "done")
'
