"""A control machine whose clock is wrong by an hour, or jumps: nothing goes by it that ends a worker."""

from __future__ import annotations

import json
import time

from nodes.serving import engines_on, equip, events, eventually, workers
from nodes.test_cleanup import cleanup
from nodes.test_lifetime import infer

from nodekit import Control, LabNode
from nodekit.engines import Engines

HOUR = 3600


def test_idle_time_is_the_nodes_whatever_the_clock_says(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    control.clock_off(HOUR)
    started = events(infer(control, engines))[0]["worker"]
    assert abs(workers(control)[0]["started_at"] - time.time() - HOUR) < 60, "the clock was right"
    (status,) = json.loads(control.rbee("--json", "nodes", "status", check=True).stdout)["nodes"]
    assert (status["state"], status["workers"][0]["id"]) == ("up", started)
    assert cleanup(control, "--idle", "5m")["stopped"] == [], "it is fresh"
    control.clock_off(-HOUR)
    answer = events(infer(control, engines))[0]
    assert (answer["worker"], answer["reused"]) == (started, True)
    assert cleanup(control, "--idle", "5m")["stopped"] == [], "it is fresh"
    eventually(lambda: idle(control) >= 5, within=30, why="an idle tick")
    assert idle(control) < 60
    for off in (HOUR, -HOUR):
        control.clock_off(off)
        assert cleanup(control, "--idle", "5m", "--dry-run")["stopped"] == [], "it is fresh"
        assert cleanup(control, "--idle", "5s", "--dry-run")["stopped"] == [started], "it is idle"
    assert cleanup(control, "--idle", "5s")["stopped"] == [started]
    assert engines_on(node) == []


def test_what_was_used_just_now_is_not_pruned_by_a_wrong_clock(node: LabNode, control: Control) -> None:
    control.inventory(node)
    model = control.work / "tiny.gguf"
    model.write_bytes(b"GGUF" + bytes(1000))
    control.clock_off(-HOUR)
    assert control.rbee("models", "push", str(model)).returncode == 0
    for off in (-HOUR, HOUR):
        control.clock_off(off)
        pruned = json.loads(control.rbee("--json", "models", "prune", "--older-than", "30m").stdout)
        assert pruned["removed"] == []
    time.sleep(1.1)
    pruned = json.loads(control.rbee("--json", "models", "prune", "--older-than", "1s").stdout)
    assert [one["name"] for one in pruned["removed"]] == ["tiny.gguf"]


def idle(control: Control) -> int:
    return int(workers(control)[0]["idle_seconds"] or 0)


def test_a_wrong_clock_is_told_by_a_check(node: LabNode, control: Control) -> None:
    control.inventory(node)
    control.clock_off(HOUR)
    (told,) = json.loads(control.rbee("--json", "nodes", "check").stdout)["nodes"]
    (clock,) = [one for one in told["checks"] if one["name"] == "clock"]
    assert (clock["state"], " s behind: " in clock["detail"]) == ("warning", True), clock
