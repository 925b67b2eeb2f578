"""`rbee nodes setup` on real sshd nodes without an engine or internet; a server on the host has packages."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from signal import SIGINT
from typing import Any

import pytest
from hubkit import Hub
from nodes.keys import fingerprint, host_key, new_key
from nodes.packages import NodeStore, contents, pack
from nodes.serving import GREEDY, PROMPT, eventually, model, text_of
from nodes.test_host_keys import RELAY
from nodes.test_pull import every_tool, trusted, with_tool
from nodes.test_reaching import error_of

from nodekit import Control, LabNode, NodeLab
from nodekit.engines import Engines
from rbee_ssh.errors import HostKeyChanged, HostKeyUnknown, RbeeError
from rbee_ssh.inventory import Timeouts
from rbee_ssh.provision import link
from rbee_ssh.provision.line_writer import LineWriter
from rbee_ssh.provision.transport import SshTransport
from rbee_ssh.reporter import SilentReporter
from rbee_ssh.ssh.lean import asyncssh

RECIPE = """
from invoke import task

@task
def driver(c):
    print("to", c.host)
    c.run("printf '%s\\\\n' \\"it's $HOME\\" >driver; printf 'a\\\\033[31mdriver\\\\n'")

def broken(c):
    c.run("echo no such card >&2; exit 3")
"""


@pytest.fixture(scope="module")
def packages(lab: NodeLab, engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeStore]:
    with contents(tmp_path_factory.mktemp("shelf"), engines.wheels, f"{lab.network}.1") as opened:
        yield opened


@pytest.fixture(scope="module")
def archive(packages: NodeStore, engines: Engines) -> Path:
    """A release archive with the tests' llama-server, on the shelf."""
    path = packages.directory / "llama-b1-bin-x64.tar.gz"
    pack(engines.llama_server, path)
    return path


def results(answer: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """What `nodes setup --json` says of each node."""
    return {node["name"]: node for node in json.loads(answer.stdout)["nodes"]}


def infers(control: Control, engines: Engines, node: str, engine: str) -> None:
    words = (*GREEDY, *model(engines), "--max-tokens", "4", PROMPT)
    answer = control.rbee("--json", "infer", "--node", node, *words)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert text_of(answer)
    assert json.loads(answer.stdout.splitlines()[0])["engine"] == engine


def installers(node: LabNode) -> list[str]:
    return [" ".join(process.argv) for process in node.processes() if "pip" in process.argv]


def test_from_an_empty_home_through_an_interruption_to_tokens(
    make_node: Callable[..., LabNode], control: Control, engines: Engines, packages: NodeStore
) -> None:
    node = make_node(files=packages.trust())
    where = ("--host", node.address, "--user", node.user, "--setup", "recipes.py:driver")
    unknown = error_of(control.rbee("--json", "nodes", "add", "new", *where))
    assert (unknown["code"], unknown["details"]["fingerprint"]) == ("HOST_KEY_UNKNOWN", fingerprint(node))
    control.rbee("nodes", "add", "new", *where, "--no-check", check=True)
    assert "Accepted" not in node.sshd_log
    control.rbee("nodes", "trust", "new", "--yes", "--fingerprint", fingerprint(node), check=True)
    added = control.rbee("nodes", "add", "new", *where, "--replace")
    assert added.returncode == 0, added.stderr
    assert "rbee nodes setup new" in added.stderr
    missing = control.rbee("--json", "infer", "--node", "new", *model(engines), PROMPT)
    assert json.loads(missing.stdout)["error"]["hint"] == "rbee nodes setup new"
    (control.home / ".config/rbee/recipes.py").write_text(RECIPE)
    setup = ("nodes", "setup", "new", "--index-url", packages.index)

    packages.gate.clear()
    first = control.rbee_popen(*setup)
    assert packages.waiting.wait(30)
    first.send_signal(SIGINT)
    out, err = first.communicate(timeout=20)
    packages.gate.set()
    assert (first.returncode, out) == (130, "")
    assert "installing xllamacpp" in err
    eventually(lambda: not installers(node), within=10, why="pip ends with the connection")

    # As if it had been interrupted earlier still: what there is of the environment is not to be used.
    base = f"{node.home}/.local/share/rbee"
    node.exec_local(f"printf venv >{base}/venv.unfinished; rm -r {base}/venv/lib/python3*/site-packages/pip")
    done = control.rbee(*setup)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:3] == ["new", "installed", "xllamacpp"]
    assert "making it anew" in done.stderr
    assert "Successfully installed xllamacpp" in done.stderr
    assert f"to {node.address}" in done.stderr
    assert "\x1b" not in done.stderr
    assert node.exec_local("cat driver").stdout == f"it's {node.home}\n"

    again = control.rbee("--json", *setup)
    assert again.returncode == 0
    assert results(again)["new"]["changed"] is False
    assert "already there: xllamacpp" in again.stderr
    infers(control, engines, "new", "xllamacpp")


def without_venv(node: LabNode) -> None:
    """As Debian without its package python3-venv."""
    places = "/usr/lib/python3*/ensurepip /usr/local/lib/python3*/ensurepip"
    node.exec_local(f"for p in {places}; do [ ! -d $p ] || mount -t tmpfs none $p; done", user="root")


def with_uv(node: LabNode, engines: Engines, packages: NodeStore) -> None:
    """With nothing to make an environment with but uv."""
    without_venv(node)
    (wheel,) = engines.wheels.glob("uv-*.whl")
    node.exec_local(
        f"mkdir -p .local/bin && curl -fsS -o uv.zip {packages.url}/simple/uv/{wheel.name} && "
        "unzip -qjo uv.zip '*/uv' -d .local/bin && chmod 755 .local/bin/uv"
    )


def test_one_without_venv_fails_with_the_fix_and_another_is_set_up_by_uv(
    make_node: Callable[..., LabNode], control: Control, engines: Engines, packages: NodeStore
) -> None:
    without, uvs = make_node(), make_node(shell="/bin/csh", files=packages.trust())
    relay = control.home / "relay.py"
    relay.write_text(RELAY)
    control.ssh_config.write_text(
        f"Host {uvs.address}\n  ProxyCommand {sys.executable} {relay} {uvs.address} {uvs.port}\n"
    )
    without_venv(without)
    with_uv(uvs, engines, packages)
    control.inventory(without, uvs, every={"tags": ["new"]})
    answer = control.rbee("--json", "nodes", "setup", "--tag", "new", "--index-url", packages.index)
    assert answer.returncode == 1
    error = results(answer)[without.name]["error"]
    assert error["code"] == "SETUP_FAILED"
    assert "ensurepip" in error["message"]
    assert "apt-get install python3-venv" in error["hint"]
    assert f"rbee nodes setup {without.name}" in error["hint"]
    done = results(answer)[uvs.name]
    assert done["error"] is None, done
    assert (done["changed"], done["engine"]["name"]) == (True, "xllamacpp")
    assert f"{uvs.name}: making a Python environment with {uvs.home}/.local/bin/uv" in answer.stderr


def test_an_archive_through_a_jump_host_with_an_agents_key_and_an_authority(
    make_node: Callable[..., LabNode], control: Control, engines: Engines, packages: NodeStore, archive: Path
) -> None:
    bastion = make_node()
    node = make_node(reachable_from=bastion, sshd_options={"HostCertificate": "/tmp/host-cert.pub"})
    authority = control.home / "authority"
    public = new_key(authority)
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "it", "-h", "-n", node.address]
    subprocess.run([*sign, node.directory / "host_key.pub"], check=True)
    node.outside("/tmp/host-cert.pub").write_text((node.directory / "host_key-cert.pub").read_text())
    node.kill_sshd()
    node.start_sshd()
    control.ssh_config.write_text("Include extra\n")
    (control.home / ".ssh/extra").write_text(
        f"Host far\n  HostName {node.address}\n  User {node.user}\n"
        f"  ProxyJump {bastion.user}@{bastion.address}\n"
    )
    revoked = new_key(control.home / "revoked")
    control.known_hosts.write_text(
        f"@revoked * {revoked}\n@cert-authority {node.address} {public}\n"
        f"{bastion.address} {host_key(bastion)}\n"
    )
    control.inventory(nodes_also={"far": {"host": "far", "setup": ["recipes.py:broken"]}})
    (control.home / "recipes.py").write_text(RECIPE)
    key = control.home / ".ssh/id_ed25519"
    agent = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True, env=control.env)
    variables = dict(part.split("=", 1) for part in agent.stdout.replace("\n", "").split(";") if "=" in part)
    try:
        env = control.env | {"SSH_AUTH_SOCK": variables["SSH_AUTH_SOCK"]}
        subprocess.run(["ssh-add", "-q", key], check=True, env=env)
        for file in (key, key.with_suffix(".pub")):
            file.rename(file.with_suffix(file.suffix + ".away"))
        setup = ("--json", "nodes", "setup", "far", "--archive")
        failed = control.rbee(*setup, archive, env=env)
        assert failed.returncode == 1
        error = results(failed)["far"]["error"]
        assert (error["code"], error["details"]["step"]) == ("SETUP_FAILED", "recipes.py:broken")
        assert error["details"]["output"] == ["no such card"]
        assert "exit status 3" in error["message"]

        control.inventory(nodes_also={"far": {"host": "far"}})
        answer = control.rbee(*setup, archive, env=env)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        done = results(answer)["far"]
        assert done["engine"]["name"] == "llama-server"
        assert "/.local/share/rbee/engines/llama-b1-bin-x64-" in done["engine"]["path"]
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        url = f"{packages.url}/{archive.name}"
        fetched = control.rbee(*setup, url, "--sha256", digest, env=env)
        assert results(fetched)["far"]["changed"] is False, fetched.stderr
        wrong = control.rbee(*setup, url, "--sha256", "0" * 64, env=env)
        assert results(wrong)["far"]["error"]["code"] == "CHECKSUM_MISMATCH"
        assert digest in results(wrong)["far"]["error"]["message"]
        for file in (key, key.with_suffix(".pub")):
            file.with_suffix(file.suffix + ".away").rename(file)
    finally:
        subprocess.run(["kill", variables["SSH_AGENT_PID"]], check=False)
    infers(control, engines, "far", "llama-server")
    left = node.exec_local("ls -A .local/share/rbee/engines").stdout.split()
    assert sorted(left) == sorted(["current", Path(done["engine"]["path"]).parents[2].name])


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_an_index_that_leads_to_http_gives_nothing(
    make_node: Callable[..., LabNode], control: Control, engines: Engines, packages: NodeStore, tool: str
) -> None:
    node = make_node(
        files=packages.trust(), sshd_options={"SetEnv": f"no_proxy={packages.url[7:].split(':')[0]}"}
    )
    if tool == "uv":
        with_uv(node, engines, packages)
    control.inventory(node)
    packages.asked.clear()
    answer = control.rbee("--json", "nodes", "setup", node.name, "--index-url", packages.downward)
    error = results(answer)[node.name]["error"]
    assert (error["code"], error["details"]["step"]) == ("SETUP_FAILED", "installing xllamacpp")
    assert packages.asked, answer.stderr
    assert {secure for secure, _ in packages.asked} == {True}, packages.asked


