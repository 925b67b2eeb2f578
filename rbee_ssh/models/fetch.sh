# Bring files into one directory of the store, by a process that outlives this connection; or find them there;
# or follow the process that brings them already.
# $1 `look`, `start` or `stop`; $2 the store ("~/" is the home), $3 the directory in it; $4 seconds to follow;
# $5 tries, $6 first wait (ms), $7 stall (s) of the process; $8 its script; $9 node_downloader.py; then for each file:
# name, size or '', SHA-256 or '', ETag without its quotes or '', note. With `start`, on stdin: the URL of each file, a
# line each.
# The process brings them in this order. The last one is the one that an engine is given: if it is there, all are.
# shellcheck disable=SC2034 # UNPROVEN is store.sh's

# The same bytes from another source or under another name are linked, not fetched. $1 path, $2 size, $3 SHA-256,
# $4 note.
rbee_link() {
    [ -n "$2" ] && [ -n "$3" ] && rbee_yields "$1" "$3" || return 1
    rbee_find_note "$3" "$2"
    # What others may have changed before it is opened again is not handed on.
    [ -n "$NOTE" ] && [ -z "$OPEN" ] || return 1
    rbee_others "$4"
    (rbee_enter "$PLACE" "$OTHERS" && ln -f "${NOTE%.json}" "./${1##*/}" && rm -f "./${1##*/}.json" &&
        printf '%s\n' "$4" >"./${1##*/}.json") 2>/dev/null
}

