# What the scripts of the model store share. node/lib/ and owners.sh stand before it.
# shellcheck disable=SC2034 # OWNER, MODELESS: owners.sh
# shellcheck disable=SC2030,SC2031 # GOT is used right after what sets it

# What is left of a transfer stays for a week, to be continued; in minutes.
RBEE_PART_AGE=10080

# rbee_store DIR: STORE is it as an absolute path; "~/" is the home. INCOMING: the directory in it of our partial files.
rbee_store() {
    # shellcheck disable=SC2088 # expanded here, on purpose not by the shell
    case $1 in
    '~') STORE=$HOME ;;
    '~/'*) STORE=$HOME/${1#'~/'} ;;
    *) STORE=$1 ;;
    esac
    STORE=${STORE%/}
    ME=$(id -u)
    INCOMING=.incoming-$ME
    OWNER=''
    MODELESS=''
    umask 022
}

# rbee_incoming: into the directory of our partial files, which are named without a way from then on. Status 1 as
# rbee_enter.
rbee_incoming() {
    rbee_enter "$INCOMING" 077 || return 1
    umask 077
    # What others may read in it is theirs to read, and some of it is for nobody else.
    case $WHO in *' drwx------'*) ;; *) chmod 700 . 2>/dev/null ;; esac
    return 0
}

# rbee_each_incoming COMMAND...: run it in the directories of partial files that are there and ours, AT being their
# names: ours, and that of the version before, which all users shared.
rbee_each_incoming() {
    for AT in "$INCOMING" .incoming; do
        [ ! -d "$STORE/$AT" ] || (! rbee_enter "$AT" 077 || "$@")
    done
}

# rbee_go DIR: whether we are in this directory of the store now, and no link leads there.
rbee_go() {
    cd -P "$STORE" 2>/dev/null || return
    REAL=$PWD
    cd -P "$1" 2>/dev/null && [ "$PWD" = "$REAL/${1#"$STORE"/}" ]
}

# rbee_refused: what rbee_enter had against it.
rbee_refused() { printf 'problem\t%s\t%s\n' "$REASON" "$REFUSED"; }

# rbee_says NOTE WORD...: whether grep finds it in a note. Where others may write, a note may also be a pipe that nobody
# writes to, or have no end.
rbee_says() {
    [ -f "$1" ] || return
    RBEE_J=$1
    shift
    dd if="$RBEE_J" bs=16384 count=1 2>/dev/null | grep -q "$@" 2>/dev/null
}

# rbee_in_place FILE SIZE SHA256 ETAG: whether it is there and may be used; each of the last three may be ''. By the note
# beside it; where others may write, that proves nothing: by what we have proven (DOUBT: not yet), and where nobody has
# told a sum by both. BYTES: its size.
rbee_in_place() {
    DOUBT=
    rbee_size "$1"
    [ -f "$1" ] || return 1
    [ -z "$2" ] || [ "$BYTES" = "$2" ] || return 1
    if rbee_closed "$1"; then
        rbee_noted "$1.json" "$3" "$4"
    elif [ -n "$3" ] || rbee_noted "$1.json" '' "$4"; then
        rbee_proven "$1" "$3"
    else
        return 1
    fi
}

# rbee_noted NOTE SHA256 ETAG: whether a note says that its file is this one.
rbee_noted() {
    ! rbee_differs "$1" || return 1
    if [ -n "$2" ]; then
        rbee_is "$1" "$2"
    else
        [ -z "$3" ] || rbee_says "$1" -F -e "\"revision\":\"$3\""
    fi
}

# rbee_others NOTE: OTHERS, the umask for a model with this note. What only a token opens is for nobody else.
rbee_others() {
    OTHERS=022
    # shellcheck disable=SC1083 # a bracket expression
    case $1 in *'"gated":1'[,}]*) OTHERS=077 ;; esac
}

# rbee_enterable DIR NOTE: whether a model with this note can be put into this directory of the store, and a `problem`
# when not. For a subshell.
rbee_enterable() {
    rbee_others "$2"
    rbee_enter "$1" "$OTHERS" && return
    rbee_refused
    return 1
}

