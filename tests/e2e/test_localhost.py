"""The first five minutes: no sshd, no inventory, one machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from nodekit import Control
from nodekit.engines import Engines

PROMPT = "Name three colours."


def ours(control: Control, engines: Engines) -> None:
    control.inventory(nodes_also={"localhost": {"host": "localhost"} | engines.inventory_keys("xllamacpp")})


def listens(pid: int, kind: str) -> bool:
    """Whether this process listens: "-t" on a TCP port, "-x" on a UNIX socket."""
    told = subprocess.run(["ss", "-Hlnp", kind], capture_output=True, text=True, check=True).stdout
    return f"pid={pid}," in told


def test_a_local_model_is_served_in_place(control: Control, engines: Engines) -> None:
    ours(control, engines)
    answer = control.rbee("infer", "--model", engines.model, "--max-tokens", "5", PROMPT)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip()
    assert "sending" not in answer.stderr
    assert not list(control.home.rglob("*.gguf")), "the file was copied to where it already was"
    (worker,) = json.loads(control.rbee("--json", "workers", "list").stdout)["workers"]
    assert listens(worker["pid"], "-x")
    assert not listens(worker["pid"], "-t")
    again = control.rbee("--json", "infer", "--model", engines.model, "--max-tokens", "5", PROMPT)
    assert json.loads(again.stdout.splitlines()[0])["reused"] is True


def test_start_list_logs_and_stop(control: Control, engines: Engines) -> None:
    ours(control, engines)
    started = control.rbee("--json", "workers", "start", "--node", "localhost", "--model", engines.model)
    assert started.returncode == 0, started.stdout + started.stderr
    listed = json.loads(control.rbee("--json", "workers", "list").stdout)["workers"]
    assert set(listed[0]) >= {
        *("id", "node", "model", "engine", "state", "endpoint", "pid", "started_at"),
        *("idle_seconds", "lease_seconds", "log"),
    }
    assert listed[0]["state"] == "idle"
    assert "model loaded" in control.rbee("workers", "logs", listed[0]["id"]).stdout
    elsewhere = control.home / "elsewhere.toml"
    elsewhere.write_text('[nodes.here]\nhost = "127.0.0.9"\n')
    told = control.rbee("--inventory", elsewhere, "workers", "list").stderr
    assert "workers were started on localhost" in told, told
    assert control.rbee("workers", "stop", listed[0]["id"]).returncode == 0
    assert json.loads(control.rbee("--json", "workers", "list").stdout) == {"workers": []}


def test_without_any_inventory_there_is_localhost(control: Control) -> None:
    assert control.rbee("nodes", "list").stdout.split()[-2:]
    status = json.loads(control.rbee("--json", "nodes", "status").stdout)
    (node,) = status["nodes"]
    assert (node["name"], node["state"]) == ("localhost", "up")
    assert node["ram_total_bytes"] > node["ram_free_bytes"] > 0
    assert node["cpus"] >= 1


def test_the_answer_keeps_to_a_json_schema(control: Control, engines: Engines) -> None:
    ours(control, engines)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"colour": {"type": "string", "maxLength": 20}, "number": {"type": "integer"}},
        "required": ["colour", "number"],
        "additionalProperties": False,
    }
    path = Path(control.work, "schema.json")
    path.write_text(json.dumps(schema))
    answer = control.rbee(
        *("-q", "infer", "--model", engines.model, "--json-schema", path, "--max-tokens", "100"),
        *("--temperature", "0", "Name a colour and a number."),
    )
    assert answer.returncode == 0, answer.stderr
    assert set(json.loads(answer.stdout)) == {"colour", "number"}


def test_a_prompt_over_the_context_is_refused_in_words(control: Control, engines: Engines) -> None:
    ours(control, engines)
    answer = control.rbee(
        "--json", "infer", "--model", engines.model, "--context", "256", input="word " * 2000
    )
    error = json.loads(answer.stdout.splitlines()[-1])["error"]
    assert (answer.returncode, error["code"]) == (1, "REQUEST_REFUSED")
    assert "context" in error["message"]


def test_raw_leaves_the_chat_template_out(control: Control, engines: Engines) -> None:
    ours(control, engines)
    words = ["-q", "infer", "--model", str(engines.model), "--temperature", "0", "--max-tokens", "8"]
    chat = control.rbee(*words, "Once upon a time there was")
    raw = control.rbee(*words, "--raw", "Once upon a time there was")
    assert raw.returncode == 0, raw.stderr
    assert raw.stdout != chat.stdout


def test_hostile_words_arrive_unharmed(control: Control, engines: Engines) -> None:
    ours(control, engines)
    directory = control.work / 'it\'s; $(touch owned) `id` "x" é'
    directory.mkdir()
    odd = directory / "-m o'del $HOME.gguf"
    odd.symlink_to(engines.model)
    answer = control.rbee(
        *("--json", "infer", "--model", odd, "--max-tokens", "2", "--stop", "'; id"),
        "--",
        "-n $(id) \x1b[31m ` ' \" \\ ; \n é",
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert not (control.work / "owned").exists()
