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
    rbee_await_end $((DRAIN + GRACE)) "$@"
}

# rbee_await_end SECONDS ID…: until each has ended; says so; removes its record. Their supervisors have SECONDS for
# it, and one more. Who is late does not run any more: somebody has stopped it, say (SIGSTOP).
rbee_await_end() {
    rbee_clock
    WORD=$CLOCK
    END=$((CLOCK + $1 * 100 + 100))
    shift
    for ID in "$@"; do
        DIR=$ROOT/workers/$ID
        if [ ! -e "$DIR/match" ]; then
            printf 'unknown\t%s\n' "$ID"
            continue
        fi
        while rbee_runs "$DIR" && [ "$CLOCK" -lt "$END" ]; do
            if [ $((CLOCK - WORD)) -ge 500 ]; then
                WORD=$CLOCK
                printf 'waiting\t%s\n' "$ID" || return 0
            fi
            rbee_nap
            rbee_clock
        done
        if rbee_runs "$DIR" && ! rbee_force "$DIR"; then
            printf 'alive\t%s\n' "$ID"
            continue
        fi
        if [ -e "$DIR/forced" ]; then printf 'forced\t%s\n' "$ID"; fi
        rbee_lock $$ && {
            rbee_forget "$DIR"
            rbee_unlock
        }
        printf 'stopped\t%s\n' "$ID"
    done
}

# rbee_runs DIR: whether its end is still to come.
rbee_runs() {
    rbee_state "$1"
    case $STATE in stopped | dead | failed) return 1 ;; esac
}

# rbee_force DIR: kill it and its supervisor; whether it is gone then.
rbee_force() {
    rbee_lock $$ || return
    rbee_mark "$1/forced"
    rbee_get "$1/supervisor"
    ! rbee_alive "$GOT" || rbee_signal KILL "${GOT%% *}"
    rbee_kill_orphan "$1"
    rbee_unlock
    rbee_get "$1/pid"
    PATIENCE=100
    while rbee_alive "$GOT" && [ "$PATIENCE" -gt 0 ]; do
        rbee_nap
        PATIENCE=$((PATIENCE - RBEE_NAP))
    done
}
