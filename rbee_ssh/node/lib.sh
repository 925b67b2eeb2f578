# What every script of rbee on a node shares. POSIX sh; awk, readlink and the usual file tools.
# Functions answer in upper-case variables: a command substitution would cost a fork.

# shellcheck disable=SC2034 # SOCKETS, MEMORY, DETACHED: of the scripts that stand behind it

RBEE_TICK=5
CLOCK=0

# BASE: where rbee keeps what it knows. ROOT: where this machine's workers live. A home can be shared by machines,
# so the machine's id is in it. BOOT: this boot.
rbee_init() {
    umask 077
    # Where macOS has sysctl, ioreg and netstat; its cron leaves that out.
    case :$PATH: in *:/usr/sbin:*) ;; *) PATH=$PATH:/usr/sbin:/sbin ;; esac
    MACHINE=
    for RBEE_F in /etc/machine-id /var/lib/dbus/machine-id; do
        [ -n "$MACHINE" ] || { [ -r "$RBEE_F" ] && IFS= read -r MACHINE <"$RBEE_F"; }
    done
    [ -n "$MACHINE" ] || MACHINE=$(ioreg -rd1 -c IOPlatformExpertDevice 2>/dev/null |
        awk -F'"' '/IOPlatformUUID/ { print $4 }')
    [ -n "$MACHINE" ] || MACHINE=$(hostname 2>/dev/null || uname -n)
    case $MACHINE in
    *[!A-Za-z0-9._-]*) MACHINE=$(printf '%s' "$MACHINE" | tr -cd 'A-Za-z0-9._-') ;;
    esac
    BOOT=
    if [ -r /proc/sys/kernel/random/boot_id ]; then
        IFS= read -r BOOT </proc/sys/kernel/random/boot_id
    else
        BOOT=$(sysctl -n kern.bootsessionuuid 2>/dev/null)
    fi
    case ${XDG_STATE_HOME:-} in # the XDG specification: a relative one is to be ignored
    /*) BASE=$XDG_STATE_HOME/rbee ;;
    *) BASE=$HOME/.local/state/rbee ;;
    esac
    ROOT=$BASE/$MACHINE
    if [ -d "$ROOT/workers" ]; then
        # Made by whoever was first, where others may write in the directory above. Of a home that looks like somebody
        # else's, as on a NAS that gives all files one owner, nothing can be told.
        if [ ! -O "$ROOT" ] || [ ! -O "$ROOT/workers" ]; then
            case $ROOT in "$HOME"/*) [ -O "$HOME" ] || return 0 ;; esac
            printf 'problem	%s is not yours
' "$ROOT"
            return 73
        fi
        ! rbee_inside "$ROOT/workers" || return 0
    fi
    RBEE_P=$ROOT/workers
    until [ -e "${RBEE_P:=/}" ]; do RBEE_P=${RBEE_P%/*}; done
    rbee_firm "$RBEE_P" || {
        printf 'problem\tothers can replace what is in %s\n' "$RBEE_P"
        return 73
    }
    [ ! -d "$ROOT/workers" ] || return 0
    mkdir -p "$ROOT/workers" 2>/dev/null && chmod 700 "$ROOT" "$ROOT/workers" || {
        rbee_unable 'cannot make' "$ROOT/workers"
        return 73
    }
}

# rbee_inside PLACE: whether it lies in our home, and no link on the way leads anywhere else.
rbee_inside() {
    case $1 in "$HOME"/*) ;; *) return 1 ;; esac
    RBEE_L=$1
    while [ "$RBEE_L" != "$HOME" ]; do
        [ ! -L "$RBEE_L" ] || return 1
        RBEE_L=${RBEE_L%/*}
    done
}

# SOCKETS: the directory in BASE where sockets go, empty where it cannot hold them: then each has one in /tmp. Its
# name is short, and not the machine's: a worker's id is its own among all that share a home.
# sun_path holds 104 bytes on macOS, 108 on Linux; a socket on a network filesystem is not reachable.
rbee_sockets() {
    SOCKETS=
    case $(df -P "$ROOT" 2>/dev/null | awk 'NR == 2 { print $1 }') in *:/* | //*) return 0 ;; esac
    case $BASE in *'
'*) return 0 ;; esac
    [ "$(printf '%s' "$BASE/s/0123456789ab.sock" | wc -c)" -le 100 ] || return 0
    mkdir -m 700 "$BASE/s" 2>/dev/null
    ! rbee_alone "$BASE/s" || SOCKETS=$BASE/s
}

# rbee_ours DIR: whether it is a directory of ours, and no link to one.
rbee_ours() { [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ]; }

# rbee_alone DIR: whether it is ours and nobody else's, now and for as long as it is there.
rbee_alone() {
    rbee_ours "$1" || return 1
    case $(ls -ld "$1") in drwx------*) rbee_firm "$1" ;; *) return 1 ;; esac
}

# rbee_firm PLACE: whether no stranger decides what it is. Where everybody may write, nobody takes away what is
# another's (sticky), and what lies there on our way is ours or root's. Who owns the directories above is trusted.
# Of a link both count, where it lies and where it leads: each way that it makes is looked at as it is written.
rbee_firm() {
    RBEE_U=$(id -u)
    RBEE_W=$1
    RBEE_N=0
    while :; do
        RBEE_S=
        RBEE_L=$RBEE_W
        set --
        while [ -n "$RBEE_L" ]; do
            set -- "$@" "$RBEE_L"
            [ ! -L "$RBEE_L" ] || RBEE_S=$RBEE_L
            RBEE_L=${RBEE_L%/*}
        done
        # ls sorts them: what is above comes first.
        # shellcheck disable=SC2012 # only the modes and owners are read
        LC_ALL=C ls -ldn / "$@" 2>/dev/null | awk -v me="$RBEE_U" -v n=$# '
            /^[dl][-rwxsStT]+[.+@]? +[0-9]+ +[0-9]+ / {
                if (open && $3 != 0 && $3 != me) bad = 1
                open = $1 ~ /^d.......w/
                if (open && $1 !~ /^d........[tT]/) bad = 1
                seen++
            }
            END { exit bad || seen <= n }' || return 1
        [ -n "$RBEE_S" ] || return 0
        RBEE_N=$((RBEE_N + 1))
        [ "$RBEE_N" -le 40 ] && RBEE_L=$(readlink "$RBEE_S") || return 1
        case $RBEE_L in
        /*) RBEE_W=$RBEE_L${RBEE_W#"$RBEE_S"} ;;
        *) RBEE_W=${RBEE_S%/*}/$RBEE_L${RBEE_W#"$RBEE_S"} ;;
        esac
    done
}

# rbee_socket_dir SOCKET: its directory is ours alone, and made if it is not there; else a problem is told, and
# nothing was made. Of what lies under ROOT it is the worker's own, which is made later.
rbee_socket_dir() {
    case $1 in '' | "$ROOT"/*) return 0 ;; esac
    mkdir -m 700 "${1%/*}" 2>/dev/null
    ! rbee_alone "${1%/*}" || return 0
    if [ ! -e "${1%/*}" ] && [ ! -L "${1%/*}" ]; then
        rbee_unable 'no place for a socket: cannot make' "${1%/*}"
    elif rbee_firm "${1%/*}"; then
        printf 'problem\tno place for a socket: %s is not yours alone\n' "${1%/*}"
    else
        printf 'problem\tno place for a socket: others can replace what is in %s\n' "${1%/*/*}"
    fi
    rbee_unsocket "$1"
    return 73
}

