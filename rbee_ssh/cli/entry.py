"""The program's first lines: from here on Ctrl+C shows no traceback, also in the middle of an import."""

# The built-in half of `signal`: the other half, and any other import, is a file, and loading it takes a moment in
# which Ctrl+C would show one.
import _signal  # type: ignore[import-not-found]

# Until `root` catches signals there is nothing to tidy up: it ends us as SIGTERM and SIGHUP do.
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def main() -> None:
    """The `rbee` program."""
    from rbee_ssh.cli.main import main as program

    program()
