# Who is connected to a worker, and where it listens.

# rbee_connections DIR: CONNS lists the connections its worker has accepted, or that wait to be, but for those
# that its supervisor calls stale.
rbee_connections() {
    rbee_all_connections "$1"
    [ -n "$CONNS" ] || return 0
    rbee_get "$1/stale"
    [ -n "$GOT" ] || return 0
    RBEE_ALL=$CONNS
    CONNS=
    for RBEE_CONN in $RBEE_ALL; do
        case " $GOT " in *" $RBEE_CONN "*) ;; *) CONNS="$CONNS $RBEE_CONN" ;; esac
    done
}

# /proc/net/unix: flags 00010000 is the listening socket itself; the path stays what it was at bind, and fills
# the rest of its line whatever it holds. Another user's may hold a newline, and then lines of his own.
rbee_all_connections() {
    CONNS=
    rbee_get "$1/socket"
    if [ -n "$GOT" ] && [ -r /proc/net/unix ]; then
        CONNS=$(RBEE_SOCK=$GOT awk 'BEGIN { p = ENVIRON["RBEE_SOCK"] }
            index($0, p) && $4 != "00010000" && $7 ~ /^[0-9]+$/ { inode = $7
                sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ +[^ ]+ /, "")
                if ($0 == p) printf " %s", inode }' /proc/net/unix)
    elif [ -n "$GOT" ]; then
        CONNS=$(netstat -an -f unix 2>/dev/null | RBEE_SOCK=$GOT awk 'BEGIN { p = " " ENVIRON["RBEE_SOCK"] }
            substr($0, length($0) - length(p) + 1) == p && $6 != 0 { printf " %s", $1 }')
    else
        rbee_get "$1/port"
        [ -n "$GOT" ] || return 0
        if [ -r /proc/net/tcp ]; then
            CONNS=$(awk -v p="$(printf ':%04X' "$GOT")" \
                '$4 == "01" && ($2 == "0100007F" p || $2 == "7F000001" p) { printf " %s", $3 }' /proc/net/tcp)
        else
            CONNS=$(netstat -an -f inet 2>/dev/null | awk -v p="127.0.0.1.$GOT" \
                '$6 == "ESTABLISHED" && $4 == p { printf " %s", $5 }')
        fi
    fi
}

# rbee_port DIR: the port a `listen = "tcp"` engine got: one that it says in its log, and that it has. A model can
# put any number into the log, and whoever listens there would be shown the key.
rbee_port() {
    [ ! -e "$1/port" ] || return 0
    rbee_get "$1/port-pattern"
    [ -n "$GOT" ] || return 0
    RBEE_PATTERN=$GOT
    rbee_get "$1/pid"
    rbee_alive "$GOT" && grep -q -F -e "$RBEE_PATTERN" "$1/log" 2>/dev/null || return 0
    rbee_ports "${GOT%% *}"
    for RBEE_PORT in $PORTS; do
        ! grep -q -F -e "$RBEE_PATTERN$RBEE_PORT" "$1/log" 2>/dev/null || {
            rbee_put "$1/port" "$RBEE_PORT"
            return
        }
    done
}

# rbee_ports PGID: PORTS are the ports of 127.0.0.1 on which this process group listens. Not whose user does:
# other programs of ours are not meant either.
rbee_ports() {
    if [ ! -r /proc/net/tcp ]; then
        PORTS=$(lsof -nP -a -g "$1" -iTCP -sTCP:LISTEN -Fn 2>/dev/null | sed -n 's/^n127\.0\.0\.1://p')
        return
    fi
    rbee_members "$1"
    PORTS=$(for RBEE_PID in $MEMBERS; do ls -ln "/proc/$RBEE_PID/fd" 2>/dev/null; done | LC_ALL=C awk '
        # "… 7 -> socket:[4711]"; then the lines of /proc/net/tcp
        FILENAME != "/proc/net/tcp" {
            if (split($0, half, " -> ") == 2 && half[2] ~ /^socket:\[[0-9]+\]$/) held[substr(half[2], 9)] = 1
        }
        FILENAME == "/proc/net/tcp" && $4 == "0A" && $2 ~ /^(0100007F|7F000001):/ && ("" $10 "]") in held {
            port = 0
            for (i = 10; i <= 13; i++) port = port * 16 + index("0123456789ABCDEF", substr($2, i, 1)) - 1
            printf " %d", port
        }' - /proc/net/tcp)
}

# rbee_own DIR WAY: whether this socket, or this port, is that of a worker of ours that runs: nobody else may be shown
# its key. To be asked once the channel is open: what is the worker's now has been so since it was started.
rbee_own() {
    [ -e "$1/match" ] || return 1
    rbee_state "$1"
    case $STATE in starting | loading | idle | busy) ;; *) return 1 ;; esac
    rbee_get "$1/socket"
    if [ -n "$GOT" ]; then
        [ "$GOT" = "$2" ] && [ -S "$2" ] && rbee_alone "${2%/*}"
        return
    fi
    rbee_get "$1/port"
    [ "$GOT" = "$2" ] || return 1
    rbee_get "$1/pid"
    rbee_ports "${GOT%% *}"
    for RBEE_PORT in $PORTS; do [ "$RBEE_PORT" != "$2" ] || return 0; done
    return 1
}
