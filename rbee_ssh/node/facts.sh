# What a node is, as key<TAB>value lines for facts.py. POSIX sh: dash, bash, busybox, zsh; Linux and macOS.
# $1 models_dir  $2 engine_path or ''  $3 python or ''  $4 model file or ''
# $5 which engines: all, auto (as far as the first that runs), a name, or none: then nothing of what stays the same
#    from one look to the next is told. "auto,devices" lists devices as well; "all,brief" leaves out what a table of
#    many nodes does not show, and does not start a Python that has no engine
# $6… more Pythons to look into; env:NAME=VALUE, the variables that engines are started with; header:SIZE:MTIME,
# the model file whose header is known: of any other the header is sent; stored:SHA-256,SHA-256, the model file is one
# of the store, and it and its other parts have to be these (owners.sh, and ROOT, stand before this file then)
# Numbers are sent as the node tells them. What they mean is decided in Python, where it can be tested.

# engines.sh stands before this file. A subshell: neither variables nor traps nor the locale reach what stands behind it.
rbee_facts() (
    set +e +u
    LC_ALL=C
    export LC_ALL
    tab='	'
    newline='
'
    scratch=
    out=/nonexistent/out
    tried=
    trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT
    trap 'exit 129' HUP INT TERM PIPE
    me=
    want=${5%%,*}
    brief=
    case ,$5, in *,brief,*) brief=1 ;; esac

    # put KEY VALUE…: one line; a value's control characters stay here.
    put() {
        line=$1
        shift
        for field in "$@"; do
            case $field in *[[:cntrl:]]*) field=$(printf %s "$field" | tr -d '[:cntrl:]') ;; esac
            line=$line$tab$field
        done
        printf '%s\n' "$line"
    }

    # tell KEY LINES: the first lines of the last probe's output.
    tell() {
        lines=0
        dd bs=8192 count=1 <"$out" 2>/dev/null | while IFS= read -r text || [ -n "$text" ]; do
            put "$1" "$text"
            lines=$((lines + 1))
            [ "$lines" -lt "$2" ] || break
        done
    }

    # A place for the output of what is started, made when there is first something to start.
    make_scratch() {
        [ -z "$tried" ] || return
        tried=1
        scratch=$(mktemp -d "${TMPDIR:-/tmp}/rbee.XXXXXX" 2>/dev/null) ||
            scratch=$(mktemp -d "$HOME/.rbee.XXXXXX" 2>/dev/null)
        [ -n "$scratch" ] || printf 'problem\tno temporary directory can be made\n'
        out=${scratch:-/nonexistent}/out
    }

    # Seconds for all programs together: a driver that hangs can hang each of them for as long as it may take, and
    # who asks does not wait for ever (LIMIT in probe.py).
    enough=20
    # What is left of them, in $left. /proc tells the time without a program.
    remaining() {
        { read -r now rest </proc/uptime; } 2>/dev/null || now=$(date +%s)
        now=${now%%.*}
        : "${begun:=$now}"
        left=$((begun + enough - now))
    }

    # limited SECONDS COMMAND…: output in $out, exit status in $code, 124 when the time was over. What hangs in
    # a driver cannot be killed, so the wait for it is ended by a signal to ourselves.
    limited() {
        seconds=$1
        shift
        make_scratch
        [ -n "$scratch" ] || {
            code=125
            return
        }
        remaining
        [ "$left" -gt "$seconds" ] || seconds=$left
        [ "$seconds" -gt 0 ] || {
            code=124
            printf 'no time was left for it\n' >"$out"
            return
        }
        [ -n "$me" ] || { read -r me rest </proc/self/stat; } 2>/dev/null || me=$(exec sh -c 'echo "$PPID"')
        late=
        trap 'late=1' USR1
        (
            ulimit -f 131072
            [ -z "$libraries" ] || {
                LD_LIBRARY_PATH=$libraries
                export LD_LIBRARY_PATH
            }
            # A group of its own, so that a wrapper's children end with it.
            ! command -v setsid >/dev/null 2>&1 || exec setsid "$@"
            exec "$@"
        ) >"$out" 2>&1 </dev/null &
        probe=$!
        (
            trap 'kill "$nap"; exit' ALRM
            sleep "$seconds" &
            nap=$!
            wait "$nap" || exit
            # Until it is heard: in zsh, on a busy machine, one was lost, and the wait had no end.
            while kill -USR1 "$me"; do
                sleep 1 &
                nap=$!
                wait "$nap"
            done
        ) >/dev/null 2>&1 </dev/null &
        watch=$!
        wait "$probe" 2>/dev/null
        code=$?
        if [ -n "$late" ]; then
            code=124
            { kill -9 "-$probe" || kill -9 "$probe"; } 2>/dev/null
        fi
        # Its signal must not come into the next wait. ALRM, because we have no trap for it ourselves: dash loses
        # a signal that comes to a subshell before it has forgotten the traps of its parent.
        kill -ALRM "$watch" 2>/dev/null
        wait "$watch" 2>/dev/null
    }

    # home PATH: a leading ~ is the home directory, in $place.
    home() {
        # shellcheck disable=SC2088 # expanded here, on purpose not by the shell
        case $1 in
        '~') place=$HOME ;;
        '~/'*) place=$HOME/${1#'~/'} ;;
        *) place=$1 ;;
        esac
    }

    machine() {
        # Linux 6.1 and later tell without a program what uname tells.
        {
            read -r os </proc/sys/kernel/ostype &&
                read -r name </proc/sys/kernel/hostname &&
                read -r kernel </proc/sys/kernel/osrelease &&
                read -r arch </proc/sys/kernel/arch
        } 2>/dev/null || {
            # shellcheck disable=SC2046 # words
            set -- $(uname -snrm)
            os=$1 name=$2 kernel=$3 arch=$4
        }
        put os "$os"
        put hostname "$name"
        put kernel "$kernel"
        put arch "$arch"
        [ -n "$brief" ] || account
        put home "$HOME"
        put path "$PATH"
        if [ -z "${SHELL:-}$brief" ]; then
            SHELL=$(getent passwd "$user" 2>/dev/null || id -P 2>/dev/null)
            SHELL=${SHELL##*:}
        fi
        put shell "$SHELL"
        [ -n "$brief" ] || put clock "$(date +%s)"
        case $os in
        Linux) linux ;;
        Darwin)
            limited 5 sysctl hw.memsize hw.ncpu vm.loadavg machdep.cpu.brand_string
            tell sysctl 4
            limited 5 vm_stat
            tell vm_stat 12
            ;;
        esac
    }

    account() {
        # shellcheck disable=SC2046 # words
        set -- $(id)
        case $1 in *'('*) user=${1#*'('} ;; *) user=${1#uid=} ;; esac
        user=${user%')'}
        uid=${1#uid=}
        put uid "${uid%%'('*}"
        put user "$user"
    }

    linux() {
        while IFS=: read -r name value; do
            case $name in
            'model name'*)
                put cpu_model "${value# }"
                break
                ;;
            '') break ;;
            esac
        done 2>/dev/null </proc/cpuinfo
        [ ! -r /proc/device-tree/model ] || put board "$(tr -d '\000' </proc/device-tree/model)"
        # What nproc would tell, without starting it: the CPUs that this process may use.
        allowed=
        while read -r name value rest; do
            case $name in
            Cpus_allowed_list:)
                allowed=$value
                break
                ;;
            esac
        done 2>/dev/null </proc/self/status
        if [ -n "$allowed" ]; then
            put cpus_allowed "$allowed"
        else
            put cpus "$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || grep -c ^processor /proc/cpuinfo)"
        fi
        { read -r load rest </proc/loadavg; } 2>/dev/null && put load "$load"
        while read -r name value unit; do
            case $name in MemTotal: | MemAvailable: | MemFree:) put meminfo "$name $value $unit" ;; esac
            [ "$name" != MemAvailable: ] || break
        done 2>/dev/null </proc/meminfo
        # shellcheck disable=SC2034 # number stands before what is asked
        [ ! -r /proc/self/cgroup ] || while IFS=: read -r number controllers group; do
            case ,$controllers, in
            ,,) limits /sys/fs/cgroup "$group" memory.max memory.current ;;
            *,memory,*) limits /sys/fs/cgroup/memory "$group" memory.limit_in_bytes memory.usage_in_bytes ;;
            esac
        done </proc/self/cgroup
    }

    # limits BASE GROUP LIMIT USAGE: cgroup<TAB>limit<TAB>usage<TAB>cache of the group and of those above it.
    limits() {
        group=$2
        while :; do
            limit='' usage='' cache=0 total=0
            { read -r limit <"$1$group/$3"; } 2>/dev/null
            # 16 digits are a petabyte: version 1 says "no limit" so.
            case $limit in
            '' | max | ????????????????*) ;;
            *)
                read -r usage <"$1$group/$4"
                while read -r name value; do
                    case $name in
                    # The files of what is below count in the group's usage too; version 2 adds them up by itself.
                    total_inactive_file | total_active_file) total=$((total + value)) ;;
                    inactive_file | active_file) cache=$((cache + value)) ;;
                    esac
                done 2>/dev/null <"$1$group/memory.stat"
                [ "$total" -eq 0 ] || cache=$total
                put cgroup "$limit" "$usage" "$cache"
                ;;
            esac
            case $group in '' | /) break ;; esac
            group=${group%/*}
        done
    }

    storage() {
        home "$1"
        put models_dir "$place"
        while [ ! -e "$place" ]; do
            case $place in
            /*/*) place=${place%/*} ;;
            /*) place=/ ;;
            *) place=. ;;
            esac
        done
        [ -w "$place" ] || put models_closed "$place"
        # timeout, where there is one, needs neither a scratch directory nor a second process that watches.
        text=$(exec timeout -s KILL 5 df -Pk "$place" 2>/dev/null)
        case $? in
        0) put df "${text##*"$newline"}" ;;
        124 | 137) ;;
        *)
            limited 5 df -Pk "$place"
            tell df 3
            ;;
        esac
    }

    # model<TAB>state<TAB>size<TAB>mtime<TAB>path
    model() {
        home "$1"
        file=$place
        if [ -e "$file" ]; then
            stat=$(stat -L -c '%s %Y' "$file" 2>/dev/null || stat -L -f '%z %m' "$file" 2>/dev/null)
            if [ ! -f "$file" ]; then
                state=invalid
            elif [ ! -r "$file" ]; then
                state=unreadable
            elif [ "$(dd if="$file" bs=4 count=1 2>/dev/null | tr -d '\000')" = GGUF ]; then
                state=gguf
                case $file in
                *-00001-of-?????.gguf) set -- "${file%-00001-of-*}"-?????-of-"${file##*-of-}" ;;
                *) set -- "$file" ;;
                esac
                for part in "$@"; do
                    judge "$part" "${sums%%,*}"
                    case $sums in *,*) sums=${sums#*,} ;; *) sums= ;; esac
                done
            else
                state=invalid
            fi
            put model "$state" "${stat%% *}" "${stat#* }" "$file"
            [ "$state" != gguf ] || header "${stat%% *}:${stat#* }"
            return
        fi
        # What lies in a directory that may not be entered cannot be called missing.
        while [ ! -d "$place" ]; do
            case $place in /*/*) place=${place%/*} ;; /*) place=/ ;; *) place=. ;; esac
        done
        state=missing
        [ -x "$place" ] || state=unreadable
        put model "$state" '' '' "$file"
    }

    # judge FILE SHA256: `state` of one that is something else than its note says (`models verify`), or whose note says
    # something else than that sum, which may be ''; of the store where others may write a note proves nothing.
    judge() {
        if [ -n "$stored" ] && ! rbee_closed "$1"; then
            rbee_proven "$1" "$2" || state=unproven
            return
        fi
        # A note may be anybody's: a pipe that nobody writes to, or without an end.
        note=
        [ ! -f "$1.json" ] || note=$(dd if="$1.json" bs=16384 count=1 2>/dev/null | tr -d '\000')
        # shellcheck disable=SC1083 # bracket expressions
        case $note in
        *'"verified":0'[,}]* | *'"verified": 0'[,}]*) state=differs ;;
        *"\"sha256\":\"$2\""* | *"\"sha256\": \"$2\""*) ;;
        *'"sha256":'*) [ -z "$2" ] || state=differs ;;
        esac
    }

    # header SIZE:MTIME: model_bytes<TAB>of all parts of a split model, model_parts<TAB>how many there are, and header<TAB>hex, 2000 bytes a line.
    header() {
        case $file in
        *-00001-of-?????.gguf)
            bytes=0 parts=0
            for part in "${file%-00001-of-*}"-?????-of-"${file##*-of-}"; do
                part=$(stat -L -c %s "$part" 2>/dev/null || stat -L -f %z "$part" 2>/dev/null)
                bytes=$((bytes + ${part:-0})) parts=$((parts + (${part:-0} > 0)))
            done
            put model_bytes "$bytes"
            put model_parts "$parts"
            ;;
        esac
        case $known in '' | "header:$1") return ;; esac
        dd if="$file" bs=4096 count=8 2>/dev/null | od -An -v -tx1 | tr -d ' \n\t' | fold -w 4000 |
            while IFS= read -r text || [ -n "$text" ]; do put header "$text"; done
    }

    # What systemd does to a user's processes when the last session ends.
    sessions() {
        if [ ! -d /run/systemd/system ]; then
            put systemd none
            return
        fi
        put systemd yes
        [ -z "$brief" ] || account
        lingers=no
        [ ! -e "/var/lib/systemd/linger/$user" ] || lingers=yes
        put linger "$lingers"
        limited 2 busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
            org.freedesktop.login1.Manager KillUserProcesses
        if [ "$code" -eq 0 ]; then
            tell kill_user_processes 1
            grep -q true "$out" && limited 2 systemctl --version && tell systemd_version 1
            return
        fi
        for conf in /etc/systemd/logind.conf /usr/lib/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf \
            /run/systemd/logind.conf.d/*.conf /usr/local/lib/systemd/logind.conf.d/*.conf \
            /usr/lib/systemd/logind.conf.d/*.conf; do
            # shellcheck disable=SC2094 # put tells its name
            [ -r "$conf" ] && while read -r name; do
                case $name in KillUserProcesses=* | '#KillUserProcesses='*) put logind "$conf" "$name" ;; esac
            done <"$conf"
        done
    }

    begun=
    remaining
    libraries=
    known=
    stored=
    sums=
    for extra in "$@"; do
        case $extra in
        header:*) known=$extra ;;
        stored:*) stored=1 sums=${extra#stored:} ;;
        esac
    done
    [ -z "$stored" ] || {
        home "$1"
        # shellcheck disable=SC2034 # owners.sh
        STORE=${place%/} ME=$(id -u)
    }
    machine
    storage "$1"
    [ -z "$4" ] || model "$4"
    [ "$want" = none ] || sessions
    rbee_gpus
    [ "$want" = none ] || rbee_engines "$@"
    put facts end
)
rbee_facts "$@"
