# Processes: which one it is, its CPU time and memory, its signals; a nap and a clock.
# shellcheck disable=SC2034 # MEMORY, DETACHED: of the scripts that stand behind this

CLOCK=0

# rbee_started PID: STARTED is what tells this process from a later one with its pid; empty when it is gone
# (a zombie is gone). proc(5): field 22 of stat, counted behind the command's closing bracket; the command may
# hold anything, newlines too. ps tells local time, and machines travel.
rbee_started() {
    STARTED=
    [ -n "$1" ] || return 1
    if [ -d /proc/self ]; then
        RBEE_STAT=
        { while IFS= read -r RBEE_LINE; do RBEE_STAT=$RBEE_STAT$RBEE_LINE; done <"/proc/$1/stat"; } 2>/dev/null
        RBEE_STAT=${RBEE_STAT##*) }
        case $RBEE_STAT in [ZX]*) return 1 ;; esac
        # shellcheck disable=SC2086 # fields
        rbee_fields $RBEE_STAT
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
    RBEE_PID=${1%% *}
    [ -n "$RBEE_PID" ] && rbee_started "$RBEE_PID" && [ "$STARTED" = "${1#* }" ]
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
    RBEE_STATUSES=
    for RBEE_PID in $MEMBERS; do RBEE_STATUSES="$RBEE_STATUSES /proc/$RBEE_PID/status"; done
    # shellcheck disable=SC2086 # paths
    [ -z "$RBEE_STATUSES" ] || MEMORY=$(awk '
        /^VmHWM:/ { p += $2 } /^RssAnon:|^RssShmem:/ { a += $2 } /^RssFile:/ { f += $2 }
        END { if (p) print a + 0, f + 0, p }' $RBEE_STATUSES 2>/dev/null)
}

# Each thread has children of its own. Not every kernel tells them.
rbee_childless() {
    for RBEE_CHILDREN in "/proc/$1/task"/*/children; do
        [ -r "$RBEE_CHILDREN" ] || return 1
        RBEE_LINE=
        { IFS= read -r RBEE_LINE <"$RBEE_CHILDREN"; } 2>/dev/null
        [ -z "$RBEE_LINE" ] || return 1
    done
}

# rbee_detach SCRIPT [ARG]...: run it in a session of its own. DETACHED is what tells that process.
rbee_detach() {
    rbee_session sh "$@" </dev/null >/dev/null 2>&1 &
    rbee_started $!
    DETACHED="$! $STARTED"
}

# rbee_signal NAME PID: to its process group; to itself in the moment in which it has none yet.
rbee_signal() { kill "-$1" "-$2" 2>/dev/null || kill "-$1" "$2" 2>/dev/null; }

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
        IFS=' .' read -r RBEE_SECONDS RBEE_HUNDREDTHS RBEE_REST </proc/uptime
        CLOCK=$((RBEE_SECONDS * 100 + 1$RBEE_HUNDREDTHS - 100))
    else
        CLOCK=$((CLOCK + ${RBEE_NAP:-5}))
    fi
}
