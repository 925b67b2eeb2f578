"""The program's first lines: from here on Ctrl+C shows no traceback, also in the middle of an import."""

# The built-in half of `signal`: what else could be imported is a file, and while one is loaded Ctrl+C would
# show a traceback.
import _signal  # type: ignore[import-not-found]

# Until `root` catches signals there is nothing to tidy up: it ends us as SIGTERM and SIGHUP do.
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def main() -> None:
    """The `rbee` program."""
    from rbee_ssh.cli.main import main as program

    program()