# rbee_unsocket SOCKET: remove it, and the directory in /tmp that is its own. Somebody else's is left alone.
rbee_unsocket() {
    [ -n "$1" ] && rbee_ours "${1%/*}" || return 0
    rm -f "$1" "$1.away"
    case $1 in /tmp/rbee.*) rmdir "${1%/*}" 2>/dev/null ;; esac
    return 0
}

# rbee_unable WORDS PLACE: why nothing can be done, and that the disk is full if it is.
rbee_unable() {
    RBEE_L=$2
    until [ -e "${RBEE_L:=/}" ]; do RBEE_L=${RBEE_L%/*}; done
    rbee_free "$RBEE_L"
    RBEE_S=
    [ -z "$RBEE_FREE" ] || [ "$RBEE_FREE" -ge 64 ] || RBEE_S=': its disk is full'
    printf 'problem\t%s %s%s\n' "$1" "$2" "$RBEE_S"
}

# RBEE_FREE: KiB free for FILE. They stand before the percentage; a name before them may hold blanks.
rbee_free() {
    RBEE_FREE=$(df -Pk "$1" 2>/dev/null |
        awk 'NR == 2 { for (i = 2; i <= NF; i++) if ($i ~ /^[0-9]+%$/) { print $(i - 1); exit } }')
}

# rbee_nap: a moment, of RBEE_NAP hundredths of a second: where `sleep` takes whole seconds, that long.
rbee_nap() {
    if sleep 0.05 2>/dev/null; then
        RBEE_NAP=5
    else
        sleep 1
        RBEE_NAP=100
    fi
}

# CLOCK: hundredths of a second, of which only differences mean anything. A count of naps would be late: on a busy
# machine each takes twice its time. Where no file tells (macOS), it is such a count: to be asked after each nap.
rbee_clock() {
    if [ -r /proc/uptime ]; then
        IFS=' .' read -r RBEE_L RBEE_C RBEE_S </proc/uptime
        CLOCK=$((RBEE_L * 100 + 1$RBEE_C - 100))
    else
        CLOCK=$((CLOCK + ${RBEE_NAP:-5}))
    fi
}

# rbee_put FILE VALUE: readers see the old value or the new one, never half of it.
rbee_put() { { printf '%s\n' "$2" >"$1.tmp" && mv -f "$1.tmp" "$1"; } 2>/dev/null; }

# rbee_mark FILE: make it, empty. Not by `:`, with which a file that cannot be made ends the shell (POSIX 2.8.1).
rbee_mark() { { printf '' >"$1"; } 2>/dev/null; }

# rbee_get FILE: its first line in GOT, empty when there is none.
rbee_get() {
    GOT=
    [ -r "$1" ] && IFS= read -r GOT <"$1"
    return 0
}

# rbee_rewrite FILE TEXT: give it to a file of ours, in a directory of ours. Nothing is opened through a link that
# somebody else has put there, and who may read it stays the same.
rbee_rewrite() {
    [ -n "$2" ] && [ -f "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && [ -O "${1%/*}" ] || return 0
    (
        case $(ls -ld "$1") in -???------*) umask 077 ;; *) umask 022 ;; esac
        set -C
        rm -f "$1.tmp" && printf '%s\n' "$2" >"$1.tmp" && mv -f "$1.tmp" "$1" || rm -f "$1.tmp"
    ) 2>/dev/null
}

# rbee_note FILE KEY NUMBER: change a number in a note of the model store (models/store.py), or add it. JSON that
# is no such note is left alone.
rbee_note() {
    [ -f "$1" ] && grep -q '"last_used":' "$1" 2>/dev/null || return 0
    rbee_rewrite "$1" "$(sed -e "s/\"$2\": *[0-9]*/\"$2\":$3/" -e t -e "s/} *\$/,\"$2\":$3}/" "$1" 2>/dev/null)"
}

