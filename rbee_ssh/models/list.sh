# What the store holds, and the time there. $1 the store. One line `file`: size, mtime, place; with `note` behind it where it has one,
# and `open` where others than we and root may have put it there; `part`: size, mtime and place of what is on its way or was cut.
# At most 1000 of each: a node that has more is broken or hostile. No link is followed.

rbee_list() {
    rbee_store "$1"
    printf 'store\t%s\nnow\t%s\n' "$STORE" "$(date +%s)"
    LEFT=1000
    rbee_look_for_open
    for FILE in "$STORE"/local/*/*.gguf "$STORE"/hf/*/*/*/*.gguf "$STORE"/url/*/*/*.gguf; do
        case $FILE in *[[:cntrl:]]*) continue ;; esac
        [ -f "$FILE" ] && [ ! -L "$FILE" ] && [ "$LEFT" -gt 0 ] && rbee_go "${FILE%/*}" || continue
        LEFT=$((LEFT - 1))
        rbee_show_file file "$FILE" "${FILE#"$STORE"/}"
        [ -z "$OPEN" ] || rbee_closed "$FILE" || printf 'open\t1\n'
        [ ! -L "$FILE.json" ] || continue
        [ ! -f "$FILE.json" ] || rbee_size "$FILE.json"
        # Not a larger one: the shell reads it byte by byte.
        [ -f "$FILE.json" ] && [ "$BYTES" -le 4096 ] || continue
        rbee_get "$FILE.json"
        printf 'note\t%s\n' "$GOT"
    done
    rbee_each_incoming rbee_list_parts
    printf 'store end\t\n'
}

rbee_list_parts() {
    LEFT=1000
    for FILE in ./*.part; do
        case $FILE in *[[:cntrl:]]*) continue ;; esac
        [ -f "$FILE" ] && [ "$LEFT" -gt 0 ] || continue
        LEFT=$((LEFT - 1))
        rbee_show_file part "$FILE" "$AT/${FILE#./}"
    done
}

# OPEN: whether there is anything in the store that others may have put there or can change, so that each file is
# to be looked at.
rbee_look_for_open() {
    OPEN=$(find "$STORE/." \( -type l -o ! -user "$ME" ! -user 0 -o \( -perm -020 -o -perm -002 \) \) -print 2>/dev/null) || OPEN=1
}

# FILE as it is called, its place.
rbee_show_file() {
    STAT=$(stat -L -c '%s %Y' "$2" 2>/dev/null || stat -L -f '%z %m' "$2" 2>/dev/null)
    printf '%s\t%s\t%s\t%s\n' "$1" "${STAT% *}" "${STAT#* }" "$3"
}

rbee_list "$@"
