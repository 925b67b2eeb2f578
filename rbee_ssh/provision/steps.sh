# What the scripts of setup share. POSIX sh. $1 is the mark that the lines for the control machine start with.

exec 2>&1
mark=$1
shift
base=$HOME/.local/share/rbee
umask 022

# tell KEY VALUE
tell() { printf '%s\t%s\t%s\n' "$mark" "$1" "$2"; }

# give_up PROBLEM [DETAIL]
give_up() {
    tell problem "$1"
    [ -z "${2:-}" ] || printf '%s\n' "$2"
    exit 1
}

# Our stdin ends with the connection. Then nobody waits for us, and what we have started ends too: all of it is in
# our process group. A script that watches has to `exit`: the end of its own text may be read by the watcher.
watch() {
    exec 3<&0 </dev/null
    {
        while read -r rest; do :; done
        kill -TERM 0
    } <&3 >/dev/null 2>&1 &
    watcher=$!
    exec 3<&-
    trap 'kill "$watcher" 2>/dev/null' EXIT
    trap 'exit 143' TERM HUP INT
}

# One setup at a time on a node. A program that a broken setup has left keeps the lock until it ends.
lock() {
    mkdir -p "$base" || give_up home
    command -v flock >/dev/null 2>&1 || return 0
    exec 9>"$base/setup.lock"
    flock -n 9 || { tell step 'waiting for another setup of this node to end' && flock 9; }
}

# has PROGRAM…: the first one there is, in $found.
has() {
    for found in "$@"; do
        found=$(command -v "$found" 2>/dev/null) && [ -n "$found" ] && return 0
    done
    return 1
}
