# The parent of one engine, on its node: starts it in its own session and process group, counts idle time,
# enforces the lease, ends it in an orderly way, and writes down how it ended. $1: the worker's directory.

DIR=$1
cd "$DIR" || exit 1
rbee_init || exit 1
ID=${DIR##*/}
rbee_started $$
SELF="$$ $STARTED"
STOP=
trap 'STOP=1' TERM INT HUP

# pdeathsig: if we are killed, so is it.
set --
! setpriv --pdeathsig KILL true 2>/dev/null || set -- setpriv --pdeathsig KILL
(
    RBEE_WORKER=$ID
    export RBEE_WORKER
    rbee_session "$@" sh "$DIR/run.sh"
) </dev/null >>"$DIR/log" 2>&1 &
ENGINE=$!
rbee_started "$ENGINE"
rbee_put pid "$ENGINE $STARTED"
ENGINE_ID="$ENGINE $STARTED"

# TERM, a while, KILL; then nobody of the group may be left.
end_group() {
    rbee_get stopping
    GOT=${GOT:-0 30}
    rbee_clock
    KILL_AT=$((CLOCK + ${GOT#* } * 100))
    ! rbee_alive "$ENGINE_ID" || rbee_signal TERM "$ENGINE"
    while rbee_alive "$ENGINE_ID" && [ "$CLOCK" -lt "$KILL_AT" ]; do
        rbee_nap
        rbee_clock
    done
    if rbee_alive "$ENGINE_ID"; then
        rbee_mark forced
        rbee_signal KILL "$ENGINE"
    fi
}

# For as long as was asked for last: a stop that does not wait can follow a patient one.
drain() {
    rbee_clock
    BEGAN=$CLOCK
    while rbee_alive "$ENGINE_ID"; do
        rbee_get stopping
        GOT=${GOT:-0 30}
        [ $((CLOCK - BEGAN)) -lt $((${GOT%% *} * 100)) ] || return 0
        rbee_all_connections "$DIR"
        [ -n "$CONNS" ] || return 0
        rbee_nap
        rbee_clock
    done
}

# One connection counts as use for 30 minutes at most: a channel can be left behind by a client that is
# long gone. SEEN holds "inode:ticks" of the connections of the last tick; `stale`, those that are too old.
fresh_connections() {
    rbee_all_connections "$DIR"
    NOW=
    OLD=
    FRESH=
    for C in $CONNS; do
        AGE=0
        for S in $SEEN; do
            [ "${S%:*}" != "$C" ] || AGE=${S##*:}
        done
        NOW="$NOW $C:$((AGE + 1))"
        if [ "$AGE" -ge $((1800 / RBEE_TICK)) ]; then OLD="$OLD $C"; else FRESH=1; fi
    done
    SEEN=$NOW
    [ "$OLD" = "$STALE" ] || { rbee_put stale "$OLD" && STALE=$OLD; }
    [ -n "$FRESH" ]
}

# The log is the engine's own; it is kept to a few MiB. The engine appends, so it may be cut under it.
cap_log() {
    [ "$(wc -c <log)" -gt 8388608 ] || return 0
    tail -c 1048576 log >log.cut && cat log.cut >log.old && rbee_mark log
    rm -f log.cut
}

# Idle time is counted in ticks, never a difference of clocks: suspend and NTP do no harm.
tick() {
    MYSELF=$(exec sh -c 'echo $PPID')
    IDLE=0
    QUIET=0
    SEEN=
    STALE=
    rbee_cpu "$ENGINE"
    LAST=$CPU
    # Somebody may kill a sleep; the lease is to be kept for all that.
    while sleep "$RBEE_TICK" || sleep 1; do
        if ! rbee_alive "$SELF"; then
            rbee_kill_orphan "$DIR"
            return
        fi
        rbee_alive "$ENGINE_ID" || return
        # A stop whose signal was lost: its sender was killed, or we were not listening yet. Or our directory is
        # gone, and nobody can find us any more.
        if [ -e stopping ] || [ ! -e "$DIR/run.sh" ]; then kill -TERM "${SELF%% *}"; fi
        ACTIVE=
        rbee_cpu "$ENGINE"
        # 1 % of the tick, in hundredths of a second.
        [ $((CPU - LAST)) -le "$RBEE_TICK" ] || ACTIVE=1
        [ "$CPU" = "$LAST" ] && [ -e cpu ] || rbee_put cpu "$CPU"
        LAST=$CPU
        ! fresh_connections || ACTIVE=1
        if [ -e used ]; then
            rm -f used
            ACTIVE=1
        fi
        if [ -n "$ACTIVE" ]; then
            IDLE=0
            QUIET=0
        elif rbee_ready "$DIR" || [ "$QUIET" -ge $((60 / RBEE_TICK)) ]; then
            IDLE=$((IDLE + 1))
        else
            # Loading counts as use, but one that has done nothing at all for a minute does not load.
            QUIET=$((QUIET + 1))
        fi
        rbee_put idle "$IDLE"
        rbee_port "$DIR"
        cap_log
        rbee_get lease
        if [ $((IDLE * RBEE_TICK)) -gt "${GOT:-3600}" ] && [ ! -e stopping ] && rbee_lock "$MYSELF"; then
            rbee_retire "$DIR" idle 30 || IDLE=0
            rbee_unlock
        fi
    done
}

tick >/dev/null 2>&1 &
TICKER=$!
rbee_started "$TICKER"
TICKER_ID="$TICKER $STARTED"

STATUS=
while :; do
    [ -n "$STOP" ] || wait "$ENGINE"
    STATUS=$?
    if [ -n "$STOP" ]; then
        STOP=
        [ -e stopping ] || rbee_mark stopping # ended by somebody else's TERM: at a logout, say
        drain
        end_group
        wait "$ENGINE"
        RBEE_STATUS=$?
        [ "$RBEE_STATUS" -eq 127 ] || STATUS=$RBEE_STATUS
    fi
    rbee_alive "$ENGINE_ID" || break
done
# The ticker, before the end is told: whoever hears of it removes this directory. KILL, since TERM is lost on a
# shell that was forked a moment ago. Then what it waited for: our group, ours alone, since we came by setsid.
! rbee_alive "$TICKER_ID" || kill -KILL "$TICKER"
wait "$TICKER"
trap '' TERM
kill -TERM 0
# What the engine left running in its group.
kill -KILL "-$ENGINE" 2>/dev/null
rbee_ready "$DIR"
rbee_put exit "$STATUS"
rbee_get socket
rbee_unsocket "$GOT"
rm -f key used
