# rbee_session COMMAND [ARG]...: become the command, in a session and a process group of its own, so that nothing
# which happens to this connection reaches it. To be started with `&`: $! is the command then. Comes back, with
# status 127, where there is nothing to do it with. perl before python3: on a Mac without Apple's tools that opens
# a window.
rbee_session() {
    if command -v setsid >/dev/null 2>&1; then
        exec setsid "$@"
    elif command -v perl >/dev/null 2>&1; then
        exec perl -MPOSIX -e 'POSIX::setsid(); exec { $ARGV[0] } @ARGV or do { warn "$ARGV[0]: $!\n"; exit 127 }' "$@"
    elif command -v python3 >/dev/null 2>&1; then
        exec python3 -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])' "$@"
    fi
    return 127
}
