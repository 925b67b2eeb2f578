"""Whether a model fits, asked before a start, and room made by stopping idle workers, on real nodes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nodes.serving import PROMPT, endless, engines_on, equip, events, eventually, model, workers
from nodes.test_engines_real import vulkan  # noqa: F401  (a fixture)

from nodekit import Control, LabNode
from nodekit.engines import Engines
from rbee_ssh.node.scripts import LIB, compose

MIB = 2**20
HOLD = compose(LIB, then="rbee_init && rbee_lock $$ && echo held && read -r _; rbee_unlock")


def start(control: Control, engines: Engines, *args: str) -> subprocess.CompletedProcess[str]:
    return control.rbee("--json", "workers", "start", *model(engines), *args)


def worker_of(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return dict(json.loads(answer.stdout)["worker"])


def error_of(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert answer.returncode == 1, answer.stdout + answer.stderr
    return dict(json.loads(answer.stdout)["error"])


def test_a_context_that_fits_no_memory_is_refused_before_a_start(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node, engine="llama-server")
    error = error_of(start(control, engines, "--context", "9000000"))
    assert error["code"] == "RAM_SHORT"
    details = error["details"]
    # 30 layers of 3 KV heads of 64 numbers, keys and values, 2 bytes each; nine million rounded up to 256.
    assert details["parts"]["KV cache"] == 30 * 3 * 64 * 2 * 2 * 9_000_192
    assert details["need_mib"] > details["have_mib"] > 0
    assert workers(control) == []
    # models show says the same, of a header that was read over SSH as a whole.
    shown = control.rbee("models", "show", model(engines)[1], "--context", "9000000")
    assert shown.returncode == 0, shown.stderr
    assert "135 M parameters" in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith("no")
    told = json.loads(control.rbee("--json", "models", "show", model(engines)[1]).stdout)
    assert told["model"]["vocabulary"] == 49152
    assert [one["context"] for one in told["memory"]] == [4096, 8192]
    assert told["nodes"][0]["fits"] is True
    # The header is remembered, and what the hint names is what the model was made for.
    again = error_of(start(control, engines, "--context", "9000000"))
    assert again["hint"] == "--context 8192 fits"


@pytest.fixture
def small(make_node: Callable[..., LabNode]) -> Iterator[LabNode]:
    """A node whose logins and their processes have 620 MiB, by a control group of the kernel."""
    node = make_node()
    made = node.exec_local(
        f"""
        base=/sys/fs/cgroup/memory$(awk -F: '$2 == "memory" {{ print $3 }}' /proc/self/cgroup)
        group=$base/rbee-{node.name}
        mkdir "$group" && echo {620 * MIB} >"$group/memory.limit_in_bytes" || exit 1
        for pid in $(pgrep -x sshd); do echo "$pid" >"$group/cgroup.procs"; done
        echo "$group"
        """,
        user="root",
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"no memory control group (version 1) can be made here: {made.stderr}")
    yield node
    for process in engines_on(node):
        node.exec_local(f"kill -KILL {process}", user="root", check=False)
    node.power_off()
    subprocess.run(["rmdir", made.stdout.strip()], check=False, capture_output=True)
    node.power_on()


def test_an_idle_worker_makes_room_and_a_busy_one_does_not(
    small: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, small, engine="llama-server")
    first = worker_of(start(control, engines, "--context", "8192"))
    # Forbidden: the numbers, and who is in the way.
    error = error_of(start(control, engines, "--context", "7680", "--no-evict"))
    assert error["code"] == "RAM_SHORT"
    assert [(one["id"], one["state"]) for one in error["details"]["workers"]] == [(first["id"], "idle")]
    assert error["details"]["have_mib"] < error["details"]["need_mib"] < 620
    assert "--no-evict" in error["hint"]
    asked = (*model(engines), "--context", "7680", "--no-evict", "--max-tokens", "1", PROMPT)
    assert error_of(control.rbee("--json", "infer", *asked))["code"] == "RAM_SHORT"
    assert [one["id"] for one in workers(control)] == [first["id"]]
    # Busy: it stays, and nobody waits for it.
    talking = control.rbee_popen("infer", "--context", "8192", *endless(engines))
    eventually(lambda: workers(control)[0]["state"] == "busy", within=20, why="it answers")
    error = error_of(start(control, engines, "--context", "7680"))
    assert error["details"]["workers"][0]["state"] == "busy"
    talking.terminate()
    talking.communicate()
    eventually(lambda: workers(control)[0]["state"] == "idle", within=20, why="nobody listens any more")
    # Idle: it goes, and it is said.
    answer = start(control, engines, "--context", "7680")
    second = worker_of(answer)
    assert re.search(rf"stopping the idle worker {first['id']} .* to make room", answer.stderr)
    assert [one["id"] for one in workers(control)] == [second["id"]]
    assert len(engines_on(small)) == 1


def test_two_models_at_once_of_which_one_fits(small: LabNode, control: Control, engines: Engines) -> None:
    """Both find the memory free, and then one is first."""
    equip(control, engines, small, engine="llama-server")
    with subprocess.Popen(
        small.local_argv(HOLD), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as lock:
        assert lock.stdout is not None and lock.stdout.readline() == "held\n"
        both = [
            control.rbee_popen(
                *("--json", "infer", *model(engines), "--no-evict", "--context", context),
                *("--max-tokens", "1", PROMPT),
            )
            for context in ("8192", "7680")
        ]
        for one in both:  # has decided, and waits for the lock
            assert one.stderr is not None and any(line.startswith("starting") for line in one.stderr)
        lock.communicate("go\n")
    said = [one.communicate(timeout=60) for one in both]
    assert sorted(one.returncode for one in both) == [0, 1], said
    refused = next(out for one, (out, _) in zip(both, said, strict=True) if one.returncode)
    error = json.loads(refused)["error"]
    (served,) = workers(control)
    assert error["code"] == "RAM_SHORT"
    assert [one["id"] for one in error["details"]["workers"]] == [served["id"]]
    assert len(engines_on(small)) == 1


def test_what_a_worker_took_is_remembered_for_the_next_estimate(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node, engine="xllamacpp")
    answer = control.rbee("infer", *model(engines), "--context", "512", "--max-tokens", "1", PROMPT)
    assert answer.returncode == 0, answer.stderr
    registry = json.loads((control.home / ".local/state/rbee/registry.json").read_text())
    (known,) = (value for key, value in registry["facts"].items() if key.startswith("model:"))
    seen = known["measured"]["xllamacpp cpu 512x1"]["ram"]
    assert known["size"] < seen < known["size"] + 200 * MIB
    shown = control.rbee("--json", "models", "show", model(engines)[1], "--context", "512").stdout
    told = json.loads(shown)
    compute = told["memory"][0]["ram_parts"]["compute"]
    assert told["nodes"][0]["measured"] is True
    assert told["nodes"][0]["ram_need_bytes"] == seen + compute, "what it took, and what a long prompt takes"
    assert "warning" not in answer.stderr
    # With other settings, it is a guess.
    control.inventory(
        node,
        every=engines.inventory_keys("xllamacpp"),
        text=f'[models.few]\nsource = "{model(engines)[1]}"\nargs = ["batch_size=64"]\n',
    )
    other = json.loads(control.rbee("--json", "models", "show", "few", "--context", "512").stdout)
    assert other["nodes"][0]["measured"] is False
    # More tokens than the model was made for: told, in one line, and done.
    longer = start(control, engines, "--context", "9216")
    worker_of(longer)
    (warning,) = [line for line in longer.stderr.splitlines() if line.startswith("warning")]
    assert "9216" in warning and "8192" in warning


def test_a_model_that_does_not_fit_on_the_gpu(
    node: LabNode,
    control: Control,
    engines: Engines,
    vulkan: dict[str, str],  # noqa: F811
) -> None:
    equip(control, engines, node, engine="llama-server", env=dict(vulkan))
    error = error_of(start(control, engines, "--backend", "vulkan", "--context", "131072"))
    assert error["code"] == "VRAM_SHORT"
    details = error["details"]
    assert details["have_mib"] == 2048
    assert details["parts"]["KV cache"] == 30 * 3 * 64 * 2 * 2 * 131072
    assert error["hint"] == "--context 8192 fits"


def test_the_same_bytes_under_another_name_are_served_by_the_worker_that_has_them(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node, engine="llama-server")
    one, two = (control.work / f"{name}.gguf" for name in ("one", "two"))
    one.write_bytes(engines.model.read_bytes())
    two.hardlink_to(one)
    settings = ("--node", node.name, "--context", "512", "--max-tokens", "1")
    first = events(control.rbee("--json", "infer", "--model", str(one), *settings, PROMPT))[0]
    answer = control.rbee("--json", "infer", "--model", str(two), *settings, PROMPT)
    second = events(answer)[0]
    assert (second["worker"], second["reused"]) == (first["worker"], True), answer.stderr
    assert "starting" not in answer.stderr and "sending" not in answer.stderr