# rbee_started PID: STARTED is what tells this process from a later one with its pid; empty when it is gone
# (a zombie is gone). proc(5): field 22 of stat, counted behind the command's closing bracket; the command may
# hold anything, newlines too. ps tells local time, and machines travel.
rbee_started() {
    STARTED=
    [ -n "$1" ] || return 1
    if [ -d /proc/self ]; then
        RBEE_S=
        { while IFS= read -r RBEE_L; do RBEE_S=$RBEE_S$RBEE_L; done <"/proc/$1/stat"; } 2>/dev/null
        RBEE_S=${RBEE_S##*) }
        case $RBEE_S in [ZX]*) return 1 ;; esac
        # shellcheck disable=SC2086 # fields
        rbee_fields $RBEE_S
    else
        STARTED=$(TZ=UTC0 LC_ALL=C ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' '_')
    fi
    [ -n "$STARTED" ]
}

rbee_fields() {
    [ $# -lt 20 ] || {
        OWN_CPU=$((${12} + ${13}))
        shift 19
        STARTED=$1
    }
}

# rbee_alive "PID STARTED": whether that very process runs.
rbee_alive() {
    RBEE_P=${1%% *}
    [ -n "$RBEE_P" ] && rbee_started "$RBEE_P" && [ "$STARTED" = "${1#* }" ]
}

# rbee_cpu PGID: CPU is the CPU time of the whole process group in ticks of 1/100 s (a wrapper that does
# not exec its engine shows none of its own). A leader without children is its group; to look through every
# process of a large machine takes 50 ms and more.
rbee_cpu() {
    if rbee_childless "$1" && rbee_started "$1"; then
        CPU=$OWN_CPU
    elif [ -d /proc/self ]; then
        CPU=$(cat /proc/[0-9]*/stat 2>/dev/null | awk -v g="$1" \
            '{ sub(/^.*\) /, ""); if (NF > 20 && ($3 == g || $4 == g)) c += $12 + $13 } END { printf "%.0f", c }')
    else
        CPU=$(LC_ALL=C ps -A -o pgid= -o time= | awk -v g="$1" '$1 == g { n = split($2, t, ":"); s = 0
            for (i = 1; i <= n; i++) s = s * 60 + t[i]; c += s * 100 } END { printf "%.0f", c }')
    fi
}

# rbee_members PGID: MEMBERS are the processes of the group. Linux only. A process may call itself anything, with a
# newline too, and then the line is cut there: another user's would be one of ours.
rbee_members() {
    MEMBERS=$1
    rbee_childless "$1" || MEMBERS=$(cat /proc/[0-9]*/stat 2>/dev/null | awk -v g="$1" \
        '{ p = $1; sub(/^.*\) /, ""); if (NF > 20 && ($3 == g || $4 == g)) printf " %s", p }')
}

# rbee_memory PGID: MEMORY is "OWN FILES PEAK" of the whole process group in KiB: what only it has, what it has
# mapped of files, and the most that both together were. Empty where the system does not tell; the second and
# third are 0 where it tells one number only.
rbee_memory() {
    MEMORY=
    [ -n "$1" ] || return 0
    if [ ! -d /proc/self ]; then
        MEMORY=$(LC_ALL=C ps -A -o pgid= -o rss= | awk -v g="$1" '$1 == g { r += $2 } END { if (r) print r, 0, 0 }')
        return
    fi
    rbee_members "$1"
    RBEE_M=
    for RBEE_P in $MEMBERS; do RBEE_M="$RBEE_M /proc/$RBEE_P/status"; done
    # shellcheck disable=SC2086 # paths
    [ -z "$RBEE_M" ] || MEMORY=$(awk '/^VmHWM:/ { p += $2 } /^RssAnon:|^RssShmem:/ { a += $2 } /^RssFile:/ { f += $2 }
        END { if (p) print a + 0, f + 0, p }' $RBEE_M 2>/dev/null)
}

# Each thread has children of its own. Not every kernel tells them.
rbee_childless() {
    for RBEE_F in "/proc/$1/task"/*/children; do
        [ -r "$RBEE_F" ] || return 1
        RBEE_L=
        { IFS= read -r RBEE_L <"$RBEE_F"; } 2>/dev/null
        [ -z "$RBEE_L" ] || return 1
    done
}

# rbee_detach SCRIPT [ARG]...: run it in a session of its own. DETACHED is what tells that process.
rbee_detach() {
    rbee_session sh "$@" </dev/null >/dev/null 2>&1 &
    rbee_started $!
    DETACHED="$! $STARTED"
}

# rbee_size FILE: BYTES, 0 when there is none. Not by wc, which may read it all. GNU's `stat -f` tells of the file
# system, and did when a file came into being between the two.
rbee_size() {
    BYTES=
    [ ! -f "$1" ] || BYTES=$(stat -L -c %s "$1" 2>/dev/null || stat -L -f %z "$1" 2>/dev/null)
    case $BYTES in '' | *[!0-9]*) BYTES=0 ;; esac
}

# rbee_connections DIR: CONNS lists the connections its worker has accepted, or that wait to be, but for those
# that its supervisor calls stale.
rbee_connections() {
    rbee_all_connections "$1"
    [ -n "$CONNS" ] || return 0
    rbee_get "$1/stale"
    [ -n "$GOT" ] || return 0
    RBEE_ALL=$CONNS
    CONNS=
    for RBEE_C in $RBEE_ALL; do
        case " $GOT " in *" $RBEE_C "*) ;; *) CONNS="$CONNS $RBEE_C" ;; esac
    done
}

# /proc/net/unix: flags 00010000 is the listening socket itself; the path stays what it was at bind, and fills
# the rest of its line whatever it holds. Another user's may hold a newline, and then lines of his own.
rbee_all_connections() {
    CONNS=
    rbee_get "$1/socket"
    if [ -n "$GOT" ] && [ -r /proc/net/unix ]; then
        CONNS=$(RBEE_SOCK=$GOT awk 'BEGIN { p = ENVIRON["RBEE_SOCK"] }
            index($0, p) && $4 != "00010000" && $7 ~ /^[0-9]+$/ { inode = $7
                sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ +[^ ]+ /, "")
                if ($0 == p) printf " %s", inode }' /proc/net/unix)
    elif [ -n "$GOT" ]; then
        CONNS=$(netstat -an -f unix 2>/dev/null | RBEE_SOCK=$GOT awk 'BEGIN { p = " " ENVIRON["RBEE_SOCK"] }
            substr($0, length($0) - length(p) + 1) == p && $6 != 0 { printf " %s", $1 }')
    else
        rbee_get "$1/port"
        [ -n "$GOT" ] || return 0
        if [ -r /proc/net/tcp ]; then
            CONNS=$(awk -v p="$(printf ':%04X' "$GOT")" \
                '$4 == "01" && ($2 == "0100007F" p || $2 == "7F000001" p) { printf " %s", $3 }' /proc/net/tcp)
        else
            CONNS=$(netstat -an -f inet 2>/dev/null | awk -v p="127.0.0.1.$GOT" \
                '$6 == "ESTABLISHED" && $4 == p { printf " %s", $5 }')
        fi
    fi
}

# The lock of this node's workers: a symlink whose target names its holder, so that taking it and signing
# it are one step. Nobody holds it across a round trip. rbee_lock PID: for at most 10 s.
rbee_lock() {
    rbee_started "$1"
    RBEE_ME="$1 $STARTED $BOOT"
    RBEE_N=0
    RBEE_NAP=5
    until ln -s "$RBEE_ME" "$ROOT/lock" 2>/dev/null; do
        RBEE_H=$(readlink "$ROOT/lock" 2>/dev/null)
        if [ -n "$RBEE_H" ]; then
            if rbee_holder_lives "$RBEE_H" || ! rbee_break_lock "$RBEE_H"; then rbee_nap; fi
        fi
        RBEE_N=$((RBEE_N + RBEE_NAP))
        [ "$RBEE_N" -gt 1000 ] || continue
        [ -z "$RBEE_H" ] || {
            printf 'locked\t%s\n' "$RBEE_H"
            return 75
        }
        rbee_unable 'cannot write' "$ROOT"
        return 73
    done
}

rbee_holder_lives() {
    [ "${1##* }" = "$BOOT" ] && rbee_alive "${1% *}"
}

# rbee_break_lock HOLDER: remove the lock of one that died. Two that both saw it dead must not remove, one after
# the other, first its lock and then the living one that followed: only whose claim on this very holder stands
# may. Who dies with a claim is itself dead with a name, and the claim on that name gives the same right.
rbee_break_lock() {
    until ln -s "$RBEE_ME" "$ROOT/claim $1" 2>/dev/null; do
        set -- "$(readlink "$ROOT/claim $1" 2>/dev/null)" "$@"
        [ -n "$1" ] && ! rbee_holder_lives "$1" || return
    done
    [ "$(readlink "$ROOT/lock" 2>/dev/null)" != "$RBEE_H" ] || rm -f "$ROOT/lock"
    for RBEE_C in "$@"; do rm -f "$ROOT/claim $RBEE_C"; done
}

rbee_unlock() {
    [ "$(readlink "$ROOT/lock" 2>/dev/null)" != "$RBEE_ME" ] || rm -f "$ROOT/lock"
}

# rbee_state DIR: STATE as design's words, or `orphan`: an engine without a supervisor. A record that is removed
# meanwhile is of one that was stopped, whatever its last files seem to say; its match goes first.
rbee_state() {
    rbee_state_of "$1"
    [ -e "$1/match" ] || STATE=stopped
}

rbee_state_of() {
    rbee_get "$1/boot"
    if [ "$GOT" != "$BOOT" ]; then
        STATE=dead
        [ ! -e "$1/exit" ] || rbee_ended "$1"
        return
    fi
    if [ -e "$1/exit" ]; then
        rbee_ended "$1"
        return
    fi
    rbee_get "$1/supervisor"
    if ! rbee_alive "$GOT"; then
        STATE=dead
        [ ! -e "$1/exit" ] || {
            rbee_ended "$1" # while we looked
            return
        }
        rbee_get "$1/pid"
        ! rbee_alive "$GOT" || STATE=orphan
        return
    fi
    if [ -e "$1/stopping" ]; then
        STATE=stopping
    elif rbee_ready "$1"; then
        rbee_connections "$1"
        STATE=idle
        [ -z "$CONNS" ] || STATE=busy
    else
        STATE=starting
        rbee_get "$1/pid"
        [ -z "$GOT" ] || [ ! -e "$1/late" ] || STATE=loading
        rbee_get "$1/socket"
        [ -z "$GOT" ] || [ ! -S "$GOT" ] || STATE=loading
        rbee_get "$1/port"
        [ -z "$GOT" ] || STATE=loading
    fi
    # While we looked: its socket is gone by then, and it would seem not to have come so far.
    [ ! -e "$1/exit" ] || rbee_ended "$1"
}

rbee_ended() {
    STATE=failed
    [ ! -e "$1/ready" ] || STATE=dead
    [ ! -e "$1/stopping" ] || STATE=stopped
}

# rbee_ready DIR: the engine said so in its log; remembered, because the log is capped. One that listens on a
# port has to have said which. What a model says of itself stands in the log too: behind a `=`.
rbee_ready() {
    [ ! -e "$1/ready" ] || return 0
    rbee_get "$1/ready-pattern"
    [ -n "$GOT" ] || return 1
    grep -F -e "$GOT" "$1/log" 2>/dev/null | RBEE_SAID=$GOT LC_ALL=C awk '
        !index(substr($0, 1, index($0, ENVIRON["RBEE_SAID"])), "=") { found = 1; exit }
        END { exit !found }' || return 1
    rbee_get "$1/port-pattern"
    if [ -n "$GOT" ]; then
        rbee_port "$1"
        [ -e "$1/port" ] || return 1
    fi
    rbee_mark "$1/ready"
    return 0
}

# rbee_port DIR: the port a `listen = "tcp"` engine got: one that it says in its log, and that it has. A model can
# put any number into the log, and whoever listens there would be shown the key.
rbee_port() {
    [ ! -e "$1/port" ] || return 0
    rbee_get "$1/port-pattern"
    [ -n "$GOT" ] || return 0
    RBEE_SAID=$GOT
    rbee_get "$1/pid"
    rbee_alive "$GOT" && grep -q -F -e "$RBEE_SAID" "$1/log" 2>/dev/null || return 0
    rbee_ports "${GOT%% *}"
    for RBEE_C in $PORTS; do
        ! grep -q -F -e "$RBEE_SAID$RBEE_C" "$1/log" 2>/dev/null || {
            rbee_put "$1/port" "$RBEE_C"
            return
        }
    done
}

# rbee_ports PGID: PORTS are the ports of 127.0.0.1 on which this process group listens. Not whose user does:
# other programs of ours are not meant either.
rbee_ports() {
    if [ ! -r /proc/net/tcp ]; then
        PORTS=$(lsof -nP -a -g "$1" -iTCP -sTCP:LISTEN -Fn 2>/dev/null | sed -n 's/^n127\.0\.0\.1://p')
        return
    fi
    rbee_members "$1"
    PORTS=$(for RBEE_P in $MEMBERS; do ls -ln "/proc/$RBEE_P/fd" 2>/dev/null; done | LC_ALL=C awk '
        # "… 7 -> socket:[4711]"; then the lines of /proc/net/tcp
        FILENAME != "/proc/net/tcp" {
            if (split($0, half, " -> ") == 2 && half[2] ~ /^socket:\[[0-9]+\]$/) held[substr(half[2], 9)] = 1
        }
        FILENAME == "/proc/net/tcp" && $4 == "0A" && $2 ~ /^(0100007F|7F000001):/ && ("" $10 "]") in held {
            port = 0
            for (i = 10; i <= 13; i++) port = port * 16 + index("0123456789ABCDEF", substr($2, i, 1)) - 1
            printf " %d", port
        }' - /proc/net/tcp)
}

# rbee_own DIR WAY: whether this socket, or this port, is that of a worker of ours that runs: nobody else may be shown
# its key. To be asked once the channel is open: what is the worker's now has been so since it was started.
rbee_own() {
    [ -e "$1/match" ] || return 1
    rbee_state "$1"
    case $STATE in starting | loading | idle | busy) ;; *) return 1 ;; esac
    rbee_get "$1/socket"
    if [ -n "$GOT" ]; then
        [ "$GOT" = "$2" ] && [ -S "$2" ] && rbee_alone "${2%/*}"
        return
    fi
    rbee_get "$1/port"
    [ "$GOT" = "$2" ] || return 1
    rbee_get "$1/pid"
    rbee_ports "${GOT%% *}"
    for RBEE_C in $PORTS; do [ "$RBEE_C" != "$2" ] || return 0; done
    return 1
}

# rbee_busy DIR: RBEE_BUSY says why it is not idle after all, '' when it is: a connection, a request that is about
# to come, or more than 1 % of one tick computed since the last one.
rbee_busy() {
    rbee_connections "$1"
    RBEE_BUSY=${CONNS:+busy}
    [ -n "$RBEE_BUSY" ] || [ ! -e "$1/used" ] || RBEE_BUSY='used a moment ago'
    if [ -z "$RBEE_BUSY" ]; then
        rbee_get "$1/cpu"
        RBEE_OLD=$GOT
        rbee_get "$1/pid"
        rbee_cpu "${GOT%% *}"
        [ $((CPU - ${RBEE_OLD:-0})) -le "$RBEE_TICK" ] || RBEE_BUSY='used a moment ago'
    fi
}

# rbee_retire DIR DRAIN TERM: mark it as stopping and wake its supervisor, which ends it. Under the lock.
# DRAIN: seconds for running requests; `idle`: only if there is none, else status 1 and nothing changed.
# The socket goes first: who connected before is seen by the look, who comes later finds no worker here.
rbee_retire() {
    rbee_get "$1/socket"
    RBEE_SOCK=$GOT
    rbee_ours "${RBEE_SOCK%/*}" || RBEE_SOCK=
    [ -z "$RBEE_SOCK" ] || mv -f "$RBEE_SOCK" "$RBEE_SOCK.away" 2>/dev/null
    if [ "$2" = idle ]; then
        rbee_busy "$1"
        if [ -n "$RBEE_BUSY" ]; then
            [ -z "$RBEE_SOCK" ] || mv -f "$RBEE_SOCK.away" "$RBEE_SOCK" 2>/dev/null
            return 1
        fi
        rbee_put "$1/stopping" "0 $3"
    else
        rbee_put "$1/stopping" "$2 $3"
    fi
    rbee_get "$1/supervisor"
    ! rbee_alive "$GOT" || kill -TERM "${GOT%% *}" 2>/dev/null
    return 0
}

# rbee_signal NAME PID: to its process group; to itself in the moment in which it has none yet.
rbee_signal() { kill "-$1" "-$2" 2>/dev/null || kill "-$1" "$2" 2>/dev/null; }

# rbee_kill_orphan DIR: an engine whose supervisor was killed. Found by its record, or by RBEE_WORKER in
# its environment when the supervisor died before it wrote one. A record of another boot names nobody.
rbee_kill_orphan() {
    rbee_ready "$1"
    rbee_get "$1/boot"
    if [ "$GOT" = "$BOOT" ]; then
        rbee_get "$1/pid"
        ! rbee_alive "$GOT" || rbee_signal KILL "${GOT%% *}"
    fi
    # shellcheck disable=SC2013 # paths of /proc hold no blanks
    for RBEE_E in $(grep -l -F -e "RBEE_WORKER=${1##*/}" /proc/[0-9]*/environ 2>/dev/null); do
        RBEE_E=${RBEE_E#/proc/}
        kill -KILL "${RBEE_E%/environ}" 2>/dev/null
    done
    [ -e "$1/exit" ] || rbee_put "$1/exit" 137
}

# rbee_forget DIR: remove the record and what it left elsewhere.
rbee_forget() {
    rm -f "$1/match"
    rbee_get "$1/socket"
    rbee_unsocket "$GOT"
    # A supervisor whose engine was killed may be writing down how it ended.
    for RBEE_N in 1 2 3 4 5 6 7 8 9 10; do
        rm -rf "$1" 2>/dev/null && return
        rbee_nap
    done
}

# rbee_clear DIR: end and remove what a start that was cut short left. Under the lock, where none is under way.
rbee_clear() {
    [ -d "$1" ] && [ ! -L "$1" ] || return 0
    rbee_kill_orphan "$1"
    rbee_forget "$1"
}
