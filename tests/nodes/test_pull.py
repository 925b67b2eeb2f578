"""Models fetched by real nodes from a hub that fails on purpose, asked through the real huggingface_hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hubkit import Fault, Hub, make_certificate
from nodes.serving import GREEDY, PROMPT, equip, events, eventually, text_of

from nodekit import Control, LabNode, NodeLab
from nodekit.engines import Engines
from nodekit.faults import fill, small_disk

SIZE = 3 * 2**20 + 17
BYTES = b"GGUF" + random.Random(7).randbytes(SIZE - 4)
DIGEST = hashlib.sha256(BYTES).hexdigest()
TIMEOUTS = '[timeouts]\ndownload_wait = "10ms"\n'
REF = "hf:org/tiny-GGUF:Q4_K_M"
FILE = f".local/share/rbee/models/hf/org/tiny-GGUF/{DIGEST[:12]}/tiny-Q4_K_M.gguf"


@contextlib.contextmanager
def hub_for(node: LabNode, control: Control, timeouts: str = "") -> Iterator[Hub]:
    """A hub that the node reaches, named to the control machine; and an inventory with that node."""
    with Hub(node.address.rpartition(".")[0] + ".1") as hub:
        hub.add(
            "org/tiny-GGUF", {"README.md": b"hello", "tiny-Q4_K_M.gguf": BYTES, "tiny-Q8_0.gguf": b"GGUF8"}
        )
        control.env["HF_ENDPOINT"] = hub.endpoint
        control.inventory(node, text=TIMEOUTS + timeouts)
        yield hub


@pytest.fixture
def hub(node: LabNode, control: Control) -> Iterator[Hub]:
    with hub_for(node, control) as hub:
        yield hub


def stored(node: LabNode, path: str = FILE) -> Path:
    return node.outside(path)


def parts(node: LabNode) -> list[Path]:
    return list(stored(node, ".local/share/rbee/models/.incoming").glob("*"))


def test_a_model_is_fetched_once_and_checked(hub: Hub, node: LabNode, control: Control) -> None:
    first = control.rbee("models", "pull", REF)
    assert first.returncode == 0, first.stderr
    assert stored(node).read_bytes() == BYTES
    assert parts(node) == []
    note = json.loads(stored(node, FILE + ".json").read_text())
    assert (note["source"], note["sha256"], note["size"]) == (
        "hf:org/tiny-GGUF/tiny-Q4_K_M.gguf",
        DIGEST,
        SIZE,
    )
    assert first.stdout == f"{node.name}: {node.home}/{FILE} (3.0 MiB)\n"
    second = control.rbee("--json", "models", "pull", REF)
    assert json.loads(second.stdout)["pulled"][0]["fetched"] is False
    assert hub.bytes_sent == SIZE
    # Found to be something else: it counts for nothing any more.
    stored(node).write_bytes(b"GGUF" + bytes(SIZE - 4))
    assert control.rbee("models", "verify", "tiny-Q4_K_M").returncode == 1
    third = control.rbee("--json", "models", "pull", REF)
    assert json.loads(third.stdout)["pulled"][0]["fetched"] is True
    assert stored(node).read_bytes() == BYTES


def test_the_parts_of_a_split_model_come_together(hub: Hub, node: LabNode, control: Control) -> None:
    names = [f"Q4_K_M/big-Q4_K_M-0000{n}-of-00002.gguf" for n in (1, 2)]
    hub.add("org/split", dict(zip(names, (BYTES[:70000], BYTES[:80000]), strict=True)))
    answer = control.rbee("--json", "models", "pull", "hf:org/split")
    (got,) = json.loads(answer.stdout)["pulled"]
    assert (got["size"], Path(got["path"]).name) == (150000, "big-Q4_K_M-00001-of-00002.gguf")
    directory = stored(node, got["path"].removeprefix(node.home + "/")).parent
    assert sorted(path.name for path in directory.glob("*.gguf")) == [name[7:] for name in names]
    # The first part, which says that all are there, came last.
    assert [one.sent for one in hub.fetches] == [80000, 70000]


def with_tool(make_node: Callable[..., LabNode], tool: str, name: str, **env: str) -> LabNode:
    """A node that fetches with this program."""
    without = {"curl": (), "wget": ("curl",), "python3": ("curl", "wget")}[tool]
    path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    words = [f"PATH=/home/tool/not:{path}", *(f"{key}={value}" for key, value in env.items())]
    node = make_node(f"{name}-{tool}", user="tool", sshd_options={"SetEnv": " ".join(words)})
    for program in without:
        node.write(f"not/{program}", "#!/bin/sh\nexit 127\n", mode=0o755)
    return node


every_tool = pytest.mark.parametrize("tool", ["curl", "wget", "python3"])


@every_tool
def test_a_download_resumes_where_it_stopped(
    make_node: Callable[..., LabNode], control: Control, tool: str
) -> None:
    node = with_tool(make_node, tool, "pull")
    with hub_for(node, control, 'download_stall = "1s"\n') as hub:
        # 1 MiB, 500 KB, nothing, 300 KB and silence, then a link that is void, then the rest.
        hub.faults += [Fault("cut", 2**20), Fault("reset", 500_000), Fault("500"), Fault("stall", 300_000)]
        hub.faults += [Fault("expire", 200_000)]
        answer = control.rbee("--verbose", "models", "pull", REF)
    assert answer.returncode == 0, answer.stderr
    assert stored(node).read_bytes() == BYTES
    used = {"curl": "curl/", "wget": "Wget/", "python3": "Python-urllib/"}[tool]
    assert {one.headers["user-agent"].startswith(used) for one in hub.fetches} == {True}
    # What was on its way at a reset may be lost; nothing else came twice.
    assert SIZE <= hub.bytes_sent <= SIZE + 500_000
    assert [one.sent for one in hub.fetches if one.headers.get("range") == f"bytes={2**20}-"] == [500_000]
    assert len([one for one in hub.asked if "resolve" in one.path]) == 2, "a new link, after the void one"


def test_a_download_that_does_not_get_on_fails_and_the_next_one_goes_on(
    hub: Hub, node: LabNode, control: Control
) -> None:
    hub.faults += [Fault("cut", 2 * 2**20), *[Fault("500")] * 6]
    failed = control.rbee("--json", "models", "pull", REF)
    error = json.loads(failed.stdout)["error"]
    assert (failed.returncode, error["code"]) == (1, "DOWNLOAD_FAILED")
    assert error["details"]["done_bytes"] == 2 * 2**20
    assert "2.0 of 3.0 MiB" in error["message"] and "HTTP 500" in error["message"]
    assert not stored(node).exists()
    assert len(parts(node)) == 1
    assert control.rbee("models", "pull", REF).returncode == 0
    assert stored(node).read_bytes() == BYTES
    assert hub.bytes_sent == SIZE


def test_wrong_bytes_are_fetched_once_more_and_no_further(hub: Hub, node: LabNode, control: Control) -> None:
    hub.faults += [Fault("wrong"), Fault("wrong")]
    failed = control.rbee("--json", "models", "pull", REF)
    error = json.loads(failed.stdout)["error"]
    assert (failed.returncode, error["code"]) == (1, "CHECKSUM_MISMATCH")
    assert error["details"]["expected"] == DIGEST != error["details"]["got"]
    assert not stored(node).exists()
    assert parts(node) == []
    hub.faults += [Fault("wrong")]
    assert control.rbee("models", "pull", REF).returncode == 0
    assert stored(node).read_bytes() == BYTES


def test_a_full_disk_is_freed_again(hub: Hub, node: LabNode, control: Control) -> None:
    models = small_disk(node, "small", "66m")
    control.inventory(node, every={"models_dir": models})
    short = json.loads(control.rbee("--json", "models", "pull", REF).stdout)["error"]
    assert (short["code"], short["details"]["need_bytes"]) == ("DISK_SHORT", SIZE)
    assert hub.fetches == []
    small_disk(node, "small", "70m")
    hub.faults += [Fault("pause", 2**18)]
    with control.rbee_popen("--json", "models", "pull", REF) as running:
        eventually(lambda: hub.bytes_sent == 2**18, within=30, why="bytes come")
        fill(node, models)
        hub.go_on.set()
        out, _ = running.communicate(timeout=30)
    error = json.loads(out)["error"]
    assert (running.returncode, error["code"]) == (1, "DISK_FULL")
    left = node.exec_local(f"rm {models}/other; find {models} -type f; df -Pk {models} | tail -1").stdout
    assert left.split()[2] == "0", left


def test_the_token_stays_here(hub: Hub, node: LabNode, control: Control) -> None:
    token = "hf_SecretOfTheControlMachine"
    hub.add("org/gated-GGUF", {"tiny-Q4_K_M.gguf": BYTES}, token=token, gated=True)
    ref = "hf:org/gated-GGUF"
    for env, said in (({}, 401), ({"HF_TOKEN": "hf_another"}, 403)):
        refused = control.rbee("--json", "models", "pull", ref, env=env)
        error = json.loads(refused.stdout)["error"]
        assert (refused.returncode, error["code"], error["details"]["status"]) == (1, "MODEL_FORBIDDEN", said)
        assert f"{hub.endpoint}/org/gated-GGUF" in error["hint"]
        assert "hf_another" not in refused.stdout + refused.stderr
    hub.faults += [Fault("pause", 2**18)]
    login = control.home / ".cache/huggingface/token"  # as `hf auth login` leaves it
    login.parent.mkdir(parents=True)
    login.write_text(token)
    with control.rbee_popen("--debug", "models", "pull", ref) as running:
        eventually(lambda: hub.bytes_sent == 2**18, within=30, why="bytes come")
        seen = "\n".join(" ".join(process.argv) for process in node.processes(everybody=True))
        hub.go_on.set()
        out, err = running.communicate(timeout=30)
    assert running.returncode == 0, err
    assert "curl" in seen
    assert all(signature not in seen for signature in hub.links), "a signed link is a secret too"
    left = node.exec_local("grep -rlF -e X-Amz -e hf_Secret . ; true").stdout
    assert token not in seen + out + err + left
    assert left == ""
    remembered = [path for path in control.home.rglob("*") if path.is_file() and path != login]
    assert not [path for path in remembered if token.encode() in path.read_bytes()]
    assert [one for one in hub.asked if one.where == "hub" and one.headers.get("authorization")]
    assert not [one for one in hub.fetches if "authorization" in one.headers]


def test_what_only_the_token_opens_goes_through_here(hub: Hub, node: LabNode, control: Control) -> None:
    names = [f"big-Q4_K_M-0000{n}-of-00002.gguf" for n in (1, 2)]
    files = dict(zip(names, (BYTES[:70000], BYTES[:80000]), strict=True))
    hub.add("org/kept", files, token="hf_secret", lfs=False)
    for ref, words in (("hf:org/kept", ()), (REF, ("--via", "here"))):
        answer = control.rbee("--json", "models", "pull", ref, *words, env={"HF_TOKEN": "hf_secret"})
        assert answer.returncode == 0, answer.stdout + answer.stderr
        (got,) = json.loads(answer.stdout)["pulled"]
        assert got["path"].startswith(f"{node.home}/.local/share/rbee/models/hf/org/")
    assert stored(node).read_bytes() == BYTES
    assert json.loads(stored(node, FILE + ".json").read_text())["source"].startswith("hf:org/tiny-GGUF/")
    kept = stored(node, ".local/share/rbee/models/hf/org/kept")
    assert {path.name: path.read_bytes() for path in kept.rglob("*.gguf")} == files
    assert not [one for one in hub.asked if not one.headers["user-agent"].startswith("rbee-ssh/")]


def test_four_at_once_fetch_once(hub: Hub, node: LabNode, control: Control) -> None:
    hub.rate = 2 * 2**20
    four = [control.rbee_popen("--json", "models", "pull", REF) for _ in range(4)]
    answers = [running.communicate(timeout=60) for running in four]
    assert [running.returncode for running in four] == [0] * 4, answers
    assert len({json.loads(out)["pulled"][0]["path"] for out, _ in answers}) == 1
    assert hub.bytes_sent == SIZE


def test_ctrl_c_stops_a_fetch_and_a_lost_machine_does_not(hub: Hub, node: LabNode, control: Control) -> None:
    hub.faults += [Fault("pause", 2**18), Fault("pause", 2**18)]
    with control.rbee_popen("models", "pull", REF) as running:
        eventually(lambda: hub.bytes_sent == 2**18, within=30, why="bytes come")
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "stopped" in err
    assert not [p for p in node.processes() if "curl" in p.argv or "job.sh" in " ".join(p.argv)]
    assert len(parts(node)) == 1
    assert not node.exec_local("ls ~/.local/state/rbee/*/fetches/*/*.url", check=False).stdout, "a link"
    with control.rbee_popen("models", "pull", REF) as running:
        eventually(lambda: hub.bytes_sent == 2**19, within=30, why="it goes on")
        running.send_signal(signal.SIGHUP)  # as when the terminal is closed
        running.communicate(timeout=20)
    joined = control.rbee("models", "pull", "--detach", REF)
    assert joined.stdout == f"{node.name}: fetching tiny-Q4_K_M.gguf in the background\n"
    hub.go_on.set()
    eventually(stored(node).exists, within=30, why="it needs nobody")
    assert stored(node).read_bytes() == BYTES
    assert len(hub.fetches) == 2


def test_what_a_killed_fetch_left_goes_after_a_week(hub: Hub, node: LabNode, control: Control) -> None:
    """Its directory holds signed links, and nobody may ever ask for that model again."""
    fetches = f"~/.local/state/rbee/{node.exec_local('cat /etc/machine-id').stdout.strip()}/fetches"
    for name in ("young", "old", "running"):
        node.exec_local(f"mkdir -p {fetches}/{name}; cd {fetches}/{name}; echo link >1.url; echo '1 1' >job")
    node.exec_local(
        f"""setsid sleep 300 >/dev/null 2>&1 </dev/null &
        echo "$! $(cut -d' ' -f22 /proc/$!/stat)" >{fetches}/running/job
        touch -d '8 days ago' {fetches}/old {fetches}/running"""
    )
    assert control.rbee("models", "pull", REF).returncode == 0
    left = node.exec_local(f"ls {fetches}").stdout.split()
    assert {"young", "old", "running"} & set(left) == {"young", "running"}
    node.exec_local(f"touch -d '2 days ago' {fetches}/young")
    assert control.rbee("models", "prune", "--older-than", "30d").returncode == 0
    assert "young" not in node.exec_local(f"ls {fetches}").stdout.split()


def test_infer_fetches_what_is_missing_and_needs_no_hub_afterwards(
    node: LabNode, control: Control, engines: Engines
) -> None:
    with hub_for(node, control) as hub:
        hub.add("org/smol-GGUF", {"smol.Q4_1.gguf": engines.model.read_bytes()})
        equip(control, engines, node, text=TIMEOUTS)
        # What it is and takes is told before it is fetched, out of its first bytes.
        shown = control.rbee("--json", "models", "show", "hf:org/smol-GGUF")
        told = json.loads(shown.stdout)
        assert (told["model"]["parameters"], told["nodes"][0]["file_there"]) == (134_515_008, False), shown
        assert told["nodes"][0]["fits"] is True
        assert hub.bytes_sent < 30 * 2**20
        words = ("infer", "--model", "hf:org/smol-GGUF", *GREEDY, "--max-tokens", "4", PROMPT)
        first = control.rbee("--json", *words)
        assert first.returncode == 0, first.stdout + first.stderr
        assert events(first)[0]["model"] == "hf:org/smol-GGUF"
        asked = len(hub.asked)
        warm = control.rbee("--json", *words)
        assert (events(warm)[0]["reused"], text_of(warm)) == (True, text_of(first))
        assert len(hub.asked) == asked, "the hub is not asked for what is there"
    # The node has fetched it, and nobody has read its header: the first list does, and writes it down.
    (listed,) = json.loads(control.rbee("--json", "models", "list").stdout)["models"]
    facts = {"architecture": "llama", "parameters": 134_515_008, "context": 8192, "quant": "Q4_1"}
    assert {key: listed[key] for key in facts} == facts
    note = stored(node, listed["path"].removeprefix(node.home + "/") + ".json")
    told = json.loads(note.read_text())
    assert {key: told[key] for key in facts} == facts
    assert told["source"] == "hf:org/smol-GGUF/smol.Q4_1.gguf" and told["last_used"] == listed["last_used"]
    before = note.stat()
    assert "135M" in control.rbee("models", "list").stdout
    assert note.stat() == before, "once"
    assert control.rbee("workers", "stop", "--all").returncode == 0
    full = control.rbee("--json", *words)
    assert (events(full)[0]["reused"], text_of(full)) == (False, text_of(first))
    (control.home / ".local/state/rbee/registry.json").unlink()
    forgotten = control.rbee("--json", *words)
    assert text_of(forgotten) == text_of(first), forgotten.stdout
    assert "does not answer" in forgotten.stderr and f"{node.name} has smol.Q4_1.gguf" in forgotten.stderr


def trusted(node: LabNode, control: Control, directory: Path) -> tuple[str, Path]:
    """An address that node and control machine reach, and a certificate for it that the node believes in."""
    certificate = directory / "both.pem"
    address = node.address.rpartition(".")[0] + ".1"
    make_certificate(certificate, address)
    node.write("ca.pem", certificate.read_text())
    node.write(".curlrc", f'cacert = "{node.home}/ca.pem"\n')
    node.write(".wgetrc", f"ca_certificate = {node.home}/ca.pem\n")
    control.inventory(node, text="[timeouts]\ndownload_tries = 2\n")
    return address, certificate


@every_tool
def test_no_tool_goes_from_https_to_http(
    lab: NodeLab,
    make_node: Callable[..., LabNode],
    control: Control,
    tmp_path_factory: pytest.TempPathFactory,
    tool: str,
) -> None:
    """Which this machine would have seen, if it had been let through to the server as the node is."""
    env = {"SSL_CERT_FILE": "/home/tool/ca.pem", "no_proxy": f"{lab.network}.1"}
    node = with_tool(make_node, tool, "down", **env)
    address, certificate = trusted(node, control, tmp_path_factory.mktemp("tls"))
    with Hub(address, tls=certificate) as hub:
        hub.add("org/any", {"tiny.gguf": BYTES})
        failed = control.rbee("--json", "models", "pull", f"{hub.cdn}/plain/down.gguf")
        assert json.loads(failed.stdout)["error"]["code"] == "DOWNLOAD_FAILED", failed.stdout
        assert [one.path for one in hub.asked if one.where == "hub"] == []
        answer = control.rbee("models", "pull", f"{hub.cdn}/plain/tiny.gguf")
        assert answer.returncode == 0, answer.stderr
    used = {"curl": "curl/", "wget": "Wget/", "python3": "Python-urllib/"}[tool]
    assert {one.headers["user-agent"].startswith(used) for one in hub.fetches} == {True}


def test_a_signature_is_kept_nowhere(
    node: LabNode, control: Control, tmp_path_factory: pytest.TempPathFactory
) -> None:
    address, certificate = trusted(node, control, tmp_path_factory.mktemp("tls"))
    (control.home / ".curlrc").write_text(f'cacert = "{certificate}"\n')
    control.env["SSL_CERT_FILE"] = str(certificate)
    with Hub(address, tls=certificate) as hub:
        hub.add("org/any", {"tiny.gguf": BYTES, "page.gguf": b"<html>"})
        signed = f"{hub.cdn}/plain/tiny.gguf?sign=hunter2"
        for words in (
            ["pull", signed],
            ["pull", f"{hub.cdn}/plain/none.gguf?sign=hunter2"],
            ["pull", f"{hub.cdn}/plain/page.gguf?sign=hunter2"],
            ["pull", "--via", "here", f"{signed}#sha256={DIGEST}"],
            ["show", signed],
            ["list"],
            ["rm", signed],
        ):
            answer = control.rbee("--verbose", "--json", "models", *words)
            assert "hunter2" not in answer.stdout + answer.stderr
        assert [one.path for one in hub.fetches if "hunter2" in one.path], "it was sent"
    assert node.exec_local("grep -rl hunter2 . || :").stdout == ""
    assert subprocess.run(["grep", "-rl", "hunter2", control.home], check=False).returncode == 1


def test_a_url_is_fetched_over_tls(
    node: LabNode, control: Control, tmp_path_factory: pytest.TempPathFactory
) -> None:
    address, certificate = trusted(node, control, tmp_path_factory.mktemp("tls"))
    (control.home / ".curlrc").write_text(f'cacert = "{certificate}"\n')
    control.env["SSL_CERT_FILE"] = str(certificate)
    with Hub(address, tls=certificate) as hub:
        hub.add("org/any", {"tiny.gguf": BYTES, "page.gguf": b"<html>", "small.gguf": BYTES[:5000]})
        url = f"{hub.cdn}/plain/tiny.gguf"
        for reference in (url, f"{url}#sha256={DIGEST}", url):
            answer = control.rbee("--json", "models", "pull", reference)
            assert answer.returncode == 0, answer.stdout
            (got,) = json.loads(answer.stdout)["pulled"]
            note = json.loads(node.outside(got["path"][len(node.home) + 1 :] + ".json").read_text())
            assert (note["sha256"], note["source"]) == (DIGEST, url)
        # Where no SHA-256 was told, what came has one: the same bytes are not fetched again.
        assert [one.sent for one in hub.fetches if one.sent > 4] == [SIZE]
        here = control.rbee("--json", "models", "pull", "--via", "here", f"{hub.cdn}/plain/small.gguf")
        assert here.returncode == 0, here.stdout + here.stderr
        (got,) = json.loads(here.stdout)["pulled"]
        assert Path(got["path"]).name == "small.gguf"
        assert node.outside(got["path"][len(node.home) + 1 :]).read_bytes() == BYTES[:5000]
        for wrong, code in (
            (f"{hub.cdn}/plain/page.gguf", "MODEL_INVALID"),
            (f"{hub.cdn}/plain/none.gguf", "MODEL_NOT_FOUND"),
            (f"{hub.cdn}/plain/down.gguf", "DOWNLOAD_FAILED"),
        ):
            failed = control.rbee("--json", "models", "pull", wrong)
            assert json.loads(failed.stdout)["error"]["code"] == code
