# Whose the files of a store are: what nobody else could have put there or change, and what this login has proven of
# the rest. lib/ stands before it. STORE is the store, as an absolute path; ME is this login's number.
# shellcheck disable=SC2034 # DOUBT and REASON: models/

# rbee_modes PATH...: WHO, a line of each: its owner's number, its mode as ls shows it, device:inode. Of a link itself.
rbee_modes() {
    WHO=$(LC_ALL=C stat -c '%u %A %d:%i' "$@" 2>/dev/null)
    [ -n "$WHO" ] || WHO=$(LC_ALL=C stat -f '%u %Sp %d:%i' "$@" 2>/dev/null)
    # On Linux, -f is about the disk: of what has come to be there meanwhile.
    case $WHO in [0-9]*) ;; *) WHO= ;; esac
}

# rbee_closed FILE: whether only we and root can have put this file of the store there, and can change it. From the
# store down nothing is a link or anybody else's, or may be written by others. Where a directory is sticky they
# may, and cannot touch what is ours in it.
rbee_closed() {
    case $1 in *[[:cntrl:]]*) return 1 ;; "$STORE"/*) ;; *) return 1 ;; esac
    OWN_AT=$STORE
    OWN_REST=${1#"$STORE"/}/
    set -- "$STORE/."
    while [ -n "$OWN_REST" ]; do
        OWN_AT=$OWN_AT/${OWN_REST%%/*}
        OWN_REST=${OWN_REST#*/}
        set -- "$@" "$OWN_AT"
    done
    rbee_modes "$@"
    OWN_LEFT=$#
    while read -r OWN_UID OWN_MODE OWN_REST; do
        case $OWN_UID in 0 | "$ME") ;; *) return 1 ;; esac
        case $OWN_MODE in
        d????????[tT]* | d????-??-*) ;;
        -????-??-*) [ "$OWN_LEFT" -eq 1 ] || return 1 ;;
        *) return 1 ;;
        esac
        OWN_LEFT=$((OWN_LEFT - 1))
    done <<END
$WHO
END
    [ "$OWN_LEFT" -eq 0 ]
}

# rbee_stamp FILE: STAMP changes when its content does, as finely as the system tells time; empty unless it is a file.
rbee_stamp() {
    STAMP=$(TZ=UTC0 LC_ALL=C stat -c '%A %d %i %s %Y %Z %y %z' "$1" 2>/dev/null)
    [ -n "$STAMP" ] || STAMP=$(LC_ALL=C stat -f '%Sp %d %i %z %Fm %Fc' "$1" 2>/dev/null)
    case $STAMP in -*) ;; *) STAMP= ;; esac
}

# rbee_proof FILE: PROOF is where its proof is kept: what was found, the stamp that it had, its path, a line each.
rbee_proof() {
    PROOF=$ROOT/proofs/$(printf '%s' "$1" | LC_ALL=C tr -c 'A-Za-z0-9.-' _ | tail -c 180)
}

# rbee_recorded FILE: FOUND is the SHA-256 with which we have proven it, or `not` and the one that it has; empty when
# we never did, or it has changed since.
rbee_recorded() {
    FOUND=
    rbee_proof "$1"
    [ -r "$PROOF" ] || return 0
    { IFS= read -r OWN_SUM && IFS= read -r OWN_STAMP && IFS= read -r OWN_PATH; } <"$PROOF" || return 0
    [ "$OWN_PATH" = "$1" ] || return 0
    rbee_stamp "$1"
    [ -z "$STAMP" ] || [ "$STAMP" != "$OWN_STAMP" ] || FOUND=$OWN_SUM
}

# rbee_record FILE FOUND: remember it, with the stamp in STAMP.
rbee_record() {
    rbee_proof "$1"
    mkdir -p "$ROOT/proofs" 2>/dev/null && rbee_put "$PROOF" "$2
$STAMP
$1"
}

# rbee_proven FILE SUM: whether we have proven that a file which others could change is the one with this SHA-256.
# Where nobody has told one (SUM is none), that it is the one that we had put there. DOUBT: it has not been looked at.
rbee_proven() {
    DOUBT=
    case $1 in *[[:cntrl:]]*) return 1 ;; esac
    rbee_recorded "$1"
    if [ ${#2} -ne 64 ]; then
        [ ${#FOUND} -eq 64 ]
        return
    fi
    case $FOUND in
    "$2") return 0 ;;
    '' | "not $2") DOUBT=$1 ;;
    esac
    return 1
}

# rbee_step NAME: into a directory of the one that we are in, made if need be. It is looked at before and behind the
# step, so that whoever puts a link in its place meanwhile is seen.
rbee_step() {
    rbee_modes "./$1"
    if [ -z "$WHO" ]; then
        REASON=directory
        mkdir "./$1" 2>/dev/null
        rbee_modes "./$1"
    fi
    case $WHO in *' d'*) ;; '') return 1 ;; *)
        REASON=foreign
        return 1
        ;;
    esac
    OWN_ID=${WHO##* }
    REASON=directory
    cd -P "./$1" 2>/dev/null || return
    REASON=foreign
    rbee_modes .
    [ "${WHO##* }" = "$OWN_ID" ]
}

# rbee_shut: whether the directory in WHO is ours, and no other user may write it.
rbee_shut() {
    case $WHO in
    "${OWNER:-$ME} d"????-??-*) ;;
    "${OWNER:-$ME} d"*) [ -n "$MODELESS" ] ;;
    *) return 1 ;;
    esac
}

# rbee_odd_disk: whether the store's disk gives all that is made there one owner, or rights of its own, as a NAS or a
# FAT may: OWNER, and MODELESS. There nobody can be told from another, and ours is what looks like what we make. It is
# told by a file that we have open: one that is looked up could have been put in its place.
rbee_odd_disk() {
    OWN_MADE=$(
        set -C
        umask 077
        PROBE=$STORE/$INCOMING.$$
        { exec 9>"$PROBE"; } 2>/dev/null || exit
        rm -f "$PROBE"
        stat -L -c '%u %A' /dev/fd/9 2>/dev/null || stat -L -f '%u %Sp' /dev/fd/9 2>/dev/null
    )
    case $OWN_MADE in
    '' | "$ME "-????-??-*) return 1 ;;
    *' '-????-??-*) MODELESS= ;;
    *' '-*) MODELESS=1 ;;
    *) return 1 ;;
    esac
    OWNER=${OWN_MADE%% *}
}

# rbee_enter DIR UMASK: into this directory of the store, made if need be, itself with that umask. It is ours, others
# may not write it, and no link leads there; so what we write from now on, by names without a way, lies there.
# Otherwise status 1, REASON and REFUSED: `directory`, and what cannot be written; `foreign`, and what is not ours.
rbee_enter() {
    REASON=directory
    REFUSED=$STORE
    umask 022
    { { [ -d "$STORE" ] || mkdir -p "$STORE"; } && cd -P "$STORE"; } 2>/dev/null || return 1
    OWN_REST=$1/
    while [ -n "$OWN_REST" ]; do
        OWN_WORD=${OWN_REST%%/*}
        OWN_REST=${OWN_REST#*/}
        REFUSED=$REFUSED/$OWN_WORD
        [ -n "$OWN_REST" ] || umask "$2"
        rbee_step "$OWN_WORD" || return 1
    done
    rbee_shut || { rbee_odd_disk && rbee_shut; } || return 1
    REASON=directory
    [ -w . ]
}