# ABSENT: how many are not there, or have to be proven first, which is told. NEED: bytes that are still to come, as far as sizes are known.
rbee_survey() {
    ABSENT=0
    NEED=0
    N=0
    while [ $# -ge 5 ]; do
        N=$((N + 1))
        if ! rbee_in_place "$TO/$1" "$2" "$3" "$4" && {
            UNPROVEN=$DOUBT
            rbee_doubt "$3" || ! rbee_link "$TO/$1" "$2" "$3" "$5"
        }; then
            ABSENT=$((ABSENT + 1))
            rbee_size "$PARTS-$N.part"
            NEED=$((NEED + ${2:-$BYTES} - BYTES))
        fi
        shift 5
    done
}

# DONE: bytes that are here.
rbee_done() {
    DONE=0
    N=0
    while [ $# -ge 5 ]; do
        N=$((N + 1))
        rbee_in_place "$TO/$1" "$2" "$3" "$4" || rbee_size "$PARTS-$N.part"
        DONE=$((DONE + BYTES))
        shift 5
    done
}

rbee_files() {
    while [ $# -ge 5 ]; do
        STAT=$(stat -L -c '%s %Y' "$TO/$1" 2>/dev/null || stat -L -f '%z %m' "$TO/$1")
        printf 'file\t%s\t%s\t%s\n' "${STAT% *}" "${STAT#* }" "$TO/$1"
        shift 5
    done
}

# Until it ends, wants something, or the time is up. A line each second tells that the node is alive.
rbee_follow() {
    BEATS=$(($1 * 4))
    shift
    WAS=
    while :; do
        # In this order: what it wrote before it ended is seen.
        rbee_get "$FETCH/job"
        rbee_alive "$GOT" && LIVES=1 || LIVES=
        rbee_get "$FETCH/state"
        rbee_done "$@"
        [ "$DONE $GOT" = "$WAS" ] && [ $((BEATS % 4)) -ne 0 ] || printf 'at\t%s\t%s\n' "$DONE" "$GOT" || return 0
        WAS="$DONE $GOT"
        case $GOT in
        'done')
            [ ! -e "$FETCH/unverified" ] || printf 'unverified\t1\n'
            rbee_files "$@"
            return 0
            ;;
        failed* | expired*) return 0 ;;
        esac
        [ -n "$LIVES" ] || {
            printf 'at\t%s\tgone\n' "$DONE"
            return 0
        }
        BEATS=$((BEATS - 1))
        [ "$BEATS" -gt 0 ] || return 0
        sleep 0.25 2>/dev/null || {
            sleep 1
            BEATS=$((BEATS - 3))
        }
    done
}

# The links go in whether the process is new or waits for one.
rbee_links() {
    N=0
    while IFS= read -r LINK; do
        N=$((N + 1))
        [ -z "$LINK" ] || rbee_put "$FETCH/$N.url" "$LINK" || return 1
    done
}

rbee_spawn() {
    rm -rf "$FETCH"
    mkdir -p "$FETCH" 2>/dev/null && printf '%s' "$1" >"$FETCH/job.sh" && printf '%s' "$2" >"$FETCH/get.py" &&
        rbee_put "$FETCH/state" beginning && rbee_links || return 1
    shift 2
    rbee_detach "$FETCH/job.sh" "$FETCH" "$STORE" "$PLACE" "$PARTS" "$TRIES" "$WAIT" "$STALL" "$@"
    rbee_put "$FETCH/job" "$DETACHED"
}

# Under the lock. NEXT: what to do afterwards.
rbee_decide() {
    NEXT=follow
    rbee_get "$FETCH/job"
    if rbee_alive "$GOT"; then
        case $MODE in
        start)
            # Before the link: once it has that, it speaks for itself.
            rbee_get "$FETCH/state"
            case $GOT in expired*) rbee_put "$FETCH/state" renewed ;; esac
            rbee_links || NEXT=unwritable
            ;;
        stop)
            rbee_signal KILL "${GOT%% *}"
            rm -f "$FETCH"/*.url # signed links: its own end would have removed them
            rbee_put "$FETCH/state" 'failed stopped'
            NEXT=
            ;;
        esac
        return
    fi
    [ "$MODE" != stop ] || {
        NEXT=
        return
    }
    [ -n "$CLOSED" ] || rbee_expire
    rbee_survey "$@"
    rbee_free .
    FREE=$RBEE_FREE
    if [ "$ABSENT" -eq 0 ]; then
        rm -rf "$FETCH"
        NEXT=present
    elif [ -n "$CLOSED" ]; then
        NEXT=closed
    elif [ -n "$FREE" ] && [ $((NEED / 1024 + 65536)) -gt "$FREE" ]; then
        NEXT=short
    elif [ "$MODE" = look ]; then
        NEXT=absent
    elif ! (rbee_enterable "$PLACE" "$5"); then # before it is fetched
        NEXT=
    else
        printf 'new\t1\n'
        rbee_spawn "$JOB" "$GET_PY" "$@" || NEXT=unwritable
    fi
}

rbee_fetch() {
    MODE=$1 STORE=$2 TRIES=$5 WAIT=$6 STALL=$7 JOB=$8 GET_PY=$9
    rbee_store "$STORE"
    umask 077
    PLACE=$3
    TO=$STORE/$3
    SECONDS_TO_FOLLOW=$4
    shift 9
    # Its end: a file's name holds 255 bytes.
    ID=$(printf '%s' "$TO" | tr -c 'A-Za-z0-9.-' _ | tail -c 180)
    FETCH=$ROOT/fetches/$ID
    # A store can be shared by machines, and a process of another one is not seen here.
    PARTS=./$(printf '%.8s' "$MACHINE")-$ID
    # Of a store that we may not write we can have what is there.
    CLOSED=
    rbee_incoming || CLOSED="$REASON	$REFUSED"
    rbee_lock $$ || return
    rbee_decide "$@"
    rbee_unlock
    case $NEXT in
    present)
        printf 'at\t%s\tpresent\n' 0
        rbee_files "$@"
        ;;
    absent) printf 'at\t%s\tabsent\n' 0 ;;
    closed) printf 'problem\t%s\n' "$CLOSED" ;;
    short) printf 'problem\tshort\t%s\t%s\n' "$NEED" $((FREE * 1024)) ;;
    unwritable) printf 'problem\tdirectory\t%s\n' "$FETCH" ;;
    follow) rbee_follow "$SECONDS_TO_FOLLOW" "$@" ;;
    esac
}

rbee_init || return
rbee_fetch "$@"