@every_tool
def test_what_is_installed_does_not_come_over_http(
    lab: NodeLab,
    make_node: Callable[..., LabNode],
    control: Control,
    tmp_path_factory: pytest.TempPathFactory,
    tool: str,
) -> None:
    env = {"SSL_CERT_FILE": "/home/tool/ca.pem", "no_proxy": f"{lab.network}.1"}
    node = with_tool(make_node, tool, "archive", **env)
    packed = tmp_path_factory.mktemp("packed") / "a.tar.gz"
    program = b"#!/bin/sh\necho 'version: 1 (abc)'\n"
    with tarfile.open(packed, "w:gz") as tar:
        info = tarfile.TarInfo("llama-server")
        info.size = len(program)
        tar.addfile(info, io.BytesIO(program))
    content = packed.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    setup = ("--json", "nodes", "setup", node.name, "--archive")
    address, certificate = trusted(node, control, tmp_path_factory.mktemp("tls"))
    with Hub(address, tls=certificate) as hub:
        hub.add("org/any", {"tiny.gguf": content})
        # The one is a redirect to the other.
        over_https, over_http = f"{hub.cdn}/plain/down.gguf", f"{hub.endpoint}/plain/tiny.gguf"
        for words in ([over_https], [over_https, "--sha256", digest]):
            error = results(control.rbee(*setup, *words))[node.name]["error"]
            assert error["code"] == "SETUP_FAILED"
            assert "the archive could not be fetched" in error["message"]
        assert error_of(control.rbee(*setup, over_http))["code"] == "USAGE_INVALID"
        assert [one.path for one in hub.asked if one.where == "hub"] == []
        assert node.exec_local("ls -A .local/share/rbee/engines").stdout == ""
        for words in ([f"{hub.cdn}/plain/tiny.gguf"], [over_http, "--sha256", digest]):
            done = results(control.rbee(*setup, *words))[node.name]
            assert done["error"] is None, (words, done)
            assert done["changed"] is True
    used = {"curl": "curl/", "wget": "Wget/", "python3": "Python-urllib/"}[tool]
    assert {one.headers["user-agent"].startswith(used) for one in hub.asked} == {True}


