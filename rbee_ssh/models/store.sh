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

# rbee_is NOTE SHA256: whether that is the sum of its file by the note. The digits may stand in other members, too:
# inside of a text, JSON has a backslash before each quotation mark.
rbee_is() { grep -q -e "\"sha256\": *\"$2\"" "$1" 2>/dev/null; }

# rbee_in_place FILE SIZE SHA256 ETAG: whether it is there as the note beside it says; each of the last three may be
# ''. BYTES: its size.
rbee_in_place() {
    rbee_size "$1"
    [ -f "$1" ] && ! rbee_differs "$1.json" || return 1
    [ -z "$2" ] || [ "$BYTES" = "$2" ] || return 1
    if [ -n "$3" ]; then
        rbee_is "$1.json" "$3"
    else
        [ -z "$4" ] || grep -q -F -e "\"revision\":\"$4\"" "$1.json" 2>/dev/null
    fi
}

# rbee_yields FILE SHA256: whether one with this sum may take its place. Not that of a file with another sum; unless
# that was found to differ, or is not what its directory is called after and the new one is.
rbee_yields() {
    [ -e "$1" ] && grep -q '"sha256":' "$1.json" 2>/dev/null || return 0
    ! rbee_differs "$1.json" && ! rbee_is "$1.json" "$2" || return 0
    RBEE_D=${1%/*}
    RBEE_D=${RBEE_D##*/}
    case $2 in "$RBEE_D"*) ! rbee_is "$1.json" "${RBEE_D}[0-9a-f]*" ;; *) return 1 ;; esac
}

# rbee_settle PART FILE NOTE: it gets its name, and its note. What is there goes first: it would have the note of
# another file if this is cut short.
rbee_settle() {
    { mkdir -p "${2%/*}" && rm -f "$2" && printf '%s\n' "$3" >"$2.json" && mv -f "$1" "$2"; } 2>/dev/null || return
    rbee_note "$2.json" last_used "$(date +%s)" # by this clock, as each start of a worker writes it
}

# rbee_find_note SHA256 BYTES: NOTE is that of a model that is there with this sum and size, else empty; without a
# sum, of any that has the size.
rbee_find_note() {
    RBEE_P="\"sha256\": *\"$1\"" RBEE_B=$2 NOTE=
    [ -n "$1" ] || RBEE_P="\"size\": *$2[,}]"
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
