"""The judgement of scripts/chaos: each thing that must hold, seen broken."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from storm import commands, invariants
from storm.commands import Ran
from storm.look import Look, Process, Worker

ONE, TWO = "0123456789ab", "ba9876543210"
SERVING = Worker(ONE, "key", supervised=True, engine=True, stopping=False, ended=False, boot="boot")
ENGINE = Process("7 1000", ONE, ("python", "serve.py"))
SUPERVISOR = Process("6 999", None, ("sh", f"/home/me/.local/state/rbee/id/workers/{ONE}/supervise.sh"))
CALM = Look(workers=(SERVING,), processes=(SUPERVISOR, ENGINE))


def test_a_node_in_order_has_nothing_wrong() -> None:
    assert not invariants.twice(CALM) | invariants.lasting(CALM) | invariants.orphans(CALM)
    assert not invariants.untrue(CALM, CALM, [ONE], "it")


def test_two_workers_for_one_key() -> None:
    other = replace(SERVING, id=TWO)
    assert invariants.twice(replace(CALM, workers=(SERVING, other)))
    for passed in (
        replace(other, stopping=True),
        replace(other, ended=True),
        replace(other, match="another"),
    ):
        assert not invariants.twice(replace(CALM, workers=(SERVING, passed)))


def test_processes_whose_worker_is_gone() -> None:
    assert len(invariants.lasting(replace(CALM, workers=()))) == 2
    assert len(invariants.lasting(replace(CALM, workers=(replace(SERVING, ended=True),)))) == 2


def test_an_engine_without_a_supervisor() -> None:
    assert invariants.orphans(replace(CALM, workers=(replace(SERVING, supervised=False),))) == {ONE}


def test_a_lock_that_is_held() -> None:
    assert invariants.lasting(replace(CALM, lock="6 999 boot"))
    assert not invariants.lasting(replace(CALM, lock="8 999 boot")), (
        "its holder is dead, and the next one breaks it"
    )


def test_what_is_no_model() -> None:
    path = "/run/models/hf/org/tiny/0123/tiny.gguf"
    assert not invariants.wrong_models(replace(CALM, models=((path, "right"),)), {"tiny.gguf": "right"})
    assert invariants.wrong_models(replace(CALM, models=((path, "half"),)), {"tiny.gguf": "right"})
    assert invariants.lasting(replace(CALM, files=(f"{path}.json",)))
    assert not invariants.lasting(replace(CALM, files=(path, f"{path}.json")))


def test_a_registry_that_is_not_true() -> None:
    assert invariants.untrue(CALM, CALM, [], "it") == {f"worker {ONE} is not in it"}
    assert invariants.untrue(CALM, CALM, [ONE, TWO], "it") == {f"worker {TWO} of it is nowhere"}
    assert not invariants.untrue(Look(), CALM, [], "it"), "it may have come after the look"
    rebooted = replace(CALM, workers=(replace(SERVING, boot="next"),))
    assert not invariants.untrue(CALM, rebooted, [], "it")


def test_what_is_left_at_the_end() -> None:
    stopped, failed = replace(SERVING, stopping=True), replace(SERVING, supervised=False, ended=True)
    assert invariants.remains(Look(workers=(stopped,))) == {f"worker {ONE}"}
    assert not invariants.remains(Look(workers=(failed,)))
    assert invariants.remains(Look(processes=(ENGINE,)))
    kept = (
        "/run/models/.incoming-1000/x.part",
        "/run/models/a.gguf",
        "~/.local/state/rbee/id/fetches/x/state",
    )
    assert not invariants.remains(Look(files=kept))
    for left in (
        "~/.local/state/rbee/id/lock",
        "~/.local/state/rbee/id/claim 1 2 boot",
        "~/.local/state/rbee/id/fetches/x/1.url",
        "/tmp/rbee-1000/x.sock",
        "/run/models/.incoming-1000/x.part.owner",
    ):
        assert invariants.remains(Look(files=(left,))) == {f"file {left}"}


def ran(*said: object, status: int | None = 0, kind: str = commands.INFER, **also: str) -> Ran:
    out = "".join(json.dumps(one) + "\n" for one in said)
    return Ran(
        kind, ("infer",), also.get("signal"), status, 0.0, 1.0, also.get("out", out), also.get("err", "")
    )


def error(code: str) -> dict[str, object]:
    return {"error": {"code": code, "message": "", "hint": "", "details": {}}}


@pytest.mark.parametrize(
    "fine",
    [
        ran({"event": "start", "node": "a"}, {"event": "done"}),
        ran(error("NODE_UNREACHABLE"), status=1),
        ran(error("CANCELLED"), status=130, signal="TERM"),
        ran(status=-9, signal="KILL", out='{"event": "sta'),
        ran({"pulled": [], "failed": {}}, status=-1, signal="HUP", kind=commands.PULL),
        ran(
            {"stopped": [], "unreachable": [{"node": "a"} | error("CONNECTION_LOST")]},
            status=1,
            kind=commands.STOP,
        ),
    ],
)
def test_ends_that_may_be(fine: Ran) -> None:
    assert commands.wrong(fine) is None


@pytest.mark.parametrize(
    "bad",
    [
        ran(status=None),
        ran(status=-9),
        ran({"event": "start"}, status=-15, signal="TERM"),
        ran({"event": "start"}),
        ran({"event": "done"}, err="Traceback (most recent call last):"),
        ran({"event": "done"}, status=1),
        ran({"event": "done"}, status=120),
        ran(error("UNEXPECTED"), status=1),
        ran(error("NEVER_HEARD_OF"), status=1),
        ran(error("NODE_UNREACHABLE"), status=2),
        ran(error("CANCELLED"), status=130),
        ran({"pulled": [], "failed": {"a": error("UNEXPECTED")["error"]}}, status=1, kind=commands.PULL),
        ran({"nodes": [{"name": "a"} | error("UNEXPECTED")]}, kind=commands.STATUS),
        ran(out="{half"),
    ],
)
def test_ends_that_may_never_be(bad: Ran) -> None:
    assert commands.wrong(bad) is not None


def test_a_seed_is_a_sequence_of_choices() -> None:
    def sequence(seed: int) -> list[commands.Choice]:
        chance = random.Random(f"{seed} user 0")
        return [
            commands.choose(chance, ["a", "b"], Path("/m.gguf"), ["hf:o/1", "hf:o/2"], "own.gguf")
            for _ in range(200)
        ]

    assert sequence(1) == sequence(1) != sequence(2)
    assert {choice.kind for choice in sequence(1)} == set(commands.WEIGHTS)


def test_a_worker_that_lived_between_two_looks_was_not_made_up() -> None:
    listed = "laptop: worker db9d38a239fa of the list of south is nowhere"
    assert invariants.lived_between(listed, '{"stopped":["db9d38a239fa"],"unreachable":[]}')
    assert not invariants.lived_between(listed, '{"stopped":["0123456789ab"],"unreachable":[]}')
    other = "laptop: worker db9d38a239fa of the registry for south is nowhere"
    assert not invariants.lived_between(other, "db9d38a239fa")
