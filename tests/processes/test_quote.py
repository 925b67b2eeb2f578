"""What reaches a shell on a node arrives as it was, whatever it holds."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodekit.fuzz import examples
from rbee_ssh.ssh.quote import wrap

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"], ["zsh", "--emulate", "sh"]]
# Every byte string that an argument can be: any text, surrogates standing for bytes that are not UTF-8.
ARGUMENTS = (
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
    | st.lists(st.integers(1, 255), max_size=40).map(
        lambda raw: bytes(raw).decode("utf-8", "surrogateescape")
    )
    | st.sampled_from(
        ["", "-n", "--", "$(id)", "`id`", "';id;'", '"', "a\nb", "\\", "!!", "~", "*", "\x1b[31m", "é"]
    )
)


def run(shell: list[str], text: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        shell, input=text.encode("utf-8", "surrogateescape"), capture_output=True, timeout=20, check=False
    )


@pytest.mark.parametrize("shell", SHELLS, ids=lambda s: s[0])
@examples(60)
@given(args=st.lists(ARGUMENTS, max_size=5))
def test_arguments_arrive_as_they_were(shell: list[str], args: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed: scripts/test installs it")
    answer = run(shell, wrap('for a in "$@"; do printf "%s\\0" "$a"; done', args, "mark"))
    assert answer.stdout.partition(b"\nmark\n")[2].decode("utf-8", "surrogateescape").split("\0")[:-1] == args


@pytest.mark.parametrize("shell", SHELLS, ids=lambda s: s[0])
def test_every_shell_reads_it_alike(shell: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed: scripts/test installs it")
    hostile = ["a b", "'\";$(touch /tmp/owned)`id`", "x\ny", "-rf", "\udcff", "é"]
    answer = run(shell, wrap('printf "%s|" "$#" "$@"', hostile, "mark"))
    expected = "|".join([str(len(hostile)), *hostile, ""])
    assert answer.stdout.endswith(b"\nmark\n" + expected.encode("utf-8", "surrogateescape"))


def test_a_command_that_reads_stdin_does_not_eat_the_script() -> None:
    answer = run(["sh"], wrap("cat; echo after", [], "mark"))
    assert answer.stdout == b"\nmark\nafter\n"


@pytest.mark.parametrize("name", SHELLS, ids=lambda s: s[0])
def test_a_payload_and_nothing_else_reaches_the_command(name: list[str]) -> None:
    # The marker tells the sender that the shell has read its script: only then the payload is sent.
    if shutil.which(name[0]) is None:
        pytest.skip(f"{name[0]} is not installed: scripts/test installs it")
    with subprocess.Popen(name, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(wrap("cat", [], "mark", payload=True).encode())
        shell.stdin.flush()
        assert shell.stdout.readline() == b"\n"
        assert shell.stdout.readline() == b"mark\n"
        shell.stdin.write(b"payload\0bytes")
        shell.stdin.close()
        assert shell.stdout.read() == b"payload\0bytes"


def test_the_status_of_the_body_is_the_status() -> None:
    assert run(["sh"], wrap("return 7", [], "mark")).returncode == 7
