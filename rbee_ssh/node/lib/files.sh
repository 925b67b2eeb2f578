# Files: what is free for them, and how they are written and read.
# shellcheck disable=SC2034 # GOT: everywhere

# rbee_unable WORDS PLACE: why nothing can be done, and that the disk is full if it is.
rbee_unable() {
    RBEE_PATH=$2
    until [ -e "${RBEE_PATH:=/}" ]; do RBEE_PATH=${RBEE_PATH%/*}; done
    rbee_free "$RBEE_PATH"
    RBEE_FULL=
    [ -z "$RBEE_FREE" ] || [ "$RBEE_FREE" -ge 64 ] || RBEE_FULL=': its disk is full'
    printf 'problem\t%s %s%s\n' "$1" "$2" "$RBEE_FULL"
}

# RBEE_FREE: KiB free for FILE. They stand before the percentage; a name before them may hold blanks.
rbee_free() {
    RBEE_FREE=$(df -Pk "$1" 2>/dev/null |
        awk 'NR == 2 { for (i = 2; i <= NF; i++) if ($i ~ /^[0-9]+%$/) { print $(i - 1); exit } }')
}

# rbee_size FILE: BYTES, 0 when there is none. Not by wc, which may read it all. GNU's `stat -f` tells of the file
# system, and did when a file came into being between the two.
rbee_size() {
    BYTES=
    [ ! -f "$1" ] || BYTES=$(stat -L -c %s "$1" 2>/dev/null || stat -L -f %z "$1" 2>/dev/null)
    case $BYTES in '' | *[!0-9]*) BYTES=0 ;; esac
}

# rbee_put FILE VALUE: readers see the old value or the new one, never half of it.
rbee_put() { { printf '%s\n' "$2" >"$1.tmp" && mv -f "$1.tmp" "$1"; } 2>/dev/null; }

# rbee_mark FILE: make it, empty. Not by `:`, with which a file that cannot be made ends the shell (POSIX 2.8.1).
rbee_mark() { { printf '' >"$1"; } 2>/dev/null; }

# rbee_get FILE: its first line in GOT, empty when there is none.
rbee_get() {
    GOT=
    [ -f "$1" ] && [ -r "$1" ] && IFS= read -r GOT <"$1"
    return 0
}

# rbee_rewrite FILE TEXT: give it to a file of ours, in a directory of ours. Nothing is opened through a link that
# somebody else has put there, and who may read it stays the same.
rbee_rewrite() {
    [ -n "$2" ] && [ -f "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && [ -O "${1%/*}" ] || return 0
    (
        case $(ls -ld "$1") in -???------*) umask 077 ;; *) umask 022 ;; esac
        set -C
        rm -f "$1.tmp" && printf '%s\n' "$2" >"$1.tmp" && mv -f "$1.tmp" "$1" || rm -f "$1.tmp"
    ) 2>/dev/null
}

# rbee_note FILE KEY NUMBER: change a number in a note of the model store (models/store.py), or add it. JSON that
# is no such note is left alone.
rbee_note() {
    # Of a file that is not ours to rewrite nothing is read: it may be of any length.
    [ -f "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && grep -q '"last_used":' "$1" 2>/dev/null || return 0
    rbee_rewrite "$1" "$(sed -e "s/\"$2\": *[0-9]*/\"$2\":$3/" -e t -e "s/} *\$/,\"$2\":$3}/" "$1" 2>/dev/null)"
}
