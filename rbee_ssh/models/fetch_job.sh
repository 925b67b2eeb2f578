# The process on the node that fetches: each file to a partial one, resumed where it stopped, checked, renamed.
# Whoever asked may be gone meanwhile. It runs in the directory of partial files. $1 its own directory, $2 the store,
# $3 the directory in it where the files go, $4 what the names of partial ones begin with, $5 tries that bring nothing,
# $6 first wait (ms), $7 stall (s); then for each file, as in fetch.sh: name, size or '', SHA-256 or '', ETag or '',
# note. The URLs are in the files 1.url, 2.url, …: in no argument.

STEP=1048576 # bytes that make a try a good one
RENEWAL=90   # seconds to wait for a new link, when one has expired

say() { rbee_put "$DIR/state" "$*"; }

fail() {
    say "failed $*"
    rm -f "$DIR"/*.url
    rmdir "$TO" 2>/dev/null
    exit 1
}

# Milliseconds, × 0.5 to 1.5.
pause() {
    sleep "$(awk -v ms="$1" -v r="$(od -An -N2 -tu2 /dev/urandom)" \
        'BEGIN { printf "%.3f", ms * (0.5 + r / 65536) / 1000 }')" 2>/dev/null || sleep 1
}

choose_tool() {
    if curl --version >/dev/null 2>&1; then
        TOOL=curl
    elif wget --version 2>/dev/null | grep -q '^GNU Wget 1'; then
        TOOL=wget
    elif python3 -c 'import ssl' >/dev/null 2>&1; then
        TOOL=python3
    else # busybox's wget checks no certificate and shows its URL to everybody
        fail tool
    fi
}

# Fetch from OFFSET on to the partial file. RC: 0, 23 (it cannot be written), 33 (no ranges), else another failure.
# CODE: the HTTP status, or 000. What a tool says may hold the URL, so it is not kept.
get() {
    case $TOOL in
    curl)
        # From https only to https.
        case $URL in https:*) set -- '=https' ;; *) set -- '=http,https' ;; esac
        set -- --proto "$1" --proto-redir "$1"
        [ "$OFFSET" -eq 0 ] || [ -z "$ETAG" ] || set -- "$@" -H "If-Range: \"$ETAG\""
        CODE=$(printf 'url = "%s"\n' "$URL" | curl -K - -g -f -s -L --max-redirs 5 "$@" --connect-timeout 30 \
            --speed-limit 1 --speed-time "$STALL" -C "$OFFSET" -o "$FILE" -w '%{http_code}' 2>/dev/null)
        RC=$?
        ;;
    wget)
        # It would follow a redirect to ftp, and from https to http: there is no such proxy, for no host.
        case $URL in https:*) set -- -e http_proxy=http://127.0.0.1:9/ -e no_proxy= ;; *) set -- ;; esac
        CODE=$({
            printf '%s\n' "$URL" | LC_ALL=C wget -i - -O "$FILE" -c -S --tries=1 --timeout="$STALL" \
                --max-redirect=5 --progress=dot:giga -e use_proxy=on \
                -e ftp_proxy=http://127.0.0.1:9/ "$@" 2>&1
            echo "rbee-status $?"
        } | awk '/^ *HTTP\// { code = $2 } /^rbee-status / { status = $2 } END { print code + 0, status }')
        RC=${CODE#* }
        CODE=${CODE% *}
        case $RC in 3) RC=23 ;; esac
        ;;
    python3)
        CODE=$(printf '%s\n' "$URL" | python3 "$DIR/get.py" "$FILE" "$OFFSET" "$STALL" "$ETAG" 2>/dev/null)
        RC=$?
        ;;
    esac
}

# At most a little more than the file is long: a server that sends without end must not fill the disk.
# shellcheck disable=SC3045 # every sh that is meant has -S; POSIX has -f alone
bounded_get() {
    LIMIT=$(ulimit -f)
    [ -z "$SIZE" ] || ulimit -S -f $((SIZE / 512 + 2)) 2>/dev/null
    get
    ulimit -S -f "$LIMIT" 2>/dev/null
}

# A link that does not open any more: whoever watches asks the hub for another one.
renew() {
    rm -f "$DIR/$N.url"
    say "expired $N $CODE"
    LEFT=$((RENEWAL * 4))
    while [ ! -e "$DIR/$N.url" ]; do
        LEFT=$((LEFT - 1))
        [ "$LEFT" -gt 0 ] || fail "expired $CODE"
        sleep 0.25 2>/dev/null || {
            sleep 1
            LEFT=$((LEFT - 3))
        }
    done
}

# All of it is here, or as much as comes: is it the file? Then it gets its name.
place() {
    say "verifying $N"
    rbee_size "$FILE"
    rbee_sha256_tool
    SUM=
    [ -z "$SHA256" ] || SUM=$($SHA256 <"$FILE" 2>/dev/null)
    SUM=${SUM%% *}
    if [ -n "$SIZE" ] && [ "$BYTES" -ne "$SIZE" ] || { [ -n "$SHA" ] && [ -n "$SUM" ] && [ "$SUM" != "$SHA" ]; }; then
        rm -f "$FILE" "$FILE.etag"
        return 1
    fi
    [ "$(dd if="$FILE" bs=4 count=1 2>/dev/null | tr -d '\000')" = GGUF ] || {
        rm -f "$FILE" "$FILE.etag"
        fail gguf
    }
    if [ -n "$SHA" ] && [ -z "$SUM" ]; then
        rbee_mark "$DIR/unverified"
        NOTE=$(printf '%s' "$NOTE" | sed 's/,"verified":[0-9]*//')
    elif [ -z "$SHA" ] && [ -n "$SUM" ]; then
        NOTE="{\"sha256\":\"$SUM\",${NOTE#?}"
    fi
    # Without a sum, the place is the URL's, and what it was before makes way.
    [ -z "$SHA" ] || rbee_yields "$TO/$NAME" "$SHA" || fail other
    rbee_settle "$FILE" "$PLACE/$NAME" "$NOTE" "${SUM:-$SHA}" >/dev/null || fail directory
    rm -f "$FILE.etag"
}

