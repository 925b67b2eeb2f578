# Put a file that came in whole into its place in the store, with its note.
# $1 the store, $2 the transfer's key, $3 size, $4 place in the store, $5 note, $6 SHA-256, or $6 'away': forget it.
rbee_place() {
    rbee_store "$1"
    PART=$IN/$2.part
    TO=$STORE/$4
    rbee_lock $$ || return
    rbee_size "$PART"
    GOT_BYTES=$BYTES
    if [ "$6" = away ]; then
        rm -f "$PART"
    elif rbee_in_place "$TO" "$3" "$6" ''; then
        # Another command was first. Its file stays: a worker may have it.
        rm -f "$PART"
        rbee_stored "$TO"
    elif [ "$GOT_BYTES" -ne "$3" ]; then
        printf 'problem\tshort\n'
    elif ! rbee_yields "$TO" "$6"; then
        printf 'problem\tother\n'
    elif rbee_settle "$PART" "$TO" "$5"; then
        rbee_stored "$TO"
    else
        printf 'problem\tdirectory\n'
    fi
    rbee_unlock
}

rbee_init && rbee_place "$@"
