# Stop workers: mark them under the lock, let their supervisors drain and end them, wait, remove the records.
# $1 seconds to drain, $2 seconds between TERM and KILL; then the ids.

rbee_stop() {
    DRAIN=$1
    GRACE=$2
    shift 2
    rbee_lock $$ || return
    for ID in "$@"; do
        DIR=$ROOT/workers/$ID
        [ -e "$DIR/match" ] || continue
        rbee_state "$DIR"
        case $STATE in
        starting | loading | idle | busy | stopping) rbee_retire "$DIR" "$DRAIN" "$GRACE" ;;
        orphan) rbee_kill_orphan "$DIR" ;;
        esac
    done
    rbee_unlock
    rbee_await_end $(((DRAIN + GRACE + 10) * 20)) "$@"
}

# rbee_await_end BEATS ID…: until each has ended; says so; removes its record.
rbee_await_end() {
    BEATS=$1
    shift
    for ID in "$@"; do
        DIR=$ROOT/workers/$ID
        if [ ! -e "$DIR/match" ]; then
            printf 'unknown\t%s\n' "$ID"
            continue
        fi
        while rbee_state "$DIR" && [ "$BEATS" -gt 0 ]; do
            case $STATE in
            starting | loading | idle | busy | stopping | orphan)
                BEATS=$((BEATS - 1))
                [ $((BEATS % 100)) -ne 0 ] || printf 'waiting\t%s\n' "$ID" || return 0
                rbee_nap
                ;;
            *) break ;;
            esac
        done
        case $STATE in
        stopped | dead | failed)
            if [ -e "$DIR/forced" ]; then printf 'forced\t%s\n' "$ID"; fi
            rbee_lock $$ && {
                rbee_forget "$DIR"
                rbee_unlock
            }
            printf 'stopped\t%s\n' "$ID"
            ;;
        *) printf 'alive\t%s\n' "$ID" ;;
        esac
    done
}