def test_unknown_and_changed_host_keys_are_refused_by_fabric_itself(
    node: LabNode, control: Control, tmp_path: Path
) -> None:
    control.inventory(node, trust=False)
    refused = control.rbee("--json", "nodes", "setup", node.name)
    assert results(refused)[node.name]["error"]["code"] == "HOST_KEY_UNKNOWN"
    for known, expected in (("", HostKeyUnknown), (new_key(tmp_path / "other"), HostKeyChanged)):
        assert isinstance(fabric_refuses(node, known, control.home / ".ssh/id_ed25519"), expected)
    assert "Accepted" not in node.sshd_log
    # The right one lets in, with a key of each kind.
    for kind in ("ed25519", "rsa", "ecdsa"):
        key = tmp_path / kind
        node.authorize(new_key(key, kind))
        assert fabric_refuses(node, host_key(node), key) is None
    assert node.sshd_log.count("Accepted publickey for") == 3


def fabric_refuses(node: LabNode, known: str, key: Path) -> RbeeError | None:
    """What Fabric's connection makes of a server, when `known` is the host key it was handed."""

    async def connect() -> RbeeError | None:
        keys = asyncssh.load_keypairs(str(key))
        with closing(socket.create_connection((node.address, node.port))) as end:
            loop = asyncio.get_running_loop()
            way = SshTransport(
                node.name, node.address, node.port, node.user, known, tuple(keys), end, loop, Timeouts()
            )
            try:
                opened = await asyncio.to_thread(
                    link.connected, way, "ssh node", LineWriter(SilentReporter(), loop)
                )
            except RbeeError as error:
                return error
            opened.cut()
            return None

    return asyncio.run(connect())


def test_localhost_is_set_up_without_any_sshd(control: Control, archive: Path) -> None:
    control.inventory(nodes_also={"here": {"host": "localhost", "setup": ["recipes.py:local"]}})
    (control.home / "recipes.py").write_text("def local(c):\n    c.run('pwd >from-recipe')\n")
    answer = control.rbee("--json", "nodes", "setup", "here", "--archive", archive)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    path = Path(results(answer)["here"]["engine"]["path"])
    assert path.is_relative_to(control.home / ".local/share/rbee/engines")
    assert archive.exists()
    assert (control.work / "from-recipe").exists()
    again = control.rbee("--json", "nodes", "setup", "here", "--archive", archive)
    assert results(again)["here"]["changed"] is False
