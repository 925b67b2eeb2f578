# What the scripts of the model store share. lib.sh stands before it.

# What is left of a transfer stays for a week, to be continued; in minutes.
RBEE_PART_AGE=10080

# rbee_store DIR: STORE is it as an absolute path; "~/" is the home.
rbee_store() {
    case $1 in
    '~') STORE=$HOME ;;
    '~/'*) STORE=$HOME/${1#'~/'} ;;
    *) STORE=$1 ;;
    esac
    IN=$STORE/.incoming
    umask 022
}

# SHA256 is the fastest program for it here that gives the right sum of nothing; empty when there is none.
# Where the CPU has instructions for it, OpenSSL uses them, and GNU's sha256sum is three times slower.
rbee_sha256_tool() {
    for SHA256 in 'openssl dgst -sha256 -r' sha256sum 'shasum -a 256' 'busybox sha256sum' ''; do
        [ -n "$SHA256" ] && command -v "${SHA256%% *}" >/dev/null 2>&1 || continue
        case $($SHA256 </dev/null 2>/dev/null) in
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855*) return 0 ;;
        esac
    done
}

# rbee_stored FILE: the lines about a file that is in its place.
rbee_stored() {
    STAT=$(stat -L -c '%s %Y' "$1" 2>/dev/null || stat -L -f '%z %m' "$1")
    printf 'path\t%s\nsize\t%s\nmtime\t%s\n' "$1" "${STAT% *}" "${STAT#* }"
}

# rbee_differs NOTE: whether its file was read again and is something else now (`models verify`).
rbee_differs() { grep -q '"verified": *0[,}]' "$1" 2>/dev/null; }

# rbee_find_note PATTERN BYTES: NOTE is one that matches, of a model that is there and has this size, else empty.
rbee_find_note() {
    RBEE_P=$1 RBEE_B=$2 NOTE=
    set -- "$STORE"/local/*/*.gguf.json "$STORE"/hf/*/*/*/*.gguf.json "$STORE"/url/*/*/*.gguf.json
    while IFS= read -r RBEE_L; do
        rbee_size "${RBEE_L%.json}"
        [ "$BYTES" -ne "$RBEE_B" ] || [ -n "$NOTE" ] || rbee_differs "$RBEE_L" || NOTE=$RBEE_L
    done <<END
$(grep -l -e "$RBEE_P" -- "$@" 2>/dev/null)
END
}

# Under the lock. Partial files that nobody has continued for too long, and what killed transfers and fetches left.
rbee_expire() {
    for OLD in "$IN"/*.part.owner; do
        [ -f "$OLD" ] || continue
        rbee_get "$OLD"
        [ -n "$GOT" ] && rbee_holder_lives "$GOT" ||
            rm -f "$OLD" "${OLD%.owner}.sum" "${OLD%.owner}.whole" "${OLD%.owner}.taken"
    done
    rbee_forget_fetches "$RBEE_PART_AGE"
    for OLD in "$IN"/*.part; do
        [ -z "$(find "$OLD" -prune -mmin +"$RBEE_PART_AGE" 2>/dev/null)" ] || rm -f "$OLD" "$OLD".*
    done
}

# rbee_forget_fetches MINUTES: the directories of fetches that ended or were killed so long ago: of these, links too.
rbee_forget_fetches() {
    for OLD in "$ROOT"/fetches/*/; do
        [ -d "$OLD" ] || continue
        [ "$1" -eq 0 ] || [ -n "$(find "$OLD" -prune -mmin +"$1" 2>/dev/null)" ] || continue
        rbee_get "$OLD/job"
        rbee_alive "$GOT" || rm -rf "$OLD"
    done
}
