# The lock of this node's workers: a symlink whose target names its holder, so that taking it and signing
# it are one step. Nobody holds it across a round trip. rbee_lock PID: for at most 10 s.
rbee_lock() {
    rbee_started "$1"
    RBEE_ME="$1 $STARTED $BOOT"
    RBEE_WAITED=0
    RBEE_NAP=5
    until ln -s "$RBEE_ME" "$ROOT/lock" 2>/dev/null; do
        RBEE_HOLDER=$(readlink "$ROOT/lock" 2>/dev/null)
        if [ -n "$RBEE_HOLDER" ]; then
            if rbee_holder_lives "$RBEE_HOLDER" || ! rbee_break_lock "$RBEE_HOLDER"; then rbee_nap; fi
        fi
        RBEE_WAITED=$((RBEE_WAITED + RBEE_NAP))
        [ "$RBEE_WAITED" -gt 1000 ] || continue
        [ -z "$RBEE_HOLDER" ] || {
            printf 'locked\t%s\n' "$RBEE_HOLDER"
            return 75
        }
        rbee_unable 'cannot write' "$ROOT"
        return 73
    done
}

rbee_holder_lives() {
    [ "${1##* }" = "$BOOT" ] && rbee_alive "${1% *}"
}

# rbee_break_lock HOLDER: remove the lock of one that died. Two that both saw it dead must not remove, one after
# the other, first its lock and then the living one that followed: only whose claim on this very holder stands
# may. Who dies with a claim is itself dead with a name, and the claim on that name gives the same right.
rbee_break_lock() {
    until ln -s "$RBEE_ME" "$ROOT/claim $1" 2>/dev/null; do
        set -- "$(readlink "$ROOT/claim $1" 2>/dev/null)" "$@"
        [ -n "$1" ] && ! rbee_holder_lives "$1" || return
    done
    [ "$(readlink "$ROOT/lock" 2>/dev/null)" != "$RBEE_HOLDER" ] || rm -f "$ROOT/lock"
    for RBEE_CLAIM in "$@"; do rm -f "$ROOT/claim $RBEE_CLAIM"; done
}

rbee_unlock() {
    [ "$(readlink "$ROOT/lock" 2>/dev/null)" != "$RBEE_ME" ] || rm -f "$ROOT/lock"
}
