# Stop what is idle, end what is orphaned, remove the records of what is gone.
# $1 idle seconds, $2 '1' for a dry run, $3 the owner whose workers are meant, '' for any,
# $4 seconds between TERM and KILL.

rbee_owner_is() {
    [ -n "$1" ] || return 0
    rbee_get "$2/owner"
    [ "$GOT" = "$1" ]
}

rbee_cleanup() {
    STOPPED=
    SAID=
    DRY=$2
    rbee_lock $$ || return
    for DIR in "$ROOT"/workers/*/; do
        DIR=${DIR%/}
        ID=${DIR##*/}
        if [ ! -e "$DIR/match" ]; then
            [ -n "$DRY" ] || rbee_clear "$DIR"
            continue
        fi
        rbee_state "$DIR"
        case $STATE in
        stopping) rbee_say kept "$ID" stopping ;;
        starting | loading) rbee_say kept "$ID" "$STATE" ;;
        idle | busy)
            rbee_get "$DIR/idle"
            IDLE=$((${GOT:-0} * RBEE_TICK))
            if ! rbee_owner_is "$3" "$DIR"; then
                rbee_say kept "$ID" 'another control machine started it'
            elif [ "$STATE" = busy ]; then
                rbee_say kept "$ID" busy
            elif [ "$IDLE" -lt "$1" ]; then
                rbee_say kept "$ID" "idle for $IDLE s"
            elif
                rbee_busy "$DIR"
                [ -n "$RBEE_BUSY" ]
            then
                rbee_say kept "$ID" "$RBEE_BUSY"
            elif [ -n "$DRY" ]; then
                rbee_say stopped "$ID"
            elif rbee_retire "$DIR" idle "$4"; then
                STOPPED="$STOPPED $ID"
            else
                rbee_say kept "$ID" "$RBEE_BUSY"
            fi
            ;;
        failed)
            # Its log is what the user still wants to read.
            if [ -n "$(find "$DIR/exit" -mmin +1440 2>/dev/null)" ]; then rbee_prune; fi
            ;;
        *) rbee_prune ;;
        esac
    done
    rbee_unlock
    printf '%s' "$SAID"
    # shellcheck disable=SC2086
    rbee_await_end "$4" $STOPPED
}

rbee_say() {
    SAID="$SAID$1	$2	${3-}
"
}

rbee_prune() {
    rbee_say pruned "$ID"
    [ -z "$DRY" ] || return 0
    [ "$STATE" != orphan ] || rbee_kill_orphan "$DIR"
    [ "$STATE" != dead ] || [ -e "$DIR/exit" ] || rbee_kill_orphan "$DIR"
    rbee_forget "$DIR"
}