# rbee_settle PART PLACE NOTE SUM: put a partial file, of the directory that we are in, into its place in the store,
# with its note beside it. What is there goes first: it would have the note of another file if this is cut short.
# Status 1 and a `problem` when it cannot be.
rbee_settle() (
    rbee_others "$3"
    case $OTHERS in 022) chmod 644 "$1" ;; *) chmod 600 "$1" ;; esac 2>/dev/null
    rbee_modes "$1"
    PART_ID=${WHO##* }
    PART=$STORE/$INCOMING/${1#./}
    NAME=${2##*/}
    rbee_enterable "${2%/*}" "$3" || exit 1
    [ "$OTHERS" = 022 ] || chmod 700 . 2>/dev/null # from before it was known to be gated
    REFUSED=$STORE/$2
    { rm -f "./$NAME" "./$NAME.json" && printf '%s\n' "$3" >"./$NAME.json" && mv -f "$PART" "./$NAME"; } 2>/dev/null || {
        rbee_refused
        exit 1
    }
    # What was taken from there is what we have seen. It is copied where the two are on different disks.
    rbee_modes "./$NAME"
    WHO=${WHO##* }
    [ "$WHO" = "$PART_ID" ] || {
        rbee_sha256_tool
        GOT=
        [ "${WHO%%:*}" = "${PART_ID%%:*}" ] || [ -z "$SHA256" ] || GOT=$($SHA256 <"./$NAME" 2>/dev/null)
        [ -n "$4" ] && [ "${GOT%% *}" = "$4" ] || {
            rm -f "./$NAME" "./$NAME.json"
            REASON=foreign
            rbee_refused
            exit 1
        }
    }
    rbee_closed "$STORE/$2" || [ -z "$4" ] || {
        rbee_stamp "./$NAME"
        rbee_record "$STORE/$2" "$4"
    }
    rbee_note "./$NAME.json" last_used "$(date +%s)" # by this clock, as each start of a worker writes it
)

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
rbee_differs() { rbee_says "$1" -e '"verified": *0[,}]'; }

# rbee_is NOTE SHA256: whether that is the sum of its file by the note. The digits may stand in other members, too:
# inside of a text, JSON has a backslash before each quotation mark.
rbee_is() { rbee_says "$1" -e "\"sha256\": *\"$2\""; }

# rbee_yields FILE SHA256: whether one with this sum may take its place. Not that of a file with another sum; unless
# that was found to differ, or is not what its directory is called after and the new one is.
rbee_yields() {
    [ -e "$1" ] && rbee_says "$1.json" -e '"sha256":' || return 0
    ! rbee_differs "$1.json" && ! rbee_is "$1.json" "$2" || return 0
    RBEE_D=${1%/*}
    RBEE_D=${RBEE_D##*/}
    case $2 in "$RBEE_D"*) ! rbee_is "$1.json" "${RBEE_D}[0-9a-f]*" ;; *) return 1 ;; esac
}

# rbee_find_note SHA256 BYTES: NOTE is that of a model that is there with this sum and size and may be used, else
# empty; without a sum, of any that has the size. OPEN: others may write where it lies. UNPROVEN: the first that would
# have to be proven.
rbee_find_note() {
    RBEE_SUM=$1 RBEE_BYTES=$2 NOTE='' OPEN='' UNPROVEN=''
    RBEE_PATTERN="\"sha256\": *\"$1\""
    [ -n "$1" ] || RBEE_PATTERN="\"size\": *$2[,}]"
    set -- "$STORE"/local/*/*.gguf.json "$STORE"/hf/*/*/*/*.gguf.json "$STORE"/url/*/*/*.gguf.json
    while IFS= read -r RBEE_FILE; do
        [ -z "$NOTE" ] || [ -n "$OPEN" ] || continue
        rbee_size "${RBEE_FILE%.json}"
        [ -n "$RBEE_FILE" ] && [ "$BYTES" -eq "$RBEE_BYTES" ] || continue
        if rbee_closed "${RBEE_FILE%.json}"; then
            rbee_differs "$RBEE_FILE" || NOTE=$RBEE_FILE OPEN=
        elif [ -n "$NOTE" ]; then
            continue
        elif [ -z "$RBEE_SUM" ] || rbee_proven "${RBEE_FILE%.json}" "$RBEE_SUM"; then
            NOTE=$RBEE_FILE OPEN=1
        else
            : "${UNPROVEN:=$DOUBT}"
        fi
    done <<END
$(find "$@" -prune -type f -size -33 -exec grep -l -e "$RBEE_PATTERN" {} + 2>/dev/null)
END
}

# rbee_doubt SUM: tell of the file in UNPROVEN, which would do if it were the one with this SHA-256; status 1 of none.
rbee_doubt() { [ -n "$UNPROVEN" ] && [ ${#1} -eq 64 ] && printf 'unproven\t%s\t%s\n' "$1" "$UNPROVEN"; }

# Under the lock, in rbee_incoming's directory. Partial files that nobody has continued for too long, and what killed
# transfers and fetches left.
rbee_expire() {
    for OLD in ./*.part.owner; do
        [ -f "$OLD" ] || continue
        rbee_get "$OLD"
        [ -n "$GOT" ] && rbee_holder_lives "$GOT" ||
            rm -f "$OLD" "${OLD%.owner}.sum" "${OLD%.owner}.whole" "${OLD%.owner}.taken"
    done
    rbee_forget_fetches "$RBEE_PART_AGE"
    for OLD in ./*.part; do
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
