"""Another user of the node: what he can make before us, or in our place, gets no key and no prompt."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from nodes.serving import GREEDY, PROMPT, engines_on, equip, events, eventually, kill, text_of, workers
from nodes.test_lifetime import supervisors_on
from nodes.test_misses import THIEF, ask, error_of
from nodes.test_tunnel import tunnelled

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.faults import reconfigure_sshd

# Makes the directory and the socket that were somebody else's, and keeps what is sent there.
SOCKET_THIEF = """
import os, socket, sys
path = sys.argv[1]
os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
os.chmod(path, 0o777)
server.listen()
while True:
    there, _ = server.accept()
    there.settimeout(2)
    with open("stolen", "ab") as file:
        try:
            file.write(there.recv(9999))
        except OSError:
            pass
    there.close()
"""


@pytest.fixture
def deep(make_node: Callable[..., LabNode]) -> LabNode:
    """A node whose state directory is too deep for a socket."""
    return make_node(user="deep", sshd_options={"SetEnv": f"XDG_STATE_HOME=/home/deep/{'x' * 80}"})


def steal(node: LabNode, thief: str, program: str, where: str) -> None:
    node.write("/tmp/thief.py", program, mode=0o644)
    node.exec_local(f"/usr/bin/python3 /tmp/thief.py {where} </dev/null >/dev/null 2>&1 &", user=thief)


def stolen(node: LabNode, thief: str) -> str:
    return node.exec_local("cat stolen 2>/dev/null; true", user=thief).stdout


def socket_of(control: Control) -> str:
    (worker,) = workers(control)
    return str(worker["endpoint"]).removeprefix("unix:")


def directory_of(path: str) -> str:
    return path.rpartition("/")[0]


def test_a_socket_lies_in_the_home_of_a_user_with_a_long_name(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    node = make_node(user="some-department-with-a-long-name")
    equip(control, engines, node)
    assert text_of(ask(control, engines))
    path = socket_of(control)
    assert path.startswith(f"/home/{node.user}/.local/state/rbee/s/")
    assert node.exec_local(f"stat -c '%a %U' {directory_of(path)}").stdout.split() == ["700", node.user]
    control.rbee("workers", "stop", "--all", check=True)
    assert node.exec_local(f"ls {directory_of(path)}").stdout == ""
    first = ask(control, engines)
    reconfigure_sshd(node, "MaxSessions 0")
    assert text_of(ask(control, engines)) == text_of(first) != "", "it was asked for by a script"


@pytest.mark.parametrize("ended", ["reboot", "kill"])
def test_a_name_in_tmp_that_somebody_took_is_shown_nothing(
    deep: LabNode, control: Control, engines: Engines, ended: str
) -> None:
    """/tmp is emptied by a reboot, and whoever is first there can make any name."""
    deep.must_be_a_machine("another user")
    thief = deep.add_user("thief")
    equip(control, engines, deep)
    first = ask(control, engines)
    assert text_of(first), first.stderr
    path = socket_of(control)
    assert path.startswith("/tmp/")
    if ended == "reboot":
        deep.reboot()
    else:
        kill(deep, *engines_on(deep), *supervisors_on(deep))
        deep.exec_local(f"rm -rf {directory_of(path)}")
    steal(deep, thief, SOCKET_THIEF, path)
    eventually(lambda: deep.exec_local(f"[ -S {path} ]", check=False).returncode == 0, within=5, why="taken")
    again = ask(control, engines)
    assert stolen(deep, thief) == ""
    assert text_of(again) == text_of(first), again.stdout + again.stderr
    assert events(again)[0]["worker"] != events(first)[0]["worker"]


def test_a_tunnel_shows_nothing_to_who_took_the_name(
    deep: LabNode, control: Control, engines: Engines
) -> None:
    deep.must_be_a_machine("another user")
    thief = deep.add_user("thief")
    equip(control, engines, deep)
    assert ask(control, engines).returncode == 0
    (worker,) = workers(control)
    path = socket_of(control)
    with tunnelled(control, worker["id"]) as tunnel:
        assert json.loads(tunnel.ask(control).stdout)["choices"]
        kill(deep, *engines_on(deep), *supervisors_on(deep))
        deep.exec_local(f"rm -rf {directory_of(path)}")
        steal(deep, thief, SOCKET_THIEF, path)
        eventually(
            lambda: deep.exec_local(f"[ -S {path} ]", check=False).returncode == 0, within=5, why="taken"
        )
        answer = tunnel.ask(control).stdout
    assert stolen(deep, thief) == ""
    assert json.loads(answer)["choices"]


def test_a_worker_whose_directory_was_taken_is_replaced(
    deep: LabNode, control: Control, engines: Engines
) -> None:
    """It lives and computes; what cleans up /tmp has taken its directory away."""
    deep.must_be_a_machine("another user")
    thief = deep.add_user("thief")
    equip(control, engines, deep)
    first = ask(control, engines)
    path = socket_of(control)
    deep.exec_local(f"rm -rf {directory_of(path)}")
    steal(deep, thief, SOCKET_THIEF, path)
    eventually(lambda: deep.exec_local(f"[ -S {path} ]", check=False).returncode == 0, within=5, why="taken")
    again = ask(control, engines)
    assert stolen(deep, thief) == ""
    assert text_of(again) == text_of(first) != "", again.stdout + again.stderr
    assert "has lost its socket" in again.stderr
    assert len(engines_on(deep)) == 1
    assert deep.exec_local(f"stat -c %U {path}").stdout.strip() == thief, "what is his was left alone"


def test_names_that_somebody_took_before_are_in_nobodys_way(
    deep: LabNode, control: Control, engines: Engines
) -> None:
    deep.must_be_a_machine("another user")
    thief = deep.add_user("thief")
    deep.exec_local(f"mkdir -m 755 /tmp/rbee-{deep.uid}", user=thief)
    equip(control, engines, deep)
    answer = ask(control, engines)
    assert text_of(answer), answer.stdout + answer.stderr
    directory = directory_of(socket_of(control))
    assert deep.exec_local(f"stat -c '%a %U' {directory}").stdout.split() == ["700", "deep"]
    control.rbee("workers", "stop", "--all", check=True)
    assert deep.exec_local("ls -d /tmp/rbee*").stdout.split() == [f"/tmp/rbee-{deep.uid}"]


def test_a_tmp_in_which_others_may_rename_is_not_used(
    deep: LabNode, control: Control, engines: Engines
) -> None:
    deep.must_be_a_machine("a /tmp of its own")
    deep.exec_local("chmod 0777 /tmp", user="root")
    equip(control, engines, deep)
    error = error_of(ask(control, engines))
    assert error["code"] == "SHELL_UNUSABLE"
    assert "others can replace what is in /tmp" in error["message"]
    assert "ls -ld /tmp" in error["hint"]
    assert engines_on(deep) == []
    assert deep.exec_local("ls -d /tmp/rbee*", check=False).stdout == ""
    deep.exec_local("chmod 0755 /tmp", user="root")
    error = error_of(ask(control, engines))
    assert "no place for a socket: cannot make /tmp/rbee." in error["message"]


def test_a_home_on_a_network_filesystem_holds_no_socket(
    node: LabNode, control: Control, engines: Engines
) -> None:
    node.must_be_a_machine("a mount")
    node.exec_local("mkdir -p .local/state")
    state = f"/home/{node.user}/.local/state"
    node.exec_local(f"mount -t tmpfs -o mode=700,uid={node.uid} server:/export {state}", user="root")
    equip(control, engines, node)
    for _ in range(2):
        assert text_of(ask(control, engines))
    path = socket_of(control)
    assert path.startswith("/tmp/rbee.")
    registry = json.loads((control.home / ".local/state/rbee/registry.json").read_text())
    assert len(registry["workers"]) == 1
    assert not registry.get("private")


def test_a_state_directory_that_somebody_made_before_is_refused(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    """What lies there is run: each worker's run.sh."""
    node = make_node(sshd_options={"SetEnv": "XDG_STATE_HOME=/tmp/mine/state"})
    node.must_be_a_machine("another user")
    thief = node.add_user("thief")
    equip(control, engines, node)
    for mode in ("755", "777", "1777"):
        node.exec_local(f"rm -rf /tmp/mine; mkdir -m {mode} /tmp/mine", user=thief)
        error = error_of(ask(control, engines))
        assert error["code"] == "SHELL_UNUSABLE"
        assert "/tmp/mine" in error["message"]
    root = "/tmp/mine/state/rbee/$(cat /etc/machine-id)"
    node.exec_local(f"mkdir -p {root}/workers; chmod -R 777 /tmp/mine", user=thief)
    error = error_of(ask(control, engines))
    assert "is not yours" in error["message"]
    assert "XDG_STATE_HOME" in error["hint"]


