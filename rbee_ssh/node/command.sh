# Run a command for its output: several words as they stand, a single one as a line of the login shell.
# $1 is printed on stderr first, to tell a login shell's noise. The command ends when our stdin does: whoever
# asked for it has gone.

rbee_command() {
    printf '\n%s\n' "$1" >&2
    shift
    # SHLVL: or else bash takes this for a login over SSH once more, and reads its .bashrc again.
    [ $# -gt 1 ] || set -- env SHLVL=1 "${SHELL:-/bin/sh}" -c "$1"
    exec 3<&0
    # A group of its own, so that what it has started ends with it.
    { rbee_session "$@" || exec "$@"; } </dev/null 3<&- &
    COMMAND=$!
    {
        # shellcheck disable=SC2034 # until the end; what it says is nothing
        while read -r LINE; do :; done
        trap '' TERM
        kill -TERM "-$COMMAND" || kill -TERM "$COMMAND"
        TICKS=20
        while [ "$TICKS" -gt 0 ] && kill -0 "-$COMMAND"; do
            sleep 0.1 || {
                sleep 1
                TICKS=$((TICKS - 9))
            }
            TICKS=$((TICKS - 1))
        done
        kill -KILL "-$COMMAND"
    } <&3 >/dev/null 2>&1 3<&- &
    WATCH=$!
    exec 3<&-
    wait "$COMMAND"
    STATUS=$?
    kill "$WATCH" 2>/dev/null
    return "$STATUS"
}
rbee_command "$@"
