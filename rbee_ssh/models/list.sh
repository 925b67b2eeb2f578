# What the store holds, and the time there. $1 the store. One line `file`: size, mtime, place; with `note` behind it where it has one;
# `part`: size, mtime and place of what is on its way or was cut.
# At most 1000 of each: a node that has more is broken or hostile.

rbee_list() {
    rbee_store "$1"
    printf 'store\t%s\nnow\t%s\n' "$STORE" "$(date +%s)"
    LEFT=1000
    for FILE in "$STORE"/local/*/*.gguf "$STORE"/hf/*/*/*/*.gguf "$STORE"/url/*/*/*.gguf; do
        case $FILE in *[[:cntrl:]]*) continue ;; esac
        [ -f "$FILE" ] && [ "$LEFT" -gt 0 ] || continue
        LEFT=$((LEFT - 1))
        rbee_show_file file "$FILE"
        [ ! -f "$FILE.json" ] || rbee_size "$FILE.json"
        # Not a larger one: the shell reads it byte by byte.
        [ -f "$FILE.json" ] && [ "$BYTES" -le 4096 ] || continue
        rbee_get "$FILE.json"
        printf 'note\t%s\n' "$GOT"
    done
    LEFT=1000
    for FILE in "$IN"/*.part; do
        case $FILE in *[[:cntrl:]]*) continue ;; esac
        [ -f "$FILE" ] && [ "$LEFT" -gt 0 ] || continue
        LEFT=$((LEFT - 1))
        rbee_show_file part "$FILE"
    done
    printf 'store end\t\n'
}

rbee_show_file() {
    STAT=$(stat -L -c '%s %Y' "$2" 2>/dev/null || stat -L -f '%z %m' "$2" 2>/dev/null)
    printf '%s\t%s\t%s\t%s\n' "$1" "${STAT% *}" "${STAT#* }" "${2#"$STORE"/}"
}

rbee_list "$@"
