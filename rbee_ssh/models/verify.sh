# Read files of the store again and compare their SHA-256.
# $1 the store, $2 the time now (Unix seconds); then for each file its place, the SHA-256 that it has to have, or the
# beginning of that, and '1' where that is not by its note.
# Prints, as each begins, `reading` and its place; then `same`, `differs` or `gone`. Of what differs the note loses
# its time of proof. Where others may write, a file is compared with what we have proven of it before its note; where
# we have not, `open` and its place say that only a note was there to compare it with.

rbee_verify() {
    rbee_store "$1"
    NOW=$2
    shift 2
    rbee_sha256_tool
    [ -n "$SHA256" ] || {
        printf 'problem\tno SHA-256 program\n'
        return 69
    }
    while [ $# -ge 3 ]; do
        printf 'reading\t%s\n' "$1"
        SUM=$({ $SHA256 <"$STORE/$1"; } 2>/dev/null)
        SUM=${SUM%% *}
        WANTED=$2
        [ -n "$3" ] || rbee_closed "$STORE/$1" || rbee_once_proven "$STORE/$1"
        case $SUM in
        '') SAID=gone PROVEN= ;;
        "$WANTED"*) SAID=same PROVEN=$NOW ;;
        *) SAID=differs PROVEN=0 ;;
        esac
        [ -z "$PROVEN" ] || {
            rbee_lock $$ || return
            rbee_note "$STORE/$1.json" verified "$PROVEN"
            rbee_unlock
        }
        printf '%s\t%s\n' "$SAID" "$1"
        shift 3
    done
}

# rbee_once_proven FILE: WANTED is what we have proven of what lay there.
rbee_once_proven() {
    rbee_proof "$1"
    rbee_get "$PROOF"
    if [ ${#GOT} -eq 64 ]; then
        WANTED=$GOT
    else
        printf 'open\t%s\n' "${1#"$STORE"/}"
    fi
}

rbee_init && rbee_verify "$@"
