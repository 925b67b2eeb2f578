# Prove files that others could change: read them, and remember what they are for as long as nothing says that they have
# changed. $1 the store; then for each file its SHA-256 and its path.
# Prints `reading` and the path as each begins, then `same`, `differs`, `gone` or `changes`, and the path.

rbee_prove() {
    rbee_store "$1"
    shift
    rbee_sha256_tool
    [ -n "$SHA256" ] || {
        printf 'problem\tno SHA-256 program\n'
        return 69
    }
    while [ $# -ge 2 ]; do
        printf 'reading\t%s\n' "$2"
        rbee_wait_for_clock "$2"
        BEFORE=$STAMP
        SUM=
        [ -z "$STAMP" ] || SUM=$({ $SHA256 <"$2"; } 2>/dev/null)
        SUM=${SUM%% *}
        rbee_stamp "$2"
        if [ ${#SUM} -ne 64 ]; then
            SAID=gone
        elif [ "$STAMP" != "$BEFORE" ]; then
            SAID=changes
        elif [ "$SUM" = "$1" ]; then
            SAID=same
            rbee_record "$2" "$SUM"
        else
            SAID=differs
            rbee_record "$2" "not $SUM"
        fi
        printf '%s\t%s\n' "$SAID" "$2"
        shift 2
    done
}

# rbee_wait_for_clock FILE: STAMP of it, once it is old enough: of two changes in one tick of the clock, which may be a
# second, a stamp tells nothing.
rbee_wait_for_clock() {
    rbee_stamp "$1"
    # shellcheck disable=SC2086 # words
    set -- "$1" $STAMP
    [ $# -ge 7 ] && [ $(($(date +%s) - ${7%%.*})) -ge 2 ] || sleep 2
    rbee_stamp "$1"
}

rbee_init && rbee_prove "$@"
