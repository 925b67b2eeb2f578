# Stop idle workers to make room for another; whoever is used stays.
# $1 seconds between TERM and KILL; then the ids.

rbee_evict() {
    GRACE=$1
    shift
    STOPPED=
    for ID in "$@"; do
        DIR=$ROOT/workers/$ID
        # What has just answered shows fresh CPU time until the next tick of its supervisor has counted it.
        TRIES=$((RBEE_TICK * 2 + 2))
        while :; do
            rbee_lock $$ || return
            STATE=gone
            [ ! -e "$DIR/match" ] || rbee_state "$DIR"
            RETIRED=
            [ "$STATE" != idle ] || ! rbee_retire "$DIR" idle "$GRACE" || RETIRED=1
            rbee_unlock
            TRIES=$((TRIES - 1))
            [ "$STATE:$RETIRED" = idle: ] && [ "$TRIES" -gt 0 ] || break
            printf 'waiting\t%s\n' "$ID"
            sleep 1
        done
        case $STATE$RETIRED in
        starting | loading | busy | idle | orphan) printf 'kept\t%s\t%s\n' "$ID" "$STATE" ;;
        # Whoever else has stopped it, its memory will be free.
        *) STOPPED="$STOPPED $ID" ;;
        esac
    done
    # shellcheck disable=SC2086
    rbee_await_end "$GRACE" $STOPPED
}
