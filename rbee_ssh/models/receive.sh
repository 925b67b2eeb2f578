# Take a file from stdin into our partial files, from where an earlier transfer of it stopped, and print its SHA-256.
# $1 the store, $2 the transfer's key, $3 the file's size, $4 its SHA-256 or '' when that is not known yet,
# $5 'take' to end another command's transfer of it, 'anew' to begin at its first byte, $6 its place in the store
# or '' when any will do, $7 node_receiver.py; then of each file that comes after it: place, key, size.

# Under the lock. The part is ours, or status 75: somebody who lives is at it.
rbee_claim() {
    rbee_get "$PART.owner"
    if [ -n "$GOT" ] && rbee_holder_lives "$GOT"; then
        [ "$1" = take ] || {
            printf 'owner\t%s\n' "$GOT"
            rbee_size "$PART"
            printf 'busy\t%s\n' "$BYTES"
            return 75
        }
        OTHER=${GOT% *}
        # One that was stopped hears no TERM.
        for RBEE_SIGNAL in TERM KILL; do
            kill "-$RBEE_SIGNAL" "${OTHER%% *}" 2>/dev/null
            N=0
            while [ "$N" -lt 100 ] && rbee_alive "$OTHER"; do
                rbee_nap
                N=$((N + RBEE_NAP))
            done
        done
        ! rbee_alive "$OTHER" || {
            printf 'problem\tanother transfer of it cannot be ended\n'
            return 75
        }
    fi
    { printf '%s\n' "$RBEE_ME" >"$PART.owner"; } 2>/dev/null || {
        printf 'problem\tdirectory\n'
        return 73
    }
}

rbee_still_ours() {
    rbee_get "$PART.owner"
    [ "$GOT" = "$RBEE_ME" ]
}

# Let python3 take the file: one process that writes and sums. Status 1 when it does not, and has read nothing.
# $PART.taken is made by one of the two, it or us: whoever comes second leaves the bytes to the other.
# On a Mac python3 may be a stub that opens a window.
rbee_python() {
    [ -d /proc/self ] && command -v python3 >/dev/null 2>&1 || return 1
    python3 -I -S -c "$TAKE" "$PART" "$SIZE" "$PART.taken" <&3 3<&- >/dev/null 2>&1 &
    CHILD=$!
    CAT=$CHILD
    N=0
    rbee_get "$PART.taken"
    while [ -z "$GOT" ]; do
        if [ "$N" -ge 500 ] || ! rbee_started "$CHILD"; then
            (set -C && printf '' >"$PART.taken") 2>/dev/null || break
            CAT=
            # shellcheck disable=SC2046 # and what it waits for, which would keep our output open
            kill -KILL "$CHILD" $(cat "/proc/$CHILD/task/$CHILD/children" 2>/dev/null) 2>/dev/null
            return 1
        fi
        rbee_nap
        N=$((N + RBEE_NAP))
        rbee_get "$PART.taken"
    done
}

# The bytes of the part as they come in, up to its full size. It is summed while the network is waited for,
# and without a pipe of tee's small pieces between the network and the disk.
rbee_follow() {
    AT=0
    while [ "$AT" -lt "$SIZE" ] && rbee_still_ours; do
        rbee_size "$PART"
        [ "$BYTES" -ge "$SIZE" ] || BYTES=$((BYTES / 1048576 * 1048576))
        if [ "$BYTES" -gt "$AT" ]; then
            # All is here: what is summed in pieces can be told, and whoever waits knows that it goes on.
            [ "$BYTES" -lt "$SIZE" ] || { printf 'summed\t%s\n' "$AT" >&5; } 2>/dev/null
            [ $((BYTES - AT)) -le 67108864 ] || BYTES=$((AT + 67108864))
            dd if="$PART" bs=1048576 skip=$((AT / 1048576)) count=$(((BYTES - AT + 1048575) / 1048576)) 2>/dev/null ||
                return 0
            AT=$BYTES
        else
            sleep 0.1 2>/dev/null || sleep 1
        fi
    done
    [ "$AT" -lt "$SIZE" ] || rbee_mark "$PART.whole"
}

# These bytes lie elsewhere in the store, as $NOTE says: linked to where they are wanted.
rbee_beside() {
    TO=$STORE/$PLACE
    [ "$NOTE" != "$TO.json" ] || return 0
    # What others may have changed before it is opened again is not handed on.
    [ -z "$OPEN" ] && rbee_yields "$TO" "$WANTED" && (
        rbee_get "$NOTE"
        rbee_others "$GOT"
        # shellcheck disable=SC2153 # rbee_others sets it
        rbee_enter "${PLACE%/*}" "$OTHERS" && ln -f "${NOTE%.json}" "./${PLACE##*/}" && rm -f "./${PLACE##*/}.json" &&
            cat "$NOTE" >"./${PLACE##*/}.json"
    ) 2>/dev/null || return 1
    NOTE=$TO.json
}

