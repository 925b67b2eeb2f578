"""The main job over real sshd with real engines: tokens on stdout, one worker, nothing open."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodes.serving import (
    GREEDY,
    PROMPT,
    endless,
    engines_on,
    equip,
    events,
    eventually,
    kill,
    model,
    text_of,
    workers,
)
from unit.models.gguf_files import write

from nodekit import Control, LabNode
from nodekit.engines import Engines


@pytest.mark.parametrize("engine", ["llama-server", "xllamacpp", "llama-cpp-python"])
def test_rbee_gives_the_tokens_that_curl_gives_on_the_node(
    node: LabNode, control: Control, engines: Engines, engine: str
) -> None:
    equip(control, engines, node, engine=engine)
    # The first answer fills the engine's prompt cache, which changes the last bits of what follows.
    control.rbee("infer", *model(engines), *GREEDY, "--max-tokens", "24", PROMPT, timeout=120, check=True)
    answer = control.rbee(
        "--json",
        "infer",
        "--node",
        node.name,
        *model(engines),
        *GREEDY,
        "--max-tokens",
        "24",
        PROMPT,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    said = events(answer)
    assert said[0]["event"] == "start"
    assert (said[0]["node"], said[0]["engine"], said[0]["reused"]) == (node.name, engine, True)
    assert [event["index"] for event in said if event["event"] == "token"] == list(range(len(said) - 2))
    assert said[-1]["event"] == "done"
    assert said[-1]["finish_reason"] in ("length", "stop")
    (worker,) = workers(control)
    body = {
        "messages": [{"role": "user", "content": PROMPT}],
        "temperature": 0,
        "seed": 1,
        "max_tokens": 24,
    }
    socket = worker["endpoint"].removeprefix("unix:")
    directory = Path(worker["log"]).parent
    node.write("ask.json", json.dumps(body))
    curl = node.exec_local(
        f"printf 'Authorization: Bearer %s\\n' \"$(cat {directory}/key)\" >head; "
        f"curl -s --unix-socket {socket} -H @head -H 'Content-Type: application/json' "
        "-d @ask.json http://localhost/v1/chat/completions"
    )
    direct = json.loads(curl.stdout)["choices"][0]["message"]["content"]
    assert text_of(answer) == direct
    assert direct.strip()


def test_a_worker_is_reused_and_stopped(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    first = control.rbee("--json", "infer", *model(engines), *GREEDY, "--max-tokens", "4", PROMPT)
    second = control.rbee("--json", "infer", *model(engines), *GREEDY, "--max-tokens", "4", PROMPT)
    assert text_of(first) == text_of(second)
    assert (events(first)[0]["reused"], events(second)[0]["reused"]) == (False, True)
    assert events(first)[0]["worker"] == events(second)[0]["worker"]
    other = control.rbee(
        "--json", "infer", *model(engines), *GREEDY, "--max-tokens", "4", "--context", "512", PROMPT
    )
    assert events(other)[0]["worker"] != events(first)[0]["worker"], "another context is another worker"
    assert len(engines_on(node)) == 2
    assert control.rbee("workers", "stop", events(other)[0]["worker"]).returncode == 0
    assert [worker["id"] for worker in workers(control)] == [events(first)[0]["worker"]]
    stopped = control.rbee("--json", "workers", "stop", "--all")
    assert json.loads(stopped.stdout)["stopped"] == [events(first)[0]["worker"]]
    assert workers(control) == []
    assert engines_on(node) == []
    assert not [p for p in node.processes() if "sleep" in p.argv or "supervise" in " ".join(p.argv)]


def test_the_registry_can_be_deleted(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    first = control.rbee("--json", "infer", *model(engines), "--max-tokens", "2", PROMPT)
    registry = control.home / ".local/state/rbee/registry.json"
    registry.unlink()
    second = control.rbee("--json", "infer", *model(engines), "--max-tokens", "2", PROMPT)
    assert events(second)[0] == events(first)[0] | {"reused": True}
    assert events(first)[0]["worker"] in registry.read_text()


def test_plain_text_is_the_answer_and_nothing_else(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    answer = control.rbee("infer", *model(engines), *GREEDY, "--max-tokens", "8", input=PROMPT)
    assert answer.returncode == 0, answer.stderr
    quiet = control.rbee("-q", "infer", *model(engines), *GREEDY, "--max-tokens", "8", "--prompt", PROMPT)
    assert quiet.stdout == answer.stdout != ""
    assert quiet.stderr == ""
    assert "tokens/s" in answer.stderr


def test_remove_stops_the_worker_that_this_command_started(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    assert control.rbee("infer", "--rm", *model(engines), "--max-tokens", "2", PROMPT).returncode == 0
    assert workers(control) == []
    assert engines_on(node) == []
    assert control.rbee("infer", *model(engines), "--max-tokens", "2", PROMPT).returncode == 0
    assert control.rbee("infer", "--rm", *model(engines), "--max-tokens", "2", PROMPT).returncode == 0
    assert len(workers(control)) == 1, "a worker that was there before stays"


def test_no_port_is_opened_and_nobody_else_gets_in(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node, engine="llama-cpp-python")
    other = node.add_user("nosy")
    before = node.listening_tcp()
    assert control.rbee("infer", *model(engines), "--max-tokens", "2", PROMPT, timeout=120).returncode == 0
    assert node.listening_tcp() == before
    (worker,) = workers(control)
    directory = Path(worker["log"]).parent
    key = node.exec_local(f"cat {directory}/key").stdout.strip()
    assert len(key) == 48
    assert node.exec_local(f"stat -c %a {directory} {directory}/key").stdout.split() == ["700", "600"]
    looked = node.exec_local(
        f"cat {directory}/key; ls {directory}; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline "
        f"{directory}/run.sh; curl -s --unix-socket {worker['endpoint'][5:]} http://x/v1/models; true",
        user=other,
    )
    assert key not in looked.stdout + looked.stderr
    assert looked.stderr.count("Permission denied") >= 3, "the key, the directory and run.sh"
    assert key not in node.exec_local("cat /proc/[0-9]*/cmdline", user=None).stdout


@pytest.mark.parametrize("homes", ["one control machine", "two control machines"])
def test_eight_at_once_start_one_worker(node: LabNode, lab: Any, engines: Engines, homes: str) -> None:
    controls = [lab.control(f"eight{next(lab.names)}") for _ in range(1 if homes.startswith("one") else 2)]
    for control in controls:
        equip(control, engines, node)
    words = ["--json", "infer", *model(engines), *GREEDY, "--max-tokens", "8", PROMPT]
    running = [controls[n % len(controls)].rbee_popen(*words) for n in range(8)]
    answers = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * 8, answers
    started = [json.loads(out.splitlines()[0]) for out, _ in answers]
    assert len({event["worker"] for event in started}) == 1
    assert sum(not event["reused"] for event in started) == 1
    texts = {"".join(json.loads(line).get("text", "") for line in out.splitlines()) for out, _ in answers}
    assert len(texts) == 1
    assert len(engines_on(node)) == 1
    for control in controls:
        lab.remove(control)


def test_a_local_file_goes_to_the_node_once(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    local = control.work / "tiny model.gguf"
    local.write_bytes(engines.model.read_bytes())
    words = ["--json", "infer", "--model", f"./{local.name}", *GREEDY, "--max-tokens", "4", PROMPT]
    first = control.rbee(*words)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "sending" in first.stderr
    stored = node.exec_local("cd ~/.local/share/rbee/models/local && sha256sum */*.gguf && ls */").stdout
    assert "tiny model.gguf.json" in stored
    assert ".part" not in stored
    control.rbee("workers", "stop", "--all", "--now", check=True)
    second = control.rbee(*words)
    assert second.returncode == 0, second.stderr
    assert "sending" not in second.stderr
    assert text_of(first) == text_of(second)


def test_without_a_node_the_ready_one_serves(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    first, second = make_node(), make_node()
    equip(control, engines, first, second)
    started = control.rbee(
        "--json", "infer", "--node", second.name, *model(engines), "--max-tokens", "2", PROMPT
    )
    assert started.returncode == 0, started.stderr
    (control.home / ".local/state/rbee/registry.json").unlink()
    again = control.rbee("--json", "infer", *model(engines), "--max-tokens", "2", PROMPT)
    assert (events(again)[0]["node"], events(again)[0]["reused"]) == (second.name, True)


def test_ctrl_c_stops_the_generation_on_the_node(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    process = control.rbee_popen("infer", *endless(engines))
    assert process.stdout is not None
    assert process.stdout.read(20)
    process.send_signal(2)
    process.wait(timeout=5)
    assert process.returncode == 130
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    (worker,) = workers(control)

    def ticks() -> int:
        return sum(map(int, node.exec_local(f"cut -d' ' -f14,15 /proc/{worker['pid']}/stat").stdout.split()))

    def rests() -> bool:
        before = ticks()
        time.sleep(0.5)
        return ticks() - before < 5

    # A second on a quiet machine; 4,000 tokens would take the better part of a minute.
    eventually(rests, within=5, why="the engine stopped to generate")
    assert workers(control)[0]["state"] == "idle"


def test_a_request_that_has_to_wait_says_so_or_does_not_wait(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    first = control.rbee_popen("infer", *endless(engines))
    assert first.stdout is not None
    assert first.stdout.read(20)
    words = ["infer", *model(engines), *GREEDY, "--max-tokens", "2"]
    refused = control.rbee("--json", *words, "--no-wait", PROMPT)
    assert refused.returncode == 1
    assert events(refused)[-1]["error"]["code"] == "WORKER_BUSY"
    assert events(refused)[-1]["error"]["details"]["slots"] == 1
    waiting = control.rbee_popen(*words, PROMPT)
    assert waiting.stderr is not None
    assert "queued" in waiting.stderr.readline()
    first.send_signal(2)
    first.communicate(timeout=10)
    answer, _ = waiting.communicate(timeout=30)
    assert answer
    assert waiting.returncode == 0
    assert control.rbee(*words, "--no-wait", PROMPT).stdout == answer


def test_a_closed_pipe_is_quiet(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    line = shlex.join(control._argv(["infer", *endless(engines)]))
    answer = subprocess.run(
        ["bash", "-c", f"{line} | head -c 20; exit ${{PIPESTATUS[0]}}"],
        env=control.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 141
    assert "Traceback" not in answer.stderr
    assert "error" not in answer.stderr


def test_a_worker_that_is_killed_in_the_middle_is_told(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    process = control.rbee_popen("--json", "infer", *endless(engines))
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(5)]
    (pid,) = engines_on(node)
    kill(node, pid)
    rest = [json.loads(line) for line in process.stdout]
    assert process.wait(timeout=30) == 1
    error = rest[-1]["error"]
    assert error["code"] == "WORKER_CRASHED"
    tokens = [event for event in [*lines, *rest] if event.get("event") == "token"]
    assert error["details"]["tokens"] == len(tokens)
    assert error["details"]["exit_status"] == 137
    assert workers(control)[0]["state"] == "dead"
    assert control.rbee("infer", *model(engines), "--max-tokens", "2", PROMPT).returncode == 0
    assert len(engines_on(node)) == 1


def test_a_model_that_does_not_load_says_why(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)

    def refused(name: str, content: bytes) -> dict[str, Any]:
        node.write(name, "").write_bytes(content)
        home = node.exec_local("pwd").stdout.strip()
        answer = control.rbee("--json", "infer", "--model", f"file://{home}/{name}", PROMPT)
        return dict(events(answer)[-1]["error"])

    # What the header shows is said before a worker is started.
    error = refused("broken.gguf", b"GGUF and nothing that follows")
    assert error["code"] == "MODEL_INVALID"
    assert workers(control) == []
    # Of what only the engine can know, it has the word.
    later = {f"later.{key}": 64 for key in ("block_count", "embedding_length", "attention.head_count")}
    error = refused("later.gguf", write({"general.architecture": "later", **later}))
    assert error["code"] in ("MODEL_INVALID", "WORKER_START_FAILED"), error
    assert error["details"]["last_lines"]
    (failed,) = workers(control)
    assert failed["state"] == "failed"
    assert control.rbee("workers", "logs", failed["id"]).stdout
    assert engines_on(node) == []


def test_a_context_is_what_the_engine_makes_of_it(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    answer = control.rbee("infer", *model(engines), "--context", "1", "--max-tokens", "2", PROMPT)
    assert answer.returncode == 0, answer.stderr
    assert workers(control)[0]["context"] == 256


def test_a_file_that_was_found_to_differ_is_not_served(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    words = ("infer", "--model", str(engines.model), *GREEDY, "--max-tokens", "2", PROMPT)
    first = control.rbee("--json", *words)
    assert first.returncode == 0, first.stdout
    control.rbee("workers", "stop", "--all", check=True)
    (stored,) = json.loads(control.rbee("--json", "models", "list", check=True).stdout)["models"]
    node.exec_local(f"printf damaged | dd of={stored['path']} bs=1 seek=50000000 conv=notrunc")
    told = control.rbee("--quiet", "models", "verify")
    assert told.returncode == 1 and told.stderr.startswith(f"error: {stored['name']} on {node.name} differs")
    assert "differs" in control.rbee("models", "list").stdout
    assert json.loads(control.rbee("--json", "models", "list").stdout)["models"][0]["differs"] is True
    direct = control.rbee("--json", "infer", "--model", f"file://{stored['path']}", PROMPT)
    assert events(direct)[-1]["error"]["code"] == "MODEL_INVALID", direct.stdout
    assert "differs from its SHA-256" in events(direct)[-1]["error"]["message"]
    again = control.rbee("--json", *words)
    assert (again.returncode, text_of(again)) == (0, text_of(first)), again.stdout
    assert "sending" in again.stderr
    assert control.rbee("models", "verify").returncode == 0


def test_no_engine_says_where_it_looked_and_how_to_get_one(
    node: LabNode, control: Control, engines: Engines
) -> None:
    control.inventory(node)
    error = events(control.rbee("--json", "infer", *model(engines), PROMPT))[-1]["error"]
    assert error["code"] == "ENGINE_MISSING"
    assert error["hint"] == f"rbee nodes setup {node.name}"


def test_a_file_that_is_not_on_the_node(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    error = events(control.rbee("--json", "infer", "--model", "file:///no/such.gguf", PROMPT))[-1]["error"]
    assert error["code"] == "MODEL_NOT_FOUND"


def test_tcp_where_the_node_says_so(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    node = make_node(sshd_options={"AllowStreamLocalForwarding": "no"})
    equip(control, engines, node, listen="tcp")
    answer = control.rbee("--json", "infer", *model(engines), "--max-tokens", "4", PROMPT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert workers(control)[0]["endpoint"].startswith("tcp:127.0.0.1:")


def test_logs_follow_until_ctrl_c(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    control.rbee("infer", *model(engines), "--max-tokens", "2", PROMPT, check=True)
    (worker,) = workers(control)
    process = control.rbee_popen("workers", "logs", "-f", worker["id"])
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(2)
    assert process.wait(timeout=10) == 130
    eventually(lambda: not [p for p in node.processes() if "tail" in p.argv], within=5, why="tail ended")


@pytest.mark.parametrize("moment", ["while it answers", "while it starts"])
def test_remove_stops_its_worker_after_ctrl_c_too(
    node: LabNode, control: Control, engines: Engines, moment: str
) -> None:
    equip(control, engines, node)
    process = control.rbee_popen("infer", "--rm", *endless(engines))
    assert process.stdout is not None
    if moment == "while it answers":
        assert process.stdout.read(10)
    else:
        eventually(lambda: engines_on(node), within=20, why="the engine starts")
    process.send_signal(2)
    assert process.wait(timeout=20) == 130
    eventually(lambda: not engines_on(node), within=10, why="the worker was stopped")


def test_a_followed_log_ends_with_its_worker(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    control.rbee("infer", *model(engines), "--max-tokens", "2", PROMPT, check=True)
    process = control.rbee_popen("workers", "logs", "-f", workers(control)[0]["id"])
    assert process.stdout is not None
    assert process.stdout.readline()
    control.rbee("workers", "stop", "--all", "--now", check=True)
    assert process.wait(timeout=15) == 0
