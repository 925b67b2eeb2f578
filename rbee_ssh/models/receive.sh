# Take a file from stdin into $IN, from where an earlier transfer of it stopped, and print its SHA-256.
# $1 the store, $2 the transfer's key, $3 the file's size, $4 its SHA-256 or '' when that is not known yet,
# $5 'take' to end another command's transfer of it, 'anew' to begin at its first byte.

# Under the lock. The part is ours, or status 75: somebody who lives is at it.
rbee_claim() {
    rbee_get "$PART.owner"
    if [ -n "$GOT" ] && rbee_holder_lives "$GOT"; then
        [ "$1" = take ] || {
            rbee_size "$PART"
            printf 'busy\t%s\n' "$BYTES"
            return 75
        }
        OTHER=${GOT% *}
        kill -TERM "${OTHER%% *}" 2>/dev/null
        for N in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            rbee_alive "$OTHER" || break
            rbee_nap
        done
        ! rbee_alive "$OTHER" || return 75
    fi
    { printf '%s\n' "$RBEE_ME" >"$PART.owner"; } 2>/dev/null || {
        printf 'problem\tdirectory\n'
        return 73
    }
}

rbee_ours() {
    rbee_get "$PART.owner"
    [ "$GOT" = "$RBEE_ME" ]
}

# The bytes of the part as they come in, up to its full size. It is summed while the network is waited for,
# and without a pipe of tee's small pieces between the network and the disk.
rbee_follow() {
    AT=0
    while [ "$AT" -lt "$SIZE" ] && rbee_ours; do
        rbee_size "$PART"
        [ "$BYTES" -ge "$SIZE" ] || BYTES=$((BYTES / 1048576 * 1048576))
        if [ "$BYTES" -gt "$AT" ]; then
            dd if="$PART" bs=1048576 skip=$((AT / 1048576)) count=$(((BYTES - AT + 1048575) / 1048576)) 2>/dev/null ||
                return 0
            AT=$BYTES
        else
            sleep 0.1 2>/dev/null || sleep 1
        fi
    done
    [ "$AT" -lt "$SIZE" ] || rbee_mark "$PART.whole"
}

rbee_receive() {
    rbee_store "$1"
    SIZE=$3
    PART=$IN/$2.part
    WANTED=$4
    [ -n "$WANTED" ] || WANTED="\"size\": *$SIZE[,}]"
    rbee_find_note "$WANTED" "$SIZE"
    if [ -n "$NOTE" ] && [ -n "$4" ]; then
        rbee_stored "${NOTE%.json}"
        return
    elif [ -n "$NOTE" ]; then
        printf 'compare\t1\n'
        return
    fi
    mkdir -p "$IN" 2>/dev/null || {
        printf 'problem\tdirectory\n'
        return 73
    }
    rbee_lock $$ || return
    rbee_expire
    rbee_claim "$5"
    CODE=$?
    rbee_unlock
    [ "$CODE" -eq 0 ] || return "$CODE"
    CAT=
    trap 'rbee_let_go' EXIT
    trap 'exit 1' HUP INT TERM PIPE
    [ "$5" != anew ] || rm -f "$PART"
    rbee_size "$PART"
    [ "$BYTES" -le "$SIZE" ] || {
        rm -f "$PART"
        BYTES=0
    }
    # Opened here: a child that is slow to start would make it anew after rbee_let_go has removed it.
    rbee_mark "$PART.sum" || {
        printf 'problem\tdirectory\n'
        return 73
    }
    exec 4>"$PART.sum"
    printf 'have\t%s\nfree\t%s\n' "$BYTES" "$(df -Pk "$IN" 2>/dev/null | awk 'NR == 2 { print $4 }')"
    rbee_sha256_tool
    rm -f "$PART.whole"
    [ -z "$SHA256" ] || { rbee_follow | $SHA256 >&4; } 2>/dev/null &
    HASH=$!
    # In the background, so that a signal is heard while it waits; where stdin would be /dev/null.
    exec 3<&0
    cat <&3 >>"$PART" 2>/dev/null 4>&- &
    CAT=$!
    exec 4>&-
    wait "$CAT" || {
        rm -f "$PART"
        printf 'problem\tfull\n'
        return 74
    }
    CAT=
    rbee_size "$PART"
    [ "$BYTES" -eq "$SIZE" ] || {
        [ "$BYTES" -gt 0 ] || rm -f "$PART"
        printf 'problem\tshort\n'
        return 74
    }
    wait "$HASH"
    rbee_get "$PART.sum"
    [ -z "$SHA256" ] || [ -e "$PART.whole" ] || GOT=$($SHA256 <"$PART") # the reader was killed
    printf 'received\t%s\nsha256\t%s\n' "$SIZE" "${GOT%% *}"
}

rbee_let_go() {
    [ -z "$CAT" ] || kill "$CAT" 2>/dev/null
    rm -f "$PART.sum" "$PART.whole"
    ! rbee_ours || rm -f "$PART.owner"
}

rbee_init && rbee_receive "$@"
