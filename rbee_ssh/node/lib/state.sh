# What a worker is doing.
# shellcheck disable=SC2034 # STATE: everywhere

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
    grep -F -e "$GOT" "$1/log" 2>/dev/null | RBEE_PATTERN=$GOT LC_ALL=C awk '
        !index(substr($0, 1, index($0, ENVIRON["RBEE_PATTERN"])), "=") { found = 1; exit }
        END { exit !found }' || return 1
    rbee_get "$1/port-pattern"
    if [ -n "$GOT" ]; then
        rbee_port "$1"
        [ -e "$1/port" ] || return 1
    fi
    rbee_mark "$1/ready"
    return 0
}
