# Whether a worker is idle, and how it is ended and removed.
# shellcheck disable=SC2034 # RBEE_TICK: supervise.sh; RBEE_TRY counts tries

RBEE_TICK=5

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
    for RBEE_ENVIRON in $(grep -l -F -e "RBEE_WORKER=${1##*/}" /proc/[0-9]*/environ 2>/dev/null); do
        RBEE_ENVIRON=${RBEE_ENVIRON#/proc/}
        kill -KILL "${RBEE_ENVIRON%/environ}" 2>/dev/null
    done
    [ -e "$1/exit" ] || rbee_put "$1/exit" 137
}

# rbee_forget DIR: remove the record and what it left elsewhere.
rbee_forget() {
    rm -f "$1/match"
    rbee_get "$1/socket"
    rbee_unsocket "$GOT"
    # A supervisor whose engine was killed may be writing down how it ended.
    for RBEE_TRY in 1 2 3 4 5 6 7 8 9 10; do
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