# One try after the other, until the bytes are here. A try that brought STEP bytes starts the count anew.
bring() {
    TRY=1
    MS=$WAIT
    RENEWED=0
    while :; do
        # Without a SHA-256, two halves may not be of one file: only those of one ETag are, where that can be asked.
        rbee_get "$FILE.etag"
        [ -n "$SHA" ] || { [ -n "$ETAG" ] && [ "$GOT" = "$ETAG" ] && [ "$TOOL" != wget ]; } || rm -f "$FILE"
        [ -z "$ETAG" ] || rbee_put "$FILE.etag" "$ETAG"
        rbee_size "$FILE"
        [ -z "$SIZE" ] || [ "$BYTES" -le "$SIZE" ] || {
            rm -f "$FILE"
            BYTES=0
        }
        OFFSET=$BYTES
        [ -z "$SIZE" ] || [ "$OFFSET" -ne "$SIZE" ] || return 0
        [ -e "$DIR/$N.url" ] || {
            CODE=000
            renew
        }
        rbee_get "$DIR/$N.url"
        URL=$GOT
        say "fetching $N"
        bounded_get
        [ "$RC" -ne 0 ] || return 0
        rbee_size "$FILE"
        # More than it should be is no full disk, and ends a tool by a signal.
        [ -z "$SIZE" ] || [ "$BYTES" -lt "$SIZE" ] || return 0
        case $RC/$CODE in
        */404) fail "missing $CODE" ;;
        */40[0-3] | */410)
            RENEWED=$((RENEWED + 1))
            [ "$RENEWED" -le 3 ] || fail "refused $CODE"
            renew
            continue
            ;;
        */416 | 33/*) rm -f "$FILE" ;;
        23/*)
            rm -f "$FILE"
            fail full
            ;;
        esac
        if [ $((BYTES - OFFSET)) -ge $STEP ]; then
            TRY=1
            MS=$WAIT
            RENEWED=0
        else
            TRY=$((TRY + 1))
            [ "$TRY" -le "$TRIES" ] || fail "tries $TOOL $RC $CODE"
        fi
        say "waiting $N $TRY $TOOL $RC $CODE"
        pause "$MS"
        MS=$((MS * 2))
    done
}

rbee_init || exit 1
rbee_store "$2"
DIR=$1 PLACE=$3 TO=$STORE/$3 PARTS=$4 TRIES=$5 WAIT=$6 STALL=$7
shift 7
rbee_incoming || fail directory
choose_tool
N=0
while [ $# -ge 5 ]; do
    N=$((N + 1))
    NAME=$1 SIZE=$2 SHA=$3 ETAG=$4 NOTE=$5
    shift 5
    FILE=$PARTS-$N.part
    ! rbee_in_place "$TO/$NAME" "$SIZE" "$SHA" "$ETAG" || continue
    bring
    # Once more, then it is the server that has it wrong.
    place || {
        bring
        place || fail "mismatch $BYTES $SUM"
    }
done
rm -f "$DIR"/*.url "$DIR/job.sh" "$DIR/get.py"
say 'done'
