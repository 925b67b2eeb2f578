# What the node knows of its workers: one block of key<TAB>value lines each. Names no file of another user.

# The text of a log is a stranger's: control characters stay on the node.
# LC_ALL: in a UTF-8 locale the tr of macOS stops at the first byte that is none.
rbee_tail() { tail -n "$2" "$1" 2>/dev/null | tail -c 8192 | LC_ALL=C tr -d '\000-\010\013-\037\177'; }

# rbee_at_home: whether BASE really lies in our home, where nobody else ever makes anything. /tmp is emptied at times,
# and then a name in it is anybody's.
rbee_at_home() {
    if [ -z "${AT_HOME-}" ]; then
        AT_HOME=no
        case $(cd -P "$BASE" && pwd -P) in "$(cd -P "$HOME" && pwd -P)"/*) [ ! -O "$HOME" ] || AT_HOME=yes ;; esac
    fi
    [ "$AT_HOME" = yes ]
}

rbee_show() {
    rbee_state "$1"
    printf 'worker\t%s\nstate\t%s\ndirectory\t%s\n' "${1##*/}" "$STATE" "$1"
    [ "$STATE" != orphan ] || printf 'orphan\t1\n'
    for RBEE_FILE in match spec.json pid boot idle lease exit key socket port cpu; do
        rbee_get "$1/$RBEE_FILE"
        [ -z "$GOT" ] || printf '%s\t%s\n' "$RBEE_FILE" "$GOT"
    done
    rbee_get "$1/socket"
    case $GOT in "$BASE"/*) ! rbee_at_home || printf 'private\t1\n' ;; esac
    [ "$STATE" != busy ] || printf 'connections\t%s\n' "$(printf '%s' "$CONNS" | wc -w)"
    case $STATE in
    loading | idle | busy)
        rbee_get "$1/pid"
        rbee_memory "${GOT%% *}"
        [ -z "$MEMORY" ] || printf 'memory\t%s\n' "$MEMORY"
        ;;
    esac
    printf 'log-size\t%s\n' "$({ wc -c <"$1/log"; } 2>/dev/null)"
    [ ! -e "$1/forced" ] || printf 'forced\t1\n'
    case $STATE in
    failed | dead)
        rbee_tail "$1/log" 20 | while IFS= read -r RBEE_LINE || [ -n "$RBEE_LINE" ]; do
            printf 'log\t%s\n' "$RBEE_LINE"
        done
        ;;
    esac
    [ -e "$1/match" ] || printf 'state\tstopped\n' # while we looked; the last word counts
    printf 'end\t%s\n' "${1##*/}"
}

rbee_show_all() {
    printf 'root\t%s\nboot-id\t%s\n' "$ROOT" "$BOOT"
    for DIR in "$ROOT"/workers/*/; do
        DIR=${DIR%/}
        [ ! -e "$DIR/match" ] || rbee_show "$DIR"
    done
}

# Engines whose supervisor was killed are ended by whoever comes next.
rbee_sweep() {
    for DIR in "$ROOT"/workers/*/; do
        DIR=${DIR%/}
        [ -e "$DIR/match" ] || continue
        rbee_get "$DIR/supervisor"
        ! rbee_alive "$GOT" || continue
        rbee_state "$DIR"
        case $STATE in
        orphan) rbee_kill_orphan "$DIR" ;;
        dead)
            rbee_get "$DIR/boot"
            [ "$GOT" != "$BOOT" ] || [ -e "$DIR/exit" ] || rbee_kill_orphan "$DIR"
            ;;
        esac
    done
}
