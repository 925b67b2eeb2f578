# Find a worker with this match or start one: look, decide and spawn under the lock, in milliseconds.
# Its arguments are NAME=VALUE as in rbee_values, then "--", then name and text of each file of the engine.

rbee_values() {
    while [ "$1" != -- ]; do
        case $1 in
        id=*) NEW_ID=${1#*=} ;;
        match=*) NEW_MATCH=${1#*=} ;;
        spec=*) NEW_SPEC=${1#*=} ;;           # JSON, one line
        run=*) NEW_RUN=${1#*=} ;;             # the text of run.sh
        supervise=*) NEW_SUPERVISE=${1#*=} ;; # the text of supervise.sh
        lease=*) NEW_LEASE=${1#*=} ;;         # seconds
        ready-pattern=*) NEW_READY=${1#*=} ;;
        port-pattern=*) NEW_PORT=${1#*=} ;; # '' for an engine with a socket
        socket=*) NEW_SOCKET=${1#*=} ;;     # or ''
        late=*) NEW_LATE=${1#*=} ;;         # 1 when the engine binds only after the load, else ''
        patience=*) PATIENCE=${1#*=} ;;     # seconds to wait until it listens
        model=*) MODEL=${1#*=} ;;           # the model file
        # When it was decided that there is memory for it: the workers there were, and the bytes of RAM and of the
        # device that were left beside it; '' for whatever the others take.
        seen=*) SEEN=${1#*=} ;;
        ram-left=*) RAM_LEFT=${1#*=} ;;
        device-left=*) DEVICE_LEFT=${1#*=} ;;
        esac
        shift
    done
}

# Not by rename, as rbee_put does: nobody looks into a directory that is not finished.
rbee_write() { printf '%s' "$2" >"$1"; }
rbee_line() { printf '%s\n' "$2" >"$1"; }

# All of it, or status 1: what was cut in its middle would start something else, and without a key an engine
# serves whoever asks.
rbee_new() {
    DIR=$ROOT/workers/$NEW_ID
    KEY=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    [ ${#KEY} -eq 48 ] &&
        mkdir "$DIR" &&
        rbee_line "$DIR/boot" "$BOOT" &&
        rbee_line "$DIR/spec.json" "$NEW_SPEC" &&
        rbee_write "$DIR/run.sh" "$NEW_RUN" &&
        rbee_line "$DIR/lease" "$NEW_LEASE" &&
        rbee_line "$DIR/ready-pattern" "$NEW_READY" &&
        rbee_line "$DIR/port-pattern" "$NEW_PORT" &&
        rbee_line "$DIR/socket" "$NEW_SOCKET" &&
        { [ -z "$NEW_LATE" ] || rbee_mark "$DIR/late"; } &&
        rbee_write "$DIR/supervise.sh" "$NEW_SUPERVISE" &&
        rbee_mark "$DIR/log" &&
        rbee_line "$DIR/key" "$KEY" || return 1
    while [ "$1" != -- ]; do shift; done
    shift
    while [ $# -ge 2 ]; do
        rbee_write "$DIR/$1" "$2" || return 1
        shift 2
    done
    rbee_detach "$DIR/supervise.sh" "$DIR"
    # The match last: a directory without it is one whose start did not get this far, or that is removed, and nobody
    # looks into it.
    rbee_put "$DIR/supervisor" "$DETACHED" && rbee_put "$DIR/match" "$NEW_MATCH"
}

# rbee_need KEY: NEED is this number of the spec in GOT, 0 where it has none.
rbee_need() {
    NEED=${GOT##*"\"$1\": "}
    NEED=${NEED%%[!0-9]*}
    [ "${#NEED}" -lt 16 ] || NEED=
    NEED=${NEED:-0}
}

# Whether workers that came since take more than was left.
rbee_crowded() {
    RAM=0
    DEVICE=0
    for DIR in "$ROOT"/workers/*/; do
        DIR=${DIR%/}
        case " $SEEN " in *" ${DIR##*/} "*) continue ;; esac
        [ -e "$DIR/match" ] || continue
        rbee_state "$DIR"
        case $STATE in starting | loading | idle | busy) ;; *) continue ;; esac
        rbee_get "$DIR/spec.json"
        rbee_need need_ram
        RAM=$((RAM + NEED))
        rbee_need need_device
        DEVICE=$((DEVICE + NEED))
    done
    [ "$RAM" -gt "${RAM_LEFT:-$RAM}" ] || [ "$DEVICE" -gt "${DEVICE_LEFT:-$DEVICE}" ]
}

rbee_find_or_start() {
    FOUND=
    rbee_sweep
    rbee_lock $$ || return
    for DIR in "$ROOT"/workers/*/; do
        DIR=${DIR%/}
        [ -e "$DIR/match" ] || rbee_clear "$DIR"
        rbee_get "$DIR/match"
        [ "$GOT" = "$NEW_MATCH" ] || continue
        rbee_state "$DIR"
        case $STATE in
        starting | loading | idle | busy)
            FOUND=$DIR
            rbee_mark "$DIR/used" # so that no idle stop comes between this and the request
            rbee_get "$DIR/socket"
            # Renamed by a cleanup that was killed while it looked.
            [ ! -S "$GOT.away" ] || ! rbee_ours "${GOT%/*}" || mv -f "$GOT.away" "$GOT"
            break
            ;;
        # A request that fails again and again must not fill the node.
        *) [ -z "$(find "$DIR" -prune -mmin +60 2>/dev/null)" ] || rbee_forget "$DIR" ;;
        esac
    done
    if [ -n "$FOUND" ]; then
        DIR=$FOUND
        NEW=0
    elif rbee_crowded; then
        rbee_unlock
        printf 'crowded\t1\n'
        return 0
    elif ! rbee_socket_dir "$NEW_SOCKET"; then
        rbee_unlock
        return 73
    else
        rbee_new "$@" 2>/dev/null || {
            rbee_clear "$DIR" 2>/dev/null
            rbee_unsocket "$NEW_SOCKET"
            rbee_unlock
            rbee_unable 'cannot write' "$ROOT/workers/$NEW_ID"
            return 73
        }
        NEW=1
    fi
    rbee_note "$MODEL.json" last_used "$(date +%s)"
    rbee_unlock
    printf 'new\t%s\n' "$NEW"
    rbee_show "$DIR"
    rbee_wait "$DIR"
}

# Until something listens, it ended, or the time is up. A beat each second tells that the node is alive.
rbee_wait() {
    rbee_clock
    BEAT=$CLOCK
    END=$((CLOCK + PATIENCE * 100))
    while [ "$CLOCK" -lt "$END" ]; do
        rbee_port "$1"
        rbee_state "$1"
        [ ! -e "$1/late" ] || [ "$STATE" != loading ] || STATE=starting
        if [ "$STATE" != starting ]; then
            rbee_show "$1"
            # Another look: a socket can be taken away between the two, for a cleanup or a stop.
            [ "$STATE" = starting ] || return 0
        fi
        if [ $((CLOCK - BEAT)) -ge 100 ]; then
            BEAT=$CLOCK
            printf 'waiting\t%s\n' "${1##*/}" || return 0
        fi
        rbee_nap
        rbee_clock
    done
    rbee_show "$1"
}

rbee_values "$@"
rbee_init || return
rbee_find_or_start "$@"