# Whether the store has it, and what is said then; without a sum, whether one is worth to be made.
rbee_known() {
    rbee_find_note "$WANTED" "$SIZE"
    [ -n "$NOTE" ] || {
        # What lies elsewhere than it has to cannot be linked there, proven or not.
        [ -z "$PLACE" ] || [ "$UNPROVEN" = "$STORE/$PLACE" ] || return
        rbee_doubt "$WANTED"
        return
    }
    if [ -z "$WANTED" ]; then
        printf 'compare\t1\n'
    elif [ -z "$PLACE" ] || rbee_beside; then
        rbee_stored "${NOTE%.json}"
    else
        return 1
    fi
}

# LATER: bytes of the files that come after this one and are not here, as place, key and size tell.
rbee_later() {
    LATER=0
    while [ $# -ge 3 ]; do
        rbee_size "$STORE/$1"
        [ "$BYTES" -eq "$3" ] && [ -f "$STORE/$1.json" ] || {
            rbee_size "./$2.part"
            LATER=$((LATER + $3 - BYTES))
        }
        shift 3
    done
}

rbee_receive() {
    rbee_store "$1"
    SIZE=$3
    PART=./$2.part
    WANTED=$4
    PLACE=$6
    ! rbee_known || return 0
    rbee_incoming || {
        rbee_refused
        return 73
    }
    rbee_lock $$ || return
    rbee_expire
    # Once more: who was first may have put it into its place since.
    if rbee_known; then
        rbee_unlock
        return
    fi
    rbee_claim "$5"
    CODE=$?
    rbee_unlock
    [ "$CODE" -eq 0 ] || return "$CODE"
    CAT=
    HASH=
    trap 'rbee_let_go' EXIT
    trap 'exit 1' HUP INT TERM PIPE
    [ "$5" != anew ] || rm -f "$PART"
    TAKE=$7
    shift 7
    rbee_later "$@"
    rbee_size "$PART"
    [ "$BYTES" -le "$SIZE" ] || {
        rm -f "$PART"
        BYTES=0
    }
    rm -f "$PART.whole" "$PART.taken"
    # Made here: a child that is slow to start would make them anew after rbee_let_go has removed them.
    rbee_mark "$PART.sum" && { printf '' >>"$PART"; } 2>/dev/null || {
        printf 'problem\tdirectory\n'
        return 73
    }
    exec 4>"$PART.sum"
    rbee_free .
    printf 'have\t%s\nlater\t%s\nfree\t%s\n' "$BYTES" "$LATER" "$RBEE_FREE"
    # In the background, so that a signal is heard while it waits; where stdin would be /dev/null.
    exec 3<&0 5>&1
    FULL='74'
    rbee_python || {
        FULL='1 153' # 153: by the signal of a file that is as large as it may be (XFSZ)
        rbee_sha256_tool
        [ -z "$SHA256" ] || { rbee_follow 3<&- | $SHA256 >&4 3<&- 5>&-; } 2>/dev/null &
        HASH=$!
        cat <&3 3<&- >>"$PART" 2>/dev/null 4>&- 5>&- &
        CHILD=$!
        CAT=$CHILD
    }
    exec 4>&- 5>&-
    wait "$CHILD" 2>/dev/null # some shells say of what it died
    CODE=$?
    CAT=
    case " $FULL " in
    *" $CODE "*)
        rm -f "$PART"
        printf 'problem\tfull\n'
        return 74
        ;;
    esac
    rbee_size "$PART"
    [ "$BYTES" -eq "$SIZE" ] || {
        [ "$BYTES" -gt 0 ] || rm -f "$PART"
        printf 'problem\tshort\n'
        return 74
    }
    [ -z "$HASH" ] || wait "$HASH"
    rbee_get "$PART.sum"
    # Whoever read it was killed before its end, and what was summed is a beginning.
    [ -z "$HASH" ] || [ -e "$PART.whole" ] || GOT=
    if [ -z "$GOT" ]; then
        rbee_sha256_tool
        [ -z "$SHA256" ] || GOT=$($SHA256 <"$PART")
    fi
    printf 'received\t%s\nsha256\t%s\n' "$SIZE" "${GOT%% *}"
}

rbee_let_go() {
    # What is called python3 may have started the one that writes.
    rbee_get "$PART.taken"
    # shellcheck disable=SC2086
    [ -z "$CAT" ] || kill "$CAT" $GOT 2>/dev/null
    rm -f "$PART.sum" "$PART.whole" "$PART.taken"
    ! rbee_still_ours || rm -f "$PART.owner"
}

rbee_init && rbee_receive "$@"
