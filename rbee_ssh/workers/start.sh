# Find a worker with this match or start one: look, decide and spawn under the lock, in milliseconds.
# $1 id, $2 match, $3 spec (JSON, one line), $4 run.sh, $5 lease (s), $6 ready pattern, $7 port pattern or '',
# $8 socket or '', $9 '1' when the engine binds only after the load, ${10} supervise.sh,
# ${11} seconds to wait for the socket, ${12} the model file; ${13} the workers that were known when it was decided
# that there is room for this one, ${14} and ${15} the bytes of RAM and of the device that were left beside it, '' for
# whatever it takes; then name and text of each file of the engine.

rbee_spawn() {
    rbee_detach "$1/supervise.sh" "$1"
    rbee_put "$1/supervisor" "$DETACHED"
}

# Not by rename, as rbee_put does: nobody looks into a directory that is not finished.
rbee_write() { printf '%s' "$2" >"$1"; }
rbee_line() { printf '%s\n' "$2" >"$1"; }

# All of it, or status 1: what was cut in its middle would start something else, and without a key an engine
# serves whoever asks.
rbee_new() {
    DIR=$ROOT/workers/$1
    KEY=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    [ ${#KEY} -eq 48 ] &&
        mkdir "$DIR" &&
        rbee_line "$DIR/boot" "$BOOT" &&
        rbee_line "$DIR/spec.json" "$3" &&
        rbee_write "$DIR/run.sh" "$4" &&
        rbee_line "$DIR/lease" "$5" &&
        rbee_line "$DIR/ready-pattern" "$6" &&
        rbee_line "$DIR/port-pattern" "$7" &&
        rbee_line "$DIR/socket" "$8" &&
        { [ -z "$9" ] || rbee_mark "$DIR/late"; } &&
        rbee_write "$DIR/supervise.sh" "${10}" &&
        rbee_mark "$DIR/log" &&
        rbee_line "$DIR/key" "$KEY" || return 1
    MATCH=$2
    shift 15
    while [ $# -ge 2 ]; do
        rbee_write "$DIR/$1" "$2" || return 1
        shift 2
    done
    # Last: a directory without it is one whose start did not get this far, or that is removed, and nobody looks into it.
    rbee_spawn "$DIR" && rbee_put "$DIR/match" "$MATCH"
}

# rbee_told KEY: TOLD is this number of the spec in GOT, 0 where it has none.
rbee_told() {
    TOLD=${GOT##*"\"$1\": "}
    TOLD=${TOLD%%[!0-9]*}
    [ "${#TOLD}" -lt 16 ] || TOLD=
    TOLD=${TOLD:-0}
}

# rbee_crowded KNOWN RAM DEVICE: whether workers that came since take more than was left.
rbee_crowded() {
    RAM=0
    DEVICE=0
    for DIR in "$ROOT"/workers/*/; do
        DIR=${DIR%/}
        case " $1 " in *" ${DIR##*/} "*) continue ;; esac
        [ -e "$DIR/match" ] || continue
        rbee_state "$DIR"
        case $STATE in starting | loading | idle | busy) ;; *) continue ;; esac
        rbee_get "$DIR/spec.json"
        rbee_told need_ram
        RAM=$((RAM + TOLD))
        rbee_told need_device
        DEVICE=$((DEVICE + TOLD))
    done
    [ "$RAM" -gt "${2:-$RAM}" ] || [ "$DEVICE" -gt "${3:-$DEVICE}" ]
}

rbee_find_or_start() {
    FOUND=
    rbee_sweep
    rbee_lock $$ || return
    for DIR in "$ROOT"/workers/*/; do
        DIR=${DIR%/}
        [ -e "$DIR/match" ] || rbee_clear "$DIR"
        rbee_get "$DIR/match"
        [ "$GOT" = "$2" ] || continue
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
    elif rbee_crowded "${13}" "${14}" "${15}"; then
        rbee_unlock
        printf 'crowded\t1\n'
        return 0
    elif ! rbee_socket_dir "$8"; then
        rbee_unlock
        return 73
    else
        rbee_new "$@" 2>/dev/null || {
            rbee_clear "$DIR" 2>/dev/null
            rbee_unsocket "$8"
            rbee_unlock
            rbee_unable 'cannot write' "$ROOT/workers/$1"
            return 73
        }
        NEW=1
    fi
    rbee_note "${12}.json" last_used "$(date +%s)"
    rbee_unlock
    printf 'new\t%s\n' "$NEW"
    rbee_show "$DIR"
    rbee_wait "$DIR" "${11}"
}

# Until something listens, it ended, or the time is up. A beat each second tells that the node is alive.
rbee_wait() {
    rbee_clock
    WORD=$CLOCK
    END=$((CLOCK + $2 * 100))
    while [ "$CLOCK" -lt "$END" ]; do
        rbee_port "$1"
        rbee_state "$1"
        [ ! -e "$1/late" ] || [ "$STATE" != loading ] || STATE=starting
        if [ "$STATE" != starting ]; then
            rbee_show "$1"
            # Another look: a socket can be taken away between the two, for a cleanup or a stop.
            [ "$STATE" = starting ] || return 0
        fi
        if [ $((CLOCK - WORD)) -ge 100 ]; then
            WORD=$CLOCK
            printf 'waiting\t%s\n' "${1##*/}" || return 0
        fi
        rbee_nap
        rbee_clock
    done
    rbee_show "$1"
}

rbee_init || return
rbee_find_or_start "$@"