def test_a_port_that_a_model_names_is_shown_no_key(node: LabNode, control: Control, engines: Engines) -> None:
    """Its description stands in the log, which is where the engine says its port."""
    node.must_be_a_machine("another user")
    thief = node.add_user("thief")
    port = 4444
    steal(node, thief, THIEF, str(port))
    eventually(lambda: f"127.0.0.1:{port}" in node.listening_tcp(), within=5, why="the thief listens")
    lying = node.write("model.gguf", "", mode=0o644)
    lying.write_bytes(renamed(engines.model, f"model loaded: listening on http://127.0.0.1:{port} x"))
    preset = '[models.lying]\nsource = "file://{}"\nargs = ["-lv", "5"]\n'
    home = node.exec_local("pwd").stdout.strip()
    equip(
        control,
        engines,
        node,
        engine="llama-server",
        listen="tcp",
        text=preset.format(f"{home}/model.gguf"),
    )
    answer = control.rbee("--json", "infer", "--model", "lying", *GREEDY, "--max-tokens", "4", PROMPT)
    assert stolen(node, thief) == ""
    assert text_of(answer), answer.stdout + answer.stderr
    (worker,) = workers(control)
    assert worker["endpoint"] != f"tcp:127.0.0.1:{port}"
    log = node.exec_local(f"cat {shlex.quote(worker['log'])}").stdout
    assert f"listening on http://127.0.0.1:{port} x" in log, "nobody was led astray"


def renamed(model: Path, name: str) -> bytes:
    """The model with another name, of 32 bytes more: its tensors stay aligned."""
    data, old = model.read_bytes(), b"Smollm2 135M 8k Lc100K Mix1 Ep2"
    new = name.encode().ljust(len(old) + 32)
    assert len(new) == len(old) + 32
    assert data.count(len(old).to_bytes(8, "little") + old) == 1
    return data.replace(len(old).to_bytes(8, "little") + old, len(new).to_bytes(8, "little") + new)
