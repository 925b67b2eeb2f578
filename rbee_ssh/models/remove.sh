# Remove models that no worker has, and what is left of transfers.
# $1 the store, $2 '1' also when a worker has it, $3 '1' for a dry run, $4 Unix time by this clock: what was used later is kept;
# $5 minutes: partial files older than that; then for each model: how many files it has, and each one's place and
# its path as JSON writes it.
# Prints `removed`, `kept` or `mapped`, with the first file's place, behind `mapped` a worker's id or a process. Kept is
# also what another user has put there, unless that very model is meant ($4 is none). No link is followed.

RBEE_LIVE='starting loading idle busy stopping orphan'

# rbee_users PATH JSON: USERS are the workers that have this file, and other processes that map it.
rbee_users() {
    USERS=
    for DIR in "$ROOT"/workers/*/; do
        DIR=${DIR%/}
        rbee_get "$DIR/spec.json"
        case $GOT in *"$2"*) ;; *) continue ;; esac
        rbee_state_of "$DIR" # of a start that was cut short as well, which has no match
        case " $RBEE_LIVE " in *" $STATE "*) USERS="$USERS ${DIR##*/}" ;; esac
    done
    [ -z "$USERS" ] || return 0
    REAL=$(cd "${1%/*}" 2>/dev/null && pwd -P)/${1##*/}
    # shellcheck disable=SC2013 # paths of /proc hold no blanks
    for MAPS in $(grep -l -F -e " $REAL" /proc/[0-9]*/maps 2>/dev/null); do
        PID=${MAPS#/proc/}
        USERS="$USERS process:${PID%/maps}"
    done
}

# rbee_used_since FILE TIME
rbee_used_since() {
    rbee_get "$1.json"
    USED=$(printf '%s\n' "$GOT" | sed -n 's/.*"last_used": *\([0-9]\{1,15\}\).*/\1/p')
    [ -n "$USED" ] && [ "$USED" -gt "$2" ]
}

# A file and its note, and the directories that this leaves empty. Status 1 when it is still there.
rbee_unlink() {
    (rbee_go "${1%/*}" && rm -f "./${1##*/}" "./${1##*/}.json") 2>/dev/null
    [ ! -e "$1" ] || return 1
    UP=${1%/*}
    while [ "$UP" != "$STORE" ] && rmdir "$UP" 2>/dev/null; do UP=${UP%/*}; done
}

rbee_remove() {
    rbee_store "$1"
    FORCE=$2 DRY=$3 SINCE=$4 MINUTES=$5
    shift 5
    rbee_lock $$ || return
    while [ $# -gt 0 ]; do
        COUNT=$1
        shift
        WORD=removed FIRST=$1 ALSO='' N=0
        while [ $N -lt "$COUNT" ]; do
            eval "PLACE=\${$((N * 2 + 1))} JSON=\${$((N * 2 + 2))}"
            rbee_users "$STORE/$PLACE" "$JSON"
            [ -z "$USERS" ] || WORD=mapped ALSO="$ALSO$USERS"
            [ -z "$SINCE" ] || { [ -O "$STORE/$PLACE" ] && ! rbee_used_since "$STORE/$PLACE" "$SINCE"; } || WORD=kept
            N=$((N + 1))
        done
        [ "$WORD" != mapped ] || [ -z "$FORCE" ] || WORD=removed
        N=0
        while [ $N -lt "$COUNT" ]; do
            [ "$WORD" != removed ] || [ -n "$DRY" ] || rbee_unlink "$STORE/$1" || {
                printf 'problem\tdirectory\t%s\n' "$STORE/$1"
                WORD=stays
            }
            shift 2
            N=$((N + 1))
        done
        printf '%s\t%s\t%s\n' "$WORD" "$FIRST" "${ALSO# }"
    done
    [ -z "$MINUTES" ] || {
        [ -n "$DRY" ] || rbee_forget_fetches "$MINUTES"
        [ -n "$DRY" ] || rbee_forget_proofs
        rbee_each_incoming rbee_remove_parts "$MINUTES"
    }
    rbee_unlock
}

# rbee_fetched PART: whether a fetch that lives is at it. Its directory has the name that stands in the part's.
rbee_fetched() {
    for FETCH in "$ROOT"/fetches/*/; do
        FETCH=${FETCH%/}
        case $1 in *"-${FETCH##*/}-"*.part) ;; *) continue ;; esac
        rbee_get "$FETCH/job"
        rbee_alive "$GOT" && return
    done
    return 1
}

# Proofs of what is not there any more.
rbee_forget_proofs() {
    for OLD in "$ROOT"/proofs/*; do
        [ -f "$OLD" ] || continue
        { read -r GOT && read -r GOT && IFS= read -r GOT; } <"$OLD"
        [ -e "$GOT" ] || rm -f "$OLD"
    done
}

rbee_remove_parts() {
    for OLD in ./*.part; do
        [ -f "$OLD" ] || continue
        [ "$1" -eq 0 ] || [ -n "$(find "$OLD" -prune -mmin +"$1" 2>/dev/null)" ] || continue
        # One that is just being sent or fetched.
        rbee_get "$OLD.owner"
        [ -z "$GOT" ] || ! rbee_holder_lives "$GOT" || continue
        ! rbee_fetched "$OLD" || continue
        rbee_size "$OLD"
        printf 'part\t%s\t%s\n' "$AT/${OLD#./}" "$BYTES"
        [ -n "$DRY" ] || rm -f "$OLD" "$OLD".*
    done
}

rbee_init && rbee_remove "$@"
