# Where rbee keeps what it knows on a node, and whether anybody else can put something in its place.
# Functions of every script here answer in upper-case variables: a command substitution would cost a fork.
# POSIX sh; awk, readlink and the usual file tools.
# shellcheck disable=SC2034 # SOCKETS: start.sh

# BASE: where rbee keeps what it knows. ROOT: where this machine's workers live. A home can be shared by machines,
# so the machine's id is in it. BOOT: this boot.
rbee_init() {
    umask 077
    # Where macOS has sysctl, ioreg and netstat; its cron leaves that out.
    case :$PATH: in *:/usr/sbin:*) ;; *) PATH=$PATH:/usr/sbin:/sbin ;; esac
    MACHINE=
    for RBEE_ID_FILE in /etc/machine-id /var/lib/dbus/machine-id; do
        [ -n "$MACHINE" ] || { [ -r "$RBEE_ID_FILE" ] && IFS= read -r MACHINE <"$RBEE_ID_FILE"; }
    done
    [ -n "$MACHINE" ] || MACHINE=$(ioreg -rd1 -c IOPlatformExpertDevice 2>/dev/null |
        awk -F'"' '/IOPlatformUUID/ { print $4 }')
    [ -n "$MACHINE" ] || MACHINE=$(hostname 2>/dev/null || uname -n)
    case $MACHINE in
    *[!A-Za-z0-9._-]*) MACHINE=$(printf '%s' "$MACHINE" | tr -cd 'A-Za-z0-9._-') ;;
    esac
    BOOT=
    if [ -r /proc/sys/kernel/random/boot_id ]; then
        IFS= read -r BOOT </proc/sys/kernel/random/boot_id
    else
        BOOT=$(sysctl -n kern.bootsessionuuid 2>/dev/null)
    fi
    case ${XDG_STATE_HOME:-} in # the XDG specification: a relative one is to be ignored
    /*) BASE=$XDG_STATE_HOME/rbee ;;
    *) BASE=$HOME/.local/state/rbee ;;
    esac
    ROOT=$BASE/$MACHINE
    if [ -d "$ROOT/workers" ]; then
        # Made by whoever was first, where others may write in the directory above. Of a home that looks like somebody
        # else's, as on a NAS that gives all files one owner, nothing can be told.
        if [ ! -O "$ROOT" ] || [ ! -O "$ROOT/workers" ]; then
            case $ROOT in "$HOME"/*) [ -O "$HOME" ] || return 0 ;; esac
            printf 'problem	%s is not yours
' "$ROOT"
            return 73
        fi
        ! rbee_inside "$ROOT/workers" || return 0
    fi
    RBEE_NEAREST=$ROOT/workers
    until [ -e "${RBEE_NEAREST:=/}" ]; do RBEE_NEAREST=${RBEE_NEAREST%/*}; done
    rbee_firm "$RBEE_NEAREST" || {
        printf 'problem\tothers can replace what is in %s\n' "$RBEE_NEAREST"
        return 73
    }
    [ ! -d "$ROOT/workers" ] || return 0
    mkdir -p "$ROOT/workers" 2>/dev/null && chmod 700 "$ROOT" "$ROOT/workers" || {
        rbee_unable 'cannot make' "$ROOT/workers"
        return 73
    }
}

# rbee_inside PLACE: whether it lies in our home, and no link on the way leads anywhere else.
rbee_inside() {
    case $1 in "$HOME"/*) ;; *) return 1 ;; esac
    RBEE_PATH=$1
    while [ "$RBEE_PATH" != "$HOME" ]; do
        [ ! -L "$RBEE_PATH" ] || return 1
        RBEE_PATH=${RBEE_PATH%/*}
    done
}

# SOCKETS: the directory in BASE where sockets go, empty where it cannot hold them: then each has one in /tmp. Its
# name is short, and not the machine's: a worker's id is its own among all that share a home.
# sun_path holds 104 bytes on macOS, 108 on Linux; a socket on a network filesystem is not reachable.
rbee_sockets() {
    SOCKETS=
    case $(df -P "$ROOT" 2>/dev/null | awk 'NR == 2 { print $1 }') in *:/* | //*) return 0 ;; esac
    case $BASE in *'
'*) return 0 ;; esac
    [ "$(printf '%s' "$BASE/s/0123456789ab.sock" | wc -c)" -le 100 ] || return 0
    mkdir -m 700 "$BASE/s" 2>/dev/null
    ! rbee_alone "$BASE/s" || SOCKETS=$BASE/s
}

# rbee_ours DIR: whether it is a directory of ours, and no link to one.
rbee_ours() { [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ]; }

# rbee_alone DIR: whether it is ours and nobody else's, now and for as long as it is there.
rbee_alone() {
    rbee_ours "$1" || return 1
    case $(ls -ld "$1") in drwx------*) rbee_firm "$1" ;; *) return 1 ;; esac
}

# rbee_firm PLACE: whether no stranger decides what it is. Where everybody may write, nobody takes away what is
# another's (sticky), and what lies there on our way is ours or root's. Who owns the directories above is trusted.
# Of a link both count, where it lies and where it leads: each way that it makes is looked at as it is written.
rbee_firm() {
    RBEE_USER=$(id -u)
    RBEE_WHOLE=$1
    RBEE_LINKS=0
    while :; do
        RBEE_LINK=
        RBEE_PATH=$RBEE_WHOLE
        set --
        while [ -n "$RBEE_PATH" ]; do
            set -- "$@" "$RBEE_PATH"
            [ ! -L "$RBEE_PATH" ] || RBEE_LINK=$RBEE_PATH
            RBEE_PATH=${RBEE_PATH%/*}
        done
        # ls sorts them: what is above comes first.
        # shellcheck disable=SC2012 # only the modes and owners are read
        LC_ALL=C ls -ldn / "$@" 2>/dev/null | awk -v me="$RBEE_USER" -v n=$# '
            /^[dl][-rwxsStT]+[.+@]? +[0-9]+ +[0-9]+ / {
                if (open && $3 != 0 && $3 != me) bad = 1
                open = $1 ~ /^d.......w/
                if (open && $1 !~ /^d........[tT]/) bad = 1
                seen++
            }
            END { exit bad || seen <= n }' || return 1
        [ -n "$RBEE_LINK" ] || return 0
        RBEE_LINKS=$((RBEE_LINKS + 1))
        [ "$RBEE_LINKS" -le 40 ] && RBEE_TARGET=$(readlink "$RBEE_LINK") || return 1
        case $RBEE_TARGET in
        /*) RBEE_WHOLE=$RBEE_TARGET${RBEE_WHOLE#"$RBEE_LINK"} ;;
        *) RBEE_WHOLE=${RBEE_LINK%/*}/$RBEE_TARGET${RBEE_WHOLE#"$RBEE_LINK"} ;;
        esac
    done
}

# rbee_socket_dir SOCKET: its directory is ours alone, and made if it is not there; else a problem is told, and
# nothing was made. Of what lies under ROOT it is the worker's own, which is made later.
rbee_socket_dir() {
    case $1 in '' | "$ROOT"/*) return 0 ;; esac
    mkdir -m 700 "${1%/*}" 2>/dev/null
    ! rbee_alone "${1%/*}" || return 0
    if [ ! -e "${1%/*}" ] && [ ! -L "${1%/*}" ]; then
        rbee_unable 'no place for a socket: cannot make' "${1%/*}"
    elif rbee_firm "${1%/*}"; then
        printf 'problem\tno place for a socket: %s is not yours alone\n' "${1%/*}"
    else
        printf 'problem\tno place for a socket: others can replace what is in %s\n' "${1%/*/*}"
    fi
    rbee_unsocket "$1"
    return 73
}

# rbee_unsocket SOCKET: remove it, and the directory in /tmp that is its own. Somebody else's is left alone.
rbee_unsocket() {
    [ -n "$1" ] && rbee_ours "${1%/*}" || return 0
    rm -f "$1" "$1.away"
    case $1 in /tmp/rbee.*) rmdir "${1%/*}" 2>/dev/null ;; esac
    return 0
}
