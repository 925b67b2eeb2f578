"""Errors of this machine alone: the command line, the inventory, the registry. In text and in JSON."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from nodekit import Control
from rbee_ssh.registry.storage import locked

INFER = ("infer", "--model", "file:///m.gguf", "hi")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("INVENTORY_NOT_FOUND", ("--inventory", "/none/such.toml", "nodes", "list")),
        ("NODE_UNKNOWN", ("infer", "--node", "workstaton", "--model", "file:///m.gguf", "hi")),
        ("NODE_UNKNOWN", ("nodes", "status", "--tag", "gpus")),
        ("WORKER_UNKNOWN", ("workers", "logs", "0123")),
        ("MODEL_REF_INVALID", ("infer", "--model", "hf:no-slash", "hi")),
        ("BACKEND_INVALID", (*INFER, "--backend", "abacus")),
        ("DEVICE_INVALID", (*INFER, "--device", "first")),
        ("USAGE_INVALID", ("workers", "stop")),
        ("USAGE_INVALID", ("infer", "--no-such-option")),
    ],
)
def test_wrong_usage(control: Control, code: str, words: tuple[str, ...]) -> None:
    control.inventory(nodes_also={"workstation": {"host": "192.0.2.1", "tags": ["gpu"]}}, text="")
    if code == "WORKER_UNKNOWN":
        control.inventory(nodes_also={"localhost": {"host": "localhost"}})
    assert control.failed(*words, status=2)["code"] == code


def test_every_fault_of_an_inventory_at_once(control: Control) -> None:
    path = control.inventory(text='[nodes.a]\nhots = "x"\nport = "y"\n[modles.b]\n')
    error = control.failed("nodes", "list", status=2)
    assert error["code"] == "INVENTORY_INVALID"
    assert all(word in error["message"] for word in (str(path), "hots", "host", "port", "modles")), error


SETS_TOO_MUCH = '[nodes.a]\nhost = "a"\nsetup = ["x.py:y"]\n'


@pytest.mark.parametrize(("mode", "text"), [(0o666, ""), (0o644, SETS_TOO_MUCH)], ids=["mode", "setup"])
def test_a_found_inventory_is_not_a_trusted_one(control: Control, mode: int, text: str) -> None:
    found = control.work / "inventory.toml"
    found.write_text(text)
    found.chmod(mode)
    assert control.failed("nodes", "list", status=2)["code"] == "INVENTORY_UNTRUSTED"
    assert control.failed("-q", "nodes", "list", status=2)["code"] == "INVENTORY_UNTRUSTED"


def test_a_found_inventory_is_allowed_and_denied(control: Control) -> None:
    found = control.work / "inventory.toml"
    assert control.failed("inventory", "allow", status=2)["code"] == "INVENTORY_NOT_FOUND"
    assert control.failed("inventory", "allow", "my.toml", status=2)["code"] == "USAGE_INVALID"
    found.write_text(SETS_TOO_MUCH)
    found.chmod(0o644)
    allowed = control.rbee("inventory", "allow", check=True)
    assert allowed.stdout == (
        f"inventory.toml:3: nodes.a.setup: decides what runs on this machine\nallowed {found}\n"
    )
    listed = control.rbee("nodes", "list", check=True)
    assert ("\na " in listed.stdout, listed.stderr) == (True, "")
    control.rbee("nodes", "add", "b", "--no-check", "--user", "me", check=True)
    (control.home / ".local/state/rbee/registry.json").unlink(missing_ok=True)
    control.rbee("nodes", "remove", "b", check=True)
    for said in ("is no longer allowed", "was not allowed"):
        assert control.rbee("inventory", "deny", str(found)).stdout == f"{found} {said}\n"
        answer = control.rbee("--json", "inventory", "deny")
        assert json.loads(answer.stdout) == {"denied": str(found), "was_allowed": False}
    assert control.failed("nodes", "list", status=2)["code"] == "INVENTORY_UNTRUSTED"
    found.chmod(0o666)
    assert control.failed("inventory", "allow", status=2)["code"] == "INVENTORY_UNTRUSTED"


def test_a_registry_that_another_command_holds(control: Control) -> None:
    patience = "[timeouts]\nregistry_lock = 0.3\n"
    control.inventory(nodes_also={"localhost": {"host": "localhost"}}, text=patience)
    control.rbee("workers", "list", check=True)
    path = control.home / ".local/state/rbee/registry.lock"
    with locked(path, shared=False, timeout=5, say=print, command="rbee cleanup"):
        error = control.failed("workers", "list")
    assert error["code"] == "REGISTRY_LOCKED"
    assert error["message"].startswith(
        f"the registry is held by process {os.getpid()} (rbee cleanup), waited 0.3 s"
    )
    assert f"-p {os.getpid()}" in error["hint"]
    assert control.rbee("workers", "list").returncode == 0


def test_a_command_that_waits_for_the_registry_is_cancelled_at_once(control: Control) -> None:
    control.inventory(nodes_also={"localhost": {"host": "localhost"}})
    control.rbee("workers", "list", check=True)
    path = control.home / ".local/state/rbee/registry.lock"
    before = path.with_name("registry.json").read_bytes()
    with path.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = control.rbee_popen("workers", "list")
        assert process.stderr is not None
        assert "waiting for another command to let go of the registry" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait(timeout=60) == 130
        assert time.monotonic() - began < 2
        assert process.stderr.read() == "cancelled\n"
    assert path.with_name("registry.json").read_bytes() == before
    assert control.rbee("workers", "list").returncode == 0


def test_an_inventory_that_another_command_holds(control: Control) -> None:
    path = control.inventory(nodes_also={"box": {"host": "192.0.2.1"}})
    with path.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        answer = control.rbee("--json", "nodes", "remove", "box")
    assert json.loads(answer.stdout)["error"]["code"] == "INVENTORY_LOCKED"
    assert "[nodes.box]" in path.read_text()


@pytest.mark.parametrize("number", [1, 2, 15])
def test_a_signal_is_a_ctrl_c(control: Control, number: int) -> None:
    """SIGHUP and SIGTERM as SIGINT, here while a server does not say a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = {"host": "127.0.0.1", "port": silent.getsockname()[1], "user": "nobody"}
        control.inventory(nodes_also={"gone": host})
        process = control.rbee_popen("--json", "nodes", "status")
        silent.settimeout(20)
        with silent.accept()[0]:
            process.send_signal(number)
            began = time.monotonic()
            out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 6
    assert process.returncode == 130
    assert json.loads(out)["error"]["code"] == "CANCELLED"
    assert "Traceback" not in err


def test_a_bug_is_one_line_and_a_file(control: Control, tmp_path: Path) -> None:
    """A module that breaks stands for whatever we did not think of."""
    (tmp_path / "sitecustomize.py").write_text(
        "def broken(*args, **kwargs): raise ZeroDivisionError('hello')\n"
        "import rbee_ssh.inventory.find as find\nfind.understood = broken\n"
    )
    answer = control.rbee("--json", "nodes", "list", env={"PYTHONPATH": str(tmp_path)})
    assert answer.returncode == 1
    error = json.loads(answer.stdout)["error"]
    assert error["code"] == "UNEXPECTED"
    assert "Traceback" not in answer.stderr
    saved = next(Path(word) for word in error["message"].replace(",", " ").split() if word.startswith("/"))
    assert "ZeroDivisionError" in saved.read_text()
    assert saved.stat().st_mode & 0o077 == 0


def test_a_directory_is_no_model(control: Control) -> None:
    control.inventory(nodes_also={"box": {"host": "192.0.2.1"}})
    assert control.failed("models", "push", ".", status=1)["code"] == "MODEL_NOT_FOUND"
