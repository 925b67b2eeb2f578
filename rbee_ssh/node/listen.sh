# Listen on a UNIX socket and on a port of 127.0.0.1, until stdin ends or $1 seconds are over. Who connects is sent
# the word in $2 and let go. Prints socket<TAB>PATH and port<TAB>NUMBER once both listen; nothing else is open then.

rbee_listen() {
    umask 077
    DIR=$(mktemp -d "${TMPDIR:-/tmp}/rbee.XXXXXX" 2>/dev/null) || DIR=$(mktemp -d "$HOME/.rbee.XXXXXX") || return
    trap 'rm -rf "$DIR"' EXIT
    trap 'exit 129' HUP INT TERM
    # perl first: on a Mac without Apple's tools python3 opens a window.
    if command -v perl >/dev/null 2>&1; then
        perl -e "$rbee_listen_perl" "$DIR/s" "$1" "$2" && return
    fi
    for PYTHON in python3 "$HOME/.local/share/rbee/venv/bin/python" /opt/homebrew/bin/python3 /usr/local/bin/python3; do
        command -v "$PYTHON" >/dev/null 2>&1 && "$PYTHON" -c "$rbee_listen_python" "$DIR/s" "$1" "$2" && return
    done
}

# shellcheck disable=SC2016 # Perl's variables
rbee_listen_perl='
use Socket;
my ($path, $seconds, $word) = @ARGV;
socket(U, PF_UNIX, SOCK_STREAM, 0) && bind(U, sockaddr_un($path)) && listen(U, 4) or exit 1;
socket(T, PF_INET, SOCK_STREAM, 6) && bind(T, sockaddr_in(0, inet_aton("127.0.0.1"))) && listen(T, 4) or exit 1;
my ($port) = sockaddr_in(getsockname(T));
$| = 1;
print "socket\t$path\nport\t$port\n";
my $end = time + $seconds;
while ((my $left = $end - time) > 0) {
    my $ready = "";
    vec($ready, $_, 1) = 1 for (0, fileno(U), fileno(T));
    select($ready, undef, undef, $left) > 0 or last;
    last if vec($ready, 0, 1);
    for my $listener (\*U, \*T) {
        next unless vec($ready, fileno($listener), 1) && accept(C, $listener);
        syswrite(C, $word);
        close(C);
    }
}
'
rbee_listen_python='
import select, socket, sys, time
path, seconds, word = sys.argv[1:]
unix, tcp = socket.socket(socket.AF_UNIX), socket.socket()
unix.bind(path)
tcp.bind(("127.0.0.1", 0))
for listener in (unix, tcp):
    listener.listen(4)
sys.stdout.write("socket\t%s\nport\t%d\n" % (path, tcp.getsockname()[1]))
sys.stdout.flush()
end = time.time() + float(seconds)
while end > time.time():
    ready = select.select([0, unix, tcp], [], [], max(0, end - time.time()))[0]
    if not ready or 0 in ready:
        break
    for listener in ready:
        client = listener.accept()[0]
        client.sendall(word.encode())
        client.close()
'
rbee_listen "$@"
