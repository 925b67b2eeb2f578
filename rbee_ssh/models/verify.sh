# Read files of the store again and compare their SHA-256.
# $1 the store, $2 the time now (Unix seconds); then for each file its place and the SHA-256 that it has to have, or
# the beginning of that.
# Prints, as each begins, `reading` and its place; then `same`, `differs` or `gone`. Of what differs the note loses
# its time of proof.

rbee_verify() {
    rbee_store "$1"
    NOW=$2
    shift 2
    rbee_sha256_tool
    [ -n "$SHA256" ] || {
        printf 'problem\tno SHA-256 program\n'
        return 69
    }
    while [ $# -ge 2 ]; do
        printf 'reading\t%s\n' "$1"
        SUM=$({ $SHA256 <"$STORE/$1"; } 2>/dev/null)
        SUM=${SUM%% *}
        case $SUM in
        '') SAID=gone PROVEN= ;;
        "$2"*) SAID=same PROVEN=$NOW ;;
        *) SAID=differs PROVEN=0 ;;
        esac
        [ -z "$PROVEN" ] || {
            rbee_lock $$ || return
            rbee_note "$STORE/$1.json" verified "$PROVEN"
            rbee_unlock
        }
        printf '%s\t%s\n' "$SAID" "$1"
        shift 2
    done
}

rbee_init && rbee_verify "$@"
