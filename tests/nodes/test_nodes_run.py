"""`rbee nodes run`: one command on several real nodes, one of them down."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

from nodes.serving import eventually
from nodes.terminal import answered

from nodekit import Control, LabNode


def test_three_nodes_one_of_them_down(make_node: Callable[..., LabNode], control: Control) -> None:
    first = make_node("one", shell="/bin/bash", rc="echo a banner; echo noise >&2\n")
    second = make_node("second", shell="/bin/zsh", sshd_options={"MaxSessions": 1})
    gone = make_node("gone")
    tags = {first.name: {"tags": ["up"]}, second.name: {"tags": ["up"]}}
    control.inventory(first, second, gone, nodes_also=tags, text="[timeouts]\nconnect_tries = 1\n")
    gone.kill_sshd()

    answer = control.rbee("nodes", "run", "--", "printf", "%s\\n", "a  b", "$HOME;'*")
    assert answer.returncode == 1, "the node that is down"
    assert sorted(answer.stdout.splitlines()) == sorted(
        f"{name:6} | {line}" for name in ("one", "second") for line in ("a  b", "$HOME;'*")
    )
    assert "gone" in answer.stderr and "noise" not in answer.stderr

    line = 'echo out-$(id -un); echo err >&2; [ "$(id -un)" = user-one ] && exit 3; exit 4'
    answer = control.rbee("nodes", "run", "--tag", "up", "--", line)
    assert answer.returncode == 4
    assert set(answer.stdout.splitlines()) == {"one    | out-user-one", "second | out-user-second"}
    assert {"one    | err", "second | err", "second: exit status 4"} <= set(answer.stderr.splitlines())

    answer = control.rbee("--json", "nodes", "run", "one", "gone", "--", "printf 'x\\033[2J\\377'")
    events = [json.loads(text) for text in answer.stdout.splitlines()]
    assert {"event": "output", "node": "one", "stream": "stdout", "line": "x\x1b[2J\ufffd"} in events
    ends = {event["node"]: event for event in events if event["event"] == "end"}
    assert (ends["one"]["status"], ends["gone"]["status"]) == (0, None)
    assert ends["gone"]["error"]["code"] == "NODE_UNREACHABLE"
    control.env["TERM"] = "xterm"
    status, screen = answered(
        control, ["nodes", "run", "one", "--", "printf '\\033[2Jx\\033]0;t\\007\\n'"], []
    )
    assert (status, screen) == (0, "\x1b[36mone | \x1b[0mx\n")


def test_ctrl_c_ends_what_was_started(make_node: Callable[..., LabNode], control: Control) -> None:
    nodes = [make_node(), make_node()]
    control.inventory(*nodes)
    words = ["sh", "-c", "trap '' TERM; echo begun; sleep 300 | cat"]
    process = control.rbee_popen("nodes", "run", "--no-prefix", "--", *words)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in nodes] == ["begun\n"] * 2
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    running = [one.name for node in nodes for one in node.processes()]

    def ended() -> bool:
        return not any("sleep" in one.name for node in nodes for one in node.processes())

    eventually(ended, within=15, why=f"what was started there has ended: {running}")
